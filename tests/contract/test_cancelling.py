"""A job is cancelled, whatever goes wrong meanwhile, over each pair of stores, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.domain.errors import Conflict, Unavailable
from message_handler.domain.jobs import JobStatus
from tests.contract.stories import (
    dies,
    is_away,
    on,
    told,
)
from tests.contract.world import (
    Crash,
    World,
)


class TestCancel:
    def test_a_pending_job_is_never_run(self, world: World) -> None:
        world.posts("m0")
        job = world.cancels(told(world, "m0"))
        assert job is not None
        assert world.jobs.view(job)["status"] == "cancelled"
        world.settles()
        assert world.ai.prompts == []
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_running_ai_is_stopped_and_nothing_is_committed(self, world: World) -> None:
        world.posts("m0")
        before = world.clock()
        on(world, "before", "ai.complete", lambda: world.cancels(told(world, "m0")))
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.clock() - before == 1
        assert "tier.seal" not in world.steps.names
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_cancel_that_is_noticed_at_the_seal_commits_nothing(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "tier.heartbeat", lambda: world.cancels(told(world, "m0")))
        world.delivers()
        assert "archive.commit" not in world.steps.names
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_cancel_that_was_only_begun_is_noticed_at_the_seal(self, world: World) -> None:
        def begins() -> None:
            on(world, "after", "tier.cancel", dies)
            world.cancels(told(world, "m0"))

        world.posts("m0")
        on(world, "after", "tier.heartbeat", begins)
        world.delivers()
        assert "archive.commit" not in world.steps.names
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_sealed_job_is_answered(self, world: World) -> None:
        world.posts("m0")
        refused: list[Any] = []
        on(world, "after", "tier.seal", lambda: refused.append(world.cancels(told(world, "m0"))))
        world.delivers()
        assert refused == [None]
        assert world.answered("m0")
        world.checked()

    def test_an_ended_job_stays_as_it_is(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        assert world.cancels(told(world, "m0")) is None
        assert world.checked().job(told(world, "m0")).status is JobStatus.COMPLETED

    def test_a_job_that_waits_is_cancelled_before_its_turn(self, world: World) -> None:
        on(
            world,
            "after",
            "tier.seal",
            lambda: world.posts("m1"),
            lambda: world.cancels(told(world, "m1")),
        )
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        assert world.end_of("m1").status is JobStatus.CANCELLED
        world.checked()

    def test_a_job_that_waits_behind_a_cancelled_one_is_woken(self, world: World) -> None:
        def cancel_and_die() -> None:
            world.posts("m1")
            raise Crash

        on(world, "after", "tier.seal", cancel_and_die)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        sent = len(world.queue.sent)
        assert world.cancels(told(world, "m0")) is not None
        assert [record.job_id for record, _ in world.queue.sent[sent:]] == [told(world, "m1")]
        world.settles()
        assert world.answered("m1")
        world.checked()

    def test_a_worker_completes_a_cancel_that_was_begun(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "tier.cancel", dies)
        assert world.cancels(told(world, "m0")) is None
        world.settles()
        assert world.ai.prompts == []
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_cancel_without_postgres_is_unknown_and_completes_later(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "archive.cancel", is_away)
        assert world.cancels(told(world, "m0")) is None
        world.settles()
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_job_whose_messages_another_answered_does_not_hold_the_line(self, world: World) -> None:
        """There is nothing left to cancel. The job ends all the same, and the next message is answered."""
        world.posts("m0")
        world.settles()
        world.tier_lost()
        world.posts("m0")
        assert world.cancels(told(world, "m0")) is None
        world.posts("m1")
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_a_message_that_joined_an_answered_job_can_be_cancelled(self, world: World) -> None:
        """J0{m0} was committed, its worker died, and m1 joined J0. Postgres settles m1, and the answer is `200`."""
        world.posts("m0")
        on(world, "after", "archive.commit", dies)
        world.delivers()
        world.lock_is_free()
        world.posts("m1")
        job = world.cancels(told(world, "m1"))
        assert job is not None
        assert job.status is JobStatus.COMPLETED
        world.steps.muted = True
        assert world.archive.settled_by(world.key, "m1") == job.job_id
        world.steps.muted = False
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1

    def test_a_message_after_a_cancel_is_answered_alone(self, world: World) -> None:
        on(
            world,
            "before",
            "ai.complete",
            lambda: world.cancels(told(world, "m0")),
            lambda: world.posts("m1"),
        )
        world.posts("m0")
        world.settles()
        assert world.answered("m1")
        assert [turn.content for turn in world.ai.prompts[-1].context] == ["text of m0"]
        world.checked()

    def test_a_message_after_the_beginning_of_a_cancel_is_answered(self, world: World) -> None:
        """J1 waits behind J0. Its cancel begins, the process dies, m2 joins J1, and a worker completes the cancel."""

        def begins() -> None:
            world.posts("m1")
            on(world, "after", "tier.cancel", dies)
            world.cancels(told(world, "m1"))
            world.posts("m2")

        on(world, "after", "tier.seal", begins)
        world.posts("m0")
        world.settles()
        assert world.answered("m0", "m2")
        assert world.end_of("m1").status is JobStatus.CANCELLED
        world.checked()

    def test_a_cancel_of_a_lost_job_is_unknown_because_its_record_brings_it_back(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", dies)
        world.delivers()
        world.tier_lost()
        with pytest.raises((Conflict, Unavailable)) as refused:
            world.jobs.cancel(told(world, "m0"))
        assert refused.type is Unavailable
        world.settles()
        assert world.answered("m0")
        world.checked()
