"""What names a conversation, and the turns that were said in it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Literal

from message_handler.domain.errors import InvalidRequest
from message_handler.domain.identifiers import (
    CONVERSATION_ID_RULE,
    DEFAULT_PLATFORM,
    is_conversation_id,
    shard_of,
    uuid_of,
)

Role = Literal["user", "assistant", "sale"]

#: The bot that answers where a request names none. It has the default configuration unless a tenant configures it.
DEFAULT_BOT = "default"
#: The language of a bot whose configuration names none.
DEFAULT_LANGUAGE = "vi"


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance in a conversation: of a patient (`user`), the bot (`assistant`) or a human agent (`sale`)."""

    role: Role
    content: str
    message_id: str | None = None
    #: When it was edited (Unix seconds), if the platform says so; else 0.
    edited_at: float = 0.0
    #: The patient has taken it back, so no context has it.
    unsent: bool = False
    #: When it was said (Unix seconds), if Postgres has told; else 0.
    said_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """Names one patient's conversation with one bot. Isolation, locking and order are per conversation."""

    platform_id: str
    conversation_id: str

    @property
    def shard(self) -> int:
        """The conversation's shard, 0 to 1023. No id contains the separator, so two keys never have the same text."""
        return shard_of(f"{self.platform_id}/{self.conversation_id}")

    @property
    def name_hash(self) -> str:
        """SHA-256 of the key: names the conversation where its id must not be stored (after an erasure)."""
        return hashlib.sha256(f"{self.platform_id}/{self.conversation_id}".encode()).hexdigest()

    def new_job_id(self) -> str:
        """A UUIDv8 (RFC 9562). Its first 10 bits are the shard, so that a job's id alone leads to its keys."""
        return self._job_id(os.urandom(16))

    def notice_job_id(self, level: str, hour: int) -> str:
        """The id of the job of a safety notice: each level has one in each hour (counted from the Unix epoch).

        It is made as `new_job_id` makes one. But all processes make the same id, so the notice is given once.
        """
        name = f"{self.platform_id}/{self.conversation_id} {level} {hour}"
        return self._job_id(hashlib.sha256(name.encode()).digest()[:16])

    def _job_id(self, bits: bytes) -> str:
        return uuid_of((self.shard << 6 | bits[1] & 0x3F).to_bytes(2) + bits[2:], "8")


def conversation_key(conversation_id: str, platform_id: str = DEFAULT_PLATFORM) -> ConversationKey:
    """The key of a conversation. Raises InvalidRequest if the id is not valid."""
    if not is_conversation_id(conversation_id):
        raise InvalidRequest(CONVERSATION_ID_RULE, field="conversation_id")
    return ConversationKey(platform_id, conversation_id)
