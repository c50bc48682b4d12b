"""The worker function: the records of a batch are answered."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import AIError, Unavailable
from message_handler.domain.notices import failure_notice
from message_handler.metrics import Meter
from message_handler.protocol.results import Claim
from message_handler.queue.codec import decode
from message_handler.queue.sqs import SqsQueue
from message_handler.wiring import Parts
from tests.unit.service import CANARY, KEY, Service, accept_again, load_function, says


def test_a_record_is_answered(service: Service) -> None:
    event = service.event("worker-one-record")
    assert service.invoke("worker", event) == {"batchItemFailures": []}
    record = decode(event["Records"][0]["body"])
    job = service.parts.archive.job("default", record.job_id)
    assert job is not None
    assert (job.status, job.reply) == ("completed", "Hello")


def test_a_broken_record_fails_alone_and_its_mates_are_answered_once(service: Service) -> None:
    event = service.event("worker-batch")
    records = event["Records"]
    failed = {"batchItemFailures": [{"itemIdentifier": records[1]["messageId"]}]}
    assert service.invoke("worker", event) == failed
    assert service.invoke("worker", event) == failed  # at least once
    for name, count in (("conv_124", 2), ("conv_125", 1)):
        conversation = service.parts.archive.conversation(ConversationKey("default", name))
        assert conversation is not None
        assert [turn.role for turn, *_ in conversation.turns] == ["user"] * count + ["assistant"]
    crashes = [line for line in service.output.logs if line["level"] == "ERROR"]
    assert [line["sqs_message_id"] for line in crashes] == [records[1]["messageId"]] * 2


def test_the_records_of_a_batch_run_at_the_same_time(service: Service) -> None:
    together = threading.Barrier(10)

    def script(prompt: Prompt, _watch: Watch) -> str:
        together.wait(30)
        return "together"

    service.ai.script = script
    for number in range(10):
        assert service.post(says("hello"), f"conv-{number}").status == 202
    assert service.deliver() == {"batchItemFailures": []}
    assert not together.broken


def test_all_of_a_batch_stay_hidden_until_the_last_is_answered(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("message_handler.queue.hiding.EXTEND_SECONDS", 0.01)
    first_is_answered = threading.Event()

    said: list[int] = []

    def script(prompt: Prompt, _watch: Watch) -> str:
        if "slow" in prompt.messages[0].content:
            assert first_is_answered.wait(10)
            said.append(len(changed))
            deadline = time.monotonic() + 10
            while len(changed) < said[0] + 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            said.append(len(changed))
        return "answered"

    service.ai.script = script
    finish = service.parts.archive.commit

    def commit(*arguments: Any) -> Any:
        try:
            return finish(*arguments)
        finally:
            first_is_answered.set()

    monkeypatch.setattr(service.parts.archive, "commit", commit)
    service.use(single_try_queue=sqs)
    assert service.batch("quick", "slow") == {"batchItemFailures": []}
    assert {entry["ReceiptHandle"] for entry in changed[slice(*said)]} == {"receipt-0", "receipt-1"}
    assert all(entry["VisibilityTimeout"] == 10 for entry in changed)


def test_a_record_is_worked_on_alone_from_its_third_delivery_on(service: Service) -> None:
    working, met, order = set(), [], []

    def script(prompt: Prompt, _watch: Watch) -> str:
        name = prompt.messages[0].content.split()[-1]
        working.add(name)
        met.append(frozenset(working))
        order.append(name)
        threading.Event().wait(0.02)  # long enough to be met
        working.discard(name)
        return "answered"

    service.ai.script = script
    names = [f"s{number}" for number in range(4)]
    assert service.batch("f0", "f1", *names, receives=(1, 2, 3, 3, 4, 3)) == {"batchItemFailures": []}
    assert set(order[:2]) == {"f0", "f1"}
    assert met[2:] == [frozenset({name}) for name in order[2:]]


def test_what_kills_its_worker_leaves_its_mates_answered(service: Service) -> None:
    """A batch of ten comes back whole each time one record kills its worker."""

    class Killed(BaseException):
        pass

    answered: list[str] = []

    def script(prompt: Prompt, _watch: Watch) -> str:
        name = prompt.messages[0].content.split()[-1]
        if name == "m4":
            raise Killed
        answered.append(name)
        return "answered"

    service.ai.script = script
    names = [f"m{number}" for number in range(10)]
    service.send(*names)
    for receives in (3, 4):
        with pytest.raises(Killed):
            service.receive(receives)
        service.parts.tiers.tiers[0].force_release(ConversationKey("default", "conv-m4"))  # its claim is stale
    assert sorted(answered) == [name for name in names if name != "m4"]


def test_a_records_last_delivery_does_not_wait_for_one_that_may_kill_its_worker(service: Service) -> None:
    order: list[str] = []

    def script(prompt: Prompt, _watch: Watch) -> str:
        order.append(prompt.messages[0].content.split()[-1])
        return "answered"

    service.ai.script = script
    for receives in ((4, 3, 5), (3, 5, 3), (5, 4, 4)):
        order.clear()
        assert service.batch("a", "b", "c", receives=receives) == {"batchItemFailures": []}
        assert order[0] == "abc"[receives.index(5)]


def test_a_record_that_is_worked_on_alone_is_handed_on_if_too_little_time_is_left(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
) -> None:
    service.remaining_ms = 62_000  # of which 3 s are for the report
    service.use(single_try_queue=sqs)
    assert service.batch("late", receives=(4,)) == {"batchItemFailures": [{"itemIdentifier": "record-0"}]}
    assert changed[-1]["VisibilityTimeout"] == 240
    assert service.batch("early", receives=(2,)) == {"batchItemFailures": []}


def test_a_cold_start_builds_its_parts_once_for_the_whole_batch(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "worker")
    module = service.functions["worker"] = load_function("worker")
    built = []

    def build(*, deployed: bool, meter: Meter) -> Parts:
        threading.Event().wait(0.1)  # long enough for each thread to need them
        built.append(service.parts)
        return service.parts

    monkeypatch.setattr(module, "build", build)
    for number in range(10):
        service.post(says("hello"), f"conv-{number}")
    assert service.deliver() == {"batchItemFailures": []}
    assert len(built) == 1


def test_messages_of_one_conversation_in_one_batch_get_one_reply(service: Service) -> None:
    for word in ("one", "two", "three"):
        service.post(says(word, word))
    service.deliver()
    conversation = service.parts.archive.conversation(KEY)
    assert conversation is not None
    replies = [turn.content for turn, *_ in conversation.turns if turn.role == "assistant"]
    assert replies == [f"{CANARY} one {CANARY} two {CANARY} three"]


@pytest.mark.parametrize(("seconds", "answered"), [(-60, False), (60, True)])
def test_a_record_of_an_earlier_version_was_accepted_when_it_was_sent(
    service: Service, seconds: int, answered: bool
) -> None:
    service.parts.archive.erase(KEY)
    event = service.event("worker-one-record")
    assert "accepted_at" not in event["Records"][0]["body"]
    event["Records"][0]["attributes"]["SentTimestamp"] = str(int((time.time() + seconds) * 1000))
    assert service.invoke("worker", event) == {"batchItemFailures": []}
    assert (service.parts.archive.conversation(KEY) is not None) == answered


def test_a_record_whose_conversation_is_held_is_hidden_until_the_holders_deadline(
    service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
) -> None:
    service.use(single_try_queue=sqs)
    event = service.event("worker-one-record")
    accept_again(service, event)
    assert isinstance(service.parts.tiers.tiers[0].claim(KEY, "another worker"), Claim)
    record = event["Records"][0]
    assert service.invoke("worker", event) == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert {entry["ReceiptHandle"] for entry in changed} == {record["receiptHandle"]}
    seconds = changed[-1]["VisibilityTimeout"]
    # One second longer, so that the holder has finished. Never longer than the queue's own visibility timeout.
    assert service.parts.settings.run_seconds - 1 <= seconds <= 720


def test_a_refused_change_of_visibility_costs_nothing_but_time(service: Service) -> None:
    class Refusing(SqsQueue):
        def hide(self, seconds: Mapping[str, float]) -> set[str]:
            raise Unavailable("the queue")

    service.use(single_try_queue=Refusing(None, "https://sqs.example/queue"))
    event = service.event("worker-one-record")
    accept_again(service, event)
    service.parts.tiers.tiers[0].claim(KEY, "another worker")
    failed = [{"itemIdentifier": event["Records"][0]["messageId"]}]
    assert service.invoke("worker", event) == {"batchItemFailures": failed}
    assert [line for line in service.output.logs if line["level"] == "ERROR"] == []


def test_a_job_whose_ai_fails_ends_visibly(service: Service) -> None:
    def script(prompt: Prompt, _watch: Watch) -> str:
        raise AIError("ai_failed", "The AI gave no answer.")

    service.ai.script = script
    assert service.invoke("worker", service.event("worker-one-record")) == {"batchItemFailures": []}
    job = service.http("status", service.event("status-get-job")).body
    assert (job["status"], job["reply"]) == ("failed", None)
    notice = failure_notice(service.parts.bots.default)
    assert job["error"] == {"code": "ai_failed", "message": "The AI gave no answer.", "notice": notice}
    assert service.output.metrics["JobsFailed"] == [1]
