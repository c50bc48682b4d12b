"""How Redis is reached, and what its errors mean: one timeout, no hidden retry, no credential in any text."""

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
from message_handler.drivers.credentials import Credentials, KeptLogin, Login, elasticache_login
from message_handler.drivers.redis_client import Client
from message_handler.drivers.unreachable import why_unreachable, why_untrusted
from message_handler.settings import Settings

#: What a server says that refuses writes alone, and what that is to operators.
_READ_ONLY = {
    "READONLY": "read-only",
    "OOM": "read-only: out of memory",
    "MISCONF": "read-only: it can't save to its disk",
    "NOREPLICAS": "read-only: too few replicas",
}
#: What one says that can do nothing now.
_PASSING = {
    "LOADING": "loading",
    "MASTERDOWN": "a replica without its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "slots move",
    "BUSY": "a script blocks it",
}
#: redis-py makes kinds of errors of these words, and takes them out of the text.
_KINDS: dict[type[redis.RedisError], str] = {
    redis.ReadOnlyError: "READONLY",
    redis.OutOfMemoryError: "OOM",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
}
#: Where a script met the refusal, a server wraps it, unless it is of version 7 or later.
_WORD = re.compile(rf"(?:(?:ERR )?Error running script .*?: ?-?)?({'|'.join((*_READ_ONLY, *_PASSING))})\b", re.DOTALL)
OLDEST_MAJOR = 7
_VERSION = re.compile(r"^redis_version:(\d+)", re.MULTILINE)


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


def _client(cluster: bool, pool: Callable[[], ConnectionPool]) -> redis.Redis:
    if cluster:
        from message_handler.drivers.redis_cluster import ClusterClient

        return ClusterClient(pool)
    return Client.from_pool(pool())


def _pool(url: str, options: dict[str, Any]) -> ConnectionPool:
    pool: ConnectionPool = ConnectionPool.from_url(url, **options)
    if "credential_provider" in options:
        kind = pool.connection_class
        # Whether it speaks TLS, the URL has decided.
        pool.connection_class = type(f"Renewing{kind.__name__}", (_Renewing, kind), {})
    return pool


def _credentials(settings: Settings, url: str) -> Credentials | None:
    """What the URL's own user and password, if any, do not say."""
    user = unquote(urlsplit(url).username or "")
    if settings.redis_secret_arn:
        return KeptLogin(settings.redis_secret_arn, "Redis", user or None)
    if settings.redis_iam_cache:
        return elasticache_login(user, settings.redis_iam_cache)
    return None


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _TooOld(redis.ConnectionError):
    """As an error that a connection closes itself for."""


class _Greeting:
    """Begins a connection as redis-py does; the first one's server, in this process, is asked for its version too.

    Valkey tells the version of Redis that it is as good as.
    """

    def __init__(self) -> None:
        self._known = False

    def __call__(self, connection: Any) -> None:
        connection.on_connect()
        if self._known:
            return
        connection.send_command("INFO", "server", check_health=False)
        try:
            told = _VERSION.search(str(connection.read_response()))
        except redis.ResponseError:
            told = None  # the user has no permission to ask: the version stays unknown
        if told and int(told[1]) < OLDEST_MAJOR:
            raise _TooOld(f"it is version {told[1]}; at least {OLDEST_MAJOR} is needed")
        self._known = True


class _Provider(redis.CredentialProvider):
    """Credentials as redis-py asks for them: for each connection that it makes."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._used = threading.local()

    @property
    def used(self) -> Login | None:
        """What the connection that this thread made last has logged in with."""
        return getattr(self._used, "login", None)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        self._used.login = login = None
        try:
            self._used.login = login = self.credentials.login()
        except Unavailable as away:
            # As an error that a connection closes itself for: it must not be used without a login.
            raise redis.ConnectionError(f"{away.what} can't be had") from None
        return (login.user, login.password) if login.user else (login.password,)


class _Renewing:
    """A connection that is made once more where the server refuses what meanwhile was rotated.

    One that is open is not asked to log in again. ElastiCache ends one by IAM after 12 h; that is noticed before the
    next command is sent, and a new one is made.
    """

    def connect(self: Any) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except redis.AuthenticationError:
            provider: _Provider = self.credential_provider
            if provider.used is None or provider.credentials.renewed(provider.used) is None:
                raise
            super().connect()  # type: ignore[misc]


class Reaching:
    """Redis is called inside, behind its breaker; where it is away, redis-py's errors become Unavailable.

    `answers` tells whether a server is alive that has said nothing in time: then the breaker stays as it is.

    Keeps nothing between its calls, so that one serves all threads. (`contextmanager` would take longer than the rest.)
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
            if (means := self.told(error)) is not error:
                raise means from error
        else:
            self._breaker.__exit__(kind, error, trace)

    def told(self, error: redis.RedisError) -> Exception:
        """Let the breaker know of an error, also of one call among others; what the error means."""
        if isinstance(error, redis.TimeoutError) and self._answers():
            return Unavailable("Redis, where a command takes too long,")
        means = _away(error) or error
        self._breaker.__exit__(type(means), means, None)
        return means


def _away(error: redis.RedisError) -> Unavailable | None:
    """What an error means that passes, or is a person's to mend; None for all else."""
    if isinstance(error, _TooOld):
        return TooOld(f"Redis ({error})")
    if mend := _to_be_mended(error):
        return Unavailable(f"Redis ({mend})", reason=mend)
    if word := _word(error):
        if reason := _READ_ONLY.get(word):
            return ReadOnly(f"Redis ({reason})", reason=reason)
        return Unavailable("Redis", reason=_PASSING[word])
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Unavailable("Redis", reason=why_unreachable(error))
    return None


def _word(error: redis.RedisError) -> str | None:
    """What a server begins a refusal with, if that passes."""
    for kind, word in _KINDS.items():
        if isinstance(error, kind):
            return word
    told = _WORD.match(str(error)) if isinstance(error, redis.ResponseError) else None
    return told and told[1]


def _to_be_mended(error: Exception) -> str | None:
    """What a person has to do, if no waiting helps. Until then the work goes on without Redis."""
    # Of a client that has not logged in a server reads no long command.
    if isinstance(error, redis.AuthenticationError) or "unauthenticated" in str(error):
        return "login: it refuses the password, see REDIS_PASSWORD, REDIS_SECRET_ARN or REDIS_IAM_CACHE"
    if isinstance(error, NoPermissionError):
        return "it doesn't permit its user all that is needed"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return why_untrusted(error.__context__, "REDIS_URL with ?ssl_ca_certs=<file>")
    if isinstance(error, AskError):
        return "it is a cluster: set REDIS_CLUSTER=true"
    if "cluster support disabled" in str(error):
        return "it is no cluster: unset REDIS_CLUSTER"
    return None
