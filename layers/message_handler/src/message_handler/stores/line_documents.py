"""Lines as JSON documents: what the Postgres tier keeps of a conversation in one column."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

from message_handler.models import ConversationKey, Job, Progress
from message_handler.stores.documents import as_text, job_from_json, job_to_json, turns_to_json
from message_handler.stores.line import Ended, Hold, Line

#: Messages of ended jobs remembered per conversation; beyond it a duplicate costs a record, not an AI call.
ENDED_MAX = 500


def line_to_text(line: Line) -> str:
    """The line without its key, which its row has."""
    return as_text(
        {
            "bot_id": line.bot_id,
            "current": _live_job_to_json(line.current),
            "next": _live_job_to_json(line.next),
            "lock_id": line.lock_id,
            "acquired_at": line.acquired_at,
            "hold": astuple(line.hold) if line.hold else None,
            "progress": astuple(line.progress) if line.progress else None,
            "due_at": line.due_at,
            "wakes": line.wakes,
            "handed_off": line.handed_off,
            "posts": line.posts,
            "ended": {id_: astuple(was) for id_, was in list(line.ended.items())[-ENDED_MAX:]},
            "last": line.last,
        }
    )


def line_from_text(key: ConversationKey, text: str) -> Line:
    value = json.loads(text)
    last = value["last"]
    return Line(
        key,
        bot_id=value["bot_id"],
        current=job_from_json(value["current"]) if value["current"] else None,
        next=job_from_json(value["next"]) if value["next"] else None,
        lock_id=value["lock_id"],
        acquired_at=value["acquired_at"],
        hold=Hold(*value["hold"]) if value["hold"] else None,
        progress=Progress(*progress) if (progress := value.get("progress")) else None,
        due_at=value["due_at"],
        wakes=value["wakes"],
        handed_off=value.get("handed_off", False),
        posts=value["posts"],
        ended={id_: Ended(*was) for id_, was in value["ended"].items()},
        last=(last[0], tuple(last[1]), tuple(last[2])) if last else None,
    )


def _live_job_to_json(job: Job | None) -> dict[str, Any] | None:
    """A job in the making: with all that its run needs."""
    if job is None:
        return None
    return job_to_json(job) | {
        "messages": [message.to_json() for message in job.messages],
        "context": as_text(turns_to_json(job.context)),
        "resources": as_text(job.resources),
        "sealed": job.sealed,
        "maybe_committed": job.maybe_committed,
        "cancelled": job.cancelled,
        "ready_at": job.ready_at,
    }
