"""One Postgres database: how it is reached, what its errors mean, and how its schema comes to be.

What is done for each answer is a function, whose plans a connection keeps (`sql/functions/`). A connection that turns
out to be dead when it is used again is replaced once, silently: whatever runs here may be repeated without harm.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pg8000.converters import make_params
from pg8000.exceptions import DatabaseError, InterfaceError

from message_handler.errors import MessageHandlerError, ReadOnly, RequestError, SettingsError, TooOld, Unavailable
from message_handler.settings import Settings
from message_handler.stores import migrations
from message_handler.stores.breaker import CircuitBreaker
from message_handler.stores.credentials import Credentials, KeptLogin, Login, rds_login
from message_handler.stores.postgres_driver import Connection, close
from message_handler.stores.statements import statement
from message_handler.stores.unreachable import why_unreachable, why_untrusted

_log = logging.getLogger(__name__)

#: SQLSTATE classes that pass by themselves, and what they are to operators.
_PASSING = {
    "08": "connection lost",
    "53": "short of resources",
    "57": "shutting down or starting",
    "58": "its system fails",
}
#: What refuses writes alone: a replica, or a primary that was told so; and a full disk.
_REPLICA = "25006"
_READ_ONLY = {_REPLICA: "read-only", "53100": "read-only: disk full"}
#: The server, or an operator, ended a statement that took too long.
_SLOW = "57014"
#: The SQLSTATE class of a login that is refused: 28P01 a password, 28000 anything else of it.
_REFUSING = "28"
_REFUSES_LOGIN = "it refuses the login: see DATABASE_URL, DATABASE_SECRET_ARN or DATABASE_IAM"
#: The server answered, but not with what was asked: a schema older than this code; a lock or a deadlock in the way.
_OUTDATED = ("42P01", "42703", "42883")
_IN_THE_WAY = ("55P03", "40001", "40P01")
#: How long after a refusal the schema counts as outdated: until some process has migrated it.
_OUTDATED_SECONDS = 60.0
#: A connection that nobody used for so long is made anew: firewalls and balancers drop idle ones without a word.
_IDLE_SECONDS = 60.0
#: A migration may take longer than a request; as long as the function has.
_MIGRATION_SECONDS = 50.0
_OUTDATED_SCHEMA = "the database's schema (the admin function's action `migrate` makes it)"
#: What the protocol calls a prepared statement without a name.
_UNNAMED = b"\0"
#: How long a server may take for a connection that only tells whether it is alive.
_PING_SECONDS = 1.0
_OLDEST_MAJOR = 15


def connector(settings: Settings) -> Callable[..., Connection]:
    """How to connect, from `DATABASE_URL`: call it, with a `timeout` in seconds unless it is `DATABASE_TIMEOUT`.

    Raises SettingsError, which never quotes the URL.

    `?sslmode=` is `disable`, `require` or `verify-full`, which is the default unless the server is on this machine;
    `&sslrootcert=` is a file with the authorities that the server's certificate is verified against, in place of the
    system's. RDS' own are in no system's; those of its proxy are.
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
        return _logging_in(arguments, KeptLogin(settings.database_secret_arn, "Postgres", user))
    if settings.database_iam:
        if arguments["ssl_context"] is False:
            raise SettingsError("bad settings: DATABASE_URL: DATABASE_IAM needs sslmode=verify-full or require")
        return _logging_in(arguments, rds_login(user, host, port))
    return lambda **changed: _connection(**arguments | changed)


def _logging_in(arguments: dict[str, Any], credentials: Credentials) -> Callable[..., Connection]:
    """Connects with a login that may change: once more where the server refuses what meanwhile was rotated."""

    def connect(login: Login, changed: dict[str, Any]) -> Connection:
        return _connection(**arguments | changed | {"user": login.user, "password": login.password})

    def connected(**changed: Any) -> Connection:
        login = credentials.login()
        try:
            return connect(login, changed)
        except DatabaseError as error:
            if not _sqlstate(error).startswith(_REFUSING):
                raise
            renewed = credentials.renewed(login)
            if renewed is None:
                raise
        return connect(renewed, changed)

    return connected


def _connection(*, host: str, port: int, timeout: float, **arguments: Any) -> Connection:
    """A connection whose messages leave at once.

    pg8000 leaves Nagle's algorithm on: the end of what it writes in pieces would wait 40 ms for the server to confirm
    the piece before.
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
    """One context for all connections, for making one costs 24 ms; False for none."""
    mode, authorities = query.get("sslmode", [default])[0], query.get("sslrootcert", [None])[0]
    if mode not in ("disable", "require", "verify-full"):
        raise SettingsError("bad settings: DATABASE_URL: sslmode is disable, require or verify-full")
    if mode == "disable":
        if authorities is not None:
            raise SettingsError("bad settings: DATABASE_URL: sslrootcert needs sslmode=verify-full or require")
        return False
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError:
        raise SettingsError("bad settings: DATABASE_URL: sslrootcert is no readable file of certificates") from None
    # As libpq does: with a file of authorities `require` verifies the certificate too, but not whose it is.
    context.check_hostname = mode == "verify-full"
    if mode == "require" and authorities is None:
        context.verify_mode = ssl.CERT_NONE
    return context


class Refused(MessageHandlerError):
    """Postgres refused a statement. Only the SQLSTATE is told: the server's own text quotes values."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Postgres refused a statement (SQLSTATE {code})")
        self.code = code


class Database:
    """As many connections as threads use at once, the one used last first; behind one circuit breaker.

    A server that refuses writes is away for these, and its reads go on. A write raises ReadOnly. Until writes are taken
    again, one call in `retry_after` seconds asks on a new connection, for the name may lead to a new primary:

        old primary ── made a replica ── write refused on an old connection ── once more on a new one ──▶ new primary
                                              └─ refused there too ──▶ read-only ── asked anew ──▶ writes again
    """

    def __init__(self, connect: Callable[..., Connection], breaker: CircuitBreaker | None = None) -> None:
        self.breaker = breaker or CircuitBreaker("Postgres", retry_after=5.0)
        #: Open while it refuses writes.
        self._writes = CircuitBreaker(self.breaker.name, self.breaker.retry_after, self.breaker.clock)
        self._new_connection = connect
        self._known_to_be_new = False
        #: Each with the time at which it was given back (monotonic seconds).
        self._idle: list[tuple[Connection, float]] = []
        self._mutex = threading.Lock()
        self._outdated_until = 0.0

    @property
    def away(self) -> bool:
        """Whether it did not answer when it was last asked, refused a write, or has an older schema than this code."""
        return self.breaker.is_open or self._writes.is_open or time.monotonic() < self._outdated_until

    def run[T](self, work: Callable[[Connection], T]) -> T:
        """`work` on a connection, once more on a new one if the connection was an old one and is dead.

        Raises Unavailable, also where the schema is missing, a lock is in the way or a statement takes too long (they
        open no breaker: the server has answered), ReadOnly or Refused.
        """
        if self._writes.is_open:
            self._ask_whether_it_writes()
        return self._reach(work)

    def _reach[T](self, work: Callable[[Connection], T], *, anew: bool = False) -> T:
        try:
            with self.breaker.guard():
                return self._run(work, anew=anew)
        except Refused as refused:
            raise self._meaning(refused) from None

    def _meaning(self, refused: Refused) -> MessageHandlerError:
        if refused.code in _OUTDATED:
            self._is_outdated()
            return Unavailable(_OUTDATED_SCHEMA)
        if refused.code in _IN_THE_WAY:
            return Unavailable("Postgres, where a lock is in the way,")
        if refused.code == _SLOW:
            return Unavailable("Postgres, where a statement takes too long,")
        if reason := _READ_ONLY.get(refused.code):
            why = ReadOnly(f"Postgres ({reason})", reason=reason)
            if refused.code != _REPLICA or not self._writes.is_open:
                # A replica is asked when it is time. Of a full disk only the writes themselves tell: each that is
                # refused puts off the question, which the server would answer well.
                self._writes.turn(why)
            return why
        return refused

    def _ask_whether_it_writes(self) -> None:
        with suppress(Unavailable), self._writes.guard():
            try:
                self._reach(migrations.is_up_to_date, anew=True)
            except Unavailable as error:
                # A server that can't be asked now is what it was.
                raise (error if isinstance(error, ReadOnly) else self._writes.why or error) from None

    def _is_outdated(self) -> None:
        now = time.monotonic()
        if now >= self._outdated_until:
            _log.warning("the database's schema is older than this code", extra={"mend": "migrate"})
        self._outdated_until = now + _OUTDATED_SECONDS

    def _run[T](self, work: Callable[[Connection], T], *, anew: bool) -> T:
        if anew:
            self.close()
        with self._mutex:
            # With `anew`, also none that another thread has given back since.
            connection, used_at = self._idle.pop() if self._idle and not anew else (None, 0.0)
        if connection and used_at + _IDLE_SECONDS < time.monotonic():
            # The others are older still.
            close(connection)
            self.close()
            connection = None
        if connection:
            try:
                return self._use(connection, work)
            except Unavailable as error:
                # The other idle ones are of the same age: one surprise is enough.
                self.close()
                if isinstance(error, _TimedOut):
                    # A dead connection says so at once; who says nothing is the server, and its time is up.
                    raise
            except Refused as refused:
                if refused.code != _REPLICA or self._writes.is_open:
                    raise
                self.close()
        with _reaching_postgres():
            connection = self._connect()
        return self._use(connection, work)

    def _connect(self, **changed: Any) -> Connection:
        """A new connection. Raises TooOld, of the first that this process makes."""
        connection = self._new_connection(**changed)
        if not self._known_to_be_new:
            try:
                _check_version(connection)
            except BaseException:
                close(connection)
                raise
            self._known_to_be_new = True
        if _refuses_writes(connection) and not self._writes.is_open:
            # Also a process that only reads shall say so.
            self._writes.turn(ReadOnly("Postgres", reason=_READ_ONLY[_REPLICA]))
        return connection

    def _use[T](self, connection: Connection, work: Callable[[Connection], T]) -> T:
        alive = False
        try:
            with _reaching_postgres():
                result = work(connection)
            alive = True
            return result
        except (Refused, RequestError):
            alive = True
            raise
        except _TimedOut:
            # What stands between may have dropped all that are as old, without a word.
            self.close()
            if self._is_alive():
                raise Refused(_SLOW) from None
            raise
        finally:
            if alive and _refuses_writes(connection) and not self._writes.is_open:
                # It has become a replica since it was connected to: the name may lead to another server by now.
                self.close()
                alive = False
            if alive:
                with self._mutex:
                    self._idle.append((connection, time.monotonic()))
            else:
                close(connection)

    def _is_alive(self) -> bool:
        """Whether it answers another connection: then it was the statement that took too long."""
        with suppress(MessageHandlerError), _reaching_postgres():
            connection = self._connect(timeout=_PING_SECONDS)
            try:
                connection.run("select 1")  # a proxy lets us in by itself
                return True
            finally:
                close(connection)
        return False

    def execute(self, values: dict[str, Any], *statements: str) -> list[Any]:
        """See `execute`: a transaction in one round trip."""
        return self.run(lambda connection: execute(connection, values, *statements))

    def ping(self) -> None:
        """Raises Unavailable if there is no server, or no schema of ours in it, or an older one; ReadOnly."""
        if not self.run(migrations.is_up_to_date):
            self._is_outdated()
            raise Unavailable(_OUTDATED_SCHEMA)
        self._outdated_until = 0.0
        if why := self._writes.why:
            raise why

    def migrate(self, seconds: float = _MIGRATION_SECONDS) -> list[str]:
        """Apply the migrations and functions that this database lacks, all or none; returns their names.

        Takes at most `seconds`, on a connection of its own, for that may be longer than a request may take. Raises
        Unavailable, also where a transaction holds a table: waiting for it would keep all others waiting behind it.
        """
        with _reaching_postgres():
            connection = self._connect(timeout=seconds)
        try:
            with _reaching_postgres(), transaction(connection):
                applied = migrations.apply(connection, seconds)
        except Refused as refused:
            if refused.code in _IN_THE_WAY:
                raise Unavailable("a table that another transaction holds: try again") from None
            raise self._meaning(refused) from None
        finally:
            close(connection)
        self._outdated_until = 0.0
        return applied

    def close(self) -> None:
        """Close what nobody uses at this moment; a connection is made again when it is needed."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            close(connection)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """What runs inside happens whole or not at all; a connection that dies rolls back.

    So does a client that is stopped in the middle, after ten seconds, for its locks would hold up others. The user's
    own settings say that (`migrations.apply`): a `set` in here would pin the session to its connection of RDS Proxy.
    """
    connection.run("begin")
    try:
        yield
    except (DatabaseError, RequestError):
        connection.run("rollback")
        raise
    connection.run("commit")


def execute(connection: Connection, values: dict[str, Any], *statements: str) -> list[Any]:
    """The rows of these statements in turn. Each takes from `values` what it names.

    One round trip, and unless a transaction is open it is one: no row stays locked for a client that is stopped.
    (`Connection.run` makes three for each statement, to parse, to describe and to execute.)

    Values go as parameters. Written into the text, a patient's words would be in the server's log after an error.
    """
    prepared = [(text, make_params(connection.py_types, taken(values))) for text, taken in map(statement, statements)]
    for number, (text, parameters) in enumerate(prepared, 1):
        connection.send_PARSE(_UNNAMED, text)
        connection.send_DESCRIBE_STATEMENT(_UNNAMED)
        if number < len(prepared):
            connection.send_BIND(_UNNAMED, parameters)
            connection.send_EXECUTE()
    # Binds and executes the last one, sends them all, and reads the answers to all.
    answered = connection.execute_named(_UNNAMED, parameters, None, None, " ".join(statements))
    return list(answered.rows or ())


class _TimedOut(Unavailable):
    """The server said nothing for the whole timeout."""


@contextmanager
def _reaching_postgres() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        code = _sqlstate(error)
        if code.startswith(_REFUSING):
            # Until a person mends it, or a rotation has come to its end, the work goes on without Postgres.
            raise Unavailable(f"Postgres ({_REFUSES_LOGIN})", reason=f"login: {_REFUSES_LOGIN}") from None
        if code[:2] in _PASSING and code != _SLOW and code not in _READ_ONLY:
            raise Unavailable("Postgres", reason=f"{_PASSING[code[:2]]} (SQLSTATE {code})") from None
        raise Refused(code) from None
    except (InterfaceError, OSError) as error:
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        mend, reason = _to_be_mended(error), why_unreachable(error)
        what = f"Postgres ({mend})" if mend else "Postgres"
        raise (_TimedOut if timed_out else Unavailable)(what, reason=mend or reason) from error


def _refuses_writes(connection: Connection) -> bool:
    """Whether its server has said so: at the login, or with an answer since then (from Postgres 14 on)."""
    told = connection.parameter_statuses
    return "on" in (told.get("in_hot_standby"), told.get("default_transaction_read_only"))


def _check_version(connection: Connection) -> None:
    """Raises TooOld."""
    told = re.match(r"\d+", connection.parameter_statuses.get("server_version", ""))
    if told and int(told[0]) >= _OLDEST_MAJOR:
        return
    # A proxy may tell a version of its own at the login; this one comes from the server itself.
    ((number,),) = connection.run("show server_version_num")
    major = int(number) // 10_000
    if major < _OLDEST_MAJOR:
        raise TooOld(f"Postgres (it is version {major}; at least {_OLDEST_MAJOR} is needed)")


def _to_be_mended(error: Exception) -> str | None:
    """What a person has to do about TLS, which is asked for unless the URL says otherwise."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_untrusted(error, "DATABASE_URL with ?sslrootcert=<file>")
    if "refuses SSL" in str(error):
        return "it speaks no TLS: DATABASE_URL may say ?sslmode=disable"
    return None


def _sqlstate(error: DatabaseError) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(details.get("C", "unknown"))
