"""The queue port in SQS."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Mapping
from typing import Any

from message_handler.domain.errors import Unavailable
from message_handler.domain.records import AnyRecord, key_of
from message_handler.ports.queue import DeadLetter
from message_handler.queue.codec import decode, encode
from message_handler.queue.timing import DEAD_LETTER_SECONDS

_log = logging.getLogger(__name__)
#: The longest MessageGroupId that SQS accepts. It allows every character of an identifier.
MAX_GROUP_CHARACTERS = 128
#: The most entries that one call of SQS accepts.
_CALL_ENTRIES = 10


class SqsQueue:
    """See the port `Queue`. It is a standard queue with the tenant as `MessageGroupId`: a fair queue (invariant 13)."""

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
        return [DeadLetter(_record_in(m), m["ReceiptHandle"]) for m in answer.get("Messages", ())]

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
        """Hide each received record for its number of seconds, by its receipt. One call serves ten records.

        SQS counts whole seconds, and hides a record for at most 12 hours after its receive. Returns the receipts that
        SQS no longer accepts: the record was deleted, or has come back already. Raises Unavailable.
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
            # An entry that failed by SQS' own fault is tried again with the next call.
            gone |= {some[int(failure["Id"])] for failure in answer.get("Failed", ()) if failure["SenderFault"]}
        return gone

    def close(self) -> None:
        self._client.close()

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # here, because a start without SQS needs none

        try:
            answer = getattr(self._client, operation)(**{"QueueUrl": self._url} | arguments)
        except (BotoCoreError, ClientError) as error:
            # The error is not chained, and only its code is logged: botocore's errors may quote the request (invariant
            # 11).
            response = error.response if isinstance(error, ClientError) else {}
            code = response.get("Error", {}).get("Code", type(error).__name__)
            if not self._refusing:  # one log line for each outage
                _log.warning("SQS refused a call, or did not answer", extra={"operation": operation, "error": code})
            self._refusing = True
            raise Unavailable("the queue") from None
        self._refusing = False
        return answer


def _group(platform_id: str) -> str:
    """The tenant's MessageGroupId. An id that is too long for SQS is replaced by its digest."""
    if len(platform_id) <= MAX_GROUP_CHARACTERS:
        return platform_id
    return hashlib.blake2b(platform_id.encode(), digest_size=32).hexdigest()


def sent_at(attributes: Mapping[str, Any]) -> float:
    """When SQS accepted a message (Unix seconds), by its attributes. A dead letter keeps that time."""
    return int(attributes.get("SentTimestamp", 0)) / 1000


def _record_in(message: Mapping[str, Any]) -> AnyRecord | None:
    try:
        return decode(message["Body"], sent_at(message.get("Attributes", {})))
    except Exception:  # noqa: BLE001  other senders may have put anything into the queue
        return None
