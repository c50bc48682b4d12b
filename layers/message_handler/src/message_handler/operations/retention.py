"""What is kept for how long: the schedule deletes what has had its time, a bounded batch at a time.

Nothing that is under way goes: a conversation with a job that runs, a message that is held, a reply that is still to be
delivered, or messages that wait in a tier. A conversation goes whole, with its turns, jobs and settled messages: a late
duplicate of one of these is a new message then.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from message_handler.domain.conversations import ConversationKey
from message_handler.metrics import Meter
from message_handler.ports.retention import Idle, Retention
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

#: One statement deletes no more conversations, and no more turns unless a single one has more.
MOST_CONVERSATIONS = 100
MOST_TURNS = 2_000
#: One statement deletes no more of other rows.
MOST_ROWS = 1_000
#: A run's time: well below the function's, and the next one goes on.
PURGE_SECONDS = 25.0
#: No record is older: 14 days in the queue, and as many again when the sweep has redriven it.
ERASURE_DAYS = 90

_DAY = 86_400.0


def purge(
    retention: Retention,
    tiers: Failover,
    settings: Settings,
    meter: Meter,
    *,
    clock: Callable[[], float],
    until: float,
) -> dict[str, int]:
    """Delete what has had its time, until `until` (Unix seconds) at the latest; the next run goes on from there.

    Returns how many `conversations`, `deliveries`, `erasures` and entries of the `audit`. Raises Unavailable: what was
    deleted stays deleted.
    """
    now = clock()
    gone = {"conversations": 0, "deliveries": 0, "erasures": 0, "audit": 0}
    delivered_before = _before(now, settings.retention_delivered_days)
    dead_before = _before(now, settings.retention_dead_days)

    def deliveries() -> int:
        return retention.purge_deliveries(delivered_before=delivered_before, dead_before=dead_before, most=MOST_ROWS)

    def erasures() -> int:
        return retention.purge_erasures(before=now - ERASURE_DAYS * _DAY, most=MOST_ROWS)

    def audit() -> int:
        return retention.purge_audit(before=_before(now, settings.retention_audit_days), most=MOST_ROWS)

    for name, step in (("deliveries", deliveries), ("erasures", erasures), ("audit", audit)):
        while clock() < until:
            count = step()
            gone[name] += count
            if count < MOST_ROWS:
                break
    meter.add("DeliveriesPurged", gone["deliveries"])
    if settings.retention_conversations_days:
        before = _before(now, settings.retention_conversations_days)
        gone["conversations"] = _purge_conversations(retention, tiers, before, clock, until)
        meter.add("ConversationsPurged", gone["conversations"])
    return gone


def _before(now: float, days: int) -> float:
    """0 days: for ever."""
    return now - days * _DAY if days else -math.inf


def _purge_conversations(
    retention: Retention, tiers: Failover, before: float, clock: Callable[[], float], until: float
) -> int:
    count, after = 0, "-infinity"
    while clock() < until:
        idle = retention.idle(before=before, after=after, most=MOST_CONVERSATIONS)
        if not idle:
            break
        batch = _first_of(idle)
        after = batch[-1].updated_at
        keys = [it.key for it in batch if not _waits(tiers, it.key)]
        if keys:
            count += retention.purge_conversations(keys, before=before)
    return count


def _first_of(idle: list[Idle]) -> list[Idle]:
    turns = 0
    for number, it in enumerate(idle):
        turns += it.turns
        if number and turns > MOST_TURNS:
            return idle[:number]
    return idle


def _waits(tiers: Failover, key: ConversationKey) -> bool:
    """Whether messages wait in a tier. Raises Unavailable if none knows and one is away: then nobody can know."""
    return tiers.find(lambda tier: tier.waiting(key)) is not None
