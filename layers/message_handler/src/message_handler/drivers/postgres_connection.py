"""Makes connections to Postgres, from `DATABASE_URL`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pg8000.exceptions import DatabaseError

from message_handler.domain.errors import SettingsError
from message_handler.drivers.credentials import Credentials, Login, SecretLogin, rds_login
from message_handler.drivers.postgres_driver import Connection
from message_handler.drivers.postgres_errors import LOGIN_REFUSED, sqlstate
from message_handler.settings import Settings


def connector(settings: Settings) -> Callable[..., Connection]:
    """A function that connects as `DATABASE_URL` says. Its argument `timeout` (seconds) overrides `DATABASE_TIMEOUT`.

    `?sslmode=` is `disable`, `require` or `verify-full`. The default is `verify-full`, or `disable` if the server is on
    this machine. `&sslrootcert=` is a file of authorities, against which the server's certificate is verified in place
    of the system's. RDS' authorities are in no system's file; those of RDS Proxy are.

    Raises SettingsError, whose text never quotes the URL.
    """
    assert settings.database_url is not None
    url = urlsplit(settings.database_url.get_secret_value())
    user, host, port = unquote(url.username or "postgres"), url.hostname or "localhost", url.port or 5432
    arguments = {
        "user": user,
        "password": unquote(url.password) if url.password else None,
        "host": host,
        "port": port,
        "database": unquote(url.path.lstrip("/")) or None,
        "timeout": settings.database_timeout,
        "application_name": "message_handler",
        "ssl_context": _tls(parse_qs(url.query), "disable" if _is_loopback(host) else "verify-full"),
    }
    if settings.database_secret_arn:
        return _logging_in(arguments, SecretLogin(settings.database_secret_arn, "Postgres", user))
    if settings.database_iam:
        if arguments["ssl_context"] is False:
            raise SettingsError("bad settings: DATABASE_URL: DATABASE_IAM needs sslmode=verify-full or require")
        return _logging_in(arguments, rds_login(user, host, port))
    return lambda **changed: _connection(**arguments | changed)


def _logging_in(arguments: dict[str, Any], credentials: Credentials) -> Callable[..., Connection]:
    """Connects with a login that may rotate. If the server refuses it, connects once more with the renewed one."""

    def connect(login: Login, changed: dict[str, Any]) -> Connection:
        return _connection(**arguments | changed | {"user": login.user, "password": login.password})

    def connected(**changed: Any) -> Connection:
        login = credentials.login()
        try:
            return connect(login, changed)
        except DatabaseError as error:
            if not sqlstate(error).startswith(LOGIN_REFUSED):
                raise
            renewed = credentials.renewed(login)
            if renewed is None:
                raise
        return connect(renewed, changed)

    return connected


def _connection(*, host: str, port: int, timeout: float, **arguments: Any) -> Connection:
    """A connection that sends every message at once.

    pg8000 leaves Nagle's algorithm on. It writes messages in pieces, and the last piece would wait 40 ms until the
    server has confirmed the one before.
    """
    stream = socket.create_connection((host, port), timeout)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return Connection(host=host, sock=stream, **arguments)
    except BaseException:
        stream.close()
        raise


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(query: dict[str, list[str]], default: str) -> ssl.SSLContext | bool:
    """The TLS context for all connections, because making one costs 24 ms. False for no TLS."""
    mode, authorities = query.get("sslmode", [default])[0], query.get("sslrootcert", [None])[0]
    if mode not in ("disable", "require", "verify-full"):
        raise SettingsError("bad settings: DATABASE_URL: sslmode must be disable, require or verify-full")
    if mode == "disable":
        if authorities is not None:
            raise SettingsError("bad settings: DATABASE_URL: sslrootcert needs sslmode=verify-full or require")
        return False
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError:
        raise SettingsError("bad settings: DATABASE_URL: sslrootcert is not a readable file of certificates") from None
    # As in libpq: `require` with a file of authorities verifies the certificate, but not which host it is for.
    context.check_hostname = mode == "verify-full"
    if mode == "require" and authorities is None:
        context.verify_mode = ssl.CERT_NONE
    return context
