"""RQ: one job at a time in its SimpleWorker, which doesn't fork; Redis.

Tried: pickle and JSON; timeouts by signal and by timer; psycopg and pg8000. JSON was the fastest. At each job it waits
for the disk and does nothing else meanwhile. Results are not kept.
"""

from __future__ import annotations

import sys

import rq
from redis import Redis
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from benchmarks.peers.work import Commit, receive

order, report = receive("rq", "redis", "psycopg")
commit = Commit(order.database_url, order.settings.get("driver", "psycopg"))


def answer(*job: str) -> None:
    commit(*job)
    report.ended()


def main() -> None:
    # Under the module's own name instead of __main__: RQ imports tasks by the names of their modules.
    sys.modules["benchmarks.peers.rq"] = sys.modules["__main__"]
    serializer = JSONSerializer if order.settings.get("json") else None
    queue = rq.Queue(connection=Redis.from_url(order.redis_url), serializer=serializer)
    for first in range(0, len(order.jobs), 500):
        queue.enqueue_many(
            [
                rq.Queue.prepare_data("benchmarks.peers.rq.answer", job, result_ttl=0)
                for job in order.jobs[first : first + 500]
            ]
        )
    worker = rq.SimpleWorker([queue], connection=queue.connection, serializer=serializer, log_job_description=False)
    if order.settings.get("timer"):
        worker.death_penalty_class = TimerDeathPenalty
    worker.work(burst=True, logging_level="ERROR")
    report.tell()


if __name__ == "__main__":
    main()
