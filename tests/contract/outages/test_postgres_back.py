"""Replies that were given while Postgres was away reach it soon after it is back, in virtual time."""

from __future__ import annotations

import pytest

from message_handler.ports.archive import ERASURE_MARGIN
from message_handler.worker.rescue import RECORD_SECONDS
from message_handler.worker.worker import Worker
from tests.contract.stories import (
    dies,
    is_away,
    on,
)
from tests.contract.world import World, archive_records, records


class TestPostgresIsBack:
    """Replies from the outage must reach Postgres soon, because Redis may be lost next."""

    def answers_without_it(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        outcome = world.delivers()
        assert outcome is not None
        assert [job.unarchived for job in outcome.ended] == [True]

    def is_answered_once_though_redis_is_lost(self, world: World) -> None:
        world.tier_lost()
        world.settles()
        assert [prompt.messages[0].message_id for prompt in world.ai.prompts].count("m0") == 1
        assert world.end_of("m0").job_id == world.told["m0"][0]
        world.checked()

    def test_the_next_record_brings_an_unarchived_end_to_postgres(self, world: World) -> None:
        self.answers_without_it(world)
        world.clock.advance(5)
        world.postgres(away=False)
        world.posts("m1")
        world.delivers(records(world)[-1])
        self.is_answered_once_though_redis_is_lost(world)

    def test_an_unarchived_end_reaches_postgres_before_the_next_record_is_worked_on(self, world: World) -> None:
        """The reply does not wait for the AI, which may take half a minute."""
        self.answers_without_it(world)
        world.clock.advance(5)
        world.postgres(away=False)
        world.posts("m1")
        on(world, "before", "ai.complete", dies)
        world.delivers(records(world)[-1])
        assert world.answered("m0")

    def test_without_traffic_the_sweep_brings_an_unarchived_end_to_postgres(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)
        world.sweeps()
        assert world.answered("m0")
        assert world.tier.unarchived() == []
        self.is_answered_once_though_redis_is_lost(world)

    def test_an_archive_record_comes_back_until_postgres_has_the_end(self, world: World) -> None:
        self.answers_without_it(world)
        until = world.clock() + 100
        while world.clock() < until:
            (waiting,) = archive_records(world)
            assert waiting.visible_at - world.clock() <= RECORD_SECONDS
            outcome = world.delivers(waiting)
            assert outcome is not None
            assert outcome.retry_in is None
            assert waiting.receives == 1
        world.tier_lost()
        world.postgres(away=False)
        world.delivers(archive_records(world)[0])
        assert world.answered("m0")
        assert not archive_records(world)
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_an_archive_record_that_can_not_be_sent_anew_stays(self, world: World) -> None:
        self.answers_without_it(world)
        on(world, "before", "queue.send", is_away)
        outcome = world.delivers(archive_records(world)[0])
        assert outcome is not None
        assert outcome.retry_in is not None
        assert len(archive_records(world)) == 1
        world.postgres(away=False)
        world.settles().checked()

    @pytest.mark.parametrize("step", ["archive.archive", "tier.archived"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_process_that_dies_while_it_pushes_loses_and_doubles_nothing(
        self, world: World, side: str, step: str
    ) -> None:
        self.answers_without_it(world)
        world.clock.advance(5)
        world.postgres(away=False)
        on(world, side, step, dies)
        world.sweeps()
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        assert world.tier.unarchived() == []
        world.checked()

    def test_two_processes_that_push_the_same_end_archive_it_once(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)

        def another() -> None:
            with world.steps.silently():
                worker = world.worker
                other = Worker(
                    worker.tiers,
                    worker.archive,
                    worker.queue,
                    worker.bots,
                    worker.ai,
                    worker.settings,
                    worker.clock,
                )
                assert other.rescue.push(world.clock() + 1) == 1

        on(world, "before", "archive.archive", another)
        world.sweeps()
        assert world.answered("m0")
        world.settles().checked()

    def test_an_end_that_was_erased_meanwhile_is_not_archived(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)
        world.clock.advance(2 * ERASURE_MARGIN)
        world.archive.erase(world.key)
        world.sweeps()
        assert world.archive.conversation(world.key) is None
        assert world.tier.unarchived() == []
        assert world.tier.job(world.told["m0"][0]) is None
