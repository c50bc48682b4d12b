"""The fenced commit of a reply beside a plain update of one row. The commit compares, settles and archives at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

from benchmarks.figure import Figure, Round, Target, alternating
from benchmarks.stores import Stores
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobStatus, Usage
from message_handler.domain.messages import new_message
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector

REPLY = "Dạ, anh/chị uống mỗi ngày hai lần, sau khi ăn no. Nếu sau ba ngày không đỡ thì đến khám. " * 4
QUESTION = "Thuốc này uống mấy lần một ngày?"


def committing(stores: Stores) -> Iterator[Round]:
    yield from _beside_an_update(
        stores,
        lambda archive, times: [_ended(archive) for _ in range(times)],
        lambda archive, ended: archive.commit(*ended),
    )


def fencing(stores: Stores) -> Iterator[Round]:
    yield from _beside_an_update(
        stores,
        lambda _, times: [_running() for _ in range(times)],
        lambda archive, job: archive.fence(job, successor_id=job.key.new_job_id(), turns=100).number,
    )


def _beside_an_update[T](
    stores: Stores,
    prepare: Callable[[PostgresArchive, int], list[T]],
    step: Callable[[PostgresArchive, T], object],
) -> Iterator[Round]:
    times = 10 if stores.quick else 40
    database = Database(connector(stores.settings()))
    archive = PostgresArchive(database)
    with closing(database):
        rows = _rows(database)
        while True:
            prepared = iter(prepare(archive, times))

            def ours(prepared: Iterator[T] = prepared) -> None:
                assert step(archive, next(prepared))

            def theirs() -> None:
                row = next(rows)
                update = "update bench_rows set status = 'completed', reply = :reply where id = :id"
                database.run(lambda connection: connection.run(update, reply=REPLY, id=row))

            yield alternating(ours, theirs, times, scale=1e3)


def _running() -> Job:
    now = time.time()
    key = ConversationKey("default", f"conversation-{time.perf_counter_ns()}")
    message = new_message(QUESTION, f"m-{time.perf_counter_ns()}", now)
    return Job(key.new_job_id(), key, JobStatus.PROCESSING, (message,), "default", created_at=now, started_at=now)


def _ended(archive: PostgresArchive) -> tuple[Job, int]:
    """An answered job, and the fence of its run."""
    job = _running()
    fence = archive.fence(job, successor_id=job.key.new_job_id(), turns=100)
    assert fence.number is not None
    usage, now = Usage(40, 120), time.time()
    return replace(job, status=JobStatus.COMPLETED, reply=REPLY, usage=usage, finished_at=now), fence.number


def _rows(database: Database, count: int = 1000) -> Iterator[int]:
    """The ids of rows that can be updated, in turns."""
    database.run(
        lambda connection: connection.execute_simple(
            "drop table if exists bench_rows;"
            "create table bench_rows (id bigint primary key, status text not null, reply text);"
            f"insert into bench_rows select id, 'processing', null from generate_series(1, {count}) as id"
        )
    )
    return itertools.cycle(range(1, count + 1))


_UPDATE = (
    "an UPDATE of one row by its key, with the same reply, by the same driver on the same connection; its own `run`"
    " makes three round trips of it, where ours is one"
)

FIGURES = (
    Figure(
        "commit",
        "fenced commit / one-row UPDATE",
        "Archive.commit of a reply: fence compared, message settled, turns, job and outbox written",
        _UPDATE,
        Target("≤", 1.7),
        committing,
        unit="ms",
        seconds=10,
    ),
    Figure(
        "fence",
        "fence / one-row UPDATE",
        "Archive.fence of a conversation's first job: row made and locked, fence raised, run noted, turns read",
        _UPDATE,
        Target("≤", 1.2),
        fencing,
        unit="ms",
        seconds=10,
    ),
)
