"""What is measured: figures, their rounds, and what the rounds come to.

A round measures our side and what it is held against one right after the other, so that whatever else the machine
does slows both; the ratio is taken within the round. The median of the rounds' ratios is the figure.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.stores import Stores


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides in the figure's unit; `against` None: there is nothing to hold it against, `ours` is the figure.

    `note` says what the numbers can't, such as which of several peers was the best.
    """

    ours: float
    against: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio, or a figure without one, must be."""

    relation: Literal["≤", "<", "≥"]
    value: float

    def met(self, measured: float) -> bool:
        if self.relation == "≥":
            return measured >= self.value
        return measured < self.value if self.relation == "<" else measured <= self.value

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report.

    `measure` yields rounds for as long as it is asked for more; what it needs, it takes from the stores. It is closed
    after `rounds` of them or after `seconds`, whatever comes first, but not before three rounds.
    """

    name: str
    title: str
    ours: str
    against: str
    target: Target | None
    measure: Callable[[Stores], Iterator[Round]]
    unit: str = "µs"
    rounds: int = 30
    seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Result:
    """A figure's rounds; `error` says why there are none."""

    figure: Figure
    rounds: tuple[Round, ...] = ()
    error: str | None = None

    @property
    def is_ratio(self) -> bool:
        return bool(self.rounds) and self.rounds[0].against is not None

    @property
    def ours(self) -> float:
        return median(round_.ours for round_ in self.rounds)

    @property
    def against(self) -> float | None:
        return median(round_.against or 0.0 for round_ in self.rounds) if self.is_ratio else None

    @property
    def values(self) -> list[float]:
        """Of each round the ratio, or where there is none our own side."""
        return [round_.ours / round_.against if round_.against else round_.ours for round_ in self.rounds]

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles."""
        values = self.values
        if len(values) == 1:
            return values[0], values[0]
        low, _, high = quantiles(values, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool | None:
        """None where there is no target, or nothing was measured."""
        if self.figure.target is None or not self.rounds:
            return None
        return self.figure.target.met(self.value)

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(round_.note for round_ in self.rounds if round_.note))


@contextmanager
def uncollected() -> Iterator[None]:
    """The collector of garbage waits, as it does in `timeit`: what it costs, everything else that lives decides."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alternating(ours: Callable[[], object], against: Callable[[], object], times: int, *, scale: float = 1e6) -> Round:
    """One round of calls that take turns, `times` of each: the median call of both, in 1/`scale` seconds.

    Who begins alternates too, for the second of two calls finds warmer caches.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    with uncollected():
        for number in range(times):
            for side in (0, 1) if number % 2 else (1, 0):
                call = against if side else ours
                start = time.perf_counter()
                call()
                taken[side].append(time.perf_counter() - start)
    return Round(median(taken[0]) * scale, median(taken[1]) * scale)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them doesn't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
