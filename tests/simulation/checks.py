"""The checks at the end of a run: the design's invariants, seen from outside."""

from __future__ import annotations

import json
import math

from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import new_message
from message_handler.ports.archive import Settled
from message_handler.protocol.results import Claim
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from message_handler.tiers.line_tier import LineTier
from tests.simulation.fate import CRASHES, PAUSES
from tests.simulation.processes import KEY, SETTINGS
from tests.simulation.scheduler import Violation
from tests.simulation.simulation import Simulation
from tests.versions import edit_of, message_of


def check(simulation: Simulation) -> None:
    """Check everything. Raises Violation with the broken promise."""
    nothing_is_stranded(simulation)
    nothing_accepted_is_lost(simulation)
    replies_are_disjoint(simulation)
    replaced_words_are_not_answered(simulation)
    the_newest_words_are_asked_for(simulation)
    unsent_messages_are_not_answered(simulation)
    unsent_messages_are_in_no_later_context(simulation)
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


def end_of(simulation: Simulation, version: str) -> Settled | None:
    """How this version was settled. None: it is open, or it was replaced before it was."""
    own = new_message(simulation.contents[version], message_of(version))
    settled = simulation.archive.settled(KEY, own.possible_ids)
    return next(
        (end for id_ in (*own.edit_ids, *own.ids) if (end := settled.get(id_)) and end.words in own.words_digests), None
    )


def standing_for(simulation: Simulation, version: str) -> list[str]:
    """The version, and those that may replace it. Either of them is answered for it."""
    return [version, *(other for other in simulation.others_of(version) if may_replace(simulation, other, version))]


def may_replace(simulation: Simulation, version: str, other: str) -> bool:
    """Whether `version` is a later edit than `other`.

    The platform may send old words again. That is an edit if they were not accepted before the other version came, or
    if Redis has forgotten them.
    """
    if edit_of(version) > edit_of(other) or version not in simulation.told_before.get(other, ()):
        return True
    forgotten = simulation.redis_lost or simulation.redis_split
    return forgotten and simulation.answered_last[version] > simulation.sent_first[other]


def ends_of(simulation: Simulation, version: str) -> list[Settled]:
    """How this version was settled, and those that stand for it. Raises Violation if none was."""
    ends = [end for each in standing_for(simulation, version) if (end := end_of(simulation, each))]
    promise(bool(ends), f"lost: {version} got 202 and is open for ever")
    return ends


def jobs_of(simulation: Simulation, version: str) -> list[Job]:
    """The jobs in which it ended, or a version that stands for it. Raises Violation if one has not ended."""
    jobs = [simulation.archive.job(KEY.platform_id, end.job_id) for end in ends_of(simulation, version)]
    promise(all(job and job.status.ended for job in jobs), f"lost: a job that settled {version} has not ended")
    return [job for job in jobs if job]


def was_unsent(simulation: Simulation, version: str) -> bool:
    return any(unsent.status == 200 and version in unsent.sent for unsent in simulation.unsendings)


def nothing_accepted_is_lost(simulation: Simulation) -> None:
    """Invariants 1 and 2: each version is answered once, replaced by an answered one, visibly failed, or cancelled."""
    found = simulation.archive.conversation(KEY)
    turns = [turn for turn in found.turns if turn.turn.role == "user"] if found else []
    said = [turn.turn.content for turn in turns]
    promise(len(set(said)) == len(said), f"a message is archived twice: {said}")
    ends = [(turn.turn.message_id, turn.job_id, turn.created_at) for turn in turns if turn.turn.message_id]
    promise(len(set(ends)) == len(ends), f"the end of a job has archived two versions of a message: {said}")
    answered = [content for reply in replies(simulation) for content in reply]
    for version in simulation.told:
        jobs, end, content = jobs_of(simulation, version), end_of(simulation, version), simulation.contents[version]
        contents = [simulation.contents[each] for each in standing_for(simulation, version)]
        kept = was_unsent(simulation, version) or not set(contents).isdisjoint(said)
        promise(kept, f"lost: {version} is not in the archive")
        if end and end.kind == "cancelled":
            # It may have joined a job that was answered without it: the job is completed, the message cancelled.
            promise(simulation.beyond_the_limits or content not in answered, f"{version}: cancelled, and answered")
        elif end and end.kind == "failed":
            kept = simulation.beyond_the_limits or content not in answered
            promise(kept, f"{version} failed, and is answered all the same")
        elif end or {each.kind for each in ends_of(simulation, version)} == {"answered"}:
            promise(not set(contents).isdisjoint(answered), f"lost: {version} was not answered")
            shown = {content for job in jobs for content in answered_by(job.reply)}
            promise(not shown.isdisjoint(contents), f"the reply to {version} does not answer it")


def replies_are_disjoint(simulation: Simulation) -> None:
    if simulation.beyond_the_limits:
        return
    answered = [content for reply in replies(simulation) for content in reply]
    promise(len(set(answered)) == len(answered), f"answered twice: {replies(simulation)}")


def replaced_words_are_not_answered(simulation: Simulation) -> None:
    """Of one message, no reply answers two versions, and no later reply an older version."""
    place = {content: number for number, reply in enumerate(replies(simulation)) for content in reply}
    places = {v: place[content] for v, content in simulation.contents.items() if content in place}
    for version, number in places.items():
        for other in simulation.others_of(version):
            both = f"{version} and {other}: {replies(simulation)}"
            promise(places.get(other) != number, f"both words in one reply: {both}")
            replaced = version in simulation.told_before.get(other, ()) and not may_replace(simulation, version, other)
            kept = simulation.beyond_the_limits or not replaced or number < places.get(other, math.inf)
            promise(kept, f"old words after newer ones: {both}")


def the_newest_words_are_asked_for(simulation: Simulation) -> None:
    """A run asks for no words that an edit has replaced before its claim.

    Checked only in runs without a fault in which every message may join a run, and none has to wait for the next job.
    """
    if simulation.faults_at or "enqueue" in simulation.policies:
        return
    told: list[str] = []
    claimed: dict[str, list[str]] = {}
    known: set[str] = set()
    names = {content: version for version, content in simulation.contents.items()}
    for _, actor, what, details, outcome in simulation.trace:
        if what == "is told 202":
            told.append(details[1])
        elif isinstance(outcome, Claim):
            claimed[actor] = list(told)
        elif what == "is asked":
            asked = {names[content] for content in details[0]}
            for version in asked - known:
                newer = {o for o in simulation.others_of(version) if not may_replace(simulation, version, o)}
                there = newer & set(claimed[actor])
                promise(not there, f"the AI is asked for {version}, and {' '.join(there)} was there before the claim")
            known |= asked


def unsent_messages_are_not_answered(simulation: Simulation) -> None:
    if simulation.beyond_the_limits:
        return
    for unsending in simulation.unsendings:
        ends = [end for version in unsending.told if (end := end_of(simulation, version))]
        later = {content for reply in simulation.archive.commits[unsending.commits :] for content in answered_by(reply)}
        late = [version for version in unsending.told if simulation.contents[version] in later]
        if unsending.status == 200:
            promise(not late, f"{' '.join(late)}: unsent, and answered afterwards")
        elif unsending.status == 409:
            kept = not ends or any(end.kind != "cancelled" for end in ends)
            promise(kept, f"{unsending.message_id}: not unsent because it was answered, and it was not")
        elif not simulation.faults_at:
            promise(
                not unsending.told, f"{unsending.message_id}: not unsent because it was unknown, and it was told 202"
            )


def unsent_messages_are_in_no_later_context(simulation: Simulation) -> None:
    """Checked only if all stores were there all the time: they may have learned of the message's turn later."""
    if set(simulation.counts) - {*CRASHES, *PAUSES, "delivered twice"}:
        return
    unsent = [
        (unsending.steps, simulation.contents[version])
        for unsending in simulation.unsendings
        if unsending.status != 404
        for version in unsending.told
    ]
    fenced: dict[str, int] = {}
    for step, (_, actor, what, details, _) in enumerate(simulation.trace):
        if what == "archive.fence":
            fenced[actor] = step
        elif what == "is asked":
            said = [content for at, content in unsent if content in details[1] and at < fenced[actor]]
            promise(not said, f"the AI is told of unsent messages: {said}")


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
    for version, told in simulation.told.items():
        ends = [(end.status, end.reply, end.error) for end in jobs_of(simulation, version)]
        for job_id in told:
            chain = chain_of(simulation, job_id)
            if was_unsent(simulation, version):
                # It ended in a job of its own. The promised job may have gone on without it.
                promise(chain[0].status.ended, f"{version} was promised a job that never ends")
                continue
            # Two jobs may each have answered the other's message. Then one of them leads to a copy of the other.
            shown = [(job.status, job.reply, job.error) in ends for job in chain]
            promise(any(shown), f"{version} was promised a job that does not lead to its end")
            # The jobs behind it belong to other messages.
            before = chain[: shown.index(True) + 1]
            promise(all(job.status.ended for job in before), f"{version} was promised a job that never ends")
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
