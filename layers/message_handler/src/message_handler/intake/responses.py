"""The bodies of intake's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from message_handler.domain.errors import Rejected, safety_of
from message_handler.domain.handoff import ParkResult
from message_handler.domain.messages import base_id
from message_handler.protocol.results import Accepted


def rejection(rejected: Rejected) -> dict[str, Any]:
    """The body of the `409`: nothing was stored. Its job answers another message now."""
    safety = safety_of(rejected)
    return {
        "success": False,
        "status": "locked",
        "action": "rejected",
        "message": "Another message is being answered; send this one again after the reply",
        "ai_job_id": rejected.job_id,
    } | ({"safety": safety} if safety else {})


def response(accepted: Accepted, bot_name: str, *, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202`."""
    extra = _marks(edited=accepted.edited, degraded=degraded)
    if accepted.lock_id:
        return {
            "success": True,
            "status": "ai_processing_started",
            "action": "interrupted" if accepted.interrupted else "lock_acquired",
            "ai_job_id": accepted.job_id,
            "lock_id": accepted.lock_id,
            "consolidated_messages": accepted.consolidated_messages,
            "bot_name": bot_name,
        } | extra
    body = {
        "success": True,
        "status": "locked",
        "action": "lock_exists",
        "message": "Message being processed by another request",
        "ai_job_id": accepted.job_id,
        "consolidated_messages": accepted.consolidated_messages,
    }
    return body | ({"duplicate": True} if accepted.duplicate else {}) | extra


def nothing_to_answer(*, kept: bool, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202` for a request that brings no words, or only words that were answered for another request.

    `kept`: whether there is an archive that keeps the message.
    """
    fate = "it is kept, and nothing answers it" if kept else "nothing answers it, and without Postgres it is not kept"
    return {
        "success": True,
        "status": "nothing_to_answer",
        "action": "stored",
        "message": f"The message has no words: {fate}",
        "ai_job_id": None,
        "consolidated_messages": 0,
    } | ({"degraded": True} if degraded else {})


def parked_response(parked: ParkResult, waiting: Sequence[str], *, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202` while a human answers. `waiting`: ids of messages that a tier has not handed over yet."""
    body = {
        "success": True,
        "status": "handed_off",
        "action": "stored",
        "message": "A human answers this conversation; the bot answers the waiting messages when it is resumed",
        "ai_job_id": None,
        "consolidated_messages": len({base_id(id_) for id_ in (*parked.message_ids, *waiting)}),
    }
    marks = _marks(edited=parked.edited, degraded=degraded)
    return body | ({"duplicate": True} if parked.duplicate else {}) | marks


def _marks(*, edited: bool, degraded: bool) -> dict[str, Any]:
    """The fields that a body has only if they are true."""
    return ({"edited": True} if edited else {}) | ({"degraded": True} if degraded else {})
