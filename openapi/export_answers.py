"""The answer to an export: one record for each stored thing, with its `kind`.

Times that Postgres writes have microseconds; all other times have milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from message_handler.domain.events import EventKind
from message_handler.domain.jobs import JobKind, JobStatus
from openapi.admin_answers import Next
from openapi.base import Answer, Count, JobId, Moment, Text, one_of
from openapi.declared import fields_of_job

StoredAt = Annotated[
    str,
    Field(
        pattern=r"^\d{4,}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?[+-]\d{2}:\d{2}$",
        description="RFC 3339, to the microsecond.",
        examples=["2026-06-15T09:30:00.123456+00:00"],
    ),
]


class ContextTurn(Answer):
    """A turn that a request sent as context."""

    role: Literal["user", "assistant", "sale"]
    content: str
    message_id: Text = ""


class ConversationRecord(Answer):
    """The conversation itself. `bot_id` is null before its first message is accepted: only a notice was given."""

    kind: Literal["conversation"]
    bot_id: Text | None
    handed_off: bool
    created_at: StoredAt
    updated_at: StoredAt


class TurnRecord(Answer):
    """An archived turn. `earlier`: the texts that edits have replaced, oldest first."""

    kind: Literal["turn"]
    role: Literal["user", "assistant", "sale"]
    content: str
    earlier: list[str]
    message_id: Text | None
    job_id: JobId | None
    created_at: StoredAt
    edited_at: StoredAt | None
    unsent_at: StoredAt | None


class JobRecord(fields_of_job("export")):  # type: ignore[misc]  # made of the declarations
    """An archived job."""

    kind: Literal["job"]
    job_kind: JobKind
    status: Literal["processing", "completed", "failed", "cancelled"]
    message_ids: list[Text]
    reply: str | None
    error_code: Text | None
    error_message: str | None
    error_notice: str | None
    input_tokens: Count | None
    output_tokens: Count | None
    correlation_id: str
    created_at: StoredAt
    started_at: StoredAt | None
    finished_at: StoredAt | None


class SettledRecord(Answer):
    """A message that is settled, and the job that settled it."""

    kind: Literal["settled"]
    message_id: Text
    job_id: JobId
    how: Literal["answered", "failed", "cancelled"]
    settled_at: StoredAt


class ParkedRecord(Answer):
    """A message that waits while a human answers."""

    kind: Literal["held"]
    message_id: Text
    content: str
    aliases: list[Text]
    context: list[ContextTurn]
    resources: dict[str, Any]
    job_id: JobId | None
    answered_by: JobId | None
    held_at: StoredAt


class DeliveryRecord(Answer):
    """A webhook delivery to the platform."""

    kind: Literal["delivery"]
    event: EventKind
    webhook_id: Text
    job_id: JobId
    message_ids: list[Text]
    status: Literal["pending", "delivered", "dead"]
    attempts: Count
    last_error: str | None
    created_at: StoredAt
    delivered_at: StoredAt | None


class RaisedRecord(Answer):
    """Danger that the rules have found. `job_id` is the job of its notice."""

    kind: Literal["raised"]
    job_id: JobId
    level: Text
    rule: Text
    rules_version: Text
    message_ids: list[Text]
    raised_at: StoredAt
    drill: bool
    delivered_at: StoredAt | None
    taken_by: Text | None
    taken_at: StoredAt | None
    closed_by: Text | None
    closed_at: StoredAt | None
    closed_why: str | None
    reminders: Count


class FindingRecord(Answer):
    """Danger that the rules have found in a message. `place` has the start and end of each matched word in its text."""

    kind: Literal["finding"]
    message_id: Text
    job_id: JobId
    level: Text
    rule: Text
    rules_version: Text
    place: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]
    found_at: StoredAt


class WaitingMessage(Answer):
    """A message that waits for its answer."""

    message_id: Text
    content: str
    aliases: list[Text]
    accepted_at: Moment


class WaitingRecord(Answer):
    """A job that waits or runs, as its tier stores it."""

    kind: Literal["waiting"]
    tier: Literal["redis", "postgres", "memory"]
    job_id: JobId
    bot_id: Text
    status: Annotated[str, one_of(JobStatus)]
    messages: list[WaitingMessage]
    context: list[ContextTurn]
    resources: dict[str, Any]
    created_at: Moment


Stored = Annotated[
    ConversationRecord
    | TurnRecord
    | JobRecord
    | SettledRecord
    | ParkedRecord
    | DeliveryRecord
    | RaisedRecord
    | FindingRecord
    | WaitingRecord,
    Field(discriminator="kind"),
]


class Export(Answer):
    """A page of all records of a conversation, in a fixed order."""

    conversation_id: Text
    records: list[Stored]
    next: Next
