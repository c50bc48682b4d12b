"""The memory tier: for library users, unit tests, and as the last resort.

Across processes it excludes nobody, and says so by its name wherever a status is shown.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from message_handler.models import Accepted, Claim, ConversationKey, Job, Lock, Progress, Refused, Request
from message_handler.settings import Settings
from message_handler.stores import accepting, steps
from message_handler.stores.buckets import Buckets
from message_handler.stores.documents import job_from_json, job_to_json
from message_handler.stores.line import Line
from message_handler.stores.port import Again, Finished, Held, Sealed, TierName


class MemoryTier:
    """Lines in a dictionary under one mutex.

    `unheld_seconds`: what nobody here has claimed after so long is dropped, for it has a record, and other processes
    answer it. Else each message of a long outage would carry all earlier ones along again.
    """

    name: TierName = "memory"

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        unheld_seconds: float | None = None,
    ) -> None:
        self._settings = settings
        self._unheld_seconds = math.inf if unheld_seconds is None else unheld_seconds
        self._clock = clock
        self._buckets = Buckets(clock)
        self._mutex = threading.Lock()
        self._lines: dict[ConversationKey, Line] = {}
        self._keys: dict[str, ConversationKey] = {}
        self._ended: dict[str, tuple[Job, float]] = {}
        self._unarchived: dict[str, Job] = {}
        self._idle: dict[ConversationKey, float] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        with self._mutex:
            line = self._line(request.key)
            accepted = accepting.accept(
                line, request, job_id=job_id, lock_id=lock_id, now=self._clock(), settings=self._settings
            )
            if accepted.interrupted:
                self._keep(accepted.interrupted)
            self._index(line)
            return accepted

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        with self._mutex:
            self._accept_again(Again(request, job_id, spare_id))

    def _accept_again(self, again: Again) -> None:
        line, now = self._line(again.request.key), self._clock()
        name = again.spare_id if self._find(again.job_id) else again.job_id
        accepting.accept(line, again.request, job_id=name, lock_id=None, now=now, settings=self._settings)
        self._index(line)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        with self._mutex:
            line = self._line(key)
            before = line.jobs()
            accepting.undo(line, message_ids)
            for job in before:
                self._keys.pop(job.job_id, None)
            if before:
                self._index(line)

    def claim(self, key: ConversationKey, lock_id: str, again: Again | None = None) -> Claim | Refused | None:
        with self._mutex:
            if again:
                self._accept_again(again)
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

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> Held:
        with self._mutex:
            line, now = self._line(key), self._clock()
            return steps.heartbeat(line, lock_id, progress, seen=seen, now=now, settings=self._settings)

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> Held:
        with self._mutex:
            return steps.look(self._line(key), lock_id, seen)

    def seal(
        self,
        key: ConversationKey,
        lock_id: str,
        answered: Iterable[str],
        *,
        next_id: str,
        fenced: bool,
        may_restart: bool = True,
        may_seal: bool = True,
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
                may_seal=may_seal,
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

    def give_back(self, key: ConversationKey, lock_id: str) -> bool:
        with self._mutex:
            line = self._line(key)
            job = steps.give_back(line, lock_id, now=self._clock(), settings=self._settings)
            if job:
                self._keep(job)
                self._index(line)
            return job is not None

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        with self._mutex:
            return steps.cancel(self._line(key), job_id)

    def forget(self, key: ConversationKey, message_id: str) -> None:
        with self._mutex:
            self._line(key).ended.pop(message_id, None)

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        with self._mutex:
            was = self._line(key).ended.get(message_id)
            return was.job_id if was else None

    def archived(self, job_id: str) -> None:
        with self._mutex:
            if ended := self._unarchived.get(job_id):
                self._keep(replace(ended, unarchived=False))

    def job(self, job_id: str) -> Job | None:
        with self._mutex:
            return self._find(job_id)

    def waiting(self, key: ConversationKey) -> Job | None:
        with self._mutex:
            return self._line(key).current

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        with self._mutex:
            return self._line(key).jobs()

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

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        with self._mutex:
            line = self._line(key)
            if steps.hand_off(line, human=human):
                self._idle.pop(key, None)
                self._index(line)

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        with self._mutex:
            line = self._lines.pop(key, None)
            self._idle.pop(key, None)
            self._keys = {job_id: of for job_id, of in self._keys.items() if of != key}
            ended = [job_id for job_id, (job, _) in self._ended.items() if job.key == key]
            unarchived = [job_id for job_id, job in self._unarchived.items() if job.key == key]
            for job_id in ended:
                del self._ended[job_id]
            for job_id in unarchived:
                del self._unarchived[job_id]
            return bool(line or ended or unarchived)

    def release(self, key: ConversationKey) -> Job | None:
        with self._mutex:
            return steps.release(self._line(key))

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        with self._mutex:
            self._drop_old()
            now = self._clock()
            swept = [
                steps.sweep(self._line(key), older_than=older_than, now=now, settings=self._settings)
                for key in list(self._lines)
                if platform_id in (None, key.platform_id)
            ]
            return [job for job in swept if job]

    def cached(self, name: str) -> str | None:
        """Nothing: the process has its own cache in front of this one."""
        return None

    def cache(self, name: str, text: str, seconds: float) -> None:
        """See `cached`."""

    def admit(self, platform_id: str, per_minute: int) -> float:
        return self._buckets.take(platform_id, per_minute)

    def _line(self, key: ConversationKey) -> Line:
        self._drop_old()
        line = self._lines.get(key) or Line(key)
        if line.current:
            seen_at = line.hold.heartbeat_at if line.hold else line.acquired_at
            if seen_at + self._unheld_seconds <= self._clock():
                for job in line.jobs():
                    self._keys.pop(job.job_id, None)
                line.current = line.next = line.hold = None
                self._index(line)
        return line

    def _find(self, job_id: str) -> Job | None:
        self._drop_old()
        if job_id in self._ended:
            return self._ended[job_id][0]
        if job_id in self._unarchived:
            return self._unarchived[job_id]
        line = self._lines[self._keys[job_id]] if job_id in self._keys else None
        return line.job(job_id) if line else None

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
        self._unarchived.pop(job.job_id, None)
        if job.unarchived:
            self._unarchived[job.job_id] = end
        else:
            self._ended[job.job_id] = (end, self._clock() + self._settings.job_ttl)
        self._keys.pop(job.job_id, None)

    def _drop_old(self) -> None:
        """What Redis does by expiry. Both are in the order of their ends, so this looks at few."""
        now = self._clock()
        while self._ended and (first := next(iter(self._ended.items())))[1][1] <= now:
            del self._ended[first[0]]
        while self._idle and (oldest := next(iter(self._idle.items())))[1] <= now:
            del self._idle[oldest[0]]
            line = self._lines[oldest[0]]
            until = max((was.ended_at for was in line.ended.values()), default=0.0)
            if line.handed_off:
                until = max(until, now + self._settings.job_ttl)
            if until > now:
                self._idle[oldest[0]] = until
            else:
                del self._lines[oldest[0]]
