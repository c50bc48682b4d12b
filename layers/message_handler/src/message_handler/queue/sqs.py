"""The queue in SQS."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Mapping
from typing import Any

from message_handler.domain.errors import Unavailable
from message_handler.domain.records import AnyRecord
from message_handler.ports.queue import DeadLetter
from message_handler.queue.codec import decode, encode, key_of
from message_handler.queue.timing import DEAD_LETTER_SECONDS

_log = logging.getLogger(__name__)
#: What SQS takes as MessageGroupId; all characters of an identifier are allowed.
MAX_GROUP_CHARACTERS = 128
#: What one call of SQS takes.
_CALL_ENTRIES = 10


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
