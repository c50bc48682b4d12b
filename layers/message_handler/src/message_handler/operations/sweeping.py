"""What the schedule does each minute: it frees locks, wakes conversations and ends jobs that nobody needs."""

from __future__ import annotations

import logging
from contextlib import suppress

from message_handler import jobs
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import InvalidRequest, Unavailable
from message_handler.domain.jobs import Job
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.queue.wake import wake
from message_handler.tiers.failover import Failover
from message_handler.worker.worker import Worker

_log = logging.getLogger(__name__)
DEFAULT_MAX_AGE_HOURS = 24.0
MAX_AGE_HOURS = 100_000
#: So long one sweep archives what Postgres lacks.
_RESCUE_SECONDS = 10.0
#: Jobs that one sweep ends because others answered their messages: they are few, for commits do it.
_MOST_ENDED = 100


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
    seconds = checked_hours(max_age_hours) * 3600
    found = tiers.each(lambda tier: tier.sweep(older_than=seconds, platform_id=platform_id))
    # A conversation may wait on two tiers; one record wakes it, the fence brings both together.
    waiting: dict[ConversationKey, Job] = {}
    for job in (job for swept in found for job in swept):
        waiting.setdefault(job.key, job)
    refused = None
    for job in waiting.values():
        try:
            wake(queue, job)
        except Unavailable as error:
            # One refusal must not keep all others asleep.
            refused = error
    if refused:
        raise refused
    if waiting:
        _log.info("swept", extra={"conversations": len(waiting)})
    return len(waiting)


def end_answered(archive: Archive) -> int:
    """End the jobs that wait for a run which nobody needs any more; returns how many."""
    ended = 0
    with suppress(Unavailable):  # at the next sweep
        for job in archive.unfinished(most=_MOST_ENDED):
            ended += jobs.end_answered(archive, job).status.ended
    return ended


def rescue(worker: Worker) -> int:
    """Archive the ends of jobs that were decided while Postgres was away; returns how many."""
    with suppress(Unavailable):  # at the next sweep
        return worker.rescue.push(worker.clock() + _RESCUE_SECONDS)
    return 0


def checked_hours(value: object) -> float:
    """A lock's age in hours. Raises InvalidRequest."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AGE_HOURS:
        return value
    raise InvalidRequest(f"must be a number of hours from 0 to {MAX_AGE_HOURS}", field="max_age_hours")
