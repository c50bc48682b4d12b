"""Ended jobs as JSON documents: what tiers keep of them, and archive records carry."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic_core import from_json, to_json

from message_handler.models import ConversationKey, Job, JobError, JobStatus, Message, Turn, Usage


def turns_to_json(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [
        {"role": turn.role, "content": turn.content} | ({"message_id": turn.message_id} if turn.message_id else {})
        for turn in turns
    ]


def turns_from_json(values: list[dict[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(value["role"], value["content"], value.get("message_id")) for value in values)


def as_text(value: Any) -> str:
    """As JSON without blanks. (pydantic's own serializer takes a fifth of `json.dumps`' time.)"""
    return to_json(value).decode()


def from_text(text: str) -> Any:
    return from_json(text)


def job_to_json(job: Job) -> dict[str, Any]:
    """The end of a job as it is remembered for an hour; its messages' text has moved to the archive, or will."""
    return {
        "job_id": job.job_id,
        "platform_id": job.key.platform_id,
        "conversation_id": job.key.conversation_id,
        "status": job.status.value,
        "bot_id": job.bot_id,
        "messages": [
            m.to_json() if job.unarchived else {"message_id": m.message_id, "content": ""} for m in job.messages
        ],
        "restarts": job.restarts,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "reply": job.reply,
        "error": asdict(job.error) if job.error else None,
        "usage": asdict(job.usage) if job.usage else None,
        "correlation_id": job.correlation_id,
        "superseded_by": job.superseded_by,
    } | ({"unarchived": True} if job.unarchived else {})


def job_from_json(value: dict[str, Any]) -> Job:
    error, usage = value.get("error"), value.get("usage")
    return Job(
        job_id=value["job_id"],
        key=ConversationKey(value["platform_id"], value["conversation_id"]),
        status=JobStatus(value["status"]),
        messages=tuple(Message.from_json(message) for message in value["messages"]),
        bot_id=value["bot_id"],
        restarts=value.get("restarts", 0),
        attempts=value.get("attempts", 0),
        unarchived=value.get("unarchived", False),
        created_at=value["created_at"],
        started_at=value.get("started_at"),
        finished_at=value.get("finished_at"),
        reply=value.get("reply"),
        error=JobError(error["code"], error["message"], error.get("notice")) if error else None,
        usage=Usage(**usage) if usage else None,
        correlation_id=value.get("correlation_id", ""),
        superseded_by=value.get("superseded_by"),
    )
