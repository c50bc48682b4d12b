"""The tier's steps on one conversation's line, as plain functions over its state.

This is the protocol to read. The memory tier runs these functions under a mutex; the Redis tier runs the
same steps as scripts (`lua/`), and the contract tests hold the two together. A step either does all that
it says or raises before it has changed anything.

A line is what waits for answers in one conversation: `current`, the job that is or will be run, and
`next`, the job of those messages that came too late for it. A worker's hold on the line is `hold`;
between a job's creation and its claim the line is locked, but held by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from message_handler.consolidation import answered_before, fold, match, with_alias
from message_handler.errors import HandedOff, OtherBot, Rejected, Unavailable
from message_handler.models import (
    Accepted,
    Claim,
    ConversationKey,
    DoubleTexting,
    Job,
    JobStatus,
    Lock,
    Message,
    Progress,
    Refused,
    Request,
)
from message_handler.settings import Settings
from message_handler.stores.port import Finished, Held, Sealed, TierName

_log = logging.getLogger(__name__)

#: An end that the archive lacks is remembered as long as SQS keeps the record that carries it.
UNARCHIVED_TTL_SECONDS = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Hold:
    """A worker's claim. Times are Unix seconds."""

    claimed_at: float
    heartbeat_at: float


@dataclass(frozen=True, slots=True)
class Ended:
    """What is remembered of an ended job's message: a late duplicate of it starts nothing.

    For an hour from `ended_at` on; that lies ahead where the end waits to be archived.
    """

    job_id: str
    message_id: str
    ended_at: float
    consolidated_messages: int


@dataclass(slots=True)
class Line:
    """One conversation's work in progress, and what a duplicate is recognised by for an hour after it."""

    key: ConversationKey
    bot_id: str = ""
    current: Job | None = None
    next: Job | None = None
    lock_id: str = ""
    acquired_at: float = 0.0
    hold: Hold | None = None
    progress: Progress | None = None
    due_at: float = 0.0
    wakes: int = 0
    #: A human answers, as far as this tier knows: Postgres has the truth.
    handed_off: bool = False
    posts: dict[str, int] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)
    #: The job answered last: its id, its messages' ids and the digests of their contents, in order.
    last: tuple[str, tuple[str, ...], tuple[str, ...]] | None = None

    def waiting(self) -> tuple[Message, ...]:
        return tuple(m for job in self.jobs() for m in job.messages)

    def jobs(self) -> tuple[Job, ...]:
        return tuple(job for job in (self.current, self.next) if job)

    def job(self, job_id: str) -> Job | None:
        """One of its jobs as readers see it: with the progress of the run that goes on."""
        found = next((job for job in self.jobs() if job.job_id == job_id), None)
        return replace(found, progress=self.progress) if found and found is self.current else found

    def locked_by(self, lock_id: str) -> bool:
        """Whether `lock_id` is its taker's or its holder's; "" stands for nobody."""
        return self.current is not None and lock_id != "" and self.lock_id == lock_id

    def lock(self, tier: TierName, settings: Settings) -> Lock | None:
        if self.current is None:
            return None
        beat = self.hold.heartbeat_at if self.hold else None
        return Lock(
            self.key,
            self.current.job_id,
            acquired_at=self.acquired_at,
            heartbeat_at=beat,
            expires_at=(beat or self.acquired_at) + settings.lock_ttl,
            consolidated_messages=len(self.current.messages),
            tier=tier,
        )


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
            _promote(line, line.next, line.due_at)
            if line.current is None and line.last is None:
                line.bot_id = ""


def claim(line: Line, lock_id: str, *, now: float, settings: Settings) -> Claim | Refused | None:
    """Take the head of the line, whatever job woke us (counterexample 3), unless a live worker holds it."""
    if line.current is None:
        return None
    if line.hold and line.hold.heartbeat_at + settings.heartbeat_stale > now:
        # Not before its claim can be taken over, or each look costs one of the record's few deliveries for nothing.
        deadline = max(line.hold.claimed_at + settings.run_seconds, line.hold.heartbeat_at + settings.heartbeat_stale)
        return Refused(wait=deadline - now)
    job = line.current
    if job.attempts == 0 and job.ready_at > now and job.status is not JobStatus.CANCELLING:
        return Refused(wait=job.ready_at - now, held=False)
    if job.status is not JobStatus.CANCELLING:
        job = replace(
            job,
            status=JobStatus.PROCESSING,
            sealed=False,
            attempts=job.attempts + 1,
            started_at=job.started_at or now,
            # Whether the bot may answer again, only Postgres knows.
            maybe_committed=job.maybe_committed or line.handed_off,
        )
    line.current, line.lock_id, line.hold, line.progress = job, lock_id, Hold(now, now), None
    line.due_at = now + settings.heartbeat_stale
    return Claim(job, lock_id)


def owns(line: Line, lock_id: str) -> bool:
    """Whether `lock_id` is a worker's own, current claim."""
    return line.current is not None and line.hold is not None and line.lock_id == lock_id


def adopt(line: Line, lock_id: str, settled_ids: Iterable[str], successor_id: str | None, *, now: float) -> Job | None:
    """Drop what the fence found settled; the rest runs, under a successor's name if there is one.

    Told by what is settled, not by what is open: a message that joined since the fence looked must stay.
    """
    if not owns(line, lock_id):
        return None
    assert line.current is not None
    job, settled = line.current, frozenset(settled_ids)
    kept = []
    for message in job.messages:
        if message.message_id in settled:
            _remember(line, message, job.job_id, len(job.messages), now)
        else:
            aliases = tuple(alias for alias in message.aliases if alias not in settled)
            kept.append(replace(message, aliases=aliases))
    line.current = replace(job, messages=tuple(kept), maybe_committed=False)
    if successor_id:
        line.current = replace(line.current, job_id=successor_id, created_at=now)
    return line.current


def heartbeat(
    line: Line, lock_id: str, progress: Progress | None, *, seen: int | None, now: float, settings: Settings
) -> Held:
    """Say that the worker lives, and how far it is; learn what `look` tells."""
    held = look(line, lock_id, seen)
    if held != "lost":
        assert line.hold is not None
        line.hold, line.progress = replace(line.hold, heartbeat_at=now), progress
        line.due_at = now + settings.heartbeat_stale
    return held


def look(line: Line, lock_id: str, seen: int | None) -> Held:
    """Learn whether the worker should go on. One taken out and one added look like none: the seal compares ids."""
    if not owns(line, lock_id):
        return "lost"
    assert line.current is not None
    if line.current.status is JobStatus.CANCELLING:
        return "cancelling"
    return "newer" if seen is not None and len(line.current.messages) > seen else "held"


def seal(
    line: Line,
    lock_id: str,
    answered: Iterable[str],
    *,
    next_id: str,
    fenced: bool,
    may_restart: bool,
    may_seal: bool,
    now: float,
    settings: Settings,
) -> Sealed:
    """The last look before the commit and the closing of the door, in one step: nothing fits in between."""
    if not owns(line, lock_id):
        return Sealed("lost")
    job = line.current
    assert job is not None
    if job.status is JobStatus.CANCELLING:
        return Sealed("cancelling", job)
    seen = frozenset(answered)
    newer = tuple(m for m in job.messages if m.message_id not in seen)
    if newer and may_restart and job.restarts < settings.max_restarts:
        line.current, line.progress = replace(job, restarts=job.restarts + 1), None
        return Sealed("again", line.current)
    if not may_seal:
        return Sealed("again", job)
    if newer:
        _postpone(line, job, newer, next_id, now)
    kept = tuple(m for m in job.messages if m.message_id in seen)
    line.current = replace(job, messages=kept, sealed=True, maybe_committed=job.maybe_committed or fenced)
    return Sealed("sealed", line.current)


def finish(line: Line, lock_id: str | None, job: Job, *, spare_id: str, now: float, settings: Settings) -> Finished:
    """The job has ended as `job` says: remember the messages that it names, let the next one move up.

    What joined after the end was decided is not named: it waits for the next job, `spare_id` if there is none.
    """
    if line.next and line.next.job_id == job.job_id and lock_id is None:
        mine, line.next = line.next, None
        _end(line, mine, job, spare_id, now, settings)
        return Finished(True, waiting=False)
    if line.current is None or line.current.job_id != job.job_id:
        return Finished(False)
    if lock_id is not None and not line.locked_by(lock_id):
        return Finished(False)
    covered = _end(line, line.current, job, spare_id, now, settings)
    if job.status is not JobStatus.CANCELLED:
        line.last = (job.job_id, tuple(m.message_id for m in covered), tuple(m.digest for m in covered))
    _promote(line, line.next, now + settings.wake_after)
    line.acquired_at = now
    return Finished(True, waiting=line.current is not None)


def _end(line: Line, job: Job, end: Job, spare_id: str, now: float, settings: Settings) -> tuple[Message, ...]:
    """The messages that ended with the job, with their text, which its end may have left out."""
    named = {id_ for message in end.messages for id_ in message.ids}
    covered = tuple(m for m in job.messages if not named.isdisjoint(m.ids))
    late = tuple(m for m in job.messages if named.isdisjoint(m.ids))
    line.ended = {id_: was for id_, was in line.ended.items() if was.ended_at > now - settings.job_ttl}
    ended_at = now + (UNARCHIVED_TTL_SECONDS - settings.job_ttl) if end.unarchived else now
    for message in covered:
        if end.held:
            line.posts.pop(message.message_id, None)
        else:
            _remember(line, message, job.job_id, len(covered), ended_at)
    if late:
        _postpone(line, job, late, spare_id, now)
    return covered


def _remember(line: Line, message: Message, job_id: str, count: int, now: float) -> None:
    line.posts.pop(message.message_id, None)
    for id_ in message.ids:
        line.ended[id_] = Ended(job_id, message.message_id, now, count)


def _postpone(line: Line, job: Job, messages: tuple[Message, ...], next_id: str, now: float) -> None:
    """Put messages of `job` at the head of the next one."""
    waiting = line.next or Job(
        next_id,
        job.key,
        JobStatus.PENDING,
        (),
        job.bot_id,
        job.context,
        job.resources,
        created_at=now,
        correlation_id=job.correlation_id,
    )
    line.next = replace(waiting, messages=(*messages, *waiting.messages))


def _promote(line: Line, job: Job | None, due_at: float) -> None:
    line.current, line.next = job, None
    line.lock_id, line.hold, line.progress, line.due_at, line.wakes = "", None, None, due_at, 0


def cancel(line: Line, job_id: str) -> Job | None:
    """Stop a job that is not sealed yet. Postgres decides; a worker that dies here leaves it to the next claimer."""
    for name in ("current", "next"):
        job: Job | None = getattr(line, name)
        if job and job.job_id == job_id and not job.sealed:
            if job.status is not JobStatus.CANCELLING:
                job = replace(job, status=JobStatus.CANCELLING, cancelled=tuple(m.message_id for m in job.messages))
                setattr(line, name, job)
            return job
    return None


def hand_off(line: Line, *, human: bool) -> bool:
    """Take nothing in for the bot any more, or again; whether that is new.

    What was held meanwhile comes back under the ids that it was held with: nothing of it may pass for what the bot
    answered last.
    """
    changed = line.handed_off != human
    line.handed_off = human
    if changed and not human:
        line.last = None
    return changed


def release(line: Line) -> Job | None:
    """Empty the holder; `maybe_committed` stays, for the stuck worker may have committed."""
    if line.current is None:
        return None
    status = JobStatus.CANCELLING if line.current.status is JobStatus.CANCELLING else JobStatus.PENDING
    line.current = replace(line.current, status=status, sealed=False)
    line.lock_id, line.hold, line.progress = "", None, None
    return line.current


def sweep_each(keys: Iterable[ConversationKey], sweep_one: Callable[[ConversationKey], Job | None]) -> list[Job]:
    """Sweep one after the other; returns the jobs that want a record.

    One that can't be swept keeps nobody else asleep, and what was put back already is woken although the store goes
    away. Raises Unavailable only if nothing was.
    """
    jobs: list[Job] = []
    for key in keys:
        try:
            job = sweep_one(key)
        except Unavailable:
            if not jobs:
                raise
            break
        except Exception as error:  # noqa: BLE001  whatever its state is like, the others are not to blame
            _log.error("a conversation can't be swept", extra={"error": type(error).__name__})
            continue
        if job:
            jobs.append(job)
    return jobs


def sweep(line: Line, *, older_than: float, now: float, settings: Settings) -> Job | None:
    """The job that wants a record, if its holder is stale or nobody came for it in time.

    An unheld job is woken after 60 s, then after twice that, and so on: its record may just wait in a
    long queue, and a sweep that feeds a backlog makes it longer.
    """
    if line.current is None:
        return None
    if line.hold:
        over_age = line.acquired_at + older_than <= now
        if line.hold.heartbeat_at + settings.heartbeat_stale > now and not over_age:
            line.due_at = line.hold.heartbeat_at + settings.heartbeat_stale
            return None
        line.wakes = 0
    elif line.due_at > now:
        return None
    job = release(line)
    line.due_at = now + settings.wake_after * 2 ** min(line.wakes, 6)
    line.wakes += 1
    return job
