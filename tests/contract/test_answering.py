"""A message is accepted, run and answered once, over each pair of stores, in virtual time."""

from __future__ import annotations

import pytest

from message_handler.domain.conversations import Turn
from message_handler.domain.jobs import JobStatus
from message_handler.intake.requests import parse_request
from tests.contract.stories import (
    on,
    told,
)
from tests.contract.world import (
    AI_SECONDS,
    World,
)


class TestTheStraightPath:
    def test_a_message_is_answered_once(self, world: World) -> None:
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert [job.job_id for job in outcome.ended] == [told(world, "m0")]
        assert world.answered("m0")
        assert world.checked().job(told(world, "m0")).status is JobStatus.COMPLETED

    def test_the_steps_are_taken_in_the_protocols_order(self, world: World) -> None:
        world.posts("m0")
        world.delivers()
        assert [name for name in world.steps.names if name.split(".")[1] not in CONFIGURATION] == [
            "tier.accept",
            "queue.send",
            "tier.claim",  # it accepts the record again
            "archive.fence",
            "tier.adopt",
            "ai.complete",
            *["tier.heartbeat"] * AI_SECONDS,  # once a second, for the progress
            "tier.seal",
            "archive.commit",
            "tier.finish",
        ]

    def test_a_message_that_takes_the_lock_is_worked_on_at_once_and_one_that_joins_later(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        assert [delay for _, delay in world.queue.sent] == [0, world.settings.join_delay]

    def test_the_record_of_a_message_that_joined_costs_nothing(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        world.settles()
        assert world.answered("m0 m1")
        assert len(world.ai.prompts) == 1
        assert world.most_receives == 1
        world.checked()

    def test_the_ai_is_told_what_was_said_before(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.posts("m1")
        world.settles()
        before = (Turn("user", "text of m0", "m0"), Turn("assistant", '["text of m0"]'))
        assert world.ai.prompts[-1].context == before
        assert [message.content for message in world.ai.prompts[-1].messages] == ["text of m1"]
        world.checked()

    def test_conversations_are_answered_in_the_order_of_their_messages(self, world: World) -> None:
        for number in range(5):
            world.posts(f"m{number}")
            world.settles()
        assert world.answered("m0", "m1", "m2", "m3", "m4")
        world.checked()


#: Methods that only read the configuration.
CONFIGURATION = ("bot_of", "cached", "cache", "configuration")


class TestWhileTheAIRuns:
    def test_a_message_that_joins_starts_the_run_again_and_one_reply_answers_all(self, world: World) -> None:
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.posts("m0")
        world.settles()
        assert world.answered("m0 m1")
        job = world.job(told(world, "m1"))
        assert told(world, "m0") == told(world, "m1")
        assert (job.restarts, len(job.messages), len(world.ai.prompts)) == (1, 2, 2)
        world.checked()

    def test_endless_typing_still_gets_an_answer(self, world: World) -> None:
        """A run restarts three times. Later messages wait for the next job, which the same worker runs."""
        limit = world.settings.max_restarts
        typed = iter(range(1, limit + 3))

        def types() -> None:
            if (number := next(typed, None)) is not None:
                world.posts(f"m{number}")
                on(world, "before", "ai.complete", types)

        on(world, "before", "ai.complete", types)
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert [job.restarts for job in outcome.ended] == [limit, 1]
        assert world.answered("m0 m1 m2 m3", "m4 m5")
        world.settles().checked()

    def test_a_message_after_the_seal_waits_for_the_next_job(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert [job.job_id for job in outcome.ended] == [told(world, "m0"), told(world, "m1")]
        assert told(world, "m0") != told(world, "m1")
        assert world.answered("m0", "m1")
        world.settles().checked()

    def test_with_too_little_time_left_the_next_job_gets_one_record(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0")
        before = len(world.queue.sent)
        outcome = world.delivers(seconds=60 + AI_SECONDS - 1)
        assert outcome is not None
        assert [job.job_id for job in outcome.ended] == [told(world, "m0")]
        records = [(record.job_id, delay) for record, delay in world.queue.sent[before:]]
        assert records == [(told(world, "m1"), world.settings.join_delay), (told(world, "m1"), 0)]
        assert world.answered("m0")
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_with_just_enough_left_the_same_worker_runs_it(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0")
        world.delivers(seconds=60 + AI_SECONDS)
        assert world.answered("m0", "m1")
        world.settles().checked()

    def test_a_late_id_of_a_message_is_settled_with_it(self, world: World) -> None:
        """The platform sends the message without an id, and again with one while the AI answers."""
        request = parse_request({"messages": [{"role": "user", "content": "text of m0"}]})
        on(world, "before", "ai.complete", lambda: world.posts("m0"))
        world.intake.handle(world.key, request)
        world.settles()
        assert world.answered("m0")
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    @pytest.mark.parametrize("step", ["ai.complete", "tier.heartbeat", "tier.seal"])
    def test_a_worker_that_lost_its_lock_commits_nothing(self, world: World, step: str) -> None:
        world.posts("m0")
        on(world, "before", step, lambda: world.releases())
        outcome = world.delivers(world.queue.next())
        assert outcome is not None
        assert outcome.ended == ()
        assert outcome.retry_in is not None
        assert world.replies() == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_lost_lock_ends_the_ai_call(self, world: World) -> None:
        world.posts("m0")
        before = world.clock()
        on(world, "before", "ai.complete", lambda: world.releases())
        world.delivers(world.queue.next())
        assert "tier.seal" not in world.steps.names
        assert world.clock() - before == 1  # this AI calls `watch` once a second
