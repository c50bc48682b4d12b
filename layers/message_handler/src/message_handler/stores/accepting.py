"""A tier's first step: a request's messages join a conversation's line, each once, and may be taken back.

As in `steps.py` these are plain functions over the line; `lua/accept.lua` and `lua/undo.lua` are their twins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from message_handler.consolidation import answered_before, fold, match, with_alias
from message_handler.errors import HandedOff, OtherBot, Rejected
from message_handler.models import Accepted, DoubleTexting, Job, JobStatus, Message, Request
from message_handler.settings import Settings
from message_handler.stores.line import Ended, Line


def accept(
    line: Line, request: Request, *, job_id: str, lock_id: str | None, now: float, settings: Settings
) -> Accepted:
    """Take each of the request's messages in, once. `lock_id` None: a worker accepts a record again.

    accept m0 ── creates J and takes the lock      accept m1 ── joins J, or if J is sealed creates the next

    Or as the bot's policy has it while J runs: m1 waits for the next job, J is interrupted, or m1 is rejected.
    """
    again = lock_id is None
    policy = request.double_texting
    if again and policy != "enqueue":
        # It was accepted once: it is not rejected any more, and interrupts nobody who began later.
        policy = "consolidate"
    if line.bot_id and line.bot_id != request.bot_id and not again:
        raise OtherBot(line.bot_id)
    incoming, waiting = request.messages, line.waiting()
    answered = 0 if again or line.last is None else answered_before(line.last[2], incoming)
    if line.handed_off and not again:
        raise HandedOff(answered, (message.message_id for message in waiting))
    line.bot_id = line.bot_id or request.bot_id
    found = [None] * answered + match(waiting, incoming[answered:])
    ended = _ended(line, incoming, found, answered, now - settings.job_ttl)
    new = [index is None and was is None for index, was in zip(found, ended, strict=True)]
    own_index, own_ended = found[-1], ended[-1]
    if own_ended:
        return Accepted(own_ended.job_id, own_ended.message_id, None, True, own_ended.consolidated_messages, ())

    if policy == "reject" and line.current:
        if new[-1]:
            raise Rejected(line.current.job_id)
        new = [False] * len(new)
    target = _target(line, policy, settings)
    if own_index is not None and (own_index >= _size(line.current)) != (target == "next"):
        # The record is deleted when its own message is settled: nothing may ride on it into another job.
        new = [False] * len(new)
    created, interrupted = line.current is None, None
    if any(new):
        if policy == "interrupt" and target == "current":
            interrupted = _interrupt(line, job_id, now)
        _take_in(line, target, request, found, new, job_id, now, debounced=not again)
    locked = created or interrupted is not None
    if locked:
        line.lock_id, line.acquired_at, line.hold, line.progress = lock_id or "", now, None, None
        line.due_at, line.wakes = now + settings.wake_after, 0
    canonical = [
        message.message_id if index is None else waiting[index].message_id
        for message, index in zip(incoming, found, strict=True)
    ]
    posted = tuple(i for i, at, is_new in zip(canonical, found, new, strict=True) if is_new or at is not None)
    for message, index in zip(incoming, found, strict=True):
        if index is not None and (message.given or again):
            _learn_alias(line, waiting[index].message_id, message)
    for message_id in posted:
        line.posts[message_id] = line.posts.get(message_id, 0) + 1

    assert line.current is not None
    own = line.current if _holds(line.current, canonical[-1]) else line.next
    assert own is not None
    pending = line.current.messages if own is line.current else line.waiting()
    lock = lock_id if locked else None
    return Accepted(own.job_id, canonical[-1], lock, not new[-1], len(own.messages), pending, posted, interrupted)


def _ended(
    line: Line, incoming: tuple[Message, ...], found: list[int | None], answered: int, not_before: float
) -> list[Ended | None]:
    """For each incoming message that does not wait: what is remembered of it from an ended job."""
    result: list[Ended | None] = []
    for index, message in enumerate(incoming):
        ids = (line.last[1][index],) if line.last and index < answered else message.ids
        remembered = (line.ended[id_] for id_ in ids if id_ in line.ended and found[index] is None)
        result.append(next((was for was in remembered if was.ended_at > not_before), None))
    return result


def _size(job: Job | None) -> int:
    return len(job.messages) if job else 0


def _target(line: Line, policy: DoubleTexting, settings: Settings) -> Literal["current", "next"]:
    """Which job a new message joins or creates."""
    job = line.current
    if job is None:
        return "current"
    # Never join while a next exists: a newcomer in a reopened job would overtake those that wait (counterexample 7).
    open_ = not job.sealed and line.next is None
    running = job.status is JobStatus.PROCESSING and policy != "enqueue"
    restartable = running and job.restarts < settings.max_restarts
    return "current" if open_ and (job.status is JobStatus.PENDING or restartable) else "next"


def _interrupt(line: Line, job_id: str, now: float) -> Job | None:
    """Give the messages of the job that runs to a new one; returns how the old one ended.

    Its worker learns that the lock is another's, and the archive that the job has ended. Not one that may have been
    committed by an earlier worker: the new message joins it, and the fence tells them apart.
    """
    job = line.current
    if job is None or job.status is not JobStatus.PROCESSING or job.maybe_committed:
        return None
    line.current = replace(
        job,
        job_id=job_id,
        status=JobStatus.PENDING,
        restarts=job.restarts + 1,
        attempts=0,
        created_at=now,
        ready_at=0.0,
        started_at=None,
    )
    return replace(job, status=JobStatus.CANCELLED, finished_at=now, superseded_by=job_id)


def _take_in(
    line: Line,
    target: Literal["current", "next"],
    request: Request,
    found: list[int | None],
    new: list[bool],
    job_id: str,
    now: float,
    *,
    debounced: bool,
) -> None:
    """Put the new messages into the job that will answer them, with the longest history and the newest resources."""
    job = line.current if target == "current" else line.next
    offset = 0 if target == "current" else _size(line.current)
    local = [index - offset if index is not None and 0 <= index - offset < _size(job) else None for index in found]
    job = job or Job(
        job_id, line.key, JobStatus.PENDING, (), line.bot_id, created_at=now, correlation_id=request.correlation_id
    )
    if debounced and request.debounce:
        # Until the patient has been quiet for so long, and not for ever.
        job = replace(job, ready_at=min(now + request.debounce, job.created_at + request.debounce_max))
    job = replace(
        job,
        messages=fold(job.messages, request.messages, local, new),
        context=request.context if len(request.context) >= len(job.context) else job.context,
        resources=request.resources or job.resources,
    )
    if target == "current":
        line.current = job
    else:
        line.next = job


def _holds(job: Job, message_id: str) -> bool:
    return any(message.message_id == message_id for message in job.messages)


def _learn_alias(line: Line, message_id: str, incoming: Message) -> None:
    """Not for a sealed job: its reply may have been committed under the ids that it had."""
    for name in ("current", "next"):
        job: Job | None = getattr(line, name)
        if job and not job.sealed:
            messages = tuple(with_alias(m, incoming) if m.message_id == message_id else m for m in job.messages)
            setattr(line, name, replace(job, messages=messages))


def undo(line: Line, message_ids: Iterable[str]) -> None:
    """Take back an accept whose record was refused, unless somebody else posted the same (counterexample 11)."""
    for message_id in message_ids:
        posts = line.posts.get(message_id, 0)
        job = next((j for j in line.jobs() if _holds(j, message_id)), None)
        if job is None:
            continue
        if posts > 1 or job.sealed:
            line.posts[message_id] = posts - 1
            continue
        line.posts.pop(message_id, None)
        rest = replace(job, messages=tuple(m for m in job.messages if m.message_id != message_id))
        if job is line.next:
            line.next = rest if rest.messages else None
        elif rest.messages:
            line.current = rest
        else:
            line.promote(line.next, line.due_at)
            if line.current is None and line.last is None:
                line.bot_id = ""
