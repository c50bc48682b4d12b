"""The protocol of one conversation: each step as a plain function over its line.

Read `line.py` (the state) first, then `accepting.py` (the first step). `LineTier` takes these steps for every tier: it
loads the line, takes the step on it, and writes it back if no other process was faster. So a step is atomic, and it
either does all that it says or raises before it has changed anything. docs/protocol.md tells what each is for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Contended, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.protocol.line import LIVE_TTL_SECONDS, AnsweredMessage, Last, Lease, Line
from message_handler.protocol.results import Claim, ClaimRefused, Finished, LeaseState, Sealed
from message_handler.settings import Settings

_log = logging.getLogger(__name__)


def claim(line: Line, lock_id: str, *, now: float, settings: Settings) -> Claim | ClaimRefused | None:
    """Take the head of the line, whatever job woke us (counterexample 3), unless a live worker holds it."""
    if line.current is None:
        return None
    if line.lease and line.lease.heartbeat_at + settings.heartbeat_stale > now:  # guard: step claim, a live holder
        # Not before its claim can be taken over, or each look costs one of the record's few deliveries for nothing.
        stale_at = line.lease.heartbeat_at + settings.heartbeat_stale
        missed = now - line.lease.heartbeat_at > 2 * settings.heartbeat_every
        deadline = max(line.lease.claimed_at + settings.run_seconds, stale_at)
        return ClaimRefused(wait=deadline - now, overdue=stale_at - now if missed else None)
    job = line.current
    if (
        job.ready_at > now  # guard: debounce_ms -> False
        and job.attempts == 0  # guard: debounce_ms, a first run alone
        and job.status is not JobStatus.CANCELLING  # guard: step cancel, a debounced job
    ):
        return ClaimRefused(wait=job.ready_at - now, leased=False)
    if job.status is not JobStatus.CANCELLING:  # guard: step cancel, claim -> True
        job = replace(
            job,
            status=JobStatus.PROCESSING,
            sealed=False,  # guard: step claim, a sealed job
            attempts=job.attempts + 1,
            started_at=job.started_at or now,
            maybe_committed=(
                job.maybe_committed
                # Whether the bot may answer again, only Postgres knows.
                or line.handed_off  # guard: step hand off, claim
            ),
        )
    line.current, line.lock_id, line.lease, line.progress = job, lock_id, Lease(now, now), None
    return Claim(job, lock_id)


def owns(line: Line, lock_id: str) -> bool:
    """Whether `lock_id` is a worker's own, current claim."""
    return (
        line.current is not None
        and line.lease is not None  # guard: invariant 4, a worker's
        and line.lock_id == lock_id  # guard: invariant 4, its own
    )


def adopt(
    line: Line, lock_id: str, settled_ids: Iterable[str], ended: Job | None, *, now: float, settings: Settings
) -> Job | None:
    """Drop what the fence found settled; with `ended`, the job's end, the rest runs under the name that it leads to.

    Told by what is settled, not by what is open: a message that joined since the fence looked must stay.
    """
    if not owns(line, lock_id):  # guard: invariant 4, adopt
        return None
    assert line.current is not None
    job, settled = line.current, frozenset(settled_ids)
    kept = []
    for message in job.messages:
        if message.message_id in settled:  # guard: step adopt, what is settled
            _remember(line, message, job.job_id, len(job.messages), now)
        elif settled.isdisjoint(message.aliases):
            kept.append(message)
        else:
            kept.append(replace(message, aliases=tuple(alias for alias in message.aliases if alias not in settled)))
    line.current = replace(job, messages=tuple(kept), maybe_committed=False)
    assert line.lease is not None
    if now - line.lease.heartbeat_at >= settings.heartbeat_every:  # guard: step adopt, a sign of life
        line.lease = line.lease._replace(heartbeat_at=now)
    if ended:
        assert ended.superseded_by is not None
        line.ends = (*line.ends, ended)
        rest = line.current
        messages = rest.promised_messages  # guard: invariant 2, promised before it was renamed -> rest.messages
        line.current = replace(rest, job_id=ended.superseded_by, messages=messages, created_at=now)
    return line.current


def look(line: Line, lock_id: str, seen: int | None) -> LeaseState:
    """Learn whether the worker should go on. One taken out and one added look like none: the seal compares ids."""
    if not owns(line, lock_id):  # guard: invariant 4, look
        return "lost"
    assert line.current is not None
    if line.current.status is JobStatus.CANCELLING:  # guard: step cancel, look
        return "cancelling"
    return "newer" if seen is not None and len(line.current.messages) > seen else "valid"


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
    if not owns(line, lock_id):  # guard: invariant 4, seal
        return Sealed("lost")
    job = line.current
    assert job is not None
    if job.status is JobStatus.CANCELLING:  # guard: step cancel, seal
        return Sealed("cancelling", job)
    assert line.lease is not None
    # The commit follows, and a slow Postgres may take longer over it than the last heartbeat lasts.
    line.lease = line.lease._replace(heartbeat_at=now)  # guard: step seal, a sign of life
    seen = frozenset(answered)
    newer = tuple(
        message
        for message in job.messages
        if message.message_id not in seen  # guard: step seal, newer messages -> False
    )
    if (
        newer
        and may_restart  # guard: invariant 9, no run that can't end in time
        and job.restarts < settings.max_restarts  # guard: invariant 8, seal
    ):
        line.current, line.progress = replace(job, restarts=job.restarts + 1), None
        return Sealed("again", line.current)
    if not may_seal:  # guard: step seal, nothing without a reply
        return Sealed("again", job)
    if newer:  # guard: invariant 1, seal
        _postpone(line, job, newer, next_id, now)
    kept = tuple(m for m in job.messages if m.message_id in seen)
    line.current = replace(
        job,
        messages=kept,
        sealed=True,
        maybe_committed=(
            job.maybe_committed  # guard: counterexample 10, an earlier seal
            or fenced  # guard: counterexample 10, seal
        ),
    )
    return Sealed("sealed", line.current)


def finish(line: Line, lock_id: str | None, job: Job, *, spare_id: str, now: float, settings: Settings) -> Finished:
    """The job has ended as `job` says: remember the messages that it names, let the next one move up.

    What joined after the end was decided is not named: it waits for the next job, `spare_id` if there is none.
    """
    if line.next and line.next.job_id == job.job_id and lock_id is None:
        mine, line.next = line.next, None
        _end(line, mine, job, spare_id, now, settings)
        return Finished(True, waiting=False)
    if line.current is None:
        return Finished(False)
    if line.current.job_id != job.job_id:  # guard: invariant 10, finish
        return Finished(False)
    if lock_id is not None and not line.locked_by(lock_id):  # guard: invariant 4, finish
        return Finished(False)
    covered, ended_at = _end(line, line.current, job, spare_id, now, settings)
    if (
        not job.parked  # guard: invariant 1, held and answered last
        and job.status is not JobStatus.CANCELLED  # guard: invariant 1, cancelled and answered last
    ):
        ids, digests = tuple(m.message_id for m in covered), tuple(m.digest for m in covered)
        line.last = Last(job.job_id, ids, digests, ended_at)
    line.promote(line.next, now + settings.wake_after)
    line.acquired_at = now
    return Finished(True, waiting=line.current is not None)


def release(line: Line, lock_id: str, *, now: float, settings: Settings) -> bool:
    """End the job of one's own lock as cancelled, with all of its messages; False: it is another's."""
    if line.current is None:
        return False
    job = replace(line.current, status=JobStatus.CANCELLED)
    return finish(line, lock_id, job, spare_id=job.job_id, now=now, settings=settings).done


def _end(
    line: Line, job: Job, end: Job, spare_id: str, now: float, settings: Settings
) -> tuple[tuple[Message, ...], float]:
    """The messages that ended with the job, and when an hour of remembering them begins."""
    named = {id_ for message in end.messages for id_ in message.ids}
    covered = tuple(m for m in job.messages if not named.isdisjoint(m.ids))
    late = tuple(m for m in job.messages if named.isdisjoint(m.ids))
    ended_at = now + (LIVE_TTL_SECONDS - settings.job_ttl) if end.unarchived else now
    for message in covered:
        line.posts.pop(message.message_id, None)
        if not end.parked:  # guard: invariant 1, held and remembered -> True
            _remember(line, message, job.job_id, len(covered), ended_at)
    if late:  # guard: counterexample 2, what joined late
        _postpone(line, job, late, spare_id, now)
    line.ends = (*line.ends, end)
    return covered, ended_at


def _remember(line: Line, message: Message, job_id: str, count: int, now: float) -> None:
    line.posts.pop(message.message_id, None)
    for id_ in message.ids:
        line.answered[id_] = AnsweredMessage(job_id, message.message_id, now, count)


def forget(line: Line, message_id: str) -> None:
    """Drop what is remembered of a message whose job ended without settling it."""
    was = line.answered.pop(message_id, None)
    if line.last and (was.message_id if was else message_id) in line.last.ids:
        line.last = None


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
        job.context_ref,
        job.resources_ref,
        created_at=now,
        correlation_id=job.correlation_id,
    )
    messages = tuple(
        message.with_promises(job.job_id)  # guard: invariant 2, promised before it was postponed -> message
        for message in messages
    )
    line.next = replace(waiting, messages=(*messages, *waiting.messages))


def cancel(line: Line, job_id: str) -> Job | None:
    """Stop a job that is not sealed yet. Postgres decides; a worker that dies here leaves it to the next claimer."""
    for name in ("current", "next"):
        job: Job | None = getattr(line, name)
        if (
            job
            and not job.sealed  # guard: invariant 10, cancel
            and job.job_id == job_id
        ):
            if job.status is not JobStatus.CANCELLING:  # guard: step cancel, what waited when it began -> True
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
    if changed and not human:  # guard: invariant 1, resumed and answered last
        line.last = None
    return changed


def force_release(line: Line) -> Job | None:
    """Empty the holder; `maybe_committed` stays, for the stuck worker may have committed."""
    if line.current is None:
        return None
    status = JobStatus.CANCELLING if line.current.status is JobStatus.CANCELLING else JobStatus.PENDING
    line.current = replace(line.current, status=status, sealed=False)
    line.lock_id, line.lease, line.progress = "", None, None
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
        except Contended:
            continue  # it is at work; at the next sweep
        except Exception as error:  # noqa: BLE001  whatever its state is like, the others are not to blame
            _log.error("a conversation can't be swept", extra={"error": type(error).__name__})
            continue
        if job:
            jobs.append(job)
    return jobs


def sweep(line: Line, *, older_than: float, now: float, settings: Settings) -> Job | None:
    """The job that wants a record, if its holder is stale or nobody came for it in time.

    An unheld job is woken after `wake_after`, then after twice that, and so on: its record may just wait in a
    long queue, and a sweep that feeds a backlog makes it longer.
    """
    if line.current is None:
        return None
    if line.lease:
        over_age = line.acquired_at + older_than <= now
        stale_at = line.lease.heartbeat_at + settings.heartbeat_stale
        if stale_at > now and not over_age:  # guard: step sweep, a live holder
            return None
        line.wakes = 0
    elif line.due_at > now:  # guard: step sweep, once
        return None
    job = force_release(line)
    line.due_at = now + settings.wake_after * 2 ** min(line.wakes, 6)
    line.wakes += 1
    return job
