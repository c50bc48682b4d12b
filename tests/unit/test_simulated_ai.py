"""The simulated AI quotes the messages that it answers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from message_handler.ai.port import Prompt
from message_handler.ai.simulated import SimulatedAI
from message_handler.domain.conversations import Turn
from message_handler.domain.errors import AIError
from message_handler.domain.messages import Message
from tests.unit.service import CANARY

pytestmark = pytest.mark.usefixtures("output")


class Clock:
    """A clock whose seconds pass only while the AI sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class Stopped(Exception):
    """Raised by the watch."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def prompt(*contents: str, timeout: float = 30, context: tuple[Turn, ...] = ()) -> Prompt:
    messages = tuple(Message(f"m{number}", content) for number, content in enumerate(contents))
    return Prompt("Nurse Lan", context, messages, timeout)


def reply(clock: Clock, *contents: str, delay_ms: str = "0") -> str:
    return SimulatedAI(delay_ms, clock.sleep, clock).complete(prompt(*contents), lambda _: None).text


def test_it_says_that_it_is_simulated_and_who_answers(clock: Clock) -> None:
    assert reply(clock, CANARY).startswith("[Simulated AI] Nurse Lan answers 1 message:")


def test_it_quotes_each_message_once_in_order_one_a_line(clock: Clock) -> None:
    lines = reply(clock, f"{CANARY} one", "two", f"{CANARY} one").splitlines()
    assert lines[0].endswith("answers 3 messages:")
    assert lines[1:] == [f"> {CANARY} one", "> two", f"> {CANARY} one"]


@pytest.mark.parametrize("content", ["a\nb", "a\r\nb", "a\u2028b", "a\x0bb", "a\x85b"])
def test_a_message_of_several_lines_stays_on_one(clock: Clock, content: str) -> None:
    assert reply(clock, content).splitlines()[1:] == ["> a b"]


def test_it_does_not_quote_what_was_answered_before(clock: Clock) -> None:
    before = (Turn("user", "earlier"), Turn("assistant", "answered"))
    answer = SimulatedAI("0", clock.sleep, clock).complete(prompt(CANARY, context=before), lambda _: None).text
    assert "earlier" not in answer
    assert "answered" not in answer


def test_it_takes_its_delay(clock: Clock) -> None:
    reply(clock, CANARY, delay_ms="800")
    assert clock.now == pytest.approx(0.8)


def test_it_draws_from_a_range(clock: Clock) -> None:
    taken = []
    for _ in range(200):
        before = clock.now
        reply(clock, CANARY, delay_ms="400-1200")
        taken.append(clock.now - before)
    assert 0.4 <= min(taken) < 0.6 < 1.0 < max(taken) <= 1.2 + 1e-9


def test_without_a_delay_it_answers_at_once(clock: Clock) -> None:
    reply(clock, CANARY)
    assert clock.naps == []


def test_it_looks_for_news_at_least_twice_a_second(clock: Clock) -> None:
    looks: list[float] = []
    SimulatedAI("3000", clock.sleep, clock).complete(prompt(CANARY), lambda _: looks.append(clock.now))
    assert len(looks) >= 6
    assert max(later - sooner for sooner, later in pairwise(looks)) <= 0.5


def test_it_stops_as_soon_as_it_is_told(clock: Clock) -> None:
    def watch(_text: str) -> None:
        if clock.now > 1:
            raise Stopped

    with pytest.raises(Stopped):
        SimulatedAI("60000", clock.sleep, clock).complete(prompt(CANARY), watch)
    assert clock.now < 2


def test_it_fails_on_request_and_tells_no_words(clock: Clock) -> None:
    with pytest.raises(AIError) as failed:
        reply(clock, f"{CANARY} one", f"{CANARY} [fail] two")
    assert failed.value.code == "ai_failed"
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize(("content", "seconds"), [("[slow:5]", 5), ("[slow:0.25]", 0.25), ("[slow:2] and [slow:7]", 7)])
def test_it_is_slow_on_request(clock: Clock, content: str, seconds: float) -> None:
    reply(clock, f"{CANARY} {content}", delay_ms="800")
    assert clock.now == pytest.approx(seconds)


@pytest.mark.parametrize("content", ["[slow:]", "[slow:-1]", "[slow:abc]", "[slow:99999999]", "[slow:1e9]", "[SLOW:9]"])
def test_what_is_no_number_of_seconds_is_just_text(clock: Clock, content: str) -> None:
    assert f"> {CANARY} {content}" in reply(clock, f"{CANARY} {content}", delay_ms="100")
    assert clock.now == pytest.approx(0.1)


def test_it_gives_up_at_its_timeout(clock: Clock) -> None:
    with pytest.raises(AIError) as failed:
        SimulatedAI("0", clock.sleep, clock).complete(prompt(f"{CANARY} [slow:60]", timeout=10), lambda _: None)
    assert failed.value.code == "ai_timeout"
    assert clock.now == pytest.approx(10)
