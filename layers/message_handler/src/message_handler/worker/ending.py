"""A run's last steps: seal, commit, finish; or park, or cancel."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from message_handler.domain.errors import TRANSIENT, PayloadTooLarge, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.records import ArchiveRecord
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive, Committed, Fence
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Sealed
from message_handler.worker.rescue import RECORD_SECONDS

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the job if this run has ended it, and whether a next job moved up.

    `committed`: Postgres' answer when it settled the job's messages. `erased_until`: nothing ran, because all that was
    accepted for the conversation until then (Unix seconds) is void.
    """

    job: Job | None = None
    waiting: bool = False
    erased_until: float | None = None
    committed: Committed | None = None

    def settles(self, job_id: str, message_id: str) -> bool:
        """Whether the run is known to have settled this message under this job."""
        job = self.job if self.committed else None
        return job is not None and job.job_id == job_id and any(message_id in m.ids for m in job.messages)


@dataclass(frozen=True, slots=True)
class Ending:
    """Ends a claimed job, in Postgres first and then in the tier."""

    tier: Tier
    archive: Archive
    queue: Queue
    meter: Meter
    lock_id: str

    def seal(self, job: Job, fence: Fence | None, *, may_restart: bool = True, may_seal: bool = True) -> Sealed:
        """Let no more messages join the job, unless the run has to start again."""
        return self.tier.seal(
            job.key,
            self.lock_id,
            [message.message_id for message in job.messages],
            next_id=job.key.new_job_id(),
            fenced=fence is not None,
            may_restart=may_restart,
            may_seal=may_seal,
        )

    def commit(self, job: Job, fence: Fence | None) -> RunResult:
        """Commit a sealed job, or end it in the tier while Postgres is away."""
        number = fence.number if fence else None
        if number is None:
            try:
                late = self.archive.fence(job.before_its_end(), successor_id=job.key.new_job_id(), turns=0)
            except Unavailable:
                return self._end_unarchived(job)
            if late.number is None or any(message.message_id in late.settled for message in job.messages):
                # Some messages are settled: the next claim runs the open ones, under their job's new name.
                return self.fenced_out(job)
            # worker A (no fence): seal ── pauses     B: takes over, a fence, commits     A: fence, and owns nothing
            again = self.seal(job, late, may_restart=False)
            if again.verdict != "sealed":
                return self.fenced_out(job)
            number = late.number
        try:
            # If Postgres' answer is lost, the job ends in the tier as well, with the same reply. Archiving the same end
            # again changes nothing.
            committed = self.archive.commit(job, number)
        except Unavailable:
            return self._end_unarchived(job)
        return self.finish(job, committed) if committed else self.fenced_out(job)

    def fenced_out(self, job: Job) -> RunResult:
        """Another worker has the job now: this run ends nothing."""
        _log.warning("fenced out", extra=job.log_fields)
        self.meter.add("JobsFencedOut")
        return RunResult()

    def finish(self, job: Job, committed: Committed | None = None) -> RunResult:
        """Tell the tier how the job has ended in Postgres. `committed`: this run has just committed it."""
        try:
            finished = self.tier.finish(job.key, self.lock_id, job)
        except TRANSIENT:
            if not committed:
                raise
            # The reply is committed. The worker that next claims what the tier still has finds it settled.
            return RunResult(job, committed=committed)
        return RunResult(job if committed else None, finished.waiting, committed=committed)

    def park(self, job: Job) -> RunResult:
        """Finish a job whose messages are parked, and remind the tier that a human answers: it may have forgotten."""
        ended = self.finish(job)
        self.tier.hand_off(job.key, human=True)
        return ended

    def stop(self, job: Job) -> RunResult:
        """Give the run up: cancel its job if that was asked, else leave it to the worker that has it now."""
        head = self.tier.waiting(job.key)
        if head and head.job_id == job.job_id and head.status is JobStatus.CANCELLING:
            return self.cancel(head)
        return RunResult()

    def cancel(self, job: Job) -> RunResult:
        """Complete a cancel. Postgres decides whether the cancel or a commit came first."""
        job = job.being_cancelled()
        ended = replace(self.archive.cancel(job).job, messages=job.messages)
        waiting = self.tier.finish(job.key, None, ended).waiting
        # If another run has completed the job, that run has reported it.
        return RunResult(ended if ended.status is JobStatus.CANCELLED else None, waiting)

    def _end_unarchived(self, job: Job) -> RunResult:
        """The commit point while Postgres is away: the tier compares the owner, then the end is sent to the archive.

        Without a configured Postgres, nothing is sent.
        """
        is_archived_later = self.archive.name != "none"
        job = replace(job, unarchived=is_archived_later)
        finished = self.tier.finish(job.key, self.lock_id, job)
        if not finished.done:
            return self.fenced_out(job)
        if is_archived_later:
            self.meter.add("RepliesUnarchived")
            self._send_to_archive(job)
        return RunResult(job, finished.waiting)

    def _send_to_archive(self, job: Job) -> None:
        try:
            self.queue.send(ArchiveRecord(job), delay=RECORD_SECONDS)
        except (Unavailable, PayloadTooLarge):
            # The tier's index has the end, and the messages' own records come back until the messages are settled.
            _log.warning("an archive record was not sent", extra=job.log_fields)
