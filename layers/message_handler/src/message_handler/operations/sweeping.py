"""What the schedule does each minute: it frees locks, wakes conversations, and ends jobs without open messages."""

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
#: The longest time that one sweep archives ends that Postgres lacks.
_RESCUE_SECONDS = 10.0
#: The most jobs that one sweep ends because other jobs answered their messages. They are few: commits end most.
_MOST_ENDED = 100


def sweep(
    tiers: Failover,
    queue: Queue,
    *,
    max_age_hours: float = DEFAULT_MAX_AGE_HOURS,
    platform_id: str | None = None,
) -> int:
    """Free locks with a silent worker or older than `max_age_hours`, and wake conversations that no worker came for.

    With `platform_id`, only those of that tenant. Each freed or waiting conversation gets one record. Returns how many
    records were sent. Raises InvalidRequest or Unavailable.
    """
    seconds = checked_hours(max_age_hours) * 3600
    found = tiers.each(lambda tier: tier.sweep(older_than=seconds, platform_id=platform_id))
    # A conversation may wait on two tiers. One record wakes it, and the fence brings both together.
    waiting: dict[ConversationKey, Job] = {}
    for job in (job for swept in found for job in swept):
        waiting.setdefault(job.key, job)
    refused = None
    for job in waiting.values():
        try:
            wake(queue, job)
        except Unavailable as error:
            # One record that can't be sent must not keep the other conversations asleep.
            refused = error
    if refused:
        raise refused
    if waiting:
        _log.info("conversations were woken", extra={"conversations": len(waiting)})
    return len(waiting)


def end_answered(archive: Archive) -> int:
    """End the jobs that wait for a run although other jobs have answered their messages. Returns how many."""
    ended = 0
    with suppress(Unavailable):  # the next sweep tries again
        for job in archive.unfinished(most=_MOST_ENDED):
            ended += jobs.end_answered(archive, job).status.ended
    return ended


def rescue(worker: Worker) -> int:
    """Archive the ends of jobs that were decided while Postgres was away. Returns how many."""
    with suppress(Unavailable):  # the next sweep tries again
        return worker.rescue.push(worker.clock() + _RESCUE_SECONDS)
    return 0


def checked_hours(value: object) -> float:
    """A number of hours. Raises InvalidRequest."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AGE_HOURS:
        return value
    raise InvalidRequest(f"must be a number of hours from 0 to {MAX_AGE_HOURS}", field="max_age_hours")
