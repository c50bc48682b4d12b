"""A run's first step: Postgres' permission to run what is still open of a claimed job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request
from message_handler.ports.archive import Archive, Fence
from message_handler.ports.tier import Tier

#: Archived turns that are fetched for the context, before the bot's limits trim it.
ARCHIVED_TURNS = 100


@dataclass(frozen=True, slots=True)
class Permission:
    """To run `job`: all of its messages are open. `fence` is None while Postgres is away."""

    job: Job
    fence: Fence | None


@dataclass(frozen=True, slots=True)
class AlreadyEnded:
    """Postgres has ended the job, and the tier does not know it yet. If the job is `parked`, a human answers."""

    job: Job


@dataclass(frozen=True, slots=True)
class Void:
    """The conversation was erased: all that was accepted `until` then (Unix seconds) is void."""

    until: float


@dataclass(frozen=True, slots=True)
class Fencing:
    """Asks Postgres for a fence, and the tier to follow what Postgres knows."""

    tier: Tier
    archive: Archive
    lock_id: str

    def permit(self, job: Job) -> Permission | AlreadyEnded | Void | None:
        """Permission to run what is still open of `job`, under its own name or a successor's. None: the lock is lost.

            worker A: commit J{m0} ── dies     sweep: J pending again     intake: m1 joins J
            worker B: fence J{m0, m1}: m0 is settled, J has ended ── m1 runs as J', J points to J'

        Raises Unavailable while Postgres is away, if only Postgres knows whether an earlier run has committed.
        """
        drained: set[str] = set()
        while True:
            try:
                fence = self._fence(job)
            except Unavailable:
                if job.maybe_committed:
                    # A → seal, commit ── dies     Postgres goes away     B: only Postgres knows that A committed
                    raise
                return Permission(job, None)
            if fence.erased_until is not None:
                return Void(fence.erased_until)
            if fence.ended and fence.successor_id is None:
                return AlreadyEnded(replace(fence.ended, messages=job.messages, parked=fence.parked))
            fenced = {message.message_id for message in job.messages}
            adopted = self._adopt(job, fence)
            if adopted is None:
                return None
            job = adopted
            if fence.number is None:
                continue
            waiting = [message for message in fence.waiting if message.message_id not in drained]
            if waiting:
                # Once each: a job that takes no more messages would otherwise be offered the same ones for ever.
                drained.update(message.message_id for message in waiting)
                job = self._take_in(job, waiting)
            # Only Postgres knows whether a message that has joined since is open.
            elif fenced.issuperset(message.message_id for message in job.messages):
                return Permission(job, fence)

    def _fence(self, job: Job) -> Fence:
        return self.archive.fence(
            job,
            successor_id=job.key.new_job_id(),
            turns=ARCHIVED_TURNS,
            drain=self.tier.name != "postgres",
        )

    def _adopt(self, job: Job, fence: Fence) -> Job | None:
        """The job without its settled messages, in the tier too. None: the lock is lost.

        The tier runs the rest under the last name of the chain: the jobs in between have ended.
        """
        renamed = replace(fence.ended, superseded_by=fence.successor_id) if fence.ended else None
        return self.tier.adopt(job.key, self.lock_id, fence.settled, renamed, fence.edits)

    def _take_in(self, job: Job, waiting: Iterable[Message]) -> Job:
        """Let messages that were accepted while Redis was away join the job, or wait for the next one."""
        request = Request(job.key, (*waiting, *job.messages), job.context, job.bot_id)
        self.tier.accept_again(request, job_id=job.job_id, spare_id=job.key.new_job_id())
        head = self.tier.waiting(job.key)
        return head if head and head.job_id == job.job_id else job
