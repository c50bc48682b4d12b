"""SAQ: coroutines on one event loop (uvloop); Redis. At least once: a sweep returns unfinished jobs to the queue.

Tried: 5 to 100 jobs at once; 20 and 100 operations on Redis at once; asyncpg, and pg8000 in threads. Twenty of both
were the fastest. Neither jobs nor results are kept (`ttl=-1`).
"""

from __future__ import annotations

import asyncio

import uvloop
from redis.asyncio import Redis
from saq import Queue, Worker
from saq.queue.redis import RedisQueue

from benchmarks.peers.work import async_commit, receive


async def main() -> None:
    order, report = receive("saq", "redis", "asyncpg", "uvloop")
    commit, settings = async_commit(order), order.settings
    complete = asyncio.Event()

    async def answer(_context: object, *, job: list[str]) -> None:
        await commit(*job)
        if report.ended():
            complete.set()

    queue: Queue = RedisQueue(
        Redis.from_url(order.redis_url), max_concurrent_ops=settings.get("max_concurrent_ops", 20)
    )
    await queue.connect()
    for first in range(0, len(order.jobs), 200):
        await asyncio.gather(
            *[queue.enqueue("answer", job=list(job), ttl=-1) for job in order.jobs[first : first + 200]]
        )
    worker = Worker(queue, [("answer", answer)], concurrency=settings["concurrency"])
    worker.SIGNALS = []
    running = asyncio.create_task(worker.start())
    await complete.wait()
    report.tell()
    running.cancel()


if __name__ == "__main__":
    uvloop.run(main())
