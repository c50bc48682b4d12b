"""The guards of the tiers' steps: whose claim it is, what is known already, and which job a message joins.

The steps stand twice, in `steps.py` for the memory and the Postgres tier and as scripts for Redis, and so does each
guard; one contract test catches both.
"""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in

STEPS = "stores/steps.py"
ACCEPTING = "stores/accepting.py"
SCRIPTS = "stores/lua"


#: The guard of a step in Python and of its script.
in_both = each_in("contract/test_tier.py", "memory", "redis")

OWNERS = (
    *in_both(
        "adopt, heartbeat and seal compare the owner",
        "invariant 4",
        "TestSeal::test_nobody_but_the_owner_seals",
        Removal(STEPS, "line.hold is not None and line.lock_id == lock_id", "line.hold is not None"),
        Removal(
            f"{SCRIPTS}/line.lua", "line.heartbeat_at ~= nil and line.lock_id == lock_id", "line.heartbeat_at ~= nil"
        ),
    ),
    Guard(
        "heartbeat compares the owner",
        "invariant 4",
        "contract/test_tier.py::TestHeartbeatAndOwner::test_only_the_claims_own_lock_id_extends_it[redis]",
        (Removal(f"{SCRIPTS}/line.lua", "held[1] ~= lock_id or "),),
    ),
    *in_both(
        "finish compares the owner",
        "invariant 4",
        "TestFinish::test_nobody_but_the_owner_finishes",
        Removal(STEPS, "if lock_id is not None and not line.locked_by(lock_id):", "if False:"),
        Removal(f"{SCRIPTS}/finish.lua", "\n  and (not input.lock_id or input.lock_id == line.lock_id)"),
    ),
    *in_both(
        "a live holder refuses a claim",
        "step claim",
        "TestClaim::test_a_fresh_claim_is_refused_until_its_holders_deadline",
        Removal(STEPS, "if line.hold and line.hold.heartbeat_at + settings.heartbeat_stale > now:", "if False:"),
        Removal(
            f"{SCRIPTS}/claim.lua",
            "if line.heartbeat_at and line.heartbeat_at + settings.heartbeat_stale > now then",
            "if false then",
        ),
    ),
)

SWEEPING = (
    Guard(
        "the sweep leaves a live holder alone",
        "step sweep",
        "contract/test_tier.py::TestSweep::test_a_live_holder_is_left_alone[memory]",
        (Removal(STEPS, "if line.hold.heartbeat_at + settings.heartbeat_stale > now and not over_age:", "if False:"),),
    ),
    Guard(
        "the sweep leaves a live holder alone",
        "step sweep",
        "contract/test_redis.py::TestSweep::test_a_worker_that_claims_meanwhile_keeps_its_claim",
        (
            Removal(
                f"{SCRIPTS}/release.lua",
                "if line.heartbeat_at + settings.heartbeat_stale > now and not over_age then",
                "if false then",
            ),
        ),
    ),
    Guard(
        "the sweep wakes a conversation once",
        "step sweep",
        "contract/test_tier.py::TestSweep::test_an_unheld_job_is_woken_ever_less_often[memory]",
        (Removal(STEPS, "elif line.due_at > now:", "elif False:"),),
    ),
    Guard(
        "the sweep wakes a conversation once",
        "step sweep",
        "contract/test_redis.py::TestSweep::test_of_two_sweeps_at_once_one_wakes_a_conversation",
        (Removal(f"{SCRIPTS}/release.lua", "elseif line.due_at > now then", "elseif false then"),),
    ),
)

DUPLICATES = (
    *in_both(
        "a message that waits is known",
        "invariant 5",
        "TestAccept::test_the_same_id_is_the_same_message_whatever_its_text",
        Removal(ACCEPTING, "match(waiting, incoming[answered:])", "[None] * (len(incoming) - answered)"),
        Removal(f"{SCRIPTS}/accept.lua", "found[index] = found[index] or by_id[id]"),
    ),
    *in_both(
        "a message that was answered is known",
        "invariant 5",
        "TestFinish::test_a_late_duplicate_starts_nothing_for_an_hour",
        Removal(
            ACCEPTING,
            "ended = _ended(line, incoming, found, answered, now - settings.job_ttl)",
            "ended = [None] * len(incoming)",
        ),
        Removal(f"{SCRIPTS}/accept.lua", "if entry and entry[3] > now - settings.job_ttl then", "if false then"),
    ),
    *in_both(
        "nothing is undone in a sealed job",
        "step undo",
        "TestUndo::test_nothing_leaves_a_sealed_job",
        Removal(ACCEPTING, "if posts > 1 or job.sealed:", "if posts > 1:"),
        Removal(f"{SCRIPTS}/undo.lua", "if message.posts > 1 or job.sealed then", "if message.posts > 1 then"),
    ),
    *in_both(
        "posts are counted",
        "counterexample 11",
        "TestUndo::test_what_was_posted_twice_stays",
        Removal(ACCEPTING, "if posts > 1 or job.sealed:", "if job.sealed:"),
        Removal(f"{SCRIPTS}/undo.lua", "if message.posts > 1 or job.sealed then", "if job.sealed then"),
    ),
)

NAMES = (
    *in_both(
        "a job's name is given once",
        "invariant 10",
        "TestAcceptAgain::test_a_promised_name_that_is_taken_gives_way_to_a_spare",
        Removal("stores/memory.py", "again.spare_id if self._find(again.job_id) else again.job_id", "again.job_id"),
        Removal(f"{SCRIPTS}/accept.lua", "if again and is_taken(line, KEYS[4], input.job_id) then", "if false then"),
    ),
    Guard(
        "a job's name is given once",
        "invariant 10",
        "contract/test_tier.py::TestAcceptAgain::test_a_promised_name_that_is_taken_gives_way_to_a_spare[postgres]",
        (Removal("stores/postgres.py", "name = again.spare_id if taken else again.job_id", "name = again.job_id"),),
    ),
    *in_both(
        "a sealed job learns no ids",
        "step accept",
        "TestAccept::test_a_sealed_job_learns_no_ids",
        Removal(ACCEPTING, "        if job and not job.sealed:\n", "        if job:\n"),
        Removal(
            f"{SCRIPTS}/accept.lua",
            "if (message.given or again) and not job.sealed then",
            "if message.given or again then",
        ),
    ),
)

JOINING = (
    *in_both(
        "a sealed job takes no more",
        "step accept",
        "TestSeal::test_who_comes_after_the_seal_waits_for_the_next_job",
        Removal(ACCEPTING, "open_ = not job.sealed and line.next is None", "open_ = line.next is None"),
        Removal(f"{SCRIPTS}/accept.lua", "local open = not job.sealed and not line.next", "local open = not line.next"),
    ),
    *in_both(
        "nobody joins while a next job exists",
        "counterexample 7",
        "TestSeal::test_nobody_joins_a_job_while_a_next_one_waits",
        Removal(ACCEPTING, "open_ = not job.sealed and line.next is None", "open_ = not job.sealed"),
        Removal(
            f"{SCRIPTS}/accept.lua", "local open = not job.sealed and not line.next", "local open = not job.sealed"
        ),
    ),
    *in_both(
        "nobody joins a job past its restarts",
        "invariant 8",
        "TestSeal::test_newer_messages_mean_run_again_and_then_wait_for_the_next",
        Removal(ACCEPTING, "running and job.restarts < settings.max_restarts", "True"),
        Removal(f"{SCRIPTS}/accept.lua", "running and job.restarts < settings.max_restarts", "true"),
    ),
    *in_both(
        "nothing rides on a record into another job",
        "step accept",
        "TestSeal::test_nothing_rides_on_a_message_of_another_job",
        Removal(
            ACCEPTING, "into another job.\n        new = [False] * len(new)\n", "into another job.\n        pass\n"
        ),
        Removal(f"{SCRIPTS}/accept.lua", "into another job.\n  new, any_new = {}, false\n", "into another job.\n"),
    ),
    *in_both(
        "what joined after the end was decided stays",
        "counterexample 2",
        "TestFinish::test_who_joined_unseen_waits_for_the_next_job",
        Removal(STEPS, "    if late:\n", "    if False:\n"),
        Removal(f"{SCRIPTS}/finish.lua", "if #late > 0 then", "if false then"),
    ),
)

SEALING = (
    *in_both(
        "the seal looks for newer messages",
        "step seal",
        "TestSeal::test_newer_messages_mean_run_again_and_then_wait_for_the_next",
        Removal(STEPS, "newer = tuple(m for m in job.messages if m.message_id not in seen)", "newer = ()"),
        Removal(f"{SCRIPTS}/seal.lua", "local list = seen[message.message_id] and kept or newer", "local list = kept"),
    ),
    *in_both(
        "the seal looks for a cancel",
        "step seal",
        "TestSeal::test_a_cancel_comes_before_the_seal_or_not_at_all",
        Removal(STEPS, '    if job.status is JobStatus.CANCELLING:\n        return Sealed("cancelling", job)\n'),
        Removal(f"{SCRIPTS}/seal.lua", "if job.status == 'cancelling' then", "if false then"),
    ),
    *in_both(
        "restarts are limited",
        "invariant 8",
        "TestSeal::test_newer_ones_at_the_limit_go_to_the_head_of_the_next_job",
        Removal(
            STEPS, "if newer and may_restart and job.restarts < settings.max_restarts:", "if newer and may_restart:"
        ),
        Removal(
            f"{SCRIPTS}/seal.lua",
            "if #newer > 0 and input.may_restart and job.restarts < settings.max_restarts then",
            "if #newer > 0 and input.may_restart then",
        ),
    ),
    *in_both(
        "no run is begun that could not end in time",
        "invariant 9",
        "TestASealWithoutTimeForAnotherRun::test_newer_messages_wait_for_the_next_job",
        Removal(STEPS, "if newer and may_restart and ", "if newer and "),
        Removal(f"{SCRIPTS}/seal.lua", "if #newer > 0 and input.may_restart and ", "if #newer > 0 and "),
    ),
    *in_both(
        "the seal says that it may be committed",
        "counterexample 10",
        "TestSeal::test_an_unfenced_seal_does_not_forget_a_fenced_one",
        Removal(STEPS, ", maybe_committed=job.maybe_committed or fenced"),
        Removal(f"{SCRIPTS}/seal.lua", "job.maybe_committed = job.maybe_committed or input.fenced or nil"),
    ),
    *in_both(
        "a release and the sweep keep what may be committed",
        "counterexample 10",
        "TestRelease::test_what_may_be_committed_is_remembered",
        Removal(
            STEPS,
            "replace(line.current, status=status, sealed=False)",
            "replace(line.current, status=status, sealed=False, maybe_committed=False)",
        ),
        Removal(f"{SCRIPTS}/release.lua", "job.sealed = false", "job.sealed, job.maybe_committed = false, nil"),
    ),
)

SETTLED = (
    *in_both(
        "adopt drops what is settled",
        "step adopt",
        "TestAdopt::test_the_rest_of_a_settled_job_runs_under_its_successor",
        Removal(STEPS, "if message.message_id in settled:", "if False:"),
        Removal(f"{SCRIPTS}/adopt.lua", "if settled[message.message_id] then", "if false then"),
    ),
    *in_both(
        "a cancel covers what waited when it began",
        "step cancel",
        "TestACancelThatHasBegun::test_it_covers_what_waited_then_and_nothing_that_came_later",
        Removal(
            STEPS, "if job.status is not JobStatus.CANCELLING:\n                job", "if True:\n                job"
        ),
        Removal(f"{SCRIPTS}/cancel.lua", "if job.status ~= 'cancelling' then", "if true then"),
    ),
)

GUARDS = (*OWNERS, *SWEEPING, *DUPLICATES, *NAMES, *JOINING, *SEALING, *SETTLED)
