"""One Postgres database: how it is reached, what its errors mean, and how its schema comes to be.

What is done for each answer is a function, whose plans a connection keeps (`sql/functions/`). A connection that turns
out to be dead when it is used again is replaced once, silently: whatever runs here may be repeated without harm.
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
OLDEST_MAJOR = 15


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
        open no breaker: the server has answered), ReadOnly or StatementRefused.
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
            self._is_outdated()
            return Unavailable(_OUTDATED_SCHEMA)
        if refused.code in IN_THE_WAY:
            return Unavailable("Postgres, where a lock is in the way,")
        if refused.code == SLOW:
            return Unavailable("Postgres, where a statement takes too long,")
        if reason := READ_ONLY.get(refused.code):
            why = ReadOnly(f"Postgres ({reason})", reason=reason)
            if refused.code != REPLICA or not self._writes.is_open:
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
                if isinstance(error, TimedOut):
                    # A dead connection says so at once; who says nothing is the server, and its time is up.
                    raise
            except StatementRefused as refused:
                if refused.code != REPLICA or self._writes.is_open:
                    raise
                self.close()
        with reaching_postgres():
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
            self._writes.turn(ReadOnly("Postgres", reason=READ_ONLY[REPLICA]))
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
            # What stands between may have dropped all that are as old, without a word.
            self.close()
            if self._is_alive():
                raise StatementRefused(SLOW) from None
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
        with suppress(MessageHandlerError), reaching_postgres():
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
        with reaching_postgres():
            connection = self._connect(timeout=seconds)
        try:
            with reaching_postgres(), transaction(connection):
                applied = migrations.apply(connection, seconds)
        except StatementRefused as refused:
            if refused.code in IN_THE_WAY:
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


def _refuses_writes(connection: Connection) -> bool:
    """Whether its server has said so: at the login, or with an answer since then (from Postgres 14 on)."""
    told = connection.parameter_statuses
    return "on" in (told.get("in_hot_standby"), told.get("default_transaction_read_only"))


def _check_version(connection: Connection) -> None:
    """Raises TooOld."""
    told = re.match(r"\d+", connection.parameter_statuses.get("server_version", ""))
    if told and int(told[0]) >= OLDEST_MAJOR:
        return
    # A proxy may tell a version of its own at the login; this one comes from the server itself.
    ((number,),) = connection.run("show server_version_num")
    major = int(number) // 10_000
    if major < OLDEST_MAJOR:
        raise TooOld(f"Postgres (it is version {major}; at least {OLDEST_MAJOR} is needed)")
