"""The Postgres archive: the arbiter that issues fences and commits replies, and what is kept for good.

Each statement lives in its own file under `sql/`. A connection that turns out to be dead when it is used again is
replaced once, silently: every transaction here may be repeated without harm.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from message_handler.errors import MessageHandlerError, SettingsError, Unavailable
from message_handler.models import (
    Conversation,
    ConversationKey,
    Fence,
    Job,
    JobError,
    JobStatus,
    Message,
    Turn,
    Verdict,
)
from message_handler.settings import Settings

_SETTLED_KIND = {JobStatus.COMPLETED: "answered", JobStatus.FAILED: "failed"}
#: SQLSTATE classes that pass by themselves: connection, resources, operator intervention, rollback.
_PASSING = ("08", "53", "57", "40")
_UNIQUE_VIOLATION = "23505"
_UNDEFINED_TABLE = "42P01"
#: The migrations' own lock, held to the end of their transaction.
_MIGRATION_LOCK = 7_220_441


def connector(settings: Settings) -> Callable[[], Connection]:
    """How to connect, from `DATABASE_URL`. `?sslmode=` is `disable`, `require` or `verify-full`."""
    assert settings.database_url is not None
    url = urlsplit(settings.database_url.get_secret_value())
    sslmode = parse_qs(url.query).get("sslmode", ["disable"])[0]
    if sslmode not in ("disable", "require", "verify-full"):
        raise SettingsError("bad settings: DATABASE_URL: sslmode is disable, require or verify-full")
    tls = _tls(verify=sslmode == "verify-full") if sslmode != "disable" else False
    arguments = {
        "user": unquote(url.username or "postgres"),
        "password": unquote(url.password) if url.password else None,
        "host": url.hostname or "localhost",
        "port": url.port or 5432,
        "database": unquote(url.path.lstrip("/")) or None,
        "timeout": settings.database_timeout,
        "application_name": "message_handler",
        "ssl_context": tls,
    }
    return lambda: Connection(**arguments)


def _tls(*, verify: bool) -> ssl.SSLContext:
    """One context for all connections: making one costs 24 ms."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@cache
def _sql(name: str) -> str:
    """The statement in `sql/<name>.sql` without its comments: pg8000 would look for parameters in them."""
    text = (files("message_handler.stores") / "sql" / f"{name}.sql").read_text()
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


class _Connections:
    """As many connections as threads use at once, the one used last first."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._mutex = threading.Lock()

    def run[T](self, work: Callable[[Connection], T]) -> T:
        """`work` on a connection, once more on a new one if the connection was an old one and is dead."""
        with self._mutex:
            connection = self._idle.pop() if self._idle else None
        if connection:
            with suppress(Unavailable):
                return self._use(connection, work)
        return self._use(self._new(), work)

    def _new(self) -> Connection:
        with _reaching_postgres():
            return self._connect()

    def _use[T](self, connection: Connection, work: Callable[[Connection], T]) -> T:
        alive = False
        try:
            with _reaching_postgres():
                result = work(connection)
            alive = True
            return result
        except _Refused:
            alive = True
            raise
        finally:
            if alive:
                with self._mutex:
                    self._idle.append(connection)
            else:
                _close(connection)

    def close(self) -> None:
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)


class _Refused(MessageHandlerError):
    """Postgres refused a statement. Only the SQLSTATE is told: the server's own text quotes values."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Postgres refused a statement (SQLSTATE {code})")
        self.code = code


@contextmanager
def _reaching_postgres() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        code = str(details.get("C", "unknown"))
        if code.startswith(_PASSING):
            raise Unavailable("Postgres") from None
        raise _Refused(code) from None
    except (InterfaceError, OSError) as error:
        raise Unavailable("Postgres") from error


def _close(connection: Connection) -> None:
    # Of a connection that died pg8000 leaves the stream, and with it the descriptor, to the garbage collector.
    stream = connection._sock
    for close in (connection.close, stream.close):
        # There may be nobody left to say goodbye to.
        with suppress(InterfaceError, OSError):
            close()


class PostgresArchive:
    """Commits under fences, keeps conversations, jobs and configuration."""

    name: Literal["postgres", "memory"] = "postgres"

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connections = _Connections(connect)

    def ping(self) -> None:
        try:
            self._connections.run(lambda connection: connection.run("select from schema_migrations limit 1"))
        except _Refused as refused:
            if refused.code == _UNDEFINED_TABLE:
                raise Unavailable("the database's schema (the admin function's action `migrate` makes it)") from None
            raise

    def close(self) -> None:
        self._connections.close()

    def migrate(self) -> list[str]:
        """Apply the migrations that this database lacks, all or none; returns their names."""
        return self._connections.run(_migrate)

    def fence(self, job: Job, *, successor_id: str, turns: int) -> Fence:
        values = _job_values(job) | {"turns": turns}

        def work(connection: Connection) -> Fence:
            with _transaction(connection):
                _run(connection, "lock_conversation", values)
                number, known, newest = _run(connection, "take_fence", values)[0]
                settled: dict[str, str] = known or {}
                archived = tuple(Turn(t["role"], t["content"], t["message_id"]) for t in newest or ())
                if number is not None:
                    return Fence(number, settled, archived)
                open_ = any(message.message_id not in settled for message in job.messages)
                _run(connection, "note_job", values)
                ended = _archived(connection, job)
                if open_:
                    _run(connection, "supersede_job", values | {"successor_id": successor_id})
                elif not ended.status.ended:
                    settled_by = settled[job.messages[-1].message_id]
                    _run(connection, "supersede_job", values | {"successor_id": settled_by})
                _run(connection, "end_job", values)
                successor = _run(connection, "chain_end", values)[0][0] if open_ else None
                return Fence(None, settled, archived, _archived(connection, job), successor)

        return self._connections.run(work)

    def commit(self, job: Job, fence: int) -> bool:
        said = [("user", m.content, m.message_id if m.given else None) for m in job.messages]
        if job.reply is not None:
            said.append(("assistant", job.reply, None))
        values = _job_values(job) | {
            "fence": fence,
            "status": job.status.value,
            "kind": _SETTLED_KIND[job.status],
            "reply": job.reply,
            "error_code": job.error.code if job.error else None,
            "error_message": job.error.message if job.error else None,
            "finished_at": job.finished_at,
            "roles": [role for role, _, _ in said],
            "contents": [content for _, content, _ in said],
            "turn_ids": [turn_id for _, _, turn_id in said],
        }
        try:
            rows = self._run("commit_job", values)
        except _Refused as refused:
            if refused.code != _UNIQUE_VIOLATION:
                raise
            return False
        return bool(rows[0][0]) or bool(self._run("was_committed", values)[0][0])

    def cancel(self, job: Job) -> Verdict:
        values = _job_values(job) | {
            "owners": [message.message_id for message in job.messages for _ in message.ids],
            "contents": [message.content for message in job.messages],
            "turn_ids": [message.message_id if message.given else None for message in job.messages],
        }

        def work(connection: Connection) -> Verdict:
            with _transaction(connection):
                _run(connection, "lock_conversation", values)
                cancelled = bool(_run(connection, "cancel_job", values)[0][0])
                return Verdict(_archived(connection, job), cancelled)

        return self._connections.run(work)

    def raise_fence(self, key: ConversationKey) -> None:
        self._run("raise_fence", _key_values(key))

    def supersede(self, job: Job, successor_id: str) -> None:
        values = _job_values(job) | {"successor_id": successor_id}

        def work(connection: Connection) -> None:
            with _transaction(connection):
                for statement in ("lock_conversation", "note_job", "supersede_job", "end_settled"):
                    _run(connection, statement, values)

        self._connections.run(work)

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        rows = self._run("settled_by", _key_values(key) | {"message_id": message_id})
        return rows[0][0] if rows else None

    def job(self, platform_id: str, job_id: str) -> Job | None:
        return self._connections.run(lambda connection: _job(connection, platform_id, job_id))

    def conversation(self, key: ConversationKey) -> Conversation | None:
        rows = self._run("conversation", _key_values(key))
        if not rows:
            return None
        turns = [
            (Turn(role, content, message_id), said_at, job_id)
            for _, role, content, message_id, said_at, job_id in rows
            if role is not None
        ]
        return Conversation(key, rows[0][0], turns)

    def bot_of(self, key: ConversationKey) -> str | None:
        rows = self._run("bot_of", _key_values(key))
        return rows[0][0] if rows else None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        rows = self._run("configuration", {"platform_id": platform_id, "bot_id": bot_id})
        return rows[0][0] if rows else None

    def _run(self, statement: str, values: dict[str, Any]) -> list[Any]:
        return self._connections.run(lambda connection: _run(connection, statement, values))


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.run("begin")
    try:
        yield
    except DatabaseError:
        connection.run("rollback")
        raise
    connection.run("commit")


def _key_values(key: ConversationKey) -> dict[str, Any]:
    return {"platform_id": key.platform_id, "conversation_id": key.conversation_id}


def _job_values(job: Job) -> dict[str, Any]:
    return _key_values(job.key) | {
        "job_id": job.job_id,
        "bot_id": job.bot_id,
        "message_ids": [message.message_id for message in job.messages],
        "ids": [id_ for message in job.messages for id_ in message.ids],
        "restarts": job.restarts,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "started_at": job.started_at,
    }


def _run(connection: Connection, statement: str, values: dict[str, Any]) -> list[Any]:
    """The rows of `sql/<statement>.sql` with those of the values that it names."""
    return list(connection.run(_sql(statement), **values) or ())


def _archived(connection: Connection, job: Job) -> Job:
    """A job that is in the archive for certain."""
    archived = _job(connection, job.key.platform_id, job.job_id)
    assert archived is not None
    return archived


def _job(connection: Connection, platform_id: str, job_id: str) -> Job | None:
    rows = connection.run(_sql("job"), platform_id=platform_id, job_id=job_id)
    if not rows:
        return None
    (id_, conversation_id, bot_id, status, message_ids, restarts, attempts, reply, code, text, successor, *times) = (
        rows[0]
    )
    return Job(
        job_id=id_,
        key=ConversationKey(platform_id, conversation_id),
        status=JobStatus(status),
        messages=tuple(Message(message_id, "") for message_id in message_ids),
        bot_id=bot_id,
        restarts=restarts,
        attempts=attempts,
        created_at=times[0],
        started_at=times[1],
        finished_at=times[2],
        reply=reply,
        error=JobError(code, text or "") if code else None,
        superseded_by=successor,
    )


def _migrate(connection: Connection) -> list[str]:
    folder = files("message_handler.stores") / "sql" / "migrations"
    applied = []
    with _transaction(connection):
        connection.run("select pg_advisory_xact_lock(:lock)", lock=_MIGRATION_LOCK)
        connection.run(
            "create table if not exists schema_migrations"
            " (version integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
        known = {row[0] for row in connection.run("select version from schema_migrations")}
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            version = int(file.name.split("_")[0])
            if version not in known:
                connection.execute_simple(file.read_text())
                connection.run(
                    "insert into schema_migrations (version, name) values (:version, :name)",
                    version=version,
                    name=file.name,
                )
                applied.append(file.name)
    return applied
