"""The functions' logs and metrics, which never have a patient's words."""

import ast
import json
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import RESERVED_LOG_ATTRS

from message_handler.domain.errors import Unavailable
from tests.guards.guard import PACKAGE, REPOSITORY
from tests.unit.service import (
    CANARY,
    Service,
    load_function,
)


@pytest.mark.parametrize("text", [CANARY, f'{{"body": "{CANARY}"}}', "T\\u00f4i"])
def test_these_tests_find_what_should_not_be_there(service: Service, text: str) -> None:
    service.output.private.add("Tôi")
    with pytest.raises(AssertionError):
        service.output.assert_private(text)


def test_every_line_is_json_and_is_printed_once(service: Service) -> None:
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


def test_metrics_are_in_the_embedded_format(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    service.deliver()
    metrics = [line for line in service.output.lines if "_aws" in line]
    assert len(metrics) == 3
    for line in metrics:
        of_a_platform = ["platform"] if "PlatformMessages" in line else []
        assert isinstance(line["_aws"]["Timestamp"], int)
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "MessageHandler"
        assert [sorted(names) for names in directive["Dimensions"]] == [[*of_a_platform, "service"]]
        for metric in directive["Metrics"]:
            assert all(isinstance(value, int | float) for value in line[metric["Name"]])
    assert service.output.metrics["MessagesAccepted"] == [1]
    assert service.output.metrics["JobsCompleted"] == [1]
    assert service.output.metrics["TimeToReply"] >= [0]


def test_the_layers_own_logs_are_json_too(service: Service) -> None:
    service.queue.error = Unavailable("the queue")
    assert service.http("intake", service.event("intake-post-message")).status == 503
    (line,) = [line for line in service.output.logs if line["message"] == "not available"]
    assert line["level"] == "WARNING"
    assert line["what"] == "the queue"


@pytest.mark.parametrize("name", ["intake-get-conversation", "admin-list-locks"])
def test_an_unexpected_error_is_told_by_its_type_and_place_alone(service: Service, name: str) -> None:
    def fail(*_: Any) -> None:
        raise KeyError(f"{CANARY} is no key")

    service.parts.tiers.tiers[0].waiting = service.parts.tiers.tiers[0].locks = fail  # type: ignore[method-assign, assignment]
    answer = service.http(name.partition("-")[0], service.event(name))
    assert (answer.status, answer.body["title"]) == (500, "Internal Server Error")
    (line,) = [line for line in service.output.logs if line["level"] == "ERROR"]
    assert line["error"] == "KeyError"
    assert line["where"][-1].startswith("test_logs.py:")


def test_an_unexpected_error_of_a_direct_invocation_keeps_its_text_too(service: Service) -> None:
    def fail() -> None:
        raise KeyError(f"{CANARY} is no key")

    service.parts.archive.migrate = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match=r"^migrate failed: KeyError$") as raised:
        service.invoke("admin", service.event("admin-migrate"))
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("function", ["intake", "worker"])
def test_events_are_never_logged_whatever_the_environment_says(
    service: Service, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", function)
    service.functions[function] = load_function(function)
    monkeypatch.setattr(service.functions[function], "parts", lambda: service.parts)
    service.invoke(function, service.event("intake-post-message" if function == "intake" else "worker-batch"))
    assert service.output.logs
    # The `output` fixture searches the log for the events' texts.


#: What the logger itself writes in each line (Powertools' `Logger`), or refuses as a field.
OWN_FIELDS = {*RESERVED_LOG_ATTRS, "message", "service", "cold_start", "function_name", "function_memory_size"}
OWN_FIELDS |= {"function_arn", "function_request_id", "correlation_id", "exception", "exception_name", "stack_trace"}


def fields_of(call: ast.Call, names: dict[str, ast.expr]) -> set[str]:
    """The names of the fields that a call logs, as far as they stand in its module."""
    given = [word.value for word in call.keywords if word.arg == "extra"]
    used = [name.id for each in given for name in ast.walk(each) if isinstance(name, ast.Name)]
    given += [names[name] for name in used if name in names]
    keys = [key for each in given for found in ast.walk(each) if isinstance(found, ast.Dict) for key in found.keys]
    return {str(key.value) for key in keys if isinstance(key, ast.Constant)}


def test_no_field_takes_the_place_of_the_loggers_own() -> None:
    files = [*(REPOSITORY / PACKAGE).rglob("*.py"), *(REPOSITORY / "functions").rglob("*.py")]
    logged: dict[str, set[str]] = {}
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {
            target.id: node.value
            for node in nodes
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        logged[str(file)] = {key for node in nodes if isinstance(node, ast.Call) for key in fields_of(node, names)}
    assert {"ai_job_id", "danger", "reminder"} <= set().union(*logged.values())
    assert {name: fields & OWN_FIELDS for name, fields in logged.items() if fields & OWN_FIELDS} == {}
