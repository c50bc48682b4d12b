"""One Postgres database: its connections, the meaning of its errors, and its migrations.

The steps that every answer takes are functions (`sql/functions/`), because a connection keeps their plans. A kept
connection may turn out to be dead. It is replaced once, silently: all work that runs here may be repeated without harm.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pg8000.converters import make_params
from pg8000.exceptions import DatabaseError

from message_handler.domain.errors import (
    MessageHandlerError,
    ReadOnly,
    RequestError,
    TooOld,
    Unavailable,
)
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.postgres_driver import Connection, close
from message_handler.drivers.postgres_errors import (
    IN_THE_WAY,
    OUTDATED,
    READ_ONLY,
    REPLICA,
    SLOW,
    StatementRefused,
    TimedOut,
    reaching_postgres,
)
from message_handler.sql import migrations
from message_handler.sql.statements import statement

_log = logging.getLogger(__name__)

#: How long the schema counts as outdated after a refusal. Any process may migrate it meanwhile.
_OUTDATED_SECONDS = 60.0
#: A connection that was idle for longer is replaced: firewalls and load balancers drop idle ones silently.
_IDLE_SECONDS = 60.0
#: A migration may take longer than a request: nearly as long as the admin function may run.
_MIGRATION_SECONDS = 50.0
_OUTDATED_SCHEMA = "the database's schema (run the admin function's action `migrate`)"
#: The protocol's name for the unnamed prepared statement.
_UNNAMED = b"\0"
#: The timeout of a connection that only tells whether the server is alive.
_PING_SECONDS = 1.0
OLDEST_MAJOR = 15


class Database:
    """The connections to one database, as many as threads use at once, behind one circuit breaker.

    The connection that was used last is used first. A server that refuses writes still serves reads; a write raises
    ReadOnly. Until it takes writes again, one call in `retry_after` seconds asks for that on a new connection, because
    the host name may lead to a new primary by then:

        old primary ── made a replica ── write refused on an old connection ── once more on a new one ──▶ new primary
                                              └─ refused there too ──▶ read-only ── asked anew ──▶ writes again
    """

    def __init__(
        self,
        connect: Callable[..., Connection],
        breaker: CircuitBreaker | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """`timeout`: how long a connection waits for an answer (seconds). `migrate` limits statements by it."""
        self._timeout = timeout
        self.breaker = breaker or CircuitBreaker("Postgres", retry_after=5.0)
        #: Open while the server refuses writes.
        self._writes = CircuitBreaker(self.breaker.name, self.breaker.retry_after, self.breaker.clock)
        self._new_connection = connect
        self._is_version_checked = False
        #: Unused connections, each with the time of its last use (monotonic seconds).
        self._idle: list[tuple[Connection, float]] = []
        self._mutex = threading.Lock()
        self._outdated_until = 0.0

    @property
    def away(self) -> bool:
        """Whether the server did not answer, refuses writes, or has an older schema than this code needs."""
        return self.breaker.is_open or self._writes.is_open or time.monotonic() < self._outdated_until

    def run[T](self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a connection. If that is an old one, and dead, run it once more on a new one.

        Raises ReadOnly, StatementRefused or Unavailable. A missing schema, a lock in the way and a slow statement are
        Unavailable too, but open no breaker, because the server has answered.
        """
        if self._writes.is_open:
            self._ask_whether_it_writes()
        return self._reach(work)

    def _reach[T](self, work: Callable[[Connection], T], *, anew: bool = False) -> T:
        try:
            with self.breaker.guard():
                return self._run(work, anew=anew)
        except StatementRefused as refused:
            raise self._meaning(refused) from None

    def _meaning(self, refused: StatementRefused) -> MessageHandlerError:
        if refused.code in OUTDATED:
            self._note_outdated()
            return Unavailable(_OUTDATED_SCHEMA)
        if refused.code in IN_THE_WAY:
            return Unavailable("Postgres (a lock is in the way)")
        if refused.code == SLOW:
            return Unavailable("Postgres (a statement takes too long)")
        if reason := READ_ONLY.get(refused.code):
            why = ReadOnly(f"Postgres ({reason})", reason=reason)
            if refused.code != REPLICA or not self._writes.is_open:
                # Each refused write postpones the next question whether the server writes. (A server with a full disk
                # would say yes.) A known replica tells the truth, so its question is not postponed.
                self._writes.record(why)
            return why
        return refused

    def _ask_whether_it_writes(self) -> None:
        with suppress(Unavailable), self._writes.guard():
            try:
                self._reach(migrations.is_up_to_date, anew=True)
            except Unavailable as error:
                # A server that can't be asked now keeps its state.
                raise (error if isinstance(error, ReadOnly) else self._writes.why or error) from None

    def _note_outdated(self) -> None:
        now = time.monotonic()
        if now >= self._outdated_until:
            _log.warning("the database's schema is older than this code", extra={"mend": "migrate"})
        self._outdated_until = now + _OUTDATED_SECONDS

    def _run[T](self, work: Callable[[Connection], T], *, anew: bool) -> T:
        if anew:
            self.close()
        with self._mutex:
            # With `anew`, skip also a connection that another thread has put back since.
            connection, used_at = self._idle.pop() if self._idle and not anew else (None, 0.0)
        if connection and used_at + _IDLE_SECONDS < time.monotonic():
            # The other idle connections are older still.
            close(connection)
            self.close()
            connection = None
        if connection:
            try:
                return self._use(connection, work)
            except Unavailable as error:
                # The other idle connections are as old, and probably dead too.
                self.close()
                if isinstance(error, TimedOut):
                    # A dead connection fails at once. Here the server is silent, and its time is up.
                    raise
            except StatementRefused as refused:
                if refused.code != REPLICA or self._writes.is_open:
                    raise
                self.close()
        with reaching_postgres():
            connection = self._connect()
        return self._use(connection, work)

    def _connect(self, **changed: Any) -> Connection:
        """A new connection. The first one of a process raises TooOld if the server's version is too old."""
        connection = self._new_connection(**changed)
        if not self._is_version_checked:
            try:
                _check_version(connection)
            except BaseException:
                close(connection)
                raise
            self._is_version_checked = True
        if _refuses_writes(connection) and not self._writes.is_open:
            # So that a process that only reads reports it too.
            self._writes.record(ReadOnly("Postgres", reason=READ_ONLY[REPLICA]))
        return connection

    def _use[T](self, connection: Connection, work: Callable[[Connection], T]) -> T:
        alive = False
        try:
            with reaching_postgres():
                result = work(connection)
            alive = True
            return result
        except (StatementRefused, RequestError):
            alive = True
            raise
        except TimedOut:
            # A firewall in between may have dropped all connections of this age silently.
            self.close()
            if self._is_alive():
                raise StatementRefused(SLOW) from None
            raise
        finally:
            if alive and _refuses_writes(connection) and not self._writes.is_open:
                # The server has become a replica since. The host name may lead to another server by now.
                self.close()
                alive = False
            if alive:
                with self._mutex:
                    self._idle.append((connection, time.monotonic()))
            else:
                close(connection)

    def _is_alive(self) -> bool:
        """Whether the server answers on another connection: then only the statement took too long."""
        with suppress(MessageHandlerError), reaching_postgres():
            connection = self._connect(timeout=_PING_SECONDS)
            try:
                connection.run("select 1")  # logging in is not enough: a proxy answers that itself
                return True
            finally:
                close(connection)
        return False

    def execute(self, values: dict[str, Any], *statements: str) -> list[Any]:
        """Run statements as one transaction, in one round trip. See the function `execute`."""
        return self.run(lambda connection: execute(connection, values, *statements))

    def ping(self) -> None:
        """Raise Unavailable if the server or the schema is missing, or the schema outdated; ReadOnly if writes fail."""
        if not self.run(migrations.is_up_to_date):
            self._note_outdated()
            raise Unavailable(_OUTDATED_SCHEMA)
        self._outdated_until = 0.0
        if why := self._writes.why:
            raise why

    def migrate(self, seconds: float = _MIGRATION_SECONDS) -> list[str]:
        """Apply the migrations and functions that this database lacks, all or none. Returns their names.

        Takes at most `seconds`, on a connection of its own, because that may be longer than a request's timeout. Raises
        Unavailable, also if another transaction has locked a table: waiting for it would delay all work behind it.
        """
        with reaching_postgres():
            connection = self._connect(timeout=seconds)
        try:
            with reaching_postgres(), transaction(connection):
                applied = migrations.apply(connection, seconds, self._timeout)
        except StatementRefused as refused:
            if refused.code in IN_THE_WAY:
                raise Unavailable("a table (another transaction has locked it; try again)") from None
            raise self._meaning(refused) from None
        finally:
            close(connection)
        self._outdated_until = 0.0
        return applied

    def close(self) -> None:
        """Close the idle connections. New ones are made when they are needed."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            close(connection)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """The statements inside take effect together, or not at all. A connection that dies rolls back.

    Postgres also rolls back for a client that stops in the middle, after ten seconds, so that its locks hold up no
    other client. That is a setting of the database user (`migrations.apply`): a `set` here would pin the session to one
    connection of RDS Proxy.
    """
    connection.run("begin")
    try:
        yield
    except (DatabaseError, RequestError):
        connection.run("rollback")
        raise
    connection.run("commit")


def execute(connection: Connection, values: dict[str, Any], *statements: str) -> list[Any]:
    """Run statements by their names and return all their rows. Each takes the parameters that it names from `values`.

    It takes one round trip; `Connection.run` takes three for each statement, to parse, to describe and to execute. If
    no transaction is open, the statements are one: a client that stops leaves no row locked.

    Values are sent as parameters. Inside the text, a patient's words would reach the server's log after an error.
    """
    prepared = [(text, make_params(connection.py_types, pick(values))) for text, pick in map(statement, statements)]
    for number, (text, parameters) in enumerate(prepared, 1):
        connection.send_PARSE(_UNNAMED, text)
        connection.send_DESCRIBE_STATEMENT(_UNNAMED)
        if number < len(prepared):
            connection.send_BIND(_UNNAMED, parameters)
            connection.send_EXECUTE()
    # Binds and executes the last statement, sends them all, and reads the answers to all.
    answer = connection.execute_named(_UNNAMED, parameters, None, None, " ".join(statements))
    return list(answer.rows or ())


def _refuses_writes(connection: Connection) -> bool:
    """Whether the server has reported that it is read-only, at the login or with a later answer (Postgres 14 on)."""
    reported = connection.parameter_statuses
    return "on" in (reported.get("in_hot_standby"), reported.get("default_transaction_read_only"))


def _check_version(connection: Connection) -> None:
    """Raise TooOld if the server's version is below `OLDEST_MAJOR`."""
    reported = re.match(r"\d+", connection.parameter_statuses.get("server_version", ""))
    if reported and int(reported[0]) >= OLDEST_MAJOR:
        return
    # At the login a proxy may report another version than the server's, so ask the server itself.
    ((number,),) = connection.run("show server_version_num")
    major = int(number) // 10_000
    if major < OLDEST_MAJOR:
        raise TooOld(f"Postgres (it is version {major}; at least {OLDEST_MAJOR} is needed)")
