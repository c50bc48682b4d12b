"""What changes while Redis is away, alone or with Postgres, and what stays, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.drivers.postgres import Database
from message_handler.http.conversation import conversation_view
from message_handler.settings import Settings
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Clock
from tests.contract.conftest import age_keys
from tests.contract.stories import (
    dies,
    is_away,
    on,
)
from tests.contract.world import World, records


class TestRedisAway:
    def test_without_redis_messages_are_answered_over_postgres_and_degraded_says_so(self, world: World) -> None:
        world.redis(away=True)
        told = world.posts("m0")
        assert told is not None
        assert told["degraded"] is True
        world.delivers()
        assert world.answered("m0")
        world.checked()

    def test_with_redis_no_answer_says_degraded(self, world: World) -> None:
        told = world.posts("m0")
        assert told is not None
        assert "degraded" not in told

    @pytest.mark.parametrize("step", ["tier.adopt", "tier.seal", "tier.finish", "ai.complete", "archive.commit"])
    @pytest.mark.parametrize("back", [True, False])
    def test_wherever_redis_goes_away_in_a_run_there_is_one_reply(self, world: World, step: str, back: bool) -> None:
        world.posts("m0")
        on(world, "before", step, lambda: world.redis(away=True))
        world.delivers()
        world.redis(away=not back)
        world.settles().redis(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_messages_are_answered_once_when_redis_comes_back(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        world.posts("m1")
        world.redis(away=False)
        world.posts("m2")
        world.settles()
        assert sorted(content for reply in world.replies() for content in reply) == sorted(world.contents.values())
        world.orderly = False  # m1 waited on a tier that m2 did not reach
        world.checked()

    def test_a_blip_at_a_heartbeat_costs_no_answer(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "tier.heartbeat", is_away)
        world.delivers()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_an_accept_that_was_applied_but_unheard_promises_the_same_job_on_the_next_tier(self, world: World) -> None:
        on(world, "after", "tier.accept", is_away)
        told = world.posts("m0")
        assert told is not None
        head = world.store.target.waiting(world.key)
        assert head.job_id == told["ai_job_id"]
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_conversation_is_still_shown(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.redis(away=True)
        view = conversation_view(world.tiers, world.archive, world.key)
        assert [turn["role"] for turn in view["turns"]] == ["user", "assistant"]
        with pytest.raises(Unavailable):
            conversation_view(world.tiers, world.archive, ConversationKey("default", "another"))

    def test_a_committed_end_is_shown_although_redis_went_away_at_the_finish(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "tier.finish", is_away)
        outcome = world.delivers()
        assert outcome is not None
        assert (outcome.retry_in, [job.status for job in outcome.ended]) == (None, [JobStatus.COMPLETED])
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_a_worker_that_completes_a_cancel_does_not_show_an_end_again(self, world: World) -> None:
        """m0 was answered on the next tier. Redis still has it, and a process dies while it cancels m0's job there."""
        world.posts("m0")
        world.redis(away=True)
        world.delivers()
        world.redis(away=False)
        on(world, "after", "tier.cancel", dies)
        assert world.cancels(world.told["m0"][0]) is None
        world.settles()
        assert [job.status for outcome in world.outcomes for job in outcome.ended] == [JobStatus.COMPLETED]
        assert world.answered("m0")
        world.checked()

    def test_a_job_of_the_lower_tier_is_found_and_cancelled_there(self, world: World) -> None:
        world.redis(away=True)
        told = world.posts("m0")
        assert told is not None
        world.redis(away=False)
        assert world.job(told["ai_job_id"]).status is JobStatus.PENDING
        assert world.cancels(told["ai_job_id"]) is not None
        world.settles()
        assert world.replies() == []
        world.checked()


class TestBothAway:
    def test_messages_are_accepted_answered_and_archived_once(self, world: World) -> None:
        world.redis(away=True)
        world.postgres(away=True)
        world.queue.in_process = False
        told = world.posts("m0")
        assert told is not None
        assert told["degraded"] is True
        assert world.queue.sent[-1][1] == 0
        outcome = world.delivers()
        assert outcome is not None
        assert [job.status for job in outcome.ended] == [JobStatus.COMPLETED]
        world.redis(away=False)
        world.postgres(away=False)
        world.orderly = False
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_another_instances_job_is_unknown_until_a_store_is_back(self, world: World) -> None:
        world.redis(away=True)
        world.postgres(away=True)
        world.queue.in_process = False
        told = world.posts("m0")
        assert told is not None
        with pytest.raises(Unavailable):
            world.jobs.find(told["ai_job_id"])

    def test_each_message_of_a_long_outage_does_not_carry_all_earlier_ones(self, world: World) -> None:
        world.redis(away=True)
        world.postgres(away=True)
        for number in range(4):
            world.posts(f"m{number}")
            world.clock.advance(world.settings.heartbeat_stale)
        assert [len(record.request.messages) for record, _ in world.queue.sent] == [1, 1, 1, 1]

    def test_messages_of_one_burst_go_together(self, world: World) -> None:
        world.redis(away=True)
        world.postgres(away=True)
        world.posts("m0")
        world.posts("m1")
        assert [len(record.request.messages) for record, _ in world.queue.sent] == [1, 2]


class TestDrain:
    """Counterexample 8: messages that wait in the Postgres tier are answered with the first message on Redis."""

    @pytest.fixture(params=["servers"])
    def world(self, request: pytest.FixtureRequest, settings: Settings) -> World:
        client: redis.Redis = request.getfixturevalue("redis_client")
        archive: PostgresArchive = request.getfixturevalue("postgres_archive")
        database: Database = request.getfixturevalue("postgres_database")
        request.getfixturevalue("postgres_tier")  # emptied
        client.flushall()
        clock = Clock(followers=[lambda seconds: age_keys(client, seconds)])
        tier = RedisTier(client, settings, clock)
        key = ConversationKey("default", "patient")
        others = (PostgresTier(database, settings, clock),)
        return World(tier, archive, lambda _: None, clock, settings, key, others=others)

    def test_8_the_first_reply_answers_both_in_order(self, world: World) -> None:
        world.redis(away=True)
        world.posts("m0")
        world.redis(away=False)
        world.posts("m1")
        world.delivers(records(world)[1])
        assert world.answered("m0 m1")
        world.settles().checked()

    def test_an_edit_that_waits_there_replaces_the_first_version(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        world.posts("m0~1")
        world.redis(away=False)
        world.delivers(records(world)[0])
        assert world.answered("m0~1")
        world.settles().checked()

    def test_an_edit_that_waits_there_is_the_newest_version_afterwards(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        world.posts("m0~1")
        world.redis(away=False)
        world.delivers(records(world)[0])
        back = world.posts("m0", edited_at="2026-11-30T09:00:00Z")
        assert back is not None
        assert back.get("edited")
        world.settles()
        assert world.answered("m0~1", "m0")

    def test_8_a_worker_that_runs_it_on_postgres_meanwhile_commits_nothing(self, world: World) -> None:
        world.redis(away=True)
        world.posts("m0")
        m0 = records(world)[0]

        def redis_is_back() -> None:
            world.redis(away=False)
            with world.steps.silently():
                world.posts("m1")
                world.delivers(next(d for d in records(world) if d is not m0))
                assert world.answered("m0 m1")

        on(world, "after", "ai.complete", redis_is_back)
        world.delivers(m0)
        world.settles()
        assert world.answered("m0 m1")
        world.checked()

    def test_a_job_that_takes_no_more_does_not_wait_for_ever(self, world: World) -> None:
        world.worker = replace(world.worker, settings=world.settings)
        world.redis(away=True)
        world.posts("m0")
        world.redis(away=False)
        world.posts("m1")
        head = world.store.target
        for number in range(world.settings.max_restarts):
            head.claim(world.key, f"w{number}")
            world.posts(f"n{number}")
            assert head.seal(world.key, f"w{number}", ["m1"], next_id="", fenced=True).verdict == "again"
            world.clock.advance(world.settings.heartbeat_stale)
        world.settles()
        world.orderly = False
        world.checked()


def test_a_cancel_of_a_job_that_ended_elsewhere_is_a_conflict(world: World) -> None:
    world.posts("m0")
    world.settles()
    with pytest.raises(Conflict):
        world.jobs.cancel(world.told["m0"][0])
