"""The queue: its records, refusals to send, hiding, and the threads in place of SQS."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import boto3
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from moto import mock_aws

from message_handler.domain.conversations import ConversationKey, Role, Turn
from message_handler.domain.errors import PayloadTooLarge, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.raised import Raised
from message_handler.domain.records import ArchiveRecord, DeliveryRecord, NoticeRecord, Outcome, Record, key_of
from message_handler.ports.queue import DeadLetter
from message_handler.queue import hiding
from message_handler.queue.codec import MAX_RECORD_BYTES, decode, encode
from message_handler.queue.hiding import Hiding
from message_handler.queue.sqs import SqsQueue
from message_handler.queue.threads import ThreadQueue
from message_handler.queue.timing import MAX_RECEIVE_COUNT, retry_delay
from tests.contract.conversation import raised
from tests.unit.service import CANARY, KEY, Service

pytestmark = pytest.mark.usefixtures("output")

#: All texts that intake accepts: Unicode without U+0000 and surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
ROLES: st.SearchStrategy[Role] = st.sampled_from(("user", "assistant", "sale"))
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
TURNS = st.builds(Turn, ROLES, TEXTS, st.none() | NAMES)
MESSAGES = st.builds(Message, NAMES, TEXTS, st.booleans(), st.lists(NAMES, max_size=2).map(tuple))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=8,
)
RECORDS = st.builds(
    Record,
    st.uuids().map(str),
    NAMES,
    st.builds(
        Request,
        st.builds(ConversationKey, NAMES, NAMES),
        st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
        st.lists(TURNS, max_size=4).map(tuple),
        NAMES,
        st.dictionaries(TEXTS, VALUES, max_size=3),
    ),
)


RAISED = st.builds(
    Raised,
    st.builds(ConversationKey, NAMES, NAMES),
    st.uuids().map(str),
    NAMES,
    NAMES,
    NAMES,
    NAMES,
    TEXTS,
    st.lists(NAMES, max_size=3).map(tuple),
    st.floats(0, 4e9),
    NAMES,
    st.booleans(),
)


def a_record(text: str, context: str = "") -> Record:
    turns = (Turn("assistant", context),) if context else ()
    return Record(KEY.new_job_id(), "m", Request(KEY, (Message("m", text),), turns, "default"))


def sqs_takes(character: str) -> bool:
    """Whether an SQS message may hold the character, by its API reference."""
    code = ord(character)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


class TestRecords:
    @given(RECORDS)
    def test_a_record_is_read_as_it_was_written(self, record: Record) -> None:
        assert decode(encode(record)) == record

    @given(st.builds(NoticeRecord, RAISED, st.integers(0, 1)))
    def test_a_notice_is_read_as_it_was_written(self, record: NoticeRecord) -> None:
        assert decode(encode(record)) == record

    def test_a_field_that_a_later_release_adds_to_a_notice_is_ignored(self) -> None:
        record = NoticeRecord(raised())
        value = json.loads(encode(record))
        value["notice"]["later"] = 1
        assert decode(json.dumps(value)) == record

    def test_a_notice_wakes_its_own_conversation_and_is_logged_under_its_names(self) -> None:
        record = NoticeRecord(raised())
        assert (key_of(record), record.job_id, record.correlation_id) == (
            raised().key,
            raised().job_id,
            "corr-1",
        )

    def test_messages_of_an_old_record_were_accepted_when_it_was_sent(self) -> None:
        old = Message("m0", "zero")
        for messages, expected in [
            ((old,), [5.0]),
            ((old, Message("m", "own")), [5.0, 5.0]),
            ((old, Message("m", "own", accepted_at=7.0)), [0.0, 7.0]),  # m0 has one of its own
        ]:
            request = Request(KEY, messages, (), "default")
            record = decode(encode(Record(KEY.new_job_id(), messages[-1].message_id, request)), 5.0)
            assert isinstance(record, Record)
            assert [message.accepted_at for message in record.request.messages] == expected
            again = decode(encode(record), 99.0)
            assert isinstance(again, Record)
            assert again.accepted_at == record.accepted_at

    def test_an_end_is_as_old_as_its_job(self) -> None:
        job = Job(KEY.new_job_id(), KEY, JobStatus.COMPLETED, (Message("m0", "zero"),), "default", created_at=3.0)
        record = decode(encode(ArchiveRecord(job)), 5.0)
        assert isinstance(record, ArchiveRecord)
        assert record.job.accepted_at == 3.0

    @given(TEXTS)
    @example("\ufffe\uffff")
    @example("\x01\x0b\x1f\x7f\x85\u2028\U0001fffe\U0010ffff")
    @example('"\\ufffe\\\\uffff\\')
    def test_sqs_takes_whatever_a_patient_types(self, text: str) -> None:
        body = encode(a_record(text, text))
        assert all(map(sqs_takes, body))
        assert decode(body).request.messages[0].content == text

    def test_text_is_not_blown_up_by_escapes(self) -> None:
        assert len(encode(a_record("ế" * 1000)).encode()) < 4000

    @pytest.mark.parametrize("character", ["x", "ế", "💊", "\uffff"])
    def test_a_record_may_be_as_large_as_sqs_takes_and_no_larger(self, character: str) -> None:
        per_character = len(json.dumps(character, ensure_ascii=character == "\uffff").encode()) - 2
        room = MAX_RECORD_BYTES - len(encode(a_record("")).encode())
        text = character * (room // per_character) + "x" * (room % per_character)
        assert len(encode(a_record(text)).encode()) == MAX_RECORD_BYTES
        with pytest.raises(PayloadTooLarge) as refused:
            encode(a_record(text + "x"))
        assert len(str(refused.value)) < 200


class TestRefusals:
    """Intake promises a message only if the queue has it."""

    def test_more_text_than_a_record_holds_is_refused_and_undone(self, service: Service) -> None:
        def post(number: int) -> Any:
            text = f"{CANARY} {number}" + "x" * 250 * 1024
            return service.post({"messages": [{"role": "user", "content": text, "message_id": f"m{number}"}]})

        answers = [post(number) for number in range(4)]
        assert [answer.status for answer in answers] == [202, 202, 202, 413]
        waiting = service.parts.tiers.tiers[0].waiting(KEY)
        assert waiting is not None
        assert [message.message_id for message in waiting.messages] == ["m0", "m1", "m2"]
        assert len(service.queue.sent) == 3
        assert service.post({"history": f"<USER>{CANARY} small</USER>"}).body["consolidated_messages"] == 4

    def test_a_refusing_queue_is_503_and_nothing_is_stored(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        request = {"history": f"<USER>{CANARY}</USER>", "message_id": "m1"}
        answer = service.post(request)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert service.parts.tiers.tiers[0].waiting(KEY) is None
        assert service.parts.tiers.tiers[0].locks("default") == []
        service.queue.error = None
        again = service.post(request)
        assert again.body["action"] == "lock_acquired"
        assert "duplicate" not in again.body

    def test_a_refused_message_leaves_those_before_it(self, service: Service) -> None:
        first = service.post({"history": f"<USER>{CANARY} one</USER>", "message_id": "m1"})
        service.queue.error = Unavailable("the queue")
        assert service.post({"history": f"<USER>{CANARY} two</USER>", "message_id": "m2"}).status == 503
        assert service.post({"history": f"<USER>{CANARY} one</USER>", "message_id": "m1"}).status == 503
        service.queue.error = None
        third = service.post({"history": f"<USER>{CANARY} three</USER>", "message_id": "m3"})
        assert third.body["ai_job_id"] == first.body["ai_job_id"]
        assert third.body["consolidated_messages"] == 2

    def test_a_refused_bot_leaves_the_conversation_to_another(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        service.post({"history": f"<USER>{CANARY}</USER>"})
        service.queue.error = None
        request = Request(KEY, (Message("m", CANARY),), (), "nurse")
        service.parts.tiers.tiers[0].accept(request, job_id=KEY.new_job_id(), lock_id="lock")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        client = boto3.client("sqs")
        yield client
        client.close()


@pytest.fixture
def url(client: Any) -> str:
    url: str = client.create_queue(QueueName="jobs")["QueueUrl"]
    return url


def waiting(client: Any, url: str) -> dict[str, int]:
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = {"visible": "", "hidden": "NotVisible", "delayed": "Delayed"}
    return {name: int(attributes[f"ApproximateNumberOfMessages{suffix}"]) for name, suffix in names.items()}


def receive(client: Any, url: str) -> Any:
    (message,) = client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])["Messages"]
    return message


class TestSqs:
    def test_a_record_is_sent_in_its_tenants_group(self, client: Any, url: str) -> None:
        key = ConversationKey("clinic", "conv_123")
        record = Record(key.new_job_id(), "m", Request(key, (Message("m", f"{CANARY} \uffff 💊"),), (), "default"))
        SqsQueue(client, url).send(record)
        message = receive(client, url)
        assert decode(message["Body"]) == record
        assert message["Attributes"]["MessageGroupId"] == "clinic"

    def test_a_record_that_wakes_deliveries_is_sent_in_its_tenants_group(self, client: Any, url: str) -> None:
        record = DeliveryRecord(ConversationKey("clinic", "conv_123"))
        SqsQueue(client, url).send(record)
        message = receive(client, url)
        assert decode(message["Body"]) == record
        assert message["Attributes"]["MessageGroupId"] == "clinic"

    @pytest.mark.parametrize("length", [1, 128, 129, 255])
    def test_two_tenants_have_two_groups_that_sqs_takes(self, client: Any, url: str, length: int) -> None:
        """SendMessage takes 128 letters, digits and punctuation marks. moto does not check that."""
        queue, groups = SqsQueue(client, url), []
        for platform_id in ("a" * length, "a" * (length - 1) + ":"):
            for conversation_id in ("conv_1", "conv_2"):
                queue.send(DeliveryRecord(ConversationKey(platform_id, conversation_id)))
        for _ in range(4):
            message = receive(client, url)
            record = decode(message["Body"])
            assert isinstance(record, DeliveryRecord)
            groups.append((record.key.platform_id, message["Attributes"]["MessageGroupId"]))
        assert len(set(groups)) == len({group for _, group in groups}) == 2
        for platform_id, group in groups:
            assert re.fullmatch(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}", group)
            assert length > 128 or group == platform_id

    def test_a_dead_letter_of_an_earlier_version_is_as_old_as_it_is(self, client: Any, url: str) -> None:
        queue, began = SqsQueue(client, url, url), time.time()
        queue.send(a_record("zero"))
        (letter,) = queue.dead_letters()
        assert isinstance(letter.record, Record)
        assert began - 1 <= letter.record.accepted_at <= time.time() + 1

    def test_dead_letters_are_counted(self, client: Any, url: str) -> None:
        assert SqsQueue(client, url).count_dead_letters() is None
        queue = SqsQueue(client, "https://sqs.example/queue", url)
        assert queue.count_dead_letters() == 0
        SqsQueue(client, url).send(a_record(CANARY))
        assert queue.count_dead_letters() == 1

    def test_what_waits_is_counted(self, client: Any, url: str) -> None:
        queue = SqsQueue(client, url)
        assert queue.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}
        for delay in (0, 0, 0, 150):
            queue.send(a_record(CANARY), delay=delay)
        receive(client, url)
        assert queue.depth() == {"visible": 2, "in_flight": 1, "delayed": 1}

    def test_a_delayed_record_is_not_seen_yet(self, client: Any, url: str) -> None:
        SqsQueue(client, url).send(a_record(CANARY), delay=150)
        assert waiting(client, url) == {"visible": 0, "hidden": 0, "delayed": 1}

    def test_a_hidden_record_comes_back(self, client: Any, url: str) -> None:
        queue = SqsQueue(client, url)
        queue.send(a_record(CANARY))
        handle = receive(client, url)["ReceiptHandle"]
        assert queue.hide({handle: 100.4}) == set()
        assert waiting(client, url) == {"visible": 0, "hidden": 1, "delayed": 0}
        queue.hide({handle: -1})
        assert waiting(client, url) == {"visible": 1, "hidden": 0, "delayed": 0}

    def test_a_record_is_hidden_no_longer_than_sqs_allows(self, client: Any, url: str) -> None:
        queue = SqsQueue(client, url)
        queue.send(a_record(CANARY))
        queue.hide({receive(client, url)["ReceiptHandle"]: 1e9})
        assert waiting(client, url) == {"visible": 0, "hidden": 1, "delayed": 0}

    def test_records_of_a_batch_are_hidden_each_for_its_time_and_missing_ones_are_named(
        self, client: Any, url: str
    ) -> None:
        queue = SqsQueue(client, url)
        for _ in range(12):
            queue.send(a_record(CANARY))
        handles = [receive(client, url)["ReceiptHandle"] for _ in range(12)]
        assert queue.hide({handles[0]: 0, "gone": 10} | dict.fromkeys(handles[1:], 10)) == {"gone"}
        assert waiting(client, url) == {"visible": 1, "hidden": 11, "delayed": 0}

    def test_a_queue_that_is_there_answers(self, client: Any, url: str) -> None:
        SqsQueue(client, url).ping()

    def test_a_queue_that_isnt_is_unavailable_and_its_error_tells_no_text(
        self, client: Any, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.delete_queue(QueueUrl=url)
        queue = SqsQueue(client, url)
        calls: list[Callable[[], object]] = [
            lambda: queue.send(a_record(CANARY)),
            lambda: queue.hide({"handle": 1}),
            queue.ping,
        ]
        for call in calls:
            with pytest.raises(Unavailable) as refused:
                call()
            assert str(refused.value) == "the queue is not available"
            assert refused.value.__suppress_context__
        codes = {vars(record)["error"] for record in caplog.records if record.name.startswith("message_handler.queue")}
        assert codes == {"AWS.SimpleQueueService.NonExistentQueue"}

    def test_a_request_that_is_no_request_is_unavailable_too(self, client: Any) -> None:
        with pytest.raises(Unavailable):
            SqsQueue(client, url=None).send(a_record(CANARY))  # type: ignore[arg-type]

    def test_intake_undoes_what_sqs_refuses(self, service: Service, client: Any, url: str) -> None:
        client.delete_queue(QueueUrl=url)
        queue = SqsQueue(client, url)
        service.use(queue=queue, intake=replace(service.parts.intake, queue=queue))
        answer = service.post({"history": f"<USER>{CANARY}</USER>"})
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert service.parts.tiers.tiers[0].waiting(KEY) is None

    def test_the_worker_hides_what_it_gives_back(self, service: Service, client: Any, url: str) -> None:
        queue = SqsQueue(client, url)
        service.use(queue=queue, single_try_queue=queue, intake=replace(service.parts.intake, queue=queue))
        assert service.post({"history": f"<USER>{CANARY}</USER>"}).status == 202
        message = receive(client, url)
        service.parts.tiers.tiers[0].claim(KEY, "another worker")
        template = service.event("worker-one-record")["Records"][0]
        received = {"messageId": "r1", "receiptHandle": message["ReceiptHandle"], "body": message["Body"]}
        result = service.invoke("worker", {"Records": [template | received]})
        assert result == {"batchItemFailures": [{"itemIdentifier": "r1"}]}
        assert waiting(client, url) == {"visible": 0, "hidden": 1, "delayed": 0}


class Calls(SqsQueue):
    """Records each call that hides records, and answers it."""

    def __init__(self) -> None:
        super().__init__(None, "https://sqs.example/jobs")
        self.changed = threading.Condition()
        self.calls: list[dict[str, float]] = []
        self.answer: Callable[[Mapping[str, float]], set[str]] = lambda _: set()

    def hide(self, seconds: Mapping[str, float]) -> set[str]:
        with self.changed:
            self.calls.append(dict(seconds))
            self.changed.notify_all()
        return self.answer(seconds)

    def await_calls(self, count: int) -> list[dict[str, float]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= count, 10)
            return list(self.calls)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(hiding, "EXTEND_SECONDS", 0.01)
    return Calls()


class TestHiding:
    def test_all_records_of_a_batch_are_hidden_in_one_call_again_and_again_until_it_ends(self, calls: Calls) -> None:
        with Hiding(calls, {"one": 1, "two": 2}):
            assert calls.await_calls(3)[:3] == [{"one": 10, "two": 10}] * 3
        said = len(calls.calls)
        assert not any(thread.name == "hiding" for thread in threading.enumerate())
        assert len(calls.calls) == said

    def test_a_record_that_came_often_is_hidden_for_as_long_as_it_is_handed_on(self, calls: Calls) -> None:
        with Hiding(calls, {"first": 1, "third": 3, "fifth": 5}):
            assert calls.await_calls(1)[0] == {"first": 10, "third": 60, "fifth": 720}

    def test_a_record_that_is_handed_on_is_not_hidden_again(self, calls: Calls) -> None:
        with Hiding(calls, {"kept": 1, "back": 1}) as hiding:
            calls.await_calls(1)
            hiding.return_after("back", 120)
            handed = calls.calls.index({"back": 120})
            assert calls.await_calls(handed + 3)[handed + 1 :][:2] == [{"kept": 10}] * 2

    def test_a_call_under_way_does_not_hide_what_is_handed_on(self, calls: Calls) -> None:
        under_way, goes_on, ended = threading.Event(), threading.Event(), []

        def slow(seconds: Mapping[str, float]) -> set[str]:
            said = dict(seconds)
            if len(said) == 2:
                under_way.set()
                goes_on.wait(10)
            ended.append(said)
            return set()

        calls.answer = slow
        with Hiding(calls, {"kept": 1, "back": 1}) as hiding:
            assert under_way.wait(10)
            handing = threading.Thread(target=hiding.return_after, args=("back", 120))
            handing.start()
            handing.join(0.2)  # long enough for a thread that does not wait
            goes_on.set()
            handing.join(10)
        assert [seconds["back"] for seconds in ended if "back" in seconds][-1] == 120

    def test_what_is_gone_is_let_go(self, calls: Calls) -> None:
        calls.answer = lambda seconds: {"gone"} & seconds.keys()
        with Hiding(calls, {"kept": 1, "gone": 1}):
            assert calls.await_calls(3)[1:3] == [{"kept": 10}] * 2

    def test_a_call_that_is_refused_is_made_again(self, calls: Calls) -> None:
        def refuse(_: Mapping[str, float]) -> set[str]:
            raise Unavailable("the queue")

        calls.answer = refuse
        with Hiding(calls, {"kept": 1}) as hiding:
            calls.await_calls(2)
            hiding.return_after("kept", 120)
            assert {"kept": 120} in calls.calls

    def test_a_failure_of_sqs_itself_is_no_reason_to_let_a_record_go(self) -> None:
        failed = [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]

        class Client:
            def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
                return {"Failed": failed}

        assert SqsQueue(Client(), "https://sqs.example/jobs").hide({"kept": 10, "other": 10}) == set()
        failed[0]["SenderFault"] = True
        assert SqsQueue(Client(), "https://sqs.example/jobs").hide({"gone": 10, "other": 10}) == {"gone"}

    def test_a_record_that_is_not_finished_comes_back_ever_later(self) -> None:
        assert [retry_delay(count) for count in range(1, 8)] == [10, 20, 60, 240, 720, 720, 720]


def is_open(queue: ThreadQueue) -> bool:
    try:
        queue.ping()
    except Unavailable:
        return False
    return True


class TestThreads:
    def test_what_waits_is_counted(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work(*_: Any) -> Outcome:
            begun.set()
            go_on.wait(10)
            return Outcome(None)

        queue = ThreadQueue(work, threads=1)
        assert queue.depth() == {"visible": 0, "in_flight": 0, "delayed": 0}
        queue.send(a_record(CANARY))
        assert begun.wait(10)
        queue.send(a_record(CANARY))
        queue.send(a_record(CANARY), delay=100)
        assert queue.depth() == {"visible": 1, "in_flight": 1, "delayed": 1}
        go_on.set()
        queue.close()

    """Without a configured queue, the process works on its records itself."""

    def test_records_are_worked_on_at_the_same_time(self) -> None:
        together, done = threading.Barrier(5), threading.Semaphore(0)

        def work(_record: Record, _receive_count: int) -> Outcome:
            together.wait(30)
            done.release()
            return Outcome(None)

        queue = ThreadQueue(work, threads=5)
        for number in range(5):
            queue.send(a_record(f"{CANARY} {number}"))
        for _ in range(5):
            assert done.acquire(timeout=30)
        queue.close()
        assert not together.broken

    def test_a_thread_that_is_just_waking_up_is_counted_on_once(self) -> None:
        together, done = threading.Barrier(2), threading.Semaphore(0)

        def work(record: Record, _receive_count: int) -> Outcome:
            if record.message_id != "first":
                together.wait(30)
            done.release()
            return Outcome(None)

        queue = ThreadQueue(work, threads=2)
        queue.send(replace(a_record(CANARY), message_id="first"))
        assert done.acquire(timeout=30)
        while queue.depth()["in_flight"]:
            time.sleep(0.01)
        before = sys.getswitchinterval()
        sys.setswitchinterval(10)  # the idle thread does not run before both are sent
        queue.send(a_record(f"{CANARY} one"))
        queue.send(a_record(f"{CANARY} two"))
        sys.setswitchinterval(before)
        for _ in range(2):
            assert done.acquire(timeout=30)
        queue.close()
        assert not together.broken

    def test_no_more_threads_than_allowed(self) -> None:
        names, done = set(), threading.Semaphore(0)

        def work(_record: Record, _receive_count: int) -> Outcome:
            names.add(threading.get_ident())
            done.release()
            return Outcome(None)

        queue = ThreadQueue(work, threads=3)
        for number in range(50):
            queue.send(a_record(f"{CANARY} {number}"))
        for _ in range(50):
            assert done.acquire(timeout=30)
        queue.close()
        assert len(names) <= 3

    def test_a_delayed_record_comes_after_one_that_is_due(self) -> None:
        order, done = [], threading.Semaphore(0)

        def work(record: Record, _receive_count: int) -> Outcome:
            order.append(record.request.messages[0].content)
            done.release()
            return Outcome(None)

        queue = ThreadQueue(work, threads=1)
        queue.send(a_record(f"{CANARY} later"), delay=1)
        queue.send(a_record(f"{CANARY} now"))
        assert done.acquire(timeout=30)
        assert done.acquire(timeout=30)
        queue.close()
        assert order == [f"{CANARY} now", f"{CANARY} later"]

    def test_a_record_comes_back_as_often_as_in_sqs(self, caplog: pytest.LogCaptureFixture) -> None:
        counts, done = [], threading.Semaphore(0)

        def work(_record: Record, receive_count: int) -> Outcome:
            counts.append(receive_count)
            done.release()
            return Outcome(0.0)

        queue = ThreadQueue(work, threads=1)
        queue.send(a_record(CANARY))
        for _ in range(MAX_RECEIVE_COUNT):
            assert done.acquire(timeout=30)
        queue.close()
        assert counts == list(range(1, MAX_RECEIVE_COUNT + 1))
        assert [record.getMessage() for record in caplog.records] == ["a record was given up"]

    def test_a_crash_is_told_by_its_type_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        crashed = threading.Event()

        def work(record: Record, _receive_count: int) -> Outcome:
            crashed.set()
            raise KeyError(record.request.messages[0].content)

        queue = ThreadQueue(work, threads=1)
        queue.send(a_record(CANARY))
        assert crashed.wait(30)
        queue.close()
        assert [vars(record)["error"] for record in caplog.records if record.levelname == "ERROR"] == ["KeyError"]

    def test_a_closed_queue_takes_nothing(self) -> None:
        queue = ThreadQueue(lambda *_: Outcome(None))
        queue.close()
        with pytest.raises(Unavailable):
            queue.send(a_record(CANARY))
        with pytest.raises(Unavailable):
            queue.ping()

    def test_a_record_that_comes_back_while_closing_is_dropped(self) -> None:
        working, closing = threading.Event(), threading.Event()

        def work(_record: Record, _receive_count: int) -> Outcome:
            working.set()
            closing.wait(30)
            return Outcome(0.0)

        queue = ThreadQueue(work, threads=1)
        queue.send(a_record(CANARY))
        assert working.wait(30)
        closer = threading.Thread(target=queue.close)
        closer.start()
        while is_open(queue):
            time.sleep(0.01)
        closing.set()
        closer.join(30)
        assert not closer.is_alive()

    def test_what_sqs_would_refuse_is_refused_here_too(self) -> None:
        queue = ThreadQueue(lambda *_: Outcome(None))
        with pytest.raises(PayloadTooLarge):
            queue.send(a_record("x" * MAX_RECORD_BYTES))
        queue.close()


@pytest.mark.parametrize(
    "body", ["[]", '"x"', "1", "null", '{"archive": []}', "{}", "no JSON", '{"archive": {}}', '{"deliver": 1}']
)
def test_a_foreign_dead_letter_is_none_of_ours(body: str) -> None:
    class Client:
        def receive_message(self, **_: Any) -> dict[str, Any]:
            return {"Messages": [{"Body": body, "ReceiptHandle": "receipt"}]}

    assert SqsQueue(Client(), "https://queue", "https://letters").dead_letters() == [DeadLetter(None, "receipt")]
