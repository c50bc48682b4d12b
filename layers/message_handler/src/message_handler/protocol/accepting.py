"""A tier's first step: a request's messages join a conversation's line, each once, and may be taken back.

As in `steps.py` these are plain functions over the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from message_handler.domain.consolidation import answered_before, fold, match, with_alias
from message_handler.domain.double_texting import POLICIES, Policy
from message_handler.domain.errors import HandedOff, OtherBot, Rejected, TooManyWaiting
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.protocol.line import AnsweredMessage, Line
from message_handler.protocol.results import AcceptAgain, Accepted
from message_handler.settings import Settings


def accept(
    line: Line, request: Request, *, job_id: str, lock_id: str | None, now: float, settings: Settings
) -> Accepted:
    """Take each of the request's messages in, once. `lock_id` None: a worker accepts a record again.

    accept m0 ── creates J and takes the lock      accept m1 ── joins J, or if J is sealed creates the next

    Or as the bot's policy has it while J runs: m1 waits for the next job, J is interrupted, or m1 is rejected.
    Raises OtherBot, HandedOff, Rejected or TooManyWaiting; then nothing has changed.
    """
    again = lock_id is None
    policy = POLICIES[request.double_texting]
    if again:  # guard: step re-accept
        # It was accepted once: it is not rejected any more, and interrupts nobody who began later.
        policy = replace(policy, rejects=False, interrupts=False)
    if line.bot_id and line.bot_id != request.bot_id and not again:  # guard: step accept, another bot
        raise OtherBot(line.bot_id)
    incoming, waiting = request.messages, line.waiting()
    answered = 0 if again or line.last is None else answered_before(line.last.digests, incoming)
    if line.handed_off and not again:  # guard: step hand off, accept
        raise HandedOff(answered, (message.message_id for message in waiting))
    found = [None] * answered + match(waiting, incoming[answered:])  # guard: invariant 5 -> [None] * len(incoming)
    ended = _ended(line, incoming, found, answered, now - settings.job_ttl)
    new = [index is None and was is None for index, was in zip(found, ended, strict=True)]
    own_index, own_ended = found[-1], ended[-1]
    if own_ended:
        return Accepted(own_ended.job_id, own_ended.message_id, None, True, own_ended.consolidated_messages, ())

    if policy.rejects and line.current:  # guard: policy reject
        if new[-1]:
            raise Rejected(line.current.job_id)
        new = [False] * len(new)
    if (
        request.bounded  # guard: max_waiting -> False
        and waiting
        and any(new)
        and len(waiting) + sum(new) > settings.max_waiting
    ):
        raise TooManyWaiting(settings.max_waiting, math.ceil(settings.ai_timeout))
    target = _target(line, policy, settings)
    if own_index is not None and (own_index >= _size(line.current)) != (target == "next"):  # guard: invariant 2, rides
        # The record is deleted when its own message is settled: nothing may ride on it into another job.
        new = [False] * len(new)
    line.bot_id = line.bot_id or request.bot_id
    created, interrupted = line.current is None, None
    if any(new):
        if policy.interrupts and target == "current":
            interrupted = _interrupt(line, job_id, now)
        _take_in(line, target, request, found, new, job_id, now, debounced=not again)
    locked = created or interrupted is not None
    if locked:
        line.lock_id, line.acquired_at, line.lease, line.progress = lock_id or "", now, None, None
        line.due_at, line.wakes = now + settings.wake_after, 0
    canonical = [
        message.message_id if index is None else waiting[index].message_id
        for message, index in zip(incoming, found, strict=True)
    ]
    posted = tuple(i for i, at, is_new in zip(canonical, found, new, strict=True) if is_new or at is not None)
    for message_id, index in zip(canonical, found, strict=True):
        if index is not None:
            line.posts[message_id] = line.posts.get(message_id, 1) + 1  # guard: counterexample 11, accept
    _learn_ids(line, [(waiting[at], m) for m, at in zip(incoming, found, strict=True) if at is not None], again=again)

    assert line.current is not None
    own = line.current if _holds(line.current, canonical[-1]) else line.next
    assert own is not None
    pending = tuple(
        message for job in line.jobs() for message in job.promised_messages if own is not line.current or job is own
    )
    lock = lock_id if locked else None
    return Accepted(own.job_id, canonical[-1], lock, not new[-1], len(own.messages), pending, posted, interrupted)


def _ended(
    line: Line, incoming: tuple[Message, ...], found: list[int | None], answered: int, not_before: float
) -> list[AnsweredMessage | None]:
    """For each incoming message that does not wait: what is remembered of it from an ended job."""
    result: list[AnsweredMessage | None] = []
    for index, message in enumerate(incoming):
        remembered = [line.answered[id_] for id_ in message.ids if id_ in line.answered and found[index] is None]
        if line.last and index < answered:
            remembered = [line.last.answered(index)]
        known = next((was for was in remembered if was.ended_at > not_before), None)  # guard: invariant 5 -> None
        result.append(known)
    return result


def _size(job: Job | None) -> int:
    return len(job.messages) if job else 0


def _target(line: Line, policy: Policy, settings: Settings) -> Literal["current", "next"]:
    """Which job a new message joins or creates."""
    job = line.current
    if job is None:
        return "current"
    if job.sealed:  # guard: step accept, a closed door
        return "next"
    # A newcomer in a reopened job would overtake those that wait for the next (counterexample 7).
    if line.next:  # guard: counterexample 7, accept
        return "next"
    if job.status is JobStatus.PENDING:
        return "current"
    if job.restarts >= settings.max_restarts:  # guard: invariant 8, accept
        return "next"
    return "current" if job.status is JobStatus.PROCESSING and policy.joins else "next"


def _interrupt(line: Line, job_id: str, now: float) -> Job | None:
    """Give the messages of the job that runs to a new one; returns how the old one ended.

    Its worker learns that the lock is another's, and the archive that the job has ended. Not one that may have been
    committed by an earlier worker: the new message joins it, and the fence tells them apart.
    """
    job = line.current
    if job is None or job.status is not JobStatus.PROCESSING:
        return None
    if job.maybe_committed:  # guard: counterexample 10, interrupt
        return None
    line.current = replace(
        job,
        job_id=job_id,
        status=JobStatus.PENDING,
        restarts=job.restarts + 1,  # guard: invariant 8, interrupt
        attempts=0,
        created_at=now,
        ready_at=0.0,
        typing_at=0.0,
        started_at=None,
        messages=job.promised_messages,  # guard: invariant 2, promised before an interruption
    )
    ended = replace(job, status=JobStatus.CANCELLED, finished_at=now, superseded_by=job_id)
    line.interrupted, line.ends = job.job_id, (*line.ends, ended)
    return ended


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
    messages = fold(job.messages if job else (), request.messages, local, new)
    typing_at = _typing_since(job, target, now)
    # Until the patient has been quiet for so long, and not for ever.
    ready_at = min(
        now + request.debounce,
        typing_at + request.debounce_max,  # guard: debounce_max_ms -> math.inf
    )
    debounces = debounced and request.debounce > 0
    if job is None:
        job = Job(
            job_id,
            line.key,
            JobStatus.PENDING,
            messages,
            line.bot_id,
            request.context,
            request.resources,
            created_at=now,
            ready_at=ready_at if debounces else 0.0,
            typing_at=typing_at if debounces else 0.0,
            correlation_id=request.correlation_id,
        )
    else:
        changes: dict[str, Any] = {"messages": messages}
        if debounces:
            changes |= {"ready_at": ready_at, "typing_at": typing_at}
        if len(request.context) >= job.context_turns:
            changes |= {"context": request.context, "context_ref": None}
        if request.resources:
            changes |= {"resources": request.resources, "resources_ref": None}
        job = replace(job, **changes)
    if target == "current":
        line.current = job
    else:
        line.next = job


def _typing_since(job: Job | None, target: Literal["current", "next"], now: float) -> float:
    """When the patient began to type what comes now."""
    if job is None or not job.typing_at:
        return now
    # What waits for another job's end waits anyway.
    if target == "next":  # guard: debounce_max_ms, the next job
        return now
    # A run that has begun asked for all that came before: its newcomers are a burst of their own.
    if job.attempts > 0 and job.ready_at <= now:  # guard: debounce_max_ms, a run that has begun
        return now
    return job.typing_at


def _holds(job: Job, message_id: str) -> bool:
    return any(message.message_id == message_id for message in job.messages)


def _learn_ids(line: Line, pairs: list[tuple[Message, Message]], *, again: bool) -> None:
    """Let known messages answer to further ids, which the platform gives or a record brings: (known, incoming).

    And let them know further jobs that they were promised. Not in a sealed job: its reply may have been committed under
    the ids that it had.
    """
    learned: dict[str, Message] = {}
    job_of = {message.message_id: job.job_id for job in line.jobs() for message in job.messages}
    for known, incoming in pairs:
        id_ = known.message_id
        if (incoming.given or again) and not (set(incoming.ids) <= set(known.ids) and known.given >= incoming.given):
            learned[id_] = with_alias(learned.get(id_, known), incoming)
        if new := set(incoming.promised) - {*known.promised, job_of.get(id_)}:  # guard: invariant 2, a record's promise
            learned[id_] = learned.get(id_, known).with_promises(*sorted(new))
    for name in ("current", "next") if learned else ():
        job: Job | None = getattr(line, name)
        if job is None:
            continue
        if job.sealed:  # guard: step accept, a sealed job learns no ids
            continue
        messages = tuple(learned.get(message.message_id, message) for message in job.messages)
        setattr(line, name, replace(job, messages=messages))


def accept_again(line: Line, again: AcceptAgain, *, now: float, settings: Settings) -> None:
    """Accept what a record says, in case the tier forgot: under the promised name, if no other job has it or had it."""
    name = again.job_id
    if (
        name in line.taken  # guard: invariant 10, the name of an ended job
        or any(job.job_id == name for job in (*line.jobs(), *line.ends))  # guard: invariant 10, the name of a live job
    ):
        name = again.spare_id
    accept(line, again.request, job_id=name, lock_id=None, now=now, settings=settings)


def undo(line: Line, message_ids: Iterable[str]) -> None:
    """Take back an accept whose record was refused, unless somebody else posted the same (counterexample 11)."""
    job_of = {message.message_id: job for job in line.jobs() for message in job.messages}
    gone = set()
    for message_id in message_ids:
        job, posts = job_of.get(message_id), line.posts.pop(message_id, 1)
        if job is None:
            continue
        if (
            posts > 1  # guard: counterexample 11, undo
            or job.sealed  # guard: step undo, a sealed job
        ):
            line.posts[message_id] = posts - 1
        else:
            gone.add(message_id)
    if not gone:
        return
    current, following = (_without(job, gone) for job in (line.current, line.next))
    if current:
        line.current, line.next = current, following
        return
    line.promote(following, line.due_at)
    if line.current is None and line.last is None:
        line.bot_id = ""


def _without(job: Job | None, message_ids: set[str]) -> Job | None:
    """The job without these messages, if it has any of them; None if nothing is left of it."""
    kept = tuple(m for m in job.messages if m.message_id not in message_ids) if job else ()
    if job is None or len(kept) == len(job.messages):
        return job
    return replace(job, messages=kept) if kept else None
