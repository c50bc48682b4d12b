"""Server-sent events are read whole, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from message_handler.ai import events as events_module
from message_handler.ai.events import _LINE_END, Events
from message_handler.ai.failures import ProviderFailure

ENDS = st.sampled_from((b"\n", b"\r\n", b"\r"))
#: Lines without the characters that end a line of an event.
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)


def fed(*pieces: bytes) -> list[str]:
    events = Events()
    return [event.data for piece in pieces for event in events.feed(piece)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(borders)]


@given(st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5), ENDS, st.lists(st.integers(0, 999), max_size=9))
def test_every_event_comes_whole_and_once(events: list[list[str]], end: bytes, places: list[int]) -> None:
    stream = b"".join(
        b"".join(b": ping" + end + f"data: {line}".encode() + end for line in lines) + end for lines in events
    )
    expected = ["\n".join(lines) for lines in events]
    assert fed(*cut(stream, places)) == expected
    assert fed(*(bytes([byte]) for byte in stream)) == expected


@given(st.text("da:tx é\r\n", max_size=60).map(str.encode), st.lists(st.integers(0, 999), max_size=9))
@example(b"data: a\r\n\r\n", [8, 10])
@example(b"data: a\r\n\n", [8, 9])
@example(b"data: a\r\r\ndata: b\n\r", [8, 9])
def test_borders_between_pieces_change_nothing(stream: bytes, places: list[int]) -> None:
    assert fed(*cut(stream, places)) == fed(stream)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\ndata:  b\n\n", ["a", " b"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b"event: x\nid: 1\ndata: a\n\n", ["a"]),
        (b": comment\n\n\n\ndata: a\n\n", ["a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"datax: b\n\n", []),
        (b"data: unfinished\n", []),
        (b"data: unfinished", []),
        ("data: c\u2028d\x85e\x0b\n\n".encode(), ["c\u2028d\x85e\x0b"]),
    ],
)
def test_streams_are_read_as_the_standard_says(stream: bytes, expected: list[str]) -> None:
    assert fed(stream) == expected


def test_an_event_has_its_own_name_alone() -> None:
    stream = b"event: ping\ndata: a\n\ndata: b\n\nevent:x\n\ndata: c\n\n"
    assert list(Events().feed(stream)) == [("ping", "a"), ("", "b"), ("", "c")]


def test_a_long_line_in_small_pieces_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    class Counting:
        def split(self, text: bytes) -> list[bytes]:
            looked.append(len(text))
            return _LINE_END.split(text)

    monkeypatch.setattr("message_handler.ai.events._LINE_END", Counting())
    stream = b"data: " + b"a" * 100_000 + b"\n\n"
    assert fed(*(stream[at : at + 10] for at in range(0, len(stream), 10))) == ["a" * 100_000]
    assert sum(looked) == len(stream)


def test_a_line_as_long_as_it_may_be_is_one_and_a_longer_is_given_up() -> None:
    most = b"data: ".ljust(events_module._MAX_LINE_BYTES, b"x")
    assert fed(most[:9], most[9:] + b"\n\ndata: y\n\n") == [most[6:].decode(), "y"]
    for pieces in ([most, b"x"], [b"\n" + most, b"x\n"]):
        with pytest.raises(ProviderFailure) as failed:
            fed(*pieces)
        assert failed.value.code == "ai_too_long"


def test_what_is_no_utf_8_is_said_to_be_none() -> None:
    with pytest.raises(UnicodeDecodeError):
        fed(b"data: \xff\n\n")
