"""arq: coroutines on one event loop (uvloop); Redis. At least once: a job leaves the queue after its task.

Tried: 5 to 100 jobs at once; polls every 1, 20 and 100 ms; 100 and 1,000 ids in a poll; asyncpg, and pg8000 in threads.
Twenty at once and short polls of 100 were the fastest. Results are not kept.
"""

from __future__ import annotations

import asyncio

import arq
import uvloop
from arq.connections import RedisSettings

from benchmarks.peers.work import async_commit, receive


async def main() -> None:
    order, report = receive("arq", "redis", "asyncpg", "uvloop")
    commit, settings = async_commit(order), order.settings

    async def answer(_context: object, *job: str) -> None:
        await commit(*job)
        if report.ended():
            worker.main_task.cancel()

    redis = RedisSettings.from_dsn(order.redis_url)
    pool = await arq.create_pool(redis)
    for first in range(0, len(order.jobs), 200):
        await asyncio.gather(*[pool.enqueue_job("answer", *job) for job in order.jobs[first : first + 200]])
    worker = arq.Worker(
        [arq.func(answer, name="answer", keep_result=0)],
        redis_pool=pool,
        handle_signals=False,
        max_jobs=settings["max_jobs"],
        poll_delay=settings["poll_delay"],
        queue_read_limit=settings["queue_read_limit"],
        log_results=False,
    )
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        report.tell()


if __name__ == "__main__":
    uvloop.run(main())
