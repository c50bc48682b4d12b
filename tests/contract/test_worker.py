"""What happens to a record, whatever goes wrong: over each pair of stores, in virtual time.

The numbers of the counterexamples are those of the protocol's own list.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.bot_config import BotConfigService
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.errors import Conflict, NotFound, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.notices import failure_notice
from message_handler.domain.records import Record
from message_handler.intake.requests import parse_request
from message_handler.jobs import BackgroundJobManager
from message_handler.operations import sweeping
from message_handler.ports.archive import Committed
from message_handler.protocol.results import Claim, ClaimRefused
from message_handler.queue.codec import MAX_RECORD_BYTES
from message_handler.queue.timing import retry_delay
from message_handler.worker.run import RunResult
from tests.contract.stories import (
    Event,
    Story,
    cancelling,
    dies,
    failing,
    following,
    happens,
    is_away,
    joining,
    moments_of,
    on,
    straight,
    told,
)
from tests.contract.world import (
    AI_SECONDS,
    Crash,
    Side,
    World,
    last_message,
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

    def test_its_steps_stand_in_the_protocols_order(self, world: World) -> None:
        world.posts("m0")
        world.delivers()
        assert [name for name in world.steps.names if name.split(".")[1] not in CONFIGURATION] == [
            "tier.accept",
            "queue.send",
            "tier.claim",  # which accepts the record again
            "archive.fence",
            "tier.adopt",
            "ai.complete",
            *["tier.heartbeat"] * AI_SECONDS,  # once a second, for the progress
            "tier.seal",
            "archive.commit",
            "tier.finish",
        ]

    def test_who_takes_the_lock_is_worked_on_at_once_and_who_joins_later(self, world: World) -> None:
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


#: Methods that only ask how things are.
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
        """Three restarts; what comes later waits for the next job, which the same worker runs."""
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
        """The platform hands in `hello` without an id, and with one while the answer is being made."""
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
        assert world.clock() - before == 1  # at its first look, of which this AI takes one a second


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

    def test_a_reply_that_can_not_be_stored_whole_is_stored_without_that(self, world: World) -> None:
        class Rude:
            def complete(self, prompt: Prompt, watch: Watch) -> Completion:
                return Completion('["text\x00 of m0"]\ud800')

        world.posts("m0")
        world.worker = replace(world.worker, ai=lambda _: Rude())
        world.delivers()
        assert world.job(told(world, "m0")).reply == '["text of m0"]?'

    def test_an_error_of_the_ai_that_nobody_foresaw_fails_the_job_visibly(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", lambda: 1 / 0)
        world.delivers()
        error = world.end_of("m0").error
        assert error is not None
        assert error.code == "ai_failed"
        world.checked()

    def test_a_reply_in_the_hand_is_not_given_up_for_a_run_that_could_not_end_in_time(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.delivers(seconds=world.settings.ai_timeout + 2)
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_one_utterance_under_two_ids_is_committed_once(self, world: World) -> None:
        """The tier forgets, the platform's retry comes under the id that older records have as an alias."""
        unnamed = parse_request({"messages": [{"role": "user", "content": "text of given"}]})
        world.intake.handle(world.key, unnamed)
        world.posts("given")
        world.tier_lost()
        world.posts("given")
        # The second record first: it knows the utterance under both ids.
        world.delivers(world.queue.waiting[1])
        world.settles()
        assert world.answered("given")
        world.checked()


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

    def test_one_that_is_noticed_at_the_seal_commits_nothing_either(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "tier.heartbeat", lambda: world.cancels(told(world, "m0")))
        world.delivers()
        assert "archive.commit" not in world.steps.names
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_one_that_was_only_begun_is_noticed_at_the_seal(self, world: World) -> None:
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

    def test_what_waits_behind_it_is_woken(self, world: World) -> None:
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

    def test_one_that_was_begun_is_brought_to_its_end_by_a_worker(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "tier.cancel", dies)
        assert world.cancels(told(world, "m0")) is None
        world.settles()
        assert world.ai.prompts == []
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_one_without_postgres_is_unknown_and_comes_to_its_end(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "archive.cancel", is_away)
        assert world.cancels(told(world, "m0")) is None
        world.settles()
        assert world.end_of("m0").status is JobStatus.CANCELLED
        world.checked()

    def test_a_job_whose_messages_another_answered_does_not_hold_the_line(self, world: World) -> None:
        """Nothing is left to cancel: the job ends all the same, and what comes next is answered."""
        world.posts("m0")
        world.settles()
        world.tier_lost()
        world.posts("m0")
        assert world.cancels(told(world, "m0")) is None
        world.posts("m1")
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_what_joined_an_answered_job_can_be_cancelled(self, world: World) -> None:
        """J0{m0} was committed, its worker died, m1 joined J0: Postgres settles what is open, and says `200`."""
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

    def test_what_comes_after_it_is_answered_alone(self, world: World) -> None:
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

    def test_what_came_after_it_had_begun_is_answered(self, world: World) -> None:
        """J1 waits behind J0: its cancel begins, the canceller dies, m2 joins J1, a worker completes the cancel."""

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

    def test_one_that_the_tier_lost_is_unknown_for_its_record_brings_it_back(self, world: World) -> None:
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


class TestAStaleWorker:
    """Paused past its lease, it comes back and commits nothing (invariant 3)."""

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize(
        "step", ["archive.fence", "tier.adopt", "ai.complete", "tier.seal", "archive.commit", "tier.finish"]
    )
    def test_wherever_it_paused_there_is_one_reply(self, world: World, side: Side, step: str) -> None:
        on(world, side, step, world.worker_pauses)
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_the_fence_refuses_it_after_the_others_commit(self, world: World) -> None:
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

    def test_the_fence_refuses_it_before_the_others_commit(self, world: World) -> None:
        """The other has only just taken its own fence."""
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
    def test_it_leaves_the_claim_of_its_successor_alone(self, world: World, step: str, never: str) -> None:
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

    def test_so_does_a_release_by_an_operator(self, world: World) -> None:
        on(world, "after", "tier.seal", world.releases)
        world.posts("m0")
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert world.replies() == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_what_was_not_committed_has_not_ended_in_the_tier_either(self, world: World) -> None:
        """The lock is its own still, but the fence has been raised."""
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
        """A promoted replica still says `sealed, held` although the job was finished."""
        world.posts("m0")
        on(world, "after", "tier.seal", world.tier_lost)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_it_does_not_answer_again_what_another_job_answered(self, world: World) -> None:
        """The tier is lost, and the platform sends m0 again: two jobs for one message, and one reply."""

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


class TestCounterexamples:
    def test_1_a_duplicate_sends_the_record_again(self, world: World) -> None:
        """Intake accepts and dies before the send; the platform tries again and is told `202`."""
        on(world, "after", "tier.accept", dies)
        assert world.posts("m0", tries=1) is None
        assert world.queue.sent == []
        answer = world.posts("m0")
        assert answer is not None
        assert answer["duplicate"] is True
        assert [record.message_id for record, _ in world.queue.sent] == ["m0"]
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_2_what_joined_an_answered_job_is_answered_by_its_successor(self, world: World) -> None:
        """A worker commits J0{m0} and dies before the finish; m1 joins J0."""
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.lock_is_free()
        world.posts("m1")
        assert told(world, "m1") == told(world, "m0")
        world.settles()
        assert world.answered("m0", "m1")
        first = world.job(told(world, "m0"))
        assert (first.status, first.reply) == (JobStatus.COMPLETED, '["text of m0"]')
        assert first.superseded_by == world.end_of("m1").job_id
        assert [len(prompt.messages) for prompt in world.ai.prompts] == [1, 1]
        world.checked()

    def test_2_and_what_joins_before_the_sweep_too(self, world: World) -> None:
        on(world, "after", "archive.commit", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_2_and_what_joins_between_the_fence_and_the_finish_of_an_answered_job(self, world: World) -> None:
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        on(world, "after", "archive.fence", lambda: world.posts("m1"))
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.answered("m0", "m1")
        world.settles().checked()

    @pytest.mark.parametrize("woken_by", ["m0", "m1"])
    def test_3_any_record_wakes_the_head_of_the_line(self, world: World, woken_by: str) -> None:
        """J0 committed, m1 waits in J1, a release drops the lock: one record, either one, moves both."""
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.releases()
        record = next(d for d in world.queue.waiting if d.record.message_id == woken_by)
        world.queue.waiting = [record]
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.answered("m0", "m1")
        world.checked()

    def test_3_the_head_is_run_first_whatever_record_wakes(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        record = next(d for d in world.queue.waiting if d.record.message_id == "m1")
        world.queue.waiting = [record]
        world.delivers()
        assert world.answered("m0", "m1")
        world.checked()

    @pytest.mark.parametrize("step", ["tier.cancel", "archive.cancel", "tier.finish"])
    def test_4_a_cancelled_message_is_never_answered(self, world: World, step: str) -> None:
        """Cancelled, the tier is lost, and the record comes back."""
        world.posts("m0")
        on(world, "after", step, world.tier_lost)
        cancelled = world.cancels(told(world, "m0"))
        assert cancelled is not None
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert world.ai.prompts == []
        assert world.end_of("m0").job_id == cancelled.job_id
        world.checked()

    def test_5_a_job_that_the_tier_forgot_leads_to_the_answer(self, world: World) -> None:
        """m1 joins J0, which the tier forgets; m1 is sent again, and told and answered by another."""
        world.posts("m0")
        world.posts("m1")
        promised = told(world, "m1")
        world.tier_lost()
        world.posts("m1")
        assert told(world, "m1") != promised
        records = {d.record.job_id: d for d in world.queue.waiting}
        world.delivers(records[told(world, "m1")])
        world.settles()
        assert world.end_of("m1").job_id == told(world, "m1") != promised
        assert [job.job_id for job in world.chain(promised)][-1] == told(world, "m1")
        world.checked()

    def test_5_so_does_one_whose_accept_was_applied_but_unheard(self, world: World) -> None:
        on(world, "after", "tier.accept", is_away)
        world.posts("m0")
        world.tier_lost()
        world.settles()
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_6_a_later_record_brings_the_earlier_messages_along(self, world: World) -> None:
        """The tier is lost, and m1's record comes first."""
        world.posts("m0")
        world.posts("m1")
        world.tier_lost()
        latest = next(d for d in world.queue.waiting if d.record.message_id == "m1")
        world.delivers(latest)
        assert world.answered("m0 m1")
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_7_nobody_overtakes_who_waits_for_the_next_job(self, world: World) -> None:
        """J0 is sealed, m1 waits in J1; a crash, the sweep reopens J0, and m2 comes."""
        on(world, "after", "tier.seal", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        world.posts("m2")
        assert told(world, "m2") == told(world, "m1") != told(world, "m0")
        world.settles()
        assert world.answered("m0", "m1 m2")
        world.checked()

    def test_11_an_undo_leaves_what_another_request_was_promised(self, world: World) -> None:
        """The duplicate is told `202` before the first request's send is refused."""
        on(world, "before", "queue.send", lambda: world.posts("m0"), is_away)
        assert world.posts("m0", tries=1) is None
        job = world.job(told(world, "m0"))
        assert (job.status, len(job.messages)) == (JobStatus.PENDING, 1)
        world.settles()
        assert world.answered("m0")
        world.checked()


class TestIntake:
    def test_a_refused_record_leaves_nothing_behind(self, world: World) -> None:
        on(world, "before", "queue.send", is_away)
        assert world.posts("m0", tries=1) is None
        with world.steps.silently():
            assert world.tier.lock(world.key) is None
            assert world.archive.conversation(world.key) is None
        assert world.queue.sent == []

    def test_a_refused_newcomer_leaves_the_others(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "queue.send", is_away)
        assert world.posts("m1", tries=1) is None
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_late_beginning_of_what_was_answered_is_not_answered_again(self, world: World) -> None:
        """Without ids: its record stands for the message that was answered, not for one with a new name."""

        def posts(*contents: str) -> dict[str, Any]:
            turns = [{"role": "user", "content": content} for content in contents]
            return world.intake.handle(world.key, parse_request({"messages": turns}))

        first = posts("a", "b", "c")
        world.settles()
        late = posts("a", "b")
        assert (late["ai_job_id"], late["duplicate"]) == (first["ai_job_id"], True)
        assert len(world.queue.waiting) == 1
        world.settles()
        assert world.replies() == [["a", "b", "c"]]
        world.checked()

    def test_each_record_alone_can_redo_the_work(self, world: World) -> None:
        for number in range(4):
            world.posts(f"m{number}")
        for record, _ in world.queue.sent:
            pending = [message.message_id for message in record.request.messages]
            assert pending == [f"m{n}" for n in range(int(record.message_id[1:]) + 1)]

    def test_a_newcomer_that_is_undone_under_the_workers_hands_is_not_answered(self, world: World) -> None:
        """J0{m0} was committed and its worker died; m1 joins, the next worker fences, m1's record is refused."""
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.lock_is_free()

        def joins() -> None:
            with world.steps.silently():
                again = world.queue.sent[0][0]
                assert isinstance(again, Record)
                world.tier.accept_again(again.request, job_id=again.job_id, spare_id=world.key.new_job_id())
                request = Request(world.key, (Message("m1", "text of m1", given=True),), (), "default")
                world.tier.accept(request, job_id=world.key.new_job_id(), lock_id="m1")

        on(world, "before", "tier.claim", joins)
        on(world, "after", "archive.fence", lambda: world.tier.undo(world.key, ["m1"]))
        world.contents["m1"] = "text of m1"
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        end = world.chain(told(world, "m0"))[-1]
        assert (end.status, end.messages) == (JobStatus.CANCELLED, ())
        world.checked()


class TestRecords:
    def test_one_is_kept_until_its_own_message_is_settled(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0")
        world.delivers(seconds=60)
        assert world.answered("m0")
        assert {d.record.message_id for d in world.queue.waiting} == {"m1"}
        world.settles()
        assert world.answered("m0", "m1")

    def test_one_is_kept_whatever_the_tier_says_about_its_job(self, world: World) -> None:
        """The tier calls J0 ended, but Postgres knows nothing of m0: forget it there, and begin again."""
        world.posts("m0")
        with world.steps.silently():
            claim = world.tier.claim(world.key, "another")
            assert isinstance(claim, Claim)
            ended = replace(claim.job, status=JobStatus.COMPLETED, reply="[]", finished_at=world.clock())
            assert world.tier.finish(world.key, "another", ended).done
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in == retry_delay(1)
        world.delivers()
        assert world.answered("m0")
        world.checked()

    def test_one_that_is_refused_comes_back_after_the_holders_deadline(self, world: World) -> None:
        world.posts("m0")
        with world.steps.silently():
            claim = world.tier.claim(world.key, "another")
        assert isinstance(claim, Claim)
        world.clock.advance(world.settings.heartbeat_every)
        outcome = world.delivers()
        assert outcome is not None
        assert (outcome.retry_in, outcome.ended) == (world.settings.run_seconds - world.settings.heartbeat_every, ())

    def test_one_that_comes_before_the_claim_of_its_dead_worker_is_stale_waits_for_that(self, world: World) -> None:
        """It died right after a heartbeat, and a while after its record was hidden the last time."""
        world.posts("m0")
        on(world, "after", "tier.seal", dies)
        (delivery,) = world.queue.waiting
        world.delivers()
        died, stale = world.clock(), world.settings.heartbeat_stale
        delivery.visible_at = died + stale - 0.5
        outcome = world.delivers()
        assert (outcome and outcome.retry_in, world.most_receives) == (None, 2)
        assert world.answered("m0")
        assert world.clock() <= died + stale + AI_SECONDS + 1
        world.checked()

    def test_it_does_not_wait_for_a_holder_that_only_was_slow_to_say_that_it_lives(self, world: World) -> None:
        world.posts("m0")
        with world.steps.silently():
            assert isinstance(world.tier.claim(world.key, "another"), Claim)
        world.clock.advance(world.settings.heartbeat_stale - 1)
        slept = world.clock()

        def sleep(seconds: float) -> None:
            world.clock.advance(seconds / 2)
            assert world.store.target.heartbeat(world.key, "another") == "valid"
            world.clock.advance(seconds / 2)

        world.worker = replace(world.worker, sleep=sleep)
        outcome = world.delivers()
        assert world.clock() == slept + 1
        assert outcome is not None
        assert outcome.retry_in == world.settings.run_seconds - world.settings.heartbeat_stale

    def test_a_heartbeat_that_did_not_get_through_is_sent_again_at_the_next_look(self, world: World) -> None:
        world.ai.tick = 0.5
        world.posts("m0")
        tried: list[float] = []

        def fails() -> None:
            tried.append(world.clock())
            if len(tried) < 3:
                on(world, "before", "tier.heartbeat", fails)
                is_away()

        on(world, "before", "tier.heartbeat", fails)
        world.delivers()
        assert [later - tried[0] for later in tried] == [0, 0.5, 1]
        assert world.answered("m0")

    def test_one_that_is_refused_is_deleted_if_its_own_message_is_settled(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        on(world, "after", "tier.finish", dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(1)
        with world.steps.silently():
            assert isinstance(world.tier.claim(world.key, "another"), Claim)
        backs = {}
        for delivery in list(world.queue.waiting):
            delivery.visible_at = world.clock()
            outcome = world.delivers(delivery)
            assert outcome is not None
            backs[delivery.record.message_id] = outcome.retry_in
        assert backs == {"m0": None, "m1": world.settings.run_seconds}

    def test_a_worker_that_gave_up_comes_back_when_its_own_claim_is_stale(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "tier.seal", is_away)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is not None
        world.clock.advance(outcome.retry_in)
        with world.steps.silently():
            assert not isinstance(world.tier.claim(world.key, "another"), ClaimRefused)

    def test_a_late_duplicate_costs_a_record_and_no_ai_call(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        first = told(world, "m0")
        world.clock.advance(2 * world.settings.job_ttl)
        world.posts("m0")
        assert told(world, "m0") != first
        world.settles()
        assert len(world.ai.prompts) == 1
        assert world.job(told(world, "m0")).superseded_by == first
        world.checked()

    def test_a_late_duplicates_record_leaves_the_run_of_another_message_alone(self, world: World) -> None:
        """J1 was made for a duplicate of m0 and answers m1: m0's second record must not end J1's successor."""
        world.posts("m0")
        world.settles()
        world.tier_lost()
        world.posts("m0")
        world.posts("m0")
        world.posts("m1")
        second = world.queue.waiting[1]
        second.visible_at = world.clock()
        on(world, "before", "ai.complete", lambda: world.delivers(second))
        world.delivers(world.queue.waiting[0])
        assert world.answered("m0", "m1")
        assert len(world.ai.prompts) == 2
        world.settles().checked()

    def test_a_duplicate_that_joins_between_the_fence_and_the_run_is_not_answered_again(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.tier_lost()
        on(world, "after", "archive.fence", lambda: world.posts("m0"))
        world.posts("m1")
        world.delivers()
        assert [[message.message_id for message in prompt.messages] for prompt in world.ai.prompts] == [["m0"], ["m1"]]
        assert world.answered("m0", "m1")
        world.settles().checked()

    def test_a_message_that_joins_between_the_fence_and_the_run_is_answered_in_it(self, world: World) -> None:
        on(world, "after", "archive.fence", lambda: world.posts("m1"))
        world.posts("m0")
        world.settles()
        assert world.answered("m0 m1")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_an_old_record_without_the_others_is_enough_for_its_own_message(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        world.tier_lost()
        for delivery in world.queue.waiting:
            delivery.record = last_message(delivery.record)
        world.settles()
        answered = [content for reply in world.replies() for content in reply]
        assert sorted(answered) == ["text of m0", "text of m1"]
        world.checked()

    def test_what_ended_is_reported_although_a_store_went_away_afterwards(self, world: World) -> None:
        """m1 waits for the next job; its record comes first, and there is no time left to answer m1 too."""
        on(world, "after", "tier.seal", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        on(world, "before", "archive.settled_by", is_away)
        outcome = world.delivers(world.queue.waiting[-1], seconds=60)
        assert outcome is not None
        assert outcome.retry_in is not None
        assert [job.job_id for job in outcome.ended] == [told(world, "m0")]
        world.settles().checked()

    def test_one_whose_message_was_just_committed_is_not_asked_about(self, world: World) -> None:
        world.posts("m0")
        assert world.delivers() is not None
        assert "archive.settled_by" not in world.steps.names
        world.checked()

    def test_one_that_was_promised_another_job_is_asked_about(self, world: World) -> None:
        """What it was promised must lead to what it got (counterexample 5)."""
        world.posts("m0")
        world.tier_lost()
        world.posts("m0")
        first, second = world.told["m0"]
        assert first != second
        world.delivers(world.queue.waiting[0])
        with world.steps.silently():
            promised = world.archive.job(world.key.platform_id, first)
        assert promised is not None
        assert promised.superseded_by == second
        world.settles().checked()

    def test_what_ended_is_known_to_have_settled_its_own_messages_under_its_own_name(self) -> None:
        key = ConversationKey("default", "patient")
        job = Job("J", key, JobStatus.COMPLETED, (Message("m0", "a", aliases=("a0",)), Message("m1", "b")), "default")
        ended = RunResult(job, committed=Committed())
        asked = [("J", "m0"), ("J", "a0"), ("J", "m1"), ("J", "m2"), ("K", "m0")]
        assert [ended.settles(*each) for each in asked] == [True, True, True, False, False]
        assert not RunResult(job).settles("J", "m0"), "the archive doesn't have it"


class TestJobs:
    def test_an_ended_job_is_never_seen_running_again(self, world: World) -> None:
        """The tier forgot J0, and the record of m1, which was promised J0 too, brings the name back."""
        on(world, "after", "archive.commit", lambda: world.posts("m1"))
        world.posts("m0")
        with world.steps.silently():
            head = world.tier.waiting(world.key)
        assert head is not None
        world.settles()
        ended = world.job(head.job_id)
        world.tier_lost()
        with world.steps.silently():
            record = world.queue.sent[0][0]
            again = replace(record.request, messages=(Message("m2", "text of m2", given=True),))
            world.tier.accept_again(again, job_id=head.job_id, spare_id=world.key.new_job_id())
            live = world.tier.job(head.job_id)
            assert live is not None
            assert not live.status.ended
        assert world.job(head.job_id) == ended

    def test_without_postgres_the_tier_still_tells(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "archive.job", is_away)
        assert world.job(told(world, "m0")).status is JobStatus.PENDING

    def test_what_only_postgres_can_know_is_unknown_without_it(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.tier_lost()
        on(world, "before", "archive.job", is_away)
        with pytest.raises(Unavailable):
            world.job(told(world, "m0"))
        assert world.job(told(world, "m0")).reply == '["text of m0"]'

    def test_another_tenants_job_is_unknown(self, world: World) -> None:
        world.posts("m0")
        job_id = told(world, "m0")
        others = BackgroundJobManager(world.tiers, world.archive, world.queue, world.intake, platform_id="other")
        for _ in range(2):
            with pytest.raises(NotFound):
                others.find(job_id)
            assert others.get_job_status(job_id) is None
            assert not others.cancel_job(job_id)
            world.settles()
        assert world.checked().answered("m0")


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

    def test_who_waits_without_a_record_is_woken_within_a_minute(self, world: World) -> None:
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


# Anything that can happen, at every step of every story.


EVENTS: dict[str, Event] = {
    "the process dies": lambda world: dies(),
    "the store is away": lambda world: is_away(),
    "the tier is lost": World.tier_lost,
    "the worker pauses": World.worker_pauses,
    "a message comes": lambda world: world.posts("new"),
    "a duplicate comes": lambda world: world.posts("m0"),
    "the job is cancelled": lambda world: "m0" in world.told and world.cancels(told(world, "m0")),
    "the lock is released": World.releases,
    "the sweep comes": World.sweeps,
}


class TestWhateverHappens:
    """Nothing accepted is lost, and each message is answered once, whatever happens between any two steps."""

    @pytest.mark.parametrize(
        "event", ["the process dies", "the store is away", "the tier is lost", "the worker pauses"]
    )
    def test_once_in_the_straight_path(self, new_world: Callable[[], World], event: str) -> None:
        steps = len(happens(new_world, EVENTS, straight).steps.names)
        for moment in moments_of(steps, event):
            happens(new_world, EVENTS, straight, moment)

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("story", [straight, joining, following, failing, cancelling])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_once_in_any_story(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, EVENTS, story).steps.names)
        for moment in moments_of(steps, event):
            happens(new_world, EVENTS, story, moment)

    @pytest.mark.parametrize("second", ["the process dies", "the tier is lost", "the worker pauses"])
    @pytest.mark.parametrize("first", ["the process dies", "the store is away", "a message comes"])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_twice_in_the_straight_path(self, new_world: Callable[[], World], first: str, second: str) -> None:
        steps = len(happens(new_world, EVENTS, straight).steps.names)
        for moment in moments_of(steps, first):
            longer = len(happens(new_world, EVENTS, straight, moment).steps.names)
            for other in moments_of(longer, second):
                if other[1] > moment[1]:
                    happens(new_world, EVENTS, straight, moment, other)


def test_a_wake_record_stands_for_all_messages_of_its_job(world: World) -> None:
    world.posts("m0")
    world.posts("m1")
    world.queue.waiting.clear()
    world.clock.advance(world.settings.wake_after)
    world.sweeps()
    record: Record = world.queue.waiting[0].record
    assert [message.message_id for message in record.request.messages] == ["m0", "m1"]
    assert (record.message_id, record.job_id) == ("m1", told(world, "m1"))
    world.tier_lost()
    world.settles()
    assert json.loads(world.job(record.job_id).reply or "") == ["text of m0", "text of m1"]
