"""What is quick must not therefore be careless: the guards of the shorter ways."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in

STEPS = "stores/steps.py"
SCRIPTS = "stores/lua"

in_both = each_in("contract/test_tier.py", "memory", "redis")

LOCKS = (
    *in_both(
        "a lock is given back by its owner alone",
        "invariant 4",
        "TestGiveBack::test_nobody_but_the_owner_gives_it_back",
        Removal(
            STEPS,
            "    if not line.locked_by(lock_id):\n        return None\n    assert line.current is not None\n    job =",
            "    if line.current is None:\n        return None\n    job =",
        ),
        Removal(f"{SCRIPTS}/give_back.lua", "if not job or line.lock_id ~= input.lock_id then", "if not job then"),
    ),
    Guard(
        "a job that is given back ends under its own key",
        "issue 6: one script for each step",
        "contract/test_tier.py::TestGiveBack::test_all_of_the_job_ends_as_cancelled[redis]",
        (Removal(f"{SCRIPTS}/give_back.lua", "if job.job_id ~= input.job_id then", "if false then"),),
    ),
)

GUARDS = LOCKS
