"""The guards of messages that come while another is answered: who may be interrupted, rejected or waited for."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in
from tests.guards.steps import ACCEPTING, SCRIPTS, STEPS

TEST = "contract/test_double_texting.py"


#: The guard of a step in Python and of its script, as a whole conversation misses it, or the tier alone.
in_both = each_in(TEST, "memory", "redis and postgres")
in_both_tiers = each_in(TEST, "memory", "redis")

GUARDS = (
    *in_both(
        "what is rejected is not stored",
        "policy reject",
        "TestRejected::test_the_sender_is_told_what_is_in_the_way_and_nothing_is_stored",
        Removal(ACCEPTING, 'if policy == "reject" and line.current:', "if False:"),
        Removal(f"{SCRIPTS}/accept.lua", "if policy == 'reject' and line.current then", "if false then"),
    ),
    *in_both_tiers(
        "what was accepted once is rejected no more, and interrupts nobody",
        "step re-accept",
        "TestTheTier::test_a_worker_accepts_again_what_would_be_rejected_or_would_interrupt",
        Removal(ACCEPTING, 'if again and policy != "enqueue":', "if False:"),
        Removal(f"{SCRIPTS}/accept.lua", "if again and policy ~= 'enqueue' then", "if false then"),
    ),
    *in_both_tiers(
        "what may be committed is not interrupted",
        "counterexample 10",
        "TestTheTier::test_an_interrupted_job_may_have_been_committed_by_an_earlier_worker",
        Removal(ACCEPTING, "job.status is not JobStatus.PROCESSING or job.maybe_committed", "job.status.ended"),
        Removal(f"{SCRIPTS}/accept.lua", " and not line.current.maybe_committed"),
    ),
    *in_both(
        "interruptions count as restarts",
        "invariant 8",
        "TestInterrupted::test_no_more_often_than_a_job_may_be_restarted",
        Removal(ACCEPTING, "        restarts=job.restarts + 1,\n        attempts=0,\n", "        attempts=0,\n"),
        Removal(f"{SCRIPTS}/accept.lua", "'pending', job.restarts + 1, 0", "'pending', job.restarts, 0"),
    ),
    *in_both_tiers(
        "a patient is not waited for for ever",
        "debounce_max_ms",
        "TestDebounce::test_nobody_holds_what_is_waited_for",
        Removal(
            ACCEPTING, "min(now + request.debounce, job.created_at + request.debounce_max)", "now + request.debounce"
        ),
        Removal(
            f"{SCRIPTS}/accept.lua",
            "math.min(now + input.debounce, job.created_at + input.debounce_max)",
            "now + input.debounce",
        ),
    ),
    *in_both_tiers(
        "only a first run waits for the patient",
        "debounce_ms",
        "TestDebounce::test_a_run_that_was_begun_before_waits_for_nobody",
        Removal(STEPS, "if job.attempts == 0 and job.ready_at > now", "if job.ready_at > now"),
        Removal(f"{SCRIPTS}/claim.lua", "if job.attempts == 0 and (job.ready_at or 0)", "if (job.ready_at or 0)"),
    ),
    *in_both_tiers(
        "without a reply nothing is sealed",
        "step seal",
        "TestTheTier::test_without_a_reply_in_the_hand_nothing_is_sealed",
        Removal(STEPS, "if not may_seal:", "if False:"),
        Removal(f"{SCRIPTS}/seal.lua", "if not input.may_seal then", "if false then"),
    ),
    Guard(
        "an interrupted job ends in Postgres",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_through_it_commits_nothing[memory]",
        (Removal("intake.py", "self.archive.interrupt(accepted.interrupted)", "pass"),),
    ),
    Guard(
        "an ended job stays as it ended",
        "invariant 10",
        "contract/test_archive.py::TestInterrupt::test_one_that_has_ended_stays_as_it_is[postgres]",
        (Removal("stores/sql/interrupt_job.sql", " and status = 'processing'"),),
    ),
    Guard(
        "a patient who types on uses up no deliveries",
        "debounce_ms",
        f"{TEST}::TestDebounce::test_it_uses_up_no_deliveries[memory]",
        (
            Removal(
                "processing.py", "PATIENCE_SECONDS if receive_count < PATIENT_FROM else math.inf", "PATIENCE_SECONDS"
            ),
        ),
    ),
    Guard(
        "what waits for a patient to be quiet gets a record",
        "invariant 7",
        f"{TEST}::TestDebounce::test_what_waited_for_the_reply_is_answered_when_the_patient_is_quiet[memory]",
        (Removal("processing.py", "wake(self.queue, head, delay=math.ceil(claim.wait))", "pass"),),
    ),
    Guard(
        "nothing is linked behind a run",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_before_its_fence_leads_nobody_astray[memory]",
        (Removal("stores/memory_archive.py", "self._running_successor(job) or "),),
    ),
    Guard(
        "nothing is linked behind a run",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_before_its_fence_leads_nobody_astray[postgres alone]",
        (Removal("stores/postgres_archive.py", "(running or execute(", "(execute("),),
    ),
)
