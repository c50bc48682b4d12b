"""When a queue record is deleted, and when it comes back: over each pair of stores, in virtual time."""

from __future__ import annotations

import json
from dataclasses import replace

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.records import Record
from message_handler.ports.archive import Committed
from message_handler.protocol.results import Claim, ClaimRefused
from message_handler.queue.timing import retry_delay
from message_handler.worker.ending import RunResult
from tests.contract.stories import (
    dies,
    is_away,
    on,
    told,
)
from tests.contract.world import (
    AI_SECONDS,
    World,
    last_message,
)


class TestRecords:
    def test_a_record_is_kept_until_its_own_message_is_settled(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0")
        world.delivers(seconds=60)
        assert world.answered("m0")
        assert {d.record.message_id for d in world.queue.waiting} == {"m1"}
        world.settles()
        assert world.answered("m0", "m1")

    def test_a_record_brings_messages_that_were_lost_even_if_its_own_was_answered(self, world: World) -> None:
        """One request brings m0 and m1. The tier forgets both, and m1 comes again alone and is answered first."""
        world.posts("m0", "m1")
        first = world.queue.waiting.pop()
        world.tier_lost()
        world.posts("m1")
        world.settles()
        world.queue.waiting.append(first)
        world.settles().checked()
        assert world.answered("m1", "m0")

    def test_a_record_is_kept_whatever_the_tier_says_about_its_job(self, world: World) -> None:
        """The tier says that J0 has ended, but Postgres does not know m0. The tier forgets m0, and m0 is answered."""
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

    def test_a_refused_record_comes_back_after_the_holders_deadline(self, world: World) -> None:
        world.posts("m0")
        with world.steps.silently():
            claim = world.tier.claim(world.key, "another")
        assert isinstance(claim, Claim)
        world.clock.advance(world.settings.heartbeat_every)
        outcome = world.delivers()
        assert outcome is not None
        assert (outcome.retry_in, outcome.ended) == (world.settings.run_seconds - world.settings.heartbeat_every, ())

    def test_a_record_that_comes_before_its_dead_workers_claim_is_stale_waits_for_that(self, world: World) -> None:
        """The worker died right after a heartbeat, and a while after it last hid its record."""
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

    def test_a_record_does_not_wait_for_a_holder_whose_heartbeat_was_only_late(self, world: World) -> None:
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

    def test_a_refused_record_is_deleted_if_its_own_message_is_settled(self, world: World) -> None:
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
        """J1 was made for a duplicate of m0 and answers m1. m0's second record must not end J1's successor."""
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

    def test_an_ended_job_is_reported_although_a_store_went_away_afterwards(self, world: World) -> None:
        """m1 waits for the next job. Its record comes first, and there is no time left to answer m1 too."""
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

    def test_a_record_whose_message_was_just_committed_is_not_asked_about(self, world: World) -> None:
        world.posts("m0")
        assert world.delivers() is not None
        assert "archive.settled_by" not in world.steps.names
        world.checked()

    def test_a_record_that_was_promised_another_job_is_asked_about(self, world: World) -> None:
        """The job that m0 was promised must lead to the job that answered it (counterexample 5)."""
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

    def test_a_committed_job_is_known_to_have_settled_its_own_messages(self) -> None:
        key = ConversationKey("default", "patient")
        job = Job("J", key, JobStatus.COMPLETED, (Message("m0", "a", aliases=("a0",)), Message("m1", "b")), "default")
        ended = RunResult(job, committed=Committed())
        asked = [("J", "m0"), ("J", "a0"), ("J", "m1"), ("J", "m2"), ("K", "m0")]
        assert [ended.settles(*each) for each in asked] == [True, True, True, False, False]
        assert not RunResult(job).settles("J", "m0"), "the archive does not have this end"


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
