"""A conversation as its platform sees it: the archived turns, and the messages that wait for an answer."""

from __future__ import annotations

from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import timestamp
from message_handler.domain.errors import NotFound, Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.messages import base_id
from message_handler.ports.archive import Archive, ArchivedTurn, Conversation
from message_handler.tiers.failover import Failover


def conversation_view(tiers: Failover, archive: Archive, key: ConversationKey) -> dict[str, Any]:
    """The body of `GET /conversations/{conversation_id}`.

    Raises NotFound before the first message was accepted, and Unavailable while the archived turns can't be read.
    """
    waiting, away = None, None
    try:
        found = tiers.find(lambda tier: tier.waiting(key))
        waiting = found[1] if found else None
    except Unavailable as error:
        away = error
    archived = archive.conversation(key)
    if waiting is None and archived is None:
        if away:
            raise away
        raise NotFound("there is no such conversation", field="conversation_id")
    return {
        "conversation_id": key.conversation_id,
        "bot_id": waiting.bot_id if waiting else archived.bot_id or None if archived else None,
        "status": "handed_off" if archived and archived.handed_off else "active",
        "turns": [_turn_view(said) for said in (archived.turns if archived else ())],
        "pending": _pending(waiting, archived),
    }


def _turn_view(said: ArchivedTurn) -> dict[str, Any]:
    turn = said.turn
    return {
        "role": turn.role,
        "content": turn.content,
        "message_id": turn.message_id,
        "created_at": timestamp(said.created_at),
        "edited_at": None if said.edited_at is None else timestamp(said.edited_at),
        "unsent_at": None if said.unsent_at is None else timestamp(said.unsent_at),
        "job_id": said.job_id,
    }


def _pending(waiting: Job | None, archived: Conversation | None) -> dict[str, Any] | None:
    """The messages that wait: for a job, or while a human answers until the conversation is resumed."""
    parked = set(archived.parked) if archived else set()
    ids = parked.union(message.message_id for message in waiting.messages) if waiting else parked
    ids = {base_id(id_) for id_ in ids}
    if waiting is None and not ids:
        return None
    job_id = waiting.job_id if waiting and not (archived and archived.handed_off) else None
    return {"job_id": job_id, "consolidated_messages": len(ids)}
