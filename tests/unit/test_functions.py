"""The three functions, driven by the same files in `events/` that a developer invokes them with."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.archive.none import NoArchive
from message_handler.aws import cloudformation
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import AIError, Conflict, InvalidRequest, Unavailable
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.notices import failure_notice
from message_handler.domain.records import DeliveryRecord, Record
from message_handler.drivers.egress import Egress
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import MessageLockManager
from message_handler.metrics import Meter
from message_handler.ports.retention import Kept
from message_handler.protocol.results import Claim
from message_handler.queue.codec import decode, encode
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from message_handler.wiring import Parts
from tests.unit.service import CANARY, EVENTS, KEY, Answer, Service, load_event, load_function

DELIVERIES = "https://sqs.example/1/stack-DeliveryQueue"
ACQUIRED = {
    "success",
    "status",
    "action",
    "ai_job_id",
    "lock_id",
    "consolidated_messages",
    "bot_name",
}
JOINED = {"success", "status", "action", "message", "ai_job_id", "consolidated_messages"}
JOB = {
    "job_id",
    "conversation_id",
    "status",
    "consolidated_messages",
    "messages",
    "answered_by",
    "restarts",
    "attempts",
    "progress",
    "created_at",
    "started_at",
    "finished_at",
    "reply",
    "error",
    "superseded_by",
    "usage",
    "provenance",
}
LOCK = {
    "conversation_id",
    "ai_job_id",
    "acquired_at",
    "heartbeat_at",
    "expires_at",
    "consolidated_messages",
    "tier",
}
CONFIGURED = ("bots", "core_ai", "platforms")
RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def says(words: str, message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A request with one new message."""
    return {"history": f"<USER>{CANARY} {words}</USER><br>", "message_id": message_id} | more


def accept_again(service: Service, event: dict[str, Any]) -> Record:
    """Put a record's messages into the tier, under the record's own job, without answering them."""
    record = decode(event["Records"][0]["body"])
    key = record.request.key
    service.parts.tiers.tiers[0].accept_again(record.request, job_id=record.job_id, spare_id=key.new_job_id())
    return record


class TestEvents:
    def test_every_file_is_used_here(self) -> None:
        source = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
        names = {f"admin-{verb}-{noun}" for verb in ("get", "put", "delete") for noun in EACH}
        names |= {f"admin-list-{noun}" for noun in ("bots", "core-ai", "platforms")}
        unused = [file.name for file in EVENTS.iterdir() if f'"{file.stem}"' not in source and file.stem not in names]
        assert unused == []

    @pytest.mark.parametrize("file", sorted(EVENTS.glob("*.json")), ids=lambda file: file.stem)
    def test_a_call_is_one_that_its_function_routes_and_the_gateway_sends(self, service: Service, file: Path) -> None:
        event = load_event(file.stem)
        if "httpMethod" not in event:
            assert set(event) in ({"Records"}, {"action"}) or cloudformation.is_custom_resource(event)
            return
        function = service.functions[file.stem.partition("-")[0]]
        context = event["requestContext"]
        assert (event["httpMethod"], event["resource"]) in function.ROUTES
        assert event["resource"].format(**event["pathParameters"] or {}) == unquote(event["path"])
        assert context["resourcePath"] == event["resource"]
        assert context["httpMethod"] == event["httpMethod"]
        assert context["path"] == f"/{context['stage']}{event['path']}"
        assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
        query = event["queryStringParameters"]
        assert event["multiValueQueryStringParameters"] == (query and {name: [query[name]] for name in query})

    def test_records_are_what_the_queue_writes(self) -> None:
        records = load_event("worker-one-record")["Records"] + load_event("worker-batch")["Records"]
        bodies = [record["body"] for record in records]
        for record in records:
            assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()
        broken = [body for body in bodies if not body.endswith("}")]
        assert broken == [bodies[2]]
        (delivery,) = load_event("worker-delivery")["Records"]
        assert delivery["md5OfBody"] == hashlib.md5(delivery["body"].encode()).hexdigest()
        assert encode(DeliveryRecord(KEY)) == delivery["body"]
        for body in set(bodies) - set(broken):
            decoded = decode(body)
            assert encode(decoded) == body
            assert shard_of_job(decoded.job_id) == decoded.request.key.shard
            assert decoded.message_id == decoded.request.messages[-1].message_id

    def test_the_job_events_ask_for_the_job_of_the_one_record(self) -> None:
        job_id = decode(load_event("worker-one-record")["Records"][0]["body"]).job_id
        for name in ("intake-get-job", "intake-delete-job"):
            assert load_event(name)["pathParameters"] == {"job_id": job_id}


class TestHandoff:
    @pytest.fixture
    def taken(self, service: Service) -> Service:
        """A conversation that a human has taken over while its first message waited."""
        service.http("intake", service.event("intake-post-message"))
        answer = service.http("intake", service.event("intake-handoff"))
        assert answer.status == 200
        assert answer.body == {"conversation_id": KEY.conversation_id, "status": "handed_off", "ai_job_id": None}
        return service

    def hand(self, service: Service, body: Any, conversation_id: str = KEY.conversation_id) -> Answer:
        event = service.event("intake-handoff", pathParameters={"conversation_id": conversation_id})
        return service.http("intake", event | {"body": body if isinstance(body, str | None) else json.dumps(body)})

    def test_what_comes_is_stored_and_nobody_else_answers_it(self, taken: Service) -> None:
        taken.deliver()
        stored = taken.post(says("more", "m-2"))
        assert stored.status == 202
        assert set(stored.body) == JOINED
        assert stored.body["success"] is True
        assert (stored.body["status"], stored.body["action"]) == ("handed_off", "stored")
        assert stored.body["ai_job_id"] is None
        assert stored.body["consolidated_messages"] == 2
        assert taken.post(says("more", "m-2")).body == stored.body | {"duplicate": True}
        assert taken.queue.sent == []
        shown = taken.http("intake", taken.event("intake-get-conversation")).body
        assert (shown["status"], shown["turns"]) == ("handed_off", [])
        assert shown["pending"] == {"job_id": None, "consolidated_messages": 2}

    def test_handed_back_one_job_answers_what_waited(self, taken: Service) -> None:
        taken.deliver()
        taken.post(says("more", "m-2"))
        back = self.hand(taken, {"to": "bot"})
        assert [decode(body).request.correlation_id for body, _ in taken.queue.sent] == [
            back.headers["X-Correlation-ID"]
        ]
        assert (back.status, back.body["status"]) == (200, "active")
        assert taken.deliver() == {"batchItemFailures": []}
        shown = taken.http("intake", taken.event("intake-get-conversation")).body
        assert [turn["role"] for turn in shown["turns"]] == ["user", "user", "assistant"]
        assert {turn["job_id"] for turn in shown["turns"]} == {back.body["ai_job_id"]}
        assert (shown["status"], shown["pending"]) == ("active", None)
        assert self.hand(taken, {"to": "bot"}).body["ai_job_id"] is None

    def test_the_sweep_hands_back_what_a_process_left_behind(self, taken: Service) -> None:
        taken.deliver()
        taken.parts.archive.resume(KEY)
        assert taken.invoke("admin", taken.event("admin-schedule")) == {"swept": 1}
        taken.deliver()
        shown = taken.http("intake", taken.event("intake-get-conversation")).body
        assert [turn["role"] for turn in shown["turns"]] == ["user", "assistant"]
        assert taken.invoke("admin", taken.event("admin-schedule")) == {"swept": 0}

    def test_a_history_with_a_humans_turn_hands_off(self, service: Service) -> None:
        human = f"<SALE>{CANARY} I take over</SALE><br>"
        stored = service.post({"history": f"<USER>{CANARY}</USER><br>{human}<USER>{CANARY} thanks</USER><br>"})
        assert (stored.body["action"], stored.body["consolidated_messages"]) == ("stored", 1)
        told = service.post({"history": human})
        assert (told.status, told.body["action"]) == (202, "stored")
        shown = service.http("intake", service.event("intake-get-conversation")).body
        assert [turn["role"] for turn in shown["turns"]] == ["user", "sale"]
        assert shown["turns"][1] | {"created_at": None} == {
            "role": "sale",
            "content": f"{CANARY} I take over",
            "created_at": None,
            "job_id": None,
        }

    @pytest.mark.parametrize("to", ["bot", "human"])
    def test_an_unknown_conversation_is_not_found(self, service: Service, to: str) -> None:
        answer = self.hand(service, {"to": to}, "conv_unknown")
        assert (answer.status, answer.body["field"]) == (404, "conversation_id")

    @pytest.mark.parametrize(
        "body", [{}, {"to": None}, {"to": ["bot"]}, {"to": CANARY}, {"to": "Human"}, {"to": "bot", CANARY: 1}]
    )
    def test_a_bad_body_is_refused_by_the_fields_name(self, taken: Service, body: dict[str, Any]) -> None:
        answer = self.hand(taken, body)
        assert (answer.status, answer.body["field"]) == (400, "to")

    @pytest.mark.parametrize("body", [None, "", "[]", f'"{CANARY}"', "{"])
    def test_so_is_one_that_is_no_object(self, taken: Service, body: str | None) -> None:
        assert self.hand(taken, body).status == 400

    @pytest.mark.parametrize("to", ["bot", "human"])
    def test_without_postgres_it_is_unavailable(self, service: Service, to: str) -> None:
        service.use(archive=NoArchive())
        service.http("intake", service.event("intake-post-message"))
        answer = self.hand(service, {"to": to})
        assert answer.status == 503
        assert answer.headers["Retry-After"]

    def test_the_librarys_other_doors_say_that_a_human_answers(self, taken: Service) -> None:
        parts = taken.parts
        jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
        with pytest.raises(Conflict, match="human"):
            jobs.create_ai_processing_job(KEY.conversation_id, [CANARY])
        with pytest.raises(Conflict, match="human"):
            MessageLockManager(parts.tiers).check_and_acquire_lock(KEY.conversation_id, [CANARY])


class TestIntake:
    def test_the_first_message_takes_the_lock(self, service: Service) -> None:
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

    def test_a_second_message_joins_and_learns_no_lock_id(self, service: Service) -> None:
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

    def test_designs_request_with_its_nulls_is_accepted(self, service: Service) -> None:
        body = {
            "history": f"<USER>Hello {CANARY}</USER><br>",
            "resources": {"user_id": "user_456"},
            "bot_id": None,
            "message_id": None,
        }
        assert service.post(body).status == 202

    def test_under_reject_a_second_message_is_told_no_and_stores_nothing(self, service: Service) -> None:
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

    def test_under_interrupt_it_takes_the_running_jobs_messages_over(self, service: Service) -> None:
        first = service.post(says("one"))
        service.parts.tiers.tiers[0].claim(KEY, "worker")
        second = service.post(says("two", double_texting="interrupt"))
        assert set(second.body) == ACQUIRED
        assert (second.status, second.body["action"], second.body["consolidated_messages"]) == (202, "interrupted", 2)
        job = service.http(
            "intake", service.event("intake-get-job", pathParameters={"job_id": first.body["ai_job_id"]})
        )
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
        self, service: Service, changes: dict[str, Any], field: str, advice: str
    ) -> None:
        answer = service.post(says("one") | changes)
        assert (answer.status, answer.body["field"]) == (400, field)
        assert advice in answer.body["detail"]
        assert service.queue.sent == []

    def test_one_correlation_id_runs_from_the_request_to_the_ai(self, service: Service) -> None:
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
    def test_without_a_usable_one_it_is_the_gateways(self, service: Service, header: str) -> None:
        event = service.event("intake-post-message", headers={"X-Correlation-ID": header})
        answer = service.http("intake", event)
        assert answer.headers["X-Correlation-ID"] == event["requestContext"]["requestId"]

    def test_the_same_message_id_is_the_same_job_and_starts_nothing(self, service: Service) -> None:
        first = service.http("intake", service.event("intake-post-message"))
        again = service.http("intake", service.event("intake-duplicate"))
        assert again.status == 202
        assert set(again.body) == JOINED | {"duplicate"}
        assert again.body["duplicate"] is True
        assert again.body["ai_job_id"] == first.body["ai_job_id"]
        assert again.body["consolidated_messages"] == 1
        # Whoever was first may have died before its record was sent: each sends one.
        assert [decode(body).message_id for body, _ in service.queue.sent] == ["m-1001", "m-1001"]
        late_record = service.queue.sent.pop()
        assert service.deliver() == {"batchItemFailures": []}
        late = service.http("intake", service.event("intake-duplicate"))
        assert late.body == again.body
        service.queue.sent.append(late_record)
        assert service.deliver() == {"batchItemFailures": []}
        assert len(service.http("intake", service.event("intake-get-conversation")).body["turns"]) == 2

    def test_an_older_version_of_an_answered_history_starts_nothing(self, service: Service) -> None:
        turns = [f"<USER>{CANARY} {word}</USER><br>" for word in ("one", "two", "three")]
        first = service.post({"history": "".join(turns)})
        service.deliver()
        late = service.post({"history": "".join(turns[:2])})
        assert (late.body["duplicate"], late.body["ai_job_id"]) == (True, first.body["ai_job_id"])
        assert service.deliver() == {"batchItemFailures": []}
        conversation = service.http("intake", service.event("intake-get-conversation")).body
        assert [turn["role"] for turn in conversation["turns"]] == ["user", "user", "user", "assistant"]

    def test_json_messages_keep_their_roles_and_texts(self, service: Service) -> None:
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

    def test_a_history_that_ends_with_a_reply_is_refused(self, service: Service) -> None:
        answer = service.http("intake", service.event("intake-bad-history"))
        assert answer.status == 400
        assert answer.body["field"] == "history"
        assert service.queue.sent == []

    def test_a_job_is_shown_with_its_reply(self, service: Service) -> None:
        service.invoke("worker", service.event("worker-one-record"))
        answer = service.http("intake", service.event("intake-get-job"))
        assert answer.status == 200
        assert set(answer.body) == JOB
        assert answer.body["status"] == "completed"
        assert answer.body["conversation_id"] == "conv_123"
        assert answer.body["reply"] == {"role": "assistant", "content": "Hello"}
        assert answer.body["error"] is answer.body["superseded_by"] is None
        for name in ("created_at", "started_at", "finished_at"):
            assert re.fullmatch(RFC_3339, answer.body[name])

    def test_waiting_for_a_job_ends_with_the_job(self, service: Service) -> None:
        record = service.event("worker-one-record")
        accept_again(service, record)
        looked = threading.Event()
        find = service.parts.tiers.tiers[0].job

        def job(job_id: str) -> Any:
            looked.set()
            return find(job_id)

        service.parts.tiers.tiers[0].job = job  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(service.http, "intake", service.event("intake-get-job"))
            assert looked.wait(10)
            service.parts.worker.process(decode(record["Records"][0]["body"]), deadline=float("inf"))
            assert answer.result(15).body["status"] == "completed"

    def test_a_maximum_of_0_turns_waiting_off(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def sleep(_seconds: float) -> None:
            pytest.fail("it waits")

        monkeypatch.setattr("message_handler.jobs.time.sleep", sleep)
        service.use(settings=Settings(max_wait_seconds=0, auth_required=False))
        accept_again(service, service.event("worker-one-record"))
        answer = service.http("intake", service.event("intake-get-job"))
        assert set(answer.body) == JOB
        assert answer.body["status"] == "pending"
        assert answer.body["started_at"] is answer.body["finished_at"] is answer.body["reply"] is None

    def test_a_conversation_is_shown_with_its_turns_and_what_is_pending(self, service: Service) -> None:
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
            assert set(turn) == {"role", "content", "created_at", "job_id"}
            assert turn["job_id"] == job_id

    def test_a_job_is_cancelled_once(self, service: Service) -> None:
        record = accept_again(service, service.event("worker-one-record"))
        event = service.event("intake-delete-job")
        cancelled = service.http("intake", event)
        assert cancelled.status == 200
        assert set(cancelled.body) == JOB
        assert (cancelled.body["status"], cancelled.body["reply"]) == ("cancelled", None)
        assert service.http("intake", event).status == 409
        assert service.invoke("worker", service.event("worker-one-record")) == {"batchItemFailures": []}
        assert service.parts.archive.settled_by(KEY, record.message_id) == record.job_id

    def test_an_unknown_job_is_not_found(self, service: Service) -> None:
        for name in ("intake-get-job", "intake-delete-job"):
            answer = service.http("intake", service.event(name))
            assert (answer.status, answer.body["field"]) == (404, "job_id")

    def test_another_tenants_job_is_not_found(self, service: Service) -> None:
        other = ConversationKey("other", "conv_123")
        request = Request(other, (Message("m", CANARY),), (), "default")
        job_id = service.parts.tiers.tiers[0].accept(request, job_id=other.new_job_id(), lock_id="lock").job_id
        for name in ("intake-get-job", "intake-delete-job"):
            answer = service.http("intake", service.event(name, pathParameters={"job_id": job_id}))
            assert answer.status == 404


class TestWorker:
    def test_a_record_is_answered(self, service: Service) -> None:
        event = service.event("worker-one-record")
        assert service.invoke("worker", event) == {"batchItemFailures": []}
        record = decode(event["Records"][0]["body"])
        job = service.parts.archive.job("default", record.job_id)
        assert job is not None
        assert (job.status, job.reply) == ("completed", "Hello")

    def test_a_broken_record_fails_alone_and_its_mates_are_answered_once(self, service: Service) -> None:
        event = service.event("worker-batch")
        records = event["Records"]
        failed = {"batchItemFailures": [{"itemIdentifier": records[1]["messageId"]}]}
        assert service.invoke("worker", event) == failed
        assert service.invoke("worker", event) == failed  # at least once
        for name, count in (("conv_124", 2), ("conv_125", 1)):
            conversation = service.parts.archive.conversation(ConversationKey("default", name))
            assert conversation is not None
            assert [turn.role for turn, _, _ in conversation.turns] == ["user"] * count + ["assistant"]
        crashes = [line for line in service.output.logs if line["level"] == "ERROR"]
        assert [line["sqs_message_id"] for line in crashes] == [records[1]["messageId"]] * 2

    def test_the_records_of_a_batch_run_at_the_same_time(self, service: Service) -> None:
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
        self, service: Service, sqs: SqsQueue, changed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
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

    def test_a_record_is_worked_on_alone_from_its_third_delivery_on(self, service: Service) -> None:
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

    def test_what_kills_its_worker_leaves_its_mates_answered(self, service: Service) -> None:
        """A batch of ten comes back whole, each time that one of them kills its worker."""

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

    def test_the_last_delivery_of_one_does_not_wait_for_what_may_kill_it(self, service: Service) -> None:
        order: list[str] = []

        def script(prompt: Prompt, _watch: Watch) -> str:
            order.append(prompt.messages[0].content.split()[-1])
            return "answered"

        service.ai.script = script
        for receives in ((4, 3, 5), (3, 5, 3), (5, 4, 4)):
            order.clear()
            assert service.batch("a", "b", "c", receives=receives) == {"batchItemFailures": []}
            assert order[0] == "abc"[receives.index(5)]

    def test_one_that_is_worked_on_alone_is_handed_on_where_too_little_time_is_left(
        self, service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
    ) -> None:
        service.remaining_ms = 62_000  # 3 s of them are for the report
        service.use(single_try_queue=sqs)
        assert service.batch("late", receives=(4,)) == {"batchItemFailures": [{"itemIdentifier": "record-0"}]}
        assert changed[-1]["VisibilityTimeout"] == 240
        assert service.batch("early", receives=(2,)) == {"batchItemFailures": []}

    def test_a_cold_start_builds_its_parts_once_for_the_whole_batch(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "worker")
        module = service.functions["worker"] = load_function("worker")
        built = []

        def build(*, deployed: bool, meter: Meter) -> Parts:
            threading.Event().wait(0.1)  # long enough for every thread to want its own
            built.append(service.parts)
            return service.parts

        monkeypatch.setattr(module, "build", build)
        for number in range(10):
            service.post(says("hello"), f"conv-{number}")
        assert service.deliver() == {"batchItemFailures": []}
        assert len(built) == 1

    def test_messages_of_one_conversation_in_one_batch_get_one_reply(self, service: Service) -> None:
        for word in ("one", "two", "three"):
            service.post(says(word, word))
        service.deliver()
        conversation = service.parts.archive.conversation(KEY)
        assert conversation is not None
        replies = [turn.content for turn, _, _ in conversation.turns if turn.role == "assistant"]
        assert replies == [f"{CANARY} one {CANARY} two {CANARY} three"]

    @pytest.mark.parametrize(("seconds", "answered"), [(-60, False), (60, True)])
    def test_a_record_of_an_earlier_version_was_accepted_when_it_was_sent(
        self, service: Service, seconds: int, answered: bool
    ) -> None:
        service.parts.archive.erase(KEY)
        event = service.event("worker-one-record")
        assert "accepted_at" not in event["Records"][0]["body"]
        event["Records"][0]["attributes"]["SentTimestamp"] = str(int((time.time() + seconds) * 1000))
        assert service.invoke("worker", event) == {"batchItemFailures": []}
        assert (service.parts.archive.conversation(KEY) is not None) == answered

    def test_a_record_whose_conversation_is_held_is_hidden_until_the_holders_deadline(
        self, service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
    ) -> None:
        service.use(single_try_queue=sqs)
        event = service.event("worker-one-record")
        accept_again(service, event)
        assert isinstance(service.parts.tiers.tiers[0].claim(KEY, "another worker"), Claim)
        record = event["Records"][0]
        assert service.invoke("worker", event) == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
        assert {entry["ReceiptHandle"] for entry in changed} == {record["receiptHandle"]}
        seconds = changed[-1]["VisibilityTimeout"]
        # A second more, so that the holder is through, and never longer than the queue's own visibility timeout.
        assert service.parts.settings.run_seconds - 1 <= seconds <= 720

    def test_a_refused_change_of_visibility_costs_nothing_but_time(self, service: Service) -> None:
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

    def test_a_job_whose_ai_fails_ends_visibly(self, service: Service) -> None:
        def script(prompt: Prompt, _watch: Watch) -> str:
            raise AIError("ai_failed", "The AI gave no answer.")

        service.ai.script = script
        assert service.invoke("worker", service.event("worker-one-record")) == {"batchItemFailures": []}
        job = service.http("intake", service.event("intake-get-job")).body
        assert (job["status"], job["reply"]) == ("failed", None)
        notice = failure_notice(service.parts.bots.default)
        assert job["error"] == {"code": "ai_failed", "message": "The AI gave no answer.", "notice": notice}
        assert service.output.metrics["JobsFailed"] == [1]


class TestDelivery:
    def test_a_delivery_record_has_its_conversation_delivered_in_the_functions_time(self, service: Service) -> None:
        service.use(worker=replace(service.parts.worker, deliveries=(asked := Recorded())))
        before = time.time()
        assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
        ((key, deadline),) = asked.delivered
        assert key == KEY
        assert before + 100 < deadline < time.time() + 120

    def test_one_that_crashes_is_left_to_the_sweep(
        self, service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
    ) -> None:
        settings = service.parts.settings.model_copy(update={"delivery_queue_url": DELIVERIES})
        crashing = replace(service.parts.worker, deliveries=Recorded(KeyError(CANARY)))
        service.use(single_try_queue=sqs, settings=settings, worker=crashing)
        assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
        assert [line["error"] for line in service.output.logs if line["level"] == "ERROR"] == ["KeyError"]
        assert changed == []

    def test_one_that_nobody_can_read_is_not_looked_for_in_the_other_queue(
        self, service: Service, sqs: SqsQueue, changed: list[dict[str, Any]]
    ) -> None:
        settings = service.parts.settings.model_copy(update={"delivery_queue_url": DELIVERIES})
        service.use(single_try_queue=sqs, settings=settings)
        event = service.event("worker-delivery")
        (record,) = event["Records"]
        record["body"] = "{"
        assert service.invoke("worker", event) == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
        assert changed == []

    def test_without_postgres_there_is_nothing_to_deliver(self, service: Service) -> None:
        assert service.invoke("worker", service.event("worker-delivery")) == {"batchItemFailures": []}
        shown = service.http("admin", service.event("admin-dead-letters"))
        assert (shown.status, shown.body) == (200, {"deliveries": []})
        redriven = service.http("admin", service.event("admin-redrive-dead-letters"))
        assert (redriven.status, redriven.body) == (200, {"redriven": 0})

    def test_the_schedule_sweeps_deliveries_too(self, service: Service) -> None:
        service.use(deliveries=(asked := Recorded()))
        service.invoke("admin", service.event("admin-schedule"))
        assert asked.swept == 1


@dataclass
class Recorded:
    """In place of deliveries, which need a Postgres: what they were asked for."""

    error: Exception | None = None
    delivered: list[tuple[ConversationKey, float]] = field(default_factory=list)
    swept: int = 0

    def deliver(self, key: ConversationKey, deadline: float) -> None:
        if self.error:
            raise self.error
        self.delivered.append((key, deadline))

    def sweep(self) -> None:
        self.swept += 1


class TestAdmin:
    def test_health_tells_up_and_nothing_else(self, service: Service) -> None:
        answer = service.http("admin", service.event("admin-health"))
        assert (answer.status, answer.body) == (200, {"status": "up"})

    def test_health_is_down_where_no_message_can_be_taken(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        response = service.invoke("admin", service.event("admin-health"))
        assert (response["statusCode"], json.loads(response["body"])) == (503, {"status": "down"})

    def test_the_status_names_every_part(self, service: Service) -> None:
        answer = service.http("admin", service.event("admin-status"))
        assert answer.body == {
            "status": "healthy",
            "components": {
                "redis_connected": False,
                "database_connected": False,
                "tier": "memory",
                "lock_manager": "healthy",
                "job_manager": "healthy",
                "queue": "held",
            },
            "tiers": {"memory": "up"},
            "queue": {"visible": 0, "in_flight": 0, "delayed": 0, "dead_letters": None},
            "worker": {
                "state": "idle",
                "running": 0,
                "waiting": 0,
                "oldest_waiting_at": None,
                "last_heartbeat_at": None,
                "last_finished_at": None,
            },
        }

    def test_a_lock_is_shown_without_text_and_without_its_id(self, service: Service) -> None:
        assert service.http("admin", service.event("admin-list-locks")).body == {"locks": []}
        assert service.http("admin", service.event("admin-get-lock")).status == 404
        accepted = service.http("intake", service.event("intake-post-message")).body
        lock = service.http("admin", service.event("admin-get-lock"))
        assert lock.status == 200
        assert set(lock.body) == LOCK
        assert lock.body["ai_job_id"] == accepted["ai_job_id"]
        assert accepted["lock_id"] not in json.dumps(lock.body)
        assert service.http("admin", service.event("admin-list-locks")).body == {"locks": [lock.body]}
        service.output.assert_private(json.dumps(lock.body))

    def test_a_released_conversation_is_woken_once_and_answered_once(self, service: Service) -> None:
        event = service.event("admin-release-lock")
        assert service.http("admin", event).status == 404
        service.http("intake", service.event("intake-post-message"))
        service.parts.tiers.tiers[0].claim(KEY, "a stuck worker")
        service.queue.sent.clear()
        assert service.http("admin", event).body == {"released": True}
        assert len(service.queue.sent) == 1
        assert service.deliver() == {"batchItemFailures": []}
        assert service.parts.tiers.tiers[0].seal(KEY, "a stuck worker", [], next_id="", fenced=True).verdict == "lost"

    def test_the_clean_up_frees_what_is_older_than_it_says(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        service.parts.tiers.tiers[0].claim(KEY, "a worker")
        event = service.event("admin-cleanup-locks")
        assert service.http("admin", event).body == {"cleaned": 0}
        assert service.http("admin", event | {"body": None}).body == {"cleaned": 0}
        service.queue.sent.clear()
        assert service.http("admin", event | {"body": '{"max_age_hours": 0}'}).body == {"cleaned": 1}
        assert len(service.queue.sent) == 1

    def test_a_clean_up_without_a_queue_is_503(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        service.parts.tiers.tiers[0].claim(KEY, "a worker")
        service.queue.error = Unavailable("the queue")
        answer = service.http("admin", service.event("admin-cleanup-locks", body='{"max_age_hours": 0}'))
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)

    def test_the_schedule_sweeps(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        assert service.invoke("admin", service.event("admin-schedule")) == {"swept": 0}
        assert service.output.metrics["ConversationsSwept"] == [0]

    def test_the_schedule_archives_what_postgres_lacks(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        tier = service.parts.tiers.tiers[0]
        claim = tier.claim(KEY, "a worker")
        assert isinstance(claim, Claim)
        ended = replace(claim.job, status=JobStatus.COMPLETED, reply="Rest.", unarchived=True)
        assert tier.finish(KEY, "a worker", ended).done
        service.invoke("admin", service.event("admin-schedule"))
        message_id = ended.messages[0].message_id
        assert service.parts.archive.settled_by(KEY, message_id) == ended.job_id
        assert tier.unarchived() == []

    def test_an_erased_conversation_is_gone_and_then_not_found(self, service: Service) -> None:
        event = service.event("admin-erase-conversation")
        assert service.http("admin", event).status == 404
        service.http("intake", service.event("intake-post-message"))
        assert service.http("admin", event).body == {"erased": True}
        assert service.http("intake", service.event("intake-get-conversation")).status == 404
        assert service.deliver() == {"batchItemFailures": []}
        assert service.http("intake", service.event("intake-get-conversation")).status == 404
        assert service.http("admin", event).status == 404

    def test_without_postgres_nothing_is_erased_exported_or_purged(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        service.use(archive=NoArchive())
        for name in ("admin-erase-conversation", "admin-export-conversation"):
            assert service.http("admin", service.event(name)).status == 503
        assert service.http("intake", service.event("intake-get-conversation")).status == 200
        with pytest.raises(Unavailable):
            service.invoke("admin", service.event("admin-purge"))

    def test_an_export_is_shown_page_by_page(self, service: Service) -> None:
        at = "2026-06-15T09:30:00.123456+00:00"
        record = {"kind": "conversation", "bot_id": "b", "handed_off": False, "created_at": at, "updated_at": at}

        class Shelf:
            def kept(self, key: ConversationKey, after: tuple[int, str], **_: int) -> list[Kept]:
                assert key == KEY
                return [Kept(0, "", record)] if after == (-1, "") else []

        service.use(retention=Shelf())
        event = service.event("admin-export-conversation")
        first = service.http("admin", event).body
        assert first == {"conversation_id": "conv_123", "records": [record], "next": "0."}
        last = service.http("admin", event | {"queryStringParameters": {"after": first["next"]}}).body
        assert last == {"conversation_id": "conv_123", "records": [], "next": None}
        refused = service.http("admin", event | {"queryStringParameters": {"after": CANARY}})
        assert (refused.status, refused.body["field"]) == (400, "after")
        noted = service.parts.audit.entries("default", kind="conversations", before_id=None, most=10)
        assert [(entry.action, entry.record_id, entry.after) for entry in noted] == [
            ("export", "conv_123", {"after": "conversation"}),
            ("export", "conv_123", None),
        ]

    def test_cloudformation_is_answered_where_it_says(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        put: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(cloudformation, "_put", lambda url, body, _: put.append((url, json.loads(body))))
        event = service.event("admin-migrate-stack")
        answer = service.invoke("admin", event)
        assert put == [(event["ResponseURL"], answer)]
        assert answer["Status"] == "SUCCESS"
        assert event["ResponseURL"] not in service.output.printed + service.output.logged

    def test_migrations_are_applied_on_direct_invocation(self, service: Service) -> None:
        assert service.invoke("admin", service.event("admin-migrate")) == {"applied": []}

    def test_the_status_is_there_on_direct_invocation_too(self, service: Service) -> None:
        status = service.invoke("admin", {"action": "status"})
        assert status.items() <= service.http("admin", service.event("admin-status")).body.items()

    @pytest.mark.parametrize("event", [{}, {"action": CANARY}, {"action": None}, {"action": ["sweep"]}])
    def test_an_unknown_action_is_refused_with_the_known_ones(self, service: Service, event: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest, match="sweep, migrate, purge, status") as refused:
            service.invoke("admin", event)
        service.output.assert_private(str(refused.value))


BOT_RECORD = {"bot_id", "platform_id", "name", "description", "language", "is_active", "core_ai_id", "meta_data"}
CORE_AI_RECORD = {
    "core_ai_id",
    "name",
    "api_endpoint",
    "auth_required",
    "auth_token",
    "timeout_seconds",
    "meta_data",
}
PLATFORM_RECORD = {"platform_id", "name", "description", "base_url", "auth_required", "meta_data"}
EACH = ("bot", "core-ai", "platform")


def put(service: Service, name: str, **changes: Any) -> Answer:
    """Put an event's record with some fields changed."""
    event = service.event(name)
    return service.http("admin", event | {"body": json.dumps(json.loads(event["body"]) | changes)})


class TestConfiguration:
    def test_records_are_created_shown_and_deleted(self, configured: Service) -> None:
        answers = {noun: configured.http("admin", configured.event(f"admin-put-{noun}")) for noun in ("core-ai", *EACH)}
        assert [answers[noun].status for noun in EACH] == [201, 200, 200]  # the platform is there, the AI core now too
        for noun, shape in zip(EACH, (BOT_RECORD, CORE_AI_RECORD, PLATFORM_RECORD), strict=True):
            assert set(answers[noun].body) == shape
            shown = configured.http("admin", configured.event(f"admin-get-{noun}"))
            assert (shown.status, shown.body) == (200, answers[noun].body)
            sent = json.loads(load_event(f"admin-put-{noun}")["body"])
            secret = ("auth_token", "meta_data")
            assert {k: v for k, v in shown.body.items() if k in sent and k not in secret} == {
                k: v for k, v in sent.items() if k not in secret
            }
        assert answers["bot"].body["meta_data"] == json.loads(load_event("admin-put-bot")["body"])["meta_data"]
        for noun, collection, key in zip(EACH, ("bots", "core-ai", "platforms"), CONFIGURED, strict=True):
            listed = configured.http("admin", configured.event(f"admin-list-{collection}"))
            assert (listed.status, listed.body) == (200, {key: [answers[noun].body]})
        for noun in ("bot", "core-ai"):
            deleted = configured.http("admin", configured.event(f"admin-delete-{noun}"))
            assert (deleted.status, deleted.body) == (200, {"deleted": True})
            assert configured.http("admin", configured.event(f"admin-delete-{noun}")).status == 404
            assert configured.http("admin", configured.event(f"admin-get-{noun}")).status == 404

    def test_a_bot_answers_as_it_was_configured(self, configured: Service) -> None:
        assert configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"}).status == 404
        configured.http("admin", configured.event("admin-put-core-ai"))
        configured.http("admin", configured.event("admin-put-bot"))
        answer = configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"})
        assert (answer.status, answer.body["bot_name"]) == (202, "Pharmacy Assistant")
        put(configured, "admin-put-bot", is_active=False)
        assert configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"}).status == 409

    def test_secrets_are_never_shown(self, configured: Service) -> None:
        """That they are in no log and no error is looked at where the test ends."""
        secret = "whsec_" + base64.b64encode(CANARY.encode() * 4).decode()
        configured.output.private |= {secret}
        meta_data = {"webhook_secrets": [secret]}
        first = [
            put(configured, "admin-put-core-ai", auth_token=f"sk-{CANARY}"),
            put(configured, "admin-put-platform", meta_data=meta_data),
        ]
        assert first[0].body["auth_token"] == "***"
        assert first[1].body["meta_data"]["webhook_secrets"] == ["***"]
        shown = [configured.http("admin", configured.event(f"admin-get-{noun}")) for noun in EACH[1:]]
        listed = [configured.http("admin", configured.event(f"admin-list-{name}")) for name in ("core-ai", "platforms")]
        refused = [
            put(configured, "admin-put-core-ai", auth_token=f"sk {CANARY}"),
            put(configured, "admin-put-core-ai", api_endpoint=f"https://{CANARY}.example"),
            put(configured, "admin-put-platform", meta_data={"webhook_secrets": [CANARY]}),
            put(configured, "admin-put-platform", base_url=f"http://{CANARY}"),
        ]
        assert [answer.status for answer in refused] == [400] * 4
        for answer in [*first, *shown, *listed]:
            configured.output.assert_private(json.dumps(answer.body))

    @pytest.mark.parametrize(
        ("name", "changes", "field"),
        [
            ("admin-put-bot", {"meta_data": {"debounce_ms": CANARY}}, "meta_data.debounce_ms"),
            ("admin-put-bot", {"meta_data": {"colour": CANARY}}, "meta_data.colour"),
            ("admin-put-bot", {"core_ai_id": CANARY}, "core_ai_id"),
            ("admin-put-core-ai", {"api_endpoint": f"http://api.ai.example/{CANARY}"}, "api_endpoint"),
            ("admin-put-core-ai", {"api_endpoint": "https://127.0.0.1/"}, "api_endpoint"),
            ("admin-put-core-ai", {"api_endpoint": f"https://me:{CANARY}@api.ai.example/"}, "api_endpoint"),
            ("admin-put-core-ai", {"api_endpoint": f"https://api.ai.example.{CANARY}.example"}, "api_endpoint"),
            ("admin-put-platform", {"base_url": f"https://{CANARY}.example"}, "base_url"),
            ("admin-put-platform", {"base_url": "http://chat.clinic.example"}, "base_url"),
            ("admin-put-platform", {"base_url": "simulated://chat"}, "base_url"),
            ("admin-put-platform", {"base_url": "bedrock://chat"}, "base_url"),
            ("admin-put-core-ai", {"api_endpoint": f"https://ai.clinic.example/v1?key={CANARY}"}, "api_endpoint"),
        ],
    )
    def test_what_is_wrong_is_refused_by_its_name_and_nothing_is_stored(
        self, configured: Service, name: str, changes: dict[str, Any], field: str
    ) -> None:
        event = configured.event(name.replace("put", "get"))
        before = configured.http("admin", event)
        answer = put(configured, name, **changes)
        assert (answer.status, answer.body["field"]) == (400, field)
        assert configured.http("admin", event) == before

    @pytest.mark.parametrize("body", [None, "", "null", "[]", f'"{CANARY}"', f'{{"name": "{CANARY}'])
    def test_a_body_that_is_no_object_is_refused(self, configured: Service, body: str | None) -> None:
        for noun in EACH:
            assert configured.http("admin", configured.event(f"admin-put-{noun}", body=body)).status == 400

    @pytest.mark.parametrize("verb", ["get", "put", "delete"])
    def test_an_id_that_can_be_none_is_refused(self, configured: Service, verb: str) -> None:
        for noun, name in zip(EACH, ("bot_id", "core_ai_id", "platform_id"), strict=True):
            for id_ in ("", f"{CANARY}/1", f"{CANARY}%20", "x" * 256):
                answer = configured.http("admin", configured.event(f"admin-{verb}-{noun}", pathParameters={name: id_}))
                assert (answer.status, answer.body["field"]) == (400, name)

    @pytest.mark.parametrize("verb", ["get", "put", "delete"])
    def test_another_platform_is_not_found(self, configured: Service, verb: str) -> None:
        answer = configured.http(
            "admin", configured.event(f"admin-{verb}-platform", pathParameters={"platform_id": "x"})
        )
        assert (answer.status, answer.body["field"]) == (404, "platform_id")

    @pytest.mark.parametrize(
        ("noun", "reason"), [("core-ai", "a bot answers with it"), ("platform", "it is the default platform")]
    )
    def test_what_is_needed_is_not_deleted(self, configured: Service, noun: str, reason: str) -> None:
        configured.http("admin", configured.event("admin-put-core-ai"))
        configured.http("admin", configured.event("admin-put-bot"))
        answer = configured.http("admin", configured.event(f"admin-delete-{noun}"))
        assert answer.status == 409
        assert reason in answer.body["detail"]

    @pytest.mark.parametrize("noun", EACH)
    @pytest.mark.parametrize("verb", ["list", "get", "put", "delete"])
    def test_without_postgres_it_is_503(self, service: Service, noun: str, verb: str) -> None:
        service.use(egress=Egress(["*.ai.example", "*.clinic.example"]))
        plural = {"bot": "bots", "platform": "platforms"}.get(noun, noun)
        answer = service.http("admin", service.event(f"admin-{verb}-{plural if verb == 'list' else noun}"))
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
        assert answer.body["detail"].startswith("Postgres is not available")


class TestLogs:
    @pytest.mark.parametrize("text", [CANARY, f'{{"body": "{CANARY}"}}', "T\\u00f4i"])
    def test_these_tests_find_what_should_not_be_there(self, service: Service, text: str) -> None:
        service.output.private.add("Tôi")
        with pytest.raises(AssertionError):
            service.output.assert_private(text)

    def test_every_line_is_json_and_is_printed_once(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        service.http("intake", service.event("intake-bad-history"))
        service.invoke("worker", service.event("worker-batch"))
        service.deliver()
        service.http("admin", service.event("admin-cleanup-locks"))
        lines = service.output.lines
        assert len({json.dumps(line, sort_keys=True) for line in lines}) == len(lines)
        for line in service.output.logs:
            assert {"level", "message", "timestamp", "service", "function_request_id"} <= set(line)
        messages = [(line["service"], line["message"]) for line in service.output.logs]
        assert messages.count(("intake", "accepted")) == 1
        assert messages.count(("worker", "ended")) == 3

    def test_metrics_are_in_the_embedded_format(self, service: Service) -> None:
        service.http("intake", service.event("intake-post-message"))
        service.deliver()
        metrics = [line for line in service.output.lines if "_aws" in line]
        assert len(metrics) == 2
        for line in metrics:
            assert isinstance(line["_aws"]["Timestamp"], int)
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "MessageHandler"
            assert directive["Dimensions"] == [["service"]]
            for metric in directive["Metrics"]:
                assert all(isinstance(value, int | float) for value in line[metric["Name"]])
        assert service.output.metrics["MessagesAccepted"] == [1]
        assert service.output.metrics["JobsCompleted"] == [1]
        assert service.output.metrics["TimeToReply"] >= [0]

    def test_the_layers_own_logs_are_json_too(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        assert service.http("intake", service.event("intake-post-message")).status == 503
        (line,) = [line for line in service.output.logs if line["message"] == "not available"]
        assert line["level"] == "WARNING"
        assert line["what"] == "the queue"

    @pytest.mark.parametrize("name", ["intake-get-conversation", "admin-list-locks"])
    def test_an_unexpected_error_is_told_by_its_type_and_place_alone(self, service: Service, name: str) -> None:
        def fail(*_: Any) -> None:
            raise KeyError(f"{CANARY} is no key")

        service.parts.tiers.tiers[0].waiting = service.parts.tiers.tiers[0].locks = fail  # type: ignore[method-assign, assignment]
        answer = service.http(name.partition("-")[0], service.event(name))
        assert (answer.status, answer.body["title"]) == (500, "Internal Server Error")
        (line,) = [line for line in service.output.logs if line["level"] == "ERROR"]
        assert line["error"] == "KeyError"
        assert line["where"][-1].startswith("test_functions.py:")

    def test_an_unexpected_error_of_a_direct_invocation_keeps_its_text_too(self, service: Service) -> None:
        def fail() -> None:
            raise KeyError(f"{CANARY} is no key")

        service.parts.archive.migrate = fail  # type: ignore[method-assign, assignment]
        with pytest.raises(RuntimeError, match=r"^migrate failed: KeyError$") as raised:
            service.invoke("admin", service.event("admin-migrate"))
        assert raised.value.__suppress_context__

    @pytest.mark.parametrize("function", ["intake", "worker"])
    def test_events_are_never_logged_whatever_the_environment_says(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, function: str
    ) -> None:
        monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
        monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", function)
        service.functions[function] = load_function(function)
        monkeypatch.setattr(service.functions[function], "parts", lambda: service.parts)
        service.invoke(function, service.event("intake-post-message" if function == "intake" else "worker-batch"))
        assert service.output.logs
        # The output fixture looks for the events' texts.


@pytest.fixture
def changed() -> list[dict[str, Any]]:
    """What is said of each record's visibility, in that order."""
    return []


@pytest.fixture
def sqs(changed: list[dict[str, Any]]) -> SqsQueue:
    class Client:
        def change_message_visibility_batch(self, **arguments: Any) -> dict[str, Any]:
            changed.extend(arguments["Entries"])
            return {}

    return SqsQueue(Client(), "https://sqs.example/queue")
