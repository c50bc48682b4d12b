"""The worker function attempts deliveries, and the schedule finds those that are due."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from message_handler.archive.memory import MemoryArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.raised import Raised
from message_handler.domain.records import NoticeRecord
from message_handler.queue.codec import encode
from message_handler.queue.sqs import SqsQueue
from message_handler.queue.timing import retry_delay
from tests.contract.conversation import raised
from tests.unit.service import CANARY, KEY, Service

DELIVERIES = "https://sqs.example/1/stack-DeliveryQueue"


@dataclass
class Recorded:
    """Stands in for deliveries, which need a Postgres. It records what it is asked for."""

    error: Exception | None = None
    delivered: list[tuple[ConversationKey, float]] = field(default_factory=list)
    swept: int = 0

    def deliver(self, key: ConversationKey, deadline: float) -> None:
        if self.error:
            raise self.error
        self.delivered.append((key, deadline))

    def sweep(self) -> None:
        self.swept += 1


def test_a_delivery_record_has_its_conversation_delivered_in_the_functions_time(service: Service) -> None:
    service.use(worker=replace(service.parts.worker, deliveries=(asked := Recorded())))
    before = time.time()
    assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
    ((key, deadline),) = asked.delivered
    assert key == KEY
    assert before + 100 < deadline < time.time() + 120


def test_a_delivery_that_crashes_is_left_to_the_sweep(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
) -> None:
    settings = service.parts.settings.model_copy(update={"delivery_queue_url": DELIVERIES})
    crashing = replace(service.parts.worker, deliveries=Recorded(KeyError(CANARY)))
    service.use(single_try_queue=sqs, settings=settings, worker=crashing)
    assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
    assert [line["error"] for line in service.output.logs if line["level"] == "ERROR"] == ["KeyError"]
    assert changed == []


def test_an_unreadable_record_is_not_hidden_in_the_other_queue(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
) -> None:
    settings = service.parts.settings.model_copy(update={"delivery_queue_url": DELIVERIES})
    service.use(single_try_queue=sqs, settings=settings)
    event = service.event("worker-delivery")
    (record,) = event["Records"]
    record["body"] = "{"
    assert service.invoke("worker", event) == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert changed == []


@pytest.mark.parametrize("receive_count", [1, 4])
def test_a_notice_that_fails_comes_back_after_seconds(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]], receive_count: int
) -> None:
    """By itself it would come back after the queue's own visibility, 12 minutes."""

    class Breaking(MemoryArchive):
        def note_raised(self, raised: Raised) -> bool:
            raise KeyError(CANARY)

    settings = service.parts.settings.model_copy(update={"delivery_queue_url": DELIVERIES})
    archive = Breaking()
    worker = replace(service.parts.worker, archive=archive)
    service.use(delivery_queue=sqs, settings=settings, worker=worker)
    event = service.event("worker-delivery")
    (record,) = event["Records"]
    record["body"] = encode(NoticeRecord(raised()))
    record["attributes"]["ApproximateReceiveCount"] = str(receive_count)
    assert service.invoke("worker", event) == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert {entry["ReceiptHandle"] for entry in changed} == {record["receiptHandle"]}
    assert changed[-1]["VisibilityTimeout"] == retry_delay(receive_count)


def test_without_postgres_there_is_nothing_to_deliver(service: Service) -> None:
    assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
    shown = service.http("admin", service.event("admin-dead-letters"))
    assert (shown.status, shown.body) == (200, {"deliveries": []})
    redriven = service.http("admin", service.event("admin-redrive-dead-letters"))
    assert (redriven.status, redriven.body) == (200, {"redriven": 0})


def test_the_schedule_sweeps_deliveries_too(service: Service) -> None:
    service.use(deliveries=(asked := Recorded()))
    service.invoke("admin", service.event("admin-schedule"))
    assert asked.swept == 1
