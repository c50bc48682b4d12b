"""Conversation keys, ids and messages."""

from __future__ import annotations

import string
import uuid
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.identifiers import SHARDS, is_conversation_id, is_identifier, shard_of_job
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, new_message
from tests.channel_ids import CHANNEL_IDS, REFUSED

IDENTIFIERS = st.text(string.ascii_letters + string.digits + "._:@-", min_size=1, max_size=255)
CONVERSATION_IDS = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@|", min_size=1, max_size=255)
KEYS = st.builds(ConversationKey, IDENTIFIERS, CONVERSATION_IDS)
JOB_ID = "3616f6cf-e93b-8007-a95b-25c9aa32bfd2"


class TestJobIds:
    @given(KEYS)
    def test_a_job_id_is_a_uuid_of_version_8_that_names_its_shard(self, key: ConversationKey) -> None:
        job_id = key.new_job_id()
        value = uuid.UUID(job_id)
        assert str(value) == job_id
        assert value.version == 8
        assert value.variant == uuid.RFC_4122
        assert value.int >> (128 - 10) == key.shard == shard_of_job(job_id)

    def test_no_two_are_the_same(self) -> None:
        key = ConversationKey("default", "conv_123")
        assert len({key.new_job_id() for _ in range(10_000)}) == 10_000

    def test_all_bits_but_the_shards_and_the_formats_are_random(self) -> None:
        values = [uuid.UUID(ConversationKey("default", "conv_123").new_job_id()).int for _ in range(200)]
        ever_set = ever_clear = 0
        for value in values:
            ever_set |= value
            ever_clear |= ~value
        random = (ever_set & ever_clear) & ((1 << 118) - 1)
        assert random == ((1 << 118) - 1) & ~(0xF << 76) & ~(0x3 << 62)

    @pytest.mark.parametrize(
        "job_id",
        [
            JOB_ID.upper(),
            JOB_ID.replace("-", ""),
            f"{{{JOB_ID}}}",
            f"urn:uuid:{JOB_ID}",
            f"{JOB_ID}\n",
            JOB_ID.replace("-8007-", "-4007-"),
            JOB_ID.replace("-a95b-", "-295b-"),
            "",
            "x",
            None,
            1,
            b"x",
        ],
    )
    def test_what_is_none_of_our_ids_has_no_shard(self, job_id: Any) -> None:
        assert shard_of_job(job_id) is None


class TestKeys:
    @given(KEYS)
    def test_a_shard_is_one_of_1024_and_stays(self, key: ConversationKey) -> None:
        assert 0 <= key.shard < SHARDS
        assert ConversationKey(key.platform_id, key.conversation_id).shard == key.shard

    def test_conversations_spread_over_all_shards(self) -> None:
        shards = {ConversationKey("default", f"conv_{number}").shard for number in range(20_000)}
        assert len(shards) == SHARDS

    def test_a_shard_never_changes_from_one_version_to_the_next(self) -> None:
        assert ConversationKey("default", "conv_123").shard == 216

    @given(IDENTIFIERS)
    def test_an_identifier_is_one(self, text: str) -> None:
        assert is_identifier(text)

    @pytest.mark.parametrize(
        "value", ["", "a" * 256, "a b", "a/b", "{a}", "a\n", "a\x00", "é", "٣", "a%20", "a+b", None, 1, b"a"]
    )
    def test_what_is_no_identifier_is_none(self, value: object) -> None:
        assert not is_identifier(value)

    @given(CONVERSATION_IDS)
    def test_a_conversations_id_is_one_and_is_the_same_however_often_it_is_decoded(self, text: str) -> None:
        assert is_conversation_id(text)
        assert unquote(text) == text
        assert unquote(quote(text, safe="")) == text

    @pytest.mark.parametrize("value", CHANNEL_IDS)
    def test_an_id_that_a_channel_made_is_an_identifier(self, value: str) -> None:
        assert is_conversation_id(value)

    @pytest.mark.parametrize("character", REFUSED)
    @pytest.mark.parametrize("place", ["{}a", "a{}", "a{}b"])
    def test_a_conversations_id_never_has_this_character(self, character: str, place: str) -> None:
        assert not is_conversation_id(place.replace("{}", character))

    @pytest.mark.parametrize("value", ["", "a" * 256, None, 1, b"a"])
    def test_what_is_no_conversations_id_is_none(self, value: object) -> None:
        assert not is_conversation_id(value)


class TestMessages:
    @given(
        st.builds(
            Message, st.text(), st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.tuples(st.text())
        )
    )
    def test_a_message_is_read_as_it_was_written(self, message: Message) -> None:
        assert Message.from_json(message.to_json()) == message

    def test_a_platforms_own_id_is_told_from_a_minted_one(self) -> None:
        assert new_message("hello", "m1") == Message("m1", "hello", given=True)
        minted = [new_message("hello", None) for _ in range(2)]
        assert not any(message.given for message in minted)
        assert minted[0].message_id != minted[1].message_id
        assert minted[0].digest == minted[1].digest

    def test_a_message_answers_to_all_its_ids(self) -> None:
        assert Message("m1", "hello", aliases=("m2", "m3")).ids == ("m1", "m2", "m3")


def test_only_ends_are_ends() -> None:
    assert {status for status in JobStatus if status.ended} == {"completed", "failed", "cancelled"}
