"""Secrets of the configuration: written out, or kept in AWS Secrets Manager and named by their ARN."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from message_handler.errors import Unavailable

_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:[A-Za-z0-9/_+=.@-]+", re.ASCII)
#: How long a value is taken for what it is there, so that a rotated one is seen.
_FRESH_SECONDS = 300.0
#: How long it is before Secrets Manager is asked again after it did not answer.
_RETRY_SECONDS = 30.0
#: Answers, not outages: whoever took the secret or the permission away meant it.
_FINAL = frozenset(
    {"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"}
)

_log = logging.getLogger(__name__)


def is_arn(value: str) -> bool:
    """Whether a value names a secret in Secrets Manager: then it is none itself."""
    return _ARN.fullmatch(value) is not None


class Secrets:
    """Reveals secrets, each asked for once in 300 s. While Secrets Manager is away the last known value goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._known: dict[str, tuple[float, str]] = {}

    def reveal(self, value: str) -> str:
        """The secret behind a Secrets Manager ARN; whatever else is the secret itself. Raises Unavailable."""
        arn = _ARN.fullmatch(value)
        if not arn:
            return value
        known = self._known.get(value)
        if known and known[0] > self._clock():
            return known[1]
        return self._ask(value, arn[1], known)

    def _ask(self, arn: str, region: str, known: tuple[float, str] | None) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            secret = str(self._client(region).get_secret_value(SecretId=arn)["SecretString"])
            secret = secret.strip()  # files and editors end with a newline, which no header may hold
        except ClientError as error:
            reason = str(error.response["Error"]["Code"])
        except BotoCoreError as error:
            reason = type(error).__name__
        except KeyError:
            reason = "no text in it"
        else:
            self._known[arn] = (self._clock() + _FRESH_SECONDS, secret)
            return secret
        _log.warning("a secret can't be read", extra={"secret": arn, "reason": reason})
        if known is None or reason in _FINAL:
            self._known.pop(arn, None)
            raise Unavailable("Secrets Manager")
        self._known[arn] = (self._clock() + _RETRY_SECONDS, known[1])
        return known[1]

    def _client(self, region: str) -> Any:
        import boto3
        from botocore.config import Config

        with self._lock:  # boto3's own session is for one thread
            if region not in self._clients:
                config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
                self._clients[region] = boto3.client("secretsmanager", region_name=region, config=config)
            return self._clients[region]
