"""Tells the tiers that a human answers."""

from __future__ import annotations

from contextlib import suppress

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import TRANSIENT
from message_handler.ports.queue import Queue
from message_handler.queue.wake import wake
from message_handler.tiers.failover import Failover


def silence(tiers: Failover, queue: Queue, key: ConversationKey) -> None:
    """Tell the tiers that Postgres has silenced the bot. Its run stops, and a worker comes to park its messages."""
    # Each call may fail. Then the next worker learns at its fence that a human answers, and tells the tier.
    with suppress(*TRANSIENT):
        tiers.each(lambda tier: tier.hand_off(key, human=True))
        released = [job for job in tiers.each(lambda tier: tier.force_release(key)) if job]
        if released:
            wake(queue, released[0])
