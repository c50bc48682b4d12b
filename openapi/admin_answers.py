"""The answers to operators: state, jobs, audit and configuration. A field with a default may be missing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from message_handler.configuration import safety_rules
from message_handler.configuration.records import BotMetaData, CoreAIMetaData, PlatformMetaData
from message_handler.configuration.safety_rules import ReviewState
from message_handler.domain.events import EventKind
from message_handler.domain.safety_report import WAYS
from message_handler.http.lists import AUDITED, JOB_STATUSES, LEVELS, RAISED_STATES
from openapi.base import Answer, Count, JobId, Moment, Text, one_of
from openapi.declared import fields_of_job

Seconds = Annotated[float, Field(ge=0)]
Next = Annotated[str | None, Field(description="Send this to get the next page; null on the last page.")]


class Health(Answer):
    """Whether messages are accepted."""

    status: Literal["up", "down"]


class SignIn(Answer):
    """Where people sign in, and with which client: authorization code with PKCE."""

    authorize_url: Text
    token_url: Text
    revoke_url: Text
    logout_url: Text
    client_id: Text
    scopes: list[Text]


class PastedToken(Answer):
    """A token is needed; the operator pastes one that was issued elsewhere."""

    paste: Literal[True]


class ConsoleSettings(Answer):
    """How operators sign in; `sign_in` is null if no token is needed. `outages`: the host can stop its own parts.

    The page signs its operator out after `idle_seconds` without a touch.

    A worker that is silent for longer than `stale_seconds` loses its lease. A job that waits for a worker for longer
    than `wake_seconds` is woken.
    """

    sign_in: SignIn | PastedToken | None
    outages: bool
    idle_seconds: Count
    stale_seconds: Seconds
    wake_seconds: Seconds


class Components(Answer):
    """The state of each part."""

    redis_connected: bool
    database_connected: bool
    tier: Text
    lock_manager: Literal["healthy", "degraded"]
    job_manager: Literal["healthy", "degraded", "unhealthy"]
    queue: Text


class QueueDepth(Answer):
    """Roughly how many records there are, of all tenants; null if that is unknown."""

    visible: Count | None
    in_flight: Count | None
    delayed: Count | None
    dead_letters: Count | None


class WorkerStatus(Answer):
    """Whether workers answer the tenant's patients. `silent`: messages wait too long. `unknown`: no tier answers."""

    state: Literal["idle", "ok", "silent", "unknown"]
    running: Count | None
    waiting: Count | None
    oldest_waiting_at: Moment | None
    last_heartbeat_at: Moment | None
    last_finished_at: Moment | None


class OldReview(Answer):
    """Emergency contacts that were last reviewed more than a year ago."""

    country: Text
    reviewed_at: Text


class RulesInForce(Answer):
    """The safety rules that the tenant's messages are checked with.

    `review`: whether a clinician's review holds for this version of the rules. `old`: it is more than a year ago.
    `not_applicable`: the ids of shipped rules that an operator has declared so. `refused`: the languages of own rules
    that this release refuses or has not compiled yet; they do not count.
    """

    rules_version: Text
    languages: list[Text]
    review: ReviewState
    not_applicable: list[Text]
    refused: list[Text]


class SafetyState(Answer):
    """What the tenant's configuration lacks for patients in danger.

    `without_contacts`: the ids of active bots without emergency contacts for their country.
    """

    without_contacts: list[Text]
    old_reviews: list[OldReview]
    rules: RulesInForce


class ShippedRule(Answer):
    """A rule of the product. `not_applicable`: why an operator has declared that it does not apply, else null."""

    id: Text
    language: Text
    level: Literal["emergency", "crisis", "urgent"]
    about: Text
    source: Text | None
    reviewed_by: Text | None
    reviewed_at: Text | None
    not_applicable: Text | None


class ShippedRules(Answer):
    """The rules of the product, before an operator's changes."""

    rules_version: Text
    languages: list[Text]
    rules: list[ShippedRule]


class SafetySettings(safety_rules.SafetyRules):
    """What the tenant has written about the safety rules: the body of the last write."""


class SafetyRulesShown(Answer):
    """The safety rules: what the tenant has written, what is in force, and what the product brings."""

    settings: SafetySettings
    in_force: RulesInForce
    shipped: ShippedRules


class Status(Answer):
    """The state of the service. `degraded`: it works on a lower tier than configured, or without Postgres."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: Components
    tiers: Annotated[
        dict[Literal["redis", "postgres", "memory"], Literal["up", "away", "read_only"]],
        Field(
            min_length=1,
            description="The state of each tier, the best first. `read_only`: it reads but refuses writes.",
        ),
    ]
    reasons: dict[Literal["redis", "postgres", "memory"], Text] = Field(
        default_factory=dict, description="For each tier that is not up: the reason. Missing if all are up."
    )
    queue: QueueDepth
    worker: WorkerStatus
    safety: SafetyState | None = Field(description="Null while Postgres is away.")


class Minute(Answer):
    """The tenant's jobs in the minute that begins `at`, and how long the jobs that were completed in it took."""

    at: Moment
    created: Count
    completed: Count
    failed: Count
    cancelled: Count
    median_seconds: Seconds | None
    p95_seconds: Seconds | None


class Statistics(Answer):
    """The last minutes, oldest first; the last one is the current minute."""

    minutes: list[Minute]


class Lock(Answer):
    """A conversation's lock, without text and without its `lock_id`."""

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
    """The lock was released. Another worker answers the messages that wait."""

    released: Literal[True]


class Cleaned(Answer):
    """How many conversations were woken."""

    cleaned: Count


class JobSummary(fields_of_job("list")):  # type: ignore[misc]  # made of the declarations
    """A job in a list, without text."""

    conversation_id: Text
    status: Annotated[str, one_of(JOB_STATUSES)]
    consolidated_messages: Count
    error_code: Text | None


class Jobs(Answer):
    """A page of the tenant's jobs, newest first."""

    jobs: list[JobSummary]
    next: Next


class Retried(Answer):
    """The job `ai_job_id` answers the messages of the failed one; null while a human answers."""

    job_id: JobId
    conversation_id: Text
    status: Literal["retried", "handed_off"]
    ai_job_id: JobId | None


class AuditEntry(Answer):
    """One action of an operator. `before` and `after` hold the record, without its secrets."""

    id: Annotated[int, Field(ge=1)]
    at: Moment
    actor: Annotated[str, Field(min_length=1, description="`client:…` or `user:…`, from the token.")]
    action: Text
    kind: Annotated[str, one_of(AUDITED)]
    record_id: Text
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditEntries(Answer):
    """A page of the tenant's audit, newest first."""

    entries: list[AuditEntry]
    next: Next


class RaisedConversation(Answer):
    """A conversation in which danger was found, and who cares for its patient. `job_id` is the job of its notice.

    `delivered_at`: when the platform first answered the webhook. `closed_why` is the operator's own word. `drill`: an
    operator has raised it, and no patient is in danger.
    """

    job_id: JobId
    conversation_id: Text
    state: Annotated[str, one_of(RAISED_STATES)]
    level: Annotated[str, one_of(LEVELS)]
    rule: Text
    rules_version: Text
    drill: bool
    raised_at: Moment
    delivered_at: Moment | None
    taken_by: Text | None
    taken_at: Moment | None
    closed_by: Text | None
    closed_at: Moment | None
    closed_why: Text | None
    reminders: Count


class RaisedConversations(Answer):
    """A page of the tenant's raised conversations, newest first."""

    raised: list[RaisedConversation]
    next: Next


class ReportRow(Answer):
    """How often danger was found under one name, and how much of it was delivered, taken and closed, and how soon.

    Urgent danger raises no conversation: it counts as `raised` in each message, and nothing follows it.

    `name` is null in the row for all. The language is that of the rule. Seconds are null without any.
    """

    by: Annotated[str, one_of(WAYS)]
    name: Text | None
    raised: Count
    delivered: Count
    delivered_median_seconds: Seconds | None
    delivered_p95_seconds: Seconds | None
    taken: Count
    taken_median_seconds: Seconds | None
    taken_p95_seconds: Seconds | None
    closed: Count
    closed_median_seconds: Seconds | None
    closed_p95_seconds: Seconds | None


class SafetyReport(Answer):
    """What was raised from the day `from` to the day `to`, in UTC. `rows` leave out the `drills`."""

    from_: Annotated[str, Field(alias="from", json_schema_extra={"format": "date"})]
    to: Annotated[str, Field(json_schema_extra={"format": "date"})]
    drills: Count
    rows: list[ReportRow]


class Erased(Answer):
    """The conversation was erased from every store. Work that still runs for it commits nothing."""

    erased: Literal[True]


class DeadDelivery(Answer):
    """A webhook delivery that was given up, without text."""

    webhook_id: Text
    event: EventKind
    conversation_id: Text
    job_id: JobId
    attempts: Count
    created_at: Moment
    last_error: Text


class DeadLetters(Answer):
    """The tenant's webhook deliveries that were given up."""

    deliveries: list[DeadDelivery]


class Redriven(Answer):
    """How many deliveries are tried again, for another day."""

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
    """An AI core's record. Its token is shown as `***`."""

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
    """A platform's record. Its secrets are shown as `***`."""

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
    """The record was deleted."""

    deleted: Literal[True]
