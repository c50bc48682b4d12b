"""How long data is kept: the schedule deletes what is too old, in batches of bounded size.

A conversation under way stays: one with a running job, a parked message, a reply that is still to be delivered, or
messages that wait in a tier. A conversation is deleted as a whole, with its turns, jobs and settled messages. A late
duplicate of such a message is a new message then.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from message_handler.domain.conversations import ConversationKey
from message_handler.metrics import Meter
from message_handler.ports.retention import IdleConversation, Retention
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

#: The most conversations that one statement deletes, and the most turns unless a single conversation has more.
MOST_CONVERSATIONS = 100
MOST_TURNS = 2_000
#: The most other rows that one statement deletes.
MOST_ROWS = 1_000
#: The longest time of one run: well below the function's own. The next run goes on.
PURGE_SECONDS = 25.0
#: Longer than any record lives: 14 days in the queue, and 14 more after the sweep has redriven it.
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
    """Delete what is too old, until `until` (Unix seconds) at the latest. The next run goes on from there.

    Returns how many `conversations`, `deliveries`, `erasures` and entries of the `audit` were deleted. Raises
    Unavailable; what was deleted before stays deleted.
    """
    now = clock()
    deleted = {"conversations": 0, "deliveries": 0, "erasures": 0, "audit": 0}
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
            deleted[name] += count
            if count < MOST_ROWS:
                break
    meter.add("DeliveriesPurged", deleted["deliveries"])
    if settings.retention_conversations_days:
        before = _before(now, settings.retention_conversations_days)
        deleted["conversations"] = _purge_conversations(retention, tiers, before, clock, until)
        meter.add("ConversationsPurged", deleted["conversations"])
    return deleted


def _before(now: float, days: int) -> float:
    """The moment `days` ago. 0 days means for ever: nothing is older."""
    return now - days * _DAY if days else -math.inf


def _purge_conversations(
    retention: Retention, tiers: Failover, before: float, clock: Callable[[], float], until: float
) -> int:
    count, after = 0, "-infinity"
    while clock() < until:
        idle = retention.idle(before=before, after=after, most=MOST_CONVERSATIONS)
        if not idle:
            break
        batch = _within_most_turns(idle)
        after = batch[-1].updated_at
        keys = [conversation.key for conversation in batch if not _waits(tiers, conversation.key)]
        if keys:
            count += retention.purge_conversations(keys, before=before)
    return count


def _within_most_turns(idle: list[IdleConversation]) -> list[IdleConversation]:
    """The first conversations, up to `MOST_TURNS` turns together, and at least one conversation."""
    turns = 0
    for number, conversation in enumerate(idle):
        turns += conversation.turns
        if number and turns > MOST_TURNS:
            return idle[:number]
    return idle


def _waits(tiers: Failover, key: ConversationKey) -> bool:
    """Whether messages wait in a tier. Raises Unavailable if no tier says so and one is away: it may have some."""
    return tiers.find(lambda tier: tier.waiting(key)) is not None
