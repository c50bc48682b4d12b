"""How Redis is reached, and what its errors mean: one timeout, no hidden retry, no credential in any text."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, NoPermissionError, TryAgainError
from redis.retry import Retry

from message_handler.errors import SettingsError, Unavailable
from message_handler.settings import Settings

#: A server that can't be reached, or that can't write now: full, failing over, or a replica since a moment ago.
_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    ClusterDownError,
    TryAgainError,
)
_PASSING_WORDS = ("BUSY", "MISCONF", "NOREPLICAS")


def connect(settings: Settings) -> redis.Redis:
    """A client that connects when it is used, and gives up after one timeout: the caller decides what then happens.

    `rediss://` in `REDIS_URL` is TLS; `?ssl_ca_certs=` is a file with authorities to verify the server's certificate
    against, beside the system's. Raises SettingsError, which never quotes the URL.
    """
    assert settings.redis_url is not None
    timeout = settings.redis_timeout_ms / 1000
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        # RESP 3 would cost a round trip more to connect, and a server could then lengthen our timeouts.
        "protocol": 2,
    }
    if settings.redis_password:
        options["password"] = settings.redis_password.get_secret_value()
    url = settings.redis_url.get_secret_value()
    try:
        client = _client(settings.redis_cluster, url, options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # connects to nothing yet, but looks at its options
    except (TypeError, ValueError, redis.RedisError):
        raise SettingsError("bad settings: REDIS_URL: an option after its ? is unknown or wrong") from None
    if settings.redis_cluster and pool.connection_kwargs.get("db"):
        raise SettingsError("bad settings: REDIS_URL: a cluster has no other database than 0")
    if authorities := pool.connection_kwargs.get("ssl_ca_certs"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authorities)
        except OSError:
            raise SettingsError("bad settings: REDIS_URL: ssl_ca_certs is no readable file of certificates") from None
    return client


def _client(cluster: bool, url: str, options: dict[str, Any]) -> redis.Redis:
    if cluster:
        from message_handler.stores.redis_cluster import ClusterClient

        return ClusterClient(url, **options)
    return redis.Redis.from_url(url, **options)


@contextmanager
def translating() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        if mend := _to_be_mended(error):
            raise Unavailable(f"Redis ({mend})") from error
        if isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS):
            raise Unavailable("Redis") from error
        raise


def _to_be_mended(error: Exception) -> str | None:
    """What a person has to do, if no waiting helps. Until then the work goes on without Redis."""
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the password: see REDIS_PASSWORD"
    if isinstance(error, NoPermissionError):
        return "it doesn't permit its user all that is needed"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return "its certificate isn't trusted: REDIS_URL may name the authority, ?ssl_ca_certs=<file>"
    if isinstance(error, AskError):
        return "it is a cluster: set REDIS_CLUSTER=true"
    if "cluster support disabled" in str(error):
        return "it is no cluster: unset REDIS_CLUSTER"
    return None
