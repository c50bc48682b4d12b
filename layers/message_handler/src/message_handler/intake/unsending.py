"""A patient takes a message back.

Postgres decides, as for a cancel. Otherwise a record of other messages, which carries this one along, would bring it
back:

    Postgres: settled as cancelled, fence + 1 ── tiers: the message leaves its job ── the run goes on without it
        └─ the process dies here: the commit of the run is refused, and the next run's fence finds it settled
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import TRANSIENT, Conflict, InvalidRequest, NotFound, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import base_id
from message_handler.domain.records import DeliveryRecord
from message_handler.intake.requests import MESSAGE_ID, MESSAGE_ID_RULE
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.queue.wake import wake
from message_handler.tiers.failover import Failover


def unsend(
    tiers: Failover,
    archive: Archive,
    queue: Queue,
    key: ConversationKey,
    message_id: str,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Take a message back. Returns the body of the `200`.

    Raises InvalidRequest, NotFound, Conflict (it was answered: the reply stands, and later contexts omit the message),
    or Unavailable (nothing is decided).
    """
    if not re.fullmatch(MESSAGE_ID, message_id):
        raise InvalidRequest(MESSAGE_ID_RULE, field="message_id")
    if archive.name == "none":
        raise Unavailable("Postgres, which decides what is unsent,")
    waiting, away = _waiting(tiers, key, message_id)
    unsent = archive.unsend(key, message_id, waiting, at=clock())
    if unsent.is_told:
        with suppress(Unavailable):  # the sweep replaces a lost record
            queue.send(DeliveryRecord(key))
    if unsent.outcome == "answered":
        raise Conflict(
            "the message has been answered: its reply stands, and later contexts omit the message", field="message_id"
        )
    if unsent.outcome == "unknown":
        if away:
            # Maybe the message waits there.
            raise away
        if tiers.find(lambda tier: tier.ended_by(key, message_id)):
            # It was answered while Postgres was away: answered ── Postgres is back ── unsent ── the answer is archived
            raise Unavailable("Postgres, which lacks the message's end,")
        raise NotFound("there is no such message", field="message_id")
    if unsent.job_id:
        _drop(tiers, queue, key, unsent.message_ids, unsent.job_id)
    return {"conversation_id": key.conversation_id, "message_id": message_id, "status": "unsent"}


def _waiting(tiers: Failover, key: ConversationKey, message_id: str) -> tuple[list[Job], Exception | None]:
    """The jobs in which the message waits, and the error of a tier that could not be asked."""
    waiting: list[Job] = []
    away: Exception | None = None
    for tier in tiers.tiers:
        try:
            jobs = tier.jobs(key)
        except TRANSIENT as error:
            away = error
        else:
            waiting += [job for job in jobs if any(message_id in map(base_id, m.ids) for m in job.messages)]
    return waiting, away


def _drop(tiers: Failover, queue: Queue, key: ConversationKey, message_ids: tuple[str, ...], job_id: str) -> None:
    """Let the tiers go on without the messages. A tier that is away learns it from the next run's fence."""
    with suppress(*TRANSIENT):
        tiers.each(lambda tier: tier.unsend(key, message_ids, job_id))
        found = tiers.find(lambda tier: tier.waiting(key))
        if found and found[1].status is JobStatus.PENDING:
            # The records of its messages may come late.
            wake(queue, found[1])
