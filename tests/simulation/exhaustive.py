"""Every schedule of a small scope, each single fault at each of its steps: a search over the choices of a run.

Each run starts anew with a list of choices. After the end of the list the first option is taken: the running actor goes
on, and nothing goes wrong. To switch away from an actor that could go on costs one preemption. A fault costs one of the
faults. Within these bounds the search is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.checks import check
from tests.simulation.fate import Fault
from tests.simulation.scheduler import Actor, Violation
from tests.simulation.simulation import Simulation

#: A crash before a step equals a crash after the previous step. A pause after a step equals one before the next.
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
#: Without a fault, no actor that can go on waits longer than this, in seconds.
_SOON = 30.0
#: Of equal options at most this many are tried.
_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one run may spend.

    `first`: each run has this fault, at the first step with this label. `at`: the others happen only at steps with this
    label.
    """

    preemptions: int = 0
    faults: int = 0
    first: tuple[str, Fault] | None = None
    at: str | None = None


class Plan:
    """The fate that a list of choices describes. `options` counts the options at each choice."""

    def __init__(self, choices: Sequence[int], bounds: Bounds) -> None:
        self.taken: list[int] = []
        self.options: list[int] = []
        self._choices = choices
        self._preemptions = bounds.preemptions
        self._faults = bounds.faults
        self._first = bounds.first
        self._at = bounds.at

    def who(self, able: list[Actor], running: bool, seconds: float) -> Actor | None:
        # Workers that wait for a record are equal options.
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
        if not self._faults or (self._at and label != self._at):
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
    """The outcome of a search."""

    runs: int = 0
    refused: int = 0
    violations: list[tuple[list[int], str]] = field(default_factory=list)


def explore(build: Callable[[Plan], Simulation], bounds: Bounds, *, until_broken: bool = False) -> Found:
    """Run `build(plan)` for every plan within the bounds, depth first. `until_broken`: stop at the first violation."""
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
