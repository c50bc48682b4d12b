"""All tries share one deadline and one budget, and a call ends as soon as its worker no longer waits."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from message_handler.ai import answering as answering_module
from message_handler.ai.chat_completions import ChatCompletions
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import AI, Completion
from message_handler.ai.providers import Tools, ai_of
from message_handler.domain.conversations import Turn
from message_handler.domain.errors import AIError, SettingsError, Unavailable
from message_handler.domain.jobs import Usage
from message_handler.drivers.secrets import Secrets
from message_handler.settings import Settings
from message_handler.wiring import build
from tests.ai.conftest import TOKEN, prompt
from tests.ai.server import Exchange, Script, Server, fails, says
from tests.ai.test_chat_completions import EGRESS, at, http_date, record
from tests.unit.service import CANARY, Output

SETTINGS = Settings(egress_allow_loopback=True, simulated_ai_delay_ms="0")


class Stopped(BaseException):
    """Raised by the watch. No code on the way may treat it as its own error."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering_module, "_BACKOFF_SECONDS", 0.002)


def ai(core_ai: dict[str, Any], fallback: dict[str, Any] | None = None) -> AI:
    return ai_of(core_ai | {"fallback": fallback}, Tools(SETTINGS, EGRESS, Secrets(literals=True)))


def complete(
    core_ai: dict[str, Any],
    fallback: dict[str, Any] | None = None,
    timeout: float = 10,
    watch: Callable[[str], None] = lambda _: None,
) -> Completion:
    return ai(core_ai, fallback).complete(prompt(timeout=timeout), watch)


def stalls(exchange: Exchange) -> None:
    """Send nothing, not even a status."""
    exchange.stall()


def stalls_midway(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("Half of")
    exchange.stall()


def cut(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("Half of")


def no_thread_is_left() -> bool:
    end = time.monotonic() + 10
    while any(thread.name == "ai-call" for thread in threading.enumerate()):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# Watching.


def test_the_watch_is_told_the_text_so_far(server: Server) -> None:
    go = threading.Event()

    def slowly(exchange: Exchange) -> None:
        exchange.start()
        exchange.text("Good ")
        go.wait(10)
        exchange.text("day.", "stop")
        exchange.end()

    server.scripts = [slowly]
    told: list[str] = []

    def watch(text: str) -> None:
        told.append(text)
        if text == "Good ":
            go.set()

    assert complete(record(server.url), watch=watch).text == "Good day."
    assert told[0] == ""
    assert "Good " in told
    assert all("Good day.".startswith(text) for text in told)


@pytest.mark.parametrize("script", [stalls, stalls_midway])
def test_the_watch_is_asked_while_nothing_comes(server: Server, script: Script) -> None:
    server.scripts = [script]
    looks: list[str] = []
    with pytest.raises(AIError):
        complete(record(server.url), timeout=3, watch=looks.append)
    assert len(looks) >= 8  # 15, if nothing else has the processor


@pytest.mark.parametrize("script", [stalls, stalls_midway])
def test_what_the_watch_raises_ends_the_call_and_its_connection(server: Server, script: Script) -> None:
    server.scripts = [script]

    def watch(text: str) -> None:
        if server.calls and (script is stalls or text):
            raise Stopped

    with pytest.raises(Stopped):
        complete(record(server.url, timeout_seconds=60), timeout=60, watch=watch)
    (call,) = server.calls
    assert call.closed.wait(10)
    assert no_thread_is_left()


def test_a_call_that_is_ended_while_it_connects_sends_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, go = threading.Event(), threading.Event()
    connect = socket.socket.connect

    def slow(self: socket.socket, address: Any) -> None:
        connecting.set()
        go.wait(10)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", slow)

    def watch(_text: str) -> None:
        if connecting.is_set():
            raise Stopped

    with pytest.raises(Stopped):
        complete(record(server.url), watch=watch)
    go.set()
    assert no_thread_is_left()
    assert server.calls == []


def test_a_pause_is_watched_too(server: Server) -> None:
    looks: list[str] = []
    seen: list[int] = []

    def noted(script: Script) -> Script:
        def play(exchange: Exchange) -> None:
            seen.append(len(looks))
            script(exchange)

        return play

    server.scripts = [noted(fails(429, Retry_After="2")), noted(says("Now."))]
    assert complete(record(server.url), watch=looks.append).text == "Now."
    assert seen[1] - seen[0] >= 6  # 12, if nothing else has the processor


def test_a_pause_ends_when_the_worker_no_longer_waits(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.scripts = [fails(429, Retry_After="30"), says("Late.")]

    def watch(_text: str) -> None:
        if caplog.get_records("call"):
            raise Stopped

    with pytest.raises(Stopped):
        complete(record(server.url, timeout_seconds=60), timeout=60, watch=watch)
    assert len(server.calls) == 1


def test_no_connection_is_left_after_an_answer(server: Server) -> None:
    def lingers(exchange: Exchange) -> None:
        says("Hello")(exchange)
        exchange.stall()

    server.scripts = [lingers]
    assert complete(record(server.url)).text == "Hello"
    assert server.calls[0].closed.wait(10)
    assert no_thread_is_left()


# Tries.


@pytest.mark.parametrize(
    "script", [cut, fails(408), fails(409), fails(429), fails(500), fails(503), says(" "), stalls_midway]
)
def test_what_may_pass_is_tried_again_with_the_same_key(server: Server, script: Script) -> None:
    server.scripts = [script, says("Well, hello.")]
    assert complete(record(server.url), timeout=4).text == "Well, hello."
    assert [call.headers["idempotency-key"] for call in server.calls] == ["job:1", "job:1"]
    if script is stalls_midway:
        assert server.calls[0].closed.wait(10)


def test_half_an_answer_is_taken_back_before_the_next_try(server: Server) -> None:
    server.scripts = [cut, says("Well, hello.")]
    told: list[str] = []
    assert complete(record(server.url), watch=told.append).text == "Well, hello."
    assert "Half of Well, hello." not in told


def test_ten_tries_are_all(server: Server) -> None:
    server.scripts = [fails(500)]
    with pytest.raises(AIError) as failed:
        complete(record(server.url))
    assert failed.value.code == "ai_unavailable"
    assert len(server.calls) == 10


def test_the_tries_spread_over_the_whole_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is overloaded for most of the time is asked again near its end. No pause is longer than half."""
    monkeypatch.setattr(answering_module, "_BACKOFF_SECONDS", 0.5)
    began = time.monotonic()
    times: list[float] = []

    def overloaded(exchange: Exchange) -> None:
        times.append(time.monotonic() - began)
        fails(503)(exchange)

    server.scripts = [overloaded]
    with pytest.raises(AIError):
        complete(record(server.url), timeout=6)
    assert 4 <= len(times) <= 8
    assert times[-1] > 3


def test_a_model_that_is_silent_before_its_first_words_has_all_of_the_time(server: Server) -> None:
    def thinks(exchange: Exchange) -> None:
        exchange.start()
        exchange.event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        time.sleep(2.5)
        exchange.text("Rest.", "stop")
        exchange.end()

    server.scripts = [thinks]
    assert complete(record(server.url), timeout=4).text == "Rest."
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after_ms": "300"},
        {"x_ratelimit_reset_requests": "300ms"},
        {"x_ratelimit_reset_tokens": "0.3"},
        # A limit that is used up counts. The reset of another one, which would not fit into the time, does not.
        {
            "x_ratelimit_remaining_tokens": "0",
            "x_ratelimit_reset_tokens": "0m0.3s",
            "x_ratelimit_remaining_requests": "99",
            "x_ratelimit_reset_requests": "6m0s",
        },
    ],
)
def test_a_provider_says_in_other_words_when_to_come_back(server: Server, headers: dict[str, str]) -> None:
    times: list[float] = []

    def noted(script: Script) -> Script:
        def play(exchange: Exchange) -> None:
            times.append(time.monotonic())
            script(exchange)

        return play

    server.scripts = [noted(fails(429, **headers)), noted(says("Now."))]
    assert complete(record(server.url)).text == "Now."
    assert times[1] - times[0] >= 0.3


def test_a_limit_that_starts_again_too_late_does_not_end_the_tries(server: Server) -> None:
    server.scripts = [fails(429, x_ratelimit_reset_tokens="6m0s"), says("Now.")]
    assert complete(record(server.url)).text == "Now."


@pytest.mark.parametrize(
    "headers",
    [
        {"x_ratelimit_remaining_requests": "9999", "x_ratelimit_reset_requests": "6ms"},
        {"x_ratelimit_reset_tokens": "20ms"},
        {"Retry_After": "0"},
        {"retry_after_ms": "1"},
    ],
)
def test_a_hint_never_makes_the_tries_faster(
    server: Server, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tries within a blink would be over before the provider is back."""
    monkeypatch.setattr(answering_module, "_BACKOFF_SECONDS", 0.5)
    server.scripts = [fails(503, **headers)]
    with pytest.raises(AIError):
        complete(record(server.url), timeout=3)
    assert len(server.calls) <= 7


def test_an_answer_of_no_use_is_paid_for_three_times_at_most(server: Server) -> None:
    server.scripts = [says(" ")]
    with pytest.raises(AIError) as failed:
        complete(record(server.url))
    assert failed.value.code == "ai_empty"
    assert len(server.calls) == 3


def too_long(exchange: Exchange) -> None:
    exchange.start(400, "application/json")
    exchange.send(
        b'{"error": {"code": "context_length_exceeded", "message": "This model\'s maximum context length is 8"}}'
    )
    exchange.end()


def test_a_context_that_is_too_long_is_tried_once_more_with_its_newer_half(server: Server) -> None:
    context = tuple(Turn("user" if n % 2 == 0 else "assistant", f"turn {n}") for n in range(5))
    server.scripts = [too_long, says("Rest.")]
    try:
        reply = ai(record(server.url)).complete(prompt(context=context, timeout=10), lambda _: None).text
    except AIError as failed:
        reply = failed.code
    assert reply == "Rest."
    said = [[turn["content"] for turn in call.body["messages"][1:]] for call in server.calls]
    assert said[0][:3] == ["turn 0", "turn 1", "turn 2"]
    assert said[1][1:3] == ["turn 3", "turn 4\n\n" + said[0][-1].rpartition("\n\n")[2]]


@pytest.mark.parametrize("turns", [0, 5])
def test_a_context_that_is_too_long_even_so_fails(server: Server, turns: int) -> None:
    server.scripts = [too_long]
    context = tuple(Turn("user", f"turn {n}") for n in range(turns))
    with pytest.raises(AIError) as failed:
        ai(record(server.url)).complete(prompt(context=context, timeout=10), lambda _: None)
    assert failed.value.code == "ai_context_too_long"
    assert len(server.calls) == (2 if turns else 1)


@pytest.mark.parametrize("script", [fails(400), fails(401), fails(302), says("x", finish="length")])
def test_what_will_not_pass_is_not_tried_again(server: Server, script: Script) -> None:
    server.scripts = [script]
    with pytest.raises(AIError):
        complete(record(server.url))
    assert len(server.calls) == 1


@pytest.mark.parametrize("after", [lambda: "1", lambda: http_date(2)])
def test_a_provider_that_says_when_is_not_asked_before(server: Server, after: Callable[[], str]) -> None:
    times: list[float] = []

    def noted(script: Script) -> Script:
        def play(exchange: Exchange) -> None:
            times.append(time.monotonic())
            script(exchange)

        return play

    server.scripts = [noted(fails(429, Retry_After=after())), noted(says("Now."))]
    assert complete(record(server.url)).text == "Now."
    assert times[1] - times[0] >= 0.8


@pytest.mark.parametrize("after", [lambda: "3600", lambda: http_date(3600)])
def test_a_provider_that_wants_more_time_than_there_is_is_given_up_at_once(
    server: Server, after: Callable[[], str]
) -> None:
    server.scripts = [fails(503, Retry_After=after())]
    with pytest.raises(AIError) as failed:
        complete(record(server.url), timeout=60)
    assert failed.value.code == "ai_unavailable"
    assert len(server.calls) == 1


@pytest.mark.parametrize("script", [stalls, stalls_midway])
def test_all_tries_together_end_by_the_deadline(server: Server, script: Script) -> None:
    server.scripts = [script]
    began = time.monotonic()
    with pytest.raises(AIError) as failed:
        complete(record(server.url, timeout_seconds=1), timeout=60)
    assert failed.value.code == "ai_timeout"
    assert time.monotonic() - began < 30  # not the prompt's minute
    assert 1 <= len(server.calls) <= 3
    assert all(call.closed.wait(10) for call in server.calls)


def test_drops_that_never_end_are_no_answer_either(server: Server) -> None:
    def drips(exchange: Exchange) -> None:
        exchange.start()
        while True:
            exchange.text("x")
            time.sleep(0.05)

    server.scripts = [drips]
    with pytest.raises(AIError) as failed:
        complete(record(server.url, timeout_seconds=1))
    assert failed.value.code == "ai_timeout"
    assert server.calls[0].closed.wait(10)


# The fallback.


@pytest.mark.parametrize(
    ("script", "tries"), [(fails(500), 10), (fails(401), 1), (says("x", finish="content_filter"), 1), (stalls, 1)]
)
def test_where_the_first_gives_no_answer_the_fallback_does(
    server: Server, other: Server, script: Script, tries: int
) -> None:
    server.scripts = [script]
    fallback = record(other.url, core_ai_id="spare", auth_token="0ther-t0k3n", auth_host=at(other))
    first = record(server.url, auth_token=TOKEN, auth_host=at(server), timeout_seconds=2)
    assert complete(first, fallback, timeout=20) == Completion("From the other.", Usage(7, 5), by_fallback=True)
    assert len(server.calls) <= tries
    (call,) = other.calls
    assert call.headers["authorization"] == "Bearer 0ther-t0k3n"


def test_whatever_breaks_in_a_provider_its_fallback_answers(
    server: Server, other: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = ChatCompletions._headers

    def broken(self: ChatCompletions, *asked: Any) -> dict[str, str]:
        if self.core_ai["core_ai_id"] == "trial":
            raise OverflowError(CANARY)
        return whole(self, *asked)

    monkeypatch.setattr(ChatCompletions, "_headers", broken)
    assert complete(record(server.url), record(other.url, core_ai_id="spare")).text == "From the other."
    with pytest.raises(AIError) as failed:
        complete(record(server.url))
    assert failed.value.code == "ai_failed"
    assert CANARY not in caplog.text
    (line, _) = [vars(line) for line in caplog.records if line.message == "an AI provider broke"]
    assert line["error"] == "OverflowError"
    assert re.fullmatch(r"test_answering\.py:\d+ broken", line["where"])


@pytest.mark.parametrize(
    "error", [Stopped(), ValueError("x"), ProviderFailure("ai_unreachable", again=True), Unavailable("x")]
)
def test_what_the_watch_raises_is_no_providers_failure(server: Server, other: Server, error: BaseException) -> None:
    told: list[str] = []

    def watch(text: str) -> None:
        told.append(text)
        if text:
            raise error

    with pytest.raises(type(error)) as raised:
        complete(record(server.url), record(other.url), watch=watch)
    assert raised.value is error
    assert told[-1]
    assert (len(server.calls), other.calls) == (1, [])


def test_the_fallback_is_asked_once_and_the_first_error_is_told(server: Server, other: Server) -> None:
    server.scripts, other.scripts = [fails(429)], [fails(500)]
    with pytest.raises(AIError) as failed:
        complete(record(server.url), record(other.url))
    assert failed.value.code == "ai_rate_limited"
    assert (len(server.calls), len(other.calls)) == (10, 1)


def test_a_fallback_is_not_asked_while_the_first_answers(server: Server, other: Server) -> None:
    assert complete(record(server.url), record(other.url)).text == "Good day."
    assert other.calls == []


def test_a_fallback_has_what_is_left_and_no_more_than_its_own_time(server: Server, other: Server) -> None:
    server.scripts, other.scripts = [fails(401)], [stalls]
    began = time.monotonic()
    with pytest.raises(AIError) as failed:
        complete(record(server.url), record(other.url, timeout_seconds=1), timeout=60)
    assert failed.value.code == "ai_unauthorized"
    assert time.monotonic() - began < 30
    assert other.calls[0].closed.wait(10)


def test_the_simulated_ai_may_be_the_fallback(server: Server) -> None:
    server.scripts = [fails(401)]
    assert complete(record(server.url), record("simulated://")).text.startswith("[Simulated AI]")


@pytest.mark.parametrize("words", ["Hi", "[fail]", "[slow:0]"])
def test_a_simulated_ai_that_is_not_allowed_answers_nothing_and_its_fallback_does(
    words: str, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", SETTINGS.model_copy(update={"simulated_ai": False}))
    with pytest.raises(AIError) as failed:
        ai(record("simulated://")).complete(prompt(words), lambda _: None)
    assert failed.value.code == "ai_not_configured"
    assert complete(record("simulated://"), record(other.url)).text == "From the other."


@pytest.mark.parametrize("url", ["ftp://example.com/", "openai", "", "morse://x"])
def test_an_endpoint_of_another_kind_is_not_supported_and_its_fallback_answers(url: str, other: Server) -> None:
    with pytest.raises(AIError) as failed:
        complete(record(url))
    assert failed.value.code == "ai_unsupported"
    assert complete(record(url), record(other.url)).text == "From the other."


# What is told about it.


def test_each_failed_try_is_a_line_without_words_addresses_or_tokens(
    server: Server, output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    server.scripts = [fails(500), cut, fails(401)]
    with pytest.raises(AIError) as failed:
        complete(record(server.url, auth_token=TOKEN, auth_host=at(server)))
    assert CANARY not in str(failed.value)
    lines = [
        (vars(line)["code"], vars(line).get("status"), vars(line)["core_ai_id"], vars(line)["correlation_id"])
        for line in caplog.get_records("call")
    ]
    assert lines == [
        ("ai_unavailable", 500, "trial", "corr-1"),
        ("ai_unreachable", None, "trial", "corr-1"),
        ("ai_unauthorized", 401, "trial", "corr-1"),
    ]
    output.private.add(at(server))


def test_a_list_of_hosts_that_is_none_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="EGRESS_ALLOWED_HOSTS: entry 2"):
        build(Settings(egress_allowed_hosts="api.example.com, https://x"))
    build(Settings(egress_allowed_hosts=" api.example.com,, *.example.com:8443 ")).close()
