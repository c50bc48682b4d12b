"""The tier's steps on one conversation's line, as plain functions over its state.

This is the protocol to read, after `line.py` (the state) and `accepting.py` (the first step). The memory tier runs
these functions under a mutex; the Redis tier runs the same steps as scripts (`lua/`), and the contract tests hold the
two together. A step either does all that it says or raises before it has changed anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from message_handler.errors import Unavailable
from message_handler.models import Claim, ConversationKey, Job, JobStatus, Message, Progress, Refused
from message_handler.settings import Settings
from message_handler.stores.line import Ended, Hold, Line
from message_handler.stores.port import Finished, Held, Sealed

_log = logging.getLogger(__name__)

#: An end that the archive lacks is remembered as long as SQS keeps the record that carries it.
UNARCHIVED_TTL_SECONDS = 14 * 24 * 3600


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
    line.promote(line.next, now + settings.wake_after)
    line.acquired_at = now
    return Finished(True, waiting=line.current is not None)


def give_back(line: Line, lock_id: str, *, now: float, settings: Settings) -> Job | None:
    """End the job of one's own lock as cancelled, with all of its messages; None: it is another's."""
    if not line.locked_by(lock_id):
        return None
    assert line.current is not None
    job = replace(line.current, status=JobStatus.CANCELLED)
    finish(line, lock_id, job, spare_id=job.job_id, now=now, settings=settings)
    return job


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
