"""The checks at the end of a run: the design's invariants, seen from outside."""

from __future__ import annotations

import json

from message_handler.domain.jobs import Job, JobStatus
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from message_handler.tiers.line_tier import LineTier
from tests.simulation.processes import KEY, SETTINGS
from tests.simulation.scheduler import Violation
from tests.simulation.simulation import Simulation


def check(simulation: Simulation) -> None:
    """Check everything. Raises Violation with the broken promise."""
    nothing_is_stranded(simulation)
    nothing_accepted_is_lost(simulation)
    replies_are_disjoint(simulation)
    replies_are_in_order(simulation)
    every_told_job_leads_to_the_end(simulation)
    what_was_shown_is_what_was_committed(simulation)
    who_was_interrupted_committed_nothing(simulation)


def promise(kept: bool, broken: str) -> None:
    if not kept:
        raise Violation(broken)


def replies(simulation: Simulation) -> list[list[str]]:
    """The contents that each archived reply answers, in the order in which the replies were made."""
    found = simulation.archive.conversation(KEY)
    turns = sorted(found.turns, key=lambda turn: turn[1]) if found else ()
    return [answered_by(turn.content) for turn, *_ in turns if turn.role == "assistant"]


def answered_by(reply: str | None) -> list[str]:
    """The contents that the AI answered. A reply is their JSON list, followed by the reply's number."""
    return json.loads(reply)[:-1] if reply else []


def nothing_is_stranded(simulation: Simulation) -> None:
    queue = simulation.queue
    promise(not queue.waiting, "stranded: a record waits in the queue for ever")
    promise(not queue.dead, "stranded: a record stays in the dead letters")
    promise(queue.most_receives <= MAX_RECEIVE_COUNT, "a record was delivered too often")
    for tier in (simulation.redis, simulation.postgres):
        promise(not tier.locked(), f"stranded: the {tier.name} tier keeps a conversation locked")


def end_of(simulation: Simulation, message_id: str) -> Job:
    job_id = simulation.archive.settled_by(KEY, message_id)
    promise(job_id is not None, f"lost: {message_id} got 202 and is open for ever")
    job = simulation.archive.job(KEY.platform_id, job_id or "")
    promise(job is not None and job.status.ended, f"lost: the job that settled {message_id} has not ended")
    assert job is not None
    return job


def nothing_accepted_is_lost(simulation: Simulation) -> None:
    """Invariants 1 and 2: each message is answered once, visibly failed, or cancelled."""
    found = simulation.archive.conversation(KEY)
    said = [turn.content for turn, *_ in found.turns if turn.role == "user"] if found else []
    promise(len(set(said)) == len(said), f"a message is archived twice: {said}")
    answered = [content for reply in replies(simulation) for content in reply]
    for message_id in simulation.told:
        end, content = end_of(simulation, message_id), simulation.contents[message_id]
        promise(content in said, f"lost: {message_id} is not in the archive")
        if simulation.archive.was_cancelled(KEY, message_id):
            # It may have joined a job that was answered without it: the job is completed, the message cancelled.
            promise(simulation.beyond_the_limits or content not in answered, f"{message_id}: cancelled, and answered")
        elif end.status is JobStatus.COMPLETED:
            promise(content in answered_by(end.reply), f"the reply to {message_id} does not answer it")
            promise(content in answered, f"lost: {message_id} was not answered")
        elif not simulation.beyond_the_limits:
            promise(content not in answered, f"{message_id} is {end.status}, and answered all the same")


def replies_are_disjoint(simulation: Simulation) -> None:
    if simulation.beyond_the_limits:
        return
    answered = [content for reply in replies(simulation) for content in reply]
    promise(len(set(answered)) == len(answered), f"answered twice: {replies(simulation)}")


def replies_are_in_order(simulation: Simulation) -> None:
    """Checked only if Redis was there all the time. Otherwise a message may be answered after a later one."""
    if simulation.redis_lost or simulation.redis_split:
        return
    order = simulation.accepted
    # A message that got a 503 may be answered all the same, if another record carried it. It has no place.
    ranges = [sorted(order.index(content) for content in reply if content in order) for reply in replies(simulation)]
    places = [place for range_ in ranges for place in range_]
    promise(places == sorted(places), f"out of order: {replies(simulation)}, accepted {order}")


def every_told_job_leads_to_the_end(simulation: Simulation) -> None:
    for message_id, told in simulation.told.items():
        end = end_of(simulation, message_id)
        for job_id in told:
            chain = chain_of(simulation, job_id)
            # Two jobs may each have answered the other's message. Then one of them leads to a copy of the other.
            shown = [(job.status, job.reply, job.error) == (end.status, end.reply, end.error) for job in chain]
            promise(any(shown), f"{message_id} was promised a job that does not lead to its end")
            # The jobs behind it belong to other messages.
            before = chain[: shown.index(True) + 1]
            promise(all(job.status.ended for job in before), f"{message_id} was promised a job that never ends")
    for job_id in simulation.cancelled:
        promise(chain_of(simulation, job_id)[0].status.ended, "a cancel got 200, and the job never ends")


def chain_of(simulation: Simulation, job_id: str) -> list[Job]:
    """A job and those that it leads to, as the platform sees them."""
    chain: list[Job] = []
    following: str | None = job_id
    reader = LineTier(simulation.redis, SETTINGS, simulation.clock)
    while following:
        job = simulation.archive.job(KEY.platform_id, following) or reader.job(following)
        if job is None:
            # The rest of a job was to run under this name, but another job answered it.
            break
        promise(job.job_id not in [earlier.job_id for earlier in chain], "jobs lead in a circle")
        chain.append(job)
        following = job.superseded_by
    return chain


def what_was_shown_is_what_was_committed(simulation: Simulation) -> None:
    """Workers show the jobs that they end. Each message is in one shown reply, and the archive has that reply."""
    if simulation.beyond_the_limits:
        return
    shown = [job for job in simulation.shown if job.status is JobStatus.COMPLETED]
    answered = [content for job in shown for content in answered_by(job.reply)]
    promise(len(set(answered)) == len(answered), f"shown twice: {[job.reply for job in shown]}")
    for job in shown:
        archived = simulation.archive.job(KEY.platform_id, job.job_id)
        promise(archived is not None and archived.reply == job.reply, f"shown, but not committed: {job.reply}")


def who_was_interrupted_committed_nothing(simulation: Simulation) -> None:
    """An interrupted job commits nothing afterwards. (The tier may not know that another tier answered it before.)

    Not checked if Redis was lost: it may lose the interruption before Postgres has it.
    """
    if simulation.beyond_the_limits or simulation.redis_lost:
        return
    for tier in (simulation.redis, simulation.postgres):
        for interrupted in (tier.interrupted[name] for name in simulation.interrupters if name in tier.interrupted):
            job = simulation.archive.job(KEY.platform_id, interrupted.job_id)
            late = job and job.status is JobStatus.COMPLETED and (job.finished_at or 0) > (interrupted.finished_at or 0)
            promise(not late, "an interrupted job was committed all the same")
