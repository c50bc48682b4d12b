"""The sweep, or an operator, moves a waiting conversation on, over each pair of stores, in virtual time."""

from __future__ import annotations

import uuid

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.messages import Message, Request
from message_handler.operations import sweeping
from message_handler.queue.codec import MAX_RECORD_BYTES
from tests.contract.stories import (
    dies,
    is_away,
    on,
)
from tests.contract.world import (
    World,
)


class TestTheSweep:
    def test_a_silent_workers_conversation_gets_one_record(self, world: World) -> None:
        on(world, "before", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        sent = len(world.queue.sent)
        world.clock.advance(world.settings.heartbeat_stale)
        assert (world.sweeps(), world.sweeps()) == (1, 0)
        assert [record.message_id for record, _ in world.queue.sent[sent:]] == ["m0"]
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_job_that_waits_without_a_record_is_woken_within_a_minute(self, world: World) -> None:
        world.posts("m0")
        world.queue.waiting.clear()
        world.clock.advance(world.settings.wake_after)
        assert world.sweeps() == 1
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_an_idle_conversation_is_left_alone(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.clock.advance(3600)
        assert world.sweeps() == 0

    def test_one_record_that_is_too_large_does_not_keep_the_others_asleep(self, world: World) -> None:
        with world.steps.silently():
            for number in range(3):
                key = ConversationKey("default", f"other-{number}")
                content = "x" * (MAX_RECORD_BYTES if number == 1 else 1)
                request = Request(key, (Message(uuid.uuid4().hex, content),), (), "default")
                world.tier.accept(request, job_id=key.new_job_id(), lock_id="lock")
        world.clock.advance(world.settings.wake_after)
        sweeping.sweep(world.tiers, world.queue)
        woken = {record.request.key.conversation_id for record, _ in world.queue.sent}
        assert woken == {"other-0", "other-2"}

    def test_a_refused_record_does_not_keep_the_others_asleep(self, world: World) -> None:
        with world.steps.silently():
            for number in range(3):
                key = ConversationKey("default", f"other-{number}")
                request = Request(key, (Message(uuid.uuid4().hex, "text"),), (), "default")
                world.tier.accept(request, job_id=key.new_job_id(), lock_id="lock")
        world.clock.advance(world.settings.wake_after)
        on(world, "before", "queue.send", is_away)
        with pytest.raises(Unavailable):
            sweeping.sweep(world.tiers, world.sender)
        assert len(world.queue.sent) == 2

    def test_a_released_conversation_gets_one_record(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", dies)
        world.delivers()
        sent = len(world.queue.sent)
        assert world.releases()
        assert len(world.queue.sent) == sent + 1
        world.settles()
        assert world.answered("m0")
        assert not world.releases()
        world.checked()

    def test_without_postgres_nothing_is_released(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "archive.raise_fence", is_away)
        assert not world.releases()
        assert "tier.force_release" not in world.steps.names
