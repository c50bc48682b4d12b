"""The first step of the protocol: a request's messages join a conversation's line, each once. Undo takes them out.

As in `steps.py`, these are pure functions over the line. docs/protocol.md ("Taking messages in") has their rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from message_handler.domain.consolidation import answered_before, fold, match, with_alias
from message_handler.domain.double_texting import POLICIES, Policy
from message_handler.domain.edits import named
from message_handler.domain.errors import HandedOff, OtherBot, Rejected, TooManyWaiting
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request, base_id, edit_id, is_derived, is_edit
from message_handler.protocol.line import AnsweredMessage, Line
from message_handler.protocol.results import AcceptAgain, Accepted
from message_handler.settings import Settings


def accept(
    line: Line, request: Request, *, job_id: str, lock_id: str | None, now: float, settings: Settings
) -> Accepted:
    """Put each of the request's messages into the line, once. `lock_id` is None if a worker accepts a record again.

    accept m0 ── creates J and takes the lock      accept m1 ── joins J, or creates the next job if J is sealed

    While J runs, the bot's policy may decide otherwise: m1 waits for the next job, J is interrupted, or m1 is rejected.
    `job_id` and `lock_id` are used if a job is created. `now` is in Unix seconds.
    Raises OtherBot, HandedOff, Rejected or TooManyWaiting. Then nothing has changed. HandedOff is also raised for a new
    message that a human is to answer: to park it is to accept it.
    """
    again = lock_id is None
    # A record may name a policy that this release does not know: a later release may have been rolled back.
    policy = POLICIES.get(request.double_texting, POLICIES["consolidate"])
    if again:  # guard: step re-accept
        # The record was accepted once. So it is not rejected now, and interrupts no job that began later.
        policy = replace(policy, rejects=False, interrupts=False)
    if line.bot_id and line.bot_id != request.bot_id and not again:  # guard: step accept, another bot
        raise OtherBot(line.bot_id)

    # Which messages are known? `found` are positions among the waiting ones; `answered` is what is remembered.
    waiting, not_before = line.waiting(), now - settings.job_ttl
    ended = {id_: was for id_, was in line.answered.items() if was.ended_at > not_before}
    incoming = named(request.messages, waiting, ended, again=again)
    repeated = 0 if again or line.last_answered is None else answered_before(line.last_answered.digests, incoming)
    if line.handed_off and not again:  # guard: step hand off, accept
        raise HandedOff(repeated, (message.message_id for message in waiting))
    found = [None] * repeated + match(waiting, incoming[repeated:])  # guard: invariant 5 -> [None] * len(incoming)
    answered = _answered(line, incoming, found, repeated, not_before)
    new = [index is None and known is None for index, known in zip(found, answered, strict=True)]
    own_index, own = found[-1], answered[-1]
    if own and not (again and any(new)):  # guard: invariant 1, others of an answered request -> own
        _remember_versions(line, incoming[-1:], answered[-1:], [False])
        return _ended(line, own, incoming[-1])

    if any(
        is_new and message.message_id in request.for_a_human
        for is_new, message in zip(new, request.messages, strict=True)
    ):
        raise HandedOff(repeated, (message.message_id for message in waiting))

    # Which of the new messages may join, and which job?
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
        # The record is deleted when its own message is settled. So it may not carry new messages into another job.
        new = [False] * len(new)

    # They join.
    line.bot_id = line.bot_id or request.bot_id
    _remember_versions(line, incoming, answered, new)
    created, interrupted = line.current is None, None
    if any(new):
        if policy.interrupts and target == "current":
            interrupted = _interrupt(line, job_id, now)
        _add(line, target, replace(request, messages=incoming), found, new, job_id, now, debounced=not again)
    locked = created or interrupted is not None
    if locked:
        line.lock_id, line.acquired_at, line.lease, line.progress = lock_id or "", now, None, None
        line.due_at, line.wakes = now + settings.wake_after, 0
    known_as = [
        message.message_id if index is None else waiting[index].message_id
        for message, index in zip(incoming, found, strict=True)
    ]
    for message_id, index in zip(known_as, found, strict=True):
        if index is not None:
            line.posts[message_id] = line.posts.get(message_id, 1) + 1  # guard: counterexample 11, accept
    repeated_pairs = [(waiting[at], message) for message, at in zip(incoming, found, strict=True) if at is not None]
    _note_repetitions(line, repeated_pairs, again=again)

    # What does the caller have to send and to answer?
    assert line.current is not None
    if own:
        return _ended(line, own, incoming[-1])
    own_job = line.current if _has(line.current, known_as[-1]) else line.next
    assert own_job is not None
    ahead = (own_job,) if own_job is line.current else line.jobs()
    return Accepted(
        own_job.job_id,
        known_as[-1],
        lock_id if locked else None,
        duplicate=not new[-1],
        consolidated_messages=own_job.consolidated_messages,
        pending=tuple(message for job in ahead for message in job.promised_messages),
        posted=tuple(i for i, at, is_new in zip(known_as, found, new, strict=True) if is_new or at is not None),
        interrupted=interrupted,
        edited=new[-1] and is_edit(known_as[-1]),
    )


def _ended(line: Line, own: AnsweredMessage, message: Message) -> Accepted:
    """The answer to a request whose own message has ended."""
    recognised = all(id_ in line.answered for id_ in message.ids)
    return Accepted(own.job_id, own.message_id, None, True, own.consolidated_messages, (), recognised=recognised)


def _answered(
    line: Line, incoming: tuple[Message, ...], found: list[int | None], repeated: int, not_before: float
) -> list[AnsweredMessage | None]:
    """For each incoming message: what is remembered of it from an ended job; None if nothing is, or if it waits.

    The last answered job has answered the first `repeated` messages. Ends up to `not_before` (Unix seconds) are
    forgotten.
    """
    result: list[AnsweredMessage | None] = []
    for index, message in enumerate(incoming):
        remembered = [line.answered[id_] for id_ in message.ids if id_ in line.answered and found[index] is None]
        if line.last_answered and index < repeated:
            remembered.append(line.last_answered.answered(index))
        known = next((was for was in remembered if was.ended_at > not_before), None)  # guard: invariant 5 -> None
        result.append(known)
    return result


def _remember_versions(
    line: Line, incoming: tuple[Message, ...], answered: list[AnsweredMessage | None], new: list[bool]
) -> None:
    """Keep the ended versions of edited messages known by their words, because a new version ends under their id.

    Words that an edit replaced before they were known are known from now on.
    """
    for message, known, is_new in zip(incoming, answered, new, strict=True):
        base = base_id(message.message_id)
        replaced = line.answered.get(base)
        if is_new and replaced and base != message.message_id:
            line.answered.setdefault(edit_id(base, replaced.words), replaced)
        elif known:
            for alias in filter(is_edit, message.aliases):
                line.answered.setdefault(alias, known)


def _size(job: Job | None) -> int:
    return len(job.messages) if job else 0


def _target(line: Line, policy: Policy, settings: Settings) -> Literal["current", "next"]:
    """Which of the line's two jobs a new message joins or creates."""
    job = line.current
    if job is None:
        return "current"
    if job.sealed:  # guard: step accept, a closed door
        return "next"
    # In a job that was reopened, a new message would overtake those that wait for the next job (counterexample 7).
    if line.next:  # guard: counterexample 7, accept
        return "next"
    if job.status is JobStatus.PENDING:
        return "current"
    if job.restarts >= settings.max_restarts:  # guard: invariant 8, accept
        return "next"
    return "current" if job.status is JobStatus.PROCESSING and policy.joins else "next"


def _interrupt(line: Line, job_id: str, now: float) -> Job | None:
    """Give the messages of the running job to a new job. Returns the running job as it ended, or None if it goes on.

    Its worker learns at its next look that the lock is lost; intake tells the archive that the job has ended. A job
    that an earlier worker may have committed goes on: the new message joins it, and the fence tells what is settled.
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


def _add(
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
    """Put the new messages into the job that will answer them. It keeps the longest context and newest resources."""
    job = line.current if target == "current" else line.next
    offset = 0 if target == "current" else _size(line.current)
    local = [index - offset if index is not None and 0 <= index - offset < _size(job) else None for index in found]
    messages = fold(job.messages if job else (), request.messages, local, new)
    typing_at = _typing_since(job, target, now)
    # A run waits until the patient has been quiet for the debounce, but no longer than the bound for one burst.
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
    """When the burst of messages that the new one belongs to began (Unix seconds)."""
    if job is None or not job.typing_at:
        return now
    # A message for the next job waits for the current job's end anyway.
    if target == "next":  # guard: debounce_max_ms, the next job
        return now
    # A run that has begun has asked with all earlier messages: what comes now is a burst of its own.
    if job.attempts > 0 and job.ready_at <= now:  # guard: debounce_max_ms, a run that has begun
        return now
    return job.typing_at


def _has(job: Job, message_id: str) -> bool:
    return any(message.message_id == message_id for message in job.messages)


def _note_repetitions(line: Line, pairs: list[tuple[Message, Message]], *, again: bool) -> None:
    """Add to known messages the further ids, and the further promised jobs, that their repetitions bring.

    `pairs` are (known, incoming) messages. Further ids count if they are the platform's or derived from its ids, or if
    a record brings them (`again`). A sealed job's messages stay as they are: its reply may have been committed under
    the ids that they have.
    """
    learned: dict[str, Message] = {}
    job_of = {message.message_id: job.job_id for job in line.jobs() for message in job.messages}
    for known, incoming in pairs:
        id_ = known.message_id
        brings_ids = incoming.given or again or is_derived(incoming.message_id)
        if brings_ids and not (set(incoming.ids) <= set(known.ids) and known.given >= incoming.given):
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
    """Accept what a record says, in case the tier has forgotten it.

    A job that is created gets the promised name `again.job_id`. If another job has or had that name, the created job is
    named `again.spare_id`.
    """
    name = again.job_id
    if (
        name in line.taken  # guard: invariant 10, the name of an ended job
        or any(job.job_id == name for job in (*line.jobs(), *line.ends))  # guard: invariant 10, the name of a live job
    ):
        name = again.spare_id
    accept(line, again.request, job_id=name, lock_id=None, now=now, settings=settings)


def undo(line: Line, message_ids: Iterable[str]) -> None:
    """Take the messages of an accept out again, because the queue refused its record.

    A message that another request posted too stays (counterexample 11), and so does one in a sealed job.
    """
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
    if line.current is None and line.last_answered is None:
        line.bot_id = ""


def _without(job: Job | None, message_ids: set[str]) -> Job | None:
    """The job without these messages; None if no message is left."""
    rest = tuple(m for m in job.messages if m.message_id not in message_ids) if job else ()
    if job is None or len(rest) == len(job.messages):
        return job
    return replace(job, messages=rest) if rest else None
