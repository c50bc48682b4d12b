"""Patients' messages that wait together, checked one by one and joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

from message_handler.domain.safety import Finding, Level
from message_handler.safety.matching import Work
from message_handler.safety.rules import MOST_OWN_STEPS, Rules

#: Messages may arrive in another order than they were written. Few and short ones are joined in all orders: the most
#: messages, and the most characters that they have together.
_MOST, _LONGEST = 3, 400
_BETWEEN: Final = " "


@dataclass(frozen=True, slots=True)
class Screened:
    """The strongest finding in some texts: its level and rule, and the findings by the texts' indexes."""

    level: Level
    rule: str
    findings: Mapping[int, Finding]


def screen(rules: Rules, texts: Sequence[str], *, only_joined: bool = False) -> Screened | None:
    """What the rules find in texts that wait together, or None. Joining never lowers what one text has alone.

    `only_joined`: each of them was read alone before.
    """
    strongest: Finding | None = None
    findings: dict[int, Finding] = {}
    for finding, shares in _found(rules, texts, only_joined=only_joined):
        if strongest is None or finding.level > strongest.level:
            strongest = finding
        for index, share in shares:
            if index not in findings or findings[index].level < share.level:
                findings[index] = share
    return Screened(strongest.level, strongest.rule, findings) if strongest else None


def _found(
    rules: Rules, texts: Sequence[str], *, only_joined: bool
) -> Iterator[tuple[Finding, list[tuple[int, Finding]]]]:
    """Each finding, and the share that each text has in it."""
    emergency, work = False, Work(MOST_OWN_STEPS)
    for index, text in enumerate(() if only_joined else texts):
        for finding in rules.find(text, work):
            emergency = emergency or finding.level is Level.EMERGENCY
            yield finding, [(index, finding)]
    if emergency or len(texts) < 2:
        return
    for order in _orders(texts):
        for finding in rules.find(_BETWEEN.join(texts[index] for index in order), work):
            yield finding, _shares(finding, texts, order)


def _orders(texts: Sequence[str]) -> Iterator[tuple[int, ...]]:
    given = tuple(range(len(texts)))
    if len(texts) <= _MOST and sum(map(len, texts)) <= _LONGEST:
        return permutations(given)
    return iter((given,))


def _shares(finding: Finding, texts: Sequence[str], order: Sequence[int]) -> list[tuple[int, Finding]]:
    """The finding in each text that has some of its words."""
    shares, start = [], 0
    for index in order:
        end = start + len(texts[index])
        place = tuple((first - start, last - start) for first, last in finding.place if start <= first < end)
        if place:
            shares.append((index, replace(finding, place=place)))
        start = end + len(_BETWEEN)
    return shares
