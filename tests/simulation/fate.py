"""What may go wrong, and who decides that it does: chance by a seed, or a plan that is worked through."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, Protocol

from tests.simulation.scheduler import Actor

Fault = Literal[
    # Of the one who takes the step.
    "crash before",
    "crash after",
    "pause before",
    "pause after",
    "fail before",
    "fail after",  # done, but the answer is lost
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
    """What can go wrong at a step: a call that leaves the process can fail, too."""
    if label == "queue.receive":
        return (*EVERYWHERE, *FAILURES, "delivered twice")
    return EVERYWHERE if label.startswith(("ai.", "memory.")) else (*EVERYWHERE, *FAILURES)


class Fate(Protocol):
    """Decides everything that a run leaves open."""

    def who(self, able: list[Actor], running: bool, seconds: float) -> Actor | None:
        """Who goes on (the first in the list runs now if `running`); None to wait `seconds` for another."""

    def fault(self, label: str, faults: Sequence[Fault]) -> Fault | None:
        """What goes wrong at this step."""

    def pick(self, number: int) -> int:
        """One of so many, which are alike."""

    def seconds(self, usual: float, *others: float) -> float:
        """How long something takes."""


#: Where most depends on what happens next.
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
    """By a seed. Each run has its own temper: how restless, how unlucky, in which ways, and where above all."""

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
        #: Troubles seldom come singly: for so many steps after one, another is likely.
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
