"""Every schedule of a small scope, each single fault at each of its steps: a search over the choices of a run.

A run is repeated from its start with a longer and longer list of choices; past its end the first option is taken, which
is to let the one go on who runs, and to let nothing go wrong. A switch away from someone who could go on costs one of
the preemptions, a fault one of the faults: within these bounds the search is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.checks import check
from tests.simulation.fate import Fault
from tests.simulation.scheduler import Actor, Violation
from tests.simulation.simulation import Simulation

#: A crash before a step is one after the step before, a pause after it one before the next.
_FAULTS: tuple[Fault, ...] = (
    "crash after",
    "pause before",
    "fail before",
    "fail after",
    "redis flushed",
    "redis rolled back",
    "redis away",
    "redis away for one",
    "postgres away",
    "both away",
)
#: Nobody stands still for longer than so many seconds, unless it is a fault.
_SOON = 30.0
#: Of things that are alike so many are tried.
_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the search may spend in one run. `first`: each run begins with this fault, the first time at this step."""

    preemptions: int = 0
    faults: int = 0
    first: tuple[str, Fault] | None = None


class Plan:
    """The fate that a list of choices describes. `options` are how many there were at each of them."""

    def __init__(self, choices: Sequence[int], bounds: Bounds) -> None:
        self.taken: list[int] = []
        self.options: list[int] = []
        self._choices = choices
        self._preemptions = bounds.preemptions
        self._faults = bounds.faults
        self._first = bounds.first

    def who(self, able: list[Actor], running: bool, seconds: float) -> Actor | None:
        # Workers that wait for a record are alike.
        different: list[Actor | None] = []
        for actor in able:
            if actor.ready not in [other.ready for other in different if other]:
                different.append(actor)
        free = 1 if running else len(different)
        if seconds <= _SOON:
            different.append(None)
        chosen = self._choose(len(different) if self._preemptions else free)
        if chosen >= free:
            self._preemptions -= 1
        return different[chosen]

    def fault(self, label: str, faults: Sequence[Fault]) -> Fault | None:
        if self._first:
            if label != self._first[0]:
                return None
            _, fault = self._first
            self._first = None
            return fault
        if not self._faults:
            return None
        ways = [fault for fault in _FAULTS if fault in faults]
        chosen = self._choose(1 + len(ways))
        if not chosen:
            return None
        self._faults -= 1
        return ways[chosen - 1]

    def pick(self, number: int) -> int:
        return self._choose(min(number, _ALIKE))

    def seconds(self, usual: float, *others: float) -> float:
        return usual

    def _choose(self, number: int) -> int:
        if number == 1:
            return 0
        position = len(self.taken)
        choice = self._choices[position] if position < len(self._choices) else 0
        self.taken.append(choice)
        self.options.append(number)
        return choice


@dataclass
class Found:
    """What a search came to."""

    runs: int = 0
    refused: int = 0
    violations: list[tuple[list[int], str]] = field(default_factory=list)


def explore(build: Callable[[Plan], Simulation], bounds: Bounds, *, until_broken: bool = False) -> Found:
    """Run `build(plan)` for every plan within the bounds, depth first; `until_broken`: to the first violation."""
    found = Found()
    waiting: list[list[int]] = [[]]
    while waiting and not (until_broken and found.violations):
        choices = waiting.pop()
        plan = Plan(choices, bounds)
        simulation = build(plan)
        found.runs += 1
        try:
            simulation.run()
            check(simulation)
        except (Violation, Exception) as violation:  # noqa: BLE001  an error of ours breaks a promise too
            found.violations.append((plan.taken, f"{type(violation).__name__}: {violation}"))
        found.refused += simulation.archive.refused
        for position in range(len(choices), len(plan.taken)):
            waiting.extend([*plan.taken[:position], choice] for choice in range(1, plan.options[position]))
    return found
