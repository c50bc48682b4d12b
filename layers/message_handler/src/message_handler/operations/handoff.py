"""A human takes a conversation over, and hands it back to the bot.

Postgres has the truth. A tier that knows takes nothing in; one that doesn't is put right by the next worker's fence:

    hand off   Postgres: silent, fence + 1 ── tiers: flag, holder emptied ── a worker: fence ── messages are held
    hand back  Postgres: not silent ── tiers: no flag ── accept what is held, as one request ── hold it no longer

Whoever dies in between strands nothing: what is still held of a conversation that the bot answers is handed back by the
sweep, under the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import TRANSIENT, Contended, HandedOff, InvalidRequest, NotFound, PayloadTooLarge
from message_handler.domain.handoff import ParkedMessage
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Request
from message_handler.intake.silence import silence
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Accepted
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)

#: So much is handed back at once, that it fits into one record; the sweep brings what is left.
MAX_BACK_BYTES = 256 * 1024
MAX_BACK_MESSAGES = 1_000

Accept = Callable[[Request], tuple[Tier, Accepted]]


def parse_handoff(body: Any) -> bool:
    """Whether a human shall answer, from `{"to": "human"}` or `{"to": "bot"}`. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if set(body) - {"to"}:
        raise InvalidRequest("is the only field that there is", field="to")
    if body.get("to") not in ("human", "bot"):
        raise InvalidRequest("must be human or bot", field="to")
    return bool(body["to"] == "human")


def hand_off(tiers: Failover, archive: Archive, queue: Queue, key: ConversationKey) -> dict[str, Any]:
    """Silence the bot. Raises NotFound until something was accepted for the conversation, or Unavailable."""
    bot_id = archive.bot_of(key)
    if bot_id is None:
        found = tiers.find(lambda tier: tier.waiting(key))
        if found is None:
            raise _not_found()
        bot_id = found[1].bot_id
    archive.hand_off(key, bot_id)
    silence(tiers, queue, key)
    return _view(key, "handed_off", None)


def resume(
    tiers: Failover, archive: Archive, accept: Accept, key: ConversationKey, *, correlation_id: str = ""
) -> dict[str, Any]:
    """Let the bot answer again: one job for all that waited. Raises NotFound or Unavailable."""
    if not archive.resume(key):
        raise _not_found()
    job_id = unpark(tiers, archive, accept, key, correlation_id=correlation_id)
    return _view(key, "active", job_id)


def unpark(
    tiers: Failover, archive: Archive, accept: Accept, key: ConversationKey, *, correlation_id: str = ""
) -> str | None:
    """Let a job answer what is held of a conversation that the bot answers again; returns its id, if anything was."""
    with suppress(*TRANSIENT):  # one that goes on believing it asks Postgres before it turns anybody away
        tiers.each(lambda tier: tier.hand_off(key, human=False))
    back = archive.parked(key)
    if back is None or not back.parked:
        return None
    back = replace(back, parked=_first_of(back.parked))
    _forget_failures(tiers, archive, key, back.parked)
    contexts = [kept.context for kept in back.parked]
    resources = [kept.resources for kept in back.parked if kept.resources]
    request = Request(
        key,
        tuple(kept.message for kept in back.parked),
        max(contexts, key=len),
        back.bot_id,
        resources[-1] if resources else {},
        correlation_id,
    )
    try:
        _, accepted = accept(request)
    except HandedOff:
        # A human has taken it again: it stays where it is.
        return None
    # Of the messages that its record does not carry nothing may be forgotten: the sweep brings them.
    carried = {id_ for message in accepted.pending for id_ in message.ids} | set(back.parked[-1].message.ids)
    sent = tuple(kept for kept in back.parked if not carried.isdisjoint(kept.message.ids))
    archive.unparked(key, replace(back, parked=sent), accepted.job_id)
    return accepted.job_id


def unpark_the_rest(tiers: Failover, archive: Archive, accept: Accept) -> int:
    """What the sweep does for those whose hand-back was broken off; returns how many conversations."""
    count = 0
    for key in archive.to_unpark():
        try:
            count += unpark(tiers, archive, accept, key) is not None
        except Contended:
            continue  # at the next sweep
        except PayloadTooLarge:
            # With what waits there it is too much for one record: when that is answered.
            _log.warning("too large to hand back now")
    return count


def _forget_failures(tiers: Failover, archive: Archive, key: ConversationKey, held: tuple[ParkedMessage, ...]) -> None:
    """What failed and was opened again is no duplicate for a tier that remembers the failed job's end."""
    for job_id in {kept.job_id for kept in held if kept.job_id}:
        job = archive.job(key.platform_id, job_id)
        if not job or job.status is not JobStatus.FAILED:
            continue
        ids = [id_ for kept in held if kept.job_id == job_id for id_ in kept.message.ids]
        with suppress(*TRANSIENT):  # a worker finds at its record that the message is open, and forgets the end then
            tiers.each(partial(_forget, key=key, ids=ids, job_id=job_id))


def _forget(tier: Tier, key: ConversationKey, ids: list[str], job_id: str) -> None:
    for id_ in ids:
        if tier.ended_by(key, id_) == job_id:
            tier.forget(key, id_)


def _first_of(held: tuple[ParkedMessage, ...]) -> tuple[ParkedMessage, ...]:
    """The oldest ones that fit into one record; one at least."""
    size = 0
    for number, kept in enumerate(held[:MAX_BACK_MESSAGES]):
        size += len(kept.message.content.encode())
        if number and size > MAX_BACK_BYTES:
            return held[:number]
    return held[:MAX_BACK_MESSAGES]


def _not_found() -> NotFound:
    return NotFound("there is no such conversation", field="conversation_id")


def _view(key: ConversationKey, status: str, job_id: str | None) -> dict[str, Any]:
    return {"conversation_id": key.conversation_id, "status": status, "ai_job_id": job_id}
