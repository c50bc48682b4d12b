"""The protocol of one conversation: each step is a pure function over its line. docs/protocol.md says what each is for.

Read `line.py` (the state) first, then `accepting.py` (the first step). `LineTier` takes these steps for every tier. It
loads the line, takes the step on it, and writes the line back if no other process was faster. So a step is atomic: it
does all that it says, or it raises before it has changed anything. `now` is always in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from message_handler.domain.edits import newest_versions
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, base_id, edit_id, is_edit
from message_handler.protocol.line import LIVE_TTL_SECONDS, AnsweredMessage, LastAnswered, Lease, Line
from message_handler.protocol.results import Claim, ClaimRefused, Finished, LeaseState, Sealed
from message_handler.settings import Settings


def claim(line: Line, lock_id: str, *, now: float, settings: Settings) -> Claim | ClaimRefused | None:
    """Take the head of the line, even if another job's record woke the worker (counterexample 3).

    None if no job waits. A ClaimRefused if another live worker has the lease, or the patient may still be typing.
    """
    if line.current is None:
        return None
    if line.lease and line.lease.heartbeat_at + settings.heartbeat_stale > now:  # guard: step claim, a live holder
        # A record can be received only a few times. So it should not come back before the lease can be taken over.
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
                # Only Postgres knows whether the bot may answer again.
                or line.handed_off  # guard: step hand off, claim
            ),
        )
    line.current, line.lock_id, line.lease, line.progress = job, lock_id, Lease(now, now), None
    return Claim(job, lock_id)


def owns(line: Line, lock_id: str) -> bool:
    """Whether the worker with this `lock_id` has the lease (invariant 4)."""
    return (
        line.current is not None
        and line.lease is not None  # guard: invariant 4, a worker's
        and line.lock_id == lock_id  # guard: invariant 4, its own
    )


def adopt(
    line: Line,
    lock_id: str,
    settled_ids: Iterable[str],
    ended: Job | None,
    *,
    edits: Mapping[str, str],
    now: float,
    settings: Settings,
) -> Job | None:
    """Remove the messages that the fence found settled. Returns the job to run; None if the lease was lost.

    `edits`: the ids of messages that the fence found to be edits, each with its id as an edit.

    With `ended`, the job's end, the rest runs under the successor's name that the end has. The caller names what is
    settled, not what is open: a message that joined since the fence looked must stay.
    """
    if not owns(line, lock_id):  # guard: invariant 4, adopt
        return None
    assert line.current is not None
    job, settled = line.current, frozenset(settled_ids)
    open_messages, settled_messages = [], []
    for message in job.messages:
        if message.message_id in settled:  # guard: step adopt, what is settled
            settled_messages.append(message)
        else:
            open_messages.append(_adopted(line, message, settled, edits))
    _remember(line, settled_messages, job.job_id, job.consolidated_messages, now)
    # A cancel that has begun covers an edit under its new id, too.
    cancelled = tuple(edits.get(id_, id_) for id_ in job.cancelled)
    line.current = replace(job, messages=tuple(open_messages), maybe_committed=False, cancelled=cancelled)
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


def _adopted(line: Line, message: Message, settled: Set[str], edits: Mapping[str, str]) -> Message:
    """An open message, without ids that are settled, and under its id as an edit if it is one."""
    own_id = edits.get(message.message_id, message.message_id)
    if own_id != message.message_id and message.message_id in line.posts:
        line.posts[own_id] = line.posts.pop(message.message_id)
    aliases = tuple(alias for alias in message.aliases if alias not in settled and alias != own_id)
    return replace(message, message_id=own_id, aliases=aliases)


def look(line: Line, lock_id: str, seen: int | None) -> LeaseState:
    """Learn whether the worker should go on. `seen` is the number of messages that its run has.

    Only the number is compared. If one message has left and another has joined, the seal notices: it compares ids.
    """
    if not owns(line, lock_id):  # guard: invariant 4, look
        return "lost"
    assert line.current is not None
    if line.current.status is JobStatus.CANCELLING:  # guard: step cancel, look
        return "cancelling"
    return "newer" if seen is not None and len(line.current.messages) != seen else "valid"


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
    """Close the job for new messages, unless the run has seen others than it has now (`answered` are the ids).

    The check and the closing are one step, so that no message can join between them. If newer messages have joined, or
    some were undone or unsent, the job runs again. At the limit of restarts, and unless it `may_restart`, newer ones go
    to the next job instead, which is named `next_id` if it is new. `may_seal` False: the run stopped without a reply.
    `fenced`: the commit follows under a fence, so the job may be committed from now on (counterexample 10).
    """
    if not owns(line, lock_id):  # guard: invariant 4, seal
        return Sealed("lost")
    job = line.current
    assert job is not None
    if job.status is JobStatus.CANCELLING:  # guard: step cancel, seal
        return Sealed("cancelling", job)
    assert line.lease is not None
    # The commit follows. With a slow Postgres it may take longer than the last heartbeat is good for.
    line.lease = line.lease._replace(heartbeat_at=now)  # guard: step seal, a sign of life
    seen = frozenset(answered)
    newer = tuple(
        message
        for message in job.messages
        if message.message_id not in seen  # guard: step seal, newer messages -> False
    )
    gone = seen.difference(message.message_id for message in job.messages)
    # A reply to a message that was unsent is never used, so this restart is needed even at the limit.
    may_begin_anew = bool(gone) or job.restarts < settings.max_restarts  # guard: invariant 8, seal -> True
    if (
        (newer or gone)
        and may_restart  # guard: invariant 9, no run that can't end in time
        and may_begin_anew
    ):
        line.current, line.progress = replace(job, restarts=min(job.restarts + 1, settings.max_restarts)), None
        return Sealed("again", line.current)
    if gone:  # guard: step unsend, a run that can't start again
        return Sealed("lost")
    if not may_seal:  # guard: step seal, nothing without a reply
        return Sealed("again", job)
    if newer:  # guard: invariant 1, seal
        _postpone(line, job, newer, next_id, now)
    sealed = tuple(m for m in job.messages if m.message_id in seen)
    line.current = replace(
        job,
        messages=sealed,
        sealed=True,
        maybe_committed=(
            job.maybe_committed  # guard: counterexample 10, an earlier seal
            or fenced  # guard: counterexample 10, seal
        ),
    )
    return Sealed("sealed", line.current)


def finish(line: Line, lock_id: str | None, job: Job, *, spare_id: str, now: float, settings: Settings) -> Finished:
    """End a job as `job` says: remember the messages that it names, and let the next job move up.

    `lock_id` None: Postgres has decided already, so no owner is compared. A message that joined after the end was
    decided is not named. It waits for the next job, which is named `spare_id` if it is new (counterexample 2).
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
        not job.parked  # guard: invariant 1, parked and answered last
        and job.status is not JobStatus.CANCELLED  # guard: invariant 1, cancelled and answered last
    ):
        newest = newest_versions(covered)
        ids, digests = tuple(m.message_id for m in newest), tuple(m.words_digest for m in newest)
        line.last_answered = LastAnswered(job.job_id, ids, digests, ended_at)
    line.promote(line.next, now + settings.wake_after)
    line.acquired_at = now
    return Finished(True, waiting=line.current is not None)


def release(line: Line, lock_id: str, *, now: float, settings: Settings) -> bool:
    """End the job of the caller's own lock as cancelled, with all its messages. False if the lock is another's."""
    if line.current is None:
        return False
    job = replace(line.current, status=JobStatus.CANCELLED)
    return finish(line, lock_id, job, spare_id=job.job_id, now=now, settings=settings).done


def _end(
    line: Line, job: Job, end: Job, spare_id: str, now: float, settings: Settings
) -> tuple[tuple[Message, ...], float]:
    """End `job` as `end` says. Returns the messages that ended, and from when they are remembered for an hour."""
    named = {id_ for message in end.messages for id_ in message.ids}
    covered = tuple(m for m in job.messages if not named.isdisjoint(m.ids))
    late = tuple(m for m in job.messages if named.isdisjoint(m.ids))
    # An end that Postgres lacks is remembered as long as its record may live.
    ended_at = now + (LIVE_TTL_SECONDS - settings.job_ttl) if end.unarchived else now
    for message in covered:
        line.posts.pop(message.message_id, None)
    if not end.parked:  # guard: invariant 1, parked and remembered -> True
        _remember(line, covered, job.job_id, len(newest_versions(covered)), ended_at)
    if late:  # guard: counterexample 2, what joined late
        _postpone(line, job, late, spare_id, now)
    line.ends = (*line.ends, end)
    return covered, ended_at


def _remember(line: Line, messages: Sequence[Message], job_id: str, count: int, ended_at: float) -> None:
    """Remember that messages have ended: under their ids, and an edit also as the newest version of its message.

    A version that was or will be replaced stays known by its words.
    """
    edited = {base_id(message.message_id) for message in line.waiting() if is_edit(message.message_id)}
    # What was drained from another tier may stand before an older version of it.
    for message in sorted(messages, key=lambda message: message.accepted_at):
        line.posts.pop(message.message_id, None)
        end = AnsweredMessage(job_id, message.message_id, ended_at, count, message.words_digest, message.accepted_at)
        base = base_id(message.message_id)
        before = line.answered.get(base)
        line.answered |= dict.fromkeys(message.ids, end)
        if is_edit(message.message_id):  # guard: invariant 5, the newest version
            line.answered[base] = end
            if before and before.words:
                line.answered.setdefault(edit_id(base, before.words), before)
        elif base in edited:  # guard: invariant 15, ones that will be replaced
            line.answered[edit_id(base, end.words)] = end


def forget(line: Line, message_ids: Iterable[str]) -> None:
    """Forget what ended under these ids of a message, because its job ended without settling it.

    An edit is also remembered as the newest version of its message. So one id alone would leave it known.
    """
    for message_id in message_ids:
        was = line.answered.pop(message_id, None)
        if line.last_answered and (was.message_id if was else message_id) in line.last_answered.ids:
            line.last_answered = None


def _postpone(line: Line, job: Job, messages: tuple[Message, ...], next_id: str, now: float) -> None:
    """Move messages of `job` to the head of the next job, which is named `next_id` if it is new."""
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


def unsend(line: Line, message_ids: Iterable[str], job_id: str, *, now: float, settings: Settings) -> None:
    """Take out messages that `job_id` has settled as cancelled, because the patient has unsent them.

    A job without any other message ends as cancelled. A sealed job is taken from its worker: Postgres refuses its
    commit, but while Postgres is away the tier would accept its end.

        A: seal     unsend: settled, fence + 1     Postgres goes away ── A: commit ── away: ends the job in the tier
    """
    unsent, before = set(message_ids), line.current
    line.current, line.next = (_without(line, job, unsent, job_id, now) for job in (line.current, line.next))
    if before and not line.current:
        line.promote(line.next, now + settings.wake_after)
        line.acquired_at = now
    elif before and before.sealed and line.current is not before:  # guard: step unsend, a sealed job
        force_release(line)


def _without(line: Line, job: Job | None, unsent: Set[str], job_id: str, now: float) -> Job | None:
    """The job without its unsent messages; None if no message is left."""
    gone = [message for message in job.messages if not unsent.isdisjoint(message.ids)] if job else []
    if job is None or not gone:
        return job
    _remember(line, gone, job_id, len(newest_versions(gone)), now)
    if rest := tuple(message for message in job.messages if message not in gone):
        return replace(job, messages=rest)
    line.ends = (*line.ends, replace(job, status=JobStatus.CANCELLED, finished_at=now, superseded_by=job_id))
    return None


def cancel(line: Line, job_id: str) -> Job | None:
    """Mark an unsealed job as `cancelling`, and note which messages that covers. None if there is no such job.

    Postgres decides. If the caller dies now, the worker that claims the job next completes the cancel.
    """
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
    """Note that a human answers, or that the bot does again. Returns whether that is new.

    The messages that were parked meanwhile come back with the ids that they were parked with. None of them may be taken
    for a repetition of what the bot answered last, so `last_answered` is forgotten.
    """
    changed = line.handed_off != human
    line.handed_off = human
    if changed and not human:  # guard: invariant 1, resumed and answered last
        line.last_answered = None
    return changed


def force_release(line: Line) -> Job | None:
    """Take the lock from its owner, and make the job claimable again. Returns the job; None if no job waits.

    `maybe_committed` stays as it is: the worker that is stuck may have committed.
    """
    if line.current is None:
        return None
    status = JobStatus.CANCELLING if line.current.status is JobStatus.CANCELLING else JobStatus.PENDING
    line.current = replace(line.current, status=status, sealed=False)
    line.lock_id, line.lease, line.progress = "", None, None
    return line.current


def sweep(line: Line, *, older_than: float, now: float, settings: Settings) -> Job | None:
    """Put the job back if its lease is stale, or if no worker came in time. Returns the job: it needs a record.

    A lock that is older than `older_than` seconds is taken from its owner too. A job without a lease is woken after
    `wake_after`, then after twice that time, and so on. The times grow because its record may only be waiting in a long
    queue, and each further record makes that queue longer.
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
