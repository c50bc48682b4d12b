"""No-op jobs per second: the worker beside task queues that make the same commit, one process each.

Each program runs in its own environment, over the same Valkey and the same durable Postgres. Both are emptied before.
All jobs are on hand before the clock runs, and the first of them don't count. Only jobs that Postgres has afterwards
count as done. Both sides write the same rows. Our worker needs two transactions because it takes a fence; a peer needs
one.

The target compares with the best peer at its best settings, with its fastest driver. A second figure compares with the
best peer through pg8000, which is our driver.

    python -m benchmarks.throughput arq --tried 'max_jobs=[10,20]'      # compare a peer's settings
"""

from __future__ import annotations

import argparse
import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

import redis

from benchmarks.figure import Figure, Round, Target
from benchmarks.programs import ROOT, Program
from benchmarks.stores import Stores
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector

WARM_UP = 200
#: The planned seconds of a run, without the warm-up.
SECONDS = 1.5
#: Peers below this share of the best peer's speed run only once.
IN_REACH = 0.7


@dataclass(frozen=True)
class Worker:
    """A program that follows peers/work.py, at its best `settings`. The settings in `tried` were compared."""

    name: str
    module: str
    environment: str
    settings: dict[str, Any] = field(default_factory=dict)
    tried: dict[str, list[Any]] = field(default_factory=dict)
    #: The jobs of the first run, which estimates the speed.
    first_jobs: int = 600
    folder: Path = ROOT


def _peer(name: str, settings: dict[str, Any], *, slow: bool = False, **tried: list[Any]) -> Worker:
    """`settings` are the fastest of all that were tried. See the program."""
    module, environment = f"benchmarks.peers.{name}", f".venv-peer-{name}"
    return Worker(name, module, environment, settings, tried, first_jobs=200 if slow else 600)


OURS = Worker("ours", "benchmarks.own_worker", ".venv")
PEERS = (
    _peer(
        "arq",
        {"max_jobs": 20, "poll_delay": 0.001, "queue_read_limit": 100},
        max_jobs=[5, 10, 20, 40, 100],
        poll_delay=[0.001, 0.02, 0.1],
        queue_read_limit=[100, 1000],
        driver=["asyncpg", "pg8000"],
    ),
    _peer(
        "saq",
        {"concurrency": 20},
        concurrency=[5, 10, 20, 40, 100],
        max_concurrent_ops=[20, 100],
        driver=["asyncpg", "pg8000"],
    ),
    _peer(
        "dramatiq",
        {"threads": 32, "prefetch": 200},
        threads=[2, 4, 8, 16, 32, 64],
        prefetch=[0, 200],
        driver=["psycopg", "pg8000"],
    ),
    _peer("dramatiq", {"threads": 16, "prefetch": 200}),
    _peer("rq", {"json": True}, slow=True, json=[True, False], timer=[True, False], driver=["psycopg", "pg8000"]),
    _peer(
        "celery",
        {"pool": "threads", "concurrency": 10, "prefetch": 50},
        pool=["threads", "gevent", "solo"],
        concurrency=[4, 10, 20, 50],
        prefetch=[1, 4, 50],
        driver=["psycopg", "pg8000"],
    ),
    _peer(
        "procrastinate",
        {"concurrency": 20, "connections": 5, "delete_jobs": "never", "durable_queue": False},
        slow=True,
        concurrency=[5, 20],
        connections=[5, 10],
        durable_queue=[True, False],
        delete_jobs=["never", "always"],
        driver=["asyncpg", "pg8000"],
    ),
)


@dataclass(frozen=True)
class Speed:
    """The result of a run. `processor_ms` is the processor time of the worker's own process for a job."""

    jobs_per_second: float
    processor_ms: float
    versions: dict[str, str]


class Bench:
    """The stores of all runs. Each run begins with empty ones."""

    def __init__(self, stores: Stores) -> None:
        self._redis_url, self._database_url = stores.redis_url, stores.database_url
        self._redis = redis.Redis.from_url(stores.redis_url)
        self._database = Database(connector(stores.settings()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        self._database.close()

    def run(self, worker: Worker, count: int, **settings: Any) -> Speed:
        """Run `count` jobs of a worker. Raises RuntimeError if it fails or did fewer than it says."""
        prefix = uuid.uuid4().hex[:8]
        jobs = [(f"{prefix}-{number}", str(uuid.uuid4()), f"{prefix}-m-{number}") for number in range(count)]
        order = {
            "redis_url": self._redis_url,
            "database_url": self._database_url,
            "jobs": jobs,
            "warm_up": min(WARM_UP, count // 2 // 10 * 10),
            "settings": worker.settings | settings,
        }
        self.empty()
        with Program(worker.environment, worker.module, folder=worker.folder) as program:
            answer = program.ask(order)
        if (done := self.answered(prefix)) != count:
            raise RuntimeError(f"{worker.name} answered {done} of {count} jobs")
        processor_ms = 1000 * answer["processor_seconds"] / answer["measured"]
        return Speed(answer["measured"] / answer["seconds"], processor_ms, answer["versions"])

    def empty(self) -> None:
        self._redis.flushall()
        self.execute("truncate conversations, jobs, settled, turns, outbox, message_events, raised, findings")
        # Earlier changes are written to disk now, and not during the measurement.
        self.execute("checkpoint")

    def answered(self, prefix: str) -> int:
        """The number of complete jobs: ended with a reply, their message settled, both turns kept."""
        return int(
            self.execute(
                """
                select count(*) from jobs join settled using (platform_id, conversation_id, job_id)
                where jobs.status = 'completed' and jobs.reply is not null and jobs.message_ids = array[message_id]
                  and settled.kind = 'answered' and starts_with(message_id, :prefix)
                  and 2 = (select count(*) from turns where turns.platform_id = jobs.platform_id
                           and turns.conversation_id = jobs.conversation_id and turns.job_id = jobs.job_id)
                """,
                prefix=prefix,
            )[0][0]
        )

    def execute(self, statement: str, **values: Any) -> list[Any]:
        rows: list[Any] = self._database.run(lambda connection: connection.run(statement, **values))
        return rows


def measure(stores: Stores) -> Iterator[Round]:
    """First each worker once. Then, in each round, ours and the peers that are near the best."""
    with Bench(stores) as bench:
        first = [(worker, bench.run(worker, worker.first_jobs)) for worker in (OURS, *PEERS)]
        (ours, *peers) = first
        best = max(speed.jobs_per_second for _, speed in peers)
        near = [(peer, speed) for peer, speed in peers if speed.jobs_per_second >= IN_REACH * best]
        yield from _rounds(bench, [ours, *near], _described(first))


def through_our_driver(stores: Stores) -> Iterator[Round]:
    """Ours against Dramatiq. It is the fastest peer through pg8000 too, if all peers spend the same time in it."""
    dramatiq = next(peer for peer in PEERS if peer.name == "dramatiq")
    peer = replace(dramatiq, settings=dramatiq.settings | {"driver": "pg8000"})
    with Bench(stores) as bench:
        yield from _rounds(bench, [(worker, bench.run(worker, worker.first_jobs)) for worker in (OURS, peer)], "")


def _rounds(bench: Bench, first: list[tuple[Worker, Speed]], note: str) -> Iterator[Round]:
    """Jobs per second of ours and of the best peer. Each worker gets jobs for about the same time."""
    counts = [WARM_UP + int(SECONDS * speed.jobs_per_second) // 10 * 10 for _, speed in first]
    turn = [(worker, count) for (worker, _), count in zip(first, counts, strict=True)]
    for number in itertools.count():
        order = turn if number % 2 == 0 else turn[::-1]
        speeds = [(worker, bench.run(worker, count).jobs_per_second) for worker, count in order]
        ours = next(speed for worker, speed in speeds if worker is OURS)
        yield Round(ours, max(speed for worker, speed in speeds if worker is not OURS), note)


def _described(first: list[tuple[Worker, Speed]]) -> str:
    """All workers with their settings and versions, the fastest first."""
    described = []
    for worker, speed in sorted(first, key=lambda item: -item[1].jobs_per_second):
        about = [f"{name} {version}" for name, version in speed.versions.items()]
        about += [f"{name}={value}" for name, value in worker.settings.items()]
        took = f"{speed.jobs_per_second:,.0f} jobs/s, {speed.processor_ms:.2f} ms of its processor a job"
        described.append(f"{worker.name}: {took} ({', '.join(about)})")
    return f"each before the first round: {'; '.join(described)}"


FIGURES = (
    Figure(
        "throughput",
        "no-op jobs per second / the best task queue",
        "the worker function's handler over batches of ten accepted records, one process: claim, fence, commit, finish "
        "(fetched and acknowledged outside, as Lambda does; with an AI that answers at once all ten march in step)",
        "the best of arq, SAQ, Dramatiq, RQ, Celery and Procrastinate at its best settings and with its fastest "
        "driver, one process: the same rows in one durable transaction",
        Target("≥", 1.5),
        measure,
        unit="jobs/s",
        rounds=7,
        seconds=25,
    ),
    Figure(
        "throughput-pg8000",
        "no-op jobs per second / Dramatiq through the same driver",
        "the same",
        "Dramatiq, whose commit goes through pg8000 too",
        None,
        through_our_driver,
        unit="jobs/s",
        rounds=3,
        seconds=10,
    ),
)


def main() -> None:
    """Compare a peer's settings: all combinations in turns. Prints the median of each, the fastest last."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("peer", choices=list(dict.fromkeys(peer.name for peer in PEERS)))
    parser.add_argument("--tried", nargs="+", metavar="NAME=JSON", help="in place of the settings compared before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2_000)
    options = parser.parse_args()
    peer = next(peer for peer in PEERS if peer.name == options.peer)
    tried = peer.tried
    if options.tried:
        tried = {name: json.loads(values) for name, _, values in (words.partition("=") for words in options.tried)}
    combinations = [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]
    found: list[list[Speed]] = [[] for _ in combinations]
    with Stores() as stores, Bench(stores) as bench:
        for _ in range(options.rounds):
            for settings, speeds in zip(combinations, found, strict=True):
                speeds.append(bench.run(peer, options.jobs, **settings))
    medians = [
        (median(speed.jobs_per_second for speed in speeds), median(speed.processor_ms for speed in speeds), settings)
        for settings, speeds in zip(combinations, found, strict=True)
    ]
    for jobs_per_second, processor_ms, settings in sorted(medians, key=lambda row: row[0]):
        print(f"{jobs_per_second:8.0f} jobs/s  {processor_ms:6.3f} ms  {json.dumps(settings)}")


if __name__ == "__main__":
    main()
