"""One try with a provider of chat completions: what is sent to it, and which of its responses are answers."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from message_handler.ai import http_provider
from message_handler.ai.chat_completions import ChatCompletions
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion
from message_handler.ai.watched import Connection, Known, Limits, Producer, attend
from message_handler.domain.conversations import Turn
from message_handler.domain.jobs import Usage
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from tests.ai.conftest import TOKEN, prompt
from tests.ai.server import Exchange, Script, Server, fails, says
from tests.unit.service import CANARY, Output
from tests.unit.test_secrets import Clock

LIMITS = Limits.of(10, 10)
EGRESS = Egress([], allow_loopback=True)


def record(url: str, **fields: Any) -> dict[str, Any]:
    meta_data = fields.pop("meta_data", {"model": "m-1"})
    return {
        "core_ai_id": "trial",
        "api_endpoint": url,
        "auth_required": False,
        "auth_token": None,
        "timeout_seconds": 10,
        "meta_data": meta_data,
        **fields,
    }


def provider(core_ai: dict[str, Any], secrets: Secrets, egress: Egress = EGRESS) -> ChatCompletions:
    return ChatCompletions(core_ai, core_ai["api_endpoint"], egress, secrets)


def ask(core_ai: dict[str, Any], egress: Egress = EGRESS, **asked: Any) -> Completion:
    return provider(core_ai, Secrets(literals=True), egress).ask(prompt(**asked), lambda _: None, LIMITS)


def outcome(server: Server, script: Script, limits: Limits = LIMITS, **meta_data: Any) -> str:
    """The reply, or the code of the failure."""
    server.scripts = [script]
    core_ai = record(server.url, meta_data={"model": "m-1", **meta_data})
    try:
        return provider(core_ai, Secrets()).ask(prompt(), lambda _: None, limits).text
    except ProviderFailure as failed:
        return failed.code


def failure(server: Server, script: Script, **fields: Any) -> ProviderFailure:
    server.scripts = [script]
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url, **fields))
    assert CANARY not in str(failed.value)
    return failed.value


def kept(token: str, server: Server) -> str:
    """The text of a token's secret."""
    return json.dumps({"token": token, "host": at(server)})


def at(server: Server) -> str:
    return f"127.0.0.1:{server.server_port}"


# What it is sent.


def test_the_turns_are_sent_with_their_roles_and_the_configured_parameters(server: Server) -> None:
    meta_data = {"model": "m-1", "temperature": 0, "max_tokens": 99, "system_prompt": "Be brief.", "other": 1}
    context = (Turn("user", "a"), Turn("sale", "b"))
    assert ask(record(server.url, meta_data=meta_data), context=context).text == "Good day."
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert {name: value for name, value in call.body.items() if name != "messages"} == {
        "model": "m-1",
        "temperature": 0,
        "max_tokens": 99,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    system, *turns = call.body["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.")
    assert turns == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "[Human colleague] b"},
        {"role": "user", "content": f"{CANARY} Hi"},
    ]


def test_a_request_can_be_told_from_another_and_followed(server: Server) -> None:
    ask(record(server.url))
    headers = server.calls[0].headers
    assert headers["idempotency-key"] == "job:1"
    assert headers["x-correlation-id"] == "corr-1"
    assert headers["host"] == at(server)
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("meta_data", "name", "value"),
    [
        ({}, "authorization", f"Bearer {TOKEN}"),
        ({"auth_header": "authorization"}, "authorization", f"Bearer {TOKEN}"),
        ({"auth_header": "api-key"}, "api-key", TOKEN),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_a_token_goes_where_the_provider_wants_it(
    server: Server, meta_data: dict[str, Any], name: str, value: str, required: bool
) -> None:
    core_ai = record(server.url, meta_data=meta_data, auth_token=f"{TOKEN}\n", auth_host=at(server))
    ask(core_ai | {"auth_required": required})
    headers = server.calls[0].headers
    assert headers[name] == value
    assert {"authorization", "api-key"} & headers.keys() == {name}


def test_a_query_such_as_azures_is_kept(server: Server) -> None:
    ask(record(server.url + "?api-version=2024-10-21"))
    assert server.calls[0].path == "/v1/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    "host", [None, "", "127.0.0.1", "127.0.0.1:1", "api.example.com", "user@127.0.0.1", "localhost"]
)
def test_a_token_is_sent_to_no_other_host_than_it_was_stored_for(server: Server, host: str | None) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url, auth_token=TOKEN, auth_host=host))
    assert (failed.value.code, failed.value.again) == ("ai_credentials_missing", False)
    assert server.calls == []


def test_without_the_token_that_it_needs_nothing_is_sent(server: Server) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url, auth_required=True))
    assert (failed.value.code, failed.value.again) == ("ai_credentials_missing", False)
    assert server.calls == []


def test_a_token_that_is_written_out_is_not_sent_where_none_may_be(server: Server) -> None:
    core_ai = record(server.url, auth_token=TOKEN, auth_host=at(server))
    with pytest.raises(ProviderFailure) as failed:
        provider(core_ai, Secrets()).ask(prompt(), lambda _: None, LIMITS)
    assert (failed.value.code, failed.value.again) == ("ai_credentials_missing", False)
    assert server.calls == []


def test_a_token_of_another_tenant_is_not_sent(server: Server, vault: Any) -> None:
    arn = vault.create_secret(Name="message-handler/clinic/ai", SecretString=kept(TOKEN, server))["ARN"]
    core_ai = record(server.url, auth_token=arn, auth_host=at(server))
    with pytest.raises(ProviderFailure) as failed:
        ask(core_ai, platform_id="other")
    assert failed.value.code == "ai_credentials_missing"
    assert server.calls == []
    assert ask(core_ai, platform_id="clinic").text == "Good day."


def test_a_token_whose_secret_is_named_again_goes_to_no_other_host(server: Server, other: Server, vault: Any) -> None:
    """An operator who may not read the secret names it in a record with an address of his own."""
    arn = vault.create_secret(Name="message-handler/default/ai", SecretString=kept(TOKEN, server))["ARN"]
    with pytest.raises(ProviderFailure) as failed:
        ask(record(other.url, auth_token=arn, auth_host=at(other)))
    assert (failed.value.code, failed.value.again) == ("ai_credentials_missing", False)
    assert other.calls == []
    assert ask(record(server.url, auth_token=arn, auth_host=at(server))).text == "Good day."


class TestRotation:
    """A token was rotated, and this process still has the old one."""

    ROTATED = "r0t4t3d-t0k3n"

    @pytest.fixture
    def arn(self, vault: Any, output: Output, server: Server) -> str:
        output.private |= {self.ROTATED}
        secret = vault.create_secret(Name="message-handler/default/ai", SecretString=kept(TOKEN, server))
        return str(secret["ARN"])

    def ask(self, server: Server, arn: str, secrets: Secrets) -> Completion:
        core_ai = record(server.url, auth_token=arn, auth_host=at(server))
        return provider(core_ai, secrets).ask(prompt(), lambda _: None, LIMITS)

    def tokens(self, server: Server) -> list[str]:
        return [call.headers["authorization"].removeprefix("Bearer ") for call in server.calls]

    def test_the_patient_notices_nothing(self, server: Server, vault: Any, arn: str) -> None:
        clock = Clock()
        secrets = Secrets(clock=clock)
        assert self.ask(server, arn, secrets).text == "Good day."
        vault.put_secret_value(SecretId=arn, SecretString=kept(self.ROTATED, server))
        clock.now += 2
        server.scripts = [fails(401), says("Still here.")]
        try:
            said = self.ask(server, arn, secrets).text
        except ProviderFailure as failed:
            said = failed.code
        assert said == "Still here."
        assert self.tokens(server) == [TOKEN, TOKEN, self.ROTATED]
        assert self.ask(server, arn, secrets).text == "Still here."
        assert self.tokens(server)[3:] == [self.ROTATED]

    @pytest.mark.parametrize("rotated", [True, False])
    def test_a_token_that_is_refused_again_fails_the_try(
        self, server: Server, vault: Any, arn: str, rotated: bool
    ) -> None:
        clock = Clock()
        secrets = Secrets(clock=clock)
        secrets.reveal(arn, "default")
        if rotated:
            vault.put_secret_value(SecretId=arn, SecretString=kept(self.ROTATED, server))
        clock.now += 2
        server.scripts = [fails(401)]
        with pytest.raises(ProviderFailure) as failed:
            self.ask(server, arn, secrets)
        assert (failed.value.code, failed.value.again) == ("ai_unauthorized", False)
        assert self.tokens(server) == ([TOKEN, self.ROTATED] if rotated else [TOKEN])

    def test_a_vault_may_take_its_time(
        self, server: Server, vault: Any, arn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Longer than the rest of a refusal is waited for; and that of a 401 may never end."""
        secrets = Secrets()
        secrets.reveal(arn, "default")

        def slowly(*_: Any, **__: Any) -> str:
            time.sleep(1)
            return self.ROTATED

        monkeypatch.setattr(Secrets, "renewed", slowly)

        def refuses(exchange: Exchange) -> None:
            exchange.start(401, "application/json")
            exchange.stall()

        server.scripts = [refuses, says("Still here.")]
        try:
            said = self.ask(server, arn, secrets).text
        except ProviderFailure as failed:
            said = failed.code
        assert said == "Still here."

    def test_both_share_the_time_of_one_try(self, server: Server, vault: Any, arn: str) -> None:
        clock = Clock()
        secrets = Secrets(clock=clock)
        secrets.reveal(arn, "default")
        vault.put_secret_value(SecretId=arn, SecretString=kept(self.ROTATED, server))
        clock.now += 2
        server.scripts = [fails(401), Exchange.stall]
        core_ai = record(server.url, auth_token=arn, auth_host=at(server))
        with pytest.raises(ProviderFailure) as failed:
            provider(core_ai, secrets).ask(prompt(), lambda _: None, Limits(0.5, 0.5, 1.0))
        assert failed.value.code == "ai_timeout"
        assert server.calls[1].closed.wait(5)


def test_where_the_secret_can_not_be_read_nothing_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:message-handler/default/x-AbCdEf"
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url, auth_token=arn, auth_host=at(server)))
    assert failed.value.code == "ai_credentials_missing"
    assert server.calls == []


def test_an_address_that_is_not_allowed_is_not_asked(server: Server) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url), Egress(["api.example.com"]))
    assert (failed.value.code, failed.value.again) == ("ai_address_refused", False)
    assert server.calls == []


def test_a_provider_that_does_not_answer_is_worth_another_try(server: Server) -> None:
    url = server.url
    server.stop()
    with pytest.raises(ProviderFailure) as failed:
        ask(record(url))
    assert (failed.value.code, failed.value.again) == ("ai_unreachable", True)


# What is an answer.


def test_what_it_costs_is_told_if_the_provider_tells(server: Server) -> None:
    assert ask(record(server.url)).usage == Usage(7, 5)
    server.scripts = [says("Hello", usage=None)]
    assert ask(record(server.url)).usage is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_an_answer_in_any_pieces_is_the_same(server: Server, size: int) -> None:
    def pieces(exchange: Exchange) -> None:
        exchange.start()
        stream = ': ping\r\n\r\ndata: {"choices": [{"delta": {"content": "Uống nước 💧"}}]}\n\n'
        stream += (
            'data: {"choices": [],\ndata: "x": 1}\r\rdata: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
        )
        raw = stream.encode() + b"data: [DONE]\n\n"
        for start in range(0, len(raw), size):
            exchange.send(raw[start : start + size])
        exchange.end()

    server.scripts = [pieces]
    assert ask(record(server.url)).text == "Uống nước 💧"


def test_the_proper_end_of_the_body_will_do_in_place_of_done(server: Server) -> None:
    def no_mark(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Hello", "stop")
        exchange.end()

    server.scripts = [no_mark]
    assert ask(record(server.url)).text == "Hello"


def _cut_before_stop(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("Half of")


def _cut_after_stop(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("All", "stop")


def _undelimited_after_stop(exchange: Exchange) -> None:
    exchange.start(chunked=False)
    exchange.text("All", "stop")


def _ended_without_stop(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("Half of")
    exchange.end()


def _done_without_stop(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("All")
    exchange.event("[DONE]")
    exchange.end()


def _silent_after_stop(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("All", "stop")
    exchange.stall()


@pytest.mark.parametrize(
    ("given", "completed"), [(10**30, 5), (7, 2**31), (-1, 5), (True, 5), ("7", 5), (None, 5), (7.0, 5), ([], {})]
)
def test_a_good_reply_is_not_lost_over_a_price_that_is_none(server: Server, given: Any, completed: Any) -> None:
    def priced(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Rest.", "stop")
        exchange.event({"choices": [], "usage": {"prompt_tokens": given, "completion_tokens": completed}})
        exchange.event("[DONE]")
        exchange.end()

    server.scripts = [priced]
    assert ask(record(server.url)) == Completion("Rest.", None)


def test_a_character_that_comes_in_two_halves_is_one_and_a_half_alone_is_none(server: Server) -> None:
    def halves(exchange: Exchange) -> None:
        exchange.start()
        for piece in ('"Well \\ud83d"', '"\\ude42, \\udc00 \\u0000"', '"\\ud83d"'):
            exchange.event('{"choices": [{"delta": {"content": ' + piece + "}}]}")
        exchange.text("", "stop")
        exchange.event("[DONE]")
        exchange.end()

    seen: list[str] = []
    server.scripts = [halves]
    said = provider(record(server.url), Secrets()).ask(prompt(), seen.append, LIMITS)
    assert said.text == "Well \U0001f642, \ufffd "
    for text in (*seen, said.text):
        assert "\0" not in text
        text.encode()


@pytest.mark.parametrize("token", ["tok\u00e9n", "to\rken", "to\x00ken", " \n"])
def test_a_token_that_no_header_holds_is_missing(server: Server, token: str) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(record(server.url, auth_token=token, auth_required=True, auth_host=at(server)))
    assert failed.value.code == "ai_credentials_missing"
    assert server.calls == []


@pytest.mark.parametrize("script", [_cut_after_stop, _undelimited_after_stop, _done_without_stop, _silent_after_stop])
def test_an_answer_is_whole_once_its_end_was_said(server: Server, script: Script) -> None:
    assert outcome(server, script, Limits.of(600, 600)) == "All"
    if script is _silent_after_stop:  # the client ends the connection, long before the server gives up
        assert server.calls[0].closed.wait(10)


@pytest.mark.parametrize("script", [_cut_before_stop, _ended_without_stop])
def test_a_half_answer_is_none_and_another_try_may_give_one(server: Server, script: Script) -> None:
    failed = failure(server, script)
    assert (failed.code, failed.again) == ("ai_unreachable", True)


def sends(*events: Any) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Half of")
        for event in events:
            exchange.event(event)
        exchange.stall()

    return script


@pytest.mark.parametrize(
    "event",
    ["{", "<html>", "[" * 100_000, '{"choices": [{"delta": {"content": 1}}]}'],
)
def test_what_is_no_chunk_ends_the_try_and_its_connection(server: Server, event: str) -> None:
    failed = failure(server, sends(event))
    assert (failed.code, failed.again) == ("ai_protocol", True)
    assert server.calls[0].closed.wait(10)


def test_what_is_no_utf_8_ends_the_try(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.send(b"data: \xff\n\n")
        exchange.stall()

    failed = failure(server, script)
    assert (failed.code, failed.again) == ("ai_protocol", True)


def test_an_error_in_the_stream_is_worth_another_try(server: Server) -> None:
    failed = failure(server, sends({"error": {"message": CANARY, "code": 500}}))
    assert (failed.code, failed.again) == ("ai_unavailable", True)
    assert server.calls[0].closed.wait(10)


@pytest.mark.parametrize(
    ("finish", "code"),
    [
        ("length", "ai_truncated"),
        ("content_filter", "ai_refused"),
        ("MAX_TOKENS", "ai_truncated"),
        ("sensitive", "ai_refused"),
        ("SAFETY", "ai_refused"),
    ],
)
def test_an_answer_that_did_not_come_to_its_own_end_is_none(server: Server, finish: str, code: str) -> None:
    failed = failure(server, says("Half of", finish=finish))
    assert (failed.code, failed.again) == (code, False)


def test_a_refusal_is_no_answer(server: Server) -> None:
    failed = failure(server, sends({"choices": [{"delta": {"refusal": CANARY}}]}))
    assert (failed.code, failed.again) == ("ai_refused", False)


def test_of_several_answers_the_first_counts(server: Server) -> None:
    def two(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Yes")
        exchange.event({"choices": [{"index": 1, "delta": {"content": "No"}, "finish_reason": "length"}]})
        exchange.text("", "stop")
        exchange.event({"choices": [{"index": 1, "delta": {"content": "No"}, "finish_reason": "length"}]})
        exchange.end()

    server.scripts = [two]
    assert ask(record(server.url)).text == "Yes"


@pytest.mark.parametrize("texts", [(), ("",), (" ", "\n")])
def test_an_empty_answer_is_none(server: Server, texts: tuple[str, ...]) -> None:
    failed = failure(server, says(*texts))
    assert (failed.code, failed.again) == ("ai_empty", True)


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/event-streams", ""])
def test_the_bytes_say_what_an_answer_is_and_its_media_type_does_not(server: Server, kind: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(kind=kind)
        exchange.text("Hello", "stop")
        exchange.end()

    assert outcome(server, script) == "Hello"


@pytest.mark.parametrize("page", [b"<html>Welcome to the gateway</html>", b"OK", b'{"models": []}', b"{}"])
def test_what_is_neither_a_stream_nor_a_completion_is_no_answer(server: Server, page: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.send(page)
        exchange.end()

    failed = failure(server, script)
    assert (failed.code, failed.again) == ("ai_protocol", False)


@pytest.mark.parametrize("whole", [True, False])
def test_one_object_in_place_of_a_stream_is_the_reply_that_it_holds(server: Server, whole: bool) -> None:
    answer = {"choices": [{"message": {"content": "Rest."}}], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
    document = json.dumps(answer, indent=2).encode()

    def script(exchange: Exchange) -> None:
        exchange.start(kind="application/json", chunked=False)
        exchange.send(document if whole else document[:-9])

    server.scripts = [script]
    if whole:
        assert ask(record(server.url)) == Completion("Rest.", Usage(7, 5))
    else:
        failed = failure(server, script)
        assert (failed.code, failed.again) == ("ai_unreachable", True)


@pytest.mark.parametrize("coding", ["none", "", "identity", "Identity", "gzip", "deflate", "GZIP"])
def test_an_answer_in_a_content_coding_is_read(server: Server, coding: str) -> None:
    stream = b'data: {"choices": [{"delta": {"content": "Rest."}, "finish_reason": "stop"}]}\n\n'
    coded = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding.lower(), bytes)(stream)

    def script(exchange: Exchange) -> None:
        exchange.start(Content_Encoding=coding)
        for byte in coded:
            exchange.send(bytes([byte]))
        exchange.end()

    assert outcome(server, script) == "Rest."


def test_a_small_body_that_unpacks_without_end_is_given_up(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(Content_Encoding="gzip")
        exchange.send(gzip.compress(b":" + b" " * 20_000_000))
        exchange.end()

    assert failure(server, script).code == "ai_too_long"


def test_interim_answers_are_not_the_answer(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.interim(
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 2 + b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        says("Rest.")(exchange)

    assert outcome(server, script) == "Rest."


def test_interim_answers_without_end_are_no_answer(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        while True:
            exchange.interim(b"HTTP/1.1 102 Processing\r\n\r\n")

    assert failure(server, script).code == "ai_unreachable"


def test_frames_that_say_nothing_are_passed_over(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        for frame in ("data:", "data: null", "event: ping\ndata: still here", "event: ping", "retry: 3", "id: 7"):
            exchange.send(f"{frame}\n\n".encode())
        exchange.text("Rest.", "stop")
        exchange.end()

    assert outcome(server, script) == "Rest."


@pytest.mark.parametrize("finish", ["eos", "end", "STOP", " stop", "end_turn", "stop_sequence", "end-turn"])
def test_other_words_for_the_end_are_an_end(server: Server, finish: str) -> None:
    assert outcome(server, says("Rest.", finish=finish)) == "Rest."


def test_an_unknown_word_for_the_end_counts_as_stop_and_is_logged_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for finish in ("sated", "sated", f"sated {CANARY}"):
        server.scripts = [says("Rest.", finish=finish)]
        assert ask(record(server.url)).text == "Rest."
    logged = [vars(line)["finish_reason"] for line in caplog.records if "unknown reason" in line.message]
    assert logged == ["sated", "(not a word)"]


def test_an_unknown_word_and_then_a_cut_is_no_end(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Half of", "pausing")

    failed = failure(server, script)
    assert (failed.code, failed.again) == ("ai_unreachable", True)


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
def test_an_error_as_the_reason_may_be_tried_again(server: Server, finish: str) -> None:
    failed = failure(server, says("Half of", finish=finish))
    assert (failed.code, failed.again) == ("ai_unavailable", True)


@pytest.mark.parametrize(
    ("error", "code", "again"),
    [
        ({"message": "Too many tokens, please wait before trying again.", "code": "429"}, "ai_rate_limited", True),
        ({"message": "Too many tokens", "code": 429}, "ai_rate_limited", True),
        ({"message": "The model limit of requests per minute was reached"}, "ai_unavailable", True),
        ({"message": "maximum context length", "code": 502}, "ai_unavailable", True),
        ({"message": "maximum context length is 8192"}, "ai_context_too_long", False),
        ("overloaded", "ai_unavailable", True),
    ],
)
def test_an_error_in_the_stream_says_whether_another_try_may_help(
    server: Server, error: Any, code: str, again: bool
) -> None:
    failed = failure(server, sends({"error": error}))
    assert (failed.code, failed.again) == (code, again)


@pytest.mark.parametrize("outcome", ["All", ProviderFailure("ai_refused")])
def test_no_newer_message_is_worth_a_reply_that_is_whole(outcome: Any) -> None:
    """A watch that wants the call to end is not asked any more once the reply is known. A refusal is no reply."""

    def produce(_connection: Connection) -> Producer[str]:
        yield Known(outcome)
        time.sleep(0.4)
        return "All, and what it cost"

    looks: list[str] = []

    def watch(text: str) -> None:
        looks.append(text)
        if len(looks) > 2:
            raise Stopped

    if outcome == "All":
        assert attend(produce, watch, Limits.of(5, 5)) == "All, and what it cost"
    else:
        with pytest.raises(Stopped):
            attend(produce, watch, Limits.of(5, 5))


class Stopped(BaseException):
    """What a watch raises."""


def test_an_error_after_the_end_was_said_is_an_error(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Half of", "stop")
        exchange.event({"error": {"message": "overloaded"}})
        exchange.stall()

    assert failure(server, script).code == "ai_unavailable"


def test_text_parts_are_the_reply_and_thinking_parts_are_not(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        parts = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Fever?"}]},
            {"type": "text", "text": "Rest"},
        ]
        exchange.event({"choices": [{"delta": {"content": parts}}]})
        exchange.event({"choices": [{"delta": {"content": [{"text": "."}, "!", 7]}, "finish_reason": "stop"}]})
        exchange.end()

    assert outcome(server, script) == "Rest.!"


@pytest.mark.parametrize(
    "pieces",
    [
        ("<think>She is afraid.</think>\n\nRest.",),
        ("<th", "ink>She is afraid.</thi", "nk>", "Rest."),
        ("She is ", "afraid.\n</think>\nRest."),
        ("She is afraid.\n</think>\nRest.",),
        ("<THINK>She</THINK>Re<think>is afraid</think>st.",),
        ("<think>a<think>b</think>c</think>Rest.",),
    ],
)
def test_reasoning_never_reaches_a_patient(server: Server, pieces: tuple[str, ...]) -> None:
    assert outcome(server, says(*pieces)) == "Rest."


def test_a_text_that_breaks_off_in_reasoning_is_no_reply_and_another_try_may_give_one(server: Server) -> None:
    failed = failure(server, says("Write ", "<think>", " first, then rest"))
    assert (failed.code, failed.again) == ("ai_protocol", True)
    assert failure(server, says("<think>She is afraid.")).code == "ai_empty"


@pytest.mark.parametrize(
    ("tags", "said", "reply"),
    [
        (
            ["reason", "scratch-pad"],
            "<reason>a</reason><scratch-pad>b</scratch-pad><think>x</think>",
            "<think>x</think>",
        ),
        ([], "<think>x</think>", "<think>x</think>"),
        (["think"], "2 <think of a number", "2 <think of a number"),
        (["think"], "It ends with <thi", "It ends with <thi"),
    ],
)
def test_a_core_names_its_reasoning_tags_or_none(server: Server, tags: list[str], said: str, reply: str) -> None:
    server.scripts = [says(*said)]
    assert ask(record(server.url, meta_data={"model": "m-1", "reasoning_tags": tags})).text == reply


def test_where_reasoning_starts_open_nothing_is_shown_before_its_closing_tag(server: Server) -> None:
    server.scripts = [says("She is ", "afraid.", "</think>", "Re", "st.")]
    shown: list[str] = []
    core_ai = record(server.url, meta_data={"model": "m-1", "reasoning_starts_open": True})
    said = provider(core_ai, Secrets()).ask(prompt(), shown.append, LIMITS)
    assert said.text == "Rest."
    assert all("Rest.".startswith(text) for text in shown)


def test_a_choice_at_another_index_is_read(server: Server) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start()
        exchange.event({"choices": [{"index": 3, "delta": {"content": "Rest."}, "finish_reason": "stop"}]})
        exchange.end()

    assert outcome(server, script) == "Rest."


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"code": "content_filter", "message": "The prompt was filtered"}, "ai_refused"),
        (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}, "ai_refused"),
        (400, {"code": 400, "message": "triggering Azure OpenAI's content management policy"}, "ai_refused"),
        (400, {"code": "context_length_exceeded"}, "ai_context_too_long"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "ai_context_too_long"),
        (422, {"type": "exceed_context_size_error"}, "ai_context_too_long"),
        (
            400,
            {"message": "Prompt contains 40000 tokens, too large for the maximum context length"},
            "ai_context_too_long",
        ),
        (400, {"message": "The input token count exceeds the maximum number of tokens allowed"}, "ai_context_too_long"),
        (422, {"detail": [{"loc": ["body"], "msg": "inputs + max_new_tokens must be <= 4096"}]}, "ai_context_too_long"),
        (400, {"message": "max_tokens is too large: this model supports 4096 completion tokens"}, "ai_refused_request"),
        (413, "Payload too large", "ai_context_too_long"),
        (402, "Payment required", "ai_not_paid"),
        (429, {"type": "insufficient_quota"}, "ai_not_paid"),
        (400, {"message": "temperature must be at most 1"}, "ai_refused_request"),
        (400, None, "ai_refused_request"),
    ],
)
def test_a_code_says_who_has_to_act(server: Server, status: int, error: Any, code: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(status, "application/json")
        exchange.send(json.dumps({"error": error}).encode())
        exchange.end()

    failed = failure(server, script)
    assert (failed.code, failed.again, failed.status) == (code, False, status)


@pytest.mark.parametrize("body", [b"<html>", b"[", b'"x"', b"[1]", b"\xff", b'{"error": 7}'])
def test_a_refusal_of_any_shape_is_the_one_of_its_status(server: Server, body: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(400, "application/json")
        exchange.send(body)
        exchange.end()

    assert failure(server, script).code == "ai_refused_request"


def test_a_refusal_whose_body_never_ends_is_the_one_of_its_status(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_provider, "_REFUSAL_SECONDS", 0.2)

    def script(exchange: Exchange) -> None:
        exchange.start(429, "application/json", Retry_After="7")
        exchange.stall()

    failed = failure(server, script)
    assert (failed.code, failed.retry_after) == ("ai_rate_limited", 7)


class TestShapeOfTheRequest:
    """What a core leaves out of its requests, and what it adds to them."""

    def body(self, server: Server, **meta_data: Any) -> dict[str, Any]:
        ask(record(server.url, meta_data={"model": "m-1", **meta_data}))
        return server.calls[-1].body

    def test_omit_and_extra_body(self, server: Server) -> None:
        body = self.body(server, temperature=1, omit=["stream_options", "temperature"], extra_body={"top_k": 5, "n": 1})
        assert {"stream_options", "temperature"}.isdisjoint(body)
        assert (body["top_k"], body["n"], body["model"]) == (5, 1, "m-1")

    def test_the_instructions_have_the_role_that_the_core_names(self, server: Server) -> None:
        assert self.body(server, system_role="developer")["messages"][0]["role"] == "developer"
        assert self.body(server, system_role="user", system_prompt="Be brief.")["messages"] == [
            {"role": "user", "content": "Be brief."},
            {"role": "assistant", "content": "[Noted.]"},
            {"role": "user", "content": f"{CANARY} Hi"},
        ]

    def test_a_server_that_refuses_stream_options_is_asked_without_them_from_then_on(self, server: Server) -> None:
        def refuses(exchange: Exchange) -> None:
            exchange.start(400, "application/json")
            exchange.send(b'{"error": {"message": "Unknown parameter: stream_options"}}')
            exchange.end()

        server.scripts = [refuses, says("Rest.")]
        assert ask(record(server.url)).text == "Rest."
        assert ask(record(server.url)).text == "Rest."
        assert ["stream_options" in call.body for call in server.calls] == [True, False, False]

    def test_requests_that_a_server_refuses_at_the_same_time_all_go_on(self, server: Server) -> None:
        """A batch after a cold start: each of its requests has the field when the first refusal comes."""
        together = threading.Barrier(4)

        def refuses_together(exchange: Exchange) -> None:
            if "stream_options" not in exchange.call.body:
                says("Rest.")(exchange)
                return
            together.wait(10)
            exchange.start(400, "application/json")
            exchange.send(b'{"error": {"message": "Unknown parameter: stream_options"}}')
            exchange.end()

        with ThreadPoolExecutor(4) as threads:
            said = list(threads.map(lambda _: outcome(server, refuses_together), range(4)))
        assert said == ["Rest."] * 4

    def test_what_a_server_refused_before_is_not_the_outcome(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second request takes longer than the rest of the first one's refusal is waited for."""
        monkeypatch.setattr(http_provider, "_REFUSAL_SECONDS", 0.2)

        def script(exchange: Exchange) -> None:
            if "stream_options" in exchange.call.body:
                exchange.start(400, "application/json")
                exchange.send(b'{"error": {"message": "Unknown parameter: stream_options"}}')
                exchange.end()
                return
            time.sleep(0.8)
            says("Rest.")(exchange)

        assert outcome(server, script) == "Rest."

    def test_a_refusal_that_comes_slowly_is_read(self, server: Server) -> None:
        def slowly(exchange: Exchange) -> None:
            if "stream_options" not in exchange.call.body:
                says("Rest.")(exchange)
                return
            exchange.start(400, "application/json")
            time.sleep(1)
            exchange.send(b'{"error": {"message": "Unknown parameter: stream_options"}}')
            exchange.end()

        assert outcome(server, slowly) == "Rest."

    def test_a_server_that_refuses_them_although_they_are_left_out_is_asked_once_more(self, server: Server) -> None:
        def refuses(exchange: Exchange) -> None:
            exchange.start(422, "application/json")
            exchange.send(b'{"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}')
            exchange.end()

        assert failure(server, refuses).code == "ai_refused_request"
        assert len(server.calls) == 2


def test_an_answer_that_is_too_long_is_given_up_at_once(server: Server) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.start()
        while True:
            exchange.text("x" * 1000)

    for fields in ({}, {"meta_data": {"max_reply_characters": 1500}}):
        failed = failure(server, endless, **fields)
        assert (failed.code, failed.again) == ("ai_too_long", False)
    assert all(call.closed.wait(10) for call in server.calls)


def test_an_answer_as_long_as_it_may_be_is_one(server: Server) -> None:
    server.scripts = [says("x" * 999, "y")]
    assert len(ask(record(server.url, meta_data={"max_reply_characters": 1000})).text) == 1000
    assert failure(server, says("x" * 999, "y"), meta_data={"max_reply_characters": 999}).code == "ai_too_long"
    assert failure(server, says("x" * 20_000, "y")).code == "ai_too_long"


def test_bytes_without_end_are_given_up_too(server: Server) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.start()
        while True:
            exchange.send(b":" + b" " * 65536)

    assert failure(server, endless).code == "ai_too_long"
    assert server.calls[0].closed.wait(10)


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (400, "ai_refused_request", False), (404, "ai_refused_request", False), (422, "ai_refused_request", False),
        (401, "ai_unauthorized", False), (403, "ai_unauthorized", False), (408, "ai_unavailable", True),
        (409, "ai_unavailable", True), (429, "ai_rate_limited", True), (500, "ai_unavailable", True),
        (503, "ai_unavailable", True), (529, "ai_unavailable", True), (204, "ai_protocol", False),
    ],
)  # fmt: skip
def test_an_error_tells_whether_another_try_is_worth_it(server: Server, status: int, code: str, again: bool) -> None:
    failed = failure(server, fails(status))
    assert (failed.code, failed.again, failed.status) == (code, again, status)


def test_a_redirect_is_not_followed(server: Server) -> None:
    failed = failure(server, fails(307, Location=server.url))
    assert (failed.code, failed.again) == ("ai_protocol", False)
    assert len(server.calls) == 1


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        (lambda: "7", 7, 7),
        (lambda: "0", 0, 0),
        (lambda: "-5", 0, 0),
        (lambda: http_date(100), 50, 101),
        (lambda: http_date(-100), 0, 0),
        (lambda: "soon", None, None),
        (lambda: "nan", None, None),
        (lambda: "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None, None),
    ],
)
def test_when_to_come_back_is_read_as_seconds_or_a_date(
    server: Server, header: Callable[[], str], low: float | None, high: float | None
) -> None:
    after = failure(server, fails(429, Retry_After=header())).retry_after
    if low is None or high is None:
        assert after is None
    else:
        assert after is not None
        assert low <= after <= high


# Another project's server.


def test_a_server_that_others_wrote_is_understood(mock_ai: str) -> None:
    answer = ask(record(mock_ai, meta_data={"model": "gpt-4.1"}))
    assert answer.text.strip()
    assert answer.usage is not None
    assert min(answer.usage.input_tokens, answer.usage.output_tokens) > 0


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("mock-tool-stream", "ai_empty"),
        ("mock-400", "ai_refused_request"),
        ("mock-401", "ai_unauthorized"),
        ("mock-429", "ai_rate_limited"),
        ("mock-500", "ai_unavailable"),
        ("mock-503", "ai_unavailable"),
    ],
)
def test_its_errors_are_understood_too(mock_ai: str, scenario: str, code: str) -> None:
    with pytest.raises(ProviderFailure) as failed:
        ask(record(mock_ai, meta_data={"model": f"gpt-4.1:{scenario}"}))
    assert failed.value.code == code
