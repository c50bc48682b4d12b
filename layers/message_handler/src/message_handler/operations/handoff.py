"""A human takes a conversation over, and later the bot is resumed.

Postgres has the truth. A tier that knows of the human accepts no messages. The next worker's fence tells a tier that
does not know:

    hand off   Postgres: silent, fence + 1 ── tiers: flag, lease emptied ── a worker: fence ── messages are parked
    resume     Postgres: not silent ── tiers: no flag ── accept what is parked, as one request ── no longer parked

A process that dies between two steps strands nothing. The bot answers the conversation again, but messages are still
parked: the sweep has them accepted, under the same ids.
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

#: The most that is accepted at once, so that it fits into one record. The sweep brings the rest.
MAX_UNPARKED_BYTES = 256 * 1024
MAX_UNPARKED_MESSAGES = 1_000

Accept = Callable[[Request], tuple[Tier, Accepted]]


def parse_handoff(body: Any) -> bool:
    """Read `{"to": "human"}` as True, and `{"to": "bot"}` as False. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if set(body) - {"to"}:
        raise InvalidRequest("must be the only field", field="to")
    if body.get("to") not in ("human", "bot"):
        raise InvalidRequest("must be human or bot", field="to")
    return bool(body["to"] == "human")


def hand_off(tiers: Failover, archive: Archive, queue: Queue, key: ConversationKey) -> dict[str, Any]:
    """Silence the bot. Raises NotFound until a message was accepted for the conversation, or Unavailable."""
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
    """Let the bot answer again, with one job for all parked messages. Raises NotFound or Unavailable."""
    if not archive.resume(key):
        raise _not_found()
    job_id = unpark(tiers, archive, accept, key, correlation_id=correlation_id)
    return _view(key, "active", job_id)


def unpark(
    tiers: Failover, archive: Archive, accept: Accept, key: ConversationKey, *, correlation_id: str = ""
) -> str | None:
    """Have a job answer the parked messages of a conversation that the bot answers again. None: nothing is parked."""
    with suppress(*TRANSIENT):  # a tier that was not told asks Postgres before it refuses a message
        tiers.each(lambda tier: tier.hand_off(key, human=False))
    found = archive.parked(key)
    if found is None or not found.parked:
        return None
    found = replace(found, parked=_oldest(found.parked))
    _forget_failures(tiers, archive, key, found.parked)
    contexts = [parked.context for parked in found.parked]
    resources = [parked.resources for parked in found.parked if parked.resources]
    request = Request(
        key,
        tuple(parked.message for parked in found.parked),
        max(contexts, key=len),
        found.bot_id,
        resources[-1] if resources else {},
        correlation_id,
    )
    try:
        _, accepted = accept(request)
    except HandedOff:
        # A human has taken the conversation over again: the messages stay parked.
        return None
    # A message that the job's record does not carry must stay parked: the sweep brings it.
    carried = {id_ for message in accepted.pending for id_ in message.ids} | set(found.parked[-1].message.ids)
    sent = tuple(parked for parked in found.parked if not carried.isdisjoint(parked.message.ids))
    archive.unparked(key, replace(found, parked=sent), accepted.job_id)
    return accepted.job_id


def unpark_the_rest(tiers: Failover, archive: Archive, accept: Accept) -> int:
    """Finish each resume that was broken off, as the sweep does. Returns for how many conversations."""
    count = 0
    for key in archive.to_unpark():
        try:
            count += unpark(tiers, archive, accept, key) is not None
        except Contended:
            continue  # at the next sweep
        except PayloadTooLarge:
            # Together with the waiting messages they are too much for one record. They go when those are answered.
            _log.warning("parked messages are too large to be accepted now")
    return count


def _forget_failures(
    tiers: Failover, archive: Archive, key: ConversationKey, messages: tuple[ParkedMessage, ...]
) -> None:
    """Have the tiers forget how a failed job ended, so that its reopened messages are no duplicates for them."""
    for job_id in {parked.job_id for parked in messages if parked.job_id}:
        job = archive.job(key.platform_id, job_id)
        if not job or job.status is not JobStatus.FAILED:
            continue
        ids = [id_ for parked in messages if parked.job_id == job_id for id_ in parked.message.ids]
        with suppress(*TRANSIENT):  # else the worker that gets the record finds the message open, and forgets the end
            tiers.each(partial(_forget, key=key, ids=ids, job_id=job_id))


def _forget(tier: Tier, key: ConversationKey, ids: list[str], job_id: str) -> None:
    tier.forget(key, [id_ for id_ in ids if tier.ended_by(key, id_) == job_id])


def _oldest(messages: tuple[ParkedMessage, ...]) -> tuple[ParkedMessage, ...]:
    """The oldest messages that fit into one record, and at least one."""
    size = 0
    for number, parked in enumerate(messages[:MAX_UNPARKED_MESSAGES]):
        size += len(parked.message.content.encode())
        if number and size > MAX_UNPARKED_BYTES:
            return messages[:number]
    return messages[:MAX_UNPARKED_MESSAGES]


def _not_found() -> NotFound:
    return NotFound("there is no such conversation", field="conversation_id")


def _view(key: ConversationKey, status: str, job_id: str | None) -> dict[str, Any]:
    return {"conversation_id": key.conversation_id, "status": status, "ai_job_id": job_id}
