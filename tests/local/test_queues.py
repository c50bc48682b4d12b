"""The event source mapping, and the queues behind it."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from local.aws import OneAtATime
from local.pool import Pool
from local.queues import Mapper, processed
from local.runtime import Outcome
from local.stack import LocalStack
from local.template import EventSource, Queue

from .conftest import eventually


class Records:
    """Sends records, each with its own id. The log shows how often the worker got each."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._sqs = stack.sqs
        self._queue = stack.queue_url("JobQueue")

    def send(self, **body: Any) -> str:
        name = uuid.uuid4().hex
        self._sqs.send_message(QueueUrl=self._queue, MessageBody=json.dumps({"name": name, **body}))
        return name

    def send_batch(self, *bodies: dict[str, Any]) -> list[str]:
        names = [uuid.uuid4().hex for _ in bodies]
        entries = [
            {"Id": name, "MessageBody": json.dumps({"name": name, **body})}
            for name, body in zip(names, bodies, strict=True)
        ]
        self._sqs.send_message_batch(QueueUrl=self._queue, Entries=entries)
        return names

    def hide_for(self, seconds: int) -> None:
        self._sqs.set_queue_attributes(QueueUrl=self._queue, Attributes={"VisibilityTimeout": str(seconds)})

    def receives(self, name: str) -> int:
        return self._stack.log_file.read_text().count(name)

    def dead(self) -> set[str]:
        found = self._sqs.receive_message(
            QueueUrl=self._stack.queue_url("DeadLetterQueue"), MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return {json.loads(message["Body"])["name"] for message in found.get("Messages", [])}

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


@pytest.fixture
def records(stack: LocalStack) -> Iterator[Records]:
    records = Records(stack)
    yield records
    records.hide_for(1)  # as in the template


def test_a_record_that_succeeds_is_delivered_once_and_deleted(records: Records) -> None:
    name = records.send()
    eventually(lambda: records.receives(name) and not records.left())
    assert records.receives(name) == 1


def test_only_the_records_that_are_reported_as_failed_come_back(records: Records) -> None:
    good, bad, other = records.send_batch({}, {"fail": True}, {})
    eventually(lambda: records.receives(bad) > 1)  # after the queue's visibility timeout of a second
    assert (records.receives(good), records.receives(other)) == (1, 1)
    eventually(lambda: bad in records.dead())  # after two receives, as the template says
    assert records.receives(bad) == 2
    assert not {good, other} & records.dead()


def test_a_function_error_brings_the_whole_batch_back(records: Records) -> None:
    good, bad = records.send_batch({}, {"raise": True})
    eventually(lambda: {good, bad} <= records.dead())
    assert records.receives(good) == records.receives(bad) == 2


def test_the_function_decides_when_a_failed_record_comes_back(records: Records) -> None:
    patient, soon = records.send_batch({"hide": 60}, {"fail": True})
    eventually(lambda: soon in records.dead())  # two visibility timeouts later
    assert records.receives(patient) == 1


def test_a_standard_queue_takes_a_message_group_and_a_delay(stack: LocalStack, records: Records) -> None:
    name = uuid.uuid4().hex
    stack.sqs.send_message(
        QueueUrl=stack.queue_url("JobQueue"),
        MessageBody=json.dumps({"name": name}),
        MessageGroupId="tenant",
        DelaySeconds=1,
        MessageAttributes={"a": {"DataType": "String", "StringValue": "1"}},
    )
    assert records.receives(name) == 0
    eventually(lambda: records.receives(name) == 1)


def test_nothing_is_lost_or_doubled_when_many_send_at_once(records: Records) -> None:
    records.hide_for(30)  # on a busy machine a record may need a second to reach the worker
    sent: list[str] = []
    threads = [threading.Thread(target=lambda: sent.extend(records.send() for _ in range(25))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: all(records.receives(name) for name in sent))
    assert {records.receives(name) for name in sent} == {1}


def test_the_event_is_what_lambda_sends(stack: LocalStack) -> None:
    event = {"Records": [{"body": "{}", "messageId": "m", "receiptHandle": "r"}]}
    assert stack.invoke("WorkerFunction", event) == {"batchItemFailures": []}


# ── How many at the same time ────────────────────────────────────────────────────────────────────


class EndlessQueue:
    """A queue that always has a message, and keeps the receipts of deleted ones."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self._numbers = itertools.count()

    def receive_message(self, **request: Any) -> dict[str, Any]:
        number = str(next(self._numbers))
        common = {"Body": "{}", "Attributes": {}, "MD5OfBody": ""}
        return {"Messages": [{"MessageId": number, "ReceiptHandle": number, **common}]}

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        self.deleted += [entry["ReceiptHandle"] for entry in Entries]
        return {}


class SlowPool:
    """Takes events and settles none."""

    def __init__(self) -> None:
        self.outcomes: list[Future[Outcome]] = []

    def submit(self, event: bytes) -> Future[Outcome]:
        self.outcomes.append(Future())
        return self.outcomes[-1]


@pytest.mark.parametrize(("maximum", "concurrency", "at_once"), [(2, 8, 2), (None, 3, 3), (10, 1, 1)])
def test_batches_run_at_the_same_time_up_to_the_limit(maximum: int | None, concurrency: int, at_once: int) -> None:
    queue, pool = EndlessQueue(), SlowPool()
    source = EventSource("Q", "F", 10, True, maximum)
    mapper = Mapper(source, Queue("Q", "arn", {}, None, None), "url", queue, cast(Pool, pool), concurrency)
    mapper.start()
    eventually(lambda: len(pool.outcomes) == at_once)
    pool.outcomes[0].set_result(Outcome(b"null"))
    eventually(lambda: len(pool.outcomes) == at_once + 1)  # only now is there room for the next one
    assert queue.deleted == ["0"]
    mapper.stop()
    for outcome in pool.outcomes[1:]:
        outcome.set_result(Outcome(b"null"))


class LatePoll(EndlessQueue):
    """A queue whose poll ends with a message when the test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.polled = threading.Event()
        self.comes = threading.Event()
        self.given_back: list[tuple[str, int]] = []

    def receive_message(self, **request: Any) -> dict[str, Any]:
        self.polled.set()
        self.comes.wait(30)
        return super().receive_message(**request)

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:  # noqa: N803
        self.given_back.append((ReceiptHandle, VisibilityTimeout))


def test_what_comes_with_the_last_poll_goes_back_at_once() -> None:
    queue, pool = LatePoll(), SlowPool()
    source = EventSource("Q", "F", 10, True, None)
    mapper = Mapper(source, Queue("Q", "arn", {}, None, None), "url", queue, cast(Pool, pool), 1)
    mapper.start()
    assert queue.polled.wait(30)
    mapper.stop()
    queue.comes.set()
    eventually(lambda: queue.given_back == [("0", 0)])
    assert pool.outcomes == []


# ── What a result means ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("result", "done"),
    [
        ("null", {"a", "b"}),
        ("{}", {"a", "b"}),
        ('{"batchItemFailures": null}', {"a", "b"}),
        ('{"batchItemFailures": []}', {"a", "b"}),
        ('{"batchItemFailures": [{"itemIdentifier": "a"}]}', {"b"}),
        ('{"batchItemFailures": [{"itemIdentifier": "unknown"}]}', set()),
        ('{"batchItemFailures": [{"itemIdentifier": ""}]}', set()),
        ('{"batchItemFailures": [{"itemIdentifier": null}]}', set()),
        ('{"batchItemFailures": [{"item": "a"}]}', set()),
        ('{"batchItemFailures": "a"}', set()),
        ('"text"', set()),
    ],
)
def test_partial_failures(result: str, done: set[str]) -> None:
    assert processed(Outcome(result.encode()), ["a", "b"], partial_failures=True) == done
    assert processed(Outcome(result.encode()), ["a", "b"], partial_failures=False) == {"a", "b"}
    assert processed(Outcome(result.encode(), failed=True), ["a", "b"], partial_failures=True) == set()


# ── One request at a time ────────────────────────────────────────────────────────────────────────


class Box:
    """A WSGI application that fails on two requests at once, like moto's queues."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._busy = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert self._busy.acquire(blocking=False), "two at once"
        time.sleep(0.001)
        request = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        answer: dict[str, Any] = {}
        if "Body" in request:
            self.messages.append(request["Body"])
        elif self.messages:
            answer["Messages"] = [{"Body": self.messages.pop()}]
        assert not request.get("WaitTimeSeconds"), "the waiting isn't done here"
        start_response("200 OK", [("Content-Type", "application/json")])
        self._busy.release()
        return [json.dumps(answer).encode()]


def ask(application: OneAtATime, action: str, **request: Any) -> dict[str, Any]:
    body = json.dumps(request).encode()
    environ = {
        "wsgi.input": io.BytesIO(body),
        "HTTP_HOST": "127.0.0.1:5000",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_AMZ_TARGET": f"AmazonSQS.{action}",
    }
    answer: dict[str, Any] = json.loads(b"".join(application(environ, lambda status, headers: None)))
    return answer


def test_a_long_poll_ends_when_a_message_comes_and_lets_others_send() -> None:
    application = OneAtATime(Box())
    answers: list[dict[str, Any]] = []
    poll = threading.Thread(target=lambda: answers.append(ask(application, "ReceiveMessage", WaitTimeSeconds=20)))
    poll.start()
    ask(application, "SendMessage", Body="hello")
    poll.join(10)
    assert answers == [{"Messages": [{"Body": "hello"}]}]


def test_a_poll_without_messages_ends_with_its_time() -> None:
    assert ask(OneAtATime(Box()), "ReceiveMessage", WaitTimeSeconds=0) == {}
    assert ask(OneAtATime(Box()), "ReceiveMessage", WaitTimeSeconds=0.1) == {}
