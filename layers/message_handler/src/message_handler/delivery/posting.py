"""One try to post an event to a platform's webhook, and why it may fail."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from message_handler.delivery.webhooks import Unsigned, body_of, signed, signing_key
from message_handler.domain.errors import EgressFailed, EgressRefused, SecretRefused, Unavailable
from message_handler.domain.events import Event
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets

#: Seconds, with the look-up of the address before it (egress): less than for the whole request.
CONNECT_SECONDS = 3.0
#: Seconds for the whole request and its answer.
TOTAL_SECONDS = 10.0
MAX_RETRY_AFTER_SECONDS = 3600.0
#: The most keys that sign at once: the new one, and the one that it replaces.
MAX_KEYS = 2

#: A platform's `base_url` and `meta_data`.
Webhook = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """Why a try failed. `final`: no further try will help.

    `platform`: other deliveries to the platform would probably fail too, and surely if that is `certain`.
    `retry_after`: the seconds that the platform asks to wait.
    """

    code: str
    platform: bool = True
    certain: bool = True
    final: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """A platform's webhook, and the keys that sign what it gets."""

    url: str
    keys: tuple[bytes, ...]


class _Limit:
    """Ends a connection after `TOTAL_SECONDS`. A read's timeout alone begins again with each byte of a slow server."""

    def __init__(self) -> None:
        self.exceeded = False
        self._end = time.monotonic() + TOTAL_SECONDS
        self._timer: threading.Timer | None = None
        self._connection: socket.socket | None = None

    def start(self, connection: socket.socket) -> None:
        # A descriptor of our own: TLS takes the original one away from its socket.
        self._connection = connection.dup()
        self._timer = threading.Timer(max(0.0, self._end - time.monotonic()), self._shut_down)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer and self._connection:
            self._timer.cancel()
            self._connection.close()

    def _shut_down(self) -> None:
        assert self._connection
        self.exceeded = True
        with suppress(OSError):  # the connection has ended by itself
            self._connection.shutdown(socket.SHUT_RDWR)


def target_of(webhook: Webhook | None, secrets: Secrets, platform_id: str) -> Target | DeliveryFailure:
    """What a try needs, or why no try is possible."""
    if webhook is None:
        return DeliveryFailure("webhook_missing")
    base_url, meta_data = webhook
    try:
        keys = tuple(signing_key(secrets.reveal(secret, platform_id)) for secret in _secrets_of(meta_data))
    except SecretRefused:
        return DeliveryFailure("secret_refused")
    except Unavailable:
        return DeliveryFailure("secret_unavailable")
    except Unsigned:
        return DeliveryFailure("webhook_unsigned")
    return Target(_address(base_url, meta_data), keys)


def post(egress: Egress, target: Target, webhook_id: str, event: Event, *, now: float) -> DeliveryFailure | None:
    """Post an event once. None: the platform has accepted it."""
    body = body_of(event)
    try:
        headers = {"Content-Type": "application/json"} | signed(target.keys, webhook_id, int(now), body)
        if event.correlation_id:
            headers["X-Correlation-ID"] = event.correlation_id
        return _exchange(egress, target.url, headers, body)
    except Unsigned:
        return DeliveryFailure("webhook_unsigned")
    except EgressRefused:
        return DeliveryFailure("address_refused")
    except EgressFailed:
        return DeliveryFailure("no_answer")


def _exchange(egress: Egress, url: str, headers: dict[str, str], body: bytes) -> DeliveryFailure | None:
    limit = _Limit()
    timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": TOTAL_SECONDS}
    try:
        with egress.request("POST", url, headers=headers, body=body, connected=limit.start, **timeouts) as response:
            if limit.exceeded:
                raise EgressFailed("the whole answer took too long")
            return _failure(response.status, response.headers.get("Retry-After"))
    finally:
        limit.end()


def _secrets_of(meta_data: dict[str, Any]) -> list[str]:
    """The webhook's secrets. Raises Unsigned for a value that was written past the API, and is no list of texts."""
    secrets = meta_data.get("webhook_secrets")
    if not isinstance(secrets, list) or not all(isinstance(secret, str) for secret in secrets):
        raise Unsigned
    return secrets[:MAX_KEYS]


def _address(base_url: str, meta_data: dict[str, Any]) -> str:
    path = str(meta_data.get("webhook_path") or "").lstrip("/")
    return f"{base_url.rstrip('/')}/{path}" if path else base_url


def _failure(status: int, retry_after: str | None) -> DeliveryFailure | None:
    if 200 <= status < 300:
        return None
    code, busy = f"http_{status}", status == 429 or status >= 500
    if not busy:
        return DeliveryFailure(code, platform=False, final=status == 410)
    # (A date is allowed too, but rare: then the backoff decides.)
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    certain = status == 429 or (status == 503 and retry_after is not None)
    return DeliveryFailure(code, certain=certain, retry_after=min(seconds, MAX_RETRY_AFTER_SECONDS))
