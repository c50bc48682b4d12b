"""Procrastinate: coroutines on one event loop (uvloop); its queue is in Postgres, the same as the commit's.

Tried: 5 and 20 jobs at once; 5 and 10 connections of the queue; ended jobs deleted and kept; asyncpg, and pg8000 in
threads. The queue's own commits waited for the disk, or not. Twenty jobs at once, five connections and a queue that
doesn't wait were the fastest: it fetches each job in its own transaction.
"""

from __future__ import annotations

import asyncio

import uvloop
from procrastinate import App, PsycopgConnector

from benchmarks.peers.work import async_commit, receive


async def main() -> None:
    order, report = receive("procrastinate", "psycopg", "asyncpg", "uvloop")
    commit, settings = async_commit(order), order.settings
    complete = asyncio.Event()
    # What its queue loses in a crash is done again. The task's commit has its own connection, and waits for the disk.
    options = {} if settings["durable_queue"] else {"kwargs": {"options": "-c synchronous_commit=off"}}
    connections = settings["connections"]
    app = App(
        connector=PsycopgConnector(conninfo=order.database_url, min_size=connections, max_size=connections, **options)
    )

    @app.task(name="answer")
    async def answer(job: list[str]) -> None:
        await commit(*job)
        if report.ended():
            complete.set()

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        for first in range(0, len(order.jobs), 500):
            await answer.batch_defer_async(*[{"job": list(job)} for job in order.jobs[first : first + 500]])
        running = asyncio.create_task(
            app.run_worker_async(
                concurrency=settings["concurrency"],
                delete_jobs=settings["delete_jobs"],
                listen_notify=settings.get("listen_notify", True),
                install_signal_handlers=False,
            )
        )
        await complete.wait()
        report.tell()
        running.cancel()


if __name__ == "__main__":
    uvloop.run(main())
