"""The library's short way from a patient's texts to turns gives the same result as a whole request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from message_handler.domain.conversations import Turn
from message_handler.domain.errors import RequestError
from message_handler.intake.requests import MAX_HISTORY_BYTES, MAX_UNANSWERED, read_turns, request_of, texts_of

WORDS = st.sampled_from(
    ["Hello", "xin chào", " ", "", "\x00", "a\x00b", "\ud800", "\u200b", "a\u200b", 7, None, b"bytes", ["nested"]]
)


def by_a_request(messages: Any, bot_id: Any) -> tuple[Turn, ...]:
    return read_turns(request_of(messages, bot_id))[1]


def told(way: Any, messages: Any, bot_id: Any) -> Any:
    try:
        return way(messages, bot_id)
    except RequestError as error:
        return type(error), str(error)


@given(st.lists(WORDS | st.text(), max_size=4), st.sampled_from([None, "nurse", "", "no/such", "a b", 7]))
@example(["\ud800"], None)
@example(["half " * (MAX_HISTORY_BYTES // 5)] * 2, None)
@example(["é" * (MAX_HISTORY_BYTES // 2)], None)
@example(["é" * (MAX_HISTORY_BYTES // 2) + "x"], None)
@example(["one"] * (MAX_UNANSWERED + 1), None)
@example(["one"] * MAX_UNANSWERED, None)
def test_both_ways_take_and_refuse_the_same(messages: list[Any], bot_id: Any) -> None:
    assert told(texts_of, messages, bot_id) == told(by_a_request, messages, bot_id)


@pytest.mark.parametrize("messages", ["one text", ("a", "tuple"), {"a": 1}, None, 7, [type("Word", (str,), {})("sub")]])
def test_what_is_no_list_of_texts_is_treated_alike(messages: Any) -> None:
    def outcome(way: Any) -> Any:
        try:
            return told(way, messages, "nurse")
        except TypeError:
            return TypeError

    assert outcome(texts_of) == outcome(by_a_request)


def test_texts_become_the_patients_turns() -> None:
    assert texts_of(["Hello", "xin chào"], "nurse") == (Turn("user", "Hello"), Turn("user", "xin chào"))
