"""The same words in another dress are the same words, and other words are not."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_handler.archive.parking import noted_among
from message_handler.domain.consolidation import answered_before, match
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.history import merge
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, new_message
from message_handler.domain.text import storable, words_of
from message_handler.protocol.line import Line
from message_handler.protocol.line_documents import line_of, line_to_text
from tests.dresses import DRESSES, OTHERS
from tests.unit.service import Service

KEY = ConversationKey("default", "conv_123")
same = pytest.mark.parametrize(("one", "other"), DRESSES.values(), ids=DRESSES)
different = pytest.mark.parametrize(("one", "other"), OTHERS.values(), ids=OTHERS)
any_text = st.text(st.characters()).map(storable)


class TestWords:
    @same
    def test_of_the_same_words_are_equal(self, one: str, other: str) -> None:
        assert one != other
        assert words_of(one) == words_of(other) == one

    @different
    def test_of_other_words_are_not(self, one: str, other: str) -> None:
        assert words_of(one) != words_of(other)

    @given(any_text)
    def test_are_those_of_each_form(self, text: str) -> None:
        words = words_of(text)
        assert words_of(words) == words
        assert words_of(f" \xa0{text}\r\n") == words
        for form in ("NFC", "NFD"):
            assert words_of(unicodedata.normalize(form, text)) == words

    @pytest.mark.parametrize("text", ["", "Hello, is 2 mg enough?", "one\ntwo", "Tôi bị đau đầu", "👩‍⚕️ 머리가 아파요"])
    def test_of_plain_text_are_the_text(self, text: str) -> None:
        message = new_message(text, None)
        assert words_of(text) == text
        assert message.words_digests == (message.digest,)


class TestMessages:
    @same
    def test_without_ids_are_the_same(self, one: str, other: str) -> None:
        for first, second in ((one, other), (other, one), (other, other)):
            assert match([Message("w", first)], [Message("i", second)]) == [0]
            assert answered_before([Message("w", first).words_digest], (Message("i", second), Message("j", "x"))) == 1

    @same
    def test_each_of_two_is_matched_once(self, one: str, other: str) -> None:
        waiting = [Message("w0", one), Message("w1", other)]
        assert match(waiting, [Message("i0", other), Message("i1", one), Message("i2", one)]) == [0, 1, None]

    @different
    def test_of_other_words_are_others(self, one: str, other: str) -> None:
        assert match([Message("w", one)], [Message("i", other)]) == [None]
        assert answered_before([Message("w", one).words_digest], (Message("i", other), Message("j", "x"))) == 0

    @same
    def test_are_known_by_what_a_line_keeps_of_them(self, one: str, other: str) -> None:
        (kept,) = kept_in_a_line(other)
        assert kept.content == ""
        assert kept.digest == Message("", other).digest
        assert match([kept], [Message("i", one)]) == match([kept], [Message("i", other)]) == [0]

    @same
    def test_are_known_if_the_release_before_kept_them(self, one: str, other: str) -> None:
        """It kept the digest of what was sent alone. So the same text is known, and plain text in any dress."""
        assert match(kept_by_the_release_before(one), [Message("i", other)]) == [0]
        assert match(kept_by_the_release_before(other), [Message("i", other)]) == [0]
        assert answered_before([Message("", other).digest], (Message("i", other), Message("j", "x"))) == 1

    def test_of_plain_text_cost_a_line_nothing(self) -> None:
        assert "words" not in line_to_text(line_with("Hello"))
        assert "words" in line_to_text(line_with("Hello "))


def line_with(text: str) -> Line:
    line = Line(KEY)
    line.current = Job(KEY.new_job_id(), KEY, JobStatus.PENDING, (new_message(text, None),), "nurse", created_at=1.0)
    return line


def kept_in_a_line(text: str) -> tuple[Message, ...]:
    return line_of(KEY, {"line": line_to_text(line_with(text))}).waiting()


def kept_by_the_release_before(text: str) -> tuple[Message, ...]:
    kept = line_to_text(line_with(text))
    before, _, _ = kept.partition(',"words":')
    return line_of(KEY, {"line": before + "}}" if before != kept else kept}).waiting()


class TestHistories:
    @same
    @pytest.mark.parametrize("role", ["user", "assistant", "sale"])
    def test_keep_a_turn_once_with_its_archived_text(self, role: str, one: str, other: str) -> None:
        archived = (Turn("user", "a"), Turn(role, other), Turn("user", "b"))  # type: ignore[arg-type]
        told = (Turn("user", "a"), Turn(role, one), Turn("user", "b"), Turn("user", "c"))  # type: ignore[arg-type]
        assert merge(archived, told) == (*archived, Turn("user", "c"))

    @same
    def test_keep_it_once_out_of_order_too(self, one: str, other: str) -> None:
        archived = (Turn("user", "b"), Turn("user", other), Turn("user", "c"), Turn("assistant", "Yes"))
        told = (Turn("user", one), Turn("user", "b"), Turn("user", "c"), Turn("assistant", "Yes"))
        assert merge(archived, told) == archived

    @different
    def test_keep_both_of_two_that_only_look_alike(self, one: str, other: str) -> None:
        archived = (Turn("user", "a"), Turn("user", one), Turn("user", "b"))
        told = (Turn("user", "a"), Turn("user", other), Turn("user", "b"))
        assert {turn.content for turn in merge(archived, told)} == {"a", one, other, "b"}

    @same
    def test_name_a_humans_turn_once(self, one: str, other: str) -> None:
        assert noted_among([(None, other)])(Turn("sale", one))
        assert noted_among([(None, one)])(Turn("sale", other, "s-1"))
        assert noted_among([("s-2", other), (None, one)])(Turn("sale", other, "s-1"))
        assert noted_among([("s-2", other)])(Turn("sale", one))
        assert not noted_among([("s-2", other)])(Turn("sale", one, "s-1"))


@same
def test_a_repeated_request_in_another_dress_is_a_duplicate(service: Service, one: str, other: str) -> None:
    first = service.post({"messages": [{"role": "user", "content": one}]}).body
    again = service.post({"messages": [{"role": "user", "content": other}]}).body
    assert (again["ai_job_id"], again.get("duplicate")) == (first["ai_job_id"], True)
    service.deliver()
    job = service.parts.archive.job("default", first["ai_job_id"])
    assert job is not None
    assert job.reply == one
