"""The service runs without a database, in virtual time."""

from __future__ import annotations

import pytest

from message_handler.archive.none import NoArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.settings import Settings
from tests.contract.chat import Clock
from tests.contract.outages.conftest import named_tier
from tests.contract.world import World, archive_records


class TestWithoutPostgres:
    """DATABASE_URL is unset: only the tier guards the replies and remembers them."""

    @pytest.fixture
    def world(self, settings: Settings) -> World:
        clock = Clock()
        tier = named_tier("redis", settings, clock)
        return World(tier, NoArchive(), lambda _: None, clock, settings, ConversationKey("default", "patient"))

    def test_messages_are_answered_once_and_their_records_deleted(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        world.settles()
        assert not world.queue.waiting
        assert not archive_records(world)
        assert len(world.ai.prompts) == 1
        job = world.job(world.told["m0"][0])
        assert (job.status, job.unarchived) == (JobStatus.COMPLETED, False)

    def test_an_unknown_job_is_unknown_and_not_away(self, world: World) -> None:
        assert world.cancels(world.key.new_job_id()) is None

    def test_a_cancel_is_refused_and_the_conversation_goes_on(self, world: World) -> None:
        world.posts("m0")
        with pytest.raises(Unavailable):
            world.jobs.cancel(world.told["m0"][0])
        world.posts("m1")
        world.settles()
        assert world.job(world.told["m1"][0]).status is JobStatus.COMPLETED
