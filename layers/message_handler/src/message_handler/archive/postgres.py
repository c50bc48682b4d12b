"""The Postgres archive: the arbiter that issues fences and commits replies, and what is kept for good."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from pg8000.native import Connection

from message_handler.archive import parking, postgres_audit, postgres_handoff
from message_handler.archive.erasures import Rule, is_void, is_void_by_its_own_time, is_void_on_any_clock
from message_handler.archive.postgres_jobs import Values, end_values, job_values, key_values, numbered
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import job_from_json
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.drivers.combiner import ALONE, MOST, Alone, Combiner
from message_handler.drivers.postgres import Database, execute, transaction
from message_handler.drivers.postgres_errors import StatementRefused
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
from message_handler.protocol.line_documents import line_of, texts_of, with_texts

_UNIQUE_VIOLATION = "23505"


class PostgresArchive:
    """Commits under fences, keeps conversations, jobs and configuration.

    `together`: what threads ask at the same moment is one transaction. Only where no thread is ever interrupted.
    """

    name: Literal["postgres", "memory", "none"] = "postgres"

    def __init__(self, database: Database, *, together: bool = True) -> None:
        self._database = database
        most = MOST if together else 1
        self._fences = Combiner[Values, list[Any]](lambda jobs: self._together(jobs, _take_fences), most)
        self._commits = Combiner[Values, Committed | None](lambda jobs: self._together(jobs, _commit_jobs), most)

    @property
    def away(self) -> bool:
        return self._database.away

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def migrate(self) -> list[str]:
        return self._database.migrate()

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        values = job_values(job) | {"turns": turns, "drains": drain, "successor_id": successor_id}
        fence = _fence(job, self._fences.ask(values, job.key))
        if fence.erased_until is not None:
            self._database.run(
                lambda connection: execute(connection, values, "lock_conversation", "drop_empty_conversation")
            )
        if fence.number is not None or fence.erased_until is not None:
            return fence

        def end(connection: Connection) -> Fence:
            # That no run is permitted stays so: ended is ended, and settled is settled. But a human may just have
            # handed back.
            with transaction(connection):
                fence = _fence(job, execute(connection, numbered([values]), "take_fences")[0][1:])
                if fence.erased_until is not None:
                    execute(connection, values, "drop_empty_conversation")
                if fence.number is not None or fence.erased_until is not None:
                    return fence
                open_ = tuple(message for message in job.messages if message.message_id not in fence.settled)
                if fence.parked:
                    postgres_handoff.park(connection, job.key, fence.waiting, (), {}, moved=True)
                    postgres_handoff.park(
                        connection, job.key, open_, job.context, job.resources, job_id=job.job_id, moved=True
                    )
                execute(connection, values, "note_job", "note_promise")
                ended, successor = _job(connection, job), None
                assert ended is not None
                if open_ and not fence.parked:
                    # Nothing is linked behind a run: the worker that asks may have lost the lock to it (interrupt).
                    running = execute(connection, values, "running_successor")
                    successor = (running or execute(connection, values, "supersede_job", "chain_end"))[0][0]
                elif not open_ and job.messages and not ended.status.ended:
                    settled_by = fence.settled[job.messages[-1].message_id]
                    execute(connection, values | {"successor_id": settled_by}, "supersede_job")
                execute(connection, values, "end_job")
                held = fence.parked and bool(open_)
                return replace(fence, ended=_job(connection, job), successor_id=successor, parked=held)

        return self._database.run(end)

    def commit(self, job: Job, fence: int) -> Committed | None:
        values = end_values(job) | {"fence": fence}
        try:
            committed = self._commits.ask(values, job.key)
        except StatementRefused as refused:
            if refused.code != _UNIQUE_VIOLATION:
                raise
            return None
        if committed is None and self._database.execute(values, "was_committed")[0][0]:
            return Committed()
        return committed

    def _together[T](
        self, jobs: list[Values], work: Callable[[Connection, list[Values]], list[T | Alone]]
    ) -> list[T | Alone | Exception]:
        """The answer for each of the jobs, from one transaction.

        What can't be done of one is no other's concern: then each goes alone. Either nothing of all has happened, or
        it may be done again; and where Postgres is away, its breaker tells each of them so at once.
        """
        try:
            return list(self._database.run(lambda connection: work(connection, jobs)))
        except Exception:
            if len(jobs) == 1:
                raise
        return [ALONE] * len(jobs)

    def archive(self, job: Job) -> bool:
        values = job_values(job.before_its_end()) | {"successor_id": job.key.new_job_id()}

        def work(connection: Connection) -> bool:
            with transaction(connection):
                execute(connection, values, "lock_conversation")
                if is_void(_erased_until(connection, values), job.accepted_at):
                    execute(connection, values, "drop_empty_conversation")
                    return False
                settled = {row[0] for row in execute(connection, values, "settled_of")}
                open_ = tuple(message for message in job.messages if message.message_id not in settled)
                if not open_:
                    return False
                known, name = _job(connection, job), job.job_id
                if known and known.status.ended and execute(connection, values, "was_reopened")[0][0]:
                    return False
                if len(open_) < len(job.messages) or (known and known.status.ended):
                    name = execute(connection, values, "note_job", "supersede_job", "end_job", "chain_end")[0][0]
                end = end_values(replace(job, job_id=name, messages=open_), settled=settled) | {"run_id": job.job_id}
                execute(connection, numbered([end]), "end_jobs")
                return True

        return self._database.run(work)

    def cancel(self, job: Job) -> Verdict:
        values = job_values(job)
        newest = max((message.accepted_at for message in job.messages), default=math.inf)

        def work(connection: Connection) -> Verdict:
            with transaction(connection):
                if _is_gone(connection, job, newest, is_void_by_its_own_time):
                    return Verdict(replace(job, status=JobStatus.CANCELLED, finished_at=time.time()), True)
                until = _erased_until(connection, values)
                live = tuple(m for m in job.messages if not is_void(until, m.accepted_at))
                settled = {id_: (by, kind) for id_, by, kind in execute(connection, values, "settled_of")}
                open_ = tuple(m for m in live if m.message_id not in settled)
                if open_:
                    end = end_values(replace(job, status=JobStatus.CANCELLED, finished_at=None), open_, settled=settled)
                    execute(connection, numbered([end]), "end_jobs")
                ended = execute(connection, values, "note_job", "end_job", "end_settled", "job")[0][0]
                before = any(settled.get(m.message_id) == (job.job_id, "cancelled") for m in live)
                return Verdict(job_from_json(ended), bool(open_) or len(live) < len(job.messages) or before)

        return self._database.run(work)

    def interrupt(self, job: Job) -> None:
        values = job_values(job) | {"successor_id": job.superseded_by}

        def work(connection: Connection) -> None:
            with transaction(connection):
                if not _is_gone(connection, job, job.accepted_at):
                    execute(connection, values, "note_job", "interrupt_job")

        self._database.run(work)

    def raise_fence(self, key: ConversationKey) -> None:
        self._database.execute(key_values(key), "raise_fence")

    def supersede(self, job: Job, successor_id: str) -> None:
        values = job_values(job) | {"successor_id": successor_id, "copy_id": job.key.new_job_id()}

        def work(connection: Connection) -> None:
            with transaction(connection):
                if not _is_gone(connection, job, job.accepted_at):
                    link = ("note_job", "note_promise", "note_end", "supersede_job", "copy_successor")
                    execute(connection, values, *link, "end_settled")

        self._database.run(work)

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        rows = self._database.execute(key_values(key) | {"message_id": message_id}, "settled_by")
        return rows[0][0] if rows else None

    def settled(self, key: ConversationKey, message_ids: Sequence[str]) -> dict[str, Settled]:
        rows = self._database.execute(key_values(key) | {"ids": list(message_ids)}, "settled_of")
        return {message_id: Settled(job_id, kind) for message_id, job_id, kind in rows}

    def unfinished(self, *, most: int) -> list[Job]:
        return [job_from_json(row[0]) for row in self._database.execute({"most": most}, "unfinished_jobs")]

    def job(self, platform_id: str, job_id: str) -> Job | None:
        rows = self._database.execute({"platform_id": platform_id, "job_id": job_id}, "job")
        return job_from_json(rows[0][0]) if rows else None

    def jobs(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        created, job_id = behind or (None, None)
        values = {"platform_id": platform_id, "status": status, "conversation_id": conversation_id}
        rows = self._database.execute(values | {"created": created, "behind": job_id, "most": most}, "jobs")
        return [job_from_json(row[0]) for row in rows]

    def last_end(self, platform_id: str) -> float | None:
        ended: float | None = self._database.execute({"platform_id": platform_id}, "last_end")[0][0]
        return ended

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        rows = self._database.execute({"platform_id": platform_id, "since": since, "until": until}, "minutes")
        return [Minute(*row) for row in rows]

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        values = job_values(job)

        def work(connection: Connection) -> bool:
            with transaction(connection):
                rows = execute(connection, values, "lock_conversation", "job_to_reopen")
                status, copy_of, reopened, message_ids = rows[0] if rows else ("processing", None, False, ())
                parking.check_reopen(status, copy_of)
                if reopened:
                    return False
                ids, contents, given_ids = execute(connection, values, "reopen_job")[0]
                messages = parking.reopened(message_ids, contents or (), given_ids or (), ids or ())
                postgres_handoff.park(connection, job.key, messages, (), {}, job_id=job.job_id, moved=True)
                postgres_audit.note(connection, job.key.platform_id, entry)
                return True

        return self._database.run(work)

    def conversation(self, key: ConversationKey) -> Conversation | None:
        rows = self._database.execute(key_values(key), "conversation")
        if not rows:
            return None
        turns = [
            (Turn(role, content, message_id), said_at, job_id)
            for _, role, content, message_id, said_at, job_id, *_ in rows
            if role is not None
        ]
        return Conversation(key, rows[0][0], turns, handed_off=rows[0][6], parked=tuple(rows[0][7] or ()))

    def bot_of(self, key: ConversationKey) -> str | None:
        rows = self._database.execute(key_values(key), "bot_of")
        return rows[0][0] if rows else None

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        self._database.execute(key_values(key) | {"bot_id": bot_id}, "lock_conversation", "hand_off")

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        def work(connection: Connection) -> Noted:
            with transaction(connection):
                return postgres_handoff.note_sale(connection, key, bot_id, said)

        return self._database.run(work)

    def park(
        self, key: ConversationKey, messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any]
    ) -> ParkResult | None:
        def work(connection: Connection) -> ParkResult | None:
            with transaction(connection):
                if not postgres_handoff.handed_off(connection, key):
                    return None
                until = _erased_until(connection, key_values(key))
                live = [message for message in messages if not is_void_on_any_clock(until, message.accepted_at)]
                return postgres_handoff.park(connection, key, live, context, resources)

        return self._database.run(work)

    def is_parked(self, key: ConversationKey, message_id: str) -> bool:
        return bool(self._database.execute(key_values(key) | {"message_id": message_id}, "is_parked")[0][0])

    def resume(self, key: ConversationKey) -> bool:
        return bool(self._database.execute(key_values(key), "resume")[0][0])

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        def work(connection: Connection) -> ParkedMessages | None:
            with transaction(connection):
                return postgres_handoff.parked(connection, key)

        return self._database.run(work)

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                postgres_handoff.unparked(connection, key, back, job_id)

        self._database.run(work)

    def to_unpark(self) -> list[ConversationKey]:
        return [ConversationKey(*row) for row in self._database.execute({}, "to_unpark")]

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        values = key_values(key) | {"bot_id": "", "margin": ERASURE_MARGIN}
        statements = ["lock_conversation", "note_erasure", "erase_conversation"]
        if entry:
            values |= postgres_audit.values(key.platform_id, entry)
            statements.insert(0, "note_audit")
        found, job_ids = self._database.execute(values, *statements)[0]
        return Erased(found, tuple(job_ids))

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        until = self._database.run(lambda connection: _erased_until(connection, key_values(key)))
        return until if is_void(until, accepted_at) else None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        rows = self._database.execute({"platform_id": platform_id, "bot_id": bot_id}, "configuration")
        return rows[0][0] if rows else None


def _take_fences(connection: Connection, jobs: list[Values]) -> list[list[Any] | Alone]:
    """What `take_fences` found for each of the jobs. Of several, those go alone whose conversations are held."""
    rows = execute(connection, numbered(jobs), "take_fences")
    found = {number: row for number, *row in rows}
    return [found.get(number, ALONE) for number in range(len(jobs))]


def _commit_jobs(connection: Connection, jobs: list[Values]) -> list[Committed | Alone | None]:
    """What became of each of the jobs; None if it wasn't committed now. Of several, such a one goes alone."""
    committed = {number: Committed(told) for number, told in execute(connection, numbered(jobs), "commit_jobs")}
    return [committed.get(number, ALONE if len(jobs) > 1 else None) for number in range(len(jobs))]


def _fence(job: Job, row: list[Any]) -> Fence:
    """What `take_fences` found."""
    number, settled, newest, handed_off, erased, line, bot_id = row
    if erased is not None and job.accepted_at <= erased:
        return Fence(None, {}, erased_until=erased)
    own = {id_ for message in job.messages for id_ in message.ids}
    fields, settled_there = line or ({}, ())
    texts, told = (
        texts_of(fields),
        tuple(m for other in line_of(job.key, fields).jobs() for m in other.promised_messages),
    )
    waiting = tuple(
        message
        for message in with_texts(told, texts)
        if message.message_id not in settled_there
        and own.isdisjoint(message.ids)
        and (erased is None or message.accepted_at > erased)
    )
    turns = tuple(Turn(turn["role"], turn["content"], turn["message_id"]) for turn in newest or ())
    return Fence(number, settled or {}, turns, waiting=waiting, parked=handed_off, bot_id=bot_id)


def _is_gone(connection: Connection, job: Job, accepted_at: float, rule: Rule = is_void) -> bool:
    """Take the row lock; whether the job was erased, and nothing may be noted of it: what was accepted then is void.

    One that is there belongs to what has begun since.
    """
    values = job_values(job)
    gone = rule(_erased_until(connection, values, "lock_conversation"), accepted_at) and _job(connection, job) is None
    if gone:
        execute(connection, values, "drop_empty_conversation")
    return gone


def _erased_until(connection: Connection, values: Values, *before: str) -> float | None:
    """Until when what was accepted is void, once the statements `before` it have run; None where nothing was erased."""
    rows = execute(connection, values, *before, "erased_until")
    return float(rows[0][0]) if rows else None


def _job(connection: Connection, job: Job) -> Job | None:
    """A job as it is archived."""
    rows = execute(connection, {"platform_id": job.key.platform_id, "job_id": job.job_id}, "job")
    return job_from_json(rows[0][0]) if rows else None
