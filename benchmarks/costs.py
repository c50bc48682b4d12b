"""`python -m benchmarks.costs`: what one message costs each part. docs/scale.md multiplies these costs.

Messages go the whole way: the intake function's handler, the stand-in of SQS, the worker function's handler. The AI
answers at once. Commands, transactions and bytes are the stores' own counts; milliseconds are the functions'.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import redis

from benchmarks.filling import accept
from benchmarks.functions import Context, batch, post, variables, warm
from benchmarks.scale import redis_tier
from benchmarks.stores import Stores
from message_handler.drivers.postgres_connection import connector

#: An idle backend of Postgres publishes its counts after ten seconds.
SETTLED_SECONDS = 10.5
LOOKS = 2_000
TABLES = ("conversations", "jobs", "settled", "turns")


@dataclass
class Spent:
    """What one stretch of work cost, over all of its messages."""

    counts: dict[str, float] = field(default_factory=dict)


class Meters:
    """The counters of the stores, of the queue's clients and of this process."""

    def __init__(self, stores: Stores) -> None:
        self._redis = redis.Redis.from_url(stores.redis_url, decode_responses=True)
        self._postgres = connector(stores.settings())(timeout=60.0)
        self.sqs_calls = 0

    def read(self) -> dict[str, float]:
        scripts = self._redis.info("commandstats")
        stats = self._redis.info("stats")
        assert isinstance(scripts, dict)
        assert isinstance(stats, dict)
        cpu = self._redis.info("cpu")
        assert isinstance(cpu, dict)
        calls = {name.removeprefix("cmdstat_"): float(counts["calls"]) for name, counts in scripts.items()}
        ((commits, wal, size),) = self._postgres.run(
            "select xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),"
            f" {' + '.join(f"pg_total_relation_size('{table}')" for table in TABLES)}"
            " from pg_stat_database where datname = current_database()"
        )
        return {
            "SQS calls of the function": self.sqs_calls,
            "Redis scripts": calls.get("evalsha", 0) + calls.get("eval", 0),
            "Redis commands, those within scripts too": sum(calls.values()),
            "Redis ms of CPU": 1000 * (float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])),
            "KB in and out of Redis": (float(stats["total_net_input_bytes"]) + float(stats["total_net_output_bytes"]))
            / 1e3,
            "Postgres transactions": float(commits),
            "KB of Postgres' log (WAL)": float(wal) / 1e3,
            "KB of Postgres' tables and indexes": float(size) / 1e3,
        }

    @contextmanager
    def spent(self, on: Spent) -> Iterator[None]:
        time.sleep(SETTLED_SECONDS)
        before, own = self.read(), self.read()  # each reading costs the same, and is subtracted
        cpu, clock = time.process_time(), time.perf_counter()
        yield
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        time.sleep(SETTLED_SECONDS)
        after = self.read()
        on.counts = {name: after[name] - own[name] - (own[name] - before[name]) for name in after}
        on.counts |= {"ms of the function's CPU": 1000 * cpu, "ms of the function": 1000 * clock}

    def watch(self, app: ModuleType) -> None:
        """Count the calls of the function's SQS client."""

        def counted(**_: Any) -> None:
            self.sqs_calls += 1

        app.parts().queue._client.meta.events.register("before-call.sqs", counted)

    def close(self) -> None:
        self._redis.close()
        self._postgres.close()


def columns(stores: Stores, messages: int) -> dict[str, Spent]:
    """What `messages` cost in intake, in batches of one, in batches of ten, and as records that joined a job.

    The last column is one look for messages that joined. A worker looks while the AI works.
    """
    spent = {
        name: Spent()
        for name in ("intake", "worker, batches of one", "worker, batches of ten", "a joined record", "a look")
    }
    meters, sqs = Meters(stores), stores.sqs_client()
    queue = stores.queue_url("jobs")
    environment = {"POWERTOOLS_LOG_LEVEL": "INFO", "SIMULATED_AI_DELAY_MS": "0", "JOIN_DELAY": "0"}

    def received() -> list[str]:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in found]

    def accepted(app: ModuleType, name: str, count: int) -> list[str]:
        for number in range(count):
            answered = app.handler(post(f"{name}-{number}"), Context("IntakeFunction"))
            assert answered["statusCode"] == 202, answered["body"]
        bodies: list[str] = []
        while len(bodies) < count:
            bodies += received()
        return bodies

    with warm(variables(stores, "intake", **environment), "intake") as app:
        accepted(app, "cost-warm", 5)
        meters.watch(app)
        with meters.spent(spent["intake"]):
            for number in range(messages):
                app.handler(post(f"cost-{number}"), Context("IntakeFunction"))
        one: list[str] = []
        while len(one) < messages:
            one += received()
        ten = accepted(app, "cost-ten", messages)
        joined = accepted(app, "cost-ten", messages)  # in conversations with a waiting job: these join it
    with warm(variables(stores, "worker", **environment), "worker") as app:
        app.handler(batch(one[:1]), Context("WorkerFunction"))
        app.handler(batch(ten[:10]), Context("WorkerFunction"))
        meters.watch(app)
        for name, bodies, size in (
            ("worker, batches of one", one[1:], 1),
            ("worker, batches of ten", ten[10:], 10),
            ("a joined record", joined, 10),
        ):
            with meters.spent(spent[name]):
                for first in range(0, len(bodies), size):
                    answer = app.handler(batch(bodies[first : first + size]), Context("WorkerFunction"))
                    assert answer == {"batchItemFailures": []}
            spent[name].counts = {what: value / len(bodies) for what, value in spent[name].counts.items()}
    spent["intake"].counts = {what: value / messages for what, value in spent["intake"].counts.items()}
    with redis_tier(stores.redis_url) as (_, tier):
        key = accept(tier, "cost-looked-at")
        assert tier.claim(key, "worker")
        with meters.spent(spent["a look"]):
            for _ in range(LOOKS):
                assert tier.look(key, "worker", seen=1) == "valid"
    spent["a look"].counts = {what: value / LOOKS for what, value in spent["a look"].counts.items()}
    meters.close()
    sqs.close()
    return spent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--messages", type=int, default=200, help="of each kind (default 200)")
    options = parser.parse_args(arguments)
    with Stores() as stores:
        found = columns(stores, options.messages)
    print("| per message | " + " | ".join(found) + " |")
    print("|---|" + "---:|" * len(found))
    for what in next(iter(found.values())).counts:
        print(f"| {what} | " + " | ".join(f"{spent.counts[what]:.2f}" for spent in found.values()) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
