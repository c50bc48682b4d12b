"""Jobs as JSON. One codec writes and reads each place that a job's fields go to, by the declarations in `Job`."""

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

#: Fields of a job's end that are not in the row's JSON document. They have columns, because SQL statements compare or
#: order by them. (`unarchived` has none: a row is archived. `findings` have a table.)
COLUMNS = frozenset(
    {"job_id", "kind", "status", "unarchived", "superseded_by", "created_at", "started_at", "finished_at", "findings"}
)


def as_text(value: Any) -> str:
    """The value as JSON without blanks. (pydantic's serializer takes a fifth of the time of `json.dumps`.)"""
    return to_json(value).decode()


def from_text(text: str) -> Any:
    """See `as_text`. Raises ValueError for text that is not JSON."""
    return from_json(text)


def turns_to_json(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [
        {"role": turn.role, "content": turn.content} | ({"message_id": turn.message_id} if turn.message_id else {})
        for turn in turns
    ]


def turns_from_json(values: list[dict[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(value["role"], value["content"], value.get("message_id")) for value in values)


def timestamp(seconds: float | None) -> str | None:
    """A time in Unix seconds as RFC 3339 text in UTC, with milliseconds; None for None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# What follows from the declarations in `Job`.


@cache
def declared(place: Place) -> tuple[Field[Any], ...]:
    """The fields of `Job` that are declared for a place."""
    return tuple(field for field in fields(Job) if place in field.metadata.get("places", ()))


@cache
def _codec() -> TypeAdapter[dict[str, Any]]:
    """Writes and reads all fields that are declared for any place.

    (An adapter for the whole of `Job` would take pydantic twice as long to build, at each cold start.)
    """
    hints = get_type_hints(Job)
    types = {field.name: hints[field.name] for field in fields(Job) if field.metadata}
    return TypeAdapter(TypedDict("JobFields", types, total=False))  # type: ignore[operator]  # its fields are computed


def job_fields(job: Job, place: Place, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a job for a place, as JSON values. Fields that have their default are left out."""
    values = {
        field.name: value
        for field in declared(place)
        if field.name not in without and (value := getattr(job, field.name)) != field.default
    }
    document: dict[str, Any] = _codec().dump_python(values, mode="json", exclude_defaults=True)
    return document


def job_of(key: ConversationKey, messages: Iterable[Message], value: dict[str, Any], **others: Any) -> Job:
    """The job whose fields `value` has as JSON, with `others` set directly. Unknown fields are ignored.

    Raises ValueError or TypeError if `value` is not a job. The error's text quotes nothing of it (invariant 11).
    """
    try:
        values = _codec().validate_python(value)
    except ValidationError:
        raise ValueError("not a job") from None
    return Job(key=key, messages=tuple(messages), **values | others)


def shown(job: Job, place: Place) -> dict[str, Any]:
    """A job as an answer or an event shows it: all fields of that place, with times as RFC 3339 text in UTC."""
    fields_shown = defaults(place) | job_fields(job, place)
    return {name: timestamp(value) if name.endswith("_at") else value for name, value in fields_shown.items()}


def defaults(place: Place) -> dict[str, Any]:
    """The default of each field of a place; None for a field without one."""
    return {field.name: None if field.default is MISSING else field.default for field in declared(place)}


# The end of a job. Tiers remember it for an hour, archive records carry it, and Postgres keeps it in a row.


def job_to_json(job: Job) -> dict[str, Any]:
    """A job's end as JSON, without its messages' text: the archive has it. Only an `unarchived` job keeps it."""
    return job_fields(job, "end") | {
        "platform_id": job.key.platform_id,
        "conversation_id": job.key.conversation_id,
        "messages": [
            m.to_json() if job.unarchived else {"message_id": m.message_id, "content": ""} for m in job.messages
        ],
    }


def job_from_json(value: dict[str, Any]) -> Job:
    """See `job_to_json`. Raises KeyError, TypeError or ValueError if `value` is not a job's end."""
    messages = [Message.from_json(message) for message in value["messages"]]
    return job_of(ConversationKey(value["platform_id"], value["conversation_id"]), messages, value)


def job_document(job: Job) -> dict[str, Any]:
    """The fields of a job's end that go into its row's JSON document: those without a column."""
    return job_fields(job, "end", COLUMNS)
