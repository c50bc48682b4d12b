"""Seeded runs: a seed draws actors, schedule and faults, and each run ends with a check of every promise.

make test ARGS=tests/simulation                                                      500 seeds, scopes searched
SIMULATION_SEEDS=100000 make test ARGS="tests/simulation/test_simulation.py -n0 -s"  the long form, with progress
SIMULATION_SEED=12345 make test ARGS="tests/simulation/test_simulation.py -n0 -s"    one seed, with its trace
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import get_args

import pytest

from tests.simulation.chance import checked_run, simulation_of
from tests.simulation.checks import check
from tests.simulation.fate import Fault
from tests.simulation.scheduler import Violation
from tests.simulation.trace import written

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "500"))
ONE = os.environ.get("SIMULATION_SEED")
#: Seeds in one test. Each test has its own time limit.
CHUNK = 250


@dataclass
class Lives:
    """The outcomes of all runs."""

    runs: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        return "\n".join(f"{number:9,}  {what}" for what, number in sorted(self.counts.items()))


LIVES = Lives()


def live(seeds: range) -> dict[int, str]:
    """Run the seeds. Returns those that broke a promise, each with that promise."""
    broken = {}
    for seed in seeds:
        simulation = simulation_of(seed)
        try:
            check(simulation.run())
        except Violation as violation:
            broken[seed] = str(violation)
        LIVES.runs += 1
        LIVES.counts.update({f"fault: {fault}": number for fault, number in simulation.counts.items()})
        LIVES.counts["outages made up for"] += simulation.catch_ups
        LIVES.counts["messages told 202"] += len(simulation.told)
        LIVES.counts["cancels told 200"] += len(simulation.cancelled)
        LIVES.counts["steps"] += simulation.scheduler.steps
        LIVES.counts["AI calls"] += simulation.ai.calls
        LIVES.counts["stale commits refused"] += simulation.archive.refused
        LIVES.counts["records buried"] += simulation.queue.buried
        LIVES.counts["runs beyond the honest limits"] += simulation.beyond_the_limits
    LIVES.broken |= broken
    return broken


@pytest.fixture(scope="module")
def lives() -> Lives:
    """All runs so far, or the first ones if the test runs alone."""
    if not LIVES.runs:
        live(range(min(SEEDS, CHUNK)))
    return LIVES


def replay(seed: int) -> str:
    return f'SIMULATION_SEED={seed} make test ARGS="tests/simulation/test_simulation.py -n0 -s"'


def told_of(seed: int) -> str:
    """The trace of a seed's run, with the broken promise if there is one."""
    simulation = simulation_of(seed)
    end = "every promise was kept"
    try:
        check(simulation.run())
    except Violation as violation:
        end = f"BROKEN: {violation}"
    return f"{written(simulation)}\n\nseed {seed}: {end}"


@pytest.mark.skipif(ONE is not None, reason="SIMULATION_SEED names one")
class TestSeeds:
    @pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
    def test_every_promise_is_kept_whatever_goes_wrong(self, first: int) -> None:
        seeds = range(first, min(first + CHUNK, SEEDS))
        if broken := live(seeds):
            seed, promise = next(iter(broken.items()))
            others = ", ".join(str(other) for other in list(broken)[1:10])
            pytest.fail(
                f"{told_of(seed)}\n\n{promise}\n{len(broken)} of {len(seeds)} seeds are broken"
                f"{f', also {others}' if others else ''}; again with:\n\n    {replay(seed)}\n",
                pytrace=False,
            )
        print(f"\nseeds up to {seeds[-1]:,}: {len(LIVES.broken)} broken")

    def test_every_kind_of_fault_happens(self, lives: Lives) -> None:
        print(f"\n{lives.runs:9,}  runs\n{lives.table()}")
        assert [fault for fault in get_args(Fault) if not lives.counts[f"fault: {fault}"]] == []

    def test_stale_workers_try_to_commit_and_are_refused(self, lives: Lives) -> None:
        assert lives.counts["stale commits refused"] > 0

    def test_records_go_to_the_dead_letters_and_come_back(self, lives: Lives) -> None:
        """All checks hold afterwards too: those messages are answered in the end."""
        assert lives.counts["records buried"] > 0

    def test_most_runs_are_within_the_known_limits(self, lives: Lives) -> None:
        assert 0 < lives.counts["runs beyond the honest limits"] < lives.runs / 3

    def test_a_seed_is_the_same_run_each_time(self) -> None:
        for seed in range(20):
            assert told_of(seed) == told_of(seed)


@pytest.mark.skipif(ONE is None, reason="SIMULATION_SEED names none")
def test_the_seed_that_was_asked_for() -> None:
    seed = int(ONE or 0)
    print(f"\n{told_of(seed)}")
    try:
        checked_run(seed)
    except Violation as violation:
        pytest.fail(f"seed {seed}: {violation}", pytrace=False)
