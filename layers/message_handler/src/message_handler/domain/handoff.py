"""Parked messages: they wait in Postgres while a human answers their conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from message_handler.domain.conversations import Turn
from message_handler.domain.messages import Message


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A message that waits in Postgres while a human answers, with everything that a job for it needs.

    `job_id` is the job that the message was promised, if any. `answered_by` is set once a human has answered it. Such a
    message does not wait, but stays known: a tier may have it under another id, and must not bring it back.
    """

    message: Message
    context: tuple[Turn, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class ParkResult:
    """The archive's answer to `park`: all messages that wait now, oldest first, and whether the last one was known.

    `edited`: the last one is a new version of a known message.
    """

    messages: tuple[Message, ...]
    duplicate: bool
    edited: bool = False

    @property
    def message_ids(self) -> tuple[str, ...]:
        return tuple(message.message_id for message in self.messages)


@dataclass(frozen=True, slots=True)
class ParkedMessages:
    """The messages that wait for the bot, oldest first. `handoffs`: how often the conversation was handed off."""

    bot_id: str
    handoffs: int
    parked: tuple[ParkedMessage, ...]
