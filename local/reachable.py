"""Checks that the stores of the caller's URLs can be reached. No error text holds a credential."""

from __future__ import annotations

import re
import socket
import struct
from urllib.parse import SplitResult, urlsplit

from local.errors import StoreStartError
from local.stores import too_old

TIMEOUT_SECONDS = 3.0
_GLANCE_SECONDS = 0.5
_EXAMPLES = {"REDIS_URL": "redis://localhost:6379/0", "DATABASE_URL": "postgresql://localhost:5432/message_handler"}
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # Postgres answers it with a letter before authentication


def redis_version(url: str, password: str) -> str:
    """Log in and return the server's name and version. Raises StoreStartError."""
    address = _address("REDIS_URL", url, r"rediss?", 6379)
    # Imported here: only a host with REDIS_URL needs it.
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        client = redis.Redis.from_url(
            url,
            password=password or None,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            info = client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        raise StoreStartError(f"REDIS_URL: no Redis at {address[0]}:{address[1]} ({_reason(error, url)})") from None
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = f"{name} {info.get('valkey_version', info['redis_version'])}"
    if too_old(version):
        raise StoreStartError(f"REDIS_URL: {too_old(version)}")
    return version


def check_postgres(url: str) -> None:
    """Check that a Postgres answers, without logging in: the migration does that. Raises StoreStartError."""
    address = _address("DATABASE_URL", url, r"postgres(ql)?(\+\w+)?", 5432)
    try:
        with socket.create_connection(address, TIMEOUT_SECONDS) as connection:
            connection.sendall(_SSL_REQUEST)
            answer = connection.recv(1)
    except OSError as error:
        reason = _reason(error, url)
    else:
        reason = "" if answer in (b"S", b"N") else "another kind of server answers there"
    if reason:
        raise StoreStartError(f"DATABASE_URL: no PostgreSQL at {address[0]}:{address[1]} ({reason})")


def listens(url: str, default_port: int) -> bool:
    """Whether a server accepts connections at the URL, within half a second."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or default_port), _GLANCE_SECONDS).close()
    except OSError:
        return False
    return True


def without_password(text: str, url: str) -> str:
    """The text with the URL's password replaced."""
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    return text.replace(password, "***") if password else text


def _address(variable: str, url: str, schemes: str, default_port: int) -> tuple[str, int]:
    try:
        parts: SplitResult | None = urlsplit(url)
        port = parts.port if parts else None
    except ValueError:  # the error's text may quote a part of the password
        parts, port = None, None
    if parts is None or not parts.hostname or not re.fullmatch(schemes, parts.scheme):
        raise StoreStartError(f"{variable}: must be a URL such as {_EXAMPLES[variable]}")
    return parts.hostname, port or default_port


def _reason(error: Exception, url: str) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return without_password(" ".join(text.split()), url)
