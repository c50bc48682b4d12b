"""What keeps the conversations moving and tells how the parts are: the sweep and the status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from message_handler.errors import InvalidRequest, MessageHandlerError, Unavailable
from message_handler.models import ConversationKey
from message_handler.processing import wake
from message_handler.queues import Queue
from message_handler.stores.port import Archive, Tier

_log = logging.getLogger(__name__)

DEFAULT_MAX_AGE_HOURS = 24.0
MAX_AGE_HOURS = 100_000


def sweep(tier: Tier, queue: Queue, *, max_age_hours: float = DEFAULT_MAX_AGE_HOURS) -> int:
    """Free locks whose worker is silent or that are older than `max_age_hours`; wake what nobody came for.

    Each freed or waiting conversation gets one record. Returns how many did. Raises InvalidRequest or Unavailable.
    """
    jobs = tier.sweep(older_than=_hours(max_age_hours) * 3600)
    refused = None
    for job in jobs:
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


def _hours(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AGE_HOURS:
        return value
    raise InvalidRequest(f"must be a number of hours from 0 to {MAX_AGE_HOURS}", field="max_age_hours")


def release(tier: Tier, archive: Archive, queue: Queue, key: ConversationKey) -> bool:
    """Free a conversation whose worker is stuck; another answers its messages. False if it was free.

    The fence goes up first: whatever the stuck worker still does, it commits nothing. Raises Unavailable.
    """
    if tier.lock(key) is None:
        return False
    archive.raise_fence(key)
    job = tier.release(key)
    if job:
        wake(queue, job)
    return job is not None


def status(tier: Tier, archive: Archive, queue: Queue) -> dict[str, Any]:
    """How each part is. What isn't configured isn't missed: a single process in memory is healthy.

    While any part is away nothing can be accepted or nothing be answered, and that is unhealthy.
    """
    tier_up, archive_up, queue_up = (_answers(part.ping) for part in (tier, archive, queue))
    return {
        "status": "healthy" if tier_up and archive_up and queue_up else "unhealthy",
        "components": {
            "redis_connected": tier.name == "redis" and tier_up,
            "database_connected": archive.name == "postgres" and archive_up,
            "tier": tier.name,
            "lock_manager": "healthy" if tier_up else "unhealthy",
            "job_manager": "healthy" if tier_up and queue_up else "unhealthy",
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
