"""Conversations with ids as channels make them, over each pair of stores and on each tier."""

from __future__ import annotations

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.operations import erasure
from tests.channel_ids import CHANNEL_IDS
from tests.contract.chat import Chat, named
from tests.contract.world import World

pytestmark = pytest.mark.parametrize("conversation_id", CHANNEL_IDS)


def test_such_a_conversation_is_answered_listed_and_erased(world: World, conversation_id: str) -> None:
    key = world.key = ConversationKey("default", conversation_id)
    world.posts("m0")
    world.posts("m1")
    assert [lock.key for lock in world.tier.locks("default")] == [key]
    world.settles()
    assert world.answered("m0 m1")
    world.checked()
    listed = world.archive.jobs("default", status=None, conversation_id=conversation_id, behind=None, most=10)
    assert [job.key for job in listed] == [key]
    erasure.erase(world.tiers, world.archive, key)
    assert world.archive.conversation(key) is None


def test_the_sweep_and_the_index_of_unarchived_ends_name_it_in_full(chat: Chat, conversation_id: str) -> None:
    key = chat.key = ConversationKey("clinic", conversation_id)
    other = Chat(chat.tier, chat.clock, ConversationKey("clinic", f"{conversation_id}."))
    job_id = chat.says(named("m0")).job_id
    other.says(named("m0"))
    chat.clock.advance(3600)
    assert {job.key for job in chat.tier.sweep(older_than=60)} == {key, other.key}
    chat.claimed()
    chat.finish(None, chat.end(chat.head, reply="Rest.", unarchived=True))
    assert chat.tier.unarchived() == [(key, job_id)]
    assert chat.tier.erase(key, [job_id])
    assert chat.tier.unarchived() == []
    assert chat.tier.job(job_id) is None
    assert other.words(other.head) == ["text of m0"]
