"""The settings of one process, read once from the environment into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from message_handler.errors import SettingsError

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Everything that can be set; the environment variable is the name in capitals.

    Times are seconds unless the name says `_ms`. An empty variable counts as not set.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid")

    redis_url: SecretStr | None = None
    redis_password: SecretStr | None = None
    redis_timeout_ms: Annotated[int, Field(gt=0)] = 200
    redis_cluster: bool = False
    database_url: SecretStr | None = None
    database_timeout: Seconds = 2.0
    store_retry_after: Seconds = 5.0
    job_queue_url: str | None = None
    delivery_queue_url: str | None = None
    dead_letter_queue_url: str | None = None

    #: Whether callers of the API need an access token. Without, each is the tenant `default` with every scope.
    auth_required: bool = True

    #: Where requests may be sent: hosts, `*.example.com` for all below one, with a `:port` unless it is 443.
    egress_allowed_hosts: str = ""
    #: Development only: also to loopback addresses, and there without TLS.
    egress_allow_loopback: bool = False

    simulated_ai_delay_ms: Annotated[str, Field(pattern=r"^\d{1,7}(-\d{1,7})?$")] = "800"
    max_wait_seconds: Annotated[int, Field(ge=0, le=25)] = 25

    # Deadlines nest (each is smaller than the next): AI 30 < run 120 < lock 300 < visibility 720.
    ai_timeout: Seconds = 30.0
    run_seconds: Seconds = 120.0
    lock_ttl: Seconds = 300.0
    heartbeat_every: Seconds = 5.0
    heartbeat_stale: Seconds = 15.0
    job_ttl: Seconds = 3600.0
    join_delay: Annotated[int, Field(ge=0, le=900)] = 150
    max_restarts: Annotated[int, Field(ge=0)] = 3
    wake_after: Seconds = 60.0
    configuration_ttl: Seconds = 5.0

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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read `environment` (default: the process's). Raises SettingsError that names each bad variable."""
        source = os.environ if environment is None else environment
        values = {name: source[name.upper()] for name in cls.model_fields if source.get(name.upper())}
        if source.get("AWS_SAM_LOCAL") == "true":
            # Under `sam local` there is no queue: the variable holds the queue's name in the template.
            values = {name: value for name, value in values.items() if "queue" not in name or "://" in value}
            # It skips the authoriser, so that nobody's token has been looked at.
            values["auth_required"] = "false"
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise SettingsError(f"bad settings: {wrong}") from None

    def model_post_init(self, _context: object) -> None:
        low, _, high = self.simulated_ai_delay_ms.partition("-")
        if high and int(high) < int(low):
            raise SettingsError("bad settings: SIMULATED_AI_DELAY_MS: the range ends before it starts")


def _scheme(url: str) -> str:
    """The URL's scheme. Clients' own errors about the rest would quote a part of the password."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL; special characters in its password must be percent-encoded")
    return url.partition("://")[0]
