"""One conversation over any tier, with short names for each step, and the clock that it runs by."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Accepted, Claim, ClaimRefused, Finished, LeaseState, Lock, Sealed

BOT = "nurse"
DAY = 24 * 3600.0


@dataclass
class Clock:
    """The tiers' time in Unix seconds. It moves only when a test says so."""

    now: float = 1_790_000_000.0
    #: Called with the seconds that pass, for servers that expire keys by their own clock.
    followers: list[Callable[[float], None]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for follow in self.followers:
            follow(seconds)


def named(message_id: str, content: str | None = None) -> Message:
    """A message under the platform's own id."""
    return Message(message_id, f"text of {message_id}" if content is None else content, given=True)


def job_id_of(key: ConversationKey, number: int) -> str:
    """As `key.new_job_id()`, but the same id in every run. Conversations of one shard have different ids."""
    name = int(key.name_hash[:8], 16)
    return str(uuid.UUID(int=(key.shard << 118) | (8 << 76) | (2 << 62) | (name << 30) | number))


@dataclass
class Chat:
    """A conversation as its intake, its workers and its operators see it.

    The n-th accept offers the job id `job_id(n)` and the lock id `lock-n`. A message that is given as plain text gets
    a minted id.
    """

    tier: Tier
    clock: Clock
    key: ConversationKey = ConversationKey("clinic", "patient-1")
    accepts: int = 0
    minted: Iterable[int] = field(default_factory=count)

    def job_id(self, number: int) -> str:
        return job_id_of(self.key, number)

    def message(self, word: str | Message) -> Message:
        return word if isinstance(word, Message) else Message(f"minted-{next(iter(self.minted))}", word)

    def request(
        self,
        *words: str | Message,
        context: Iterable[Turn] = (),
        resources: dict[str, Any] | None = None,
        bot: str = BOT,
    ) -> Request:
        messages = tuple(self.message(word) for word in words)
        return Request(self.key, messages, tuple(context), bot, resources or {})

    def accept(self, request: Request) -> Accepted:
        self.accepts += 1
        return self.tier.accept(request, job_id=self.job_id(self.accepts), lock_id=f"lock-{self.accepts}")

    def says(self, *words: str | Message, **request: Any) -> Accepted:
        """The platform sends these words, oldest first. The last one is the request's own message."""
        return self.accept(self.request(*words, **request))

    def record_arrives(self, job_id: str, *words: str | Message, spare: int = 900, **request: Any) -> None:
        """A worker receives a record that promised this job to these words."""
        self.tier.accept_again(self.request(*words, **request), job_id=job_id, spare_id=self.job_id(spare))

    def undo(self, accepted: Accepted) -> None:
        self.tier.undo(self.key, accepted.posted)

    def claim(self, lock_id: str = "worker") -> Claim | ClaimRefused | None:
        return self.tier.claim(self.key, lock_id)

    def claimed(self, lock_id: str = "worker") -> Job:
        claim = self.claim(lock_id)
        assert isinstance(claim, Claim), claim
        assert claim.lock_id == lock_id
        return claim.job

    def heartbeat(self, lock_id: str = "worker") -> LeaseState:
        return self.tier.heartbeat(self.key, lock_id)

    def adopt(self, lock_id: str, settled_ids: Iterable[str], ended: Job | None = None) -> Job | None:
        return self.tier.adopt(self.key, lock_id, settled_ids, ended)

    def seal(
        self, answered: Iterable[str], lock_id: str = "worker", *, next_number: int = 800, fenced: bool = True
    ) -> Sealed:
        return self.tier.seal(self.key, lock_id, answered, next_id=self.job_id(next_number), fenced=fenced)

    def end(self, job: Job, status: JobStatus = JobStatus.COMPLETED, **changes: Any) -> Job:
        """The job as its finish will end it."""
        return replace(job, status=status, finished_at=self.clock.now, **changes)

    def finish(self, lock_id: str | None, ended: Job) -> Finished:
        return self.tier.finish(self.key, lock_id, ended)

    def answered(self, reply: str = "Rest.", lock_id: str = "worker") -> Job:
        """A worker answers the head of the line. Returns the ended job."""
        self.claimed(lock_id)
        return self.sealed_and_ended(reply, lock_id)

    def sealed_and_ended(self, reply: str, lock_id: str = "worker") -> Job:
        """The worker that holds the line answers all messages of its job. Returns the ended job."""
        assert self.head is not None
        sealed = self.seal([message.message_id for message in self.head.messages], lock_id)
        assert sealed.verdict == "sealed"
        assert sealed.job is not None
        ended = self.end(sealed.job, reply=reply)
        assert self.finish(lock_id, ended).done
        return ended

    def cancel(self, job_id: str) -> Job | None:
        return self.tier.cancel(self.key, job_id)

    @property
    def head(self) -> Job | None:
        return self.tier.waiting(self.key)

    @property
    def lock(self) -> Lock | None:
        return self.tier.lock(self.key)

    def words(self, job: Job | str | None) -> list[str]:
        """The contents of a job's messages, in order. `job` is a job or its id."""
        job = self.tier.job(job) if isinstance(job, str) else job
        return [message.content for message in job.messages] if job else []

    def snapshot(self, *job_ids: str) -> list[Any]:
        """All that can be seen of the conversation, and of these jobs."""
        return [self.head, self.lock, *(self.tier.job(job_id) for job_id in job_ids)]
