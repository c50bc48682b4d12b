"""Guards of the places of clients that wait for a job: each tenant has its own, and none is lost."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

CONTRACT = "contract/test_waits.py::TestEveryTier::test_"
ROUTE = "unit/test_waiting.py::"
REDIS, MEMORY, PLACE = "tiers/redis.py", "tiers/waits.py", "http/waiting.py"


def _guard(what: str, test: str, place: str, old: str, new: str = "") -> Guard:
    return Guard(f"waits: {what}", "invariant 13", test, (Removal(place, old, new),))


GUARDS = (
    _guard(
        "a tenant has its places, Redis",
        f"{CONTRACT}a_tenant_has_its_places_and_no_more[redis]",
        REDIS,
        "own <= most and in_all",
        "in_all",
    ),
    _guard(
        "all tenants have theirs, Redis",
        f"{CONTRACT}all_tenants_together_have_theirs[redis]",
        REDIS,
        "own <= most and in_all <= most_in_all",
        "own <= most",
    ),
    _guard(
        "a refused wait takes no place, Redis",
        f"{CONTRACT}a_refused_wait_takes_no_place[redis]",
        REDIS,
        "        self.end_wait(platform_id, wait_id)\n",
    ),
    _guard(
        "a killed process gives its place back, Redis",
        f"{CONTRACT}a_wait_whose_process_was_killed_counts_no_longer_than_any_wait_lasts[redis]",
        REDIS,
        'pipeline.zremrangebyscore(name, "-inf", now)',
        "pipeline.exists(name)",
    ),
    _guard(
        "a tenant has its places, one process",
        f"{CONTRACT}a_tenant_has_its_places_and_no_more[memory]",
        MEMORY,
        "own >= most or ",
    ),
    _guard(
        "all tenants have theirs, one process",
        f"{CONTRACT}all_tenants_together_have_theirs[memory]",
        MEMORY,
        " or len(self._waits) >= most_in_all",
    ),
    _guard(
        "a killed process gives its place back, one process",
        f"{CONTRACT}a_wait_whose_process_was_killed_counts_no_longer_than_any_wait_lasts[memory]",
        MEMORY,
        "if wait[1] > now",
        "if wait",
    ),
    _guard(
        "a client leaves its place",
        f"{ROUTE}TestWithAPlace::test_a_wait_that_fails_leaves_its_place",
        PLACE,
        "        if self._tier:\n",
        "        if self._tier and _[0] is None:\n",
    ),
    _guard(
        "a job that has ended needs none",
        f"{ROUTE}TestBeyondTheBound::test_a_job_that_has_ended_is_shown_without_a_place",
        "jobs.py",
        "if seconds <= 0 or self._is_over(job, message_id):",
        "if seconds <= 0:",
    ),
    _guard(
        "a client without a place is answered at once",
        f"{ROUTE}TestBeyondTheBound::test_the_job_is_shown_at_once_as_if_nothing_was_waited_for[all]",
        "jobs.py",
        "while may_wait and (left",
        "while (left",
    ),
)
