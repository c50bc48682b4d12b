"""The project's first targets: the p99 of calls by sixteen clients at once, in milliseconds.

Stores and clients share this one machine. The SQS client works, but its stand-in server is left out.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

from benchmarks.clients import COUNT, PAUSE_SECONDS, Clients, Work, without_server
from benchmarks.figure import Figure, Round, Target, percentile
from benchmarks.functions import Context, load, post, variables
from benchmarks.history import typical
from benchmarks.locks import MESSAGES
from benchmarks.stores import Stores
from message_handler.bot_config import BotConfigService
from message_handler.intake.requests import parse_request, read_turns
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import MessageLockManager
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from message_handler.wiring import build


def names() -> Iterator[str]:
    """Ids of conversations that no other process uses."""
    start = time.perf_counter_ns()
    return (f"conversation-{os.getpid()}-{start}-{number}" for number in itertools.count())


def lock_in_redis() -> Work:
    fresh, locks = names(), MessageLockManager(Failover(build(deployed=True).tiers.tiers[0]))
    return lambda: locks.check_and_acquire_lock(next(fresh), MESSAGES)


def lock_in_memory() -> Work:
    fresh, locks = names(), MessageLockManager(Failover(MemoryTier(Settings())))
    return lambda: locks.check_and_acquire_lock(next(fresh), MESSAGES)


def configuration() -> Work:
    """The process has nothing in memory: it asks Redis, then Postgres for the bot and the conversation's bot."""
    parts, fresh = build(deployed=True), names()
    bots = BotConfigService(parts.tiers, parts.archive, parts.settings.model_copy(update={"configuration_ttl": 1e-6}))
    return lambda: bots.get_bot_config(next(fresh))


def parsed_history() -> Work:
    """From a request's body to its turns: 64 KiB, a few hundred turns."""
    text = typical(50_000)  # characters, some of two or three bytes in UTF-8
    text = text[: text.rindex("<BOT>")]
    return lambda: read_turns(parse_request({"history": text}))


def job() -> Work:
    parts, fresh = build(deployed=True), names()
    without_server(parts.queue._client)  # type: ignore[attr-defined]
    jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
    return lambda: jobs.create_ai_processing_job(next(fresh), MESSAGES)


def response() -> Work:
    app, fresh, context = load("intake"), names(), Context("IntakeFunction")
    without_server(app.parts().queue._client)

    def call() -> None:
        assert app.handler(post(next(fresh)), context)["statusCode"] == 202

    return call


def measuring(work: Callable[[], Work]) -> Callable[[Stores], Iterator[Round]]:
    def measure(stores: Stores) -> Iterator[Round]:
        clients = stores.shared("clients", lambda: Clients(variables(stores, "intake")))
        clients.set_up(work)
        while True:
            yield Round(percentile(clients.calls(0.5 if stores.quick else 2.0), 0.99) * 1e3)

    return measure


def _figure(name: str, title: str, ours: str, most: float, work: Callable[[], Work]) -> Figure:
    pauses = f"each pauses {PAUSE_SECONDS * 1e3:.0f} ms in the mean: with calls of 5 ms one or two are under way"
    ours = f"{ours}; {COUNT} clients, {pauses}"
    return Figure(f"p99-{name}", f"p99: {title}", ours, "", Target("<", most), measuring(work), "ms", 4, 9)


FIGURES = (
    _figure("lock", "lock, Redis", "a fresh conversation's lock through MessageLockManager", 10, lock_in_redis),
    _figure("lock-memory", "lock, memory", "the same in the memory of each process", 1, lock_in_memory),
    _figure(
        "configuration", "configuration", "the bot of a fresh conversation, from Redis and Postgres", 20, configuration
    ),
    _figure("history", "history", "a history of 64 KiB, from the request's body to its turns", 5, parsed_history),
    _figure("job", "job creation", "create_ai_processing_job, without the stand-in of SQS", 15, job),
    _figure("response", "whole response", "the intake function's handler, without the stand-in of SQS", 50, response),
)
