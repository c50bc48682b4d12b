"""The intake function: messages are accepted, jobs and conversations are shown."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import declared
from message_handler.domain.messages import Message, Request
from message_handler.queue.codec import decode
from message_handler.settings import Settings
from tests.unit.service import CANARY, JOINED, KEY, Service, accept_again, load_event, says

ACQUIRED = {
    "success",
    "status",
    "action",
    "ai_job_id",
    "lock_id",
    "consolidated_messages",
    "bot_name",
}
#: Beside what `domain/jobs.py` declares, which tests/unit/test_documents.py lists.
JOB = {field.name for field in declared("view")}
JOB |= {"conversation_id", "consolidated_messages", "messages", "answered_by", "progress"}
RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_the_first_message_takes_the_lock(service: Service) -> None:
    answer = service.http("intake", service.event("intake-post-message"))
    assert answer.status == 202
    assert set(answer.body) == ACQUIRED
    assert answer.body["success"] is True
    assert answer.body["status"] == "ai_processing_started"
    assert answer.body["action"] == "lock_acquired"
    assert answer.body["consolidated_messages"] == 1
    assert answer.body["bot_name"] == "Healthcare Assistant"
    assert answer.headers["Cache-Control"] == "no-store"
    ((body, delay),) = service.queue.sent
    record = decode(body)
    assert delay == 0
    assert (record.job_id, record.message_id) == (answer.body["ai_job_id"], "m-1001")
    assert record.request.resources == {"user_id": "user_456"}


def test_a_second_message_joins_and_learns_no_lock_id(service: Service) -> None:
    first = service.http("intake", service.event("intake-post-message"))
    second = service.http("intake", service.event("intake-post-messages-json"))
    assert second.status == 202
    assert set(second.body) == JOINED
    assert second.body["success"] is True
    assert second.body["status"] == "locked"
    assert second.body["action"] == "lock_exists"
    assert second.body["message"] == "Message being processed by another request"
    assert second.body["ai_job_id"] == first.body["ai_job_id"]
    assert second.body["consolidated_messages"] == 3
    assert service.queue.delays == [0, service.parts.settings.join_delay]


def test_designs_request_with_its_nulls_is_accepted(service: Service) -> None:
    body = {
        "history": f"<USER>Hello {CANARY}</USER><br>",
        "resources": {"user_id": "user_456"},
        "bot_id": None,
        "message_id": None,
    }
    assert service.post(body).status == 202


def test_under_reject_a_second_message_is_told_no_and_stores_nothing(service: Service) -> None:
    first = service.post(says("one"))
    body = json.dumps(says("two", double_texting="reject"))
    second = service.invoke("intake", load_event("intake-post-message") | {"body": body})
    assert second["statusCode"] == 409
    assert second["headers"]["Content-Type"] == "application/json"
    assert json.loads(second["body"]) == {
        "success": False,
        "status": "locked",
        "action": "rejected",
        "message": "Another message is being answered; send this one again after the reply",
        "ai_job_id": first.body["ai_job_id"],
    }
    assert len(service.queue.sent) == 1
    assert service.output.metrics["MessagesRejected"] == [1]


def test_under_interrupt_it_takes_the_running_jobs_messages_over(service: Service) -> None:
    first = service.post(says("one"))
    service.parts.tiers.tiers[0].claim(KEY, "worker")
    second = service.post(says("two", double_texting="interrupt"))
    assert set(second.body) == ACQUIRED
    assert (second.status, second.body["action"], second.body["consolidated_messages"]) == (202, "interrupted", 2)
    job = service.http("status", service.event("status-get-job", pathParameters={"job_id": first.body["ai_job_id"]}))
    assert (job.body["status"], job.body["superseded_by"]) == ("cancelled", second.body["ai_job_id"])
    assert service.output.metrics["JobsInterrupted"] == [1]


@pytest.mark.parametrize(
    ("changes", "field", "advice"),
    [
        (
            {"double_texting": "shout"},
            "double_texting",
            "must be 'consolidate', 'enqueue', 'interrupt' or 'reject'",
        ),
        ({"debounce_ms": 10_001}, "debounce_ms", "less than or equal to 10000"),
        ({"debounce_ms": -1}, "debounce_ms", "greater than or equal to 0"),
        ({"debounce_ms": "soon"}, "debounce_ms", "must be a valid integer"),
    ],
)
def test_a_policy_that_there_is_not_is_refused(
    service: Service, changes: dict[str, Any], field: str, advice: str
) -> None:
    answer = service.post(says("one") | changes)
    assert (answer.status, answer.body["field"]) == (400, field)
    assert advice in answer.body["detail"]
    assert service.queue.sent == []


def test_one_correlation_id_runs_from_the_request_to_the_ai(service: Service) -> None:
    seen: list[str] = []

    def script(prompt: Prompt, _watch: Watch) -> str:
        seen.append(prompt.correlation_id)
        return "Rest."

    service.ai.script = script
    answer = service.post(says("one"), headers={"x-correlation-ID": "visit-17"})
    assert answer.headers["X-Correlation-ID"] == "visit-17"
    service.deliver()
    assert seen == ["visit-17"]
    logged = [line["message"] for line in service.output.logs if line.get("correlation_id") == "visit-17"]
    assert logged == ["accepted", "asking the AI", "ended"]


@pytest.mark.parametrize("header", ["", "a b", "x" * 256, "<script>"])
def test_without_a_usable_one_it_is_the_gateways(service: Service, header: str) -> None:
    event = service.event("intake-post-message", headers={"X-Correlation-ID": header})
    answer = service.http("intake", event)
    assert answer.headers["X-Correlation-ID"] == event["requestContext"]["requestId"]


def test_the_same_message_id_is_the_same_job_and_starts_nothing(service: Service) -> None:
    first = service.http("intake", service.event("intake-post-message"))
    again = service.http("intake", service.event("intake-duplicate"))
    assert again.status == 202
    assert set(again.body) == JOINED | {"duplicate"}
    assert again.body["duplicate"] is True
    assert again.body["ai_job_id"] == first.body["ai_job_id"]
    assert again.body["consolidated_messages"] == 1
    # The first process may have died before it sent its record: so each sends one.
    assert [decode(body).message_id for body, _ in service.queue.sent] == ["m-1001", "m-1001"]
    late_record = service.queue.sent.pop()
    assert service.deliver() == {"batchItemFailures": []}
    late = service.http("intake", service.event("intake-duplicate"))
    assert late.body == again.body
    service.queue.sent.append(late_record)
    assert service.deliver() == {"batchItemFailures": []}
    assert len(service.http("intake", service.event("intake-get-conversation")).body["turns"]) == 2


def test_an_older_version_of_an_answered_history_starts_nothing(service: Service) -> None:
    turns = [f"<USER>{CANARY} {word}</USER><br>" for word in ("one", "two", "three")]
    first = service.post({"history": "".join(turns)})
    service.deliver()
    late = service.post({"history": "".join(turns[:2])})
    assert (late.body["duplicate"], late.body["ai_job_id"]) == (True, first.body["ai_job_id"])
    assert service.deliver() == {"batchItemFailures": []}
    conversation = service.http("intake", service.event("intake-get-conversation")).body
    assert [turn["role"] for turn in conversation["turns"]] == ["user", "user", "user", "assistant"]


def test_json_messages_keep_their_roles_and_texts(service: Service) -> None:
    event = service.event("intake-post-messages-json")
    answer = service.http("intake", event)
    assert answer.body["consolidated_messages"] == 2
    record = decode(service.queue.sent[0][0])
    sent = json.loads(event["body"])["messages"]
    assert [turn.role for turn in record.request.context] == ["user", "sale", "assistant"]
    assert [turn.content for turn in record.request.context] == [m["content"] for m in sent[:3]]
    assert [(m.content, m.message_id) for m in record.request.messages] == [
        (m["content"], m["message_id"]) for m in sent[3:]
    ]


def test_a_history_that_ends_with_a_reply_is_refused(service: Service) -> None:
    answer = service.http("intake", service.event("intake-bad-history"))
    assert answer.status == 400
    assert answer.body["field"] == "history"
    assert service.queue.sent == []


def test_a_job_is_shown_with_its_reply(service: Service) -> None:
    service.invoke("worker", service.event("worker-one-record"))
    answer = service.http("status", service.event("status-get-job"))
    assert answer.status == 200
    assert set(answer.body) == JOB
    assert answer.body["status"] == "completed"
    assert answer.body["conversation_id"] == "conv_123"
    assert answer.body["reply"] == {"role": "assistant", "content": "Hello"}
    assert answer.body["error"] is answer.body["superseded_by"] is None
    for name in ("created_at", "started_at", "finished_at"):
        assert re.fullmatch(RFC_3339, answer.body[name])


def test_waiting_for_a_job_ends_with_the_job(service: Service) -> None:
    record = service.event("worker-one-record")
    accept_again(service, record)
    looked = threading.Event()
    find = service.parts.tiers.tiers[0].job

    def job(job_id: str) -> Any:
        looked.set()
        return find(job_id)

    service.parts.tiers.tiers[0].job = job  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.http, "status", service.event("status-get-job"))
        assert looked.wait(10)
        service.parts.worker.process(decode(record["Records"][0]["body"]), deadline=float("inf"))
        assert answer.result(15).body["status"] == "completed"


def test_a_maximum_of_0_turns_waiting_off(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        pytest.fail("it waits")

    monkeypatch.setattr("message_handler.jobs.time.sleep", sleep)
    service.use(settings=Settings(max_wait_seconds=0, auth_required=False))
    accept_again(service, service.event("worker-one-record"))
    answer = service.http("status", service.event("status-get-job"))
    assert set(answer.body) == JOB
    assert answer.body["status"] == "pending"
    assert answer.body["started_at"] is answer.body["finished_at"] is answer.body["reply"] is None


def test_a_conversation_is_shown_with_its_turns_and_what_is_pending(service: Service) -> None:
    event = service.event("intake-get-conversation")
    assert service.http("intake", event).status == 404
    job_id = service.http("intake", service.event("intake-post-message")).body["ai_job_id"]
    waiting = service.http("intake", event)
    assert waiting.status == 200
    assert set(waiting.body) == {"conversation_id", "bot_id", "status", "turns", "pending"}
    assert waiting.body["turns"] == []
    assert waiting.body["pending"] == {"job_id": job_id, "consolidated_messages": 1}
    service.deliver()
    answered = service.http("intake", event).body
    assert answered["pending"] is None
    assert [(turn["role"], turn["content"]) for turn in answered["turns"]] == [
        ("user", "Hello"),
        ("assistant", "Hello"),
    ]
    for turn in answered["turns"]:
        assert set(turn) == {"role", "content", "message_id", "created_at", "edited_at", "unsent_at", "job_id"}
        assert turn["job_id"] == job_id


def test_a_job_is_cancelled_once(service: Service) -> None:
    record = accept_again(service, service.event("worker-one-record"))
    event = service.event("intake-delete-job")
    cancelled = service.http("intake", event)
    assert cancelled.status == 200
    assert set(cancelled.body) == JOB
    assert (cancelled.body["status"], cancelled.body["reply"]) == ("cancelled", None)
    assert service.http("intake", event).status == 409
    assert service.invoke("worker", service.event("worker-one-record")) == {"batchItemFailures": []}
    assert service.parts.archive.settled_by(KEY, record.message_id) == record.job_id


def test_an_unknown_job_is_not_found(service: Service) -> None:
    for name in ("status-get-job", "intake-delete-job"):
        answer = service.http(name.partition("-")[0], service.event(name))
        assert (answer.status, answer.body["field"]) == (404, "job_id")


def test_another_tenants_job_is_not_found(service: Service) -> None:
    other = ConversationKey("other", "conv_123")
    request = Request(other, (Message("m", CANARY),), (), "default")
    job_id = service.parts.tiers.tiers[0].accept(request, job_id=other.new_job_id(), lock_id="lock").job_id
    for name in ("status-get-job", "intake-delete-job"):
        answer = service.http(name.partition("-")[0], service.event(name, pathParameters={"job_id": job_id}))
        assert answer.status == 404
