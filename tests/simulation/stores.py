"""The stores that all processes share, as they are behind the ports: they can lose what they know, and be away.

Redis and the Postgres tier are memory tiers of the product, Postgres is its memory archive. Beside each stands a
witness, who has seen every step that was applied, and says when one was let through that the protocol forbids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from message_handler.models import Accepted, Claim, Committed, ConversationKey, Fence, Job, Request
from message_handler.settings import Settings
from message_handler.stores.line import Line
from message_handler.stores.memory import MemoryTier
from message_handler.stores.memory_archive import MemoryArchive
from message_handler.stores.port import Again, Finished, Held, Sealed, TierName
from tests.simulation.scheduler import Violation

#: The steps that may be undone by a rollback, newest last.
_REMEMBERED = 12


class SharedTier(MemoryTier):
    """A tier that lives in a server. `owners` is what the witness knows: who claimed each line last."""

    def __init__(self, name: TierName, settings: Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.name = name
        self.away = False
        #: Of the Postgres tier, which shares its database: whether a message needs no answer any more.
        self.is_settled: Callable[[ConversationKey, str], bool] = lambda *_: False
        self._owners: dict[ConversationKey, str | None] = {}
        self._snapshots: list[tuple[Any, ...]] = []
        #: The jobs as they were interrupted, by the names of those that took their messages.
        self.interrupted: dict[str, Job] = {}

    # What happens to a server.

    def flush(self) -> None:
        self._lines, self._keys, self._ended, self._idle, self._owners = {}, {}, {}, {}, {}

    def remember(self) -> None:
        """Keep a copy of everything, as a replica that falls behind does."""
        lines = {key: _copied(line) for key, line in self._lines.items()}
        self._snapshots.append((lines, dict(self._keys), dict(self._ended), dict(self._idle)))
        del self._snapshots[:-_REMEMBERED]

    def roll_back(self, steps: int) -> None:
        """Forget the newest steps: a stale replica was promoted."""
        if self._snapshots:
            del self._snapshots[max(1, len(self._snapshots) - steps) :]
            self._lines, self._keys, self._ended, self._idle = self._snapshots.pop()
        # Who owns what now, only the tier itself can know.
        self._owners = {}

    def locked(self) -> bool:
        return any(line.current for line in self._lines.values())

    def line(self, key: ConversationKey) -> Line:
        return self._line(key)

    # What the witness sees (invariant 4: extending, releasing or finishing needs the caller's own lock id).

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        accepted = super().accept(request, job_id=job_id, lock_id=lock_id)
        if accepted.interrupted:
            self._owners[request.key] = None
            self.interrupted[accepted.job_id] = accepted.interrupted
        return accepted

    def claim(self, key: ConversationKey, lock_id: str, again: Again | None = None) -> Any:
        claim = super().claim(key, lock_id, again)
        if isinstance(claim, Claim):
            self._owners[key] = lock_id
        return claim

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        job = super().adopt(key, lock_id, settled_ids, ended)
        self._witness("adopt", key, lock_id, allowed=job is not None)
        return job

    def heartbeat(self, key: ConversationKey, lock_id: str, *arguments: Any, **options: Any) -> Held:
        held = super().heartbeat(key, lock_id, *arguments, **options)
        self._witness("heartbeat", key, lock_id, allowed=held != "lost")
        return held

    def seal(self, key: ConversationKey, lock_id: str, answered: Iterable[str], **options: Any) -> Sealed:
        sealed = super().seal(key, lock_id, answered, **options)
        self._witness("seal", key, lock_id, allowed=sealed.verdict != "lost")
        return sealed

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        finished = super().finish(key, lock_id, job)
        if lock_id is not None:
            self._witness("finish", key, lock_id, allowed=finished.done)
        if finished.done and self._line(key).hold is None:
            self._owners[key] = None
        return finished

    def release(self, key: ConversationKey) -> Job | None:
        self._owners[key] = None
        return super().release(key)

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        self._drop_answered()
        swept = super().sweep(older_than=older_than, platform_id=platform_id)
        for job in swept:
            self._owners[job.key] = None
        return swept

    def _drop_answered(self) -> None:
        """What was answered on another tier, nobody need be woken for."""
        now = self._clock()
        for key, line in list(self._lines.items()):
            held = line.hold and line.hold.heartbeat_at + self._settings.heartbeat_stale > now
            ids = [message.message_id for message in line.waiting()]
            if ids and not held and all(self.is_settled(key, id_) for id_ in ids):
                for job in line.jobs():
                    del self._keys[job.job_id]
                del self._lines[key]

    def _witness(self, step: str, key: ConversationKey, lock_id: str, *, allowed: bool) -> None:
        if allowed and self._owners.get(key, lock_id) != lock_id:
            raise Violation(f"not owned: a {step} of the {self.name} tier was allowed to a worker that lost the lock")


def _copied(line: Line) -> Line:
    """Everything in a line is frozen but its dictionaries."""
    twin = copy(line)
    twin.posts, twin.ended = dict(line.posts), dict(line.ended)
    return twin


class SharedArchive(MemoryArchive):
    """Postgres, which has a tier in the same database."""

    def __init__(self, tier: SharedTier) -> None:
        super().__init__()
        self.name = "postgres"
        self._tier = tier
        tier.is_settled = lambda key, message_id: self.settled_by(key, message_id) is not None
        self._ends: dict[str, tuple[object, ...]] = {}
        #: Commits that came too late and were refused.
        self.refused = 0

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        fence = super().fence(job, successor_id=successor_id, turns=turns)
        if drain:
            waits = self._tier.line(job.key).waiting()
            known = {id_ for message in job.messages for id_ in message.ids}
            open_ = tuple(m for m in waits if known.isdisjoint(m.ids) and not self.settled_by(job.key, m.message_id))
            fence = replace(fence, waiting=open_)
        return fence

    def commit(self, job: Job, fence: int) -> Committed | None:
        known, newest = self.job(job.key.platform_id, job.job_id), self._conversation(job).fence
        ended = known is not None and known.status.ended
        committed = super().commit(job, fence)
        if not committed:
            self.refused += 1
        elif not ended and newest != fence:
            raise Violation("not fenced: a commit was let through although a later fence exists")
        self._look()
        return committed

    def archive(self, job: Job) -> bool:
        archived = super().archive(job)
        self._look()
        return archived

    def cancel(self, job: Job) -> Any:
        verdict = super().cancel(job)
        self._look()
        return verdict

    def was_cancelled(self, key: ConversationKey, message_id: str) -> bool:
        return key in self._conversations and message_id in self._conversations[key].cancelled

    def _look(self) -> None:
        """Invariant 10: what has ended never changes."""
        for job, _ in self._jobs.values():
            if job.status.ended:
                end = (job.status, job.reply, job.error, job.finished_at)
                if self._ends.setdefault(job.job_id, end) != end:
                    raise Violation("not terminal: an ended job has changed")
