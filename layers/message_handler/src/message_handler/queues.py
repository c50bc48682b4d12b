"""The queue of records: SQS, or threads of this process where no queue is configured.

A record's body is JSON and holds everything that is needed to answer, because every store may forget.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

from message_handler.errors import PayloadTooLarge, Unavailable
from message_handler.models import (
    AnyRecord,
    ArchiveRecord,
    ConversationKey,
    DeliveryRecord,
    Message,
    Outcome,
    Record,
    Request,
    dated,
)
from message_handler.stores.documents import as_text, job_from_json, job_to_json, turns_from_json, turns_to_json

_log = logging.getLogger(__name__)

#: What one record may hold: SQS takes 1 MiB, and needs some of it for attributes.
MAX_RECORD_BYTES = 1_000_000
#: What SQS takes as MessageGroupId; all characters of an identifier are allowed.
MAX_GROUP_CHARACTERS = 128
#: After so many failed deliveries a record is given up, as the template's redrive policy has it.
MAX_RECEIVE_COUNT = 5
#: Seconds until a record that was not finished is tried again, by how often it was received: its few deliveries should
#: outlast what stands in its way.
HAND_ON_SECONDS = (10.0, 20.0, 60.0, 240.0, 720.0)
#: For so many seconds at a time a living worker hides its records from others, and how often it does so anew.
HIDING_SECONDS, EXTEND_SECONDS = 10.0, 2.0
#: From this delivery on a record is worked on alone: it may be what kills its workers.
ALONE_FROM = 3
#: What one call of SQS takes.
_CALL_ENTRIES = 10
#: A worker waits for a patient who may still be typing if it takes no longer than this: SQS counts whole seconds.
PATIENCE_SECONDS = 5.0
#: For so long a dead letter that was looked at is hidden from the next sweep.
DEAD_LETTER_SECONDS = 50


def encode(record: AnyRecord) -> str:
    """The record as JSON. Raises PayloadTooLarge where a conversation keeps more text waiting than a record holds."""
    if isinstance(record, ArchiveRecord):
        value: dict[str, Any] = {"archive": job_to_json(record.job)}
    elif isinstance(record, DeliveryRecord):
        value = {"deliver": asdict(record.key)}
    else:
        request = record.request
        value = {
            "platform_id": request.key.platform_id,
            "conversation_id": request.key.conversation_id,
            "job_id": record.job_id,
            "message_id": record.message_id,
            "bot_id": request.bot_id,
            "messages": [_message_to_json(record, message) for message in request.messages],
            "context": turns_to_json(request.context),
            "resources": request.resources,
            "correlation_id": request.correlation_id,
            "double_texting": request.double_texting,
        }
    if record.redriven:
        value["redriven"] = record.redriven
    body = as_text(value)
    # All of JSON's text but these two may be in an SQS message; a third of the bytes of escaping everything.
    body = body.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    if len(body.encode()) > MAX_RECORD_BYTES:
        raise PayloadTooLarge("the conversation has too much unanswered text; wait for the reply")
    return body


def _message_to_json(record: Record, message: Message) -> dict[str, Any]:
    """A message of the record; that its own message was promised the record's job goes without saying."""
    if record.message_id in message.ids and message.promised == (record.job_id,):
        message = replace(message, promised=())
    return message.to_json()


def decode(body: str, sent_at: float = 0.0) -> AnyRecord:
    """The record in an SQS message's body. Raises ValueError, KeyError or TypeError for one that is none of ours.

    One of an earlier version does not say when its messages were accepted: then when it was sent (Unix seconds).
    """
    value: dict[str, Any] = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("no record")
    redriven = value.get("redriven", 0)
    if "archive" in value:
        job = job_from_json(value["archive"])
        return ArchiveRecord(replace(job, messages=dated(job.messages, job.created_at)), redriven)
    if "deliver" in value:
        return DeliveryRecord(ConversationKey(**value["deliver"]), redriven)
    record = Record(
        job_id=value["job_id"],
        message_id=value["message_id"],
        request=Request(
            key=ConversationKey(value["platform_id"], value["conversation_id"]),
            messages=tuple(Message.from_json(message) for message in value["messages"]),
            context=turns_from_json(value["context"]),
            bot_id=value["bot_id"],
            resources=value["resources"],
            # Records of an earlier version have neither.
            correlation_id=value.get("correlation_id", ""),
            double_texting=value.get("double_texting", "consolidate"),
        ),
        redriven=redriven,
    )
    # A record of an earlier version says of its own message alone what it was promised.
    told = tuple(m.told(record.job_id) if record.message_id in m.ids else m for m in record.request.messages)
    record = replace(record, request=replace(record.request, messages=told))
    if record.accepted_at:
        # What an earlier version took in before has a record of its own, which says more than this one can.
        return record
    return replace(record, request=replace(record.request, messages=dated(record.request.messages, sent_at)))


def key_of(record: AnyRecord) -> ConversationKey:
    """The conversation that a record belongs to."""
    if isinstance(record, DeliveryRecord):
        return record.key
    return record.job.key if isinstance(record, ArchiveRecord) else record.request.key


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was delivered too often; None if it is none of ours. `receipt` lets it be removed."""

    record: AnyRecord | None
    receipt: str


class Queue(Protocol):
    """Where records wait for a worker, at least once and in no order."""

    name: str
    #: Whether the workers are threads of this process, which share its memory.
    in_process: bool

    def ping(self) -> None: ...

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        """Durable when this returns; seen by a worker after `delay` seconds.

        Raises Unavailable if the queue refused, or if nobody knows; PayloadTooLarge if it never will take it.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """Some of the records that were delivered too often, hidden from others for a minute. Raises Unavailable."""

    def count_dead_letters(self) -> int | None:
        """About how many there are, of all tenants; None where that isn't known. Raises Unavailable."""

    def depth(self) -> dict[str, int]:
        """About how many records there are, of all tenants: `visible`, `in_flight`, `delayed`. Raises Unavailable."""

    def remove(self, letter: DeadLetter) -> None:
        """Remove a dead letter for good. Raises Unavailable."""

    def close(self) -> None: ...


class SqsQueue:
    """A standard queue; `MessageGroupId` is the tenant, so that none starves another (fair queue)."""

    name = "sqs"
    in_process = False

    def __init__(self, client: Any, url: str, dead_letter_url: str | None = None) -> None:
        self._client = client
        self._url = url
        self._dead_letter_url = dead_letter_url
        self._refusing = False

    def ping(self) -> None:
        self._call("get_queue_attributes", AttributeNames=["ApproximateNumberOfMessages"])

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        self._call(
            "send_message",
            MessageBody=encode(record),
            DelaySeconds=delay,
            MessageGroupId=_group(key_of(record).platform_id),
        )

    def dead_letters(self) -> list[DeadLetter]:
        if self._dead_letter_url is None:
            return []
        answer = self._call(
            "receive_message",
            QueueUrl=self._dead_letter_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=DEAD_LETTER_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return [DeadLetter(_readable(m), m["ReceiptHandle"]) for m in answer.get("Messages", ())]

    def count_dead_letters(self) -> int | None:
        if self._dead_letter_url is None:
            return None
        name = "ApproximateNumberOfMessages"
        answer = self._call("get_queue_attributes", QueueUrl=self._dead_letter_url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def depth(self) -> dict[str, int]:
        names = {"visible": "", "in_flight": "NotVisible", "delayed": "Delayed"}
        names = {name: f"ApproximateNumberOfMessages{which}" for name, which in names.items()}
        found = self._call("get_queue_attributes", AttributeNames=list(names.values()))["Attributes"]
        return {name: int(found[attribute]) for name, attribute in names.items()}

    def remove(self, letter: DeadLetter) -> None:
        self._call("delete_message", QueueUrl=self._dead_letter_url, ReceiptHandle=letter.receipt)

    def hide(self, seconds: Mapping[str, float]) -> set[str]:
        """Let each received record, by its receipt, come back after so many seconds, in one call for ten of them.

        SQS counts whole ones, from the receive 12 hours at most. Returns the receipts that it does not take any more:
        the record was deleted, or has come back already. Raises Unavailable.
        """
        gone: set[str] = set()
        for some in itertools.batched(seconds, _CALL_ENTRIES):
            entries = [
                {
                    "Id": str(number),
                    "ReceiptHandle": receipt,
                    "VisibilityTimeout": min(43_000, max(0, math.ceil(seconds[receipt]))),
                }
                for number, receipt in enumerate(some)
            ]
            answer = self._call("change_message_visibility_batch", Entries=entries)
            # What failed through no fault of ours is tried again with the next call.
            gone |= {some[int(failure["Id"])] for failure in answer.get("Failed", ()) if failure["SenderFault"]}
        return gone

    def close(self) -> None:
        self._client.close()

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = getattr(self._client, operation)(**{"QueueUrl": self._url} | arguments)
        except (BotoCoreError, ClientError) as error:
            # Not chained, and its code alone: botocore's errors may quote the request.
            response = error.response if isinstance(error, ClientError) else {}
            code = response.get("Error", {}).get("Code", type(error).__name__)
            if not self._refusing:  # one line an outage
                _log.warning("the queue refused", extra={"operation": operation, "error": code})
            self._refusing = True
            raise Unavailable("the queue") from None
        self._refusing = False
        return answer


def hand_on(receive_count: int) -> float:
    """Seconds until a record that was received so often, and not finished, is tried again."""
    return HAND_ON_SECONDS[min(receive_count, len(HAND_ON_SECONDS)) - 1]


class Hiding:
    """Hides a batch's records from other workers for as long as this process lives and works on the batch.

        worker A: receives ── hides for 10 s ── 2 s ── hides for 10 s ── dies
        worker B:                                                              8 to 10 s later: receives

    Lambda hides a record for no less than its function may run: six times 120 s here. So the records of a worker that
    died came back after 12 minutes. The records that are finished stay hidden too: Lambda deletes them only when the
    whole batch has ended. One that was received again and again is hidden for longer, as it is handed on: where all
    workers are too slow to say in time that they live, it must not come to the dead letters for that.
    """

    def __init__(self, queue: SqsQueue, receive_counts: Mapping[str, int]) -> None:
        """`receive_counts`: how often each record was received, by its receipt."""
        self._queue = queue
        self._seconds = {
            receipt: HIDING_SECONDS if count < ALONE_FROM else hand_on(count)
            for receipt, count in receive_counts.items()
        }
        #: Held during a call: no record is hidden anew after it was handed on.
        self._calling = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hiding", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for a call that is under way: a process that Lambda has frozen must not go on with it later."""
        self._ended.set()
        self._thread.join()

    def hand_on(self, receipt: str, seconds: float) -> None:
        """Let a record come back after so many seconds. If SQS refuses, it comes back as a dead worker's does."""
        with self._calling, suppress(Unavailable):
            self._seconds.pop(receipt, None)
            self._queue.hide({receipt: seconds})

    def _run(self) -> None:
        while True:
            with self._calling, suppress(Unavailable):  # the next call may get through in time
                for receipt in self._queue.hide(self._seconds):
                    del self._seconds[receipt]
            if self._ended.wait(EXTEND_SECONDS):
                return


def _group(platform_id: str) -> str:
    """The tenant's group. A platform's id may be longer than the 128 characters that SQS takes."""
    if len(platform_id) <= MAX_GROUP_CHARACTERS:
        return platform_id
    return hashlib.blake2b(platform_id.encode(), digest_size=32).hexdigest()


def sent_at(attributes: Mapping[str, Any]) -> float:
    """When SQS took a message (Unix seconds), of its attributes; it stays so among the dead letters."""
    return int(attributes.get("SentTimestamp", 0)) / 1000


def _readable(message: Mapping[str, Any]) -> AnyRecord | None:
    try:
        return decode(message["Body"], sent_at(message.get("Attributes", {})))
    except Exception:  # noqa: BLE001  anybody may have put anything there
        return None


class ThreadQueue:
    """Records in this process's memory, worked on by its own threads; all of it ends with the process."""

    name = "threads"
    in_process = True

    def __init__(self, work: Callable[[AnyRecord, int], Outcome], *, threads: int = 10) -> None:
        self._work = work
        self._limit = threads
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, int, AnyRecord]] = []
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def ping(self) -> None:
        """A process reaches its own threads, until it has closed them."""
        if self._closed:
            raise Unavailable("the queue")

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        encode(record)  # the same bound as SQS, so that nothing works here that fails there
        self._put(record, delay, 1)

    def dead_letters(self) -> list[DeadLetter]:
        """None: what is given up here is gone, and said so."""
        return []

    def count_dead_letters(self) -> int | None:
        """See `dead_letters`."""
        return None

    def depth(self) -> dict[str, int]:
        with self._changed:
            now = time.monotonic()
            due = sum(1 for at, *_ in self._waiting if at <= now)
            busy = len(self._threads) - self._idle
            return {"visible": due, "in_flight": busy, "delayed": len(self._waiting) - due}

    def remove(self, letter: DeadLetter) -> None:
        """See `dead_letters`."""

    def close(self) -> None:
        """Stop after what is being worked on; what waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, record: AnyRecord, delay: float, receive_count: int) -> None:
        with self._changed:
            if self._closed:
                raise Unavailable("the queue")
            item = (time.monotonic() + delay, next(self._numbers), receive_count, record)
            heapq.heappush(self._waiting, item)
            # An idle thread that was notified stays idle until it runs: it must not be counted on twice.
            if len(self._waiting) > self._idle and len(self._threads) < self._limit:
                thread = threading.Thread(target=self._run, name="message-handler-worker", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            receive_count, record = item
            try:
                again = self._work(record, receive_count).back
            except Exception as error:  # noqa: BLE001  the thread must live on for other records
                # A worker function would report the record as failed; the type is all that may be told.
                _log.error("a job failed unexpectedly", extra={"error": type(error).__name__})
                again = 5.0
            if again is not None and receive_count < MAX_RECEIVE_COUNT:
                with suppress(Unavailable):  # closed: what waits is dropped
                    self._put(record, again, receive_count + 1)
            elif again is not None:
                job_id = None if isinstance(record, DeliveryRecord) else record.job_id
                _log.error("a record was given up", extra={"ai_job_id": job_id})

    def _next(self) -> tuple[int, AnyRecord] | None:
        with self._changed:
            while not self._closed:
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    _, _, receive_count, record = heapq.heappop(self._waiting)
                    return receive_count, record
                self._idle += 1
                self._changed.wait(wait)
                self._idle -= 1
            return None
