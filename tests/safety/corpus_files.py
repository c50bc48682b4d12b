"""The sentences that the safety rules are measured with: `corpus/*.tsv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from message_handler.domain.safety import Level
from message_handler.safety.rules import Rules
from message_handler.safety.screening import Screened, screen

FOLDER = Path(__file__).with_name("corpus")
#: Stands between the messages of one entry.
BETWEEN = " | "


@dataclass(frozen=True)
class Sentence:
    """A message, or several that wait together. `level` is the least that a check must find, None for nothing."""

    id: str
    language: str
    half: str
    category: str
    level: Level | None
    texts: tuple[str, ...]

    @cached_property
    def text(self) -> str:
        return BETWEEN.join(self.texts)


def sentences(folder: Path = FOLDER) -> Iterator[Sentence]:
    for file in sorted(folder.glob("*.tsv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                level = None if row["level"] == "none" else Level(row["level"])
                texts = tuple(row["text"].split(BETWEEN))
                yield Sentence(row["id"], file.stem, row["half"], row["category"], level, texts)


@dataclass
class Counts:
    """How many of some sentences were judged right."""

    dangers: int = 0
    found: int = 0
    harmless: int = 0
    alarms: int = 0

    def add(self, sentence: Sentence, screened: Screened | None) -> bool:
        """Whether the sentence is judged right."""
        if sentence.level is None:
            self.harmless += 1
            self.alarms += screened is not None
            return screened is None
        self.dangers += 1
        right = screened is not None and screened.level >= sentence.level
        self.found += right
        return right


def screened(rules: Rules, given: Iterable[Sentence]) -> Iterator[tuple[Sentence, Screened | None]]:
    for sentence in given:
        yield sentence, screen(rules, sentence.texts)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that contains the true rate with a confidence of 95 %."""
    if not trials:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
