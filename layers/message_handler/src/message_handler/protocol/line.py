"""The line of one conversation: the state that a tier keeps, and that each step of the protocol changes.

A line has at most two jobs. `current` is the head: the job that runs, or that runs next. `next` has the messages that
came too late for `current`. The line is locked as long as it has a `current` job. While a worker runs that job, the
worker has a `lease` on the line. Between a job's creation and its claim, the line is locked but has no lease.

Jobs in a line have no text. Digests stand for the contents of messages, for contexts and for resources; the texts lie
beside the line (`line_documents.py`). Only what a step has just added has its text, until the tier stores it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, Progress
from message_handler.domain.messages import Message
from message_handler.protocol.results import Lock, TierName
from message_handler.settings import Settings

#: How long a line with work in progress is kept (seconds): as long as SQS keeps records.
LIVE_TTL_SECONDS = 14 * 24 * 3600


class Lease(NamedTuple):
    """A worker's hold on a line: when it claimed the line, and when it was last heard of. Times are Unix seconds."""

    claimed_at: float
    heartbeat_at: float


class AnsweredMessage(NamedTuple):
    """What a tier remembers of an ended job's message, so that a late duplicate of it starts nothing (invariant 5).

    It is remembered until an hour after `ended_at` (Unix seconds). That time lies in the future while the job's end
    waits to be archived. `words` is the digest of its words, and `accepted_at` is in Unix seconds (see `edits.py`).
    """

    job_id: str
    message_id: str
    ended_at: float
    consolidated_messages: int
    words: str = ""
    accepted_at: float = 0.0


class LastAnswered(NamedTuple):
    """The job that was answered last: the ids of its messages and the digests of their words, in order."""

    job_id: str
    ids: tuple[str, ...]
    digests: tuple[str, ...]
    ended_at: float

    def answered(self, index: int) -> AnsweredMessage:
        return AnsweredMessage(self.job_id, self.ids[index], self.ended_at, len(self.ids))


@dataclass(slots=True)
class Line:
    """One conversation's work in progress, and for an hour after it, what is needed to recognise duplicates.

    `acquired_at` and `due_at` (when the sweep should look at the line) are Unix seconds.
    """

    key: ConversationKey
    bot_id: str = ""
    current: Job | None = None
    next: Job | None = None
    #: Names the lock's owner: the request that created `current`, then the worker that claimed it. "": it has no owner.
    lock_id: str = ""
    acquired_at: float = 0.0
    lease: Lease | None = None
    progress: Progress | None = None
    due_at: float = 0.0
    #: How often the sweep has woken `current` since a worker last had it.
    wakes: int = 0
    #: A human answers, as far as this tier knows. Postgres decides.
    handed_off: bool = False
    #: How often each waiting message was posted, by its id, if more than once (counterexample 11).
    posts: dict[str, int] = field(default_factory=dict)
    last_answered: LastAnswered | None = None
    #: The id of the job that was interrupted last. No message names it any more.
    interrupted: str = ""

    # The next three are not part of the stored line. The tier looks up the first two for a step's messages and names.
    answered: dict[str, AnsweredMessage] = field(default_factory=dict)
    #: Names that the step may not give to a job, because a job has ended under them.
    taken: frozenset[str] = frozenset()
    #: The jobs that ended in the step. The tier keeps their ends for readers, for an hour.
    ends: tuple[Job, ...] = ()

    def copy(self) -> Line:
        """A copy that a step may change. It has no `ends`."""
        return Line(
            self.key,
            self.bot_id,
            self.current,
            self.next,
            self.lock_id,
            self.acquired_at,
            self.lease,
            self.progress,
            self.due_at,
            self.wakes,
            self.handed_off,
            dict(self.posts),
            self.last_answered,
            self.interrupted,
            dict(self.answered),
            self.taken,
        )

    def waiting(self) -> tuple[Message, ...]:
        """All messages that wait for an answer, in the order of the line."""
        return tuple(m for job in self.jobs() for m in job.messages)

    def jobs(self) -> tuple[Job, ...]:
        """Its jobs, the head first."""
        return tuple(job for job in (self.current, self.next) if job)

    def job(self, job_id: str) -> Job | None:
        """One of its jobs as readers see it, with the progress of the current run."""
        found = next((job for job in self.jobs() if job.job_id == job_id), None)
        return replace(found, progress=self.progress) if found and found is self.current else found

    def locked_by(self, lock_id: str) -> bool:
        """Whether `lock_id` is the line's: of the request that took the lock, or of the worker with the lease."""
        return self.current is not None and lock_id != "" and self.lock_id == lock_id

    def lock(self, tier: TierName, settings: Settings) -> Lock | None:
        """The line's lock as people may see it; None if no job waits."""
        if self.current is None:
            return None
        beat = self.lease.heartbeat_at if self.lease else None
        return Lock(
            self.key,
            self.current.job_id,
            acquired_at=self.acquired_at,
            heartbeat_at=beat,
            expires_at=(beat or self.acquired_at) + settings.lock_ttl,
            consolidated_messages=self.current.consolidated_messages,
            tier=tier,
        )

    def promote(self, job: Job | None, due_at: float) -> None:
        """Make `job`, or no job, the head of the line, without an owner and without a next job."""
        self.current, self.next = job, None
        self.lock_id, self.lease, self.progress, self.due_at, self.wakes = "", None, None, due_at, 0
