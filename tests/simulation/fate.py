"""The faults of a run, and what decides them: chance by a seed, or a plan of a search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, Protocol

from tests.simulation.scheduler import Actor

Fault = Literal[
    # Of the process that takes the step.
    "crash before",
    "crash after",
    "pause before",
    "pause after",
    "fail before",
    "fail after",  # the call is done, but its answer is lost
    # Of the stores.
    "redis flushed",
    "redis rolled back",
    "redis away",
    "redis away for one",
    "postgres away",
    "both away",
    # Of the queue.
    "delivered twice",
]

CRASHES: tuple[Fault, ...] = ("crash before", "crash after")
PAUSES: tuple[Fault, ...] = ("pause before", "pause after")
FAILURES: tuple[Fault, ...] = ("fail before", "fail after")
LOSSES: tuple[Fault, ...] = ("redis flushed", "redis rolled back")
OUTAGES: tuple[Fault, ...] = ("redis away", "redis away for one", "postgres away", "both away")
EVERYWHERE = (*CRASHES, *PAUSES, *LOSSES, *OUTAGES)


def possible(label: str) -> tuple[Fault, ...]:
    """The faults that are possible at a step. A call that leaves the process can also fail."""
    if label == "queue.receive":
        return (*EVERYWHERE, *FAILURES, "delivered twice")
    return EVERYWHERE if label.startswith(("ai.", "memory.")) else (*EVERYWHERE, *FAILURES)


class Fate(Protocol):
    """Makes all decisions of a run."""

    def who(self, able: list[Actor], running: bool, seconds: float) -> Actor | None:
        """The actor that goes on; None to wait `seconds` for another. With `running`, the first one is running now."""

    def fault(self, label: str, faults: Sequence[Fault]) -> Fault | None:
        """The fault at this step, if any."""

    def pick(self, number: int) -> int:
        """The number of one of `number` equal options."""

    def seconds(self, usual: float, *others: float) -> float:
        """A duration: `usual`, or one of the others."""


#: The steps at which a fault has the most effect.
_CRITICAL = (
    "redis.accept",
    "queue.send",
    "redis.claim",
    "archive.fence",
    "redis.adopt",
    "redis.heartbeat",
    "redis.seal",
    "archive.commit",
    "redis.finish",
    "archive.settled_by",
)


class Chance:
    """Decides by a seed. Each run draws how often it switches, how many faults it has, of which kinds, and where."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # nothing secret is drawn here
        draw = self.random
        self.restless = draw.choice([0.02, 0.1, 0.3, 1.0])
        self.unlucky = draw.choice([0.01, 0.03, 0.1])
        self.faults_left = draw.choice([0, 1, 1, 2, 2, 3, 3, 4, 6, 10])
        groups = [CRASHES, PAUSES, FAILURES, LOSSES, OUTAGES, OUTAGES[2:3], OUTAGES[:2], ("delivered twice",)]
        chosen = draw.sample(groups, draw.choice([1, 1, 2, 2, 3, len(groups)]))
        self.ways = frozenset(fault for group in chosen for fault in group)
        self.critical = draw.choice((None, *_CRITICAL))
        #: The number of steps after a fault in which another one is more likely.
        self.aftermath = draw.choice([0, 0, 12])
        self._troubled = 0

    def who(self, able: list[Actor], running: bool, seconds: float) -> Actor:
        if running and self.random.random() >= self.restless:
            return able[0]
        return self.random.choice(able)

    def fault(self, label: str, faults: Sequence[Fault]) -> Fault | None:
        self._troubled -= 1
        unlucky = 0.3 if label == self.critical else 0.15 if self._troubled > 0 else self.unlucky
        if not self.faults_left or self.random.random() >= unlucky:
            return None
        ways = [fault for fault in faults if fault in self.ways]
        if not ways:
            return None
        self.faults_left -= 1
        self._troubled = self.aftermath
        return self.random.choice(ways)

    def pick(self, number: int) -> int:
        return self.random.randrange(number)

    def seconds(self, usual: float, *others: float) -> float:
        return self.random.choice((usual, *others)) * self.random.choice((1.0, self.random.uniform(0.5, 1.5)))
