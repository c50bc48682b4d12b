"""Small scopes are searched completely, with the service's own code.

The wide search takes an hour. It has one preemption more everywhere, and combines faults with preemptions:

    SIMULATION_WIDE=1 make test ARGS="tests/simulation/test_exhaustive.py -n0 -s -o faulthandler_timeout=0"
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.simulation.exhaustive import Bounds, Plan, explore
from tests.simulation.fate import Fault
from tests.simulation.scheduler import Violation
from tests.simulation.scopes import (
    a_message_after_the_fault_and_one_after_the_recovery,
    a_message_and_its_edit,
    a_message_that_is_unsent,
    and_a_cancel,
    and_a_duplicate,
    and_a_release,
    and_it_is_unsent,
    one_interrupts_the_other,
    two_messages,
)
from tests.simulation.simulation import Simulation
from tests.simulation.trace import written

#: A worker dies at one of the two most critical moments. Then each single fault is tried.
COMMITTED: tuple[str, Fault] = ("archive.commit", "crash after")
SEALED: tuple[str, Fault] = ("redis.seal", "crash after")
WIDE = bool(os.environ.get("SIMULATION_WIDE"))


@pytest.mark.parametrize(
    ("scope", "bounds"),
    [
        (two_messages, Bounds(preemptions=2)),
        (two_messages, Bounds(faults=1)),
        (a_message_after_the_fault_and_one_after_the_recovery, Bounds(faults=1)),
        (a_message_after_the_fault_and_one_after_the_recovery, Bounds(faults=1, first=COMMITTED)),
        pytest.param(
            a_message_after_the_fault_and_one_after_the_recovery,
            Bounds(faults=1, first=SEALED),
            marks=pytest.mark.skipif(not WIDE, reason="only with SIMULATION_WIDE"),
        ),
        (one_interrupts_the_other, Bounds(preemptions=1)),
        (one_interrupts_the_other, Bounds(faults=1)),
        (and_a_duplicate, Bounds(preemptions=1)),
        (a_message_and_its_edit, Bounds(preemptions=2)),
        (a_message_and_its_edit, Bounds(faults=1)),
        (a_message_that_is_unsent, Bounds(preemptions=2)),
        (a_message_that_is_unsent, Bounds(faults=1)),
        (and_it_is_unsent, Bounds(preemptions=1)),
        pytest.param(
            and_it_is_unsent,
            Bounds(faults=1),
            marks=pytest.mark.skipif(not WIDE, reason="only with SIMULATION_WIDE"),
        ),
        (and_a_cancel, Bounds(preemptions=1)),
        (and_a_release, Bounds(preemptions=1)),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_no_schedule_within_the_bounds_breaks_a_promise(scope: Callable[[Plan], Simulation], bounds: Bounds) -> None:
    if WIDE:
        bounds = replace(bounds, preemptions=bounds.preemptions + 1)
    found = explore(scope, bounds)
    print(f"\n{found.runs:,} schedules of {scope.__name__} within {bounds}")
    assert found.runs > 40, "the scope has too few runs"
    if found.violations:
        choices, broken = min(found.violations, key=lambda violation: len(violation[0]))
        simulation = scope(Plan(choices, bounds))
        with suppress(Violation):
            simulation.run()
        count = f"{len(found.violations)} of {found.runs} schedules"
        pytest.fail(f"{written(simulation)}\n\n{count}: {broken}", pytrace=False)
