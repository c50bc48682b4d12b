"""The guards of what goes together: each as if it were alone, and what need not be asked twice."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

COMBINER = "stores/combiner.py"
POSTGRES = "stores/postgres_archive.py"
FUNCTIONS = "stores/sql/migrations/0010_functions.sql"
ARCHIVE = "contract/test_together.py::TestPostgres"
REDIS = "contract/test_together.py::TestRedis"
WORKER = "contract/test_worker.py::TestRecords"

GUARDS = (
    Guard(
        "two of one conversation never go together",
        "step fence",
        "unit/test_combiner.py::TestTogether::test_two_with_one_key_never",
        (Removal(COMBINER, " and asked.key not in keys"),),
    ),
    Guard(
        "nobody waits for a round trip that does not end",
        "invariant 9",
        "unit/test_combiner.py::test_a_round_trip_that_does_not_end_holds_nobody_up",
        (Removal(COMBINER, "acquire(timeout=PATIENCE_SECONDS)", "acquire()"),),
    ),
    Guard(
        "who goes for others tells them that it has learned nothing",
        "step commit",
        "unit/test_combiner.py::TestTogether::test_who_goes_for_all_and_fails_has_learned_nothing_for_any[error1]",
        (Removal(COMBINER, '[Unavailable("what was asked together")] * len(group)', "[None] * len(group)"),),
    ),
    Guard(
        "what Postgres refuses of one it refuses to no other",
        "step fence",
        f"{ARCHIVE}::test_what_postgres_refuses_of_one_is_raised_for_that_one",
        (
            Removal(
                POSTGRES,
                "            if len(jobs) == 1:\n                return [refused]\n",
                "            if True:\n                return [refused for _ in jobs]\n",
            ),
        ),
    ),
    Guard(
        "a message that another settled keeps no other from its commit",
        "step commit",
        f"{ARCHIVE}::test_one_whose_message_was_settled_by_another_keeps_no_other_from_its_commit",
        (
            Removal(
                POSTGRES,
                "return [answer for job in jobs for answer in self._together([job], work)]",
                "return [Refused(_UNIQUE_VIOLATION) for job in jobs]",
            ),
        ),
    ),
    Guard(
        "groups take the conversations' rows in one order: a fence",
        "step fence",
        f"{ARCHIVE}::test_two_groups_never_wait_for_each_other[fence]",
        (Removal(FUNCTIONS, "drain boolean)\n        order by platform_id, conversation_id", "drain boolean)"),),
    ),
    Guard(
        "groups take the conversations' rows in one order: a commit",
        "step commit",
        f"{ARCHIVE}::test_two_groups_never_wait_for_each_other[commit]",
        (Removal(FUNCTIONS, "turn_ids text[])\n        order by platform_id, conversation_id", "turn_ids text[])"),),
    ),
    Guard(
        "a step that fails is no other step's concern",
        "step claim",
        f"{REDIS}::test_one_that_fails_is_no_others_concern[False]",
        (
            Removal(
                "stores/lua/each.lua",
                "pcall(step, keys, {ARGV[index + 1]})",
                "true, step(keys, {ARGV[index + 1]})",
            ),
        ),
    ),
    Guard(
        "a cluster's steps go each by itself",
        "step claim",
        f"{REDIS}::test_in_a_cluster_each_goes_to_its_own_node",
        (Removal("stores/redis.py", '() if hasattr(client, "pools") else COMBINED', "COMBINED"),),
    ),
    Guard(
        "a record is asked about unless its message was committed under the promised job",
        "counterexample 5",
        f"{WORKER}::test_one_that_was_promised_another_job_is_asked_about[memory]",
        (Removal("runs.py", "job.job_id == job_id and any(", "any("),),
    ),
    Guard(
        "a record whose message was not committed is asked about",
        "step check",
        f"{WORKER}::test_what_ended_is_known_to_have_settled_its_own_messages_under_its_own_name",
        (Removal("runs.py", " and any(message_id in m.ids for m in job.messages)"),),
    ),
    Guard(
        "an end that is not archived is asked about",
        "step check",
        "contract/test_outages.py::TestPostgresAway::test_a_record_whose_end_is_not_archived_yet_is_kept[memory]",
        (Removal("runs.py", "job = self.job if self.committed else None", "job = self.job"),),
    ),
)
