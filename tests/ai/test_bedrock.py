"""One try with a model of Bedrock: botocore against a server that sends the same bytes as Bedrock."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from message_handler.ai import bedrock as bedrock_module
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion
from message_handler.ai.providers import Tools, provider_of
from message_handler.ai.watched import Limits
from message_handler.domain.conversations import Turn
from message_handler.domain.jobs import Usage
from message_handler.drivers.aws import session
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from message_handler.settings import Settings
from tests.ai.conftest import prompt
from tests.ai.server import Exchange, Script, Server
from tests.ai.test_answering import Stopped, no_thread_is_left
from tests.unit.service import CANARY

MODEL = "eu.anthropic.claude-3-5-sonnet-20240620-v1:0"
PROFILE = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0"
KIND = "application/vnd.amazon.eventstream"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[None]:
    """Let botocore use this machine's server as Bedrock."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", f"http://127.0.0.1:{server.server_port}")
    bedrock_module._client.cache_clear()
    yield
    bedrock_module._client.cache_clear()


def frame(payload: Any, **headers: str) -> bytes:
    """A message of AWS's event stream encoding."""
    named = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", 7, len(value)) + value
        for name, value in ((f":{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items())
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(named) + len(body), len(named))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + named + body
    return message + struct.pack("!I", zlib.crc32(message))


def event(kind: str, payload: Any) -> bytes:
    return frame(payload, message_type="event", event_type=kind, content_type="application/json")


def exception(kind: str) -> bytes:
    return frame({"message": CANARY}, message_type="exception", exception_type=kind, content_type="application/json")


def delta(text: str) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


USAGE = event(
    "metadata", {"usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}, "metrics": {"latencyMs": 9}}
)


def stop(reason: str) -> bytes:
    return event("messageStop", {"stopReason": reason})


def streams(*frames: bytes, size: int = 100_000, ends: bool = True, stalls: bool = False) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.start(kind=KIND)
        raw = b"".join(frames)
        for start in range(0, len(raw), size):
            exchange.send(raw[start : start + size])
        if stalls:
            exchange.stall()
        if ends:
            exchange.end()

    return script


def says(*texts: str, reason: str = "end_turn") -> tuple[bytes, ...]:
    begin = event("messageStart", {"role": "assistant"})
    return (begin, *map(delta, texts), event("contentBlockStop", {"contentBlockIndex": 0}), stop(reason), USAGE)


def refuses(status: int, code: str, **headers: str) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.start(status, "application/json", x_amzn_ErrorType=code, **headers)
        exchange.send(json.dumps({"message": CANARY}).encode())
        exchange.end()

    return script


def ask(
    model: str = MODEL, meta_data: dict[str, Any] | None = None, watch: Any = lambda _: None, **asked: Any
) -> Completion:
    core_ai = {"api_endpoint": f"bedrock://{model}", "meta_data": meta_data or {}}
    provider = provider_of(core_ai).build(core_ai, Tools(Settings(), Egress([]), Secrets()))
    return provider(prompt(**asked), watch, Limits.of(60, 60))


def failure(server: Server, script: Script, **asked: Any) -> ProviderFailure:
    server.scripts = [script]
    with pytest.raises(ProviderFailure) as failed:
        ask(**asked)
    assert CANARY not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("model", [MODEL, PROFILE])
def test_the_turns_are_sent_with_their_roles_and_the_configured_parameters(server: Server, model: str) -> None:
    server.scripts = [streams(*says("Hello"))]
    meta_data = {"max_tokens": 99, "temperature": 0, "top_p": 0.5, "system_prompt": "Be brief."}
    ask(model, meta_data, context=(Turn("assistant", "Welcome"),))
    (call,) = server.calls
    assert call.path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse-stream"
    assert call.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert call.headers["host"] == f"127.0.0.1:{server.server_port}"
    assert call.body == {
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "[The conversation began earlier.]"}]},
            {"role": "assistant", "content": [{"text": "Welcome"}]},
            {"role": "user", "content": [{"text": f"{CANARY} Hi"}]},
        ],
        "inferenceConfig": {"maxTokens": 99, "temperature": 0, "topP": 0.5},
    }


def test_the_region_may_be_named(server: Server) -> None:
    server.scripts = [streams(*says("Hello"))]
    ask(meta_data={"region": "eu-west-1"})
    ask()
    assert [call.headers["authorization"].split("/")[2] for call in server.calls] == ["eu-west-1", "eu-central-1"]


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_an_answer_in_any_pieces_is_the_same(server: Server, size: int) -> None:
    server.scripts = [streams(*says("Uống ", "nước 💧"), size=size)]
    assert ask() == Completion("Uống nước 💧", Usage(7, 5))


@pytest.mark.parametrize(
    "odd",
    [
        event("contentBlockDelta", {"delta": [1]}),
        event("contentBlockDelta", {"delta": {"text": 1}}),
        event("messageStop", {"stopReason": ["x"]}),
    ],
)
def test_what_is_no_event_of_its_shape_ends_the_try_and_its_connection(server: Server, odd: bytes) -> None:
    failed = failure(server, streams(delta("Half of"), odd, stalls=True))
    assert (failed.code, failed.again) == ("ai_protocol", True)
    assert server.calls[0].closed.wait(10)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("max_tokens", "ai_truncated"),
        ("model_context_window_exceeded", "ai_truncated"),
        ("content_filtered", "ai_refused"),
        ("guardrail_intervened", "ai_refused"),
        ("tool_use", "ai_protocol"),
        ("something_new", "ai_protocol"),
    ],
)
def test_an_answer_that_did_not_come_to_its_own_end_is_none(server: Server, reason: str, code: str) -> None:
    failed = failure(server, streams(*says("Half of", reason=reason)))
    assert (failed.code, failed.again) == (code, False)


@pytest.mark.parametrize(
    "script",
    [
        streams(delta("Half of"), ends=False),
        streams(delta("Half of")),
        streams(delta("Half of"), delta(" it")[:-9], ends=False),
    ],
)
def test_a_half_answer_is_none_and_another_try_may_give_one(server: Server, script: Script) -> None:
    failed = failure(server, script)
    assert (failed.code, failed.again) == ("ai_unreachable", True)


@pytest.mark.parametrize(
    "after",
    [
        streams(delta("All"), stop("end_turn"), ends=False),
        streams(delta("All"), stop("end_turn"), stalls=True),
        streams(delta("All"), stop("end_turn"), event("metadata", {"usage": [1]})),
        streams(delta("All"), stop("end_turn"), event("metadata", [CANARY])),
        streams(delta("All"), stop("end_turn"), b"x" * 40),
        streams(delta("All"), stop("end_turn"), exception("internalServerException")),
    ],
)
def test_a_reply_whose_stop_has_come_is_whole_whatever_becomes_of_the_metadata(server: Server, after: Script) -> None:
    server.scripts = [after]
    assert ask() == Completion("All", None)


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_malformed_output_may_be_tried_again(server: Server, reason: str) -> None:
    failed = failure(server, streams(*says("Half of", reason=reason)))
    assert (failed.code, failed.again, failed.name) == ("ai_protocol", True, reason)


def test_a_guardrail_is_named_and_its_intervention_is_a_refusal(server: Server) -> None:
    guardrail = {"id": "gr-1", "version": "3"}
    failed = failure(
        server, streams(*says("Sorry.", reason="guardrail_intervened")), meta_data={"guardrail": guardrail}
    )
    assert failed.code == "ai_refused"
    sent = server.calls[0].body["guardrailConfig"]
    assert sent == {"guardrailIdentifier": "gr-1", "guardrailVersion": "3"}


def test_a_model_without_system_messages_gets_its_instructions_in_the_first_turn(server: Server) -> None:
    server.scripts = [streams(*says("Hello"))]
    ask(meta_data={"system_role": "user", "system_prompt": "Be brief."})
    assert server.calls[0].body["messages"] == [
        {"role": "user", "content": [{"text": "Be brief."}]},
        {"role": "assistant", "content": [{"text": "[Noted.]"}]},
        {"role": "user", "content": [{"text": f"{CANARY} Hi"}]},
    ]
    assert "system" not in server.calls[0].body


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc"])
def test_the_region_is_that_of_the_models_arn(server: Server, partition: str) -> None:
    region = {"aws": "ap-southeast-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}.get(
        partition, "eusc-de-east-1"
    )
    server.scripts = [streams(*says("Hello"))]
    ask(f"arn:{partition}:bedrock:{region}:123456789012:application-inference-profile/abc")
    assert server.calls[0].headers["authorization"].split("/")[2] == region


@pytest.mark.parametrize(("status", "name"), [(403, "AccessDeniedException"), (404, "ResourceNotFoundException")])
def test_a_model_that_may_not_be_used_says_where_to_look(server: Server, status: int, name: str) -> None:
    failed = failure(server, refuses(status, name))
    assert "the worker's role, and the model's access in this account and region" in str(failed)
    assert failed.name == name


@pytest.mark.parametrize("name", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"])
def test_credentials_that_have_expired_are_looked_for_again(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts = [refuses(403, name), streams(*says("Hello"))]
    with pytest.raises(ProviderFailure) as failed:
        ask()
    assert (failed.value.code, failed.value.name) == ("ai_credentials_missing", name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
    assert ask().text == "Hello"
    assert "Credential=AKIANEW/" in server.calls[1].headers["authorization"]


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_botocores_own_retries_are_off_in_every_mode(
    server: Server, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    bedrock_module._client.cache_clear()
    session.cache_clear()
    assert failure(server, refuses(429, "ThrottlingException")).again
    assert len(server.calls) == 1


def test_what_was_damaged_on_its_way_is_no_answer(server: Server) -> None:
    damaged = bytearray(delta("Take one"))
    damaged[-7] ^= 1
    failed = failure(server, streams(bytes(damaged), *says("Hello")))
    assert (failed.code, failed.again) == ("ai_protocol", True)


def test_an_empty_or_endless_answer_is_none(server: Server) -> None:
    assert failure(server, streams(*says(" "))).code == "ai_empty"
    failed = failure(
        server, streams(delta("x" * 99), delta("x" * 99), stalls=True), meta_data={"max_reply_characters": 150}
    )
    assert (failed.code, failed.again) == ("ai_too_long", False)
    assert server.calls[-1].closed.wait(10)


@pytest.mark.parametrize(
    ("status", "name", "code", "again"),
    [
        (429, "ThrottlingException", "ai_rate_limited", True),
        (429, "ModelNotReadyException", "ai_rate_limited", True),
        (408, "ModelTimeoutException", "ai_unavailable", True),
        (424, "ModelErrorException", "ai_unavailable", True),
        (500, "InternalServerException", "ai_unavailable", True),
        (503, "ServiceUnavailableException", "ai_unavailable", True),
        (400, "ValidationException", "ai_refused_request", False),
        (404, "ResourceNotFoundException", "ai_refused_request", False),
        (403, "AccessDeniedException", "ai_unauthorized", False),
    ],
)
def test_an_error_tells_whether_another_try_is_worth_it(
    server: Server, status: int, name: str, code: str, again: bool
) -> None:
    failed = failure(server, refuses(status, name, Retry_After="3"))
    assert (failed.code, failed.again, failed.status) == (code, again, status)
    assert failed.retry_after == (3 if again else None)
    assert len(server.calls) == 1  # botocore's own retries are off


@pytest.mark.parametrize(
    ("kind", "code", "again"),
    [
        ("throttlingException", "ai_rate_limited", True),
        ("modelStreamErrorException", "ai_unavailable", True),
        ("internalServerException", "ai_unavailable", True),
        ("serviceUnavailableException", "ai_unavailable", True),
        ("validationException", "ai_refused_request", False),
    ],
)
def test_an_error_in_the_stream_ends_the_try_and_its_connection(
    server: Server, kind: str, code: str, again: bool
) -> None:
    failed = failure(server, streams(delta("Half of"), exception(kind), stalls=True))
    assert (failed.code, failed.again) == (code, again)
    assert server.calls[0].closed.wait(10)


@pytest.mark.parametrize("midway", [False, True])
def test_what_the_watch_raises_ends_the_call_and_its_connection(server: Server, midway: bool) -> None:
    server.scripts = [streams(delta("Half of"), stalls=True) if midway else Exchange.stall]

    def watch(text: str) -> None:
        if server.calls and (text or not midway):
            raise Stopped

    with pytest.raises(Stopped):
        ask(watch=watch)
    assert server.calls[0].closed.wait(10)
    assert no_thread_is_left()


def test_a_request_that_can_not_be_made_is_refused_without_its_words(server: Server) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(meta_data={"temperature": CANARY})
    assert failed.value.code == "ai_refused_request"
    with pytest.raises(ProviderFailure) as failed:
        ask(meta_data={"region": "x.evil.org/"})
    assert failed.value.code == "ai_refused_request"
    assert server.calls == []


def test_without_credentials_nothing_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    session.cache_clear()  # it keeps credentials
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ProviderFailure) as failed:
        ask()
    assert failed.value.code == "ai_credentials_missing"
    assert server.calls == []


def test_a_provider_that_does_not_answer_is_worth_another_try(server: Server) -> None:
    server.stop()
    failed = failure(server, Exchange.stall)
    assert (failed.code, failed.again) == ("ai_unreachable", True)
