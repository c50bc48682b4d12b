"""What keeps the conversations moving and tells how the parts are: the sweep, operators' steps, and the status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple

from message_handler import handoff, jobs
from message_handler.delivery import Deliveries
from message_handler.errors import Conflict, InvalidRequest, MessageHandlerError, ReadOnly, Unavailable
from message_handler.models import ArchiveRecord, AuditEntry, ConversationKey, DeliveryRecord, Job, JobStatus
from message_handler.processing import Worker, wake
from message_handler.queues import DeadLetter, Queue
from message_handler.stores.documents import timestamp
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive

_log = logging.getLogger(__name__)

DEFAULT_MAX_AGE_HOURS = 24.0
MAX_AGE_HOURS = 100_000
#: So long one sweep archives what Postgres lacks.
_RESCUE_SECONDS = 10.0
#: So long one sweep looks through the dead letters; well below the function's 60 s and the API's 29 s.
_REDRIVE_SECONDS = 10.0
#: Jobs that one sweep ends because others answered their messages: they are few, for commits do it.
_MOST_ENDED = 100
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


def checked_hours(value: object) -> float:
    """A lock's age in hours. Raises InvalidRequest."""
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


def retry(
    tiers: Failover, archive: Archive, accept: handoff.Accept, job: Job, entry: AuditEntry, *, correlation_id: str = ""
) -> str | None:
    """Let another job answer the messages of one that has failed; returns its id, None while a human answers.

    Ended is ended: the failed job stays as it is, and leads to the other by its `superseded_by`. Its messages are
    opened and held in one transaction, and go on as what was held for a human does:

        Postgres: not settled, held ── (1) ── tiers forget the end ── accept, send ── (2) ── linked, held no longer

    Whoever dies at (1) or (2) strands nothing: the sweep hands back what is held, and a retry begun again does the
    same, once. What the failed job's request brought along, its earlier turns and `resources`, is not archived and
    doesn't come back. Raises Conflict or Unavailable.
    """
    if job.status is not JobStatus.FAILED:
        raise Conflict("the job has not failed", field="job_id")
    archive.reopen(job, entry)
    handoff.give_back(tiers, archive, accept, job.key, correlation_id=correlation_id)
    own = job.messages[-1].message_id
    if archive.is_held(job.key, own):
        return None
    answered_by = archive.settled_by(job.key, own)
    if answered_by and answered_by != job.job_id:
        # Maybe the platform had sent it again meanwhile, and was faster.
        archive.supersede(job, answered_by)
    return _successor(archive, job)


def _successor(archive: Archive, job: Job) -> str | None:
    """What the job leads to in the end: maybe a job that Postgres knows by its name alone."""
    name, known = job.job_id, archive.job(job.key.platform_id, job.job_id)
    while known and known.superseded_by:
        name = known.superseded_by
        known = archive.job(job.key.platform_id, name)
    return name if name != job.job_id else None


def dead_letters(deliveries: Deliveries | None, platform_id: str) -> dict[str, Any]:
    """The tenant's deliveries that were given up, without any text. Raises Unavailable.

    The queue's own dead letters are nobody's alone: what they count is the deployment's, not a tenant's, to know.
    """
    dead = deliveries.dead(platform_id) if deliveries else []
    return {"deliveries": [asdict(delivery) | {"created_at": timestamp(delivery.created_at)} for delivery in dead]}


class Reached(NamedTuple):
    """How a tier is, and for one that isn't up, why, as far as that is known."""

    state: Literal["up", "away", "read_only"]
    reason: str = ""


def reached(tiers: Failover) -> dict[str, Reached]:
    """Each tier, the best first, as it is found now."""
    return {tier.name: _reached(tier.ping) for tier in tiers.tiers}


def _reached(ping: Callable[[], None]) -> Reached:
    try:
        ping()
    except ReadOnly as error:
        return Reached("read_only", error.reason)
    except Unavailable as error:
        return Reached("away", error.reason)
    except MessageHandlerError as error:
        # There, and refusing us: of no use either way.
        return Reached("away", str(error))
    return Reached("up")


def status(tiers: Failover, archive: Archive, queue: Queue, found: dict[str, Reached] | None = None) -> dict[str, Any]:
    """How each part is. What isn't configured isn't missed: a single process in memory is healthy.

    Degraded: messages are taken and answered, on a lower tier or without Postgres. Unhealthy: the queue is away, so
    that nothing can be accepted. `found`: what `reached` has found already. Where not all are up, `tiers` says which
    are, and `reasons` why the others aren't.
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
