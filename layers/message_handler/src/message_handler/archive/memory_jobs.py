"""The jobs of the memory archive, their chains of successors, and what operators ask. Under the archive's mutex."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import quantiles

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobStatus
from message_handler.ports.archive import Minute


class MemoryJobs:
    """Jobs by tenant and id, each with the fence of its last run.

    A job's `superseded_by` links it to its successor. These links form a chain. The last id of a chain may be a mere
    name: a response has promised it, but no job is noted under it yet.
    """

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], tuple[Job, int | None]] = {}
        #: The ids of copies, each with the id of its original.
        self._copies: dict[str, str] = {}

    def __iter__(self) -> Iterator[Job]:
        return (job for job, _ in list(self._jobs.values()))

    def get(self, platform_id: str, job_id: str) -> Job | None:
        return self._jobs.get((platform_id, job_id), (None, None))[0]

    def fence_of(self, job: Job) -> int | None:
        return self._jobs.get((job.key.platform_id, job.job_id), (None, None))[1]

    def copy_of(self, job_id: str) -> str | None:
        """The job that this one is a copy of."""
        return self._copies.get(job_id)

    def of(self, key: ConversationKey) -> list[Job]:
        """The jobs of a conversation."""
        return [job for job in self if job.key == key]

    def put(self, job: Job, fence: int | None) -> Job:
        self._jobs[job.key.platform_id, job.job_id] = (job, fence)
        return job

    def delete(self, key: ConversationKey) -> list[Job]:
        """Delete the jobs of a conversation, and return them."""
        found = self.of(key)
        for job in found:
            del self._jobs[key.platform_id, job.job_id]
        return found

    def note(self, job: Job) -> Job:
        """The archived job. A job that never got a fence is noted first, so that it can be linked or ended."""
        return self._jobs.setdefault((job.key.platform_id, job.job_id), (job.before_its_end(), None))[0]

    def note_end(self, job: Job) -> None:
        """Note the last job of the chain if it is a mere name, so that it can be linked and ended."""
        self.note(replace(job, job_id=self.chain(job)[-1], superseded_by=None))

    def note_promise(self, job: Job) -> Job:
        """The archived job. Of the messages in `job`, those that are not its own are noted as promised to it."""
        noted = self.note(job)
        own = {message.message_id for message in noted.messages}
        others = (message.message_id for message in job.messages if message.message_id not in own)
        promised = tuple(dict.fromkeys((*noted.promised, *others)))
        return self.put(replace(noted, promised=promised), self.fence_of(job))

    def cancel(self, job: Job) -> Job:
        """End a noted job as cancelled, unless it has ended. Returns it as archived."""
        noted, fence = self._jobs[job.key.platform_id, job.job_id]
        if noted.status.ended:
            return noted
        cancelled = replace(job, status=JobStatus.CANCELLED, finished_at=time.time(), superseded_by=noted.superseded_by)
        return self.put(cancelled, fence)

    def chain(self, job: Job) -> list[str]:
        """The ids of a job and its successors. The last one may be a mere name."""
        return self._chain(job.key.platform_id, job.job_id)

    def _chain(self, platform_id: str, job_id: str) -> list[str]:
        chain = [job_id]
        while (job := self.get(platform_id, chain[-1])) and job.superseded_by:
            chain.append(job.superseded_by)
        return chain

    def running_successor(self, job: Job) -> str | None:
        """The last job of an ended job's chain, if that runs or may still run."""
        end_id = self.chain(job)[-1]
        end = self.get(job.key.platform_id, end_id)
        return end_id if end and end_id != job.job_id and not end.status.ended else None

    def link(self, job: Job, successor_id: str) -> str:
        """Link the last job of the chain, unless that would close a circle. Returns the last id of the chain now."""
        end_id = self.chain(job)[-1]
        end = self.get(job.key.platform_id, end_id)
        if end and end_id not in self._chain(job.key.platform_id, successor_id):
            self.put(replace(end, superseded_by=successor_id), self.fence_of(end))
        return self.chain(job)[-1]

    def copy(self, job: Job, successor_id: str) -> None:
        """End the job's chain with a copy of the successor, if the successor's own chain leads into it."""
        chain = self.chain(job)
        if any(successor_id in (id_, self._copies.get(id_)) for id_ in chain):
            return
        end = self.get(job.key.platform_id, chain[-1])
        successor = self.get(job.key.platform_id, successor_id)
        if end and successor and successor.status.ended:
            copy_id = job.key.new_job_id()
            self._copies[copy_id] = successor_id
            self.put(replace(successor, job_id=copy_id, superseded_by=None), self.fence_of(successor))
            self.put(replace(end, superseded_by=copy_id), self.fence_of(end))

    def listed(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        """See `Archive.jobs`."""
        wanted = [
            replace(job, reply=None)
            for job in self._originals(platform_id)
            if (status is None or job.status.value == status)
            and (status != "cancelled" or job.superseded_by is None)
            and (conversation_id is None or job.key.conversation_id == conversation_id)
        ]
        wanted.sort(key=lambda job: (job.created, job.job_id), reverse=True)
        return [job for job in wanted if behind is None or (job.created, job.job_id) < behind][:most]

    def last_end(self, platform_id: str) -> float | None:
        """See `Archive.last_end`."""
        by_worker = (JobStatus.COMPLETED, JobStatus.FAILED)
        own = (job for job in self if job.key.platform_id == platform_id and job.kind == "reply")
        jobs = [job for job in own if job.status in by_worker]
        return max((job.finished_at for job in jobs if job.finished_at), default=None)

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        """See `Archive.minutes`."""
        jobs = [job for job in self._originals(platform_id) if job.kind == "reply"]
        created = Counter(_minute(job.created_at) for job in jobs if since <= job.created_at < until)
        ended: dict[int, list[Job]] = {}
        for job in jobs:
            if job.finished_at is not None and since <= job.finished_at < until:
                ended.setdefault(_minute(job.finished_at), []).append(job)
        return [_statistics(at, created[at], ended.get(at, ())) for at in sorted(created.keys() | ended.keys())]

    def _originals(self, platform_id: str) -> Iterator[Job]:
        return (job for job in self if job.key.platform_id == platform_id and job.job_id not in self._copies)


def _minute(at: float) -> int:
    return int(at // 60) * 60


def _statistics(at: int, created: int, ended: Sequence[Job]) -> Minute:
    by = Counter(job.status for job in ended if job.status is not JobStatus.CANCELLED or not job.superseded_by)
    spent = [job.finished_at - job.created_at for job in ended if job.finished_at and job.status == JobStatus.COMPLETED]
    # As Postgres counts: interpolated between two neighbours, which a single value lacks.
    percentiles = quantiles(spent * 2 if len(spent) == 1 else spent, n=100, method="inclusive") if spent else None
    median, p95 = (percentiles[49], percentiles[94]) if percentiles else (None, None)
    completed, failed, cancelled = by[JobStatus.COMPLETED], by[JobStatus.FAILED], by[JobStatus.CANCELLED]
    return Minute(at, created, completed, failed, cancelled, median, p95)
