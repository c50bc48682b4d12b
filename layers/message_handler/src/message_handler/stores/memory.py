"""The stores of a single process: for library users, unit tests, and as the last resort.

Across processes a memory tier excludes nobody and a memory archive knows nothing: both say so by their
name wherever a status is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from message_handler.models import (
    Accepted,
    Claim,
    Conversation,
    ConversationKey,
    Fence,
    Job,
    JobStatus,
    Lock,
    Message,
    Refused,
    Request,
    Turn,
)
from message_handler.settings import Settings
from message_handler.stores import steps
from message_handler.stores.port import Finished, Held, Sealed, TierName
from message_handler.stores.steps import Line


class MemoryTier:
    """Lines in a dictionary under one mutex."""

    name: TierName = "memory"

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._mutex = threading.Lock()
        self._lines: dict[ConversationKey, Line] = {}
        self._keys: dict[str, ConversationKey] = {}
        self._ended: dict[str, tuple[Job, float]] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        with self._mutex:
            line = self._lines.get(request.key) or Line(request.key)
            accepted = steps.accept(
                line, request, job_id=job_id, lock_id=lock_id, now=self._clock(), settings=self._settings
            )
            self._index(line)
            return accepted

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        with self._mutex:
            line = self._lines.get(request.key) or Line(request.key)
            name = spare_id if job_id in self._keys or job_id in self._ended else job_id
            steps.accept(line, request, job_id=name, lock_id=None, now=self._clock(), settings=self._settings)
            self._index(line)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        with self._mutex:
            steps.undo(self._line(key), message_ids)

    def claim(self, key: ConversationKey, lock_id: str) -> Claim | Refused | None:
        with self._mutex:
            return steps.claim(self._line(key), lock_id, now=self._clock(), settings=self._settings)

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        with self._mutex:
            line = self._line(key)
            successor_id = ended.superseded_by if ended else None
            job = steps.adopt(line, lock_id, settled_ids, successor_id, now=self._clock())
            if job and ended:
                self._keep(ended)
                self._index(line)
            return job

    def heartbeat(self, key: ConversationKey, lock_id: str) -> Held:
        with self._mutex:
            return steps.heartbeat(self._line(key), lock_id, now=self._clock(), settings=self._settings)

    def seal(
        self, key: ConversationKey, lock_id: str, answered: Iterable[str], *, next_id: str, fenced: bool
    ) -> Sealed:
        with self._mutex:
            line = self._line(key)
            sealed = steps.seal(
                line,
                lock_id,
                answered,
                next_id=next_id,
                fenced=fenced,
                now=self._clock(),
                settings=self._settings,
            )
            self._index(line)
            return sealed

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        with self._mutex:
            line = self._line(key)
            finished = steps.finish(line, lock_id, job, now=self._clock(), settings=self._settings)
            if finished.done:
                self._keep(job)
            return finished

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        with self._mutex:
            return steps.cancel(self._line(key), job_id)

    def forget(self, key: ConversationKey, message_id: str) -> None:
        with self._mutex:
            self._line(key).ended.pop(message_id, None)

    def job(self, job_id: str) -> Job | None:
        with self._mutex:
            if job_id in self._ended:
                return self._ended[job_id][0]
            line = self._lines.get(self._keys[job_id]) if job_id in self._keys else None
            return next((j for j in (line.current, line.next) if j and j.job_id == job_id), None) if line else None

    def waiting(self, key: ConversationKey) -> Job | None:
        with self._mutex:
            return self._line(key).current

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        with self._mutex:
            line = self._line(key)
            return line.current.job_id if line.current and line.lock_id == lock_id else None

    def lock(self, key: ConversationKey) -> Lock | None:
        with self._mutex:
            return self._line(key).lock(self.name, self._settings)

    def locks(self, platform_id: str) -> list[Lock]:
        with self._mutex:
            lines = [line for key, line in self._lines.items() if key.platform_id == platform_id]
            locks = [lock for line in lines if (lock := line.lock(self.name, self._settings))]
            return sorted(locks, key=lambda lock: lock.acquired_at)

    def release(self, key: ConversationKey) -> Job | None:
        with self._mutex:
            return steps.release(self._line(key))

    def sweep(self, *, older_than: float) -> list[Job]:
        with self._mutex:
            now = self._clock()
            self._drop_old(now)
            swept = [
                steps.sweep(line, older_than=older_than, now=now, settings=self._settings)
                for line in self._lines.values()
            ]
            return [job for job in swept if job]

    def cached(self, name: str) -> str | None:
        """Nothing: the process has its own cache in front of this one."""
        return None

    def cache(self, name: str, text: str, seconds: float) -> None:
        """See `cached`."""

    def _line(self, key: ConversationKey) -> Line:
        return self._lines.get(key) or Line(key)

    def _index(self, line: Line) -> None:
        self._lines[line.key] = line
        for job in (line.current, line.next):
            if job:
                self._keys[job.job_id] = line.key

    def _keep(self, job: Job) -> None:
        self._ended[job.job_id] = (job, self._clock() + self._settings.job_ttl)
        self._keys.pop(job.job_id, None)
        self._drop_old(self._clock())

    def _drop_old(self, now: float) -> None:
        """What Redis does by expiry. Ended jobs are in the order of their end, so this looks at few."""
        while self._ended:
            job_id, (job, until) = next(iter(self._ended.items()))
            if until > now:
                return
            del self._ended[job_id]
            line = self._lines.get(job.key)
            if (
                line
                and line.current is None
                and all(e.ended_at + self._settings.job_ttl <= now for e in line.ended.values())
            ):
                del self._lines[job.key]


@dataclass(slots=True)
class _Archived:
    """One conversation as the archive keeps it."""

    bot_id: str
    fence: int = 0
    settled: dict[str, str] = field(default_factory=dict)
    turns: list[tuple[Turn, float, str | None]] = field(default_factory=list)

    def settle(self, job: Job, messages: tuple[Message, ...]) -> None:
        at = job.finished_at or 0.0
        for message in messages:
            self.settled.update(dict.fromkeys(message.ids, job.job_id))
            turn = Turn("user", message.content, message.message_id if message.given else None)
            self.turns.append((turn, at, job.job_id))
        if job.reply is not None:
            self.turns.append((Turn("assistant", job.reply), at, job.job_id))


class MemoryArchive:
    """The arbiter of a single process: what `Archive` promises, for as long as the process lives."""

    name: Literal["postgres", "memory"] = "memory"

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._conversations: dict[ConversationKey, _Archived] = {}
        self._jobs: dict[tuple[str, str], Job] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def migrate(self) -> list[str]:
        return []

    def fence(self, job: Job, *, turns: int) -> Fence:
        with self._mutex:
            archived = self._conversations.setdefault(job.key, _Archived(job.bot_id))
            ids = [id_ for message in job.messages for id_ in message.ids]
            settled = {id_: archived.settled[id_] for id_ in ids if id_ in archived.settled}
            known = self._jobs.get((job.key.platform_id, job.job_id))
            ended = known if known and known.status.ended else None
            if ended or any(message.message_id in settled for message in job.messages):
                return Fence(None, settled, ended=ended)
            archived.fence += 1
            self._jobs[job.key.platform_id, job.job_id] = job
            newest = archived.turns[-turns:] if turns else []
            return Fence(archived.fence, settled, tuple(turn for turn, _, _ in newest))

    def commit(self, job: Job, fence: int) -> bool:
        with self._mutex:
            archived = self._conversations.setdefault(job.key, _Archived(job.bot_id))
            known = self._jobs.get((job.key.platform_id, job.job_id))
            if known and known.status.ended:
                return known.status is job.status and fence == archived.fence
            ids = [id_ for message in job.messages for id_ in message.ids]
            if fence != archived.fence or any(id_ in archived.settled for id_ in ids):
                return False
            archived.settle(job, job.messages)
            self._jobs[job.key.platform_id, job.job_id] = job
            return True

    def cancel(self, job: Job) -> Job | None:
        with self._mutex:
            archived = self._conversations.setdefault(job.key, _Archived(job.bot_id))
            known = self._jobs.get((job.key.platform_id, job.job_id))
            open_ = tuple(m for m in job.messages if m.message_id not in archived.settled)
            if open_:
                archived.fence += 1
                job = replace(job, status=JobStatus.CANCELLED, finished_at=time.time())
                archived.settle(job, open_)
                if not (known and known.status.ended):
                    known = self._jobs[job.key.platform_id, job.job_id] = job
            return known

    def raise_fence(self, key: ConversationKey) -> None:
        with self._mutex:
            if key in self._conversations:
                self._conversations[key].fence += 1

    def supersede(self, job: Job, successor_id: str) -> Job:
        with self._mutex:
            jobs, platform_id, end = self._jobs, job.key.platform_id, job.job_id
            while (following := jobs.get((platform_id, end))) and following.superseded_by:
                if following.superseded_by == successor_id:
                    return jobs[platform_id, job.job_id]
                end = following.superseded_by
            last = jobs.get((platform_id, end), job if end == job.job_id else None)
            if last and end != successor_id:
                if not last.status.ended:
                    last = replace(last, status=JobStatus.CANCELLED, finished_at=job.finished_at)
                jobs[platform_id, end] = replace(last, superseded_by=successor_id)
            return jobs[platform_id, job.job_id]

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return archived.settled.get(message_id) if archived else None

    def job(self, platform_id: str, job_id: str) -> Job | None:
        with self._mutex:
            return self._jobs.get((platform_id, job_id))

    def conversation(self, key: ConversationKey) -> Conversation | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return Conversation(key, archived.bot_id, tuple(archived.turns)) if archived else None

    def bot_of(self, key: ConversationKey) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return archived.bot_id if archived else None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """Nothing is configured in memory: every bot but the default one is unknown."""
        return None
