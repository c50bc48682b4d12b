"""A conversation and what was said in it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

from message_handler.domain.errors import (
    InvalidRequest,
)
from message_handler.domain.identifiers import (
    DEFAULT_PLATFORM,
    IDENTIFIER_RULE,
    is_identifier,
    shard_of,
    uuid_of,
)

Role = Literal["user", "assistant", "sale"]

#: Answers where no bot is named; without a record of its own it has the default configuration.
DEFAULT_BOT = "default"


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance in a conversation, as a patient (`user`), the bot or a human agent (`sale`) said it."""

    role: Role
    content: str
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """One patient's conversation with one bot; the unit of isolation, locking and ordering."""

    platform_id: str
    conversation_id: str

    @property
    def shard(self) -> int:
        """0 to 1023. The separator can be in neither id, so two keys never read alike."""
        return shard_of(f"{self.platform_id}/{self.conversation_id}")

    @property
    def name_hash(self) -> str:
        """Stands for the conversation where its id must not be kept."""
        return hashlib.sha256(f"{self.platform_id}/{self.conversation_id}".encode()).hexdigest()

    def new_job_id(self) -> str:
        """A UUIDv8 (RFC 9562) whose first 10 bits name the shard, so that an id alone finds its keys."""
        bits = os.urandom(16)
        return uuid_of((self.shard << 6 | bits[1] & 0x3F).to_bytes(2) + bits[2:], "8")


def conversation_key(conversation_id: str, platform_id: str = DEFAULT_PLATFORM) -> ConversationKey:
    """The key of a conversation. Raises InvalidRequest for an id that can't be one."""
    if not is_identifier(conversation_id):
        raise InvalidRequest(IDENTIFIER_RULE, field="conversation_id")
    return ConversationKey(platform_id, conversation_id)
