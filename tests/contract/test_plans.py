"""The plans that a connection keeps find rows by an index, however large the tables were when the plans were made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from pg8000.native import Connection, identifier
from pydantic import SecretStr

from local.stores import Server
from message_handler.archive.none import NoArchive
from message_handler.archive.postgres_jobs import end_values, job_values
from message_handler.archive.postgres_steps import commit_jobs, take_fences
from message_handler.domain.conversations import ConversationKey
from message_handler.drivers.postgres_connection import connector
from message_handler.ports.archive import Committed
from message_handler.settings import Settings
from tests.contract.conftest import database_of
from tests.contract.conversation import Conversation

MANY = 2000
#: The most rows of a table that one job reads: each of its own rows a few times.
ROWS_OF_A_JOB = 20
NO_ARCHIVE = NoArchive()


def others(name: str, count: int) -> str:
    """Statements that make `count` conversations of the same platform, each with a run that another job leads to."""
    return f"""
        create temporary table others as
        select 'clinic' as platform_id, '{name}-' || number as conversation_id, gen_random_uuid() as job_id
        from generate_series(1, {count}) as number;
        insert into conversations (platform_id, conversation_id, bot_id)
        select platform_id, conversation_id, 'nurse' from others;
        insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, superseded_by, created_at)
        select platform_id, job_id, conversation_id, 'nurse', 'processing', array['m1'], gen_random_uuid(), now()
        from others;
        insert into settled (platform_id, conversation_id, message_id, job_id, kind)
        select platform_id, conversation_id, 'm0', job_id, 'answered' from others;
        insert into turns (platform_id, conversation_id, position, role, content, message_id, created_at)
        select platform_id, conversation_id, 1, 'user', 'text of m0', 'm0', now() from others;
        insert into erasures (platform_id, name_hash, erased_at, fence)
        select platform_id, 'hash of ' || conversation_id, now(), 1 from others;
        insert into line_states (platform_id, conversation_id, due_at)
        select platform_id, conversation_id, 0 from others;
        insert into platforms (platform_id, name) select conversation_id, '' from others;
        drop table others
    """


@pytest.fixture
def settings(postgres: Server, sql: Connection) -> Iterator[Settings]:
    """The settings for a database that was never used."""
    name = "plans"
    sql.run(f"create database {identifier(name)}")
    url = postgres.url.rsplit("/", 1)[0] + f"/{name}"
    yield Settings(database_url=SecretStr(url), database_timeout=30)
    sql.run(f"drop database {identifier(name)} (force)")


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with closing(database_of(settings)) as database, closing(connector(settings)()) as connection:
        database.migrate()
        connection.run(
            "insert into platforms (platform_id, name, base_url) values ('clinic', '', 'https://chat.example')"
        )
        yield connection


def answer(connection: Connection, name: str, *, size: int) -> None:
    """Run and commit `size` jobs together. Each has another job that leads to it and ends with it."""
    talks = [Conversation(NO_ARCHIVE, ConversationKey("clinic", f"{name}-{number}")) for number in range(size)]
    jobs = [talk.job(1, "m0") for talk in talks]
    for talk in talks:
        connection.run(
            "insert into jobs"
            " (platform_id, job_id, conversation_id, bot_id, status, message_ids, superseded_by, created_at)"
            " values ('clinic', :job_id, :name, 'nurse', 'processing', '{m0}', :successor_id, now())",
            job_id=talk.id(2),
            name=talk.key.conversation_id,
            successor_id=talk.id(1),
        )
        connection.run("select end_superseded_v2('clinic', :name)", name=talk.key.conversation_id)
    asked = [job_values(job) | {"turns": 100, "drains": True} for job in jobs]
    assert [fence for fence, *_ in take_fences(connection, asked)] == [1] * size
    ends = [end_values(talk.completed(job)) | {"fence": 1} for talk, job in zip(talks, jobs, strict=True)]
    assert commit_jobs(connection, ends) == [Committed(delivers=True)] * size


@pytest.mark.parametrize("before", ["new", "emptied", "small", "large"])
@pytest.mark.parametrize("size", [1, 10])
def test_no_plan_reads_the_whole_of_a_table_that_has_grown_since(
    connection: Connection, before: str, size: int
) -> None:
    """The plans stay as they were made until the tables are analysed: a minute, or for ever without autovacuum."""
    if before in ("small", "large"):
        connection.execute_simple(others("earlier", 3 if before == "small" else MANY))
    if before != "new":
        connection.run("vacuum analyze")
    answer(connection, "first", size=size)
    if before != "large":
        connection.execute_simple(others("later", MANY))
    connection.run("begin")
    answer(connection, "then", size=size)
    read = connection.run("select relname, seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables")
    connection.run("commit")
    assert [name for name, whole, _ in read if whole] == []
    assert [(name, rows) for name, _, rows in read if (rows or 0) > ROWS_OF_A_JOB * size] == []
    ended = "select count(*) from jobs where conversation_id like 'then-%' and status = 'cancelled'"
    assert connection.run(ended) == [[size]]
