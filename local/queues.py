"""Event source mappings: give a queue's records to a function, as Lambda does.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from local.intrinsics import REGION
from local.pool import Pool
from local.runtime import Outcome
from local.template import EventSource, Queue

_log = logging.getLogger(__name__)

_POLL_SECONDS = 5  # the length of a long poll, which ends early with a message
_PAUSE_SECONDS = 0.5  # after a failed read of the queue


def create_queues(sqs: Any, queues: Mapping[str, Queue]) -> None:
    """Create the template's queues, dead letter queues first."""
    for queue in sorted(queues.values(), key=lambda queue: queue.dead_letter_arn is not None):
        attributes = dict(queue.attributes)
        if queue.dead_letter_arn is not None:
            policy = {"deadLetterTargetArn": queue.dead_letter_arn, "maxReceiveCount": queue.maximum_receives}
            attributes["RedrivePolicy"] = json.dumps(policy)
        sqs.create_queue(QueueName=queue.name, Attributes=attributes)


class Mapper:
    """Polls a queue and invokes a function with batches, several at the same time.

    When the function succeeds, a batch's records are deleted, except those that it reports as failed. A record that is
    not deleted comes back when its visibility timeout ends: the queue's, or the one that the function has set. After
    the queue's maximum number of receives it becomes a dead letter.
    """

    def __init__(
        self, source: EventSource, queue: Queue, queue_url: str, sqs: Any, pool: Pool, concurrency: int
    ) -> None:
        self._source = source
        self._queue = queue
        self._queue_url = queue_url
        self._sqs = sqs
        self._pool = pool
        self._places = threading.BoundedSemaphore(min(concurrency, source.maximum_concurrency or concurrency))
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._poll, name="mapping", daemon=True).start()

    def stop(self) -> None:
        """Receive no more batches. Messages of a poll that is still open are returned to the queue at once."""
        self._stopping.set()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._places.acquire()
            messages = self._receive()
            if not messages or self._stopping.is_set():
                self._give_back(messages)
                self._places.release()
                continue
            threading.Thread(target=self._process, args=(messages,), name="batch", daemon=True).start()

    def _receive(self) -> list[dict[str, Any]]:
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=min(self._source.batch_size, 10),
                WaitTimeSeconds=_POLL_SECONDS,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except Exception as error:  # noqa: BLE001 (the mapping goes on; when the host stops, the queue ends first)
            if not self._stopping.wait(_PAUSE_SECONDS):
                _log.warning("%s can't be read: %s", self._queue.name, error)
            return []
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _give_back(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Make messages visible again at once, so that another mapping can receive them."""
        for message in messages:
            try:
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            except Exception as error:  # noqa: BLE001 (it comes back by itself; when the host stops, the queue ends first)
                _log.debug("a record can't be returned to %s: %s", self._queue.name, error)

    def _process(self, messages: Sequence[Mapping[str, Any]]) -> None:
        try:
            event = {"Records": [self._record(message) for message in messages]}
            outcome = self._pool.submit(json.dumps(event).encode()).result()
            done = processed(outcome, [message["MessageId"] for message in messages], self._source.partial_failures)
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
                if message["MessageId"] in done
            ]
            if entries:
                result = self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
                for failure in result.get("Failed", []):
                    _log.warning("a record of %s can't be deleted: %s", self._queue.name, failure["Code"])
        except Exception as error:  # noqa: BLE001 (the batch comes back after its visibility timeout)
            if not self._stopping.is_set():
                _log.warning("a batch of %s failed: %r", self._queue.name, error)
        finally:
            self._places.release()

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {
                name: {
                    "stringValue": value.get("StringValue"),
                    "stringListValues": [],
                    "binaryListValues": [],
                    "dataType": value["DataType"],
                }
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._queue.arn,
            "awsRegion": REGION,
        }


def processed(outcome: Outcome, message_ids: Sequence[str], partial_failures: bool) -> set[str]:
    """The ids of the messages that the function has processed; empty if it failed.

    With partial failures on, it is empty too if the report is malformed: an empty or unknown id, or a wrong shape.
    """
    everything = set(message_ids)
    if outcome.failed:
        return set()
    if not partial_failures:
        return everything
    try:
        failures = (json.loads(outcome.payload) or {}).get("batchItemFailures") or []
        failed = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
    return everything - failed if failed <= everything else set()
