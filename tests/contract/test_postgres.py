"""Promises of the Postgres archive alone: connections, errors, migrations, configuration."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pg8000.native import Connection, identifier
from pydantic import SecretStr

from local import migrate
from local.stores import Server
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.errors import MessageHandlerError, ReadOnly, SettingsError, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.egress import host_of
from message_handler.drivers.postgres import Database, transaction
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from message_handler.sql import migrations
from tests.conftest import started
from tests.contract.chat import named
from tests.contract.conftest import MIGRATIONS, database_of
from tests.contract.conversation import KEY, Conversation
from tests.contract.threads import at_once
from tests.servers import emptied

CANARY = "canary-7f3a"


@dataclass
class Connections:
    """Makes connections, unless the server is away."""

    connector: Callable[..., Connection]
    options: dict[str, Any] = field(default_factory=dict)
    made: list[Connection] = field(default_factory=list)
    asked: int = 0
    away: bool = False

    def connect(self, **changed: Any) -> Connection:
        self.asked += 1
        if self.away:
            raise ConnectionRefusedError
        self.made.append(self.connector(**self.options | changed))
        return self.made[-1]


@pytest.fixture
def talk(postgres_archive: PostgresArchive) -> Conversation:
    return Conversation(postgres_archive)


def backends(sql: Connection) -> list[tuple[int, str]]:
    """The server processes of the archive's connections, with their states."""
    rows = sql.run(
        "select pid, state from pg_stat_activity"
        " where application_name = 'message_handler' and pid <> pg_backend_pid() and datname = current_database()"
    )
    return [(pid, state) for pid, state in rows or ()]


def backend(connection: Connection) -> int:
    return int(connection.run("select pg_backend_pid()")[0][0])


def uses(talk: Conversation) -> dict[str, Callable[[], Any]]:
    """Every method that reaches the server."""
    archive, job = talk.archive, talk.job(1, "m0")
    return {
        "ping": archive.ping,
        "migrate": archive.migrate,
        "fence": lambda: talk.fence(job),
        "commit": lambda: archive.commit(talk.completed(job), 1),
        "archive": lambda: archive.archive(talk.completed(job)),
        "cancel": lambda: archive.cancel(job),
        "raise_fence": lambda: archive.raise_fence(KEY),
        "supersede": lambda: archive.supersede(job, talk.id(50)),
        "settled_by": lambda: archive.settled_by(KEY, "m0"),
        "job": lambda: archive.job(KEY.platform_id, talk.id(1)),
        "conversation": lambda: archive.conversation(KEY),
        "bot_of": lambda: archive.bot_of(KEY),
        "configuration": lambda: archive.configuration("default", "default"),
    }


class TestConnections:
    @pytest.fixture(autouse=True)
    def _none_of_earlier_tests(self, postgres_database: Database) -> None:
        postgres_database.close()

    def test_a_connection_that_died_between_two_uses_is_replaced_silently(
        self, talk: Conversation, sql: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        for name, use in uses(talk).items():
            talk.archive.ping()
            pids = [pid for pid, _ in backends(sql)]
            assert len(pids) == 1, name
            sql.run("select pg_terminate_backend(:pid, 5000)", pid=pids[0])
            use()
            assert [pid for pid, _ in backends(sql)] != pids, name
        assert caplog.records == []

    def test_a_step_whose_connection_died_was_done_once(self, talk: Conversation, sql: Connection) -> None:
        talk.answer(1, "m0")
        sql.run("select pg_terminate_backend(:pid, 5000)", pid=backends(sql)[0][0])
        talk.answer(2, "m1")
        assert len(talk.turns()) == 4

    def test_they_are_reused(self, talk: Conversation, sql: Connection) -> None:
        for number in range(1, 21):
            talk.answer(number, f"m{number}")
            talk.archive.cancel(talk.job(number, f"m{number}"))
            talk.archive.supersede(talk.job(number), talk.id(number + 1))
            talk.archive.conversation(KEY)
        assert len(backends(sql)) == 1

    def test_there_are_no_more_than_threads(self, talk: Conversation, sql: Connection) -> None:
        for _ in range(3):
            at_once(*[lambda: [talk.archive.settled_by(KEY, "m0") for _ in range(20)]] * 4)
        assert len(backends(sql)) <= 4

    def test_closing_ends_them(self, talk: Conversation, sql: Connection) -> None:
        at_once(*[talk.archive.ping] * 4)
        pids = [pid for pid, _ in backends(sql)]
        talk.archive.close()
        sql.run("select pg_terminate_backend(pid, 5000) from unnest(cast(:pids as int[])) as pid", pids=pids)
        assert backends(sql) == []

    def test_nothing_is_connected_to_before_it_is_used(self) -> None:
        nowhere = Settings(database_url=SecretStr("postgresql://user@127.0.0.1:1/nothing"))
        PostgresArchive(database_of(nowhere)).close()

    def test_a_stopped_server_is_away_for_every_use(self, tmp_path: Path) -> None:
        # Other users can't enter pytest's folder, and a server that root starts runs as another user.
        from local.stores import start_postgres

        server = started(start_postgres, tmp_path)
        try:
            settings = Settings(database_url=SecretStr(server.url), database_timeout=5)
            archive = PostgresArchive(database_of(settings))
            archive.migrate()
            talk = Conversation(archive)
            talk.answer(1, "m0")
        finally:
            server.stop()
        for name, use in uses(talk).items():
            with pytest.raises(Unavailable, match=r"^Postgres is not available$") as caught:
                use()
            secret = server.url.split(":")[2].split("@")[0]
            assert secret not in "".join(traceback.format_exception(caught.value)), name
        archive.close()

    def test_a_database_that_starts_or_is_full_is_away(self, talk: Conversation, postgres_database: Database) -> None:
        """A condition that passes by itself is an outage, and no error of the service."""
        for code in ("53300", "57P03", "57014", "40P01", "08006"):
            with pytest.raises(Unavailable):
                postgres_database.run(
                    lambda connection, code=code: connection.run(
                        f"do $$ begin raise exception 'x' using errcode = '{code}'; end $$"
                    )
                )
            talk.archive.ping()

    def test_a_url_that_asks_for_an_unknown_sslmode_is_refused(self, migrated: Settings) -> None:
        assert migrated.database_url is not None
        url = SecretStr(migrated.database_url.get_secret_value() + "?sslmode=maybe")
        with pytest.raises(SettingsError, match="sslmode"):
            connector(Settings(database_url=url))

    def test_a_driver_in_the_url_is_ignored(self, migrated: Settings) -> None:
        assert migrated.database_url is not None
        url = SecretStr(migrated.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://"))
        archive = PostgresArchive(database_of(Settings(database_url=url)))
        archive.ping()
        archive.close()

    def test_what_the_server_can_not_encrypt_is_not_sent_in_the_clear(self, migrated: Settings) -> None:
        assert migrated.database_url is not None
        url = SecretStr(migrated.database_url.get_secret_value() + "?sslmode=require")
        archive = PostgresArchive(database_of(Settings(database_url=url)))
        with pytest.raises(Unavailable, match="speaks no TLS"):
            archive.ping()

    def test_a_server_with_an_unknown_certificate_is_told_nothing(self, postgres_15: Server) -> None:
        url = SecretStr(postgres_15.url.partition("?")[0] + "?sslmode=verify-full")
        database = database_of(Settings(database_url=url))
        with pytest.raises(Unavailable, match="sslrootcert"):
            database.ping()


class TestBreaker:
    """A Postgres that is away costs one timeout, and then nothing until it is probed."""

    @pytest.fixture
    def now(self) -> Iterator[list[float]]:
        return [100.0]

    @pytest.fixture
    def connections(self, migrated: Settings) -> Connections:
        return Connections(connector(migrated))

    @pytest.fixture
    def database(self, connections: Connections, now: list[float]) -> Iterator[Database]:
        database = Database(connections.connect, CircuitBreaker("Postgres", 5.0, lambda: now[0]))
        yield database
        database.close()

    def test_a_dead_connection_that_can_be_replaced_opens_no_breaker(
        self, database: Database, connections: Connections, sql: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        database.ping()
        sql.run("select pg_terminate_backend(:pid, 5000)", pid=backend(connections.made[-1]))
        database.ping()
        assert not database.breaker.is_open
        assert len(connections.made) == 2
        assert caplog.records == []

    def test_a_failure_on_a_fresh_connection_opens_the_breaker(
        self, database: Database, connections: Connections, now: list[float]
    ) -> None:
        connections.away = True
        with pytest.raises(Unavailable):
            database.ping()
        assert database.breaker.is_open
        asked = connections.asked
        with pytest.raises(Unavailable):
            database.ping()
        assert connections.asked == asked
        connections.away = False
        now[0] += 5.0
        database.ping()
        assert not database.breaker.is_open

    @pytest.fixture
    def silent(self, database: Database, connections: Connections) -> Iterator[list[int]]:
        """Two connections whose server processes are stopped."""
        connections.options["timeout"] = 0.5
        pids = database.run(lambda outer: database.run(lambda inner: [backend(outer), backend(inner)]))
        connections.options.clear()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield pids
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    @pytest.mark.usefixtures("silent")
    def test_a_server_that_says_nothing_is_waited_for_once_and_then_asked_whether_it_is_alive(
        self, database: Database, connections: Connections, postgres: Server, now: list[float]
    ) -> None:
        """A dead connection fails at once. A try on each old connection would multiply the wait."""
        postgres.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                database.ping()
            assert database.breaker.is_open
            assert connections.asked == 3
            with pytest.raises(Unavailable):
                database.ping()
            assert connections.asked == 3
        finally:
            postgres.process.send_signal(signal.SIGCONT)
        now[0] += 5.0
        database.ping()

    @pytest.mark.usefixtures("silent")
    def test_a_server_that_accepts_others_is_alive_and_its_old_connections_are_dropped(
        self, database: Database, connections: Connections
    ) -> None:
        with pytest.raises(Unavailable, match="takes too long"):
            database.ping()
        assert not database.breaker.is_open
        made = len(connections.made)
        database.ping()
        assert len(connections.made) == made + 1

    def test_a_slow_statement_opens_no_breaker(
        self, database: Database, connections: Connections, sql: Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        connections.options["timeout"] = 0.5
        with pytest.raises(Unavailable, match="takes too long"):
            database.run(lambda connection: connection.run("select pg_sleep(30)"))
        assert not database.breaker.is_open
        database.ping()
        assert caplog.records == []
        # Otherwise the server would go on with the statement.
        sql.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where query = 'select pg_sleep(30)'")

    def test_a_statement_that_the_server_or_an_operator_ends_opens_no_breaker(
        self, database: Database, connections: Connections
    ) -> None:
        slow = "set statement_timeout = '50ms'; select pg_sleep(30)"  # one transaction, which is rolled back
        with pytest.raises(Unavailable, match="takes too long"):
            database.run(lambda connection: connection.execute_simple(slow))
        assert not database.breaker.is_open
        database.ping()
        assert len(connections.made) == 1  # the server is alive, and so is the connection

    def test_a_statement_that_the_server_refuses_opens_no_breaker(self, database: Database) -> None:
        for statement in ("select 1/0", "select from no_such_table"):
            with pytest.raises(MessageHandlerError):
                database.run(lambda connection, statement=statement: connection.run(statement))
            assert not database.breaker.is_open

    def test_the_archive_tells_whether_it_was_away(self, database: Database, connections: Connections) -> None:
        archive = PostgresArchive(database)
        archive.ping()
        assert not archive.away
        connections.away = True
        database.close()
        with pytest.raises(Unavailable):
            archive.ping()
        assert archive.away


class TestReadOnly:
    def test_a_connection_that_is_put_back_meanwhile_is_not_asked(
        self, migrated: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another thread has a connection to the old primary, and puts it back while a probe begins.

        probe: drop idle connections ──────────────────────────────── ask on a new one ──▶ the new primary
        other thread:                   put back one to the old primary
        """
        now, connections = [100.0], Connections(connector(migrated))
        database = Database(connections.connect, CircuitBreaker("Postgres", 5.0, lambda: now[0]))
        refusing = "set default_transaction_read_only = on"

        def becomes_a_replica(connection: Connection) -> None:
            connection.run(refusing)
            monkeypatch.setattr(connections, "connector", lambda **changed: replica(connector(migrated)(**changed)))

        def replica(connection: Connection) -> Connection:
            connection.run(refusing)
            return connection

        has_one, gives_back = threading.Event(), threading.Event()

        def works(connection: Connection) -> None:
            replica(connection)
            has_one.set()
            assert gives_back.wait(10)

        other_thread = ThreadPoolExecutor(1).submit(database.run, works)
        assert has_one.wait(10)
        database.run(becomes_a_replica)
        with pytest.raises(ReadOnly):
            database.ping()
        monkeypatch.setattr(connections, "connector", connector(migrated))
        now[0] += 5.0
        close = database.close

        def closes_and_is_given_one() -> None:
            close()
            gives_back.set()
            other_thread.result(10)

        with monkeypatch.context() as patch:
            patch.setattr(database, "close", closes_and_is_given_one)
            database.run(lambda connection: connection.run("select 1"))
        assert not database.away
        database.ping()
        database.close()

    @pytest.mark.usefixtures("postgres_database")
    def test_a_migration_says_so(self, migrated: Settings) -> None:
        def refusing(**changed: Any) -> Connection:
            connection = connector(migrated)(**changed)
            connection.run("set default_transaction_read_only = on")
            return connection

        with pytest.raises(MessageHandlerError) as told:
            Database(refusing).migrate()
        assert isinstance(told.value, ReadOnly)


class TestTLS:
    SECRET = "s3cret"
    URL = f"postgresql://user:{SECRET}@db.example/app"

    def context(self, query: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The TLS context of the connections that a URL asks for."""
        given: dict[str, Any] = {}
        monkeypatch.setattr(
            "message_handler.drivers.postgres_connection.Connection", lambda **arguments: given.update(arguments)
        )
        with socket.socket() as unconnected:
            monkeypatch.setattr(socket, "create_connection", lambda *_: unconnected)
            connector(Settings(database_url=SecretStr(self.URL + query)))()
        return given["ssl_context"]

    @pytest.fixture
    def authorities(self) -> str:
        """A file of certificates."""
        return str(files("botocore") / "cacert.pem")

    def test_no_tls_where_it_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.context("?sslmode=disable", monkeypatch) is False

    def test_without_an_sslmode_all_of_tls_is_verified(self, monkeypatch: pytest.MonkeyPatch) -> None:
        context = self.context("", monkeypatch)
        assert context
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    @pytest.mark.parametrize(
        ("host", "encrypted"),
        [
            ("localhost", False),
            ("127.0.0.1", False),
            ("127.8.8.8", False),
            ("[::1]", False),
            ("localhost.example", True),
            ("127.0.0.1.example", True),
            ("10.0.0.1", True),
        ],
    )
    def test_no_tls_on_this_machine_unless_it_is_asked_for(
        self, host: str, encrypted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(TestTLS, "URL", f"postgresql://user@{host}/app")
        assert bool(self.context("", monkeypatch)) is encrypted
        assert self.context("?sslmode=verify-full", monkeypatch)

    def test_verify_full_checks_whose_certificate_it_is(
        self, authorities: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for root in ("", f"&sslrootcert={authorities}"):
            context = self.context(f"?sslmode=verify-full{root}", monkeypatch)
            assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)

    def test_only_the_authorities_of_the_file_count(self, authorities: str, monkeypatch: pytest.MonkeyPatch) -> None:
        context = self.context(f"?sslmode=verify-full&sslrootcert={authorities}", monkeypatch)
        expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        expected.load_verify_locations(authorities)
        assert context.get_ca_certs() == expected.get_ca_certs()

    def test_require_verifies_where_it_has_authorities(self, authorities: str, monkeypatch: pytest.MonkeyPatch) -> None:
        context = self.context("?sslmode=require", monkeypatch)
        assert context.verify_mode == ssl.CERT_NONE
        context = self.context(f"?sslmode=require&sslrootcert={authorities}", monkeypatch)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("?sslmode=verify-full&sslrootcert=/no/such/file", "sslrootcert"),
            (f"?sslmode=require&sslrootcert={__file__}", "sslrootcert"),
            ("?sslrootcert=/no/such/file", "sslrootcert"),
            ("?sslmode=disable&sslrootcert=/no/such/file", "sslmode"),
            ("?sslmode=maybe", "sslmode"),
        ],
    )
    def test_a_senseless_option_is_refused_without_quoting_the_url(self, query: str, message: str) -> None:
        with pytest.raises(SettingsError, match=message) as caught:
            connector(Settings(database_url=SecretStr(self.URL + query)))
        assert self.SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_connection_that_was_idle_for_long_is_made_anew(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall in between may have dropped the connection silently."""
    database = database_of(migrated)
    used = [database.run(lambda connection: connection.run("select pg_backend_pid()")[0][0]) for _ in range(2)]
    monkeypatch.setattr("message_handler.drivers.postgres._IDLE_SECONDS", -1)
    used.append(database.run(lambda connection: connection.run("select pg_backend_pid()")[0][0]))
    assert used[0] == used[1] != used[2]
    database.close()


def test_a_client_that_is_stopped_inside_a_transaction_does_not_hold_its_locks_for_ever(migrated: Settings) -> None:
    connection = connector(migrated)()
    with transaction(connection):
        assert connection.run("show idle_in_transaction_session_timeout") == [["10s"]]
    connection.close()


class TestErrors:
    @pytest.fixture
    def broken(self, talk: Conversation) -> Job:
        """A job that violates a constraint whose message quotes the whole row."""
        message = Message(CANARY, CANARY, given=True)
        nothing: Any = None
        return replace(talk.job(1, message, bot_id=CANARY), created_at=nothing)

    def test_an_error_carries_no_value(self, talk: Conversation, broken: Job) -> None:
        with pytest.raises(MessageHandlerError) as caught:
            talk.archive.cancel(broken)
        assert not isinstance(caught.value, Unavailable)
        assert str(caught.value) == "Postgres refused a statement (SQLSTATE 23502)"
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert CANARY not in repr(caught.value)

    def test_a_check_violation_carries_no_value(self, talk: Conversation) -> None:
        job = talk.job(1, named("m0", CANARY))
        talk.number(job)
        with pytest.raises(MessageHandlerError) as caught:
            talk.archive.commit(replace(talk.completed(job, CANARY), attempts=2**40), 1)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert talk.settled("m0") == [None]

    def test_the_connection_is_not_left_in_a_transaction(
        self, talk: Conversation, sql: Connection, broken: Job
    ) -> None:
        for use in (lambda: talk.archive.cancel(broken), lambda: talk.fence(replace(broken, attempts=2**40))):
            with pytest.raises(MessageHandlerError):
                use()
            assert [state for _, state in backends(sql)] == ["idle"]
            talk.archive.ping()
        assert talk.number(talk.job(2, "m0")) == 1

    def test_nothing_of_a_failed_step_stays(self, talk: Conversation, broken: Job) -> None:
        with pytest.raises(MessageHandlerError):
            talk.archive.cancel(broken)
        assert talk.archive.conversation(KEY) is None
        assert talk.settled(CANARY) == [None]


class TestSettledKinds:
    def test_each_settled_message_says_how(self, talk: Conversation, sql: Connection) -> None:
        talk.answer(1, Message("m0", "yes", aliases=("a",)))
        job = talk.job(2, "m1")
        talk.archive.commit(talk.failed(job), talk.number(job))
        talk.archive.cancel(talk.job(3, Message("m2", "no", aliases=("b",))))
        kinds = dict(sql.run("select message_id, kind from settled") or ())
        assert kinds == {
            "m0": "answered",
            "a": "answered",
            "m1": "failed",
            "m2": "cancelled",
            "b": "cancelled",
        }


MIGRATE = """
import sys
from pydantic import SecretStr
from message_handler.settings import Settings
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
archive = Database(connector(Settings(database_url=SecretStr(sys.argv[1]))))
print("ready", flush=True)
sys.stdin.readline()
print(archive.migrate())
"""


def migrate_to_the_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema as it was before all later migrations."""
    first = migrations.migrations()[:1]
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "migrations", lambda: first)
        earlier.setattr(migrations, "functions", lambda: ())
        assert database.migrate() == MIGRATIONS[:1]


class TestMigrations:
    @pytest.fixture
    def empty(self, postgres: Server, sql: Connection) -> Iterator[str]:
        """The URL of a new database."""
        name = "empty"
        sql.run(f"create database {identifier(name)}")
        yield postgres.url.rsplit("/", 1)[0] + f"/{name}"
        sql.run(f"drop database {identifier(name)} (force)")

    def test_they_are_applied_once(self, empty: str) -> None:
        archive = PostgresArchive(database_of(Settings(database_url=SecretStr(empty))))
        assert archive.migrate() == MIGRATIONS
        Conversation(archive).answer(1, "m0")
        assert archive.migrate() == []
        assert Conversation(archive).turns() == [("user", "text of m0"), ("assistant", "Rest.")]
        archive.close()

    def test_a_database_without_tables_is_no_archive(self, empty: str) -> None:
        archive = PostgresArchive(database_of(Settings(database_url=SecretStr(empty))))
        with pytest.raises(Unavailable):
            archive.ping()
        archive.migrate()
        archive.ping()
        archive.close()

    def test_a_schema_older_than_the_code_is_away_and_says_so_once(
        self, empty: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("message_handler"), "propagate", True)
        settings = Settings(database_url=SecretStr(empty))
        database = database_of(settings)
        archive = PostgresArchive(database)
        migrate_to_the_first(database, monkeypatch)
        job = Conversation(archive).job(1, "m0")
        for _ in range(3):
            with pytest.raises(Unavailable, match="migrate"):
                archive.fence(job, successor_id=job.job_id, turns=0, drain=True)
            with pytest.raises(Unavailable, match="migrate"):
                archive.ping()
        assert archive.away
        assert not database.breaker.is_open
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
        assert archive.migrate() == MIGRATIONS[1:]
        assert not archive.away
        archive.ping()
        archive.close()

    def test_a_migration_that_a_reader_holds_up_gives_way_and_can_be_tried_again(
        self, empty: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = Settings(database_url=SecretStr(empty))
        database = database_of(settings)
        migrate_to_the_first(database, monkeypatch)
        with closing(connector(settings)()) as reader:
            reader.run("begin")
            reader.run("select count(*) from jobs")
            with pytest.raises(Unavailable, match="try again"):
                database.migrate()
            assert not database.breaker.is_open
            reader.run("rollback")
        assert database.migrate() == MIGRATIONS[1:]
        database.close()

    def test_a_migration_that_takes_too_long_holds_no_table_when_its_time_is_up(
        self, empty: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = Settings(database_url=SecretStr(empty))
        database = database_of(settings)
        slow = migrations.SchemaFile("0001_slow.sql", "create table wide (id bigint); select pg_sleep(20);")
        with monkeypatch.context() as later:
            later.setattr(migrations, "migrations", lambda: (slow,))
            with pytest.raises(Unavailable):
                database.migrate(0.5)
        applied: list[str] = []
        with suppress(Unavailable):  # until the lock is released
            applied = database.migrate()
        assert applied == MIGRATIONS
        database.close()

    def test_a_migration_by_hand_has_an_hour(self, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[float] = []

        def connecting(settings: Settings) -> Callable[..., Connection]:
            connect = connector(settings)
            return lambda timeout: given.append(timeout) or connect(timeout=timeout)  # type: ignore[func-returns-value]

        monkeypatch.setenv("DATABASE_URL", empty)
        monkeypatch.setattr("local.migrate.connector", connecting)
        assert migrate.main([]) == 0
        assert given == [3600]

    def test_processes_that_migrate_at_once_apply_them_once(self, empty: str) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MIGRATE, empty], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            answers = [process.communicate(timeout=30)[0].strip() for process in processes]
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
        assert sorted(answers) == [str(MIGRATIONS), "[]", "[]"]

    def test_a_migration_that_fails_leaves_nothing_behind(self, empty: str) -> None:
        settings = Settings(database_url=SecretStr(empty))
        connection = connector(settings)()
        connection.run("create table turns (mine text)")
        archive = PostgresArchive(database_of(settings))
        with pytest.raises(MessageHandlerError, match=r"SQLSTATE 42P07"):
            archive.migrate()
        tables = connection.run("select tablename from pg_tables where schemaname = 'public'")
        assert tables == [["turns"]]
        connection.run("drop table turns")
        assert archive.migrate() == MIGRATIONS
        archive.close()
        connection.close()

    @pytest.mark.parametrize(
        ("endpoint", "host"),
        [
            ("https://AI.Example/v1?x=1", "ai.example"),
            ("https://ai.example:443/v1", "ai.example"),
            ("https://ai.example:8443", "ai.example:8443"),
            ("https://ai.example", "ai.example"),
            ("https://user@ai.example/v1", None),
            ("http://ai.example/v1", None),
            ("simulated://", None),
        ],
    )
    def test_a_token_that_was_stored_before_belongs_to_the_host_that_it_was_sent_to(
        self, empty: str, monkeypatch: pytest.MonkeyPatch, endpoint: str, host: str | None
    ) -> None:
        settings = Settings(database_url=SecretStr(empty))
        database = database_of(settings)
        migrate_to_the_first(database, monkeypatch)
        database.run(
            lambda connection: connection.run(
                "insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_token) values"
                " ('default', 'told', 'Told', :endpoint, 'secret'), ('default', 'silent', 'Silent', :endpoint, null)",
                endpoint=endpoint,
            )
        )
        assert database.migrate() == MIGRATIONS[1:]
        rows = database.run(lambda connection: connection.run("select auth_host from core_ai order by core_ai_id desc"))
        assert rows == [[host], [None]]
        if host:
            assert host_of(endpoint) == host
        database.close()


class TestConfiguration:
    @pytest.fixture
    def configured(self, postgres_archive: PostgresArchive, sql: Connection) -> Iterator[PostgresArchive]:
        sql.run("insert into platforms (platform_id, name) values ('clinic', 'Clinic'), ('other', 'Other')")
        sql.run(
            "insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_required, auth_token, auth_host,"
            " timeout_seconds, meta_data) values ('clinic', 'gpt', 'GPT', 'https://ai.example', true, 'secret',"
            ' \'ai.example\', 20, \'{"model": "m", "fallback_core_ai_id": "spare"}\'),'
            " ('clinic', 'spare', 'Spare', 'https://spare.example', true, 'other secret', 'spare.example', 30,"
            ' \'{"fallback_core_ai_id": "gpt"}\'),'
            " ('other', 'spare', 'Theirs', 'https://theirs.example', false, null, null, 30, '{}')"
        )
        sql.run(
            "insert into bots (platform_id, bot_id, name, description, core_ai_id, meta_data) values"
            " ('clinic', 'nurse', 'Y tá', 'Helps', 'gpt', '{\"max_context_messages\": 5}'),"
            " ('other', 'nurse', 'Another', '', null, '{}')"
        )
        sql.run("insert into bots (platform_id, bot_id, name, is_active) values ('clinic', 'old', 'Old', false)")
        yield postgres_archive
        sql.execute_simple(emptied("bots", "core_ai"))
        sql.run("delete from platforms where platform_id <> 'default'")

    def test_a_bot_comes_with_its_core_ai_and_platform(self, configured: PostgresArchive) -> None:
        found = configured.configuration("clinic", "nurse")
        assert found is not None
        parts = (found, found["core_ai"], found["core_ai"]["fallback"])
        assert all(type(part.pop("revision")) is int for part in parts)
        assert found == {
            "bot_id": "nurse",
            "name": "Y tá",
            "description": "Helps",
            "language": "vi",
            "is_active": True,
            "core_ai_id": "gpt",
            "platform_id": "clinic",
            "meta_data": {"max_context_messages": 5},
            "core_ai": {
                "core_ai_id": "gpt",
                "name": "GPT",
                "api_endpoint": "https://ai.example",
                "auth_required": True,
                "auth_token": "secret",
                "auth_host": "ai.example",
                "timeout_seconds": 20,
                "meta_data": {"model": "m", "fallback_core_ai_id": "spare"},
                "fallback": {
                    "core_ai_id": "spare",
                    "name": "Spare",
                    "api_endpoint": "https://spare.example",
                    "auth_required": True,
                    "auth_token": "other secret",
                    "auth_host": "spare.example",
                    "timeout_seconds": 30,
                    "meta_data": {"fallback_core_ai_id": "gpt"},
                },
            },
            "platform": {
                "platform_id": "clinic",
                "name": "Clinic",
                "description": "",
                "base_url": None,
                "auth_required": False,
                "meta_data": {},
                "safety_rules": None,
            },
        }

    def test_a_bot_without_a_core_ai_has_none(self, configured: PostgresArchive) -> None:
        found = configured.configuration("other", "nurse")
        assert found is not None
        assert (found["name"], found["core_ai"], found["platform"]["name"]) == ("Another", None, "Other")

    def test_an_inactive_bot_says_so(self, configured: PostgresArchive) -> None:
        found = configured.configuration("clinic", "old")
        assert found is not None
        assert found["is_active"] is False

    @pytest.mark.parametrize("meta_data", ['{"fallback_core_ai_id": "gpt"}', '{"fallback_core_ai_id": "gone"}', "[]"])
    def test_a_fallback_that_is_none_is_left_out(
        self, configured: PostgresArchive, sql: Connection, meta_data: str
    ) -> None:
        sql.run("update core_ai set meta_data = cast(:it as jsonb) where core_ai_id = 'gpt'", it=meta_data)
        found = configured.configuration("clinic", "nurse")
        assert found is not None
        assert (found["core_ai"]["core_ai_id"], found["core_ai"]["fallback"]) == ("gpt", None)

    def test_where_the_default_bot_is_not_configured_its_platform_is_there(self, configured: PostgresArchive) -> None:
        found = configured.configuration("clinic", "default")
        assert found is not None
        assert (found["bot_id"], found["core_ai"], found["platform"]["name"]) == (None, None, "Clinic")
        assert configured.configuration("third", "default") is None

    def test_a_bot_of_another_tenant_is_unknown(self, configured: PostgresArchive) -> None:
        assert configured.configuration("other", "old") is None
        assert configured.configuration("third", "nurse") is None


def test_statuses_of_the_archive_are_those_of_the_model(talk: Conversation) -> None:
    talk.number(talk.job(1, "m0"))
    assert talk.archived(1).status is JobStatus.PROCESSING
