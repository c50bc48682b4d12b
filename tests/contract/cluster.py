"""Conversations on chosen nodes of a Redis cluster."""

from __future__ import annotations

from redis.crc import key_slot

from message_handler.domain.conversations import ConversationKey
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Chat, Clock
from tests.servers import SLOTS


def slot_of(key: ConversationKey) -> int:
    return key_slot(str(key.shard).encode())


def chat_on(tier: RedisTier, number: int, clock: Clock | None = None, size: int = 3) -> Chat:
    """A conversation whose slot is on the cluster's node with this number."""
    keys = (ConversationKey("clinic", f"patient-{name}") for name in range(1000))
    return Chat(tier, clock or Clock(), next(key for key in keys if slot_of(key) * size // SLOTS == number))
