"""A conversation is erased, whatever goes on in it, and none of its texts come back: over each pair of stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from threading import Timer
from typing import Any

import pytest
import redis
from pg8000.native import Connection, identifier

from message_handler.archive import postgres_handoff
from message_handler.archive.memory import MemoryArchive
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_jobs import job_values
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.archive.postgres_steps import take_fences
from message_handler.domain.errors import Conflict, NotFound, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.records import ArchiveRecord
from message_handler.drivers.postgres import Database, execute
from message_handler.drivers.postgres_connection import connector
from message_handler.intake.requests import parse_request
from message_handler.operations import erasure, handoff, interventions
from message_handler.ports.archive import Archive
from message_handler.ports.audit import AuditEntry
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Accepted
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryLines, MemoryTier
from message_handler.tiers.postgres import PostgresTier
from tests.contract.chat import BOT, Chat, Clock, named
from tests.contract.conversation import Conversation
from tests.contract.stories import on, told
from tests.contract.world import World

CANARY = "canary-4c1e"
STEPS = [
    "tier.accept",
    "queue.send",
    "tier.claim",
    "archive.fence",
    "tier.adopt",
    "ai.complete",
    "tier.heartbeat",
    "tier.seal",
    "archive.commit",
    "tier.finish",
]


def tables(sql: Connection) -> Iterator[str]:
    """The content of all tables, as text."""
    for (name,) in sql.run("select tablename from pg_tables where schemaname = 'public'"):
        yield str(sql.run(f"select to_json(found)::text from {identifier(name)} as found"))


def keys(client: redis.Redis) -> Iterator[str]:
    """The content of all keys, as text."""
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        yield key
        if kind == "string":
            yield str(client.get(key))
        elif kind == "hash":
            yield str(client.hgetall(key))
        else:
            yield str(client.zrange(key, 0, -1))


@pytest.fixture
def kept(request: pytest.FixtureRequest, world: World) -> Callable[[], str]:
    """All that the stores of this world keep, as text."""

    def everything() -> str:
        stores = (world.store.target, getattr(world.store.target, "store", None), world.kept.target)
        found = [str(vars(store)) for store in stores if isinstance(store, MemoryTier | MemoryLines | MemoryArchive)]
        if not isinstance(world.kept.target, MemoryArchive):
            found += tables(request.getfixturevalue("sql"))
            found += keys(request.getfixturevalue("redis_client"))
        return "\n".join(found)

    return everything


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    """Its clock is 20 s behind the servers', so all that it accepts was accepted before an erasure."""
    world = new_world()
    world.clock.now = time.time() - 20
    return world


def erases(world: World) -> None:
    with world.steps.silently():
        erasure.erase(world.tiers, world.archive, world.key)


def erases_nothing(world: World) -> None:
    with suppress(NotFound):
        erases(world)


def posts_to_an_earlier_version(world: World, message_id: str, text: str) -> None:
    """Post to an intake of an earlier release, which does not note when it accepted a message."""
    now, world.intake = world.intake, replace(world.intake, clock=lambda: 0.0)
    world.posts(message_id, text=text)
    world.intake = now


def later(world: World) -> None:
    """Let so much time pass that later messages were accepted after every erasure."""
    world.clock.now = max(world.clock.now, time.time() + 6)


class TestErasing:
    def test_nothing_is_left_of_an_answered_conversation(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        job_id = told(world, "m0")
        assert CANARY in kept()
        erases(world)
        assert CANARY not in kept()
        assert world.key.conversation_id not in kept()
        assert world.archive.conversation(world.key) is None
        with pytest.raises(NotFound):
            world.job(job_id)

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize("step", STEPS)
    def test_a_job_in_flight_cannot_bring_it_back(
        self, world: World, kept: Callable[[], str], step: str, side: Any
    ) -> None:
        # (A client that gets "not there" asked before the message was accepted.)
        def happens() -> None:
            with suppress(NotFound):
                erases(world)

        on(world, side, step, happens)
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        assert not world.steps.hooks, f"step {step} never came"
        assert CANARY not in kept()
        assert not world.queue.waiting

    @pytest.mark.parametrize("step", STEPS)
    def test_what_is_accepted_afterwards_is_answered_and_alone(
        self, world: World, kept: Callable[[], str], step: str
    ) -> None:
        def happens() -> None:
            with suppress(NotFound):
                erases(world)
            with world.steps.silently():
                later(world)
                world.posts("m1", text="new one")

        on(world, "after", step, happens)
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        assert CANARY not in kept()
        assert world.answered("m1")
        new = [prompt for prompt in world.ai.prompts if any(m.content == "new one" for m in prompt.messages)]
        assert all(CANARY not in str(prompt) for prompt in new[-1:])

    def test_a_record_that_comes_late_is_deleted(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        erases(world)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.ai.prompts == []
        assert CANARY not in kept()

    def test_a_record_that_two_workers_get_is_deleted(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        record = world.queue.waiting[0].record
        erases(world)
        on(world, "before", "tier.claim", lambda: world.worker.process(record, world.clock() + 120))
        world.settles()
        assert CANARY not in kept()

    def test_a_record_that_rests_in_the_dead_letters_is_not_redriven(self, world: World) -> None:
        world.posts("m0")
        record: Any = world.queue.waiting[0].record
        assert not world.worker.check(record)
        erases(world)
        assert world.worker.check(record)

    def test_what_is_accepted_in_the_same_moment_ends_as_cancelled(self, world: World, kept: Callable[[], str]) -> None:
        # The hosts' clocks can't tell which of the two was first.
        world.posts("m0")
        erases(world)
        world.clock.now = time.time() + 1
        world.posts("m1", text=f"{CANARY} one")
        world.settles()
        first, second = (world.archive.job(world.key.platform_id, told(world, name)) for name in ("m0", "m1"))
        assert first is None
        assert second is not None
        assert second.status is JobStatus.CANCELLED
        assert CANARY not in kept()

    def test_twice_is_once(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        erases(world)
        with pytest.raises(NotFound):
            erases(world)
        assert CANARY not in kept()

    def test_an_unknown_conversation_is_not_found_and_leaves_no_trace_of_its_id(
        self, world: World, kept: Callable[[], str]
    ) -> None:
        with pytest.raises(NotFound):
            erases(world)
        assert world.archive.conversation(world.key) is None
        if not isinstance(world.kept.target, MemoryArchive):
            assert world.key.conversation_id not in kept()

    def test_another_conversation_stays(self, world: World, kept: Callable[[], str]) -> None:
        other = replace(world.key, platform_id="other")
        world.posts("m0", text="the other one's")
        world.settles()
        with suppress(NotFound):
            erasure.erase(world.tiers, world.archive, other)
        assert world.answered("m0")

    def test_a_new_run_has_a_greater_fence_than_any_before(self, world: World) -> None:
        for number in range(3):
            world.posts(f"m{number}")
            world.settles()
        job = Job(world.key.new_job_id(), world.key, JobStatus.PENDING, (Message("n", "x", accepted_at=9e9),), BOT)
        before = world.archive.fence(job, successor_id=world.key.new_job_id(), turns=0).number
        erases(world)
        after = world.archive.fence(job, successor_id=world.key.new_job_id(), turns=0).number
        assert before is not None
        assert after is not None
        assert after > before


class TestTheNewOnesWork:
    """A void record costs a new conversation nothing."""

    def test_a_worker_that_was_slow_leaves_a_new_line_alone(self, world: World) -> None:
        # A: m0, fence: void ── …                              ── forgets
        # B:                        erased, m1 taken in, asks the AI ── commits
        world.posts("m0", text=f"{CANARY} zero")
        record = world.queue.waiting[0].record
        with world.steps.silently():
            world.archive.erase(world.key)

        def happens() -> None:
            with suppress(NotFound):
                erases(world)
            later(world)
            with world.steps.silently():
                world.posts("m1", text="new one")
                world.tier.claim(world.key, "another")

        on(world, "after", "archive.fence", happens)
        world.worker.process(record, world.clock() + 120)
        assert not world.steps.hooks
        assert world.tier.owner(world.key, "another") == told(world, "m1")

    def test_a_late_end_leaves_a_new_line_alone(self, world: World) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        (late,) = [waiting for waiting in world.queue.waiting if isinstance(waiting.record, ArchiveRecord)]
        erases(world)
        later(world)
        world.posts("m1", text="new one")
        world.tier.claim(world.key, "another")
        outcome = world.delivers(late)
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.tier.owner(world.key, "another") == told(world, "m1")


class TestEarlierVersions:
    """An earlier release has not noted when it accepted a message. Its records arrive while traffic shifts."""

    def test_an_earlier_versions_later_message_is_answered(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        erases(world)
        later(world)
        posts_to_an_earlier_version(world, "m1", "new one")
        world.settles()
        assert world.answered("m1")
        assert CANARY not in kept()

    def test_an_earlier_versions_message_from_before_is_void(self, world: World, kept: Callable[[], str]) -> None:
        posts_to_an_earlier_version(world, "m0", f"{CANARY} zero")
        erases(world)
        later(world)
        world.settles()
        assert world.ai.prompts == []
        assert CANARY not in kept()

    def test_a_tiers_message_from_before_is_not_sent_as_new(self, world: World, kept: Callable[[], str]) -> None:
        posts_to_an_earlier_version(world, "m0", f"{CANARY} zero")
        world.queue.waiting.clear()
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        later(world)
        world.clock.advance(120)
        assert world.sweeps() == 1
        world.settles()
        assert world.ai.prompts == []
        assert CANARY not in kept()

    def test_a_tiers_message_from_before_makes_no_newer_one_void(self, world: World, kept: Callable[[], str]) -> None:
        posts_to_an_earlier_version(world, "m0", f"{CANARY} zero")
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        later(world)
        world.posts("m1", text="new one")
        world.settles()
        assert world.answered("m1")
        assert CANARY not in kept()


class TestOtherSteps:
    def test_a_cancel_in_flight_archives_no_words(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        on(world, "before", "archive.cancel", lambda: erases(world))
        job = world.cancels(told(world, "m0"))
        assert job is not None
        assert job.status is JobStatus.CANCELLED
        world.settles()
        assert CANARY not in kept()

    def test_a_park_in_flight_keeps_no_words(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0")
        world.settles()
        with world.steps.silently():
            handoff.hand_off(world.tiers, world.archive, world.sender, world.key)

        def happens() -> None:
            erases(world)
            with world.steps.silently():
                world.archive.hand_off(world.key, "default")

        on(world, "before", "archive.park", happens)
        world.posts("m1", text=f"{CANARY} one")
        world.settles()
        assert CANARY not in kept()

    @pytest.mark.parametrize("seconds", [-3, 1, 4])
    def test_a_message_parked_right_after_an_erasure_is_answered_when_it_is_resumed(
        self, world: World, seconds: int
    ) -> None:
        # A record that comes so soon is void, because no clock can tell which was first. The transaction that parks a
        # message can tell. (A host whose clock is behind counts the message as accepted before.)
        world.posts("m0")
        erases(world)
        world.clock.now = time.time() + seconds
        turns = [("user", "a"), ("sale", "I am here."), ("user", "m1")]
        body = {"messages": [{"role": role, "content": content} for role, content in turns]}
        stored = world.intake.handle(world.key, parse_request(body))
        assert stored["action"] == "stored"
        assert stored["consolidated_messages"] == 1
        handoff.resume(world.tiers, world.archive, world.intake.accept, world.key)
        world.settles()
        assert world.replies() == [["m1"]]

    def test_a_message_that_failed_right_after_an_erasure_can_be_retried(self, world: World) -> None:
        erases_nothing(world)
        world.clock.now = time.time() + 6
        world.posts("m1", text="[fail] one")
        world.settles()
        world.ai.fails = False
        job = world.end_of("m1")
        assert job.status is JobStatus.FAILED
        again: list[Request] = []

        def accept(request: Request) -> tuple[Tier, Accepted]:
            again.append(request)
            return world.intake.accept(request)

        interventions.retry(world.tiers, world.archive, accept, job, AuditEntry("user:1", "retry", "jobs", "1"))
        # Whenever the queue says that it was sent.
        assert [world.archive.erased(world.key, m.accepted_at) for request in again for m in request.messages] == [None]
        world.settles()
        assert world.replies() == [["[fail] one"]]

    @pytest.mark.parametrize("step", ["archive.parked", "tier.accept", "archive.unparked"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_resume_in_flight_brings_nothing_back(
        self, world: World, kept: Callable[[], str], step: str, side: Any
    ) -> None:
        world.posts("m0")
        world.settles()
        with world.steps.silently():
            handoff.hand_off(world.tiers, world.archive, world.sender, world.key)
        world.posts("m1", text=f"{CANARY} one")
        assert CANARY in kept()
        on(world, side, step, lambda: erases(world))
        handoff.resume(world.tiers, world.archive, world.intake.accept, world.key)
        world.settles()
        assert not world.steps.hooks
        assert CANARY not in kept()

    def test_an_interrupted_job_is_erased_too(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        on(world, "before", "ai.complete", lambda: world.posts("m1", text=f"{CANARY} one", double_texting="interrupt"))
        on(world, "before", "tier.seal", lambda: erases(world))
        world.settles()
        assert CANARY not in kept()


class TestOutages:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_an_end_that_waits_to_be_archived_is_void(self, world: World, kept: Callable[[], str], moment: str) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        assert CANARY in kept()
        assert len(world.queue.waiting) == 2
        if moment == "before":
            # The tier keeps the end until the archive, which refuses it, has the tier forget it too.
            with world.steps.silently():
                world.archive.erase(world.key)
        else:
            erases(world)
        world.settles()
        assert CANARY not in kept()

    def test_while_postgres_is_away_nothing_happens(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.postgres(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.postgres(away=False)
        assert world.answered("m0")
        assert world.job(told(world, "m0")).reply

    def test_what_a_tier_kept_that_was_away_is_never_answered(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        assert CANARY in kept()
        # Redis is back, and m0 is still in its line: a message that is accepted now joins that job.
        later(world)
        world.posts("m1", text="new one", resources={"user_id": "u1"})
        world.settles()
        assert world.answered("m1")
        assert all(CANARY not in str(prompt) for prompt in world.ai.prompts)
        assert CANARY not in kept()

    def test_what_the_platform_sends_again_after_an_erasure_is_answered(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        later(world)
        world.posts("m0")
        world.settles()
        assert world.answered("m0")

    def test_an_erased_line_that_the_sweep_finds_is_never_answered(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.queue.waiting.clear()
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        world.clock.advance(120)
        assert world.sweeps() == 1
        world.settles()
        assert world.ai.prompts == []
        assert CANARY not in kept()

    def test_asked_again_the_tier_that_was_away_forgets(self, world: World, kept: Callable[[], str]) -> None:
        world.posts("m0", text=f"{CANARY} zero")
        world.settles()
        world.redis(away=True)
        with pytest.raises(Unavailable):
            erases(world)
        world.redis(away=False)
        assert CANARY in kept() or not isinstance(world.kept.target, PostgresArchive)
        with suppress(NotFound):
            erases(world)
        assert CANARY not in kept()


class TestTheTier:
    def test_it_forgets_a_conversation_and_no_other(self, tier: Tier, chat: Any) -> None:
        other = replace(chat, key=replace(chat.key, conversation_id="patient-2"))
        for talk in (chat, other):
            talk.says(named("m0", "kept"))
        assert tier.erase(chat.key) is True
        assert tier.waiting(chat.key) is None
        assert tier.lock(chat.key) is None
        assert tier.erase(chat.key) is False
        assert tier.waiting(other.key) is not None
        assert tier.erase(other.key) is True


class TestTheArchive:
    @pytest.fixture
    def talk(self, archive: Archive) -> Conversation:
        return Conversation(archive)

    def test_a_commit_of_a_run_that_began_before_is_refused(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        talk.archive.erase(talk.key)
        assert not talk.archive.commit(talk.completed(job), number)
        assert talk.archive.conversation(talk.key) is None

    def test_a_commit_of_an_erased_run_beside_a_new_run_is_refused(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        talk.archive.erase(talk.key)
        new = replace(talk.job(2, "m1"), messages=(replace(named("m1"), accepted_at=9e9),))
        assert talk.number(new) > number
        assert not talk.archive.commit(talk.completed(job), number)
        assert talk.archive.commit(talk.completed(new), number + 1)

    def test_a_run_of_what_is_void_is_not_even_noted(self, talk: Conversation) -> None:
        talk.archive.erase(talk.key)
        fence = talk.fence(talk.job(1, "m0"))
        assert fence.number is None
        assert fence.erased_until is not None
        assert talk.archive.job(talk.key.platform_id, talk.id(1)) is None
        assert talk.archive.conversation(talk.key) is None

    def test_a_message_parked_for_a_new_conversation_stays(self, talk: Conversation) -> None:
        for number in range(1, 4):
            talk.answer(number, f"m{number}")
        old = talk.job(5, "m5")
        talk.archive.erase(talk.key)
        talk.archive.hand_off(talk.key, BOT)
        assert talk.archive.park(Request(talk.key, (), (), BOT), [replace(named("m6"), accepted_at=9e9)])
        assert talk.archive.resume(talk.key)
        # The process that resumes the conversation has not finished yet.
        assert talk.fence(old).erased_until is not None
        assert talk.archive.to_unpark() == [talk.key]
        back = talk.archive.parked(talk.key)
        assert back is not None
        assert [kept.message.message_id for kept in back.parked] == ["m6"]

    def test_a_job_that_ended_with_an_erasure_keeps_its_conversation(self, talk: Conversation) -> None:
        # Otherwise no purge would ever find the conversation.
        talk.answer(1, "m0")
        talk.archive.erase(talk.key)
        just = replace(named("m1"), accepted_at=time.time() + 1)
        assert talk.archive.cancel(talk.job(2, just)).cancelled
        assert talk.fence(talk.job(3, "m0")).erased_until is not None
        assert not talk.archive.archive(talk.completed(talk.job(3, "m0")))
        assert talk.archived(2).status is JobStatus.CANCELLED
        assert talk.archive.conversation(talk.key) is not None

    @pytest.mark.parametrize("step", ["supersede", "interrupt", "cancel"])
    def test_no_late_step_leaves_a_trace_of_an_erased_conversation(self, talk: Conversation, step: str) -> None:
        talk.answer(1, "m0")
        talk.archive.erase(talk.key)
        late = talk.job(2, "m0")
        if step == "supersede":
            talk.archive.supersede(late, talk.id(1))
        elif step == "interrupt":
            talk.archive.interrupt(replace(late, superseded_by=talk.id(1)))
        else:
            verdict = talk.archive.cancel(late)
            assert verdict.cancelled
            assert verdict.job.status is JobStatus.CANCELLED
        assert talk.archive.conversation(talk.key) is None
        assert talk.archive.job(talk.key.platform_id, talk.id(2)) is None

    def test_a_job_of_a_new_conversation_is_linked_whatever_it_knows_of_its_age(self, talk: Conversation) -> None:
        # An archived job is read like this: without the times of its messages.
        talk.archive.erase(talk.key)
        talk.answer(1, replace(named("m0"), accepted_at=9e9))
        talk.archive.supersede(talk.job(1, "m0"), talk.id(2))
        assert talk.archived(1).superseded_by == talk.id(2)

    def test_a_late_end_is_not_archived(self, talk: Conversation) -> None:
        talk.archive.erase(talk.key)
        assert not talk.archive.archive(talk.completed(talk.job(1, "m0")))
        assert talk.archive.conversation(talk.key) is None
        assert talk.archive.job(talk.key.platform_id, talk.id(1)) is None

    def test_what_was_accepted_at_the_same_time_elsewhere_is_void_too(self, talk: Conversation) -> None:
        # Another host's clock may be ahead of this one's.
        talk.archive.erase(talk.key)
        assert talk.archive.erased(talk.key, time.time() + 1)
        assert not talk.archive.erased(talk.key, time.time() + 30)
        assert not talk.archive.erased(replace(talk.key, platform_id="other"), 0.0)

    def test_jobs_are_returned_for_the_tiers(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        assert talk.archive.commit(replace(talk.completed(job), finished_at=time.time()), talk.number(job))
        erased = talk.archive.erase(talk.key)
        assert erased.found
        assert erased.job_ids == (talk.id(1),)
        assert not talk.archive.erase(talk.key).found


class TestPostgres:
    def test_dropping_an_empty_conversation_waits_for_a_message_that_is_being_parked(
        self, postgres_archive: PostgresArchive, migrated: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # fence: void ── park, by an intake that saw the handoff ── drop: sees no message yet, waits, drops?
        talk = Conversation(postgres_archive)
        talk.answer(1, "m0")
        postgres_archive.erase(talk.key)
        postgres_archive.hand_off(talk.key, BOT)
        postgres_archive.resume(talk.key)
        committing: list[Timer] = []
        with closing(connector(migrated)()) as holder:

            def meanwhile(connection: Connection, values: dict[str, Any], *statements: str) -> list[Any]:
                if "drop_empty_conversation" in statements:
                    holder.execute_simple("begin")
                    execute(holder, values, "handoff_state")
                    postgres_handoff.park(holder, talk.key, [named("m1")], (), {})
                    committing.append(Timer(0.3, holder.execute_simple, ["commit"]))
                    committing[0].start()
                return execute(connection, values, *statements)

            with monkeypatch.context() as patch:
                patch.setattr("message_handler.drivers.postgres.execute", meanwhile)
                assert talk.fence(talk.job(2, "m0")).erased_until is not None
            committing[0].join()
        assert postgres_archive.to_unpark() == [talk.key]

    def test_an_erasure_waits_for_a_fence_that_is_being_taken(
        self, postgres_archive: PostgresArchive, migrated: Settings, sql: Connection
    ) -> None:
        # fence: the conversation's first row, a job ── erase: must see them ── commit
        talk = Conversation(postgres_archive)
        values = job_values(talk.job(1, "m0")) | {"turns": 0, "drains": False}
        with closing(connector(migrated)()) as worker:
            worker.execute_simple("begin")
            ((number, *_),) = take_fences(worker, [values])
            with ThreadPoolExecutor(1) as others:
                erasing = others.submit(postgres_archive.erase, talk.key)
                with pytest.raises(TimeoutError):
                    erasing.result(timeout=0.3)
                worker.execute_simple("commit")
                assert erasing.result(timeout=10).found
        assert not postgres_archive.commit(talk.completed(talk.job(1, "m0")), number)
        assert postgres_archive.conversation(talk.key) is None
        assert talk.fence(talk.job(1, "m0")).erased_until is not None

    def test_a_run_takes_nothing_along_that_was_erased_and_waits_in_the_tier(
        self, postgres_archive: PostgresArchive, postgres_tier: PostgresTier, clock: Clock
    ) -> None:
        talk = Conversation(postgres_archive)
        later = time.time() + 60
        for message in (named("m0"), replace(named("m1"), accepted_at=later)):
            Chat(postgres_tier, clock, talk.key).says(message)
        postgres_archive.erase(talk.key)
        job = replace(talk.job(1, "m2"), messages=(replace(named("m2"), accepted_at=later),))
        fence = postgres_archive.fence(job, successor_id=talk.id(2), turns=0, drain=True)
        assert fence.number is not None
        assert [message.message_id for message in fence.waiting] == ["m1"]


class TestDeliveries:
    def test_a_delivery_in_flight_has_nothing_to_report_to(
        self, postgres_archive: PostgresArchive, postgres_database: Database, sql: Connection
    ) -> None:
        talk = Conversation(postgres_archive, replace(Conversation(postgres_archive).key, platform_id="default"))
        sql.run(
            "update platforms set base_url = 'https://chat.example', webhook_failures = 0,"
            " webhook_retry_at = '-infinity', webhook_suspect = null where platform_id = 'default'"
        )
        try:
            talk.answer(1, "m0")
            outbox = PostgresOutbox(postgres_database)
            now = time.time() + 1
            claim = "6e5d7c1a-0000-4000-8000-000000000001"
            delivery = outbox.claim(talk.key, claim, now=now, until=now + 30, most=4, busy_until=now)
            assert delivery is not None
            assert not isinstance(delivery, float)
            postgres_archive.erase(talk.key)
            assert not outbox.delivered(delivery, now=now)
            assert sql.run("select count(*) from outbox") == [[0]]
        finally:
            sql.run("update platforms set base_url = null where platform_id = 'default'")


def test_a_job_that_was_erased_cannot_be_cancelled(world: World) -> None:
    world.posts("m0")
    erases(world)
    with pytest.raises((NotFound, Conflict)):
        world.jobs.cancel(told(world, "m0"))
