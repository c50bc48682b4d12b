"""A worker that paused past its lease commits nothing, over each pair of stores, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from message_handler.domain.jobs import JobStatus
from message_handler.protocol.results import Claim
from tests.contract.stories import (
    dies,
    on,
    told,
)
from tests.contract.world import (
    Side,
    World,
)


class TestAStaleWorker:
    """A worker that paused past its lease comes back and commits nothing (invariant 3)."""

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize(
        "step", ["archive.fence", "tier.adopt", "ai.complete", "tier.seal", "archive.commit", "tier.finish"]
    )
    def test_wherever_a_worker_paused_there_is_one_reply(self, world: World, side: Side, step: str) -> None:
        on(world, side, step, world.worker_pauses)
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_the_fence_refuses_a_stale_worker_after_the_others_commit(self, world: World) -> None:
        committed: list[bool] = []
        watch = world.steps.watch

        def see(name: str, arguments: tuple[Any, ...], result: Any) -> None:
            watch(name, arguments, result)
            if name == "archive.commit":
                committed.append(bool(result))

        world.steps.watch = see
        on(world, "before", "archive.commit", world.worker_pauses)
        world.posts("m0")
        world.settles()
        assert committed == [True, False]
        assert len(world.ai.prompts) == 2
        world.checked()

    def test_the_fence_refuses_a_stale_worker_before_the_others_commit(self, world: World) -> None:
        """The other worker has only taken its own fence yet."""
        on(world, "before", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        with world.steps.silently():
            head = world.tier.waiting(world.key)
            assert head is not None
            late = replace(head, status=JobStatus.COMPLETED, reply='["too late"]', finished_at=world.clock())
            assert late.sealed
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        answers: list[bool] = []
        on(world, "before", "ai.complete", lambda: answers.append(bool(world.archive.commit(late, 1))))
        world.settles()
        assert answers == [False]
        assert world.answered("m0")
        world.checked()

    @pytest.mark.parametrize(
        ("step", "never"),
        [
            ("tier.adopt", "ai.complete"),
            ("tier.heartbeat", "tier.seal"),
            ("tier.seal", "archive.commit"),
            ("tier.finish", ""),
        ],
    )
    def test_a_stale_worker_leaves_its_successors_claim_alone(self, world: World, step: str, never: str) -> None:
        def successor_claims() -> None:
            world.clock.advance(world.settings.heartbeat_stale + 1)
            with world.steps.silently():
                assert isinstance(world.tier.claim(world.key, "successor"), Claim)

        on(world, "before", step, successor_claims)
        world.posts("m0")
        world.delivers()
        assert never not in world.steps.names
        with world.steps.silently():
            head = world.tier.waiting(world.key)
            assert head is not None
            assert not head.sealed
            assert world.tier.owner(world.key, "successor") == head.job_id
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_worker_whose_lock_an_operator_released_commits_nothing(self, world: World) -> None:
        on(world, "after", "tier.seal", world.releases)
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert world.replies() == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_job_that_was_not_committed_has_not_ended_in_the_tier_either(self, world: World) -> None:
        """The worker still owns the lock, but the fence was raised."""
        on(world, "after", "tier.seal", lambda: world.archive.raise_fence(world.key))
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        with world.steps.silently():
            head = world.tier.waiting(world.key)
        assert head is not None
        assert head.job_id == told(world, "m0")
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_redis_that_was_rolled_back_changes_nothing(self, world: World) -> None:
        """A promoted replica still has the job as sealed and leased, although it was finished."""
        world.posts("m0")
        on(world, "after", "tier.seal", world.tier_lost)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_stale_worker_does_not_answer_again_what_another_job_answered(self, world: World) -> None:
        """The tier is lost, and the platform sends m0 again. Two jobs have the message, and there is one reply."""

        def another_answers() -> None:
            world.tier_lost()
            world.posts("m0")
            world.delivers(world.queue.waiting[-1])
            assert world.answered("m0")

        on(world, "before", "archive.commit", another_answers)
        world.posts("m0")
        world.delivers(world.queue.waiting[0])
        assert world.answered("m0")
        assert len(world.ai.prompts) == 2
        world.settles().checked()
