"""The settings of a process, read once from its environment into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from message_handler.domain.errors import SettingsError
from message_handler.domain.identifiers import is_arn
from message_handler.domain.validation import MAX_DEBOUNCE_MS

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """All settings. The environment variable of a setting is its name in capitals.

    Times are in seconds, or in milliseconds if the name ends with `_ms`. An empty variable counts as not set.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid")

    redis_url: SecretStr | None = None
    redis_password: SecretStr | None = None
    redis_timeout_ms: Annotated[int, Field(gt=0)] = 200
    redis_cluster: bool = False
    #: Instead of a password: a secret's ARN, or the id of the replication group that this user may enter with IAM.
    redis_secret_arn: str | None = None
    redis_iam_cache: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] | None = None
    database_url: SecretStr | None = None
    database_secret_arn: str | None = None
    database_iam: bool = False
    database_timeout: Seconds = 2.0
    store_retry_after: Seconds = 5.0
    #: How long a record waits for a store that is away. It waits four times as long after each further receive.
    store_back_off: Seconds = 16.0
    job_queue_url: str | None = None
    delivery_queue_url: str | None = None
    dead_letter_queue_url: str | None = None

    #: Whether callers of the API need an access token. If not, each is the tenant `default` with every scope.
    auth_required: bool = True

    #: The hosts to which requests may be sent, `*.example.com` for all below one, with a `:port` unless it is 443.
    egress_allowed_hosts: str = ""
    #: Development only: requests may be sent to loopback addresses too, and there without TLS.
    egress_allow_loopback: bool = False

    #: The beginning of the names of all secrets that configuration may use. A tenant's id and a slash follow.
    secrets_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9/_+=.@-]+$")] = "message-handler/"
    #: The beginning of the ARNs of all those secrets, which names an account and a region. Empty: of any.
    secrets_arn_prefix: str = ""
    #: Development only: tokens and webhook secrets may be written out in the configuration.
    allow_literal_secrets: bool = False
    #: Whether an active bot needs emergency contacts for its country, and a disclosure.
    require_safety: bool = False
    #: Minutes without a touch until the console signs its operator out.
    console_idle_minutes: Annotated[int, Field(ge=1, le=720)] = 15
    #: Development only: the local host can stop its stores and workers, and the console offers that.
    local_outages: bool = False

    #: Whether the simulated AI answers patients. If not, a bot without another AI gives its failure notice.
    simulated_ai: bool = True
    simulated_ai_delay_ms: Annotated[str, Field(pattern=r"^\d{1,7}(-\d{1,7})?$")] = "800"
    max_wait_seconds: Annotated[int, Field(ge=0, le=25)] = 25
    #: How many messages a minute a tenant may send that has no limit of its own. 0: any number.
    rate_limit_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    #: How many clients may wait for a job with `?wait=` at the same time: those of one tenant, and all.
    max_waits_per_tenant: Annotated[int, Field(ge=0)] = 20
    max_waits: Annotated[int, Field(ge=0)] = 80

    # Deadlines nest, each smaller than the next: AI 30 < run 120 < lock 300 < the queue's own visibility 720.
    # So do signs of life: heartbeat every 2 < stale after 8 < a received record's hiding time 10 (see Hiding).
    ai_timeout: Seconds = 30.0
    run_seconds: Seconds = 120.0
    lock_ttl: Seconds = 300.0
    heartbeat_every: Seconds = 2.0
    heartbeat_stale: Seconds = 8.0
    job_ttl: Seconds = 3600.0
    join_delay: Annotated[int, Field(ge=0, le=900)] = 150
    max_restarts: Annotated[int, Field(ge=0)] = 3
    #: The most messages of one conversation that may wait for an answer. A request that would exceed it gets a 429.
    max_waiting: Annotated[int, Field(ge=1)] = 1_000
    #: The most turns of a request that are looked at, and the most human turns (SALE): the newest. A request may bring
    #: up to 1,000 unanswered messages, and all of them must be seen.
    history_turns: Annotated[int, Field(gt=1_000)] = 2_000
    human_turns: Annotated[int, Field(ge=1)] = 200
    #: How long a message may wait before the sweep wakes it. It is shorter than the minute between two sweeps, so a
    #: message that no worker came for is answered within two minutes.
    wake_after: Seconds = 50.0
    #: How long a patient must be quiet before the AI is asked, unless the bot or the request says otherwise.
    debounce_ms: Annotated[int, Field(ge=0, le=MAX_DEBOUNCE_MS)] = 500
    configuration_ttl: Seconds = 5.0
    #: Minutes until a raised conversation that no person takes is overdue, and its platform reminded. 0: never.
    safety_remind_minutes: Annotated[int, Field(ge=0, le=1440)] = 10

    # Days; 0 means for ever. A conversation must stay longer than any of its records may be in a queue.
    retention_conversations_days: Annotated[int, Field(ge=0, le=36_500)] = 3653
    retention_delivered_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    retention_dead_days: Annotated[int, Field(ge=0, le=36_500)] = 90
    retention_audit_days: Annotated[int, Field(ge=0, le=36_500)] = 2557

    @field_validator("retention_conversations_days")
    @classmethod
    def _longer_than_records(cls, value: int) -> int:
        if 0 < value < 30:
            raise ValueError("must be at least 30, or 0 for ever")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value and _scheme(value.get_secret_value()) not in ("redis", "rediss"):
            raise ValueError("must start with redis:// or rediss://")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value and _scheme(value.get_secret_value()).split("+")[0] not in ("postgresql", "postgres"):
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("job_queue_url", "delivery_queue_url", "dead_letter_queue_url")
    @classmethod
    def _queue_scheme(cls, value: str | None) -> str | None:
        if value and _scheme(value) not in ("https", "http"):
            raise ValueError("must start with https://")
        return value

    @field_validator("redis_secret_arn", "database_secret_arn")
    @classmethod
    def _names_a_secret(cls, value: str | None) -> str | None:
        if value and not is_arn(value):
            raise ValueError("must be the ARN of a secret in Secrets Manager")
        return value

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read `environment` (default: the process's own). Raises SettingsError, which names each bad variable."""
        source = os.environ if environment is None else environment
        values = {name: source[name.upper()] for name in cls.model_fields if source.get(name.upper())}
        if source.get("AWS_SAM_LOCAL") == "true":
            # `sam local` has no queue: the variable holds the queue's name in the template instead of a URL.
            values = {name: value for name, value in values.items() if "queue" not in name or "://" in value}
            # `sam local` skips the authoriser, so no token has been verified.
            values["auth_required"] = "false"
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = {str(found["loc"][0]): found["msg"] for found in error.errors()}
        problems = [f"{name.upper()}: {problem}" for name, problem in wrong.items()]
        try:
            cls.model_validate({name: value for name, value in values.items() if name not in wrong})
        except SettingsError as error:
            problems.append(str(error))
        raise SettingsError.of(problems)

    def model_post_init(self, _context: object) -> None:
        if problems := list(self._contradictions()):
            raise SettingsError.of(problems)

    def _contradictions(self) -> Iterator[str]:
        low, _, high = self.simulated_ai_delay_ms.partition("-")
        if high and int(high) < int(low):
            yield "SIMULATED_AI_DELAY_MS: the range must not end before it begins"
        redis: dict[str, object] = {"REDIS_SECRET_ARN": self.redis_secret_arn, "REDIS_IAM_CACHE": self.redis_iam_cache}
        ways = {"REDIS_PASSWORD": self.redis_password} | redis
        yield from _login_problems("REDIS_URL", self.redis_url, ways, "REDIS_IAM_CACHE")
        database = {"DATABASE_SECRET_ARN": self.database_secret_arn, "DATABASE_IAM": self.database_iam}
        yield from _login_problems("DATABASE_URL", self.database_url, database, "DATABASE_IAM")
        if self.redis_iam_cache and self.redis_url and _scheme(self.redis_url.get_secret_value()) != "rediss":
            yield "REDIS_URL must start with rediss://, because of REDIS_IAM_CACHE"


def _login_problems(name: str, url: SecretStr | None, ways: Mapping[str, object], iam: str) -> Iterator[str]:
    """Two settings that say how to log in at one store, and IAM without a user name."""
    parts = urlsplit(url.get_secret_value() if url else "")
    given = [way for way, value in ways.items() if value]
    if parts.password and given and given != ["REDIS_PASSWORD"]:
        given.append(f"the password in {name}")
    if len(given) > 1:
        yield f"{' and '.join(given)}: set only one of them to log in"
    if url and iam in given and not parts.username:
        yield f"{name} must contain a user name, because of {iam}"


def _scheme(url: str) -> str:
    """The URL's scheme. Raises ValueError here, because a client's own error would quote a part of the password."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL; special characters in its password must be percent-encoded")
    return url.partition("://")[0]
