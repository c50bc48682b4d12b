"""Figures, their rounds, and their results.

A round measures both sides one right after the other, so that other load on the machine slows both. The ratio is taken
within the round. The figure is the median of the rounds' ratios.
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
    """Both sides in the figure's unit. Without `against`, `ours` is the figure.

    `note` says what the numbers don't, such as the best of several peers.
    """

    ours: float
    against: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The bound of a ratio, or of a figure without one."""

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

    `measure` yields rounds, and takes what it needs from the stores. It is closed after `rounds` or after `seconds`,
    whichever comes first, but not before three rounds.
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
    """A figure's rounds. `error` says why there are none."""

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
        """The ratio of each round; without `against`, our side of each."""
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
        """Whether the target is met. None without a target or a round."""
        if self.figure.target is None or not self.rounds:
            return None
        return self.figure.target.met(self.value)

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(round_.note for round_ in self.rounds if round_.note))


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, as in `timeit`: its cost depends on all the other live objects."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alternating(ours: Callable[[], object], against: Callable[[], object], times: int, *, scale: float = 1e6) -> Round:
    """One round of alternating calls, `times` of each: the median call of both sides, in 1/`scale` seconds.

    The two sides begin in turns too, because the second of two calls finds warmer caches.
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
    """The smallest value that at least this share of all values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
