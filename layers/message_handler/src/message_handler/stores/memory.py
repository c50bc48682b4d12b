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
    Verdict,
)
from message_handler.settings import Settings
from message_handler.stores import steps
from message_handler.stores.documents import job_from_json, job_to_json
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
        self._idle: dict[ConversationKey, float] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        with self._mutex:
            line = self._line(request.key)
            accepted = steps.accept(
                line, request, job_id=job_id, lock_id=lock_id, now=self._clock(), settings=self._settings
            )
            self._index(line)
            return accepted

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        with self._mutex:
            line = self._line(request.key)
            name = spare_id if self._find(job_id) else job_id
            steps.accept(line, request, job_id=name, lock_id=None, now=self._clock(), settings=self._settings)
            self._index(line)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        with self._mutex:
            line = self._line(key)
            before = line.jobs()
            steps.undo(line, message_ids)
            for job in before:
                self._keys.pop(job.job_id, None)
            if before:
                self._index(line)

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
        self,
        key: ConversationKey,
        lock_id: str,
        answered: Iterable[str],
        *,
        next_id: str,
        fenced: bool,
        may_restart: bool = True,
    ) -> Sealed:
        with self._mutex:
            line = self._line(key)
            sealed = steps.seal(
                line,
                lock_id,
                answered,
                next_id=next_id,
                fenced=fenced,
                may_restart=may_restart,
                now=self._clock(),
                settings=self._settings,
            )
            self._index(line)
            return sealed

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        with self._mutex:
            line = self._line(key)
            finished = steps.finish(
                line, lock_id, job, spare_id=key.new_job_id(), now=self._clock(), settings=self._settings
            )
            if finished.done:
                self._keep(job)
                self._index(line)
            return finished

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        with self._mutex:
            return steps.cancel(self._line(key), job_id)

    def forget(self, key: ConversationKey, message_id: str) -> None:
        with self._mutex:
            self._line(key).ended.pop(message_id, None)

    def job(self, job_id: str) -> Job | None:
        with self._mutex:
            return self._find(job_id)

    def waiting(self, key: ConversationKey) -> Job | None:
        with self._mutex:
            return self._line(key).current

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        with self._mutex:
            line = self._line(key)
            return line.current.job_id if line.current and line.locked_by(lock_id) else None

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
            self._drop_old()
            now = self._clock()
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
        self._drop_old()
        return self._lines.get(key) or Line(key)

    def _find(self, job_id: str) -> Job | None:
        self._drop_old()
        if job_id in self._ended:
            return self._ended[job_id][0]
        line = self._lines[self._keys[job_id]] if job_id in self._keys else None
        return next((job for job in line.jobs() if job.job_id == job_id), None) if line else None

    def _index(self, line: Line) -> None:
        """Let the line and its jobs be found; a line without jobs is dropped after an hour."""
        self._lines[line.key] = line
        for job in line.jobs():
            self._keys[job.job_id] = line.key
        if line.current:
            self._idle.pop(line.key, None)
        else:
            self._idle.setdefault(line.key, self._clock() + self._settings.job_ttl)

    def _keep(self, job: Job) -> None:
        """Of an ended job as much as the other tiers do: not its messages' text, which the archive has."""
        end = job_from_json(job_to_json(job))
        self._ended[job.job_id] = (end, self._clock() + self._settings.job_ttl)
        self._keys.pop(job.job_id, None)

    def _drop_old(self) -> None:
        """What Redis does by expiry. Both are in the order of their ends, so this looks at few."""
        now = self._clock()
        while self._ended and (first := next(iter(self._ended.items())))[1][1] <= now:
            del self._ended[first[0]]
        while self._idle and (oldest := next(iter(self._idle.items())))[1] <= now:
            del self._idle[oldest[0]], self._lines[oldest[0]]


@dataclass(slots=True)
class _Archived:
    """One conversation as the archive keeps it."""

    bot_id: str
    fence: int = 0
    settled: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    turns: list[tuple[Turn, float, str | None]] = field(default_factory=list)

    def is_open(self, message: Message) -> bool:
        return message.message_id not in self.settled

    def settle(self, job: Job, messages: tuple[Message, ...]) -> None:
        at = job.finished_at or 0.0
        for message in messages:
            for id_ in message.ids:
                self.settled.setdefault(id_, job.job_id)
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
        #: Each with the fence of its last run.
        self._jobs: dict[tuple[str, str], tuple[Job, int | None]] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def migrate(self) -> list[str]:
        return []

    def fence(self, job: Job, *, successor_id: str, turns: int) -> Fence:
        with self._mutex:
            archived = self._conversation(job)
            settled = {id_: archived.settled[id_] for m in job.messages for id_ in m.ids if id_ in archived.settled}
            newest = tuple(turn for turn, _, _ in archived.turns[-turns:]) if turns else ()
            known, open_ = self._note(job), [m for m in job.messages if archived.is_open(m)]
            if not known.status.ended and len(open_) == len(job.messages):
                archived.fence += 1
                started_at, superseded_by = known.started_at or job.started_at, known.superseded_by
                run = replace(job, status=JobStatus.PROCESSING, started_at=started_at, superseded_by=superseded_by)
                self._put(run, archived.fence)
                return Fence(archived.fence, settled, newest)
            end_id = None
            if open_:
                end_id = self._link(job, successor_id)
            elif not known.status.ended:
                self._link(job, settled[job.messages[-1].message_id])
            return Fence(None, settled, newest, self._cancel(known), end_id)

    def commit(self, job: Job, fence: int) -> bool:
        with self._mutex:
            archived = self._conversation(job)
            known, fenced = self._jobs.get((job.key.platform_id, job.job_id), (None, None))
            if known is None or known.status.ended:
                return known is not None and known.status is job.status and fence == fenced
            ids = [id_ for message in job.messages for id_ in message.ids]
            if fence != archived.fence or any(id_ in archived.settled for id_ in ids):
                return False
            archived.settle(job, job.messages)
            self._put(replace(job, superseded_by=known.superseded_by), fence)
            return True

    def cancel(self, job: Job) -> Verdict:
        with self._mutex:
            archived = self._conversation(job)
            self._note(job)
            open_ = tuple(m for m in job.messages if archived.is_open(m))
            if open_:
                archived.fence += 1
                archived.settle(replace(job, finished_at=time.time()), open_)
                archived.cancelled.update(m.message_id for m in open_)
            mine = {m.message_id for m in job.messages if archived.settled[m.message_id] == job.job_id}
            return Verdict(self._cancel(job), not archived.cancelled.isdisjoint(mine))

    def raise_fence(self, key: ConversationKey) -> None:
        with self._mutex:
            if key in self._conversations:
                self._conversations[key].fence += 1

    def supersede(self, job: Job, successor_id: str) -> None:
        with self._mutex:
            archived = self._conversation(job)
            self._note(job)
            self._link(job, successor_id)
            for job_id in self._chain(job.key.platform_id, job.job_id):
                noted, _ = self._jobs.get((job.key.platform_id, job_id), (None, None))
                if noted and not any(archived.is_open(message) for message in noted.messages):
                    self._cancel(noted)

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return archived.settled.get(message_id) if archived else None

    def job(self, platform_id: str, job_id: str) -> Job | None:
        with self._mutex:
            return self._jobs.get((platform_id, job_id), (None, None))[0]

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

    def _conversation(self, job: Job) -> _Archived:
        return self._conversations.setdefault(job.key, _Archived(job.bot_id))

    def _note(self, job: Job) -> Job:
        """The job as archived; one that never got as far as a fence is noted, so that it can be linked or ended."""
        noted = replace(job, status=JobStatus.PROCESSING)
        return self._jobs.setdefault((job.key.platform_id, job.job_id), (noted, None))[0]

    def _put(self, job: Job, fence: int | None) -> Job:
        self._jobs[job.key.platform_id, job.job_id] = (job, fence)
        return job

    def _cancel(self, job: Job) -> Job:
        noted, fence = self._jobs[job.key.platform_id, job.job_id]
        if noted.status.ended:
            return noted
        at = time.time()
        return self._put(
            replace(job, status=JobStatus.CANCELLED, finished_at=at, superseded_by=noted.superseded_by), fence
        )

    def _chain(self, platform_id: str, job_id: str) -> list[str]:
        """A job and its successors; the last one may be just a name."""
        chain = [job_id]
        while (following := self._jobs.get((platform_id, chain[-1]))) and following[0].superseded_by:
            chain.append(following[0].superseded_by)
        return chain

    def _link(self, job: Job, successor_id: str) -> str:
        """Link the end of the job's chain, unless that leads in a circle; returns what the chain ends with now."""
        platform_id = job.key.platform_id
        end_id = self._chain(platform_id, job.job_id)[-1]
        if (end := self._jobs.get((platform_id, end_id))) and end_id not in self._chain(platform_id, successor_id):
            self._put(replace(end[0], superseded_by=successor_id), end[1])
        return self._chain(platform_id, job.job_id)[-1]
