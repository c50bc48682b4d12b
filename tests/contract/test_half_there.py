"""Stores that are half there: they answer but refuse writes, or they are shutting down or starting.

Each test has real servers of its own. Meanwhile messages are accepted and answered, and the status names the store.
A store that takes writes again has replies committed there before a third probe. Production probes every 5 s.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server, start_postgres, start_valkey, start_valkey_with
from message_handler import MessageHandler
from message_handler.domain.errors import ReadOnly
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.chaos.proxy import Proxy
from tests.chaos.stores import start_standby
from tests.conftest import started
from tests.servers import port_of

#: Seconds between two probes of a store that is away.
RETRY_AFTER = 2.0
#: The longest time, in seconds, after which the service uses a store that takes writes again.
BACK_SECONDS = 3 * RETRY_AFTER


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


class House:
    """The whole service in this process. Proxies stand for the stores' host names, which may lead to another server."""

    def __init__(self, redis_server: Server, postgres_server: Server, opened: ExitStack) -> None:
        self.servers = {"redis": redis_server, "postgres": postgres_server}
        self.names = {name: Proxy(port_of(server.url)) for name, server in self.servers.items()}
        for proxy in self.names.values():
            opened.callback(proxy.close)
        settings = Settings(
            redis_url=SecretStr(self.names["redis"].url(redis_server.url)),
            database_url=SecretStr(self.names["postgres"].url(postgres_server.url)),
            redis_timeout_ms=5000,
            database_timeout=5,
            store_retry_after=RETRY_AFTER,
            simulated_ai_delay_ms="0",
        )
        self.handler = opened.enter_context(MessageHandler(settings))
        self._numbers = count()

    def sql(self, statement: str, server: Server | None = None, *, writes: bool = True) -> list[Any]:
        """Run a statement on the server itself. With `writes`, also where new connections are read-only."""
        url = (server or self.servers["postgres"]).url
        connection: Connection = connector(Settings(database_url=SecretStr(url)))()
        try:
            if writes:
                connection.run("set default_transaction_read_only = off")
            return connection.run(statement) or []
        finally:
            connection.close()

    def refuses_writes(self) -> None:
        """From now on Postgres refuses writes. Waits until the server has read its configuration."""
        self.sql("alter system set default_transaction_read_only = on")
        self.sql("select pg_reload_conf()")
        eventually(lambda: self.sql("show default_transaction_read_only", writes=False) == [["on"]])

    def redis(self, server: Server | None = None) -> redis.Redis:
        return redis.Redis.from_url((server or self.servers["redis"]).url, decode_responses=True)

    def asks(self) -> tuple[str, str]:
        """Post a message in a new conversation. Returns the conversation and the promised job."""
        conversation = f"patient-{next(self._numbers)}"
        return conversation, str(self.handler.handle_message_request(conversation, "<USER>hello</USER>")["ai_job_id"])

    def is_answered(self, job_id: str) -> bool:
        job = self.handler.get_job_status(job_id)
        assert job is None or job["status"] != "failed"
        return job is not None and job["status"] == "completed"

    def answers(self, number: int = 5) -> list[str]:
        """Post `number` messages and wait for their answers. Returns their conversations."""
        asked = [self.asks() for _ in range(number)]
        for _, job_id in asked:
            eventually(lambda job_id=job_id: self.is_answered(job_id))  # type: ignore[misc]
        return [conversation for conversation, _ in asked]

    def status(self) -> dict[str, Any]:
        return self.handler.get_handler_status()

    def commits(self, server: Server | None = None) -> bool:
        """Whether the reply to a new message is committed in Postgres, and the status is healthy."""
        (conversation,) = self.answers(1)
        turns = f"select count(*) from turns where conversation_id = '{conversation}'"
        ((written,),) = self.sql(turns, server)
        return bool(written) and self.status()["status"] == "healthy"

    def coordinates(self, server: Server | None = None) -> bool:
        """Whether a new message's line is in Redis."""
        with self.redis(server) as client:
            (conversation,) = self.answers(1)
            known = any(client.scan_iter(match=f"*ended:default/{conversation}"))
        return known and self.status()["status"] == "healthy"

    def is_told(self, store: str, state: str, reason: str, tier: str = "redis") -> None:
        status = self.status()
        assert status["status"] == "degraded"
        assert status["tiers"][store] == state
        assert reason in status["reasons"][store]
        assert status["components"]["tier"] == tier


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as opened:
        valkey = started(start_valkey, tmp_path / "redis")
        opened.callback(valkey.stop)
        postgres = started(start_postgres, tmp_path / "postgres")
        opened.callback(lambda: postgres.stop())
        yield House(valkey, postgres, opened)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """What the breakers logged: each store with the reason for which it went away, or `back`."""

    def said() -> list[tuple[str, str]]:
        records = [record for record in caplog.records if record.name == "message_handler.drivers.breaker"]
        return [(vars(record)["store"], vars(record).get("reason", "back")) for record in records]

    return said


class TestPostgres:
    def test_a_server_that_was_told_to_refuse_writes(self, house: House, warnings: Callable[[], Any]) -> None:
        house.answers(1)
        house.refuses_writes()
        house.answers()
        house.is_told("postgres", "read_only", "read-only")
        assert house.status()["components"]["database_connected"] is False
        house.answers(2)
        assert warnings() == [("Postgres", "read-only")]
        house.sql("alter system reset default_transaction_read_only")
        house.sql("select pg_reload_conf()")
        eventually(house.commits, BACK_SECONDS)
        assert warnings() == [("Postgres", "read-only"), ("Postgres", "back")]

    def test_without_redis_too_messages_are_answered_in_memory(self, house: House) -> None:
        house.answers(1)
        house.refuses_writes()
        house.names["redis"].refuse()
        house.answers()
        house.is_told("postgres", "read_only", "read-only", tier="memory")

    def test_a_server_that_refuses_writes_is_still_read(self, house: House) -> None:
        _, job_id = house.asks()
        eventually(lambda: house.is_answered(job_id))
        house.refuses_writes()
        house.answers(1)
        house.is_told("postgres", "read_only", "read-only")
        job = house.handler.get_job_status(job_id)
        assert job is not None
        assert (job["status"], "degraded" in job) == ("completed", False)

    def test_a_ping_finds_refused_writes_although_a_proxy_hides_the_servers_state(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that only tells the status writes nothing else."""
        unheard = property(lambda connection: {}, lambda connection, reported: None)
        monkeypatch.setattr(Connection, "parameter_statuses", unheard, raising=False)
        house.refuses_writes()
        assert house.status()["status"] == "degraded"
        house.is_told("postgres", "read_only", "read-only")

    def test_another_one_that_was_promoted_behind_its_name(self, house: House, standby: Server) -> None:
        """Connections to the old primary stay open. The old primary answers, and refuses writes."""
        house.answers(1)
        house.refuses_writes()
        house.answers()
        house.is_told("postgres", "read_only", "read-only")
        house.sql("select pg_promote()", standby)
        house.names["postgres"].aim(port_of(standby.url), cut=False)
        eventually(lambda: house.commits(standby), BACK_SECONDS)

    def test_a_switch_that_is_over_before_the_next_message_is_not_even_noticed(
        self, house: House, standby: Server, warnings: Callable[[], Any]
    ) -> None:
        house.answers(1)
        house.sql("select pg_promote()", standby)
        house.refuses_writes()
        house.names["postgres"].aim(port_of(standby.url), cut=False)
        assert house.commits(standby)
        assert warnings() == []

    def test_a_process_that_only_reads_follows_too_and_says_meanwhile_that_it_is_degraded(
        self, house: House, standby: Server
    ) -> None:
        """Intake only reads Postgres while Redis is up, so Postgres refuses it nothing."""
        name = SecretStr(house.names["postgres"].url(house.servers["postgres"].url))
        database = Database(connector(Settings(database_url=name)), CircuitBreaker("Postgres", 0.5))

        def port() -> int:
            ((found,),) = database.run(lambda connection: connection.run("select inet_server_port()"))
            return int(found)

        assert port() == port_of(house.servers["postgres"].url)
        house.refuses_writes()
        eventually(lambda: port() and database.away)
        house.sql("select pg_promote()", standby)
        house.names["postgres"].aim(port_of(standby.url), cut=False)
        eventually(lambda: port() == port_of(standby.url) and not database.away)
        database.close()

    def test_a_reader_leaves_a_server_that_has_become_a_replica(self, house: House, standby: Server) -> None:
        """The host name leads to the new primary already, so the service is never degraded."""
        name = SecretStr(house.names["postgres"].url(house.servers["postgres"].url))
        database = Database(connector(Settings(database_url=name)), CircuitBreaker("Postgres", 60))
        database.ping()
        house.sql("select pg_promote()", standby)
        house.names["postgres"].aim(port_of(standby.url), cut=False)
        house.refuses_writes()

        def port() -> int:
            ((found,),) = database.run(lambda connection: connection.run("select inet_server_port()"))
            return int(found)

        eventually(lambda: port() == port_of(standby.url))
        assert not database.away
        database.close()

    def test_a_write_that_an_old_connections_server_refuses_is_done_on_a_new_one(
        self, house: House, standby: Server
    ) -> None:
        name = SecretStr(house.names["postgres"].url(house.servers["postgres"].url))
        database = Database(connector(Settings(database_url=name)), CircuitBreaker("Postgres", 60))
        database.ping()
        house.sql("select pg_promote()", standby)
        house.names["postgres"].aim(port_of(standby.url), cut=False)
        house.refuses_writes()
        told = []
        try:
            database.ping()
        except ReadOnly as error:
            told.append(error)
        assert told == []
        database.close()

    def test_a_server_whose_disk_is_full(self, house: House, warnings: Callable[[], Any]) -> None:
        house.answers(1)
        house.sql(
            "create function full_disk() returns trigger language plpgsql as"
            " $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$"
        )
        for table in ("conversations", "jobs"):
            house.sql(f"create trigger full_disk before insert or update on {table} execute function full_disk()")
        house.answers()
        house.is_told("postgres", "read_only", "disk full")
        # Long enough for two probes.
        until = time.monotonic() + 2 * RETRY_AFTER + 1
        while time.monotonic() < until:
            house.answers(1)
            time.sleep(0.2)
        assert warnings() == [("Postgres", "read-only: disk full")]
        house.sql("drop function full_disk cascade")
        eventually(house.commits, BACK_SECONDS)

    def test_a_server_that_is_shutting_down(self, house: House, warnings: Callable[[], Any], tmp_path: Path) -> None:
        """It refuses new connections and waits for the open ones to end. Then it stops, and comes back."""
        house.answers(1)
        server = house.servers["postgres"]
        house.sql(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name <> '' and pid <> pg_backend_pid()"
        )
        with connected(server):
            server.process.send_signal(signal.SIGTERM)  # a smart shutdown
            house.answers()
            house.is_told("postgres", "away", "shutting down")
        server.process.wait(20)
        house.answers(2)
        again = start_postgres(tmp_path / "postgres", port_of(server.url))
        try:
            eventually(house.commits, BACK_SECONDS)
        finally:
            again.stop()
        assert warnings()[0] == ("Postgres", "shutting down or starting (SQLSTATE 57P03)")

    def test_its_connections_end_at_once(self, house: House) -> None:
        """A fast shutdown ends sessions with an error (57P01). A promotion may do so too."""
        house.answers(1)
        house.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'message_handler' and pid <> pg_backend_pid()"
        )
        assert house.commits()


@contextmanager
def connected(server: Server) -> Iterator[None]:
    connection = connector(Settings(database_url=SecretStr(server.url)))()
    try:
        yield
    finally:
        connection.close()


@pytest.fixture
def standby(house: House) -> Iterator[Server]:
    """A hot standby of the house's Postgres, which streams from it."""
    # Other users can't enter pytest's folder, and a server that root starts runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="standby-"))
    try:
        server = started(lambda path: start_standby(house.servers["postgres"], path), folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


class TestRedis:
    def test_a_server_that_was_made_a_replica(self, house: House, warnings: Callable[[], Any]) -> None:
        house.answers(1)
        with house.redis() as client:
            client.replicaof("127.0.0.1", 1)
            house.answers()
            house.is_told("redis", "read_only", "read-only", tier="postgres")
            assert warnings() == [("Redis", "read-only")]
            client.replicaof("NO", "ONE")
        eventually(house.coordinates, BACK_SECONDS)

    def test_another_one_that_was_promoted_behind_its_name(self, house: House, tmp_path: Path) -> None:
        """Connections to the old primary stay open."""
        house.answers(1)
        new = started(start_valkey, tmp_path / "new")
        try:
            with house.redis() as client:
                client.replicaof("127.0.0.1", port_of(new.url))
                house.names["redis"].aim(port_of(new.url), cut=False)
                eventually(lambda: house.coordinates(new), BACK_SECONDS)
        finally:
            new.stop()

    def test_a_server_whose_memory_is_full(self, house: House, warnings: Callable[[], Any]) -> None:
        house.answers(1)
        with house.redis() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            house.answers()
            house.is_told("redis", "read_only", "out of memory", tier="postgres")
            assert warnings() == [("Redis", "read-only: out of memory")]
            client.config_set("maxmemory", 0)
        eventually(house.coordinates, BACK_SECONDS)

    def test_a_server_that_is_still_loading(self, house: House, warnings: Callable[[], Any], tmp_path: Path) -> None:
        with house.redis() as client:
            client.mset({f"key-{number}": "value" for number in range(2000)})  # loading it takes 4 s
            client.save()
        (tmp_path / "loading").mkdir()
        shutil.copy(tmp_path / "redis" / "dump.rdb", tmp_path / "loading")
        slowly = [
            "--dbfilename",
            "dump.rdb",
            "--key-load-delay",
            "2000",
            "--loading-process-events-interval-bytes",
            "1024",
        ]
        loading = started(lambda folder: start_valkey_with(lambda: slowly, folder), tmp_path / "loading")
        try:
            house.names["redis"].aim(port_of(loading.url))
            house.answers()
            house.is_told("redis", "away", "loading", tier="postgres")
            assert warnings() == [("Redis", "loading")]
            with house.redis(loading) as client:
                eventually(lambda: not client.info("persistence")["loading"])
            eventually(lambda: house.coordinates(loading), BACK_SECONDS)
        finally:
            loading.stop()
