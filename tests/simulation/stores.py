"""The stores behind the ports, which all processes share. They can lose data and be away.

The service's memory stores stand for Redis, the Postgres tier and the archive. Beside each is a witness that sees every
applied step, and raises Violation if the protocol forbids one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from message_handler.archive.memory import MemoryArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message
from message_handler.ports.archive import Committed, Fence
from message_handler.ports.line_store import Save, Saved, Snapshot
from message_handler.protocol.line import Line
from message_handler.protocol.line_documents import line_of, texts_of, with_texts
from message_handler.protocol.results import Finished, Sealed, TierName
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryLines
from tests.simulation.scheduler import Violation

#: How many of the newest saves a rollback may undo.
_REMEMBERED = 12


@dataclass(slots=True)
class Doing:
    """A tier's step that an actor takes. Each of its loads and saves is a step of the simulation."""

    name: str
    arguments: tuple[Any, ...]
    #: Whether the caller owned the line at its last save, by the witness.
    owned: bool = True

    @property
    def lock_id(self) -> str | None:
        """The lock id that the caller passes, if any."""
        return self.arguments[1] if self.name in ("claim", "adopt", "heartbeat", "seal", "finish") else None

    def check(self, tier: str, outcome: Any) -> None:
        """Invariant 4: extending, releasing or finishing needs the caller's own lock id. Raises Violation."""
        match outcome:
            case None | "lost" | Sealed("lost") | Finished(False):
                return
        if self.name != "claim" and not self.owned:
            raise Violation(f"not owned: a {self.name} of the {tier} tier was applied for a worker that lost the lock")


class SharedLines(MemoryLines):
    """Lines in a server. The witness knows which lock id claimed each line last."""

    def __init__(self, name: TierName, settings: Settings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.name = name
        self.away = False
        #: For the Postgres tier: whether the archive in the same database has settled a message.
        self.is_settled: Callable[[ConversationKey, str], bool] = lambda *_: False
        self._owners: dict[ConversationKey, str | None] = {}
        self._snapshots: list[tuple[Any, ...]] = []
        #: The interrupted jobs, by the ids of the jobs that took their messages.
        self.interrupted: dict[str, Job] = {}

    # Faults of a server.

    def flush(self) -> None:
        self.lines.kept, self.due_at, self.ends.kept, self.jobs.kept, self._owners = {}, {}, {}, {}, {}
        self.unarchived_ends = {}

    def remember(self) -> None:
        """Keep a copy of everything, as a replica does before it falls behind."""
        kept = (self.lines.kept, self.due_at, self.ends.kept, self.jobs.kept, self.unarchived_ends)
        self._snapshots.append(tuple(map(dict, kept)))
        del self._snapshots[:-_REMEMBERED]

    def roll_back(self, steps: int) -> None:
        """Forget the newest saves, as when a stale replica is promoted."""
        if self._snapshots:
            del self._snapshots[max(1, len(self._snapshots) - steps) :]
            self.lines.kept, self.due_at, self.ends.kept, self.jobs.kept, self.unarchived_ends = self._snapshots.pop()
        # The witness can't know the owners after that.
        self._owners = {}

    def locked(self) -> bool:
        return any(self.line(key).current for key in self.due_at)

    def line(self, key: ConversationKey) -> Line:
        return line_of(key, self._line(key))

    def waiting(self, key: ConversationKey) -> tuple[Message, ...]:
        waiting: tuple[Message, ...] = with_texts(self.line(key).waiting(), texts_of(self._line(key)))
        return waiting

    def due(self, older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
        self._drop_answered()
        return super().due(older_than, platform_id)

    def _drop_answered(self) -> None:
        """Drop lines whose messages were all answered on another tier: they need no wake."""
        for key in list(self.due_at):
            line = self.line(key)
            held = line.lease and line.lease.heartbeat_at + self._settings.heartbeat_stale > self.clock()
            ids = [message.message_id for message in line.waiting()]
            if ids and not held and all(self.is_settled(key, id_) for id_ in ids):
                for job in line.jobs():
                    del self.jobs.kept[job.job_id]
                del self.lines.kept[key], self.due_at[key]

    def take(self, doing: Doing, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        """Save as a part of the step `doing`, seen by the witness."""
        answers = super().save(saves)
        for save, answer in zip(saves, answers, strict=True):
            if isinstance(answer, Saved):
                self._witness(doing, save.key)
        return answers

    def _witness(self, doing: Doing, key: ConversationKey) -> None:
        line, lock_id = self.line(key), doing.lock_id
        if doing.name == "claim" and line.lock_id == lock_id:
            self._owners[key] = lock_id
        ids = [message.message_id for message in line.waiting()]
        if len(set(ids)) < len(ids):
            raise Violation(f"a message is in two live jobs: {ids}")
        if any(job.restarts > self._settings.max_restarts for job in line.jobs()):
            raise Violation("unbounded: a job was restarted too often")
        doing.owned = lock_id is None or self._owners.get(key, lock_id) == lock_id
        if line.lease is None:
            self._owners[key] = None


class SharedArchive(MemoryArchive):
    """Postgres: the archive, with a tier in the same database."""

    def __init__(self, tier: SharedLines) -> None:
        super().__init__()
        self.name = "postgres"
        self._tier = tier
        tier.is_settled = lambda key, message_id: self.settled_by(key, message_id) is not None
        self._ends: dict[str, tuple[object, ...]] = {}
        #: How many late commits were refused.
        self.refused = 0
        #: The replies in the order of their commits.
        self.commits: list[str | None] = []

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        fence = super().fence(job, successor_id=successor_id, turns=turns)
        if drain:
            waits = self._tier.waiting(job.key)
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
            raise Violation("not fenced: a commit succeeded although a later fence exists")
        else:
            self.commits.append(job.reply)
        self._look()
        return committed

    def archive(self, job: Job) -> bool:
        archived = super().archive(job)
        if archived:
            self.commits.append(job.reply)
        self._look()
        return archived

    def cancel(self, job: Job) -> Any:
        verdict = super().cancel(job)
        self._look()
        return verdict

    def was_cancelled(self, key: ConversationKey, message_id: str) -> bool:
        return key in self._conversations and message_id in self._conversations[key].cancelled

    def _look(self) -> None:
        """Invariant 10: an ended job never changes."""
        for job in self._jobs:
            if job.status.ended:
                end = (job.status, job.reply, job.error, job.finished_at)
                if self._ends.setdefault(job.job_id, end) != end:
                    raise Violation("not terminal: an ended job has changed")
