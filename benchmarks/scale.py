"""The speed over full stores, the speed with more workers, and the memory of a conversation in Redis.

`python -m benchmarks.scale --sizes 1000 10000 100000 1000000` shows each step at each size. The figures of the report
use sizes that fill in seconds. Steps take turns over all sizes, so that noise slows all alike.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Any

import redis
from pydantic import SecretStr

from benchmarks.figure import Figure, Round, uncollected
from benchmarks.filling import accept, answer, ended_now, fenced, fill_lines, fill_rows, request
from benchmarks.stores import Stores
from local.stores import start_valkey
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.records import Record
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.redis import connect
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier
from message_handler.wiring import build

SMALL, LARGE = 1_000, 100_000
#: The jobs of each worker process in a round.
JOBS = 100
#: How long Redis keeps an ended job, in seconds.
JOB_TTL = Settings().job_ttl

type Step = Callable[[], object]


# Redis.


def memory(stores: Stores, left: Callable[[RedisTier, redis.Redis, list[ConversationKey]], None]) -> Iterator[Round]:
    """The bytes of a conversation in Redis after `left` has run."""
    count = 300 if stores.quick else 500
    with redis_tier(stores.redis_url) as (client, tier):
        for number in itertools.count():
            # Synchronous, or memory that is freed later would be counted.
            client.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]
            accept(tier, "the scripts are loaded by the first")
            before = used(client)
            keys = [accept(tier, f"kept-{number}-{n:05}") for n in range(count)]
            left(tier, client, keys)
            yield Round((used(client) - before) / count)


def used(client: redis.Redis) -> int:
    answered = client.info("memory")
    assert isinstance(answered, dict)
    return int(answered["used_memory"])


def _held(tier: RedisTier, _client: redis.Redis, keys: list[ConversationKey]) -> None:
    for key in keys:
        assert tier.claim(key, "worker")


def _ended(tier: RedisTier, _client: redis.Redis, keys: list[ConversationKey]) -> None:
    for key in keys:
        answer(tier, key)


def _expired(tier: RedisTier, client: redis.Redis, keys: list[ConversationKey]) -> None:
    """As if the hour were over: delete what lives no longer than that."""
    _ended(tier, client, keys)
    names = list(client.scan_iter(count=1000))
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.ttl(name)
    passing = [name for name, left in zip(names, pipeline.execute(), strict=True) if 0 <= left <= JOB_TTL]
    assert len(passing) == 3 * len(keys)  # the line, its job, the known message ids
    for name in passing:
        pipeline.pexpire(name, 1)
    pipeline.execute()
    while client.dbsize() > len(names) - len(passing):
        time.sleep(0.01)


@contextmanager
def redis_tier(url: str) -> Iterator[tuple[redis.Redis, RedisTier]]:
    settings = Settings(redis_url=SecretStr(url), redis_timeout_ms=60_000)
    client = connect(settings)
    yield client, RedisTier(client, settings)
    client.close()


@contextmanager
def full_redis(stores: Stores, sizes: Sequence[int]) -> Iterator[dict[int, RedisTier]]:
    """A Valkey for each size, with that number of live conversations."""
    with ExitStack() as open_:
        tiers = {}
        for size in sizes:
            server = start_valkey(stores.folder / f"valkey-{size}-{time.perf_counter_ns()}")
            open_.callback(server.stop)
            client, tiers[size] = open_.enter_context(redis_tier(server.url))
            fill_lines(client, tiers[size], size)
        yield tiers


def accepting(tier: RedisTier) -> Step:
    names = (f"new-{number}" for number in itertools.count())
    return lambda: accept(tier, next(names))


def cycling(tier: RedisTier) -> Step:
    names = (f"cycled-{number}" for number in itertools.count())
    return lambda: answer(tier, accept(tier, next(names)))


# Postgres.


@contextmanager
def full_postgres(stores: Stores, sizes: Sequence[int]) -> Iterator[dict[int, PostgresArchive]]:
    """A database for each size, with that number of answered conversations. All are dropped afterwards."""
    url = stores.database_url
    with ExitStack() as open_:
        archives = {}
        for size in sizes:
            name = f"full_{size}_{time.perf_counter_ns()}"
            _administer(url, f"create database {name}")
            open_.callback(_administer, url, f"drop database {name} with (force)")
            settings = Settings(database_url=SecretStr(f"{url.rpartition('/')[0]}/{name}"), database_timeout=600.0)
            database = Database(connector(settings))
            open_.callback(database.close)
            database.migrate()
            archives[size] = PostgresArchive(database)
            fill_rows(database, archives[size], size)
        yield archives


def _administer(url: str, statement: str) -> None:
    connection = connector(Settings(database_url=SecretStr(url)))(timeout=600.0)
    connection.execute_simple(statement)
    connection.close()


def fencing(archive: PostgresArchive) -> Step:
    names = (f"fenced-{number}" for number in itertools.count())
    return lambda: fenced(archive, next(names))


def committing(archive: PostgresArchive) -> Step:
    """The next answer of an archived conversation, each time of another one."""
    names = (f"committed-{number}" for number in itertools.count())

    def prepared() -> object:
        job, fence = waiting.pop() if waiting else fenced(archive, next(names))
        return archive.commit(ended_now(job), fence)

    waiting = [fenced(archive, next(names)) for _ in range(400)]
    return prepared


def reading(archive: PostgresArchive) -> Step:
    keys = (ConversationKey("default", f"filled-{1 + number * 7919 % 999}") for number in itertools.count())
    return lambda: archive.conversation(next(keys))


def listing(archive: PostgresArchive) -> Step:
    values: dict[str, Any] = {"status": None, "conversation_id": None, "behind": None, "most": 50}
    return lambda: archive.jobs("default", **values)


def on_disk(archive: PostgresArchive) -> int:
    """The bytes of all tables that grow with conversations, with their indexes."""
    sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in ("conversations", "jobs", "settled", "turns"))
    return int(archive._database.run(lambda connection: connection.run(f"select {sizes}"))[0][0])


# Over sizes.


def in_turns(steps: dict[int, Step], times: int) -> dict[int, list[float]]:
    """The seconds of each step. The steps take turns."""
    taken: dict[int, list[float]] = {size: [] for size in steps}
    with uncollected():
        for number in range(times):
            order = list(steps) if number % 2 else list(reversed(steps))
            for size in order:
                start = time.perf_counter()
                steps[size]()
                taken[size].append(time.perf_counter() - start)
    return taken


def flat[S](stores: Stores, full: Callable[..., Any], step: Callable[[S], Step], times: int) -> Iterator[Round]:
    """The step over a full store, against the same step over a nearly empty one."""
    large = SMALL * 10 if stores.quick else LARGE
    with full(stores, (SMALL, large)) as opened:
        steps = {size: step(store) for size, store in opened.items()}
        in_turns(steps, 5)
        while True:
            taken = in_turns(steps, times)
            yield Round(median(taken[large]) * 1e6, median(taken[SMALL]) * 1e6)


# Worker processes.


def workers(stores: Stores, count: int) -> Iterator[Round]:
    """Jobs a second of `count` processes, against those of one."""
    with ExitStack() as open_:
        processes = [open_.enter_context(_worker(stores)) for _ in range(count)]
        while True:
            yield Round(_answered(processes), _answered(processes[:1]))


def _answered(processes: list[Connection]) -> float:
    """Jobs a second, until the last process has ended. All begin at the same time."""
    for process in processes:
        process.send(str(uuid.uuid4()))
    for process in processes:
        assert process.recv() == "ready"
    start = time.perf_counter()
    for process in processes:
        process.send("go")
    for process in processes:
        assert process.recv() == JOBS
    return JOBS * len(processes) / (time.perf_counter() - start)


@contextmanager
def _worker(stores: Stores) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(stores.redis_url, stores.database_url, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def _work(redis_url: str, database_url: str, orders: Connection) -> None:
    """A worker process: accepts its messages, then answers them on order, ten at once as the function does."""
    parts = build(
        Settings(
            redis_url=SecretStr(redis_url),
            redis_timeout_ms=10_000,
            database_url=SecretStr(database_url),
            database_timeout=30.0,
            simulated_ai_delay_ms="0",
        )
    )
    (tier, _) = parts.tiers.first(lambda tier: tier.ping())
    with ThreadPoolExecutor(10) as threads:
        while True:
            order, records = orders.recv(), []
            for number in range(JOBS):
                asked, job_id = request(f"worked-{order}-{number}")
                tier.accept(asked, job_id=job_id, lock_id=job_id)
                records.append(Record(job_id, asked.messages[0].message_id, asked))
            orders.send("ready")
            assert orders.recv() == "go"
            deadline = time.time() + 100.0
            outcomes = list(threads.map(lambda record: parts.worker.process(record, deadline), records))  # noqa: B023
            orders.send(sum(1 for outcome in outcomes if outcome.retry_in is None and outcome.ended))


def _memory_figure(name: str, title: str, ours: str, left: Callable[..., None]) -> Figure:
    return Figure(name, title, ours, "", None, lambda stores: memory(stores, left), unit="bytes", rounds=3, seconds=6)


def _flat_figure(name: str, title: str, full: Callable[..., Any], step: Callable[..., Step], times: int) -> Figure:
    against = f"the same over {SMALL:,}".replace(",", " ")
    ours = f"over {LARGE:,}".replace(",", " ")
    measure = lambda stores: flat(stores, full, step, times)  # noqa: E731
    return Figure(name, title, ours, against, None, measure, rounds=6, seconds=6)


def _workers_figure(count: int) -> Figure:
    return Figure(
        f"workers-{count}",
        f"{count} worker processes / one",
        f"jobs a second through claim, fence, commit and finish in {count} processes",
        "in one process; they share the machine's cores with Valkey and Postgres",
        None,
        lambda stores: workers(stores, count),
        unit="jobs/s",
        rounds=3,
        seconds=10,
    )


FIGURES = (
    _memory_figure(
        "memory-live", "memory of a live conversation", "lock held, job running, five turns of context", _held
    ),
    _memory_figure(
        "memory-ended", "memory of a conversation that was answered", "for the hour after the reply", _ended
    ),
    _memory_figure(
        "memory-expired", "memory of a conversation an hour later", "lock, job and memory of ids expired", _expired
    ),
    _workers_figure(2),
    _workers_figure(4),
    _flat_figure("flat-accept", "accept, 100 000 live conversations / 1 000", full_redis, accepting, 300),
    _flat_figure("flat-commit", "commit, 100 000 archived conversations / 1 000", full_postgres, committing, 60),
)

STEPS: dict[str, tuple[str, Callable[..., Any], Callable[..., Step], int]] = {
    "accept": ("Redis: accept a new conversation's message", full_redis, accepting, 2_000),
    "cycle": ("Redis: accept, claim, seal, finish", full_redis, cycling, 500),
    "fence": ("Postgres: fence of a new conversation", full_postgres, fencing, 500),
    "commit": ("Postgres: commit a reply", full_postgres, committing, 500),
    "read": ("Postgres: show a conversation", full_postgres, reading, 500),
    "list": ("Postgres: the newest 50 jobs", full_postgres, listing, 100),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Each step at each size (µs).")
    parser.add_argument("--sizes", type=int, nargs="+", default=[SMALL, 10_000, LARGE], metavar="CONVERSATIONS")
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    options = parser.parse_args(arguments)
    if min(options.sizes) < SMALL:
        parser.error(f"--sizes: at least {SMALL}")
    print("| step (µs: p50, p99) | " + " | ".join(f"{size:,}" for size in options.sizes) + " |")
    print("|---|" + "---:|" * len(options.sizes))
    with Stores() as stores:
        for full in (full_redis, full_postgres):
            chosen = [STEPS[name] for name in options.only if STEPS[name][1] is full]
            if not chosen:
                continue
            with full(stores, options.sizes) as opened:
                archives = {size: store for size, store in opened.items() if isinstance(store, PostgresArchive)}
                if archives:
                    cells = [f"{on_disk(archive) / size:,.0f}" for size, archive in archives.items()]
                    print("| Postgres: bytes of tables and indexes a conversation | " + " | ".join(cells) + " |")
                for title, _, step, times in chosen:
                    steps = {size: step(store) for size, store in opened.items()}
                    in_turns(steps, 1)
                    taken = in_turns(steps, times)
                    cells = [
                        f"{median(taken[size]) * 1e6:,.0f}, {_p99(taken[size]) * 1e6:,.0f}" for size in options.sizes
                    ]
                    print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
    return 0


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) >= 100 else max(values)


if __name__ == "__main__":
    sys.exit(main())
