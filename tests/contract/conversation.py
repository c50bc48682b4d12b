"""One conversation over any archive, with short names for each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobError, JobStatus, Provenance
from message_handler.domain.messages import Message
from message_handler.domain.raised import Raised
from message_handler.ports.archive import Archive, Fence
from tests.contract.chat import BOT, job_id_of, named

KEY = ConversationKey("clinic", "patient-1")
STARTED = 1_790_000_000.25
ENDED = STARTED + 2.5
HOUR = int(STARTED // 3600)
NOTICE = "Call 115 now."
PROVENANCE = Provenance("nurse", 3, "gpt", 5, "gpt-4o", simulated=False)


@dataclass
class Conversation:
    """A conversation in an archive, as its workers use it."""

    archive: Archive
    key: ConversationKey = KEY
    names: Iterable[int] = field(default_factory=lambda: iter(range(500, 10_000)))

    def id(self, number: int) -> str:
        return job_id_of(self.key, number)

    def job(self, number: int, *messages: str | Message, **changes: Any) -> Job:
        """The n-th job, in its run, with these messages. A string is the id of a message that the platform named."""
        said = tuple(m if isinstance(m, Message) else named(m) for m in messages)
        job = Job(self.id(number), self.key, JobStatus.PROCESSING, said, BOT, created_at=STARTED, started_at=STARTED)
        return replace(job, **changes)

    def fence(self, job: Job, *, successor: int | None = None, turns: int = 100) -> Fence:
        successor_id = self.id(successor or next(iter(self.names)))
        return self.archive.fence(job, successor_id=successor_id, turns=turns)

    def number(self, job: Job) -> int:
        number = self.fence(job).number
        assert number is not None
        return number

    def completed(self, job: Job, reply: str = "Rest.") -> Job:
        return replace(job, status=JobStatus.COMPLETED, reply=reply, finished_at=ENDED)

    def failed(self, job: Job) -> Job:
        error = JobError("ai_failed", "The AI gave no answer.")
        return replace(job, status=JobStatus.FAILED, error=error, finished_at=ENDED)

    def answer(self, number: int, *messages: str | Message, reply: str = "Rest.") -> Job:
        """The n-th job runs and commits. Returns the ended job."""
        job = self.job(number, *messages)
        ended, fence = self.completed(job, reply), self.number(job)
        assert self.archive.commit(ended, fence)
        return ended

    def archived(self, number: int) -> Job:
        found = self.archive.job(self.key.platform_id, self.id(number))
        assert found is not None
        return found

    def end(self, number: int) -> tuple[JobStatus, str | None, JobError | None, str | None]:
        job = self.archived(number)
        return job.status, job.reply, job.error, job.superseded_by

    def turns(self) -> list[tuple[str, str]]:
        found = self.archive.conversation(self.key)
        assert found is not None
        return [(turn.role, turn.content) for turn, *_ in found.turns]

    def settled(self, *message_ids: str) -> list[str | None]:
        return [self.archive.settled_by(self.key, message_id) for message_id in message_ids]

    def snapshot(self, *numbers: int) -> list[Any]:
        """All that can be seen of the conversation and these jobs."""
        jobs = [self.archive.job(self.key.platform_id, self.id(number)) for number in numbers]
        return [jobs, self.archive.conversation(self.key), self.settled("m0", "m1", "m2", "m3")]


def raised(level: str = "emergency", key: ConversationKey = KEY, hour: int = HOUR, **changes: Any) -> Raised:
    """What a rule of this level finds in a conversation."""
    found = Raised(
        key,
        key.notice_job_id(level, hour),
        BOT,
        level,
        "chest-pain",
        "2026-09-01",
        NOTICE,
        ("m0", "m1"),
        STARTED,
        correlation_id="corr-1",
    )
    return replace(found, **changes)
