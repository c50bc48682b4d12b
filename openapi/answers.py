"""The answers to platforms. A field with a default may be missing.

The functions do not import these models, because a patient would wait for it. Tests compare each answer with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from openapi.base import Answer, Count, JobId, Moment, Text, absent
from openapi.declared import fields_of_job


class Safety(Answer):
    """Danger that the rules found in the patient's messages. Show `notice` to the patient at once, whatever the status.

    `notice_job_id` names the job that keeps the notice: one for a conversation, a level and an hour. It is null for
    `urgent`: that notice is also added to the reply.
    """

    level: Literal["emergency", "crisis", "urgent"]
    rule: Text
    notice: Text
    notice_job_id: JobId | None


class Problem(Answer):
    """An error (RFC 9457). `field` names the wrong field, never its value."""

    type: Literal["about:blank"]
    title: Text
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Text
    field: Text = ""
    safety: Safety = absent()


# Answers to a message.


class Taken(Answer):
    """The conversation was free: a new job answers the message. `edited`: it is an edit of a known message."""

    success: Literal[True]
    status: Literal["ai_processing_started"]
    action: Literal["lock_acquired", "interrupted"]
    ai_job_id: JobId
    lock_id: Text
    consolidated_messages: Count
    bot_name: Text
    edited: Literal[True] = True
    degraded: Literal[True] = True
    safety: Safety = absent()


class Joined(Answer):
    """The message joined a job that runs or waits: that job answers it too.

    `duplicate`: it had been accepted before, with the same words. `edited`: it is an edit of a known message.
    """

    success: Literal[True]
    status: Literal["locked"]
    action: Literal["lock_exists"]
    message: Text
    ai_job_id: JobId
    consolidated_messages: Count
    duplicate: Literal[True] = True
    edited: Literal[True] = True
    degraded: Literal[True] = True
    safety: Safety = absent()


class Parked(Answer):
    """A human answers the conversation: the message waits until the conversation is resumed.

    `duplicate`: it had been accepted before, with the same words. `edited`: it is an edit of a known message.
    """

    success: Literal[True]
    status: Literal["handed_off"]
    action: Literal["stored"]
    message: Text
    ai_job_id: None
    consolidated_messages: Count
    duplicate: Literal[True] = True
    edited: Literal[True] = True
    degraded: Literal[True] = True
    safety: Safety = absent()


class NothingToAnswer(Answer):
    """The message has no words, and no message before it needs an answer. It is kept; no job answers it."""

    success: Literal[True]
    status: Literal["nothing_to_answer"]
    action: Literal["stored"]
    message: Text
    ai_job_id: None
    consolidated_messages: Literal[0]
    degraded: Literal[True] = True
    safety: Safety = absent()


class Rejection(Answer):
    """The bot accepts no message while it answers another one. Nothing was stored."""

    success: Literal[False]
    status: Literal["locked"]
    action: Literal["rejected"]
    message: Text
    ai_job_id: JobId
    safety: Safety = absent()


# Jobs and conversations.


class Reply(Answer):
    """The reply to the patient."""

    role: Literal["assistant"]
    content: str


class Progress(Answer):
    """The progress of a running job. `text` is present if the bot has `show_partial_reply`."""

    state: Text
    seconds: Annotated[float, Field(ge=0)]
    characters: Count
    text: str = ""


class JobMessage(Answer):
    """A message that was promised this job. `job_id` is the job in which it waits or has ended."""

    message_id: Text
    status: Literal["pending", "processing", "answered", "failed", "cancelled"]
    job_id: JobId


class Job(fields_of_job("view")):  # type: ignore[misc]  # made of the declarations
    """One answer to one or more messages: in progress, or as it ended.

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
    """One utterance of a patient (`user`), the bot (`assistant`) or a human colleague (`sale`).

    `edited_at`: the words are those of an edit of that time. `unsent_at`: the patient has taken the message back, and
    no later context has it.
    """

    role: Literal["user", "assistant", "sale"]
    content: str
    message_id: Text | None
    created_at: Moment
    edited_at: Moment | None
    unsent_at: Moment | None
    job_id: JobId | None


class Pending(Answer):
    """The messages that wait for an answer. The job `job_id` answers them. It is null while a human answers."""

    job_id: JobId | None
    consolidated_messages: Count


class Conversation(Answer):
    """The archived turns, oldest first, and the messages that wait for an answer."""

    conversation_id: Text
    bot_id: Text | None
    status: Literal["active", "handed_off"]
    turns: list[Turn]
    pending: Pending | None


class Unsent(Answer):
    """The message was taken back: no reply answers it."""

    conversation_id: Text
    message_id: Text
    status: Literal["unsent"]


class Handoff(Answer):
    """Who answers now: the bot (`active`) or a human (`handed_off`). `ai_job_id` answers the messages that waited."""

    conversation_id: Text
    status: Literal["active", "handed_off"]
    ai_job_id: JobId | None
