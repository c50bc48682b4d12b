"""Every answer has `X-Correlation-ID`, errors too, and every line of the log has `correlation_id`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.ai.watched import Connection, Limits, Producer, attend
from message_handler.domain.errors import Contended, MessageHandlerError, Rejected, SettingsError, Unavailable
from message_handler.domain.jobs import Job
from message_handler.queue.codec import decode, encode
from message_handler.settings import Settings
from tests.published import DOCUMENT, resolved
from tests.unit.service import CANARY, Answer, Service, load_event, says

CALLS = ("intake-post-message", "status-get-job", "admin-list-locks", "admin-put-bot", "admin-console-file")
#: What a caller may send, and what logs and headers can't show.
BAD_IDS = ("", " ", "two words", "a\nb", "ü", f"{'x' * 256}", "<b>", "a,b", "\u0000")


def lines_of(service: Service, *, above: str = "DEBUG") -> list[dict[str, Any]]:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    return [line for line in service.output.logs if levels.index(line["level"]) >= levels.index(above)]


def call(service: Service, name: str, **changes: Any) -> Answer:
    event = load_event(name)
    headers = {"headers": {**(event["headers"] or {}), "x-correlation-id": "visit-17"}}
    answer = service.invoke(name.partition("-")[0], event | headers | changes)
    return Answer(answer["statusCode"], answer["headers"], answer["body"])


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class TestErrorAnswersCarryTheCorrelationId:
    @pytest.mark.parametrize(
        ("status", "name", "changes"),
        [
            (400, "intake-bad-history", {}),
            (400, "intake-post-message", {"body": '{"history": 1}'}),
            (400, "status-get-job", {"queryStringParameters": {"wait": "x"}}),
            (400, "admin-get-bot", {"pathParameters": {"bot_id": "a b"}, "path": "/admin/bots/a b"}),
            (404, "status-get-job", {}),
            (404, "admin-get-lock", {}),
            (404, "admin-console-file", {"pathParameters": {"file": "none.js"}}),
            (404, "intake-post-message", {"httpMethod": "PATCH"}),
            (404, "admin-list-locks", {"httpMethod": "OPTIONS"}),
            (404, "admin-list-locks", {"resource": None}),
            (413, "intake-post-message", {"body": " " * 3_000_000}),
        ],
    )
    def test_of_a_refusal(self, service: Service, status: int, name: str, changes: dict[str, Any]) -> None:
        answer = call(service, name, **changes)
        assert (answer.status, answer.headers.get("X-Correlation-ID")) == (status, "visit-17")
        (line,) = lines_of(service)
        assert (line["message"], line["status"], line["correlation_id"]) == ("refused", status, "visit-17")

    @pytest.mark.parametrize("name", ["intake-post-message", "admin-list-locks"])
    def test_of_a_caller_without_a_token_or_with_another_ones(self, service: Service, name: str) -> None:
        service.use(settings=Settings(auth_required=True))
        claims = {"token_use": "access", "client_id": "c", "sub": "c", "exp": f"{time.time() + 60:.0f}"}
        for status, context in ((401, {}), (403, {"authorizer": {"claims": claims}})):
            answer = call(service, name, requestContext={"requestId": "of-gateway"} | context)
            assert (answer.status, answer.headers.get("X-Correlation-ID")) == (status, "visit-17")
        assert [(line["status"], line["correlation_id"]) for line in lines_of(service)] == [
            (401, "visit-17"),
            (403, "visit-17"),
        ]

    @pytest.mark.parametrize(
        ("error", "status"),
        [(Rejected("361f1a3a-0dbe-8854-9d6e-3cf972894b32"), 409), (Contended(), 429), (Unavailable("the queue"), 503),
         (SettingsError("bad settings"), 500), (KeyError(CANARY), 500)],
    )  # fmt: skip
    def test_of_what_goes_wrong_in_the_service(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
    ) -> None:
        monkeypatch.setattr(type(service.parts.intake), "handle", failing(error))
        answer = call(service, "intake-post-message")
        assert (answer.status, answer.headers.get("X-Correlation-ID")) == (status, "visit-17")
        assert [line["correlation_id"] for line in lines_of(service)] == ["visit-17"]

    def test_of_a_health_check_that_fails(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        for name in ("admin-health", "admin-status"):
            answer = call(service, name)
            assert answer.headers.get("X-Correlation-ID") == "visit-17"

    @pytest.mark.parametrize("sent", BAD_IDS)
    def test_an_id_that_is_none_is_replaced_by_the_gateways(self, service: Service, sent: str) -> None:
        for name in ("intake-bad-history", "admin-list-locks"):
            event = load_event(name)
            answer = call(service, name, headers={"X-Correlation-ID": sent})
            assert answer.headers.get("X-Correlation-ID") == event["requestContext"]["requestId"]
        assert all(line["correlation_id"] != sent for line in lines_of(service))

    @pytest.mark.parametrize("name", CALLS)
    def test_without_any_the_gateways_is_used(self, service: Service, name: str) -> None:
        answer = service.http(name.partition("-")[0], service.event(name, headers=None))
        assert answer.headers.get("X-Correlation-ID") == load_event(name)["requestContext"]["requestId"]

    def test_is_published_for_every_answer(self) -> None:
        for path, operations in DOCUMENT["paths"].items():
            for method, known in operations.items():
                for status, answer in known["responses"].items():
                    header = resolved(answer)["headers"]["X-Correlation-ID"]
                    assert resolved(header)["required"], (method, path, status)


class TestEveryLineHasACorrelationId:
    def test_of_the_job_and_not_of_the_record_that_woke_it(self, service: Service) -> None:
        """Two requests wait in one job: it has the id of the first."""

        def fail(_prompt: Prompt, _watch: Watch) -> str:
            raise KeyError(CANARY)

        service.ai.script = fail
        for number in (1, 2):
            service.post(says("one", f"m-{number}"), headers={"X-Correlation-ID": f"visit-{number}"})
        service.queue.sent.reverse()
        service.deliver()
        broken = [line for line in lines_of(service) if line["message"] in ("an AI provider broke", "asking the AI")]
        assert {line["correlation_id"] for line in broken} == {"visit-1"}
        assert len(broken) == 2
        assert all(line["correlation_id"] for line in lines_of(service))

    def test_of_each_record_of_a_batch_its_own(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("a", "b", "c")
        for name in names:
            service.post(says(name), f"conv-{name}", headers={"X-Correlation-ID": f"visit-{name}"})
        for error in (KeyError(CANARY), Unavailable("Postgres")):
            monkeypatch.setattr(type(service.parts.worker.rescue), "push_if_due", failing(error))
            service.receive(1, 3, 3)  # two of them are worked on alone, in the handler's own thread
            failed = [line for line in lines_of(service) if line["message"] in ("unexpected error", "a record waits")]
            assert sorted(line["correlation_id"] for line in failed[-3:]) == [f"visit-{name}" for name in names]

    def test_in_the_thread_of_a_call_of_the_ai_too(self, service: Service) -> None:
        logger = service.functions["worker"].logger

        def produce(_connection: Connection) -> Producer[dict[str, Any]]:
            yield "Drink"
            return dict(logger.thread_safe_get_current_keys())

        logger.thread_safe_append_keys(correlation_id="visit-17")
        try:
            assert attend(produce, lambda _text: None, Limits(1, 1, 1)) == {"correlation_id": "visit-17"}
        finally:
            logger.thread_safe_clear_keys()

    def test_a_record_without_one_has_the_calls(self, service: Service) -> None:
        event = service.event("worker-one-record")
        (record,) = event["Records"]
        for body in (f"{CANARY}", record["body"].replace('"correlation_id"', '"other"')):
            service.invoke("worker", {"Records": [record | {"body": body}]})
        assert len(lines_of(service)) > 2
        assert [line for line in lines_of(service) if line["correlation_id"] != line["function_request_id"]] == []

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            ({"action": "sweep"}, Unavailable("every store")),
            ({"action": "migrate"}, KeyError(CANARY)),
            ({"action": "none"}, None),
            ({"action": "status", "source": "aws.events"}, Contended()),
        ],
    )
    def test_of_a_call_of_aws_itself_lambdas(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, event: dict[str, Any], error: Exception | None
    ) -> None:
        if error:
            actions = dict.fromkeys(service.functions["admin"].ACTIONS, failing(error))
            monkeypatch.setattr(service.functions["admin"], "ACTIONS", actions)
        with pytest.raises((MessageHandlerError, RuntimeError)):
            service.invoke("admin", event)
        (line,) = lines_of(service, above="WARNING")
        assert line["correlation_id"] == line["function_request_id"]

    def test_a_later_call_has_its_own(self, service: Service) -> None:
        call(service, "intake-bad-history")
        service.http("intake", service.event("intake-bad-history"))
        first, second = lines_of(service)
        assert (first["correlation_id"], second["correlation_id"]) == (
            "visit-17",
            load_event("intake-bad-history")["requestContext"]["requestId"],
        )

    def test_of_records_that_archive_and_deliver(self, service: Service) -> None:
        service.post(says("one"), headers={"X-Correlation-ID": "visit-17"})
        ((body, _),) = service.queue.sent
        record = decode(body)
        assert record.correlation_id == "visit-17"
        assert decode(encode(record)).correlation_id == "visit-17"


def test_a_jobs_lines_name_it_and_its_correlation_id(service: Service) -> None:
    job = Job("j", service.parts.settings, "x", (), "b", correlation_id="visit-17")  # type: ignore[arg-type]
    assert job.log_fields == {"ai_job_id": "j", "correlation_id": "visit-17"}
