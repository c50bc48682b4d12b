"""The steps of a job in Postgres: what each reads and writes.

Each function needs an open transaction, except `take_fences` and `commit_jobs`: these are single statements.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from message_handler.archive import parking, postgres_audit, postgres_handoff, wordless
from message_handler.archive.erasures import Rule, is_void, is_void_by_its_own_time
from message_handler.archive.postgres_jobs import (
    Values,
    end_values,
    job_values,
    key_values,
    numbered,
    settled_in,
    turn_values,
)
from message_handler.archive.versions import (
    UNSENT,
    SaidTurn,
    SettledEdit,
    outcome_of,
    standing,
    versions_to_unsend,
    without_others,
)
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import as_text, job_from_json
from message_handler.domain.edits import named
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, base_id, is_edit
from message_handler.drivers.combiner import ALONE, Alone
from message_handler.drivers.postgres import execute
from message_handler.ports.archive import Committed, Fence, Settled, Unsent, Verdict
from message_handler.ports.audit import AuditEntry
from message_handler.protocol.line_documents import line_of, texts_of, with_texts

if TYPE_CHECKING:
    from pg8000.native import Connection


def take_fences(connection: Connection, jobs: list[Values]) -> list[list[Any] | Alone]:
    """The row that the statement `take_fences` returns for each of the jobs.

    Among several jobs, one whose conversation is locked elsewhere gets no row. It must go alone.
    """
    rows = execute(connection, numbered(jobs), "take_fences")
    found = {number: row for number, *row in rows}
    return [found.get(number, ALONE) for number in range(len(jobs))]


def commit_jobs(connection: Connection, jobs: list[Values]) -> list[Committed | Alone | None]:
    """The outcome for each of the jobs; None if it was not committed. Among several, such a job must go alone."""
    committed = {number: Committed(delivers) for number, delivers in execute(connection, numbered(jobs), "commit_jobs")}
    return [committed.get(number, ALONE if len(jobs) > 1 else None) for number in range(len(jobs))]


def fence_of(job: Job, row: list[Any]) -> Fence:
    """The fence that a row of `take_fences` describes."""
    number, settled, newest, handed_off, erased, line, bot_id, danger = row
    if erased is not None and job.accepted_at <= erased:
        return Fence(None, {}, erased_until=erased)
    fields, settled_there = line or ({}, None)
    texts = texts_of(fields)
    others = [
        message for other in line_of(job.key, fields).jobs() for message in with_texts(other.promised_messages, texts)
    ]
    stand = standing(job.messages, _settled_of(settled))
    waiting = _drained(job, others, _settled_of(settled_there), erased)
    turns = tuple(Turn(**turn) for turn in newest or ())
    return Fence(
        number,
        stand.settled,
        turns,
        waiting=waiting,
        parked=handed_off,
        bot_id=bot_id,
        edits=stand.edits,
        raised=danger,
    )


def _drained(
    job: Job, waiting: Sequence[Message], settled: dict[str, Settled], erased_until: float | None
) -> tuple[Message, ...]:
    """Those of the messages that wait in the Postgres tier that need an answer and are not the job's."""
    own = {id_ for message in job.messages for id_ in message.ids}
    return tuple(
        message
        for message in named(waiting, job.messages, settled, again=True)
        if message.message_id not in settled
        and own.isdisjoint(message.ids)
        and (erased_until is None or message.accepted_at > erased_until)
    )


def _settled_of(column: dict[str, list[Any]] | None) -> dict[str, Settled]:
    """What is settled, from a column of `take_fences`."""
    return settled_in((id_, *end) for id_, end in (column or {}).items())


def fence_or_end(connection: Connection, job: Job, values: Values) -> Fence:
    """Take the fence if it is permitted by now. If not, end the job, and link or park its open messages.

    An ended job stays ended, and a settled message settled. But since the fence was refused, a human may have given the
    conversation back to the bot.
    """
    fence = fence_of(job, execute(connection, numbered([values]), "take_fences")[0][1:])
    if fence.erased_until is not None:
        execute(connection, values, "drop_empty_conversation")
    if fence.number is not None or fence.erased_until is not None:
        return fence
    # A message that is an edit of a settled one is noted as such, and linked as such.
    messages = tuple(replace(m, message_id=fence.edits.get(m.message_id, m.message_id)) for m in job.messages)
    job = replace(job, messages=messages)
    values = job_values(job) | {"job_ids": [job.job_id], "successor_id": values["successor_id"]}
    open_ = tuple(message for message in messages if message.message_id not in fence.settled)
    if fence.parked:
        postgres_handoff.park(connection, job.key, fence.waiting, (), {}, moved=True)
        postgres_handoff.park(connection, job.key, open_, job.context, job.resources, job_id=job.job_id, moved=True)
    execute(connection, values, "link_promises", "note_job", "note_promise")
    noted, successor = archived_job(connection, job), None
    assert noted is not None
    if open_ and not fence.parked:
        # A successor that runs gets no further link. It may have interrupted the worker that asks.
        running = execute(connection, values, "running_successor")
        successor = (running or execute(connection, values, "supersede_jobs", "chain_end"))[0][0]
    elif not open_ and job.messages and not noted.status.ended:
        settled_by = fence.settled[job.messages[-1].message_id]
        execute(connection, values | {"successor_id": settled_by}, "supersede_jobs")
    execute(connection, values, "end_job")
    ended, waits_parked = archived_job(connection, job), fence.parked and bool(open_)
    return replace(fence, ended=ended, successor_id=successor, parked=waits_parked)


def archive(connection: Connection, job: Job, spare_id: str) -> bool:
    """See `Archive.archive`. `spare_id` is for a successor, if one is needed."""
    values = job_values(job.before_its_end()) | {"job_ids": [job.job_id], "successor_id": spare_id}
    execute(connection, values, "lock_conversation")
    if is_void(erased_until(connection, values), job.accepted_at):
        execute(connection, values, "drop_empty_conversation")
        return False
    settled = settled_in(execute(connection, values, "settled_of"))
    open_ = standing(job.messages, settled, ended=True).open
    if not open_:
        return False
    known, job_id = archived_job(connection, job), job.job_id
    if known and known.status.ended and execute(connection, values, "was_reopened")[0][0]:
        return False
    if len(open_) < len(job.messages) or (known and known.status.ended):
        job_id = execute(connection, values, "note_job", "supersede_jobs", "end_job", "chain_end")[0][0]
    end = end_values(replace(job, job_id=job_id, messages=open_), settled=settled) | {"run_id": job.job_id}
    execute(connection, numbered([end]), "end_jobs")
    return True


def cancel(connection: Connection, job: Job) -> Verdict:
    """See `Archive.cancel`."""
    values = job_values(job)
    newest = max((message.accepted_at for message in job.messages), default=math.inf)
    if was_erased(connection, job, newest, is_void_by_its_own_time):
        return Verdict(replace(job, status=JobStatus.CANCELLED, finished_at=time.time()), True)
    until = erased_until(connection, values)
    live = tuple(m for m in job.messages if not is_void(until, m.accepted_at))
    settled = settled_in(execute(connection, values, "settled_of"))
    open_ = standing(live, settled).open
    if open_:
        end = end_values(replace(job, status=JobStatus.CANCELLED, finished_at=None), open_, settled=settled)
        execute(connection, numbered([end]), "end_jobs")
    ended = execute(connection, values, "note_job", "end_job", "end_settled", "job")[0][0]
    cancelled_before = any(settled.get(m.message_id, ())[:2] == (job.job_id, "cancelled") for m in live)
    return Verdict(job_from_json(ended), bool(open_) or len(live) < len(job.messages) or cancelled_before)


def unsend(connection: Connection, key: ConversationKey, message_id: str, waiting: Sequence[Job], at: float) -> Unsent:
    """See `Archive.unsend`."""
    values = key_values(key) | {"message_id": message_id, "bot_id": waiting[0].bot_id if waiting else ""}
    values["bot_id"] = execute(connection, values, "lock_conversation", "bot_of")[0][0] or ""
    until, parked = erased_until(connection, values), postgres_handoff.parked_messages(connection, key)
    versions = versions_to_unsend(message_id, waiting, parked, until)
    ids = [id_ for version in versions for id_ in version.possible_ids]
    settled = settled_in(execute(connection, values | {"ids": ids}, "settled_versions"))
    stand = standing(versions, settled)
    open_ = stand.open
    job = Job(key.new_job_id(), key, JobStatus.CANCELLED, open_, values["bot_id"], created_at=time.time())
    if open_:
        execute(connection, numbered([end_values(job, settled=settled)]), "end_jobs")
        execute(connection, values | {"message_ids": list(stand.open_ids)}, "drop_parked")
        for left in without_others(waiting, stand.open_ids):
            supersede(connection, left, job.job_id, key.new_job_id())
    said = execute(connection, values | {"job_id": job.job_id if open_ else None}, "mark_unsent")
    outcome = outcome_of(open_, settled, said=bool(said))
    if outcome == "unknown":
        execute(connection, values, "drop_new_conversation")
        return Unsent(outcome)
    unsent = SettledEdit(message_id, "", UNSENT, at)
    execute(connection, values | {"edits": as_text([unsent._asdict()])}, "note_edits")
    settled_by = job.job_id if open_ else next((end.job_id for end in settled.values()), key.new_job_id())
    is_told = tell_unsent(connection, key, settled_by, message_id)
    return Unsent(outcome, job.job_id if open_ else None, stand.open_ids, is_told)


def interrupt(connection: Connection, job: Job) -> None:
    """See `Archive.interrupt`."""
    if not was_erased(connection, job, job.accepted_at):
        execute(connection, job_values(job) | {"successor_id": job.superseded_by}, "note_job", "interrupt_job")


def supersede(connection: Connection, job: Job, successor_id: str, copy_id: str) -> None:
    """See `Archive.supersede`. `copy_id` is for a copy of the successor, if one is needed."""
    if not was_erased(connection, job, job.accepted_at):
        values = job_values(job) | {"job_ids": [job.job_id], "successor_id": successor_id, "copy_id": copy_id}
        link = ("note_job", "note_promise", "note_end", "supersede_jobs", "copy_successor")
        execute(connection, values, *link, "end_settled")


def tell_unsent(connection: Connection, key: ConversationKey, job_id: str, message_id: str) -> bool:
    """Have the platform told, once, that a patient has unsent a message. `message_id` is the platform's.

    The caller holds the row lock. Returns whether there is a new delivery, which the caller wakes after the commit.
    """
    values = key_values(key) | {"job_id": job_id, "message_id": message_id}
    return bool(execute(connection, values, "note_unsent"))


def keep_wordless(connection: Connection, key: ConversationKey, bot_id: str, messages: Sequence[Message]) -> None:
    """See `Archive.keep_wordless`."""
    values = key_values(key) | {"bot_id": bot_id, "ids": [message.message_id for message in messages]}
    until = erased_until(connection, values, "lock_conversation")
    known = {row[0] for row in execute(connection, values, "known_user_ids")}
    last = next((Turn(*row) for row in execute(connection, values, "last_turn")), None)
    kept = wordless.to_keep(messages, known, last, until)
    said = turn_values([SaidTurn(wordless.turn_of(message)) for message in kept])
    values |= said | {"job_id": None, "times": [message.accepted_at for message in kept]}
    execute(connection, values, "add_turns" if kept else "drop_empty_conversation")


def reopen(connection: Connection, job: Job, entry: AuditEntry) -> bool:
    """See `Archive.reopen`."""
    values = job_values(job)
    rows = execute(connection, values, "lock_conversation", "job_to_reopen")
    status, copy_of, was_reopened, message_ids = rows[0] if rows else ("processing", None, False, ())
    parking.check_reopen(status, copy_of)
    if was_reopened:
        return False
    ids, contents, given_ids, earlier = execute(connection, values, "reopen_job")[0]
    if bases := [base_id(id_) for id_ in message_ids if is_edit(id_)]:
        execute(connection, values | {"bases": bases}, "restore_versions")
    messages = parking.reopened(message_ids, contents or (), given_ids or (), earlier or (), ids or (), time.time())
    postgres_handoff.park(connection, job.key, messages, (), {}, job_id=job.job_id, moved=True)
    postgres_audit.note(connection, job.key.platform_id, entry)
    return True


def was_erased(connection: Connection, job: Job, accepted_at: float, rule: Rule = is_void) -> bool:
    """Take the row lock, and return whether the job was erased. Nothing of an erased job may be noted.

    An archived job was not: it began after the erasure.
    """
    values = job_values(job)
    until = erased_until(connection, values, "lock_conversation")
    erased = rule(until, accepted_at) and archived_job(connection, job) is None
    if erased:
        execute(connection, values, "drop_empty_conversation")
    return erased


def erased_until(connection: Connection, values: Values, *before: str) -> float | None:
    """The time until which accepted messages are void; None if nothing was erased. Runs `before` first."""
    rows = execute(connection, values, *before, "erased_until")
    return float(rows[0][0]) if rows else None


def archived_job(connection: Connection, job: Job) -> Job | None:
    """The job as it is archived."""
    rows = execute(connection, {"platform_id": job.key.platform_id, "job_id": job.job_id}, "job")
    return job_from_json(rows[0][0]) if rows else None
