"""A character that can't be stored costs that character. A text that shows nothing has no words."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_handler.domain.text import MAX_DEPTH, all_storable, is_storable, is_wordless, storable
from message_handler.intake.requests import parse_request
from message_handler.queue.codec import decode
from tests.unit.service import CANARY, Service

any_text = st.text(st.characters())
any_json = st.recursive(
    any_text | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)

BLANKS = " \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
#: Invisible characters, by their usual names.
INVISIBLE = {
    "zero-width space": "\u200b",
    "zero-width non-joiner": "\u200c",
    "zero-width joiner": "\u200d",
    "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "word joiner": "\u2060",
    "invisible times": "\u2062",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "Arabic letter mark": "\u061c",
    "Mongolian vowel separator": "\u180e",
    "variation selector 1": "\ufe00",
    "variation selector 16": "\ufe0f",
    "variation selector 17": "\U000e0100",
    "variation selector 256": "\U000e01ef",
    "Mongolian variation selector": "\u180b",
    "combining grapheme joiner": "\u034f",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "tag space": "\U000e0020",
    "interlinear annotation": "\ufff9",
    "empty Braille pattern": "\u2800",
    "a control character": "\x01",
    "delete": "\x7f",
}
#: Texts that show something, alone or with invisible characters.
VISIBLE = (
    "a",
    ".",
    "\u200bx\u200b",
    "❤\ufe0f",
    "👩\u200d👧",
    "\u0301",
    "\ufffd",
    "、",
    "ế",
    "1\ufe0f\u20e3",
    "\U000f0000",
)


@given(any_text)
def test_a_text_becomes_one_that_every_store_holds(text: str) -> None:
    kept = storable(text)
    assert is_storable(kept)
    assert kept == text or not is_storable(text)
    assert storable(kept) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\x00\x00", "\ufffd\ufffd"),
        ("a\ud83db", "a\ufffdb"),
        ("a\ude00b", "a\ufffdb"),  # noqa: PT014  lone surrogates are equal to ruff
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ufeffa\x00", "\ufeffa\ufffd"),
    ],
)
def test_each_odd_character_costs_itself_alone(text: str, kept: str) -> None:
    assert storable(text) == kept


@given(any_json)
def test_json_becomes_what_every_store_holds_and_nothing_of_it_goes(value: Any) -> None:
    kept = all_storable(value)
    json.dumps(kept, ensure_ascii=False).encode()
    assert "\x00" not in json.dumps(kept, ensure_ascii=False)
    assert shape(kept) == shape(value)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


def test_keys_that_would_become_the_same_are_told_apart() -> None:
    odd = json.loads('{"a\\u0000": 1, "a\\ud800": 2, "a\\ufffd": 3, "b": 4}')
    kept = all_storable(odd)
    assert sorted(kept.values()) == [1, 2, 3, 4]
    assert kept["a\ufffd"] == 3


def test_what_is_nested_too_deep_stays_as_it_is() -> None:
    value: Any = "\x00"
    for _ in range(100 * MAX_DEPTH):
        value = [value]
    all_storable(value)


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800", "\\udfff", "\\ude00\\ud83d"])
@pytest.mark.parametrize(
    "body",
    [
        '{"history": "<USER>C ODD</USER><br>"}',
        '{"history": "ODD C"}',
        '{"history": "<USER>ODD</USER><br><SALE>C</SALE><br><BOT>C ODD</BOT><br><USER>C</USER><br>"}',
        '{"messages": [{"role": "user", "content": "C ODD", "message_id": "m-1"}]}',
        '{"messages": [{"role": "assistant", "content": "ODD"}, {"role": "user", "content": "C"}]}',
        '{"messages": [{"role": "user", "content": "C ODD"}, {"role": "user", "content": "ODD C"}]}',
        '{"history": "C", "resources": {"name": "C ODD"}}',
        '{"history": "C", "resources": {"C ODD": ["ODD", {"ODD": 1}]}}',
    ],
)
def test_an_odd_character_costs_neither_the_request_nor_the_conversation(
    service: Service, body: str, escape: str
) -> None:
    said = body.replace("C", CANARY).replace("ODD", escape)
    assert service.post(said).status == 202
    request = decode(service.queue.sent[0][0]).request  # type: ignore[union-attr]
    kept = json.dumps([request.resources, [m.content for m in (*request.context, *request.messages)]])
    assert CANARY in kept
    assert "\\ufffd" in kept
    service.deliver()
    assert service.post({"history": f"<USER>{CANARY} more</USER>"}).status == 202
    assert service.deliver() == {"batchItemFailures": []}


def test_halves_of_one_character_in_two_turns_are_two_odd_characters(service: Service) -> None:
    halves = [{"role": "user", "content": f"{CANARY} {half}"} for half in ("\\ud83d", "\\ude00")]
    assert service.post(json.dumps({"messages": halves}).replace("\\\\", "\\")).status == 202
    request = decode(service.queue.sent[0][0]).request  # type: ignore[union-attr]
    assert [message.content for message in request.messages] == [f"{CANARY} \ufffd"] * 2


def test_two_halves_that_an_escape_and_a_raw_one_make_are_one_character() -> None:
    assert (parse_request({"history": "\ud83d\ude00"}).history) == "😀"


@pytest.mark.parametrize("text", [*INVISIBLE.values(), *BLANKS, "", "".join(INVISIBLE.values()) + BLANKS])
def test_invisible_text_has_no_words(text: str) -> None:
    assert is_wordless(text)


@pytest.mark.parametrize("text", VISIBLE)
def test_visible_text_is_not_wordless(text: str) -> None:
    assert not is_wordless(text)


@given(any_text.filter(lambda text: any(unicodedata.category(c)[0] in "LNPS" for c in text)))
def test_a_letter_is_never_wordless_but_for_fillers(text: str) -> None:
    fillers = "\u115f\u1160\u3164\uffa0\u2800"
    assert is_wordless(text) is all(is_wordless(c) for c in text)
    if any(unicodedata.category(c)[0] in "LNPS" and c not in fillers for c in text):
        assert not is_wordless(text)


@pytest.mark.parametrize("between", ["\ufeff", "\u200b", " \u200b\n", "\u00ad"])
def test_invisible_text_between_turns_is_no_turn(service: Service, between: str) -> None:
    text = f"{between}<USER>{CANARY}</USER><br>{between}<BOT>Yes</BOT><br>{between}<USER>{CANARY} two</USER>{between}"
    assert service.post({"history": text, "message_id": "m-1"}).status == 202
    assert len(service.queue.sent) == 1
    request = decode(service.queue.sent[0][0]).request  # type: ignore[union-attr]
    assert [(message.message_id, message.content) for message in request.messages] == [("m-1", f"{CANARY} two")]
    assert [turn.content for turn in request.context] == [CANARY, "Yes"]
