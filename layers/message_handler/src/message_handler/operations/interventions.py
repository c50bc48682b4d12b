"""What operators do to one conversation or job: release its lock, retry it."""

from __future__ import annotations

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict
from message_handler.domain.jobs import Job, JobStatus
from message_handler.operations import handoff
from message_handler.ports.archive import Archive
from message_handler.ports.audit import AuditEntry
from message_handler.ports.queue import Queue
from message_handler.queue.wake import wake
from message_handler.tiers.failover import Failover


def force_release(tiers: Failover, archive: Archive, queue: Queue, key: ConversationKey) -> bool:
    """Free a conversation whose worker is stuck; another answers its messages. False if it was free.

    The fence goes up first: whatever the stuck worker still does, it commits nothing. Raises Unavailable.
    """
    if tiers.find(lambda tier: tier.lock(key)) is None:
        return False
    archive.raise_fence(key)
    released = [job for job in tiers.each(lambda tier: tier.force_release(key)) if job]
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
    handoff.unpark(tiers, archive, accept, job.key, correlation_id=correlation_id)
    own = job.messages[-1].message_id
    if archive.is_parked(job.key, own):
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
