"""What operators do to one conversation or job: release the lock, or retry the job."""

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
    """Free a conversation whose worker is stuck: another worker answers its messages. False: it was free.

    The fence goes up first, so that the stuck worker can commit nothing any more. Raises Unavailable.
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
    """Have another job answer the messages of a failed one. Returns its id, or None while a human answers.

    The failed job stays as it ended, and its `superseded_by` leads to the other job. Its messages are reopened and
    parked in one transaction. Then they go on like messages that waited while a human answered:

        Postgres: not settled, parked ── (1) ── tiers forget the end ── accept, send ── (2) ── linked, not parked

    A process that dies at (1) or (2) strands nothing: the sweep goes on with what is parked, and so does a second
    retry. The messages are reopened only once. The earlier turns and the `resources` of the failed job's request are
    not archived and do not come back. Raises Conflict or Unavailable.
    """
    if job.status is not JobStatus.FAILED:
        raise Conflict("the job has not failed", field="job_id")
    archive.reopen(job, entry)
    handoff.unpark(tiers, archive, accept, job.key, correlation_id=correlation_id)
    own = job.messages[-1].message_id
    if archive.parked_under(job.key, [own]):
        return None
    answered_by = archive.settled_by(job.key, own)
    if answered_by and answered_by != job.job_id:
        # Maybe the platform has sent the message again meanwhile, and was faster than this retry.
        archive.supersede(job, answered_by)
    return _successor(archive, job)


def _successor(archive: Archive, job: Job) -> str | None:
    """The id of the last job that this job leads to. Postgres may know nothing else of it."""
    job_id, known = job.job_id, archive.job(job.key.platform_id, job.job_id)
    while known and known.superseded_by:
        job_id = known.superseded_by
        known = archive.job(job.key.platform_id, job_id)
    return job_id if job_id != job.job_id else None
