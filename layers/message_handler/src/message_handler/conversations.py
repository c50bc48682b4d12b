"""A conversation as its platform sees it: the archived turns, and what waits for an answer."""

from __future__ import annotations

from typing import Any

from message_handler.errors import NotFound
from message_handler.locks import timestamp
from message_handler.models import ConversationKey
from message_handler.stores.port import Archive, Tier


def conversation_view(tier: Tier, archive: Archive, key: ConversationKey) -> dict[str, Any]:
    """The body of `GET /conversations/{conversation_id}`. Raises NotFound until something was accepted for it."""
    waiting = tier.waiting(key)
    archived = archive.conversation(key)
    if waiting is None and archived is None:
        raise NotFound("there is no such conversation", field="conversation_id")
    return {
        "conversation_id": key.conversation_id,
        "bot_id": waiting.bot_id if waiting else archived.bot_id if archived else None,
        "status": "active",
        "turns": [
            {"role": turn.role, "content": turn.content, "created_at": timestamp(said_at), "job_id": job_id}
            for turn, said_at, job_id in (archived.turns if archived else ())
        ],
        "pending": {"job_id": waiting.job_id, "consolidated_messages": len(waiting.messages)} if waiting else None,
    }
