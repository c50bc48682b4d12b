"""A failed record comes back after ever longer pauses. At its last delivery its job fails visibly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from message_handler.domain.errors import Contended
from message_handler.domain.jobs import JobStatus
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from tests.contract.stories import (
    is_away,
    on,
)
from tests.contract.world import World


class TestBackOff:
    @pytest.mark.parametrize("stale", [8.0, 60.0])
    def test_a_record_waits_ever_longer_for_a_store_however_soon_a_dead_worker_is_noticed(
        self, world: World, stale: float
    ) -> None:
        settings = world.settings.model_copy(update={"heartbeat_stale": stale})
        world.worker = replace(world.worker, settings=settings)
        world.posts("m0")
        (delivery,) = world.queue.waiting
        backs = []
        for receives in range(1, MAX_RECEIVE_COUNT + 1):
            on(world, "before", "archive.settled_by", is_away)
            on(world, "before", "archive.fence", is_away)
            on(world, "before", "tier.seal", is_away)
            backs.append(world.worker.process(delivery.record, world.clock() + 120, receives).retry_in)
            world.clock.advance(61)
        assert backs == [16, 64, 256, 720, 720]

    def test_a_record_of_a_contended_conversation_comes_back_soon(self, world: World) -> None:
        def contended() -> None:
            raise Contended

        world.posts("m0")
        (delivery,) = world.queue.waiting
        on(world, "before", "tier.claim", contended)
        assert world.worker.process(delivery.record, world.clock() + 120, 2).retry_in == 20


class TestPoison:
    def test_at_the_last_delivery_a_records_job_fails_visibly_and_the_lock_is_free(self, world: World) -> None:
        def breaks() -> None:
            raise ZeroDivisionError

        world.posts("m0")
        (delivery,) = world.queue.waiting
        for delivered in range(1, MAX_RECEIVE_COUNT + 1):
            world.clock.advance(world.settings.heartbeat_stale + 1)
            on(world, "before", "archive.fence", breaks)
            with pytest.raises(ZeroDivisionError):
                world.worker.process(delivery.record, world.clock() + 60, delivered)
        end = world.end_of("m0")
        assert end.status is JobStatus.FAILED
        assert end.error is not None
        assert end.error.code == "processing_failed"
        counted: list[str] = []
        world.worker.meter.publish(lambda name, *_: counted.append(name))
        assert (counted.count("JobsFailed"), counted.count("RecordsPoisoned")) == (1, 1)
        assert not any(world.tiers.each(lambda tier: tier.lock(world.key)))

    def test_before_its_last_delivery_a_record_is_tried_again(self, world: World) -> None:
        def breaks() -> None:
            raise ZeroDivisionError

        world.posts("m0")
        on(world, "before", "archive.fence", breaks)
        with pytest.raises(ZeroDivisionError):
            world.worker.process(world.queue.waiting[0].record, world.clock() + 60, MAX_RECEIVE_COUNT - 1)
        world.clock.advance(world.settings.heartbeat_stale + 1)
        world.delivers()
        assert world.answered("m0")
