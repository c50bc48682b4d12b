"""How each part is, and how the whole deployment is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from message_handler.domain.documents import timestamp
from message_handler.domain.errors import MessageHandlerError, ReadOnly, Unavailable
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.protocol.results import Lock
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover


class Reached(NamedTuple):
    """The state of a tier, and why it is not up, as far as that is known."""

    state: Literal["up", "away", "read_only"]
    reason: str = ""


def reached(tiers: Failover) -> dict[str, Reached]:
    """The state of each tier now, the best tier first."""
    return {tier.name: _reached(tier.ping) for tier in tiers.tiers}


def _reached(ping: Callable[[], None]) -> Reached:
    try:
        ping()
    except ReadOnly as error:
        return Reached("read_only", error.reason)
    except Unavailable as error:
        return Reached("away", error.reason)
    except MessageHandlerError as error:
        # The store is there, but refuses us: it is of no use either way.
        return Reached("away", str(error))
    return Reached("up")


def status(tiers: Failover, archive: Archive, queue: Queue, found: dict[str, Reached] | None = None) -> dict[str, Any]:
    """The state of each part. A single process for which no store is configured is healthy.

    Degraded: messages are accepted and answered, on a lower tier or without Postgres. Unhealthy: the queue is away, so
    no message can be accepted. `found`: the result of `reached`, if it is known. If a tier is not up, `tiers` has all
    states, and `reasons` says why.
    """
    found = found or reached(tiers)
    up = {name: tier.state == "up" for name, tier in found.items()}
    archive_up, queue_up = _reached(archive.ping).state == "up", _reached(queue.ping).state == "up"
    current = next((name for name, answers in up.items() if answers), "memory")
    degraded = current != tiers.expected or not archive_up
    working = "degraded" if degraded else "healthy"
    reasons = {name: tier.reason for name, tier in found.items() if tier.state != "up"}
    states = {name: tier.state for name, tier in found.items()}
    return ({"tiers": states, "reasons": reasons} if reasons else {}) | {
        "status": working if queue_up else "unhealthy",
        "components": {
            "redis_connected": up.get("redis", False),
            "database_connected": archive.name == "postgres" and archive_up,
            "tier": current,
            "lock_manager": "healthy" if current == tiers.expected else "degraded",
            "job_manager": working if queue_up else "unhealthy",
            "queue": queue.name if queue_up else "unavailable",
        },
    }


def deployment_status(
    tiers: Failover,
    archive: Archive,
    queue: Queue,
    settings: Settings,
    platform_id: str,
    *,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """`health.status`, and what an operator on call needs to know.

    `tiers`: the state of each: up, away, or read_only (it refuses writes). `queue`: about how many records are
    `visible`, `in_flight` and `delayed`, of all tenants, and how many `dead_letters`. None: the number is unknown.
    `worker`: the tenant's own, see `worker_status`. If it is silent, the whole is unhealthy.
    """
    found = reached(tiers)
    shown = status(tiers, archive, queue, found)
    locks = None
    try:
        locks = [lock for of_tier in tiers.each(lambda tier: tier.locks(platform_id)) for lock in of_tier]
    except Unavailable:
        shown["status"] = "unhealthy"
    worker = worker_status(locks, _known(lambda: archive.last_end(platform_id)), settings, clock())
    if worker["state"] == "silent":
        shown["status"] = "unhealthy"
    unknown: dict[str, int | None] = {"visible": None, "in_flight": None, "delayed": None}
    return shown | {
        "tiers": {name: tier.state for name, tier in found.items()},
        "queue": unknown | (_known(queue.depth) or {}) | {"dead_letters": _known(queue.count_dead_letters)},
        "worker": worker,
    }


def worker_status(locks: list[Lock] | None, last_end: float | None, settings: Settings, now: float) -> dict[str, Any]:
    """Whether workers answer a tenant's patients, judged by its locks and the end of its last job.

    `idle`: no message waits. `ok`: a worker is at work, or is due within a moment. `silent`: a message waits longer
    than the sweep allows, or its worker has stopped, and no other worker of the tenant shows a sign of life.
    `unknown`: no tier answers.
    """
    beats = [lock.heartbeat_at for lock in locks or () if lock.heartbeat_at is not None]
    waits = [lock.acquired_at for lock in locks or () if lock.heartbeat_at is None]
    last_beat = max(beats, default=None)
    alive = last_beat is not None and now - last_beat <= settings.heartbeat_stale
    lately = last_end is not None and now - last_end <= settings.wake_after
    overdue = (bool(beats) and not alive) or (bool(waits) and now - min(waits) > settings.wake_after)
    if locks is None:
        state = "unknown"
    elif not locks:
        state = "idle"
    else:
        state = "silent" if overdue and not alive and not lately else "ok"
    return {
        "state": state,
        "running": None if locks is None else len(beats),
        "waiting": None if locks is None else len(waits),
        "oldest_waiting_at": timestamp(min(waits, default=None)),
        "last_heartbeat_at": timestamp(last_beat),
        "last_finished_at": timestamp(last_end),
    }


def _known[T](look: Callable[[], T]) -> T | None:
    """What a store or the queue says. None: it is away."""
    try:
        return look()
    except Unavailable:
        return None
