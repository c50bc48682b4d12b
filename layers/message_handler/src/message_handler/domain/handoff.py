"""Messages that wait while a human answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from message_handler.domain.conversations import Turn
from message_handler.domain.messages import Message


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A message that waits in Postgres while a human answers, with what a job for it needs.

    `job_id`: the job that it had been promised, if any. `answered_by` is set for what a human has answered already: it
    waits for nothing, but a tier may have it under another id, and must not bring it back.
    """

    message: Message
    context: tuple[Turn, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class ParkResult:
    """The archive's answer to a hold: all that waits now, and whether the last of the messages was there before."""

    message_ids: tuple[str, ...]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class ParkedMessages:
    """What waits for the bot, oldest first. `handoffs`: how often the conversation was handed off until now."""

    bot_id: str
    handoffs: int
    parked: tuple[ParkedMessage, ...]
