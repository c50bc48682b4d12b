"""What the API answers, as the functions write it. A field with a default is one that may be missing.

These models only describe: a patient doesn't wait for their import. That the functions keep to them, the tests see.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from message_handler.configuration import BotMetaData, CoreAIMetaData, PlatformMetaData

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Moment = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="RFC 3339 in UTC, to the millisecond.",
        examples=["2026-06-15T09:30:00.000Z"],
    ),
]
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


class Answer(BaseModel):
    """Has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


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


class JobError(Answer):
    """Why there is no reply; `code` is for programs, `notice` for the patient."""

    code: Text
    message: Text
    notice: str = ""


class Usage(Answer):
    """What the AI counted."""

    input_tokens: Count
    output_tokens: Count


class Job(Answer):
    """One answer in the making, or as it ended."""

    job_id: JobId
    conversation_id: Text
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    consolidated_messages: Count
    restarts: Count
    attempts: Count
    progress: Progress
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    reply: Reply | None
    error: JobError | None
    usage: Usage | None
    superseded_by: JobId | None


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


# Administration.


class Health(Answer):
    """Whether messages are taken."""

    status: Literal["up", "down"]


class Components(Answer):
    """How each part is."""

    redis_connected: bool
    database_connected: bool
    tier: Text
    lock_manager: Literal["healthy", "degraded"]
    job_manager: Literal["healthy", "degraded", "unhealthy"]
    queue: Text


class Status(Answer):
    """How the service is. Degraded: on a lower tier than configured, or without Postgres; said aloud."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: Components


class Lock(Answer):
    """A conversation's lock: no text, and no `lock_id`."""

    conversation_id: Text
    ai_job_id: JobId
    acquired_at: Moment
    heartbeat_at: Moment | None
    expires_at: Moment
    consolidated_messages: Count
    tier: Text


class Locks(Answer):
    """All locks of the tenant, oldest first."""

    locks: list[Lock]


class Released(Answer):
    """The lock is free, and what waited is answered by another worker."""

    released: Literal[True]


class Cleaned(Answer):
    """How many conversations were woken."""

    cleaned: Count


class DeadDelivery(Answer):
    """A delivery that was given up, without text."""

    webhook_id: Text
    conversation_id: Text
    job_id: JobId
    attempts: Count
    created_at: Moment
    last_error: Text


class DeadLetters(Answer):
    """The tenant's deliveries that were given up, and how many records of all tenants rest (null: nobody counts)."""

    deliveries: list[DeadDelivery]
    records: Count | None


class Redriven(Answer):
    """How many deliveries are tried for another day."""

    redriven: Count


class Bot(Answer):
    """A bot's record."""

    bot_id: Text
    platform_id: Text
    name: str
    description: str
    language: str
    is_active: bool
    core_ai_id: Text | None
    meta_data: BotMetaData


class Bots(Answer):
    """All bots of the tenant, by id."""

    bots: list[Bot]


class CoreAI(Answer):
    """An AI core's record; its token is shown as `***`."""

    core_ai_id: Text
    name: str
    api_endpoint: str
    auth_required: bool
    auth_token: Literal["***"] | None
    timeout_seconds: int | None
    meta_data: CoreAIMetaData


class CoreAIs(Answer):
    """All AI cores of the tenant, by id."""

    core_ai: list[CoreAI]


class Platform(Answer):
    """A platform's record; its secrets are shown as `***`."""

    platform_id: Text
    name: str
    description: str
    base_url: str | None
    auth_required: bool
    meta_data: PlatformMetaData


class Platforms(Answer):
    """The tenant's own platform."""

    platforms: list[Platform]


class Deleted(Answer):
    """The record is gone."""

    deleted: Literal[True]
