"""The report on found danger: how much there was, and what followed. It has no text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Literal

from message_handler.domain.raised import RaisedConversation

#: The languages of the shipped rules. The id of a rule starts with its language.
LANGUAGES = ("en", "vi")
#: The ways of counting, in their order in the report. `language` is that of the rule, or `other`.
WAYS = ("all", "level", "rule", "language")
Way = Literal["all", "level", "rule", "language"]


@dataclass(frozen=True, slots=True)
class Spent:
    """How many of them there were, and the seconds that each took: the median and the 95th percentile."""

    count: int = 0
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What was raised under one name: how often, and how often and how soon it was delivered, taken and closed."""

    by: Way
    name: str
    raised: int
    delivered: Spent = Spent()
    taken: Spent = Spent()
    closed: Spent = Spent()


def counted(found: Iterable[RaisedConversation]) -> list[Counted]:
    """The conversations, counted in each way. Drills are left out."""
    groups: dict[tuple[Way, str], list[RaisedConversation]] = {("all", ""): []}
    for each in found:
        if not each.drill:
            for way, name in _names(each):
                groups.setdefault((way, name), []).append(each)
    return [_counted(way, name, group) for (way, name), group in groups.items()]


def _names(each: RaisedConversation) -> Iterable[tuple[Way, str]]:
    language = each.rule.split("-")[0]
    yield "all", ""
    yield "level", each.level
    yield "rule", each.rule
    yield "language", language if language in LANGUAGES else "other"


def _counted(way: Way, name: str, group: Sequence[RaisedConversation]) -> Counted:
    return Counted(
        way,
        name,
        len(group),
        _spent([each.delivered_at - each.raised_at for each in group if each.delivered_at is not None]),
        _spent([each.taken_at - each.raised_at for each in group if each.taken_at is not None]),
        _spent([each.closed_at - each.raised_at for each in group if each.closed_at is not None]),
    )


def _spent(seconds: Sequence[float]) -> Spent:
    if not seconds:
        return Spent()
    positive = [max(0.0, each) for each in seconds]
    # As Postgres counts: interpolated between two neighbours, which a single value lacks.
    percentiles = quantiles(positive * 2 if len(positive) == 1 else positive, n=100, method="inclusive")
    return Spent(len(positive), percentiles[49], percentiles[94])


def rows_of(found: Iterable[Counted]) -> list[dict[str, Any]]:
    """The report's rows: all of it first, then by level, rule and language, each by name."""
    return [_row(each) for each in sorted(found, key=lambda each: (WAYS.index(each.by), each.name))]


def _row(each: Counted) -> dict[str, Any]:
    row: dict[str, Any] = {"by": each.by, "name": each.name or None, "raised": each.raised}
    for what, spent in (("delivered", each.delivered), ("taken", each.taken), ("closed", each.closed)):
        row |= {
            what: spent.count,
            f"{what}_median_seconds": spent.median and round(spent.median, 3),
            f"{what}_p95_seconds": spent.p95 and round(spent.p95, 3),
        }
    return row


def as_csv(report: dict[str, Any]) -> str:
    """The rows of a report as CSV (RFC 4180), with a header. Its drills are the last row."""
    columns = list(_row(Counted("all", "", 0)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(report["rows"])
    writer.writerow({"by": "drills", "raised": report["drills"]})
    return text.getvalue()
