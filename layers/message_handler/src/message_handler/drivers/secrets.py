"""Secrets, kept in AWS Secrets Manager and named by their ARN. Only in development one may be written out instead.

message-handler/acme/openai     may be named by the tenant acme and by nobody else
└ SECRETS_PREFIX ┘└ platform_id/
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from message_handler.domain.errors import SecretRefused, Unavailable
from message_handler.domain.identifiers import SECRET_ARN, is_arn
from message_handler.drivers import aws

#: How long a value is taken for what it is there, so that a rotated one is seen.
_FRESH_SECONDS = 300.0
#: How long it is before Secrets Manager is asked again after it did not answer.
_RETRY_SECONDS = 30.0
#: It is not asked sooner than that again for what somebody refuses: whoever refuses may do so for good.
AGAIN_SECONDS = 1.0
#: Answers, not outages: whoever took the secret or the permission away meant it.
_FINAL = frozenset(
    {"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"}
)

_log = logging.getLogger(__name__)


class Unread(Unavailable):
    """A secret couldn't be read; `final`: because it, or the permission, was taken away."""

    def __init__(self, *, final: bool) -> None:
        super().__init__("Secrets Manager")
        self.final = final


class SecretsManager:
    """AWS Secrets Manager. Connects to nothing, and imports nothing, before it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def read(self, arn: str) -> str:
        """The secret as it is now. Raises Unread; why is logged, with the ARN."""
        from botocore.exceptions import BotoCoreError, ClientError

        reason = "not an ARN"
        try:
            if found := SECRET_ARN.fullmatch(arn):
                # Files and editors end with a newline, which no header may hold.
                return str(self._client(found["region"]).get_secret_value(SecretId=arn)["SecretString"]).strip()
        except ClientError as error:
            reason = str(error.response["Error"]["Code"])
        except BotoCoreError as error:
            reason = type(error).__name__
        except KeyError:
            reason = "no text in it"
        _log.warning("a secret can't be read", extra={"secret": arn, "reason": reason})
        raise Unread(final=reason in _FINAL)

    def _client(self, region: str) -> Any:
        from botocore.config import Config

        with self._lock:
            if region not in self._clients:
                config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
                self._clients[region] = aws.client("secretsmanager", region_name=region, config=config)
            return self._clients[region]


@dataclass(frozen=True, slots=True)
class _Known:
    secret: str = field(repr=False)
    #: When it was read, and until when it is taken for fresh (seconds).
    read_at: float
    until: float


class Secrets:
    """The secrets of the tenants' configuration, each asked for once in 300 s.

    While Secrets Manager is away the last known value goes on. `prefix` begins the names of all secrets that may be
    named, and the tenant's id follows; `literals`: development, secrets may be written out.
    """

    def __init__(
        self,
        prefix: str = "message-handler/",
        *,
        literals: bool = False,
        clock: Callable[[], float] = time.monotonic,
        manager: SecretsManager | None = None,
    ) -> None:
        self._prefix = prefix
        self._literals = literals
        self._clock = clock
        self._manager = manager or SecretsManager()
        self._known: dict[str, _Known] = {}
        self._renewing = threading.Lock()

    def check(self, value: str, platform_id: str) -> None:
        """Raises SecretRefused, which says what to do instead, if a tenant's configuration may not hold this."""
        names = f"{self._prefix}{platform_id}/"
        if arn := SECRET_ARN.fullmatch(value):
            if not arn["name"].startswith(names) or arn["name"] == names:
                raise SecretRefused(f"must be the ARN of a secret whose name begins with {names}")
        elif not self._literals:
            raise SecretRefused(
                f"must not be written out: store it in AWS Secrets Manager as {names}… and give its ARN"
            )

    def reveal(self, value: str, platform_id: str) -> str:
        """The secret behind a Secrets Manager ARN; whatever else is the secret itself.

        Raises SecretRefused (whoever wrote it into a table by hand was not checked) or Unavailable.
        """
        self.check(value, platform_id)
        if not is_arn(value):
            return value
        known = self._known.get(value)
        if known and known.until > self._clock():
            return known.secret
        return self._read(value, known)

    def renewed(self, value: str, platform_id: str, refused: str) -> str | None:
        """Another secret than the one that was `refused`, if there is one by now: it was rotated. Raises nothing."""
        try:
            self.check(value, platform_id)
            # One at a time: who waited takes what the first one was told.
            with self._renewing:
                known = self._known.get(value)
                if not is_arn(value) or known is None:
                    return None
                if known.secret == refused and known.read_at + AGAIN_SECONDS <= self._clock():
                    self._read(value, known)
                secret = self._known[value].secret
        except (SecretRefused, Unavailable):
            return None
        return secret if secret != refused else None

    def _read(self, arn: str, known: _Known | None) -> str:
        try:
            secret, seconds = self._manager.read(arn), _FRESH_SECONDS
        except Unread as unread:
            if known is None or unread.final:
                self._known.pop(arn, None)
                raise
            secret, seconds = known.secret, _RETRY_SECONDS
        now = self._clock()
        self._known[arn] = _Known(secret, now, now + seconds)
        return secret
