"""Jobs that do nothing, per second: the worker beside task queues that make the same commit, one process each.

A peer's program is a process in its own environment, ours one in the product's; each is asked for the same number of
jobs over the same Valkey and the same durable Postgres, all are on hand before the clock runs, and the first of them
don't count. Afterwards Postgres is asked: jobs that it doesn't have are no jobs. Stores are emptied before each.

Both sides write the same rows. Ours needs two transactions for that, for it takes a fence; a peer needs one.

    python -m benchmarks.throughput --sweep arq      # the settings that are tried, and their jobs per second
    python -m benchmarks.throughput --profile        # where the worker's time goes
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks.figure import Figure, Round, Target
from benchmarks.stores import Stores
from message_handler.stores.database import Database, connector

ROOT = Path(__file__).parents[1]
#: No round takes longer; one that does is stuck.
TIMEOUT_SECONDS = 120.0
WARM_UP = 200


@dataclass(frozen=True)
class Program:
    """A program that speaks as peers/work.py has it; `settings` are its best, `tried` those that were compared."""

    name: str
    module: str
    environment: str
    settings: dict[str, Any] = field(default_factory=dict)
    tried: dict[str, list[Any]] = field(default_factory=dict)
    #: About how many jobs take two seconds.
    jobs: int = 2_000

    def command(self) -> list[str]:
        return [str(ROOT / self.environment / "bin/python"), "-m", self.module]


def _peer(name: str, settings: dict[str, Any], tried: dict[str, list[Any]], jobs: int = 2_000) -> Program:
    return Program(name, f"benchmarks.peers.{name}", f".venv-peer-{name}", settings, tried, jobs)


OURS = Program("ours", "benchmarks.own_worker", ".venv")
PEERS = (
    _peer(
        "arq",
        {"max_jobs": 50, "poll_delay": 0.01, "queue_read_limit": 500, "driver": "asyncpg"},
        {"max_jobs": [10, 20, 50, 100], "poll_delay": [0.001, 0.01, 0.1], "queue_read_limit": [100, 500]},
    ),
    _peer(
        "saq",
        {"concurrency": 20, "driver": "asyncpg"},
        {"concurrency": [5, 10, 20, 50, 100], "max_concurrent_ops": [20, 50]},
    ),
    _peer(
        "dramatiq",
        {"threads": 32, "prefetch": 200},
        {"threads": [4, 8, 16, 32, 64], "prefetch": [0, 200], "driver": ["psycopg", "pg8000"]},
    ),
    _peer("rq", {"json": False, "timer": False}, {"json": [False, True], "driver": ["psycopg", "pg8000"]}, 1_000),
    _peer(
        "celery",
        {"pool": "threads", "concurrency": 8, "prefetch": 4},
        {"pool": ["threads", "gevent", "solo"], "concurrency": [4, 10, 20], "prefetch": [1, 4, 16]},
    ),
    _peer(
        "procrastinate",
        {"concurrency": 20, "connections": 10, "delete_jobs": "never", "driver": "asyncpg"},
        {"concurrency": [5, 10, 20, 40], "connections": [4, 10, 20], "delete_jobs": ["never", "always"]},
        1_000,
    ),
)


class Bench:
    """The stores of all rounds, and the rounds."""

    def __init__(self, stores: Stores) -> None:
        self._redis_url, self._database_url = stores.redis_url, stores.database_url
        self._redis = redis.Redis.from_url(stores.redis_url)
        self._database = Database(connector(stores.settings()))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        self._database.close()

    def jobs_per_second(self, program: Program, count: int, **settings: Any) -> float:
        """See `run`."""
        told = self.run(program, count, **settings)
        return float(told["measured"] / told["seconds"])

    def run(self, program: Program, count: int, **settings: Any) -> dict[str, Any]:
        """What a program tells of one run over emptied stores.

        Raises RuntimeError if it fails, or did less than it says.
        """
        prefix = uuid.uuid4().hex[:8]
        jobs = [(f"{prefix}-{number}", str(uuid.uuid4()), f"m-{number}") for number in range(count)]
        self._empty()
        self._database.run(lambda connection: connection.run("checkpoint"))
        told = ask(
            program.command(),
            {
                "redis_url": self._redis_url,
                "database_url": self._database_url,
                "jobs": jobs,
                "warm_up": min(WARM_UP, count // 100 * 10 or 10),
                "settings": program.settings | settings,
            },
        )
        self._check(program, jobs)
        return told

    def _empty(self) -> None:
        self._redis.flushall()
        self._database.run(lambda connection: connection.run("truncate conversations, jobs, settled, turns, outbox"))

    def _check(self, program: Program, jobs: list[tuple[str, str, str]]) -> None:
        done = self._database.run(
            lambda connection: connection.run(
                """
                select count(*) from jobs join settled using (platform_id, conversation_id, job_id)
                where jobs.status = 'completed' and jobs.reply is not null and settled.kind = 'answered'
                  and settled.message_id || '/' || conversation_id = any(cast(:names as text[]))
                  and 2 = (select count(*) from turns where turns.platform_id = jobs.platform_id
                           and turns.conversation_id = jobs.conversation_id)
                """,
                names=[f"{message_id}/{conversation_id}" for conversation_id, _, message_id in jobs],
            )[0][0]
        )
        if done != len(jobs):
            raise RuntimeError(f"{program.name} answered {done} of {len(jobs)} jobs")


def ask(command: list[str], order: dict[str, Any]) -> dict[str, Any]:
    """What a program says to an order. Raises RuntimeError, also for one that doesn't end."""
    try:
        done = subprocess.run(
            command,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is not there: make bench sets it up") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command[1:])} did not end within {TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr.strip().splitlines()[-1:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    if told["jobs"] != len(order["jobs"]):
        raise RuntimeError(f"{' '.join(command[1:])} did {told['jobs']} of {len(order['jobs'])} jobs")
    return told


def sweep(bench: Bench, program: Program, rounds: int) -> None:
    """Every combination of what is tried, in turns; the median of each, the fastest last."""
    found: dict[str, list[float]] = {}
    combinations = [
        dict(zip(program.tried, values, strict=True)) for values in itertools.product(*program.tried.values())
    ]
    for _ in range(rounds):
        for settings in combinations:
            speed = bench.jobs_per_second(program, program.jobs // 2, **settings)
            found.setdefault(json.dumps(settings), []).append(speed)
            print(f"{speed:8.0f}  {settings}", file=sys.stderr, flush=True)
    for settings_text, speeds in sorted(found.items(), key=lambda item: median(item[1])):
        print(f"{median(speeds):8.0f}  {settings_text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", choices=[peer.name for peer in PEERS])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="in a sweep: try these instead")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    with Stores() as stores, Bench(stores) as bench:
        if options.sweep:
            program = next(peer for peer in PEERS if peer.name == options.sweep)
            if options.set:
                tried = {n: json.loads(v) for n, _, v in (s.partition("=") for s in options.set)}
                program = Program(**vars(program) | {"tried": tried})
            if options.jobs:
                program = Program(**vars(program) | {"jobs": options.jobs * 2})
            sweep(bench, program, options.rounds)
            return
        for _ in range(options.rounds):
            for program in (OURS, *PEERS):
                speed = bench.jobs_per_second(program, options.jobs or program.jobs)
                print(f"{program.name:15} {speed:8.0f} jobs/s", flush=True)


if __name__ == "__main__":
    main()
