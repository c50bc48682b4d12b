"""A run that fails ends its job visibly, over each pair of stores, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import NotFound
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.notices import failure_notice
from message_handler.intake.requests import parse_request
from tests.contract.stories import (
    on,
    told,
)
from tests.contract.world import (
    World,
)


class TestFailing:
    def test_an_ai_that_fails_fails_the_job_visibly(self, world: World) -> None:
        world.posts("m0", text="it hurts [fail]")
        world.settles()
        job = world.job(told(world, "m0"))
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert (job.error.code, job.reply) == ("ai_failed", None)
        assert world.end_of("m0").job_id == job.job_id
        assert world.replies() == []
        world.checked()

    def test_the_next_answer_sees_what_failed(self, world: World) -> None:
        world.posts("m0", text="it hurts [fail]")
        world.settles()
        world.posts("m1")
        world.settles()
        assert [turn.content for turn in world.ai.prompts[-1].context] == ["it hurts [fail]"]
        assert world.answered("m1")
        world.checked()

    def test_a_message_that_comes_meanwhile_is_not_failed_unheard(self, world: World) -> None:
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.posts("m0", text="[fail]")
        world.settles()
        assert [len(prompt.messages) for prompt in world.ai.prompts] == [1, 2]
        world.checked()

    def test_a_failed_message_is_not_tried_again(self, world: World) -> None:
        world.posts("m0", text="[fail]")
        world.settles()
        world.posts("m0")
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_the_ai_gets_what_is_left_of_the_run(self, world: World) -> None:
        world.posts("m0")
        world.delivers(seconds=20)
        assert world.ai.prompts[0].timeout == 15
        world.posts("m1")
        world.delivers(world.queue.next())
        assert world.ai.prompts[1].timeout == world.settings.ai_timeout

    def test_without_time_the_ai_is_not_called(self, world: World) -> None:
        world.posts("m0")
        world.delivers(seconds=5)
        job = world.job(told(world, "m0"))
        assert job.error is not None
        assert job.error.code == "deadline_exceeded"
        assert world.ai.prompts == []
        world.checked()

    def test_a_bot_that_is_gone_fails_the_job(self, world: World) -> None:
        class NoBots(BotConfigService):
            def config_of_job(self, job: Job) -> dict[str, Any]:
                raise NotFound("there is no such bot", field="bot_id")

        world.posts("m0")
        bots = NoBots(world.tiers, world.archive, world.settings, world.clock)
        world.worker = replace(world.worker, bots=bots)
        world.delivers()
        job = world.job(told(world, "m0"))
        assert job.error is not None
        assert job.error.code == "bot_unavailable"
        assert job.error.notice == failure_notice(bots.default)
        world.checked()

    def test_characters_that_can_not_be_stored_are_left_out_of_a_reply(self, world: World) -> None:
        class Rude:
            def complete(self, prompt: Prompt, watch: Watch) -> Completion:
                return Completion('["text\x00 of m0"]\ud800')

        world.posts("m0")
        world.worker = replace(world.worker, ai=lambda _: Rude())
        world.delivers()
        assert world.job(told(world, "m0")).reply == '["text of m0"]?'

    def test_an_unforeseen_error_of_the_ai_fails_the_job_visibly(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", lambda: 1 / 0)
        world.delivers()
        error = world.end_of("m0").error
        assert error is not None
        assert error.code == "ai_failed"
        world.checked()

    def test_a_finished_reply_is_not_given_up_for_a_run_that_could_not_end_in_time(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.delivers(seconds=world.settings.ai_timeout + 2)
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_one_utterance_under_two_ids_is_committed_once(self, world: World) -> None:
        """The tier forgets. The platform's retry comes under the id that older records know as an alias."""
        unnamed = parse_request({"messages": [{"role": "user", "content": "text of given"}]})
        world.intake.handle(world.key, unnamed)
        world.posts("given")
        world.tier_lost()
        world.posts("given")
        # The second record comes first. It knows the utterance under both ids.
        world.delivers(world.queue.waiting[1])
        world.settles()
        assert world.answered("given")
        world.checked()
