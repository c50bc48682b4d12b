"""What keeps the conversations moving and tells how the parts are: the sweep and the status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from message_handler.delivery import Deliveries
from message_handler.errors import InvalidRequest, MessageHandlerError, Unavailable
from message_handler.locks import timestamp
from message_handler.models import ArchiveRecord, ConversationKey, DeliveryRecord, Job
from message_handler.processing import Worker, wake
from message_handler.queues import DeadLetter, Queue
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive

_log = logging.getLogger(__name__)

DEFAULT_MAX_AGE_HOURS = 24.0
MAX_AGE_HOURS = 100_000
#: So long one sweep looks through the dead letters; well below the function's 60 s and the API's 29 s.
_REDRIVE_SECONDS = 10.0
#: A dead letter's job is failed within so many seconds, or at the next sweep.
_GIVE_UP_SECONDS = 10.0


def sweep(
    tiers: Failover,
    queue: Queue,
    *,
    max_age_hours: float = DEFAULT_MAX_AGE_HOURS,
    platform_id: str | None = None,
) -> int:
    """Free locks whose worker is silent or that are older than `max_age_hours`; wake what nobody came for.

    Of all tenants, or with `platform_id` of that one alone. Each freed or waiting conversation gets one record.
    Returns how many did. Raises InvalidRequest or Unavailable.
    """
    seconds = _hours(max_age_hours) * 3600
    found = tiers.each(lambda tier: tier.sweep(older_than=seconds, platform_id=platform_id))
    # A conversation may wait on two tiers; one record wakes it, the fence brings both together.
    jobs: dict[ConversationKey, Job] = {}
    for job in (job for swept in found for job in swept):
        jobs.setdefault(job.key, job)
    refused = None
    for job in jobs.values():
        try:
            wake(queue, job)
        except Unavailable as error:
            # One refusal must not keep all others asleep.
            refused = error
    if refused:
        raise refused
    if jobs:
        _log.info("swept", extra={"conversations": len(jobs)})
    return len(jobs)


def redrive(worker: Worker, queue: Queue) -> int:
    """Give the dead letters that waited out an outage of Postgres another life; returns how many.

    One whose message is settled is removed, and an archive record is archived. One that comes back a second time has
    not waited for Postgres, it breaks its workers: its job is failed visibly. What is no record of ours stays, for
    people to look at.
    """
    count, until = 0, worker.clock() + _REDRIVE_SECONDS
    with suppress(Unavailable):  # Postgres or the queue is away: at the next sweep
        while worker.clock() < until:
            letters = queue.dead_letters()
            for letter in letters:
                try:
                    count += _redrive(worker, queue, letter)
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001  what broke its workers may break us; the others go on
                    _log.error("a dead letter can't be settled", extra={"error": type(error).__name__})
            if not letters:
                break
    if count:
        _log.info("redriven", extra={"records": count})
    return count


def _redrive(worker: Worker, queue: Queue, letter: DeadLetter) -> bool:
    record = letter.record
    if record is None:
        return False
    if isinstance(record, DeliveryRecord):
        # It only woke somebody: what was to be delivered is in the outbox, for the deliveries' own sweep.
        queue.remove(letter)
        return False
    if isinstance(record, ArchiveRecord) or record.redriven:
        if worker.give_up(record, worker.clock() + _GIVE_UP_SECONDS):
            queue.remove(letter)
        return False
    if worker.is_settled(record):
        queue.remove(letter)
        return False
    queue.send(replace(record, redriven=1))
    queue.remove(letter)
    return True


def _hours(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AGE_HOURS:
        return value
    raise InvalidRequest(f"must be a number of hours from 0 to {MAX_AGE_HOURS}", field="max_age_hours")


def release(tiers: Failover, archive: Archive, queue: Queue, key: ConversationKey) -> bool:
    """Free a conversation whose worker is stuck; another answers its messages. False if it was free.

    The fence goes up first: whatever the stuck worker still does, it commits nothing. Raises Unavailable.
    """
    if tiers.find(lambda tier: tier.lock(key)) is None:
        return False
    archive.raise_fence(key)
    released = [job for job in tiers.each(lambda tier: tier.release(key)) if job]
    if released:
        wake(queue, released[0])
    return bool(released)


def dead_letters(deliveries: Deliveries | None, platform_id: str) -> dict[str, Any]:
    """The tenant's deliveries that were given up, without any text. Raises Unavailable.

    The queue's own dead letters are nobody's alone: what they count is the deployment's, not a tenant's, to know.
    """
    dead = deliveries.dead(platform_id) if deliveries else []
    return {"deliveries": [asdict(delivery) | {"created_at": timestamp(delivery.created_at)} for delivery in dead]}


def status(tiers: Failover, archive: Archive, queue: Queue) -> dict[str, Any]:
    """How each part is. What isn't configured isn't missed: a single process in memory is healthy.

    Degraded: messages are taken and answered, on a lower tier or without Postgres. Unhealthy: the queue is away, so
    that nothing can be accepted.
    """
    up = {tier.name: _answers(tier.ping) for tier in tiers.tiers}
    archive_up, queue_up = _answers(archive.ping), _answers(queue.ping)
    current = next((name for name, answers in up.items() if answers), "memory")
    degraded = current != tiers.expected or not archive_up
    working = "degraded" if degraded else "healthy"
    return {
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


def _answers(ping: Callable[[], None]) -> bool:
    try:
        ping()
    except MessageHandlerError:
        # Away, or there and refusing us (a wrong password): of no use either way.
        return False
    return True
