"""What operators are answered: how the service is, what is under way, what was done, and what is configured.

As in `openapi.answers`, a field with a default is one that may be missing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from message_handler.configuration.records import BotMetaData, CoreAIMetaData, PlatformMetaData
from message_handler.http.lists import AUDITED, JOB_STATUSES
from openapi.base import Answer, Count, JobId, Moment, Text, one_of
from openapi.declared import fields_of_job

Seconds = Annotated[float, Field(ge=0)]
Next = Annotated[str | None, Field(description="What the request for the following page takes; null on the last one.")]


class Health(Answer):
    """Whether messages are taken."""

    status: Literal["up", "down"]


class SignIn(Answer):
    """Where people sign in, and the client that they do it with: authorization code with PKCE."""

    authorize_url: Text
    token_url: Text
    logout_url: Text
    client_id: Text
    scopes: list[Text]


class PastedToken(Answer):
    """A token is wanted, and is got elsewhere."""

    paste: Literal[True]


class ConsoleSettings(Answer):
    """How one signs in; null where nobody needs a token. `outages`: the host can stop its parts, to try it.

    A worker that is silent for longer than `stale_seconds` loses its claim; what waits for one longer than
    `wake_seconds` is woken.
    """

    sign_in: SignIn | PastedToken | None
    outages: bool
    stale_seconds: Seconds
    wake_seconds: Seconds


class Components(Answer):
    """How each part is."""

    redis_connected: bool
    database_connected: bool
    tier: Text
    lock_manager: Literal["healthy", "degraded"]
    job_manager: Literal["healthy", "degraded", "unhealthy"]
    queue: Text


class QueueDepth(Answer):
    """About how many records there are, of all tenants; null where that is unknown."""

    visible: Count | None
    in_flight: Count | None
    delayed: Count | None
    dead_letters: Count | None


class WorkerStatus(Answer):
    """Whether somebody answers the tenant's patients. `silent`: they wait in vain. `unknown`: no tier answers."""

    state: Literal["idle", "ok", "silent", "unknown"]
    running: Count | None
    waiting: Count | None
    oldest_waiting_at: Moment | None
    last_heartbeat_at: Moment | None
    last_finished_at: Moment | None


class Status(Answer):
    """How the service is. Degraded: on a lower tier than configured, or without Postgres; said aloud."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: Components
    tiers: Annotated[
        dict[Literal["redis", "postgres", "memory"], Literal["up", "away", "read_only"]],
        Field(min_length=1, description="How each is, the best first. `read_only`: it reads, and refuses writes."),
    ]
    reasons: dict[Literal["redis", "postgres", "memory"], Text] = Field(
        default_factory=dict, description="Why each that isn't up isn't; missing where all are."
    )
    queue: QueueDepth
    worker: WorkerStatus


class Minute(Answer):
    """What came and went of the tenant's jobs in the minute that begins `at`; seconds are of those completed in it."""

    at: Moment
    created: Count
    completed: Count
    failed: Count
    cancelled: Count
    median_seconds: Seconds | None
    p95_seconds: Seconds | None


class Statistics(Answer):
    """The last minutes, oldest first, the one under way among them."""

    minutes: list[Minute]


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


class JobSummary(fields_of_job("list")):  # type: ignore[misc]  # made of the declarations
    """A job as it is listed, without text."""

    conversation_id: Text
    status: Annotated[str, one_of(JOB_STATUSES)]
    consolidated_messages: Count
    error_code: Text | None


class Jobs(Answer):
    """A page of the tenant's jobs, the newest first."""

    jobs: list[JobSummary]
    next: Next


class Retried(Answer):
    """Another job, `ai_job_id`, answers what the failed one did not; null while a human answers."""

    job_id: JobId
    conversation_id: Text
    status: Literal["retried", "handed_off"]
    ai_job_id: JobId | None


class AuditEntry(Answer):
    """What somebody did. `before` and `after` are records without their secrets."""

    id: Annotated[int, Field(ge=1)]
    at: Moment
    actor: Annotated[str, Field(min_length=1, description="`client:…` or `user:…`, as the token says.")]
    action: Text
    kind: Annotated[str, one_of(AUDITED)]
    record_id: Text
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditEntries(Answer):
    """A page of what was done in the tenant, the newest first."""

    entries: list[AuditEntry]
    next: Next


class Erased(Answer):
    """The conversation is gone everywhere, and what is under way brings nothing back."""

    erased: Literal[True]


class DeadDelivery(Answer):
    """A delivery that was given up, without text."""

    webhook_id: Text
    conversation_id: Text
    job_id: JobId
    attempts: Count
    created_at: Moment
    last_error: Text


class DeadLetters(Answer):
    """The tenant's deliveries that were given up."""

    deliveries: list[DeadDelivery]


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
