"""The guards of each tier alone, and of the way from one to the next."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

GUARDS = (
    Guard(
        "a step is written if no other came since it was read",
        "one atomic step",
        "contract/test_postgres_tier.py::TestStepsThatMeet"
        "::test_a_step_between_the_read_and_the_write_of_another_is_seen_by_it",
        (Removal("stores/sql/update_line.sql", " and version = cast(:seen as uuid)"),),
    ),
    Guard(
        "a write whose answer was lost is known for one's own",
        "one atomic step",
        "contract/test_postgres_tier.py::TestConnectionsThatDie::test_after_the_commit_with_the_answer_lost",
        (Removal("stores/postgres.py", " or self._load(key).version == version"),),
    ),
    Guard(
        "what was answered on another tier leaves the line",
        "invariant 7",
        "contract/test_postgres_tier.py::TestSweep::test_a_line_that_was_answered_on_another_tier_wakes_nobody",
        (Removal("stores/postgres.py", 'self._database.execute(times, "drop_ended")', "pass"),),
    ),
    Guard(
        "what a live worker holds stays in the line",
        "invariant 7",
        "contract/test_postgres_tier.py::TestSweep::test_one_that_a_live_worker_holds_is_left_to_it",
        (
            Removal(
                "stores/sql/drop_ended.sql",
                "\n  and (heartbeat_at is null or heartbeat_at <= cast(:stale_before as float8))",
            ),
        ),
    ),
    Guard(
        "what nobody claims in the last resort is dropped",
        "both stores away",
        "unit/test_failover.py::TestMemoryAsTheLastResort::test_what_nobody_here_claims_is_dropped",
        (Removal("stores/memory.py", "if seen_at + self._unheld_seconds <= self._clock():", "if False:"),),
    ),
    Guard(
        "what a tier that is away may know is not unknown",
        "invariant 1",
        "unit/test_failover.py::TestFailover::test_what_the_tier_that_is_away_may_know_is_not_unknown",
        (
            Removal(
                "stores/failover.py",
                "        if away:\n            raise away\n        return None\n",
                "        return None\n",
            ),
        ),
    ),
    Guard(
        "a breaker opens",
        "Redis away",
        "unit/test_failover.py::TestCircuitBreaker::test_a_store_that_went_away_is_called_once",
        (Removal("stores/breaker.py", "if now < self._probe_at:", "if False:"),),
    ),
    Guard(
        "one probes at a time",
        "Redis away",
        "unit/test_failover.py::TestCircuitBreaker::test_while_a_probe_is_under_way_nobody_else_waits",
        (Removal("stores/breaker.py", "self._probe_at = now + self._retry_after", "pass"),),
    ),
)
