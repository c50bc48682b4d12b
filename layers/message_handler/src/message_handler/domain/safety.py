"""What the safety check finds in a patient's text: how urgent it is, and which rule says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How soon a patient needs people's help. Levels compare by their urgency: `URGENT < CRISIS < EMERGENCY`."""

    #: An ambulance now.
    EMERGENCY = "emergency"
    #: Self-harm, violence or abuse.
    CRISIS = "crisis"
    #: Care today.
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """3 for the most urgent level, 1 for the least."""
        return _RANKS[self.value]

    def __lt__(self, other: str) -> bool:
        return self.rank < Level(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Level(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Level(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Level(other).rank


_RANKS = {"emergency": 3, "crisis": 2, "urgent": 1}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's strongest match in a text.

    `place` has the start and the end of each matched word in the text. The words themselves are not part of a finding.
    """

    level: Level
    rule: str
    language: str
    place: tuple[tuple[int, int], ...]
