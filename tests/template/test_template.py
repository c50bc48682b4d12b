"""The promises of template.yaml, checked in the template that CloudFormation gets from AWS' translator."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from message_handler.ports.line_store import LONGEST_WAIT
from message_handler.settings import Settings
from tests.template.conftest import FUNCTIONS

ROOT = Path(__file__).parents[2]
LOCK_TTL_SECONDS = 300
#: Deliveries to one platform at the same time (`delivery.MOST_AT_ONCE`).
MOST_DELIVERIES_AT_ONCE = 4
API_TIMEOUT_SECONDS = 29


def _of_type(stack: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: it["Properties"] for name, it in stack.items() if it["Type"] == kind}


def test_each_finding_that_is_skipped_is_skipped_beside_its_resource_for_a_reason(stack: dict[str, Any]) -> None:
    skipped = set()
    for name, resource in stack.items():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", ()):
            assert re.fullmatch(r"[A-Z].{30,}", skip["comment"]), name
            skipped.add((skip["id"], name))
    assert {finding for finding, _ in skipped} == {
        "CKV_AWS_23", "CKV_AWS_31", "CKV_AWS_73", "CKV_AWS_111", "CKV_AWS_120", "CKV_AWS_157", "CKV_AWS_173",
    }  # fmt: skip
    assert ("CKV_AWS_120", "ApiStage") in skipped  # SAM makes it from the API
    makefile = (ROOT / "Makefile").read_text()
    assert "--skip-check" not in makefile
    assert re.findall(r"--ignore-checks (\S+)", makefile) == ["W2001"]


def test_deadlines_nest(stack: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Invariant 9: the worker's timeout < the lock's TTL < the queues' own visibility, which is six timeouts."""
    functions = _of_type(stack, "AWS::Lambda::Function")
    worker = functions["WorkerFunction"]["Timeout"]
    assert worker == 120
    for queue in ("JobQueue", "DeliveryQueue"):
        visibility = stack[queue]["Properties"]["VisibilityTimeout"]
        assert worker < LOCK_TTL_SECONDS < visibility
        assert visibility == 6 * worker
    assert functions["IntakeFunction"]["Timeout"] <= API_TIMEOUT_SECONDS
    assert functions["StatusFunction"]["Timeout"] <= API_TIMEOUT_SECONDS < LONGEST_WAIT
    waiting = parameters["MaxWaitSeconds"]
    assert waiting["Default"] <= waiting["MaxValue"] < API_TIMEOUT_SECONDS


def test_a_record_that_fails_five_times_rests_in_the_dead_letters_for_14_days(stack: dict[str, Any]) -> None:
    queue, dead_letters = (stack[name]["Properties"] for name in ("JobQueue", "DeadLetterQueue"))
    for name in ("JobQueue", "DeliveryQueue"):
        assert stack[name]["Properties"]["RedrivePolicy"] == {
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
            "maxReceiveCount": 5,
        }
    fourteen_days = 14 * 24 * 3600
    assert queue["MessageRetentionPeriod"] == dead_letters["MessageRetentionPeriod"] == fourteen_days


def test_records_are_encrypted_and_unordered(stack: dict[str, Any]) -> None:
    for queue in _of_type(stack, "AWS::SQS::Queue").values():
        assert queue["KmsMasterKeyId"] == {"Ref": "Key"}
        assert "FifoQueue" not in queue


def test_one_failed_record_does_not_bring_back_its_batch(stack: dict[str, Any], parameters: dict[str, Any]) -> None:
    for mapping in _of_type(stack, "AWS::Lambda::EventSourceMapping").values():
        assert mapping["FunctionName"] == {"Ref": "WorkerFunctionAliaslive"}
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_deliveries_take_no_worker_away_from_answering(stack: dict[str, Any], parameters: dict[str, Any]) -> None:
    mappings = _of_type(stack, "AWS::Lambda::EventSourceMapping").values()
    limits = {
        it["EventSourceArn"]["Fn::GetAtt"][0]: it["ScalingConfig"]["MaximumConcurrency"]["Ref"] for it in mappings
    }
    assert limits == {"JobQueue": "WorkerMaximumConcurrency", "DeliveryQueue": "DeliveryMaximumConcurrency"}
    assert all(parameters[name]["MinValue"] == 2 for name in limits.values())


def test_a_slow_platform_holds_up_no_other_ones_records(stack: dict[str, Any], parameters: dict[str, Any]) -> None:
    mappings = _of_type(stack, "AWS::Lambda::EventSourceMapping").values()
    sizes = {it["EventSourceArn"]["Fn::GetAtt"][0]: it["BatchSize"] for it in mappings}
    assert sizes == {"JobQueue": 10, "DeliveryQueue": 1}
    assert parameters["DeliveryMaximumConcurrency"]["Default"] >= 5 * MOST_DELIVERIES_AT_ONCE


def test_each_route_calls_what_is_live(stack: dict[str, Any]) -> None:
    """Which function serves a route, tests/unit/test_routes.py compares."""
    (api,) = _of_type(stack, "AWS::ApiGateway::RestApi").values()
    operations = [operation for methods in api["Body"]["paths"].values() for operation in methods.values()]
    assert operations
    for operation in operations:
        uri = json.dumps(operation["x-amazon-apigateway-integration"]["uri"])
        assert re.search(r"\$\{(Intake|Status|Admin)FunctionAliaslive\}", uri), uri


def test_the_schedules_call_what_is_live(stack: dict[str, Any]) -> None:
    rules = _of_type(stack, "AWS::Events::Rule").values()
    found = {
        rule["ScheduleExpression"]: (it["Arn"], json.loads(it["Input"])) for rule in rules for it in rule["Targets"]
    }
    live = {"Ref": "AdminFunctionAliaslive"}
    assert found == {"rate(1 minute)": (live, {"action": "sweep"}), "rate(1 hour)": (live, {"action": "purge"})}


def test_every_function_logs_into_its_own_group_that_forgets(stack: dict[str, Any]) -> None:
    groups = _of_type(stack, "AWS::Logs::LogGroup")
    functions = _of_type(stack, "AWS::Lambda::Function")
    assert functions.keys() == FUNCTIONS
    used = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions.values()]
    assert sorted(used) == ["AdminLogGroup", "IntakeLogGroup", "StatusLogGroup", "WorkerLogGroup"]
    assert groups.keys() >= set(used)
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())


def test_every_function_has_the_layer_and_the_settings(stack: dict[str, Any]) -> None:
    for function in _of_type(stack, "AWS::Lambda::Function").values():
        (layer,) = function["Layers"]
        assert stack[layer["Ref"]]["Type"] == "AWS::Lambda::LayerVersion"
        assert function["Environment"]["Variables"].keys() >= {
            "REDIS_URL", "REDIS_CLUSTER", "DATABASE_URL", "JOB_QUEUE_URL", "DELIVERY_QUEUE_URL",
            "SIMULATED_AI_DELAY_MS", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL",
        }  # fmt: skip


def test_waiting_has_a_function_of_its_own_with_room_for_those_that_do_not_wait(
    stack: dict[str, Any], parameters: dict[str, Any]
) -> None:
    """Invariant 13: however many clients wait, messages are accepted and jobs can be read."""
    bounds = {"MAX_WAIT_SECONDS", "MAX_WAITS_PER_TENANT", "MAX_WAITS"}
    functions = _of_type(stack, "AWS::Lambda::Function")
    waiting = {name for name, it in functions.items() if bounds & it["Environment"]["Variables"].keys()}
    assert waiting == {"StatusFunction"}
    assert functions["StatusFunction"]["Environment"]["Variables"].keys() >= bounds
    most, in_all, reserved = (
        parameters[name]["Default"] for name in ("MaxWaitsPerTenant", "MaxWaits", "StatusReservedConcurrency")
    )
    assert most < in_all < reserved
    settings = Settings()
    assert (settings.max_waits_per_tenant, settings.max_waits) == (most, in_all)


def test_each_tenant_has_a_limit_wherever_platforms_call(stack: dict[str, Any], parameters: dict[str, Any]) -> None:
    functions = _of_type(stack, "AWS::Lambda::Function")
    limits = {name: it["Environment"]["Variables"].get("RATE_LIMIT_PER_MINUTE") for name, it in functions.items()}
    limit = {"Ref": "RateLimitPerMinute"}
    assert limits == {"IntakeFunction": limit, "StatusFunction": limit, "WorkerFunction": None, "AdminFunction": None}
    assert 0 < parameters["RateLimitPerMinute"]["Default"] < 60 * parameters["ApiRatePerSecond"]["Default"]


def test_the_prefix_of_secrets_is_never_empty(parameters: dict[str, Any]) -> None:
    allowed = parameters["SecretsPrefix"]["AllowedPattern"]
    assert re.fullmatch(allowed, parameters["SecretsPrefix"]["Default"])
    assert not re.fullmatch(allowed, "")
    assert not re.fullmatch(allowed, "*")


def test_the_worker_sends_to_the_hosts_that_configuration_may_name(stack: dict[str, Any]) -> None:
    functions = _of_type(stack, "AWS::Lambda::Function")
    allowed = {name: it["Environment"]["Variables"].get("EGRESS_ALLOWED_HOSTS") for name, it in functions.items()}
    hosts = {"Ref": "EgressAllowedHosts"}
    assert allowed == {
        "IntakeFunction": None,
        "StatusFunction": None,
        "AdminFunction": hosts,
        "WorkerFunction": hosts,
    }
    assert "EGRESS_ALLOW_LOOPBACK" not in json.dumps(stack)


def _gateway_responses(stack: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (api,) = _of_type(stack, "AWS::ApiGateway::RestApi").values()
    return dict(api["Body"]["x-amazon-apigateway-gateway-responses"])


def test_the_gateway_speaks_problem_json(stack: dict[str, Any]) -> None:
    for response in _gateway_responses(stack).values():
        assert list(response["responseTemplates"]) == ["application/problem+json"]
        problem = json.loads(response["responseTemplates"]["application/problem+json"])
        assert list(problem) == ["type", "title", "status", "detail"]
        assert problem["status"] == int(response["statusCode"])
        if problem["status"] != 413:  # Python 3.12 still calls it by its old name
            assert problem["title"] == HTTPStatus(problem["status"]).phrase


def test_the_gateway_never_echoes_the_request(stack: dict[str, Any]) -> None:
    assert "$context" not in json.dumps(_gateway_responses(stack))
    assert "$stageVariables" not in json.dumps(_gateway_responses(stack))


def test_each_answer_of_the_gateway_carries_the_correlation_id(stack: dict[str, Any]) -> None:
    for kind, response in _gateway_responses(stack).items():
        assert response["responseParameters"]["gatewayresponse.header.X-Correlation-ID"] == "context.requestId", kind
    assert '"requestId":"$context.requestId"' in _access_log(stack)


def test_no_browser_takes_an_answer_of_the_gateway_for_a_page(stack: dict[str, Any]) -> None:
    for kind, response in _gateway_responses(stack).items():
        assert response["responseParameters"]["gatewayresponse.header.X-Content-Type-Options"] == "'nosniff'", kind


def _access_log(stack: dict[str, Any]) -> str:
    (stage,) = _of_type(stack, "AWS::ApiGateway::Stage").values()
    return str(stage["AccessLogSetting"]["Format"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", 404),
        ("RESOURCE_NOT_FOUND", 404),
        ("BAD_REQUEST_BODY", 400),
        ("BAD_REQUEST_PARAMETERS", 400),
        ("REQUEST_TOO_LARGE", 413),
        ("UNSUPPORTED_MEDIA_TYPE", 415),
        ("THROTTLED", 429),
        ("INTEGRATION_FAILURE", 502),
        ("INTEGRATION_TIMEOUT", 504),
        ("DEFAULT_4XX", 400),
        ("DEFAULT_5XX", 500),
    ],
)
def test_the_gateways_status_is_the_contracts(stack: dict[str, Any], kind: str, status: int) -> None:
    assert int(_gateway_responses(stack)[kind]["statusCode"]) == status


def test_over_the_rate_a_caller_is_told_when_to_come_back(stack: dict[str, Any]) -> None:
    for response in _gateway_responses(stack).values():
        if int(response["statusCode"]) == 429:
            after = response["responseParameters"]["gatewayresponse.header.Retry-After"]
            assert int(after.strip("'")) >= 1
