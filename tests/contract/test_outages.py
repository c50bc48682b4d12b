"""What changes while a store is away, and what does not: Redis, then Postgres, then memory, in virtual time.

The numbers of the counterexamples are those of the protocol's own list.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import redis
from pg8000.native import Connection

from message_handler.archive.memory import MemoryArchive
from message_handler.archive.none import NoArchive
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, Contended, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.domain.records import ArchiveRecord, Record
from message_handler.http.conversation import conversation_view
from message_handler.operations import dead_letters, interventions
from message_handler.ports.archive import ERASURE_MARGIN
from message_handler.ports.queue import DeadLetter
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from message_handler.worker.rescue import RECORD_SECONDS
from message_handler.worker.worker import Worker
from tests.contract.chat import Clock
from tests.contract.conftest import age_keys, goes_by
from tests.contract.stories import (
    Event,
    Moment,
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
)
from tests.contract.world import Delivery, SettlingTier, World
from tests.servers import emptied

STORES = ("memory", "servers")


def named_tier(name: Any, settings: Settings, clock: Clock) -> MemoryTier:
    tier = MemoryTier(settings, clock)
    tier.name = name
    return tier


@pytest.fixture(params=STORES)
def new_world(request: pytest.FixtureRequest, settings: Settings) -> Callable[[], World]:
    """Makes a conversation with three tiers; in memory or on Redis and Postgres."""

    def in_memory() -> World:
        clock, archive = Clock(), MemoryArchive()
        own = MemoryTier(settings, clock, unclaimed_seconds=settings.heartbeat_stale)

        def forget(world: World) -> None:
            world.store.target = named_tier("redis", settings, clock)

        key, tiers = ConversationKey("default", "patient"), (SettlingTier(archive, settings, clock), own)
        return World(named_tier("redis", settings, clock), archive, forget, clock, settings, key, others=tiers)

    if request.param == "memory":
        return in_memory
    client: redis.Redis = request.getfixturevalue("redis_client")
    archive: PostgresArchive = request.getfixturevalue("postgres_archive")
    postgres_tier: PostgresTier = request.getfixturevalue("postgres_tier")
    sql: Connection = request.getfixturevalue("sql")
    numbers = count()

    def on_servers() -> World:
        client.flushall()
        sql.execute_simple(emptied("line_states", "ended_jobs"))
        clock = Clock(followers=[lambda seconds: age_keys(client, seconds)])
        own = MemoryTier(settings, clock, unclaimed_seconds=settings.heartbeat_stale)
        goes_by(postgres_tier, clock)
        tier, key = RedisTier(client, settings, clock), ConversationKey("default", f"patient-{next(numbers)}")
        lose = lambda _: client.flushall()  # noqa: E731
        return World(tier, archive, lose, clock, settings, key, others=(postgres_tier, own))

    return on_servers


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()


def archive_records(world: World) -> list[Delivery]:
    return [delivery for delivery in world.queue.waiting if isinstance(delivery.record, ArchiveRecord)]


def records(world: World) -> list[Delivery]:
    return [delivery for delivery in world.queue.waiting if isinstance(delivery.record, Record)]


class TestRedisAway:
    def test_messages_are_answered_by_postgres_and_it_is_said(self, world: World) -> None:
        world.redis(away=True)
        told = world.posts("m0")
        assert told is not None
        assert told["degraded"] is True
        world.delivers()
        assert world.answered("m0")
        world.checked()

    def test_with_redis_nothing_is_said(self, world: World) -> None:
        told = world.posts("m0")
        assert told is not None
        assert "degraded" not in told

    @pytest.mark.parametrize("step", ["tier.adopt", "tier.seal", "tier.finish", "ai.complete", "archive.commit"])
    @pytest.mark.parametrize("back", [True, False])
    def test_wherever_it_goes_away_in_a_run_there_is_one_reply(self, world: World, step: str, back: bool) -> None:
        world.posts("m0")
        on(world, "before", step, lambda: world.redis(away=True))
        world.delivers()
        world.redis(away=not back)
        world.settles().redis(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_going_back_is_as_safe_as_leaving(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        world.posts("m1")
        world.redis(away=False)
        world.posts("m2")
        world.settles()
        assert sorted(content for reply in world.replies() for content in reply) == sorted(world.contents.values())
        world.orderly = False  # m1 waited where m2 was not seen
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

    def test_a_committed_end_is_told_although_it_went_away_at_the_finish(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "tier.finish", is_away)
        outcome = world.delivers()
        assert outcome is not None
        assert (outcome.retry_in, [job.status for job in outcome.ended]) == (None, [JobStatus.COMPLETED])
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_an_end_that_was_told_is_not_told_again_by_who_completes_a_cancel(self, world: World) -> None:
        """It was answered on the next tier; Redis still has it, and a canceller dies there."""
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


class TestPostgresAway:
    def test_an_end_that_it_lacks_though_it_was_never_away_goes_to_it_with_the_next_record(self, world: World) -> None:
        """Commit and check took too long, which opens no breaker; the archive record is late."""

        def too_slow() -> None:
            raise Unavailable("Postgres, where a statement takes too long,")

        on(world, "before", "archive.commit", too_slow)
        on(world, "before", "archive.settled_by", too_slow)
        world.posts("m0")
        world.delivers()
        assert world.archive.settled_by(world.key, "m0") is None
        world.queue.waiting.clear()
        world.posts("m1")
        world.delivers()
        assert world.archive.settled_by(world.key, "m0") == world.told["m0"][0]
        assert len(world.ai.prompts) == 2

    def test_the_reply_is_given_and_archived_once_it_is_back(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        outcome = world.delivers()
        assert outcome is not None
        assert [job.status for job in outcome.ended] == [JobStatus.COMPLETED]
        assert world.job(world.told["m0"][0]).reply == json.dumps([world.contents["m0"]])
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_its_record_is_not_deleted_before_that(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        assert len(records(world)) == 1
        assert len(archive_records(world)) == 1

    @pytest.mark.parametrize("first", ["the archive record", "the message's record"])
    def test_whichever_record_comes_first_it_is_archived_once(self, world: World, first: str) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        (archive_record,), (own,) = archive_records(world), records(world)
        pair = (archive_record, own) if first == "the archive record" else (own, archive_record)
        for delivery in pair:
            outcome = world.delivers(delivery)
            assert outcome is not None
            assert outcome.retry_in is None
        assert world.answered("m0")
        world.settles().checked()

    @pytest.mark.parametrize("step", ["tier.finish", "queue.send"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_worker_that_dies_at_the_commit_point_loses_and_doubles_nothing(
        self, world: World, side: str, step: str
    ) -> None:
        world.posts("m0")
        world.postgres(away=True)
        on(world, side, step, dies)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_an_end_whose_archive_record_was_not_sent_stays_what_it_is(self, world: World) -> None:
        """It was there for everybody to read: a second run might say something else."""
        world.posts("m0")
        world.postgres(away=True)
        on(world, "after", "tier.finish", dies)
        world.delivers()
        assert not archive_records(world)
        world.postgres(away=False)
        world.worker.rescue.due = False  # another process, which saw no outage
        world.delivers(records(world)[0])
        world.settles()
        assert len(world.ai.prompts) == 1
        assert world.answered("m0")
        world.checked()

    def test_after_hours_without_postgres_the_first_answer_stands(self, world: World) -> None:
        """Its messages are remembered as long as its end: the record of m0 comes before the archive record."""
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        job_id = world.told["m0"][0]
        world.clock.advance(5 * world.settings.job_ttl)
        world.postgres(away=False)
        world.delivers(records(world)[0])
        world.settles()
        assert len(world.ai.prompts) == 1
        assert world.answered("m0")
        assert world.job(job_id).status is JobStatus.COMPLETED
        world.checked()

    def test_its_text_is_kept_no_longer_than_needed(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        job_id = world.told["m0"][0]
        assert world.tier.job(job_id).messages[0].content == world.contents["m0"]
        world.postgres(away=False)
        world.settles()
        ended = world.tier.job(job_id)
        assert ended is None or (not ended.unarchived and ended.messages[0].content == "")

    def test_what_an_earlier_owner_may_have_committed_waits_for_postgres(self, world: World) -> None:
        """Counterexample 10: it committed under a fence and died; without Postgres nobody can know."""
        world.posts("m0")
        on(world, "after", "archive.commit", dies)
        world.delivers()
        world.postgres(away=True)
        world.clock.advance(world.settings.heartbeat_stale + 1)
        for _ in range(2):
            world.sweeps()
            world.delivers(records(world)[0])
        assert len(world.ai.prompts) == 1
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_a_record_whose_end_is_not_archived_yet_is_kept(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        outcome = world.delivers()
        assert outcome is not None
        assert [job.unarchived for job in outcome.ended] == [True]
        assert outcome.retry_in is not None

    def test_a_run_that_began_without_it_takes_a_fence_when_it_is_back_at_the_commit(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        on(world, "after", "ai.complete", lambda: world.postgres(away=False))
        world.delivers()
        assert world.answered("m0")
        assert not archive_records(world)
        assert len(world.ai.prompts) == 1
        world.checked()

    @pytest.mark.parametrize("step", ["tier.seal", "archive.fence"])
    def test_an_unfenced_worker_that_was_replaced_commits_nothing(self, world: World, step: str) -> None:
        """Counterexample 9: it seals and pauses; another takes over, takes a fence and commits."""
        world.posts("m0")
        world.postgres(away=True)

        def pauses() -> None:
            world.postgres(away=False)
            with world.steps.silently():
                world.worker_pauses()
                assert world.answered("m0")

        fences = []

        def at_the_commit() -> None:
            fences.append(1)
            if len(fences) == 1:
                on(world, "before", step, at_the_commit)
            else:
                pauses()

        if step == "tier.seal":
            on(world, "after", step, pauses)
        else:
            on(world, "before", step, at_the_commit)
        world.delivers(records(world)[0])
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_an_unfenced_worker_that_lost_its_lock_gives_nothing(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)

        def pauses() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        on(world, "after", "tier.seal", pauses)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert not archive_records(world)

    def test_nor_does_one_that_lost_it_while_it_took_its_fence(self, world: World) -> None:
        """Another took over, and will end its run without Postgres: both would be shown."""
        world.posts("m0")
        world.postgres(away=True)

        def is_replaced() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        def is_back() -> None:
            world.postgres(away=False)
            on(world, "after", "archive.fence", is_replaced)

        on(world, "after", "tier.seal", is_back)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert world.replies() == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_commit_whose_answer_was_lost_is_one_commit(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "archive.commit", is_away)
        world.delivers()
        assert world.answered("m0")
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_so_is_one_that_went_away_with_its_answer(self, world: World) -> None:
        world.posts("m0")

        def gone() -> None:
            world.postgres(away=True)
            raise Unavailable("Postgres")

        on(world, "after", "archive.commit", gone)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_cancel_and_release_wait(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        assert world.cancels(world.told["m0"][0]) is None
        with pytest.raises(Unavailable):
            interventions.force_release(world.tiers, world.archive, world.sender, world.key)
        world.postgres(away=False)
        world.settles()
        world.cancelled.add(world.told["m0"][0])  # begun, so a worker brought it to its end
        world.checked()

    def test_a_failed_run_is_archived_as_failed(self, world: World) -> None:
        world.posts("m0", text="[fail]")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.end_of("m0").status is JobStatus.FAILED
        world.checked()

    def test_a_conversation_of_a_bot_is_still_that_bots(self, world: World) -> None:
        """A job that was accepted under the default bot is answered by the conversation's own."""
        world.posts("m0")
        world.settles()
        assert world.worker.bots.config_of_job(world.end_of("m0"))["bot_id"] == "default"


class TestPostgresIsBack:
    """What was answered while it was away is in it soon, for Redis may be lost next."""

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

    def test_the_next_record_that_a_worker_gets_brings_it_along(self, world: World) -> None:
        self.answers_without_it(world)
        world.clock.advance(5)
        world.postgres(away=False)
        world.posts("m1")
        world.delivers(records(world)[-1])
        self.is_answered_once_though_redis_is_lost(world)

    def test_it_comes_before_that_record_is_worked_on(self, world: World) -> None:
        """An AI may take half a minute."""
        self.answers_without_it(world)
        world.clock.advance(5)
        world.postgres(away=False)
        world.posts("m1")
        on(world, "before", "ai.complete", dies)
        world.delivers(records(world)[-1])
        assert world.answered("m0")

    def test_without_traffic_the_sweep_brings_it(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)
        world.sweeps()
        assert world.answered("m0")
        assert world.tier.unarchived() == []
        self.is_answered_once_though_redis_is_lost(world)

    def test_its_archive_record_comes_back_for_as_long_as_it_takes(self, world: World) -> None:
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

    def test_one_that_can_not_be_sent_anew_stays(self, world: World) -> None:
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

    def test_two_processes_that_push_the_same_archive_it_once(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)

        def another() -> None:
            with world.steps.silently():
                its = world.worker
                other = Worker(its.tiers, its.archive, its.queue, its.bots, its.ai, its.settings, its.clock)
                assert other.rescue.push(world.clock() + 1) == 1

        on(world, "before", "archive.archive", another)
        world.sweeps()
        assert world.answered("m0")
        world.settles().checked()

    def test_what_was_erased_meanwhile_is_not_archived(self, world: World) -> None:
        self.answers_without_it(world)
        world.postgres(away=False)
        world.clock.advance(2 * ERASURE_MARGIN)
        world.archive.erase(world.key)
        world.sweeps()
        assert world.archive.conversation(world.key) is None
        assert world.tier.unarchived() == []
        assert world.tier.job(world.told["m0"][0]) is None


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


class TestWithoutPostgres:
    """No DATABASE_URL: the tier alone guards the replies, and is their only memory."""

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


class TestDrain:
    """Counterexample 8: what waits in the Postgres tier is answered with what comes first on Redis."""

    @pytest.fixture(params=["servers"])
    def world(self, request: pytest.FixtureRequest, settings: Settings) -> World:
        client: redis.Redis = request.getfixturevalue("redis_client")
        archive: PostgresArchive = request.getfixturevalue("postgres_archive")
        postgres_tier: PostgresTier = request.getfixturevalue("postgres_tier")
        client.flushall()
        clock = Clock(followers=[lambda seconds: age_keys(client, seconds)])
        goes_by(postgres_tier, clock)
        tier = RedisTier(client, settings, clock)
        key = ConversationKey("default", "patient")
        return World(tier, archive, lambda _: None, clock, settings, key, others=(postgres_tier,))

    def test_8_the_first_reply_answers_both_in_order(self, world: World) -> None:
        world.redis(away=True)
        world.posts("m0")
        world.redis(away=False)
        world.posts("m1")
        world.delivers(records(world)[1])
        assert world.answered("m0 m1")
        world.settles().checked()

    def test_8_a_worker_on_postgres_that_runs_it_meanwhile_commits_nothing(self, world: World) -> None:
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

    def test_one_whose_conversation_others_change_is_handed_on(self, world: World) -> None:
        def contended() -> None:
            raise Contended

        world.posts("m0")
        (delivery,) = world.queue.waiting
        on(world, "before", "tier.claim", contended)
        assert world.worker.process(delivery.record, world.clock() + 120, 2).retry_in == 20


class TestPoison:
    def test_at_the_last_delivery_its_job_is_failed_visibly_and_the_lock_is_free(self, world: World) -> None:
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

    def test_before_that_it_is_tried_again(self, world: World) -> None:
        def breaks() -> None:
            raise ZeroDivisionError

        world.posts("m0")
        on(world, "before", "archive.fence", breaks)
        with pytest.raises(ZeroDivisionError):
            world.worker.process(world.queue.waiting[0].record, world.clock() + 60, MAX_RECEIVE_COUNT - 1)
        world.clock.advance(world.settings.heartbeat_stale + 1)
        world.delivers()
        assert world.answered("m0")


class TestDeadLetters:
    @pytest.fixture
    def letters(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
        """What rests in the dead letters."""
        letters: list[DeadLetter] = []
        shown: list[bool] = []

        def dead_letters() -> list[DeadLetter]:
            shown.append(True)
            return list(letters) if len(shown) % 2 else []

        world.queue.dead_letters = dead_letters  # type: ignore[method-assign]
        world.queue.remove = letters.remove  # type: ignore[method-assign]
        return letters

    def gives_up(self, world: World, letters: list[DeadLetter]) -> None:
        """The queue's patience is at its end."""
        for delivery in list(world.queue.waiting):
            letters.append(DeadLetter(delivery.record, "receipt"))
            world.queue.delete(delivery)

    def test_what_waited_out_an_outage_is_answered(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        assert dead_letters.redrive(world.worker, world.sender) == 1
        assert letters == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_while_postgres_is_away_they_rest(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        world.postgres(away=True)
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert len(letters) == 1

    def test_one_whose_message_is_settled_is_removed(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        letters.append(DeadLetter(world.queue.waiting[0].record, "receipt"))
        world.settles()
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert letters == []
        assert not world.queue.waiting

    def test_one_that_comes_back_again_is_failed_visibly(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        dead_letters.redrive(world.worker, world.sender)
        self.gives_up(world, letters)
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert letters == []
        assert world.end_of("m0").status is JobStatus.FAILED
        assert world.ai.prompts == []
        world.checked()

    def test_what_came_later_is_not_failed_with_it(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        dead_letters.redrive(world.worker, world.sender)
        self.gives_up(world, letters)
        world.posts("m1")
        dead_letters.redrive(world.worker, world.sender)
        world.settles()
        assert world.answered("m0 m1")
        dead_letters.redrive(world.worker, world.sender)
        assert letters == []
        world.checked()

    def test_one_that_breaks_us_keeps_no_other_from_coming_back(self, world: World, letters: list[DeadLetter]) -> None:
        def breaks() -> None:
            raise ZeroDivisionError

        world.posts("m0")
        self.gives_up(world, letters)
        letters.insert(0, letters[0])
        on(world, "before", "archive.settled_by", breaks)
        assert dead_letters.redrive(world.worker, world.sender) == 1
        world.settles()
        assert world.answered("m0")

    def test_an_archive_record_reaches_postgres_from_there_too(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        self.gives_up(world, letters)
        world.postgres(away=False)
        dead_letters.redrive(world.worker, world.sender)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_sweep_looks_at_them_no_longer_than_it_may_run(self, world: World) -> None:
        looks: list[float] = []

        def found() -> list[DeadLetter]:
            looks.append(world.clock())
            assert len(looks) < 50, "it goes on for ever"
            world.clock.advance(3)
            return [DeadLetter(None, "receipt")]

        world.queue.dead_letters = found  # type: ignore[method-assign]
        dead_letters.redrive(world.worker, world.sender)
        assert looks[-1] - looks[0] < 10

    def test_what_is_none_of_ours_stays(self, world: World, letters: list[DeadLetter]) -> None:
        letters.append(DeadLetter(None, "receipt"))
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert len(letters) == 1


class TestRecordsThatMeet:
    def test_an_end_that_came_while_postgres_was_asked_is_not_forgotten(self, world: World) -> None:
        """Forgotten by the tier it would be answered again, and shown, if Postgres went away.

        A: m0 is open, says Postgres ──                         ── the tier says that m0 ended: forget it?
        B:                              answers m0, finishes
        """
        world.posts("m0")
        world.posts("m0")
        first, second = records(world)

        def is_replaced() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        def is_answered() -> None:
            with world.steps.silently():
                world.delivers(second)
                assert world.answered("m0")

        on(world, "before", "tier.seal", is_replaced)
        on(world, "after", "archive.settled_by", is_answered)
        world.delivers(first)
        world.postgres(away=True)
        for delivery in records(world):
            world.delivers(delivery)
        assert len([job for outcome in world.outcomes for job in outcome.ended]) == 1
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()


def test_a_cancel_of_a_job_that_ended_elsewhere_is_a_conflict(world: World) -> None:
    world.posts("m0")
    world.settles()
    with pytest.raises(Conflict):
        world.jobs.cancel(world.told["m0"][0])


def away_for_a_while(*stores: str) -> Event:
    """The stores go away now and come back some steps later."""

    def event(world: World) -> None:
        def set_away(away: bool) -> None:
            for store in stores:
                getattr(world, store)(away=away)

        set_away(True)
        world.steps.plan["before", len(world.steps.names) + AWAY_STEPS] = lambda: set_away(False)

    return event


def split_while_a_message_comes(world: World) -> None:
    """One intake can't reach Redis, everybody else can."""
    world.redis(away=True)
    world.posts("split")
    world.redis(away=False)
    world.orderly = False


AWAY_STEPS = 7
OUTAGES: dict[str, Event] = {
    "redis is away": away_for_a_while("redis"),
    "postgres is away": away_for_a_while("postgres"),
    "a process is split off": split_while_a_message_comes,
    "the process dies": lambda _: dies(),
    "the answer is lost": lambda _: is_away(),
    "the worker pauses": World.worker_pauses,
    "a message comes": lambda world: world.posts("new"),
}


class TestWhateverGoesAway:
    """One store away for a while, from any step on, costs no message and no second answer."""

    @pytest.mark.parametrize("event", ["redis is away", "postgres is away", "a process is split off"])
    def test_in_the_straight_path(self, new_world: Callable[[], World], event: str) -> None:
        self.tell_at_every_step(new_world, straight, event)

    @pytest.mark.parametrize("event", ["redis is away", "postgres is away", "a process is split off"])
    @pytest.mark.parametrize("story", [joining, following, failing, cancelling])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_in_any_story(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        self.tell_at_every_step(new_world, story, event)

    @pytest.mark.parametrize(
        "other", ["the process dies", "the answer is lost", "the worker pauses", "a message comes"]
    )
    @pytest.mark.parametrize("event", ["redis is away", "postgres is away"])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_with_another_fault_at_any_step(self, new_world: Callable[[], World], event: str, other: str) -> None:
        steps = len(happens(new_world, OUTAGES, straight).steps.names)
        for moment in moments_of(steps, event):
            longer = len(self.tell(new_world, straight, moment).steps.names)
            for later in moments_of(longer, other):
                if later[1] > moment[1]:
                    self.tell(new_world, straight, moment, later)

    def tell_at_every_step(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, OUTAGES, story).steps.names)
        for moment in moments_of(steps, event):
            self.tell(new_world, story, moment)

    def tell(self, new_world: Callable[[], World], story: Story, *moments: Moment) -> World:
        def unordered() -> World:
            world = new_world()
            # The honest limit: what was accepted on one tier may be answered after what came later on another.
            world.orderly = False
            return world

        def story_and_recovery(world: World) -> None:
            story(world)
            world.postgres(away=False)  # what is committed already doesn't wait for that

        return happens(unordered, OUTAGES, story_and_recovery, *moments)
