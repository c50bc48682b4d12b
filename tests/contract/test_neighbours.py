"""What one tenant does keeps no other tenant waiting, over real stores (invariant 13)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from pg8000.native import Connection, identifier
from pydantic import SecretStr

from local.stores import Server
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.intake.requests import parse_request
from message_handler.settings import Settings
from message_handler.wiring import Parts, build

DATABASE = "neighbours"
TIMEOUT = 4.0
#: When the server ends a statement.
LIMIT = 3.0
#: The tenants' conversations.
OURS, THEIRS = ConversationKey("clinic-a", "patient-1"), ConversationKey("clinic-b", "patient-1")


@pytest.fixture
def settings(postgres: Server, valkey: Server, sql: Connection) -> Iterator[Settings]:
    """The settings for a database of this test's own, because its user is limited there."""
    sql.run(f"create database {identifier(DATABASE)}")
    url = postgres.url.rsplit("/", 1)[0] + f"/{DATABASE}"
    yield Settings(
        redis_url=SecretStr(valkey.url),
        redis_timeout_ms=10_000,
        database_url=SecretStr(url),
        database_timeout=TIMEOUT,
        debounce_ms=0,
        simulated_ai_delay_ms="0",
    )
    sql.run(f"drop database {identifier(DATABASE)} (force)")


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    with closing(Database(connector(settings), timeout=settings.database_timeout)) as database:
        database.migrate()
    with closing(build(settings)) as parts:
        yield parts


@pytest.fixture
def other(parts: Parts, settings: Settings) -> Iterator[Connection]:
    """A connection with which something else works on the database."""
    with closing(connector(settings)()) as connection:
        connection.run("set statement_timeout = 0")
        yield connection


def says(parts: Parts, key: ConversationKey, *turns: tuple[str, str]) -> dict[str, object]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return parts.intake.handle(key, parse_request({"messages": messages}))


def statements(sql: Connection) -> int:
    """How many statements the server works on in the test's database."""
    ((count,),) = sql.run(
        "select count(*) from pg_stat_activity where datname = :name and state = 'active'", name=DATABASE
    )
    return int(count)


def test_a_request_that_meets_a_lock_is_refused_and_another_tenants_is_answered(
    parts: Parts, other: Connection, sql: Connection
) -> None:
    says(parts, OURS, ("user", "one"), ("sale", "I am here."))
    other.run("begin")
    other.run("select from conversations where platform_id = 'clinic-a' for update")
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        ours = [pool.submit(says, parts, OURS, ("user", "one"), ("sale", f"Turn {n}.")) for n in range(4)]
        while statements(sql) < 4:
            assert time.monotonic() < began + TIMEOUT
        theirs = [says(parts, THEIRS, ("user", f"text {n}"), ("sale", f"Turn {n}.")) for n in range(5)]
        assert [body.get("degraded", False) for body in theirs] == [False] * 5
        for refused in ours:
            with pytest.raises(Unavailable, match="takes too long"):
                refused.result()
    assert not parts.archive.away
    # The server does no work for clients that have gone.
    assert statements(sql) == 0
    other.run("rollback")
    assert says(parts, OURS, ("user", "one"), ("sale", "Turn 0."))["status"] == "handed_off"


def test_the_server_ends_a_statement_before_the_process_gives_up(settings: Settings, parts: Parts) -> None:
    with closing(Database(connector(settings))) as database:
        assert database.run(lambda connection: connection.run("show statement_timeout")) == [[f"{LIMIT:.0f}s"]]
        began = time.monotonic()
        with pytest.raises(Unavailable, match="takes too long"):
            database.run(lambda connection: connection.run("select pg_sleep(60)"))
        assert LIMIT <= time.monotonic() - began < TIMEOUT
        assert not database.breaker.is_open


def test_a_migration_may_take_longer(settings: Settings, parts: Parts) -> None:
    with closing(Database(connector(settings), timeout=0.001)) as database:
        database.migrate()
        assert database.migrate() == []
