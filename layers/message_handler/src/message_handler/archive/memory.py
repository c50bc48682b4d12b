"""The archive of a single process. It lives and ends with the process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from message_handler.archive import parking, wordless
from message_handler.archive.erasures import Rule, is_void, is_void_by_its_own_time, is_void_on_any_clock
from message_handler.archive.memory_audit import MemoryAudit
from message_handler.archive.memory_handoff import Handoff
from message_handler.archive.memory_jobs import MemoryJobs
from message_handler.archive.memory_raised import MemoryRaised
from message_handler.archive.versions import (
    UNSENT,
    SettledEdit,
    edits_of,
    outcome_of,
    standing,
    turns_of,
    versions_to_unsend,
    without_others,
)
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.handoff import ParkedMessage, ParkedMessages, ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request, base_id, edit_id, is_edit
from message_handler.domain.raised import Raised
from message_handler.ports.archive import (
    ERASURE_MARGIN,
    ArchivedTurn,
    Committed,
    Conversation,
    Erased,
    Fence,
    Minute,
    Noted,
    Settled,
    Unsent,
    Verdict,
)
from message_handler.ports.audit import AuditEntry

#: How a message ends with its job, where that has another name.
_KINDS = {JobStatus.COMPLETED: "answered"}


@dataclass(slots=True)
class _Archived:
    """One conversation as the archive keeps it.

    `settled`: how each message id was settled. `turns`: oldest first.
    """

    bot_id: str
    fence: int = 0
    settled: dict[str, Settled] = field(default_factory=dict)
    turns: list[ArchivedTurn] = field(default_factory=list)
    handoff: Handoff = field(default_factory=Handoff)

    def has_open(self, job: Job) -> bool:
        """Whether a message of the job is open."""
        return any(message.message_id not in self.settled for message in job.messages)

    def settle(self, job: Job, messages: Sequence[Message], *, late: bool = False) -> None:
        """Settle messages under a job, and add its turns.

        `late`: turns that were said after the job ended may be here already. They stay behind its turns.
        """
        self.settle_without_turns(job, messages)
        at = job.finished_at or 0.0
        said = [
            ArchivedTurn(turn, at, job.job_id, edited_at, earlier=texts)
            for turn, edited_at, texts in turns_of(messages)
        ]
        if job.reply is not None:
            said.append(ArchivedTurn(Turn("assistant", job.reply), at, job.job_id))
        later = (index for index, turn in enumerate(self.turns) if late and turn.created_at > at)
        place = next(later, len(self.turns))
        self.turns[place:place] = said

    def settle_without_turns(self, job: Job, messages: Sequence[Message]) -> None:
        kind = _KINDS.get(job.status, job.status.value)
        for message in messages:
            for id_ in message.ids:
                self.settled.setdefault(id_, Settled(job.job_id, kind, message.words_digest, message.accepted_at))
        self.note_edits(edits_of(messages))

    def mark_unsent(self, message_id: str, job_id: str, now: float) -> bool:
        """Mark the turns of an unsent message, also those that the job `job_id` has archived. False: it has none."""
        unsent = [
            turn.turn.role == "user" and (turn.turn.message_id == message_id or turn.job_id == job_id)
            for turn in self.turns
        ]
        self.turns = [
            turn._replace(unsent_at=turn.unsent_at or now) if is_unsent else turn
            for turn, is_unsent in zip(self.turns, unsent, strict=True)
        ]
        return any(unsent)

    def note_edits(self, edits: Sequence[SettledEdit]) -> None:
        """See `note_edits_v1` in `sql/functions`."""
        for edit in edits:
            before = self.settled.get(edit.base) or self.settled.get(edit.message_id)
            if before is None:
                continue
            if before.words:
                self.settled.setdefault(edit_id(edit.base, before.words), before)
            newest = before._replace(words=edit.words, accepted_at=edit.accepted_at)
            self.settled[edit.base] = newest if before.accepted_at <= edit.accepted_at else before

    def restore_versions(self, bases: set[str]) -> None:
        """See the statement `restore_versions`."""
        for base in bases & self.settled.keys():
            left = [end for id_, end in self.settled.items() if is_edit(id_) and base_id(id_) == base]
            if left:
                newest = max(left, key=lambda end: end.accepted_at)
                self.settled[base] = self.settled[base]._replace(words=newest.words, accepted_at=newest.accepted_at)


class MemoryArchive:
    """Keeps the promises of `Archive` within one process, for as long as it lives."""

    name: Literal["postgres", "memory", "none"] = "memory"
    away = False

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._conversations: dict[ConversationKey, _Archived] = {}
        self._jobs = MemoryJobs()
        #: Jobs whose messages were reopened, by tenant and id.
        self._reopened: set[tuple[str, str]] = set()
        self.audit = MemoryAudit()
        self.raised = MemoryRaised(self.audit, self._jobs)
        #: By `name_hash`: the time until which accepted messages are void, and the highest fence before the erasure.
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
            newest = tuple(
                replace(said.turn, unsent=said.unsent_at is not None, said_at=said.created_at)
                for said in (archived.turns[-turns:] if turns else ())
            )
            stand = standing(job.messages, archived.settled)
            job, open_, settled = replace(job, messages=stand.messages), stand.open, stand.settled
            known = self._jobs.note(job)
            if archived.handoff.human:
                parked = parking.to_park(open_, job.context, job.resources, job.job_id)
                archived.handoff.park(archived.settled, parked, moved=True)
            elif not known.status.ended and len(open_) == len(job.messages) and not stand.edits:
                archived.fence += 1
                started_at, superseded_by = known.started_at or job.started_at, known.superseded_by
                run = replace(job, status=JobStatus.PROCESSING, started_at=started_at, superseded_by=superseded_by)
                self._jobs.put(run, archived.fence)
                self._link_promises(archived, job, job.job_id)
                return Fence(archived.fence, settled, newest, raised=self.raised.level_of(job.key))
            self._link_promises(archived, job, None)
            known = self._jobs.note_promise(job)
            end_id, waits_parked = None, archived.handoff.human and bool(open_)
            if open_ and not waits_parked:
                # A successor that runs gets no further link. It may have interrupted the worker that asks.
                end_id = self._jobs.running_successor(job) or self._jobs.link(job, successor_id)
            elif job.messages and not open_ and not known.status.ended:
                self._jobs.link(job, settled[job.messages[-1].message_id])
            ended = self._jobs.cancel(known)
            return Fence(None, settled, newest, ended, end_id, parked=waits_parked, edits=stand.edits)

    def commit(self, job: Job, fence: int) -> Committed | None:
        with self._mutex:
            archived = self._conversations.get(job.key, _Archived(job.bot_id))
            known = self._jobs.get(job.key.platform_id, job.job_id)
            if known is None or known.status.ended:
                same_end = known is not None and known.status is job.status and fence == self._jobs.fence_of(job)
                return Committed() if same_end else None
            ids = [id_ for message in job.messages for id_ in message.ids]
            if fence != archived.fence or any(id_ in archived.settled for id_ in ids):
                return None
            archived.settle(job, job.messages)
            self._jobs.put(replace(job, superseded_by=known.superseded_by, promised=known.promised), fence)
            self._link_promises(archived, job, job.job_id)
            self._end_superseded(archived, job.key)
            return Committed()

    def archive(self, job: Job) -> bool:
        with self._mutex:
            if is_void(self._erased_until(job.key), job.accepted_at):
                return False
            archived = self._conversation(job)
            open_ = standing(job.messages, archived.settled, ended=True).open
            if not open_:
                return False
            if (job.key.platform_id, job.job_id) in self._reopened:
                return False
            known = self._jobs.note(job.before_its_end())
            archived.fence += 1
            end = replace(job, messages=open_, unarchived=False, superseded_by=known.superseded_by)
            if known.status.ended or len(open_) < len(job.messages):
                end = replace(end, job_id=self._jobs.link(job, job.key.new_job_id()), superseded_by=None)
                self._jobs.cancel(known)
            elif known.started_at:
                end = replace(end, started_at=known.started_at)
            archived.settle(end, open_, late=True)
            self._jobs.put(end, archived.fence)
            self._link_promises(archived, end, end.job_id)
            self._end_superseded(archived, job.key)
            return True

    def interrupt(self, job: Job) -> None:
        with self._mutex:
            if self._was_erased(job, job.accepted_at):
                return
            self._conversation(job)
            noted = self._jobs.note(job)
            if not noted.status.ended:
                self._jobs.put(replace(noted, superseded_by=noted.superseded_by or job.superseded_by), None)
                self._jobs.cancel(job)

    def cancel(self, job: Job) -> Verdict:
        newest = max((message.accepted_at for message in job.messages), default=math.inf)
        with self._mutex:
            if self._was_erased(job, newest, is_void_by_its_own_time):
                return Verdict(replace(job, status=JobStatus.CANCELLED, finished_at=time.time()), True)
            archived = self._conversation(job)
            live = tuple(m for m in job.messages if not is_void(self._erased_until(job.key), m.accepted_at))
            job = replace(job, messages=tuple(m if m in live else replace(m, content="") for m in job.messages))
            self._jobs.note(job)
            open_ = standing(live, archived.settled).open
            if open_:
                archived.fence += 1
                archived.settle(replace(job, status=JobStatus.CANCELLED, finished_at=time.time()), open_)
            cancelled = [archived.settled.get(m.message_id, ())[:2] == (job.job_id, "cancelled") for m in live]
            ended = self._jobs.cancel(job)
            self._end_settled(archived, job)
            return Verdict(ended, bool(open_) or len(live) < len(job.messages) or any(cancelled))

    def unsend(self, key: ConversationKey, message_id: str, waiting: Sequence[Job], *, at: float) -> Unsent:
        with self._mutex:
            known = self._conversations.get(key)
            archived = known or _Archived(waiting[0].bot_id if waiting else "")
            parked = list(archived.handoff.messages.values())
            versions = versions_to_unsend(message_id, waiting, parked, self._erased_until(key))
            ids = {id_ for version in versions for id_ in version.possible_ids}
            settled = {id_: end for id_, end in archived.settled.items() if base_id(id_) == message_id or id_ in ids}
            stand, now = standing(versions, settled), time.time()
            open_ = stand.open
            job = Job(
                key.new_job_id(), key, JobStatus.CANCELLED, open_, archived.bot_id, created_at=now, finished_at=now
            )
            if open_:
                self._conversations[key] = archived
                archived.fence += 1
                archived.settle(job, open_)
                self._jobs.put(job, archived.fence)
                for id_ in stand.open_ids:
                    archived.handoff.messages.pop(id_, None)
                for left in without_others(waiting, stand.open_ids):
                    self._supersede(archived, left, job.job_id)
            archived.note_edits([SettledEdit(message_id, "", UNSENT, at)])
            said = archived.mark_unsent(message_id, job.job_id, now)
            outcome = outcome_of(open_, settled, said=said)
            return Unsent(outcome, job.job_id if open_ else None, stand.open_ids)

    def raise_fence(self, key: ConversationKey) -> None:
        with self._mutex:
            if key in self._conversations:
                self._conversations[key].fence += 1

    def supersede(self, job: Job, successor_id: str) -> None:
        with self._mutex:
            if self._was_erased(job, job.accepted_at):
                return
            self._supersede(self._conversation(job), job, successor_id)

    def _supersede(self, archived: _Archived, job: Job, successor_id: str) -> None:
        self._jobs.note_promise(job)
        self._jobs.note_end(job)
        self._jobs.link(job, successor_id)
        self._jobs.copy(job, successor_id)
        self._end_settled(archived, job)

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        end = self.settled(key, [message_id]).get(message_id)
        return end.job_id if end else None

    def settled(self, key: ConversationKey, message_ids: Iterable[str]) -> dict[str, Settled]:
        with self._mutex:
            archived = self._conversations.get(key)
            settled = archived.settled if archived else {}
            ids = set(message_ids) & settled.keys()
            ids |= {edit_id(id_, settled[id_].words) for id_ in ids} & settled.keys()
            return {id_: settled[id_] for id_ in ids}

    def settle_also(self, key: ConversationKey, message_ids: Sequence[str], end: Settled) -> None:
        with self._mutex:
            if archived := self._conversations.get(key):
                archived.settled = dict.fromkeys(message_ids, end) | archived.settled

    def unfinished(self, *, most: int) -> list[Job]:
        with self._mutex:
            running = [job for job in self._jobs if not job.status.ended]
            return [job for job in running if job.messages and not self._conversations[job.key].has_open(job)][:most]

    def job(self, platform_id: str, job_id: str) -> Job | None:
        with self._mutex:
            return self._jobs.get(platform_id, job_id)

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
            return self._jobs.listed(
                platform_id, status=status, conversation_id=conversation_id, behind=behind, most=most
            )

    def last_end(self, platform_id: str) -> float | None:
        with self._mutex:
            return self._jobs.last_end(platform_id)

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        with self._mutex:
            return self._jobs.minutes(platform_id, since=since, until=until)

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        with self._mutex:
            name = (job.key.platform_id, job.job_id)
            known = self._jobs.get(*name)
            parking.check_reopen(known.status.value if known else "processing", self._jobs.copy_of(job.job_id))
            if known is None or name in self._reopened:
                return False
            archived = self._conversations[known.key]
            said = [said for said in archived.turns if said.job_id == job.job_id and said.turn.role == "user"]
            ids = [id_ for id_, end in archived.settled.items() if end[:2] == (job.job_id, "failed")]
            messages = parking.reopened(
                [message.message_id for message in known.messages],
                [said.turn.content for said in said],
                [said.turn.message_id for said in said],
                [said.earlier for said in said],
                ids,
                time.time(),
            )
            archived.turns = [kept for kept in archived.turns if kept not in said]
            archived.settled = {id_: end for id_, end in archived.settled.items() if id_ not in ids}
            archived.restore_versions({base_id(m.message_id) for m in known.messages if is_edit(m.message_id)})
            self._jobs.put(replace(known, findings=()), self._jobs.fence_of(known))
            parked = parking.to_park(self._since_erased(job.key, messages), (), {}, job.job_id)
            archived.handoff.park(archived.settled, parked, moved=True)
            self._reopened.add(name)
            self.audit.note(job.key.platform_id, entry)
            return True

    def conversation(self, key: ConversationKey) -> Conversation | None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None:
                return None
            waiting = tuple(parked.message.message_id for parked in archived.handoff.waiting(archived.settled))
            return Conversation(key, archived.bot_id, tuple(archived.turns), archived.handoff.human, waiting)

    def bot_of(self, key: ConversationKey) -> str | None:
        with self._mutex:
            archived = self._conversations.get(key)
            return (archived.bot_id or None) if archived else None

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        with self._mutex:
            self._silence(self._made(key, bot_id))

    def _silence(self, archived: _Archived) -> None:
        archived.handoff.human, archived.fence = True, archived.fence + 1
        archived.handoff.handoffs += 1

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        with self._mutex:
            archived = self._made(key, bot_id)
            sales = [(turn.message_id, turn.content) for turn, *_ in archived.turns if turn.role == "sale"]
            new = parking.exchanges(said, parking.noted_among(sales))
            if not new:
                return "known" if archived.handoff.human else "resumed"
            job_id, now = key.new_job_id(), time.time()
            answered = archived.handoff.answer(archived.settled, new, job_id)
            if answered.messages:
                job = Job(job_id, key, JobStatus.CANCELLED, answered.messages, archived.bot_id, created_at=now)
                self._answered_by_human(archived, replace(job, finished_at=now), answered.parked)
            archived.turns += [
                ArchivedTurn(turn, now, job_id if turn.role == "user" else None, edited_at, earlier=texts)
                for turn, edited_at, texts in answered.said
            ]
            self._silence(archived)
            return "new"

    def _answered_by_human(self, archived: _Archived, job: Job, parked: Sequence[ParkedMessage]) -> None:
        """End the job under which messages are settled that a human has answered. Some were `parked`."""
        archived.settle_without_turns(job, job.messages)
        self._jobs.put(job, None)
        for each in parked:
            if each.job_id:
                self._jobs.link(replace(job, job_id=each.job_id), job.job_id)

    def park(self, request: Request, messages: Sequence[Message]) -> ParkResult | None:
        key = request.key
        with self._mutex:
            archived = self._conversations.get(key) or _Archived(request.bot_id)
            human = archived.handoff.human
            live = [m for m in messages if not is_void_on_any_clock(self._erased_until(key), m.accepted_at)]
            parked = parking.to_park(self._since_erased(key, live), request.context, request.resources)
            result = archived.handoff.park(archived.settled, parked, for_a_human=None if human else request.for_a_human)
            if result and not human:
                self._conversations[key] = archived
                self._silence(self._made(key, request.bot_id))
            return result

    def keep_wordless(self, key: ConversationKey, bot_id: str, messages: Sequence[Message]) -> None:
        with self._mutex:
            archived = self._conversations.get(key) or _Archived(bot_id)
            said = {turn.message_id for turn, *_ in archived.turns if turn.role == "user"}
            parked = {id_ for each in archived.handoff.messages.values() for id_ in each.message.ids}
            last = archived.turns[-1].turn if archived.turns else None
            known = said | parked | archived.settled.keys()
            kept = wordless.to_keep(messages, known, last, self._erased_until(key))
            archived.turns += [ArchivedTurn(wordless.turn_of(message), message.accepted_at) for message in kept]
            if kept:
                self._conversations[key] = archived
                self._made(key, bot_id)

    def note_raised(self, raised: Raised) -> bool:
        key = raised.key
        with self._mutex:
            known = self._jobs.get(key.platform_id, raised.job_id)
            if known or is_void(self._erased_until(key), raised.raised_at):
                return False
            archived = self._conversations.setdefault(key, _Archived(""))
            own = replace(raised, bot_id=archived.bot_id or raised.bot_id)
            self.raised.add(own)
            self._jobs.put(own.job, None)
            return True

    def parked_under(self, key: ConversationKey, message_ids: Iterable[str]) -> tuple[Message, ...]:
        wanted = set(message_ids)
        with self._mutex:
            archived = self._conversations.get(key)
            parked = archived.handoff.messages.values() if archived and archived.handoff.human else ()
            waiting = (each.message for each in parked if not each.answered_by)
            return tuple(message for message in waiting if not wanted.isdisjoint(message.ids))

    def resume(self, key: ConversationKey) -> bool:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived:
                handoff = archived.handoff
                handoff.human = False
                handoff.messages = {id_: parked for id_, parked in handoff.messages.items() if not parked.answered_by}
            return archived is not None

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None or archived.handoff.human:
                return None
            waiting = archived.handoff.waiting(archived.settled)
            archived.handoff.messages = {parked.message.message_id: parked for parked in waiting}
            return ParkedMessages(archived.bot_id, archived.handoff.handoffs, waiting)

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        with self._mutex:
            archived = self._conversations.get(key)
            if archived is None:
                return  # the conversation was erased
            if archived.handoff.human or archived.handoff.handoffs != back.handoffs:
                return
            for parked in back.parked:
                if parked.job_id:
                    self._jobs.link(Job(parked.job_id, key, JobStatus.PENDING, (), back.bot_id), job_id)
                archived.handoff.messages.pop(parked.message.message_id, None)

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
            jobs = self._jobs.delete(key)
            self.raised.forget(key)
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

    def _was_erased(self, job: Job, accepted_at: float, rule: Rule = is_void) -> bool:
        """Whether the job was erased. An archived job was not: it began after the erasure."""
        known = self._jobs.get(job.key.platform_id, job.job_id)
        return not known and rule(self._erased_until(job.key), accepted_at)

    def _since_erased(self, key: ConversationKey, messages: Sequence[Message]) -> list[Message]:
        """The messages, dated after the last erasure, because what is parked now must not be void."""
        until, _ = self._erasures.get(key.name_hash, (-math.inf, 0))
        return [replace(m, accepted_at=max(m.accepted_at, until + 0.001)) for m in messages]

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """None: nothing is configured in memory. Every bot but the default one is unknown."""
        return None

    def _conversation(self, job: Job) -> _Archived:
        return self._made(job.key, job.bot_id)

    def _made(self, key: ConversationKey, bot_id: str) -> _Archived:
        """The conversation, made if it is missing. One that a notice has made belongs to no bot until now."""
        archived = self._conversations.setdefault(key, _Archived(bot_id))
        archived.bot_id = archived.bot_id or bot_id
        return archived

    def _end_settled(self, archived: _Archived, job: Job) -> None:
        """End the jobs of a chain that wait for a run, but have no open message any more."""
        for job_id in self._jobs.chain(job):
            noted = self._jobs.get(job.key.platform_id, job_id)
            if noted and not archived.has_open(noted):
                self._jobs.cancel(noted)

    def _end_superseded(self, archived: _Archived, key: ConversationKey) -> None:
        """End the jobs of a conversation that have a successor and no open message: they need no run any more."""
        for job in self._jobs.of(key):
            if job.superseded_by and not archived.has_open(job):
                self._jobs.cancel(job)

    def _link_promises(self, archived: _Archived, job: Job, running: str | None) -> None:
        """Link the jobs that the messages were promised to the job that settled the messages, or else to `running`."""
        for job_id, message_ids in job.promises.items():
            settled = [archived.settled[id_].job_id for id_ in message_ids if id_ in archived.settled]
            answering = settled[-1] if settled else running
            if answering is None or answering == job_id:
                continue
            promised = tuple(message for message in job.messages if message.message_id in message_ids)
            unknown = Job(job_id, job.key, JobStatus.PROCESSING, promised, job.bot_id, created_at=time.time())
            noted = self._jobs.note(unknown)
            self._jobs.note_promise(replace(noted, messages=promised))
            self._jobs.note_end(noted)
            self._jobs.link(noted, answering)
