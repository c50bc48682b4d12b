"""Jobs as JSON: one codec writes and reads all places that a job's fields go to, by the declarations of `Job`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypedDict, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.jobs import Job, Place
from message_handler.domain.messages import Message

#: What is not in a row's document: what has a column, because statements compare it or order by it; and `unarchived`.
COLUMNS = frozenset({"job_id", "status", "unarchived", "superseded_by", "created_at", "started_at", "finished_at"})


def as_text(value: Any) -> str:
    """As JSON without blanks. (pydantic's own serializer takes a fifth of `json.dumps`' time.)"""
    return to_json(value).decode()


def from_text(text: str) -> Any:
    return from_json(text)


def turns_to_json(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [
        {"role": turn.role, "content": turn.content} | ({"message_id": turn.message_id} if turn.message_id else {})
        for turn in turns
    ]


def turns_from_json(values: list[dict[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(value["role"], value["content"], value.get("message_id")) for value in values)


def timestamp(seconds: float | None) -> str | None:
    """Unix seconds in UTC as RFC 3339 has it, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# By the declarations.


@cache
def declared(place: Place) -> tuple[Field[Any], ...]:
    """The fields of a job that go to a place."""
    return tuple(field for field in fields(Job) if place in field.metadata.get("places", ()))


@cache
def _codec() -> TypeAdapter[dict[str, Any]]:
    """Of all that goes anywhere. (pydantic looks at a whole `Job` for twice as long, in each start.)"""
    hints = get_type_hints(Job)
    named = {field.name: hints[field.name] for field in fields(Job) if field.metadata}
    return TypeAdapter(TypedDict("JobFields", named, total=False))  # type: ignore[operator]  # made of what was found


def job_fields(job: Job, place: Place, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What goes to a place, as JSON has it; without what is as its default."""
    said = {
        field.name: value
        for field in declared(place)
        if field.name not in without and (value := getattr(job, field.name)) != field.default
    }
    document: dict[str, Any] = _codec().dump_python(said, mode="json", exclude_defaults=True)
    return document


def job_of(key: ConversationKey, messages: Iterable[Message], value: dict[str, Any], **others: Any) -> Job:
    """The job of which `value` has fields; those that this version doesn't know are left out.

    Raises ValueError or TypeError for what is none of ours, which quote nothing of it.
    """
    try:
        said = _codec().validate_python(value)
    except ValidationError:
        raise ValueError("no job") from None
    return Job(key=key, messages=tuple(messages), **said | others)


def shown(job: Job, place: Place) -> dict[str, Any]:
    """What is shown of a job in an answer or an event: all fields that go there, times as RFC 3339 in UTC."""
    value = defaults(place) | job_fields(job, place)
    return {name: timestamp(it) if name.endswith("_at") else it for name, it in value.items()}


def defaults(place: Place) -> dict[str, Any]:
    """What a job that says nothing of them has for the fields of a place."""
    return {field.name: None if field.default is MISSING else field.default for field in declared(place)}


# The end of a job, as tiers remember it for an hour, archive records carry it, and rows of Postgres are read.


def job_to_json(job: Job) -> dict[str, Any]:
    """Without its messages' text, which has moved to the archive, unless it has not been archived."""
    return job_fields(job, "end") | {
        "platform_id": job.key.platform_id,
        "conversation_id": job.key.conversation_id,
        "messages": [
            m.to_json() if job.unarchived else {"message_id": m.message_id, "content": ""} for m in job.messages
        ],
    }


def job_from_json(value: dict[str, Any]) -> Job:
    """See `job_to_json`. Raises KeyError, TypeError or ValueError for what is none of ours."""
    messages = [Message.from_json(message) for message in value["messages"]]
    return job_of(ConversationKey(value["platform_id"], value["conversation_id"]), messages, value)


def job_document(job: Job) -> dict[str, Any]:
    """What a row of Postgres has no columns for."""
    return job_fields(job, "end", COLUMNS)
