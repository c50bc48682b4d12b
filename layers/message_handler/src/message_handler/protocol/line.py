"""What a tier keeps of one conversation: its line of jobs, and what was answered not long ago.

A line is what waits for answers in one conversation: `current`, the job that is or will be run, and `next`, the job of
those messages that came too late for it. A worker's hold on the line is `hold`; between a job's creation and its claim
the line is locked, but held by nobody.

Its jobs have no text: messages, context and resources are digests, and what they stand for lies beside the line
(`line_documents.py`). What a step adds has its text until the tier puts it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, Progress
from message_handler.domain.messages import Message
from message_handler.protocol.results import Lock, TierName
from message_handler.settings import Settings

#: Work in progress is kept as long as SQS keeps its records (seconds).
LIVE_TTL_SECONDS = 14 * 24 * 3600


class Lease(NamedTuple):
    """A worker's claim. Times are Unix seconds."""

    claimed_at: float
    heartbeat_at: float


class AnsweredMessage(NamedTuple):
    """What is remembered of an ended job's message: a late duplicate of it starts nothing.

    For an hour from `ended_at` on; that lies ahead where the end waits to be archived.
    """

    job_id: str
    message_id: str
    ended_at: float
    consolidated_messages: int


class Last(NamedTuple):
    """The job answered last: its messages' ids and the digests of their contents, in order."""

    job_id: str
    ids: tuple[str, ...]
    digests: tuple[str, ...]
    ended_at: float

    def answered(self, index: int) -> AnsweredMessage:
        return AnsweredMessage(self.job_id, self.ids[index], self.ended_at, len(self.ids))


@dataclass(slots=True)
class Line:
    """One conversation's work in progress, and what a duplicate is recognised by for an hour after it."""

    key: ConversationKey
    bot_id: str = ""
    current: Job | None = None
    next: Job | None = None
    lock_id: str = ""
    acquired_at: float = 0.0
    lease: Lease | None = None
    progress: Progress | None = None
    due_at: float = 0.0
    wakes: int = 0
    #: A human answers, as far as this tier knows: Postgres has the truth.
    handed_off: bool = False
    #: How often a message was posted that waits, unless once.
    posts: dict[str, int] = field(default_factory=dict)
    last: Last | None = None
    #: The job that was interrupted last: no message names it any more.
    interrupted: str = ""

    # What is looked up for a step, by the ids that it names.
    answered: dict[str, AnsweredMessage] = field(default_factory=dict)
    #: Of the names that the step asked for: those under which a job has ended.
    taken: frozenset[str] = frozenset()
    #: The jobs that ended in the step, as their readers find them for a while.
    ends: tuple[Job, ...] = ()

    def copy(self) -> Line:
        """A line that a step may change."""
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
            self.last,
            self.interrupted,
            dict(self.answered),
            self.taken,
        )

    def waiting(self) -> tuple[Message, ...]:
        return tuple(m for job in self.jobs() for m in job.messages)

    def jobs(self) -> tuple[Job, ...]:
        return tuple(job for job in (self.current, self.next) if job)

    def job(self, job_id: str) -> Job | None:
        """One of its jobs as readers see it: with the progress of the run that goes on."""
        found = next((job for job in self.jobs() if job.job_id == job_id), None)
        return replace(found, progress=self.progress) if found and found is self.current else found

    def locked_by(self, lock_id: str) -> bool:
        """Whether `lock_id` is its taker's or its holder's; "" stands for nobody."""
        return self.current is not None and lock_id != "" and self.lock_id == lock_id

    def lock(self, tier: TierName, settings: Settings) -> Lock | None:
        if self.current is None:
            return None
        beat = self.lease.heartbeat_at if self.lease else None
        return Lock(
            self.key,
            self.current.job_id,
            acquired_at=self.acquired_at,
            heartbeat_at=beat,
            expires_at=(beat or self.acquired_at) + settings.lock_ttl,
            consolidated_messages=len(self.current.messages),
            tier=tier,
        )

    def promote(self, job: Job | None, due_at: float) -> None:
        """Let a job, or none, be the one to be claimed; nobody comes after it."""
        self.current, self.next = job, None
        self.lock_id, self.lease, self.progress, self.due_at, self.wakes = "", None, None, due_at, 0
