"""The archive of a single process: it knows what this process knows, and forgets it with the process."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import quantiles
from typing import Any, Literal

from message_handler.archive import parking
from message_handler.archive.erasures import Rule, is_void, is_void_by_its_own_time, is_void_on_any_clock
from message_handler.archive.memory_audit import MemoryAudit
from message_handler.archive.memory_handoff import Handoff
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.ports.archive import (
    ERASURE_MARGIN,
    Committed,
    Conversation,
    Erased,
    Fence,
    Minute,
    Noted,
    Settled,
    Verdict,
)
from message_handler.ports.audit import AuditEntry


@dataclass(slots=True)
class _Archived:
    """One conversation as the archive keeps it."""

    bot_id: str
    fence: int = 0
    settled: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    turns: list[tuple[Turn, float, str | None]] = field(default_factory=list)
    handoff: Handoff = field(default_factory=Handoff)

    def is_open(self, message: Message) -> bool:
        return message.message_id not in self.settled

    def settle(self, job: Job, messages: tuple[Message, ...], *, late: bool = False) -> None:
        """`late`: what was said after it may be archived already, and stays behind it."""
        at, said = job.finished_at or 0.0, []
        for message in messages:
            for id_ in message.ids:
                self.settled.setdefault(id_, job.job_id)
            said.append(Turn("user", message.content, message.message_id if message.given else None))
        if job.reply is not None:
            said.append(Turn("assistant", job.reply))
        later = (n for n, (_, said_at, _) in enumerate(self.turns) if late and said_at > at)
        place = next(later, len(self.turns))
        self.turns[place:place] = [(turn, at, job.job_id) for turn in said]


class MemoryArchive:
    """The arbiter of a single process: what `Archive` promises, for as long as the process lives."""

    name: Literal["postgres", "memory", "none"] = "memory"
    away = False

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._conversations: dict[ConversationKey, _Archived] = {}
        #: Each with the fence of its last run.
        self._jobs: dict[tuple[str, str], tuple[Job, int | None]] = {}
        #: Of a copy, the job that it copies.
        self._copies: dict[str, str] = {}
        #: Jobs whose messages were opened again.
        self._reopened: set[tuple[str, str]] = set()
        self.audit = MemoryAudit()
        #: Until when what was accepted for a conversation is void, and a fence that no run before that exceeded.
        self._erasures: dict[str, tuple[float, int]] = {}

    def ping(self) -> None:
        """A process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def migrate(self) -> list[str]:
        return []

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        with self._mutex:
            if is_void(self._erased_until(job.key), job.accepted_at):
                return Fence(None, {}, erased_until=self._erasures[job.key.name_hash][0])
            archived = self._conversation(job)
            archived.fence = max(archived.fence, self._erasures.get(job.key.name_hash, (0.0, 0))[1])
            settled = {id_: archived.settled[id_] for m in job.messages for id_ in m.ids if id_ in archived.settled}
            newest = tuple(turn for turn, _, _ in archived.turns[-turns:]) if turns else ()
            known, open_ = self._note(job), [m for m in job.messages if archived.is_open(m)]
            if archived.handoff.human:
                moved = parking.to_park(open_, job.context, job.resources, job.job_id)
                archived.handoff.park(archived.settled, moved, moved=True)
            elif not known.status.ended and len(open_) == len(job.messages):
                archived.fence += 1
                started_at, superseded_by = known.started_at or job.started_at, known.superseded_by
                run = replace(job, status=JobStatus.PROCESSING, started_at=started_at, superseded_by=superseded_by)
                self._put(run, archived.fence)
                self._link_promises(archived, job, job.job_id)
                return Fence(archived.fence, settled, newest)
            self._link_promises(archived, job, None)
            known = self._promise(job)
            end_id, held = None, archived.handoff.human and bool(open_)
            if open_ and not held:
                # Nothing is linked behind a run: whoever asks may have lost the lock to it (an interruption).
                end_id = self._running_successor(job) or self._link(job, successor_id)
            elif job.messages and not open_ and not known.status.ended:
                self._link(job, settled[job.messages[-1].message_id])
            return Fence(None, settled, newest, self._cancel(known), end_id, parked=held)

    def commit(self, job: Job, fence: int) -> Committed | None:
        with self._mutex:
            archived = self._conversations.get(job.key, _Archived(job.bot_id))
            known, fenced = self._jobs.get((job.key.platform_id, job.job_id), (None, None))
            if known is None or known.status.ended:
                again = known is not None and known.status is job.status and fence == fenced
                return Committed() if again else None
            ids = [id_ for message in job.messages for id_ in message.ids]
            if fence != archived.fence or any(id_ in archived.settled for id_ in ids):
                return None
            archived.settle(job, job.messages)
            self._put(replace(job, superseded_by=known.superseded_by, promised=known.promised), fence)
            self._link_promises(archived, job, job.job_id)
            self._end_superseded(archived, job.key)
            return Committed()

    def archive(self, job: Job) -> bool:
        with self._mutex:
            if is_void(self._erased_until(job.key), job.accepted_at):
                return False
            archived = self._conversation(job)
            open_ = tuple(m for m in job.messages if archived.is_open(m))
            if not open_:
                return False
            if (job.key.platform_id, job.job_id) in self._reopened:
                return False
            known = self._note(job.before_its_end())
            archived.fence += 1
            end = replace(job, messages=open_, unarchived=False, superseded_by=known.superseded_by)
            if known.status.ended or len(open_) < len(job.messages):
                end = replace(end, job_id=self._link(job, job.key.new_job_id()), superseded_by=None)
                self._cancel(known)
            elif known.started_at:
                end = replace(end, started_at=known.started_at)
            archived.settle(end, open_, late=True)
            self._put(end, archived.fence)
            self._link_promises(archived, end, end.job_id)
            self._end_superseded(archived, job.key)
            return True

    def interrupt(self, job: Job) -> None:
        with self._mutex:
            if self._is_gone(job, job.accepted_at):
                return
            self._conversation(job)
            noted = self._note(job)
            if not noted.status.ended:
                self._put(replace(noted, superseded_by=noted.superseded_by or job.superseded_by), None)
                self._cancel(job)

    def cancel(self, job: Job) -> Verdict:
        newest = max((message.accepted_at for message in job.messages), default=math.inf)
        with self._mutex:
            if self._is_gone(job, newest, is_void_by_its_own_time):
                return Verdict(replace(job, status=JobStatus.CANCELLED, finished_at=time.time()), True)
            archived = self._conversation(job)
            live = tuple(m for m in job.messages if not is_void(self._erased_until(job.key), m.accepted_at))
            job = replace(job, messages=tuple(m if m in live else replace(m, content="") for m in job.messages))
            self._note(job)
            open_ = tuple(m for m in live if archived.is_open(m))
            if open_:
                archived.fence += 1
                archived.settle(replace(job, finished_at=time.time()), open_)
                archived.cancelled.update(m.message_id for m in open_)
            mine = {m.message_id for m in live if archived.settled[m.message_id] == job.job_id}
            ended = self._cancel(job)
            self._end_settled(archived, job)
            return Verdict(ended, len(live) < len(job.messages) or not archived.cancelled.isdisjoint(mine))

    def raise_fence(self, key: ConversationKey) -> None:
        with self._mutex:
            if key in self._conversations:
                self._conversations[key].fence += 1

    def supersede(self, job: Job, successor_id: str) -> None:
        with self._mutex:
            if self._is_gone(job, job.accepted_at):
                return
            archived = self._conversation(job)
            self._promise(job)
            self._note_end(job)
            self._link(job, successor_id)
            self._copy(job, successor_id)
            self._end_settled(archived, job)

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return archived.settled.get(message_id) if archived else None

    def settled(self, key: ConversationKey, message_ids: Sequence[str]) -> dict[str, Settled]:
        with self._mutex:
            archived = self._conversations.get(key)
            found = {id_: archived.settled[id_] for id_ in message_ids if id_ in archived.settled} if archived else {}
            return {id_: Settled(job_id, self._kind(key, job_id)) for id_, job_id in found.items()}

    def _kind(self, key: ConversationKey, job_id: str) -> str:
        status = self._jobs[key.platform_id, job_id][0].status
        return "answered" if status is JobStatus.COMPLETED else status.value

    def unfinished(self, *, most: int) -> list[Job]:
        with self._mutex:
            running = [job for job, _ in self._jobs.values() if not job.status.ended]
            return [job for job in running if job.messages and not self._is_open(job)][:most]

    def _is_open(self, job: Job) -> bool:
        archived = self._conversations[job.key]
        return any(archived.is_open(message) for message in job.messages)

    def job(self, platform_id: str, job_id: str) -> Job | None:
        with self._mutex:
            return self._jobs.get((platform_id, job_id), (None, None))[0]

    def jobs(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        with self._mutex:
            known = [job for (tenant, _), (job, _) in self._jobs.items() if tenant == platform_id]
        wanted = [
            replace(job, reply=None)
            for job in known
            if job.job_id not in self._copies
            and (status is None or job.status.value == status)
            and (status != "cancelled" or job.superseded_by is None)
            and (conversation_id is None or job.key.conversation_id == conversation_id)
        ]
        wanted.sort(key=lambda job: (job.created, job.job_id), reverse=True)
        return [job for job in wanted if behind is None or (job.created, job.job_id) < behind][:most]

    def last_end(self, platform_id: str) -> float | None:
        by_worker = (JobStatus.COMPLETED, JobStatus.FAILED)
        with self._mutex:
            jobs = [job for (tenant, _), (job, _) in self._jobs.items() if tenant == platform_id]
        return max((job.finished_at for job in jobs if job.finished_at and job.status in by_worker), default=None)

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        with self._mutex:
            jobs = [job for (tenant, _), (job, _) in self._jobs.items() if tenant == platform_id]
        jobs = [job for job in jobs if job.job_id not in self._copies]
        begun = Counter(_minute(job.created_at) for job in jobs if since <= job.created_at < until)
        ended: dict[int, list[Job]] = {}
        for job in jobs:
            if job.finished_at is not None and since <= job.finished_at < until:
                ended.setdefault(_minute(job.finished_at), []).append(job)
        return [_minute_of(at, begun[at], ended.get(at, ())) for at in sorted(begun.keys() | ended.keys())]

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        with self._mutex:
            name = (job.key.platform_id, job.job_id)
            known = self._jobs.get(name, (None, None))[0]
            parking.check_reopen(known.status.value if known else "processing", self._copies.get(job.job_id))
            if known is None or name in self._reopened:
                return False
            archived = self._conversations[known.key]
            said = [turn for turn, _, job_id in archived.turns if job_id == job.job_id and turn.role == "user"]
            ids = [id_ for id_, job_id in archived.settled.items() if job_id == job.job_id]
            messages = parking.reopened(
                [message.message_id for message in known.messages],
                [turn.content for turn in said],
                [turn.message_id for turn in said],
                ids,
            )
            archived.turns = [kept for kept in archived.turns if kept[2] != job.job_id or kept[0].role != "user"]
            archived.settled = {id_: by for id_, by in archived.settled.items() if by != job.job_id}
            held = parking.to_park(self._since_erased(job.key, messages), (), {}, job.job_id)
            archived.handoff.park(archived.settled, held, moved=True)
            self._reopened.add(name)
            self.audit.note(job.key.platform_id, entry)
            return True

    def conversation(self, key: ConversationKey) -> Conversation | None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None:
                return None
            held = tuple(kept.message.message_id for kept in archived.handoff.waiting(archived.settled))
            return Conversation(key, archived.bot_id, tuple(archived.turns), archived.handoff.human, held)

    def bot_of(self, key: ConversationKey) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return archived.bot_id if archived else None

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        with self._mutex:
            self._silence(self._conversations.setdefault(key, _Archived(bot_id)))

    def _silence(self, archived: _Archived) -> None:
        archived.handoff.human, archived.fence = True, archived.fence + 1
        archived.handoff.handoffs += 1

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        with self._mutex:
            archived = self._conversations.setdefault(key, _Archived(bot_id))
            sales = [(turn.message_id, turn.content) for turn, _, _ in archived.turns if turn.role == "sale"]
            new = parking.exchanges(said, lambda turn: parking.is_noted(turn, sales))
            for exchange in new:
                self._answered_by_human(key, archived, exchange.messages)
                archived.turns.append((exchange.sale, time.time(), None))
            if not new:
                return "known" if archived.handoff.human else "resumed"
            self._silence(archived)
            return "new"

    def _answered_by_human(self, key: ConversationKey, archived: _Archived, messages: tuple[Message, ...]) -> None:
        """Settle them under a job of their own, which ends as cancelled: the bot was not needed."""
        job_id, now = key.new_job_id(), time.time()
        open_, found = archived.handoff.answer(archived.settled, messages, job_id)
        if not open_:
            return
        job = Job(job_id, key, JobStatus.CANCELLED, open_, archived.bot_id, created_at=now, finished_at=now)
        archived.settle(job, open_)
        archived.cancelled.update(message.message_id for message in open_)
        self._put(job, None)
        for kept in found:
            if kept.job_id:
                self._link(replace(job, job_id=kept.job_id), job_id)

    def park(
        self, key: ConversationKey, messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any]
    ) -> ParkResult | None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None or not archived.handoff.human:
                return None
            live = [m for m in messages if not is_void_on_any_clock(self._erased_until(key), m.accepted_at)]
            return archived.handoff.park(
                archived.settled, parking.to_park(self._since_erased(key, live), context, resources)
            )

    def is_parked(self, key: ConversationKey, message_id: str) -> bool:
        with self._mutex:
            archived = self._conversations.get(key)
            held = archived.handoff.messages.values() if archived and archived.handoff.human else ()
            return any(message_id in kept.message.ids and not kept.answered_by for kept in held)

    def resume(self, key: ConversationKey) -> bool:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived:
                handoff = archived.handoff
                handoff.human = False
                handoff.messages = {id_: kept for id_, kept in handoff.messages.items() if not kept.answered_by}
            return archived is not None

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None or archived.handoff.human:
                return None
            waiting = archived.handoff.waiting(archived.settled)
            archived.handoff.messages = {kept.message.message_id: kept for kept in waiting}
            return ParkedMessages(archived.bot_id, archived.handoff.handoffs, waiting)

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None:
                return  # it was erased
            if archived.handoff.human or archived.handoff.handoffs != back.handoffs:
                return
            for kept in back.parked:
                if kept.job_id:
                    self._link(Job(kept.job_id, key, JobStatus.PENDING, (), back.bot_id), job_id)
                archived.handoff.messages.pop(kept.message.message_id, None)

    def to_unpark(self) -> list[ConversationKey]:
        with self._mutex:
            return [
                key
                for key, archived in self._conversations.items()
                if archived.handoff.messages and not archived.handoff.human
            ]

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        with self._mutex:
            if entry:
                self.audit.note(key.platform_id, entry)
            archived = self._conversations.pop(key, None)
            jobs = [job for job, _ in self._jobs.values() if job.key == key]
            for job in jobs:
                del self._jobs[key.platform_id, job.job_id]
            _, fence = self._erasures.get(key.name_hash, (0.0, 0))
            self._erasures[key.name_hash] = (
                time.time() + ERASURE_MARGIN,
                max(fence, archived.fence if archived else 0),
            )
            return Erased(archived is not None or bool(jobs), tuple(job.job_id for job in jobs))

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        with self._mutex:
            until = self._erased_until(key)
            return until if is_void(until, accepted_at) else None

    def _erased_until(self, key: ConversationKey) -> float | None:
        erasure = self._erasures.get(key.name_hash)
        return erasure[0] if erasure else None

    def _is_gone(self, job: Job, accepted_at: float, rule: Rule = is_void) -> bool:
        """Whether the job was erased: one that is there belongs to what has begun since."""
        known = (job.key.platform_id, job.job_id) in self._jobs
        return not known and rule(self._erased_until(job.key), accepted_at)

    def _since_erased(self, key: ConversationKey, messages: Sequence[Message]) -> list[Message]:
        """What is held counts as accepted after an erasure, though its margin may not be over."""
        until, _ = self._erasures.get(key.name_hash, (-math.inf, 0))
        return [replace(m, accepted_at=max(m.accepted_at, until + 0.001)) for m in messages]

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """Nothing is configured in memory: every bot but the default one is unknown."""
        return None

    def _conversation(self, job: Job) -> _Archived:
        return self._conversations.setdefault(job.key, _Archived(job.bot_id))

    def _note(self, job: Job) -> Job:
        """The job as archived; one that never got as far as a fence is noted, so that it can be linked or ended."""
        return self._jobs.setdefault((job.key.platform_id, job.job_id), (job.before_its_end(), None))[0]

    def _note_end(self, job: Job) -> None:
        """The end of the job's chain, where it is just a name: so that it can be linked, and ended."""
        self._note(replace(job, job_id=self._chain(job.key.platform_id, job.job_id)[-1], superseded_by=None))

    def _copy(self, job: Job, successor_id: str) -> None:
        """Where the successor's own chain leads into the job's, this one ends with a copy of the successor."""
        platform_id = job.key.platform_id
        chain = self._chain(platform_id, job.job_id)
        if any(successor_id in (id_, self._copies.get(id_)) for id_ in chain):
            return
        end, successor = self._jobs.get((platform_id, chain[-1])), self._jobs.get((platform_id, successor_id))
        if end and successor and successor[0].status.ended:
            copy_id = job.key.new_job_id()
            self._copies[copy_id] = successor_id
            self._put(replace(successor[0], job_id=copy_id, superseded_by=None), successor[1])
            self._put(replace(end[0], superseded_by=copy_id), end[1])

    def _end_settled(self, archived: _Archived, job: Job) -> None:
        """End those jobs of a chain that wait for a run, but of which no message is open any more."""
        for job_id in self._chain(job.key.platform_id, job.job_id):
            noted, _ = self._jobs.get((job.key.platform_id, job_id), (None, None))
            if noted and not any(archived.is_open(message) for message in noted.messages):
                self._cancel(noted)

    def _end_superseded(self, archived: _Archived, key: ConversationKey) -> None:
        """End the conversation's jobs that lead to another one and wait for a run that nobody needs any more."""
        for job, _ in list(self._jobs.values()):
            if job.key == key and job.superseded_by and not any(archived.is_open(m) for m in job.messages):
                self._cancel(job)

    def _link_promises(self, archived: _Archived, job: Job, running: str | None) -> None:
        """Let the other jobs that its messages were promised lead to the job that settled these, or that runs them."""
        for job_id, message_ids in job.promises.items():
            settled = [archived.settled[id_] for id_ in message_ids if id_ in archived.settled]
            answering = settled[-1] if settled else running
            if answering is None or answering == job_id:
                continue
            told = tuple(message for message in job.messages if message.message_id in message_ids)
            noted = self._note(Job(job_id, job.key, JobStatus.PROCESSING, told, job.bot_id, created_at=time.time()))
            self._promise(replace(noted, messages=told))
            self._note_end(noted)
            self._link(noted, answering)

    def _promise(self, job: Job) -> Job:
        """The job as archived, with what of these messages was promised it beside its own."""
        noted, own = self._note(job), {message.message_id for message in self._note(job).messages}
        beside = (message.message_id for message in job.messages if message.message_id not in own)
        promised = tuple(dict.fromkeys((*noted.promised, *beside)))
        return self._put(replace(noted, promised=promised), self._jobs[job.key.platform_id, job.job_id][1])

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

    def _running_successor(self, job: Job) -> str | None:
        """The run that goes on, or may, at the end of an ended job's chain."""
        platform_id = job.key.platform_id
        end_id = self._chain(platform_id, job.job_id)[-1]
        end = self._jobs.get((platform_id, end_id))
        return end_id if end and end_id != job.job_id and not end[0].status.ended else None

    def _link(self, job: Job, successor_id: str) -> str:
        """Link the end of the job's chain, unless that leads in a circle; returns what the chain ends with now."""
        platform_id = job.key.platform_id
        end_id = self._chain(platform_id, job.job_id)[-1]
        if (end := self._jobs.get((platform_id, end_id))) and end_id not in self._chain(platform_id, successor_id):
            self._put(replace(end[0], superseded_by=successor_id), end[1])
        return self._chain(platform_id, job.job_id)[-1]


def _minute(at: float) -> int:
    return int(at // 60) * 60


def _minute_of(at: int, created: int, ended: Sequence[Job]) -> Minute:
    by = Counter(job.status for job in ended if job.status is not JobStatus.CANCELLED or not job.superseded_by)
    spent = [job.finished_at - job.created_at for job in ended if job.finished_at and job.status == JobStatus.COMPLETED]
    # As Postgres counts, between the two neighbours; a single value has none.
    parts = quantiles(spent * 2 if len(spent) == 1 else spent, n=100, method="inclusive") if spent else None
    median, p95 = (parts[49], parts[94]) if parts else (None, None)
    completed, failed, cancelled = by[JobStatus.COMPLETED], by[JobStatus.FAILED], by[JobStatus.CANCELLED]
    return Minute(at, created, completed, failed, cancelled, median, p95)
