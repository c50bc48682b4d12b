"""What platforms are answered, as the functions write it. A field with a default is one that may be missing.

These models only describe: a patient doesn't wait for their import. That the functions keep to them, the tests see.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from openapi.base import Answer, Count, JobId, Moment, Text
from openapi.declared import fields_of_job


class Problem(Answer):
    """An error (RFC 9457). `field` names what is to be mended, never its value."""

    type: Literal["about:blank"]
    title: Text
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Text
    field: Text = ""


# A message.


class Taken(Answer):
    """The conversation was free: a job was made for the message."""

    success: Literal[True]
    status: Literal["ai_processing_started"]
    action: Literal["lock_acquired", "interrupted"]
    ai_job_id: JobId
    lock_id: Text
    consolidated_messages: Count
    bot_name: Text
    degraded: Literal[True] = True


class Joined(Answer):
    """A job that is under way or waits answers the message too."""

    success: Literal[True]
    status: Literal["locked"]
    action: Literal["lock_exists"]
    message: Text
    ai_job_id: JobId
    consolidated_messages: Count
    duplicate: Literal[True] = True
    degraded: Literal[True] = True


class Held(Answer):
    """A human answers the conversation: the message waits until it is handed back."""

    success: Literal[True]
    status: Literal["handed_off"]
    action: Literal["stored"]
    message: Text
    ai_job_id: None
    consolidated_messages: Count
    duplicate: Literal[True] = True
    degraded: Literal[True] = True


class Rejection(Answer):
    """The bot takes no message while it answers another: nothing was stored."""

    success: Literal[False]
    status: Literal["locked"]
    action: Literal["rejected"]
    message: Text
    ai_job_id: JobId


# A job and a conversation.


class Reply(Answer):
    """What the patient is told."""

    role: Literal["assistant"]
    content: str


class Progress(Answer):
    """How far the job is; `text` is there where the bot shows its reply while it is written."""

    state: Text
    seconds: Annotated[float, Field(ge=0)]
    characters: Count
    text: str = ""


class JobMessage(Answer):
    """A message that was promised the job, and the job in which it waits or has ended."""

    message_id: Text
    status: Literal["pending", "processing", "answered", "failed", "cancelled"]
    job_id: JobId


class Job(fields_of_job("view")):  # type: ignore[misc]  # made of the declarations
    """One answer in the making, or as it ended.

    `degraded`: Postgres could not be asked. The job or a message may have ended already.
    """

    conversation_id: Text
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    consolidated_messages: Count
    messages: list[JobMessage]
    answered_by: JobId | None
    progress: Progress
    reply: Reply | None
    degraded: Literal[True] = True


class Turn(Answer):
    """What was said, by a patient, the bot or a human colleague."""

    role: Literal["user", "assistant", "sale"]
    content: str
    created_at: Moment
    job_id: JobId | None


class Pending(Answer):
    """What waits for an answer: of a job, or of a human."""

    job_id: JobId | None
    consolidated_messages: Count


class Conversation(Answer):
    """The archived turns, oldest first, and what is pending."""

    conversation_id: Text
    bot_id: Text | None
    status: Literal["active", "handed_off"]
    turns: list[Turn]
    pending: Pending | None


class Handoff(Answer):
    """Who answers now. `ai_job_id`: the job for what waited, if anything did."""

    conversation_id: Text
    status: Literal["active", "handed_off"]
    ai_job_id: JobId | None
