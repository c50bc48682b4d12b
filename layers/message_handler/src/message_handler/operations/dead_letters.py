"""Records and deliveries that failed too often: they are shown, and tried again."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from message_handler.delivery.deliveries import Deliveries
from message_handler.domain.documents import timestamp
from message_handler.domain.errors import Unavailable
from message_handler.domain.records import ArchivedRecord, DeliveryRecord
from message_handler.ports.queue import DeadLetter, Queue
from message_handler.worker.worker import Worker

_log = logging.getLogger(__name__)
#: The longest time that one sweep spends on the dead letters: well below the function's 60 s and the API's 29 s.
_REDRIVE_SECONDS = 10.0
#: The longest time for failing a dead letter's job. The next sweep tries again.
_GIVE_UP_SECONDS = 10.0


def redrive(worker: Worker, queue: Queue) -> int:
    """Send dead letters again that were dead because Postgres was away. Returns how many.

    A dead letter whose message is settled is removed. An archive record is archived. A record that comes back a second
    time has not waited for Postgres: it breaks its workers, so its job is failed visibly. A letter that is no record of
    ours stays for people to look at.
    """
    count, until = 0, worker.clock() + _REDRIVE_SECONDS
    with suppress(Unavailable):  # Postgres or the queue is away: the next sweep goes on
        while worker.clock() < until:
            letters = queue.dead_letters()
            for letter in letters:
                try:
                    count += _redrive(worker, queue, letter)
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001  it may break us as it broke its workers: go on with the others
                    _log.error("a dead letter can't be settled", extra={"error": type(error).__name__})
            if not letters:
                break
    if count:
        _log.info("dead letters were sent again", extra={"records": count})
    return count


def _redrive(worker: Worker, queue: Queue, letter: DeadLetter) -> bool:
    record = letter.record
    if record is None:
        return False
    if isinstance(record, DeliveryRecord):
        # The record only wakes a conversation. The outbox has its deliveries, and their own sweep wakes it again.
        queue.remove(letter)
        return False
    if isinstance(record, ArchivedRecord) or record.redriven:
        if worker.give_up(record, worker.clock() + _GIVE_UP_SECONDS):
            queue.remove(letter)
        return False
    if worker.check(record):
        queue.remove(letter)
        return False
    queue.send(replace(record, redriven=1))
    queue.remove(letter)
    return True


def dead_letters(deliveries: Deliveries | None, platform_id: str) -> dict[str, Any]:
    """The tenant's deliveries that were given up, without any text. Raises Unavailable.

    The queue's own dead letters belong to all tenants, so they are not shown here.
    """
    dead = deliveries.dead(platform_id) if deliveries else []
    return {"deliveries": [asdict(delivery) | {"created_at": timestamp(delivery.created_at)} for delivery in dead]}
