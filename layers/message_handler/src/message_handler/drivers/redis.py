"""Makes clients for Redis, and tells what its errors mean. One timeout, no hidden retry, no credential in any text."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    TryAgainError,
)
from redis.retry import Retry

from message_handler.domain.errors import ReadOnly, SettingsError, TooOld, Unavailable
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.credentials import Credentials, Login, SecretLogin, elasticache_login
from message_handler.drivers.redis_client import Client
from message_handler.drivers.unreachable import why_unreachable, why_untrusted
from message_handler.settings import Settings

#: The first word of a server's error if it refuses writes alone, with the reason that operators see.
_READ_ONLY = {
    "READONLY": "read-only",
    "OOM": "read-only: out of memory",
    "MISCONF": "read-only: it can't save to its disk",
    "NOREPLICAS": "read-only: too few replicas",
}
#: The first word if the server can't serve any command now.
_PASSING = {
    "LOADING": "loading",
    "MASTERDOWN": "a replica without its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "slots move",
    "BUSY": "a script blocks it",
}
#: For these words redis-py has error classes, and leaves the word out of the text.
_KINDS: dict[type[redis.RedisError], str] = {
    redis.ReadOnlyError: "READONLY",
    redis.OutOfMemoryError: "OOM",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
}
#: Servers before version 7 wrap the error that a script met.
_WORD = re.compile(rf"(?:(?:ERR )?Error running script .*?: ?-?)?({'|'.join((*_READ_ONLY, *_PASSING))})\b", re.DOTALL)
OLDEST_MAJOR = 7
_VERSION = re.compile(r"^redis_version:(\d+)", re.MULTILINE)


def connect(settings: Settings) -> redis.Redis:
    """A client that connects when it is used. It gives up after one timeout; the caller decides what happens then.

    `rediss://` in `REDIS_URL` means TLS. `?ssl_ca_certs=` is a file of authorities that are trusted beside the
    system's. Raises SettingsError, whose text never quotes the URL.
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
        # RESP 3 would add a round trip to each connect, and would let a server lengthen our timeouts.
        "protocol": 2,
        "redis_connect_func": _Greeting(),
    }
    if settings.redis_password:
        options["password"] = settings.redis_password.get_secret_value()
    url = settings.redis_url.get_secret_value()
    if credentials := _credentials(settings, url):
        options["credential_provider"] = _Provider(credentials)
        url = _without_user(url)
    try:
        client = _client(settings.redis_cluster, lambda: _pool(url, options))
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # does not connect yet, but checks the options
    except (TypeError, ValueError, redis.RedisError):
        raise SettingsError("bad settings: REDIS_URL: an option after ? is unknown or wrong") from None
    if settings.redis_cluster and pool.connection_kwargs.get("db"):
        raise SettingsError("bad settings: REDIS_URL: a cluster has only database 0")
    if authorities := pool.connection_kwargs.get("ssl_ca_certs"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authorities)
        except OSError:
            raise SettingsError(
                "bad settings: REDIS_URL: ssl_ca_certs is not a readable file of certificates"
            ) from None
    return client


def _client(cluster: bool, pool: Callable[[], ConnectionPool]) -> redis.Redis:
    if cluster:
        from message_handler.drivers.redis_cluster import ClusterClient  # here, because only a cluster needs it

        return ClusterClient(pool)
    return Client.from_pool(pool())


def _pool(url: str, options: dict[str, Any]) -> ConnectionPool:
    pool: ConnectionPool = ConnectionPool.from_url(url, **options)
    if "credential_provider" in options:
        # The URL has decided whether this class speaks TLS.
        kind = pool.connection_class
        pool.connection_class = type(f"Renewing{kind.__name__}", (_Renewing, kind), {})
    return pool


def _credentials(settings: Settings, url: str) -> Credentials | None:
    """The source of the login, if the URL's user and password are not used. None if they are."""
    user = unquote(urlsplit(url).username or "")
    if settings.redis_secret_arn:
        return SecretLogin(settings.redis_secret_arn, "Redis", user or None)
    if settings.redis_iam_cache:
        return elasticache_login(user, settings.redis_iam_cache)
    return None


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _TooOld(redis.ConnectionError):
    """The server's version is too old. A ConnectionError, so that the connection closes itself."""


class _Greeting:
    """Begins a connection as redis-py does, and checks the server's version on the first one of this process.

    Valkey reports the version of Redis that it is compatible with.
    """

    def __init__(self) -> None:
        self._is_version_checked = False

    def __call__(self, connection: Any) -> None:
        connection.on_connect()
        if self._is_version_checked:
            return
        connection.send_command("INFO", "server", check_health=False)
        try:
            reported = _VERSION.search(str(connection.read_response()))
        except redis.ResponseError:
            reported = None  # the user may not ask, so the version stays unknown
        if reported and int(reported[1]) < OLDEST_MAJOR:
            raise _TooOld(f"it is version {reported[1]}; at least {OLDEST_MAJOR} is needed")
        self._is_version_checked = True


class _Provider(redis.CredentialProvider):
    """Gives redis-py the login for each connection that it makes."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._used = threading.local()

    @property
    def used(self) -> Login | None:
        """The login of the connection that this thread made last."""
        return getattr(self._used, "login", None)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        self._used.login = login = None
        try:
            self._used.login = login = self.credentials.login()
        except Unavailable as away:
            # A ConnectionError makes the connection close itself: it must not be used without a login.
            raise redis.ConnectionError(str(away)) from None
        return (login.user, login.password) if login.user else (login.password,)


class _Renewing:
    """A connection that tries once more if the server refuses its login and the login was rotated meanwhile.

    An open connection never logs in again. ElastiCache ends a connection with an IAM login after 12 h. The pool notices
    that before the next command is sent, and makes a new one.
    """

    def connect(self: Any) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except redis.AuthenticationError:
            provider: _Provider = self.credential_provider
            if provider.used is None or provider.credentials.renewed(provider.used) is None:
                raise
            super().connect()  # type: ignore[misc]


class ReachingRedis:
    """A context to call Redis in, behind its breaker. If Redis is away, redis-py's errors become Unavailable.

    After a timeout `answers` tells whether the server is alive. If it is, the breaker does not change.

    It keeps no state between calls, so one object serves all threads. (`contextmanager` would cost more time than all
    the rest.)
    """

    def __init__(self, breaker: CircuitBreaker, answers: Callable[[], bool]) -> None:
        self._breaker = breaker
        self._answers = answers

    def __enter__(self) -> None:
        self._breaker.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, redis.RedisError):
            if (meaning := self.meaning(error)) is not error:
                raise meaning from error
        else:
            self._breaker.__exit__(kind, error, trace)

    def meaning(self, error: redis.RedisError) -> Exception:
        """What an error means, also that of a single command in a pipeline. The breaker records it."""
        if isinstance(error, redis.TimeoutError) and self._answers():
            return Unavailable("Redis (a command takes too long)")
        meaning = _away(error) or error
        self._breaker.__exit__(type(meaning), meaning, None)
        return meaning


def _away(error: redis.RedisError) -> Unavailable | None:
    """The outage behind an error, which passes or which an operator must mend. None if it is no outage."""
    if isinstance(error, _TooOld):
        return TooOld(f"Redis ({error})")
    if remedy := _remedy(error):
        return Unavailable(f"Redis ({remedy})", reason=remedy)
    if word := _word(error):
        if reason := _READ_ONLY.get(word):
            return ReadOnly(f"Redis ({reason})", reason=reason)
        return Unavailable("Redis", reason=_PASSING[word])
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Unavailable("Redis", reason=why_unreachable(error))
    return None


def _word(error: redis.RedisError) -> str | None:
    """The word that a server's refusal begins with, if it is one of those that pass."""
    for kind, word in _KINDS.items():
        if isinstance(error, kind):
            return word
    found = _WORD.match(str(error)) if isinstance(error, redis.ResponseError) else None
    return found and found[1]


def _remedy(error: Exception) -> str | None:
    """What an operator must do, if waiting does not help. Until then the work goes on without Redis."""
    # Before a login, a server refuses long commands with the word "unauthenticated".
    if isinstance(error, redis.AuthenticationError) or "unauthenticated" in str(error):
        return "login: it refuses the password: check REDIS_PASSWORD, REDIS_SECRET_ARN or REDIS_IAM_CACHE"
    if isinstance(error, NoPermissionError):
        return "it denies its user a command or key: extend the user's permissions"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return why_untrusted(error.__context__, "REDIS_URL with ?ssl_ca_certs=<file>")
    if isinstance(error, AskError):
        return "it is a cluster: set REDIS_CLUSTER=true"
    if "cluster support disabled" in str(error):
        return "it is not a cluster: unset REDIS_CLUSTER"
    return None
