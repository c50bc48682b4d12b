"""How a peer is asked, what its task does, and how it reports its speed.

    stdin    one JSON object: {"redis_url", "database_url", "jobs": [[conversation_id, job_id, message_id], …],
                               "warm_up": jobs that don't count, "settings": {…}}
    stdout   one JSON object: {"jobs": all that were done, "measured", "seconds": from the last of the warm-up to the
                               last job, "processor_seconds": what the process used of them, "versions": {…}}

This runs in the peer's own environment, which has nothing of the product.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: The rows that the product writes for a job, in one statement.
COMMIT = (Path(__file__).parent / "commit.sql").read_text()
#: A patient's message, and the reply of the simulated AI.
CONTENT = "I have had a headache since yesterday, may I take another tablet?"
#: The digest that the product keeps of its words.
WORDS = "a30b80d2f6247a130e313d3b04ff71e9"
REPLY = f"[Simulated AI] Healthcare Assistant answers 1 message:\n> {CONTENT}"

#: The job as the product shows it.
DOCUMENT = {
    "bot_id": "default",
    "attempts": 1,
    "reply": REPLY,
    "usage": {"input_tokens": 12, "output_tokens": 20},
    "provenance": {
        "bot_id": "default",
        "bot_revision": None,
        "core_ai_id": None,
        "core_ai_revision": None,
        "model": None,
        "simulated": True,
        "rules_version": "0123456789abcdef",
    },
}

Job = tuple[str, str, str]


@dataclass(frozen=True)
class Order:
    """A peer's order: do all `jobs`. The first `warm_up` of them don't count."""

    redis_url: str
    database_url: str
    jobs: list[Job]
    warm_up: int
    settings: dict[str, Any]


class Report:
    """Notes the ends of jobs, and reports them on the program's original stdout. Other output is dropped."""

    def __init__(self, order: Order, output: Any, packages: tuple[str, ...]) -> None:
        self._order, self._output, self._packages = order, output, packages
        self._ended: list[float] = []
        self._used = 0.0
        self.complete = threading.Event()

    def ended(self) -> bool:
        """Note that one more job is committed. Returns whether it was the last."""
        self._ended.append(time.perf_counter())
        if len(self._ended) == self._order.warm_up:
            self._used = -time.process_time()
        if len(self._ended) < len(self._order.jobs):
            return False
        self._used += time.process_time()
        self.complete.set()
        return True

    def tell(self) -> None:
        times, warm_up = sorted(self._ended), self._order.warm_up
        json.dump(
            {
                "jobs": len(times),
                "measured": len(times) - warm_up,
                "seconds": times[-1] - times[warm_up - 1],
                "processor_seconds": self._used,
                "versions": {package: version(package) for package in self._packages},
            },
            self._output,
        )
        self._output.write("\n")
        self._output.flush()


def receive(*packages: str) -> tuple[Order, Report]:
    """The order on stdin, and the report for it with the versions of these packages.

    The process ends when its stdin does: some workers run for ever, and the asking process may have been killed.
    """
    output = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.WARNING)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    order = Order(**asked | {"jobs": [tuple(job) for job in asked["jobs"]]})
    return order, Report(order, output, packages)


def _end_with_stdin() -> None:
    # By its descriptor: a stream would hold its lock at the end of the program, which is fatal.
    while os.read(0, 1024):
        pass
    os._exit(0)


def values(conversation_id: str, job_id: str, message_id: str) -> dict[str, Any]:
    """The product's values in the commit of a job with one message."""
    now = time.time()
    return {
        "platform_id": "default",
        "conversation_id": conversation_id,
        "job_id": job_id,
        "bot_id": "default",
        "status": "completed",
        "kind": "answered",
        "document": json.dumps(DOCUMENT),
        "message_ids": [message_id],
        "ids": [message_id],
        "words": WORDS,
        "given_ids": [message_id],
        "created_at": now,
        "started_at": now,
        "finished_at": now,
        "roles": ["user", "assistant"],
        "contents": [CONTENT, REPLY],
        "turn_ids": [message_id, None],
    }


def _numbered() -> tuple[str, list[str]]:
    """The statement with its parameters as $1, $2, …, and their names."""
    text = "\n".join(line for line in COMMIT.splitlines() if not line.lstrip().startswith("--"))
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        name = found[1]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", number, text), names


STATEMENT, NAMES = _numbered()


class NotCommitted(Exception):
    """The statement ran, and wrote no row."""


class AsyncCommit:
    """The commit through asyncpg, prepared once on each connection. Each commit at the same time has its own one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Any] = []

    async def __call__(self, *job: str) -> None:
        given = values(*job)
        statement = self._idle.pop() if self._idle else await self._prepare()
        try:
            if not await statement.fetchval(*[given[name] for name in NAMES]):
                raise NotCommitted
        finally:
            self._idle.append(statement)

    async def _prepare(self) -> Any:
        import asyncpg

        connection = await asyncpg.connect(self._url)
        return await connection.prepare(STATEMENT)

    async def connect(self, count: int) -> None:
        """Open connections for `count` commits at the same time."""
        self._idle += await asyncio.gather(*[self._prepare() for _ in range(count)])


class Commit:
    """The commit through psycopg (in C, prepared) or pg8000. Each commit at the same time has its own connection."""

    def __init__(self, url: str, driver: str = "psycopg") -> None:
        # One list for all threads: gevent makes a new one for each task.
        self._idle: list[Callable[[dict[str, Any]], bool]] = []
        self._connections: list[Any] = []
        self._connect = self._psycopg(url) if driver == "psycopg" else self._pg8000(url)

    def __call__(self, *job: str) -> None:
        try:
            run = self._idle.pop()
        except IndexError:
            run = self._connect()
        if not run(values(*job)):
            raise NotCommitted
        self._idle.append(run)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _psycopg(self, url: str) -> Callable[[], Callable[[dict[str, Any]], bool]]:
        import psycopg

        def connect() -> Callable[[dict[str, Any]], bool]:
            connection = psycopg.connect(url, autocommit=True)
            self._connections.append(connection)
            cursor = psycopg.RawCursor(connection)

            def run(given: dict[str, Any]) -> bool:
                row = cursor.execute(STATEMENT, [given[name] for name in NAMES], prepare=True).fetchone()
                return bool(row and row[0])

            return run

        return connect

    def _pg8000(self, url: str) -> Callable[[], Callable[[dict[str, Any]], bool]]:
        from pg8000.native import Connection

        server = urlsplit(url)

        def connect() -> Callable[[dict[str, Any]], bool]:
            connection = Connection(
                unquote(server.username or ""),
                host=server.hostname,
                port=server.port,
                database=server.path[1:],
                password=unquote(server.password or ""),
                ssl_context=False,
            )
            self._connections.append(connection)
            statement = connection.prepare(COMMIT)
            return lambda given: bool(statement.run(**given)[0][0])

        return connect


def async_commit(order: Order) -> Callable[..., Awaitable[None]]:
    """The commit for tasks that are coroutines. `settings` choose asyncpg, or a driver in threads."""
    driver = order.settings.get("driver", "asyncpg")
    if driver == "asyncpg":
        return AsyncCommit(order.database_url)
    commit = Commit(order.database_url, driver)

    async def in_thread(*job: str) -> None:
        await asyncio.to_thread(commit, *job)

    return in_thread
