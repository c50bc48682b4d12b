"""Tenants' secrets. A configuration holds the ARN of one in AWS Secrets Manager. In development it may hold the secret.

A secret's name says whose it is. Only the tenant acme may use this one:

    message-handler/acme/openai
    └ the prefix    └ the tenant's id

A provider's token is sent, so its secret also says where to: `{"token": "…", "host": "api.openai.com"}`. Otherwise an
operator who may not read the secret could name it again, in a record with an address of his own.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from message_handler.domain.errors import SecretRefused, Unavailable
from message_handler.domain.identifiers import SECRET_ARN, is_arn
from message_handler.drivers import aws

#: How long a value is used before it is read again. A rotated one is seen after that.
_FRESH_SECONDS = 300.0
#: The pause after Secrets Manager did not answer.
_RETRY_SECONDS = 30.0
#: The shortest time between two readings of a secret that a server refuses: the server may refuse it for good.
REREAD_SECONDS = 1.0
#: These are answers, not outages: an operator has removed the secret or the permission.
_FINAL = frozenset(
    {"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"}
)

_log = logging.getLogger(__name__)


class SecretUnreadable(Unavailable):
    """A secret couldn't be read. `final`: the secret, or the permission to read it, was removed."""

    def __init__(self, *, final: bool) -> None:
        super().__init__("Secrets Manager")
        self.final = final


class SecretsManager:
    """AWS Secrets Manager. Does not connect, or import its client, before the first read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def read(self, arn: str) -> str:
        """The secret as it is now. Raises SecretUnreadable, and logs the reason with the ARN."""
        # Imported here: most processes read no secret.
        from botocore.exceptions import BotoCoreError, ClientError

        reason = "not an ARN"
        try:
            if found := SECRET_ARN.fullmatch(arn):
                # Files and editors add a newline at the end. No header may hold one.
                return str(self._client(found["region"]).get_secret_value(SecretId=arn)["SecretString"]).strip()
        except ClientError as error:
            reason = str(error.response["Error"]["Code"])
        except BotoCoreError as error:
            reason = type(error).__name__
        except KeyError:
            reason = "no text in it"
        _log.warning("a secret can't be read", extra={"secret": arn, "reason": reason})
        raise SecretUnreadable(final=reason in _FINAL)

    def _client(self, region: str) -> Any:
        from botocore.config import Config  # here, because most processes read no secret

        with self._lock:
            if region not in self._clients:
                config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
                self._clients[region] = aws.client("secretsmanager", region_name=region, config=config)
            return self._clients[region]


@dataclass(frozen=True, slots=True)
class _Known:
    secret: str = field(repr=False)
    #: When it was read, and until when it is used without reading it again (seconds).
    read_at: float
    until: float


class Secrets:
    """The secrets in the tenants' configuration. Each is read once in 300 s.

    While Secrets Manager is away, the last known value is used. The name of a tenant's secret must begin with `prefix`
    and the tenant's id, and its ARN with `arn_prefix`, which names the deployment's account and region. `literals`
    (development): a configuration may hold a secret itself.
    """

    def __init__(
        self,
        prefix: str = "message-handler/",
        *,
        arn_prefix: str = "",
        literals: bool = False,
        clock: Callable[[], float] = time.monotonic,
        manager: SecretsManager | None = None,
    ) -> None:
        self._prefix = prefix
        self._arn_prefix = arn_prefix
        self._literals = literals
        self._clock = clock
        self._manager = manager or SecretsManager()
        self._known: dict[str, _Known] = {}
        self._renewing = threading.Lock()

    def check(self, value: str, platform_id: str) -> None:
        """Raise SecretRefused if a tenant's configuration may not hold this value. Its text says what to do."""
        names = f"{self._prefix}{platform_id}/"
        if arn := SECRET_ARN.fullmatch(value):
            if not arn["name"].startswith(names) or arn["name"] == names:
                raise SecretRefused(f"must be the ARN of a secret whose name begins with {names}")
            if not value.startswith(self._arn_prefix):
                raise SecretRefused("must be the ARN of a secret in this deployment's account and region")
        elif not self._literals:
            raise SecretRefused(
                f"must not be the secret itself: store it in AWS Secrets Manager as {names}… and give its whole ARN"
            )

    def reveal(self, value: str, platform_id: str, *, host: str | None = None) -> str:
        """The secret that a Secrets Manager ARN names. Any other value is itself the secret.

        With a `host`, it is the token in the secret, which must name that host. Raises Unavailable, or SecretRefused:
        an operator may have written a value into a table, past the check.
        """
        self.check(value, platform_id)
        if not is_arn(value):
            return value
        known = self._known.get(value)
        secret = known.secret if known and known.until > self._clock() else self._read(value, known)
        return secret if host is None else _token_for(host, secret, value)

    def renewed(self, value: str, platform_id: str, refused: str, *, host: str) -> str | None:
        """The token for `host` after a rotation: one other than the `refused` one, else None. Raises nothing."""
        try:
            self.check(value, platform_id)
            # One thread at a time: the threads that waited take what the first one has read.
            with self._renewing:
                known = self._known.get(value)
                if not is_arn(value) or known is None:
                    return None
                if _token_for(host, known.secret, value) == refused and known.read_at + REREAD_SECONDS <= self._clock():
                    self._read(value, known)
                token = _token_for(host, self._known[value].secret, value)
        except (SecretRefused, Unavailable):
            return None
        return token if token != refused else None

    def _read(self, arn: str, known: _Known | None) -> str:
        try:
            secret, seconds = self._manager.read(arn), _FRESH_SECONDS
        except SecretUnreadable as error:
            if known is None or error.final:
                self._known.pop(arn, None)
                raise
            secret, seconds = known.secret, _RETRY_SECONDS
        now = self._clock()
        self._known[arn] = _Known(secret, now, now + seconds)
        return secret


def _token_for(host: str, secret: str, arn: str) -> str:
    """The token in a secret. Raises SecretRefused if the secret does not name this host, and logs it with the ARN."""
    try:
        found = json.loads(secret)
        token, named = str(found["token"]), str(found["host"]).lower()
    except (ValueError, KeyError, TypeError, RecursionError):
        token = named = ""
    if not token or named != host:
        reason = "another host in it" if named else "not JSON with token and host"
        _log.warning("a secret can't be used", extra={"secret": arn, "reason": reason})
        raise SecretRefused("must name a secret whose JSON has the token, and the host that it is for")
    return token
