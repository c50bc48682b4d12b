"""Dramatiq: threads; Redis. At least once: a message is acknowledged after its task.

Tried: 2 to 64 threads; a prefetch of twice the threads, and of 200; psycopg and pg8000. Without its default middleware
it is no faster, and loses its retries. With gevent it has a quarter of the speed. Sixteen threads are the fastest on an
idle machine, thirty-two on a busy one: both run. It keeps no results.
"""

from __future__ import annotations

import os

from benchmarks.peers.work import Commit, receive

order, report = receive("dramatiq", "redis", "psycopg")
if prefetch := order.settings.get("prefetch"):
    os.environ["dramatiq_queue_prefetch"] = str(prefetch)  # noqa: SIM112  its name

import dramatiq  # noqa: E402  it reads its environment when it is imported
from dramatiq.brokers.redis import RedisBroker  # noqa: E402

broker = RedisBroker(url=order.redis_url)
dramatiq.set_broker(broker)
commit = Commit(order.database_url, order.settings.get("driver", "psycopg"))


@dramatiq.actor
def answer(*job: str) -> None:
    commit(*job)
    report.ended()


def main() -> None:
    for job in order.jobs:
        answer.send(*job)
    worker = dramatiq.Worker(broker, worker_threads=order.settings["threads"], worker_timeout=100)
    worker.start()
    report.complete.wait()
    report.tell()
    worker.stop()


if __name__ == "__main__":
    main()
