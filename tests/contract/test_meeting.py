"""Steps of several processes meet on one conversation, over every store. Each sees the ones before it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any, cast

import pytest

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.errors import Contended, TooManyWaiting, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import new_message
from message_handler.ports.line_store import Save
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Claim, ClaimRefused
from message_handler.settings import Settings
from message_handler.tiers import stepper
from message_handler.tiers.line_tier import LineTier
from tests.contract.chat import Chat, Clock, named
from tests.contract.world import World

DAY = 24 * 3600.0
THREADS = 16


@pytest.fixture
def other_process(tier: LineTier, settings: Settings, clock: Clock) -> Chat:
    """The same conversation, as another process sees it."""
    return Chat(cast(Tier, LineTier(tier.store, settings, clock)), clock, accepts=100, minted=iter(range(100, 200)))


@pytest.fixture
def saves(tier: LineTier, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Calls to make before the next saves, one before each."""
    pending: list[Callable[[], Any]] = []
    save = tier.store.save

    def watched(saves: list[Save]) -> Any:
        if pending:
            pending.pop(0)()
        return save(saves)

    monkeypatch.setattr(tier.store, "save", watched)
    return pending


class TestTwo:
    def test_a_step_between_the_load_and_the_save_of_another_is_seen_by_it(
        self, chat: Chat, other_process: Chat, saves: list[Callable[[], Any]]
    ) -> None:
        chat.says("a")
        saves.append(lambda: other_process.says("b"))
        job = chat.claimed()
        assert [message.content for message in job.messages] == ["a", "b"]
        assert job.attempts == 1

    def test_the_first_step_on_a_conversation_sees_another_between_load_and_save(
        self, chat: Chat, other_process: Chat, saves: list[Callable[[], Any]]
    ) -> None:
        saves.append(lambda: other_process.says("b"))
        assert chat.says("a").lock_id is None
        assert chat.words(chat.head) == ["b", "a"]

    def test_a_process_that_was_stopped_in_a_step_finds_what_came_meanwhile(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        saves: list[Callable[[], Any]],
    ) -> None:
        """A worker is stopped in the middle of its seal. Its claim goes stale, and another worker answers."""
        chat.says("a")
        chat.claimed("stopped")

        def meanwhile() -> None:
            clock.advance(settings.heartbeat_stale)
            other_process.answered("Rest.", "faster")

        saves.append(meanwhile)
        assert chat.seal(["minted-0"], "stopped").verdict == "lost"
        assert chat.head is None

    def test_a_job_that_another_worker_took_over_meanwhile_has_not_ended(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        saves: list[Callable[[], Any]],
    ) -> None:
        chat.says("a")
        ended = chat.end(chat.claimed("stopped"), reply="Rest.")

        def meanwhile() -> None:
            clock.advance(settings.heartbeat_stale)
            other_process.claimed("faster")

        saves.append(meanwhile)
        assert not chat.finish("stopped", ended).done
        assert chat.tier.job(ended.job_id) == chat.head
        assert chat.heartbeat("faster") == "valid"

    def test_a_holder_that_comes_to_life_meanwhile_keeps_its_claim(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        saves: list[Callable[[], Any]],
    ) -> None:
        """A heartbeat does not change the line's version, so a claim compares the heartbeat too."""
        chat.says("a")
        chat.claimed()
        other_process.tier.look(chat.key, "worker")  # now it has seen the line
        clock.advance(settings.heartbeat_stale)
        saves.append(chat.heartbeat)
        assert isinstance(other_process.claim("another"), ClaimRefused)
        assert chat.heartbeat() == "valid"

    def test_messages_that_join_do_not_starve_a_heartbeat(
        self, chat: Chat, other_process: Chat, saves: list[Callable[[], Any]]
    ) -> None:
        chat.says("a")
        chat.claimed()
        saves.append(lambda: other_process.says("b"))
        assert chat.tier.heartbeat(chat.key, "worker", seen=1) == "newer"
        assert not saves, "the heartbeat was sent once"

    def test_a_line_that_was_forgotten_meanwhile_does_not_come_back(
        self, chat: Chat, other_process: Chat, saves: list[Callable[[], Any]]
    ) -> None:
        chat.says("a")
        saves.append(lambda: other_process.tier.erase(chat.key))
        assert chat.claim() is None
        assert chat.head is None

    def test_a_text_that_goes_with_a_save_is_brought_all_the_same(self, chat: Chat, other_process: Chat) -> None:
        """The interrupted job had another context, which the new job does not need."""
        first = chat.says("a", context=[Turn("assistant", "Hello?")], resources={"user": 1})
        other_process.claimed()
        later = replace(
            chat.request("b", context=[Turn("user", "x"), Turn("assistant", "y")], resources={"user": 2}),
            double_texting="interrupt",
        )
        cold = LineTier(cast(LineTier, chat.tier).store, Settings(), chat.clock)
        accepted = cold.accept(later, job_id=chat.job_id(9), lock_id="lock-9")
        assert accepted.interrupted
        assert (accepted.interrupted.job_id, accepted.interrupted.resources) == (first.job_id, {"user": 1})
        assert [message.content for message in accepted.pending] == ["a", "b"]

    def test_taking_a_message_out_of_the_next_job_leaves_the_current_one(self, chat: Chat) -> None:
        chat.says(named("m0"))
        chat.claimed()
        chat.seal(["m0"])
        second = chat.says(named("m1"))
        assert chat.adopt("worker", ["m0"]) is not None
        chat.undo(second)
        assert chat.heartbeat() == "valid"

    def test_a_step_that_changes_nothing_writes_nothing(self, tier: LineTier, chat: Chat) -> None:
        chat.says("a")
        chat.claimed()
        before = tier.store.read([chat.key])
        assert isinstance(chat.claim("another"), ClaimRefused)
        assert chat.heartbeat("another") == "lost"
        assert chat.seal(["minted-0"], "another").verdict == "lost"
        chat.tier.forget(chat.key, ["unknown"])
        chat.tier.undo(chat.key, ["unknown"])
        assert chat.tier.sweep(older_than=DAY) == []
        assert chat.head
        assert chat.lock
        assert chat.tier.locks(chat.key.platform_id)
        assert tier.store.read([chat.key]) == before


class TestSweep:
    """The sweep reads the index first and then takes its step on each line. Other steps may come in between."""

    @pytest.fixture
    def meanwhile(self, tier: LineTier, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
        def arrange(event: Callable[[], object]) -> None:
            look = tier.store.due

            def look_and_then(older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
                found = look(older_than, platform_id)
                monkeypatch.setattr(tier.store, "due", look)
                event()
                return found

            monkeypatch.setattr(tier.store, "due", look_and_then)

        return arrange

    def test_a_worker_that_claims_meanwhile_keeps_its_claim(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        meanwhile: Callable[[Callable[[], object]], None],
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after)
        meanwhile(other_process.claimed)
        assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat() == "valid"

    def test_a_worker_that_comes_to_life_meanwhile_keeps_its_claim(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        meanwhile: Callable[[Callable[[], object]], None],
    ) -> None:
        chat.says("a")
        chat.claimed()
        clock.advance(settings.heartbeat_stale)
        meanwhile(other_process.heartbeat)
        assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat() == "valid"

    def test_one_of_two_sweeps_at_once_wakes_a_conversation(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        meanwhile: Callable[[Callable[[], object]], None],
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after)
        woken: list[object] = []
        meanwhile(lambda: woken.extend(other_process.tier.sweep(older_than=DAY)))
        assert chat.tier.sweep(older_than=DAY) == []
        assert len(woken) == 1

    def test_a_job_that_ends_meanwhile_wants_no_record(
        self,
        chat: Chat,
        other_process: Chat,
        clock: Clock,
        settings: Settings,
        meanwhile: Callable[[Callable[[], object]], None],
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after)
        meanwhile(other_process.answered)
        assert chat.tier.sweep(older_than=DAY) == []


class TestContention:
    def test_a_step_that_always_meets_another_is_refused_for_this_conversation_alone(
        self, tier: LineTier, settings: Settings, clock: Clock, other_process: Chat, saves: list[Callable[[], Any]]
    ) -> None:
        pauses: list[float] = []
        chat = Chat(cast(Tier, LineTier(tier.store, settings, clock, sleep=pauses.append)), clock)
        chat.says("a")
        words = iter(range(10_000))

        def interferes() -> None:
            saves.clear()
            other_process.says(f"word {next(words)}")
            saves.append(interferes)

        saves.append(interferes)
        with pytest.raises(Contended) as refused:
            chat.claim()
        saves.clear()
        assert refused.value.status == 429
        assert not isinstance(refused.value, Unavailable), "contention is no outage: no other tier may take over"
        assert len(pauses) == (stepper.MAX_TRIES - 1) // 2
        assert all(pause <= stepper.LONGEST_PAUSE for pause in pauses)
        assert len(set(pauses)) > len(pauses) // 2, "the pauses are not spread, so the processes meet again"
        assert chat.claimed().attempts == 1

    def test_a_slow_store_is_no_other_clock(self, chat: Chat, clock: Clock, saves: list[Callable[[], Any]]) -> None:
        """The network delay is part of the clock difference, and is the same the next time."""
        saves.extend([lambda: clock.advance(1.5)] * 6)
        chat.says("a")
        assert len(saves) == 4
        chat.says("b")
        assert chat.claimed().attempts == 1
        assert len(saves) == 2

    @pytest.mark.parametrize("step", ["tier.claim", "tier.adopt", "tier.heartbeat", "tier.seal", "tier.finish"])
    def test_a_record_whose_conversation_others_change_is_answered_later(self, world: World, step: str) -> None:
        def contended() -> None:
            raise Contended

        world.posts("m0")
        world.steps.hooks["before", step] = [contended]
        world.delivers()
        assert world.settles().answered("m0")
        assert world.checked().end_of("m0").status is JobStatus.COMPLETED

    def test_no_more_messages_wait_than_may(self, tier: LineTier, chat: Chat, settings: Settings, clock: Clock) -> None:
        few = settings.model_copy(update={"max_waiting": 3})
        chat = Chat(cast(Tier, LineTier(tier.store, few, clock)), clock)
        bounded = replace(chat.request(*(named(f"m{n}") for n in range(5))), bounded=True)
        assert chat.accept(bounded).lock_id, "an empty line accepts any request"
        one_more = replace(chat.request(named("m5")), bounded=True)
        with pytest.raises(TooManyWaiting, match="3 messages") as refused:
            chat.accept(one_more)
        assert refused.value.retry_after > 0
        assert chat.words(chat.head) == [f"text of m{n}" for n in range(5)]
        assert chat.accept(bounded).duplicate, "a message that waits already is not new"
        # A record's, a resumed and a retried message were accepted before.
        chat.record_arrives(chat.job_id(1), named("m6"))
        chat.accept(replace(one_more, bounded=False))
        assert len(chat.words(chat.head)) == 7


class TestMany:
    def at_once(self, number: int, act: Callable[[int], Any]) -> list[Any]:
        together = Barrier(number)

        def acting(n: int) -> Any:
            together.wait(10)
            return act(n)

        with ThreadPoolExecutor(number) as threads:
            return list(threads.map(acting, range(number)))

    @pytest.mark.parametrize("together", [False, True], ids=["several processes", "one process"])
    def test_one_message_of_a_burst_takes_the_lock_and_all_land_in_its_job(
        self, tier: LineTier, settings: Settings, clock: Clock, together: bool
    ) -> None:
        """Each message comes twice, from 16 threads at once, as webhooks do."""
        one = LineTier(tier.store, settings, clock, together=True)
        for round_ in range(4):
            key = ConversationKey("clinic", f"burst-{round_}")

            def send(number: int, key: ConversationKey = key) -> Any:
                process = one if together else LineTier(tier.store, settings, clock)
                request = Chat(cast(Tier, process), clock, key).request(named(f"m{number // 2}"))
                return process.accept(request, job_id=key.new_job_id(), lock_id=f"lock-{number}")

            answers = self.at_once(THREADS, send)
            assert sum(answer.lock_id is not None for answer in answers) == 1
            assert len({answer.job_id for answer in answers}) == 1
            assert Counter(answer.duplicate for answer in answers) == {False: THREADS // 2, True: THREADS // 2}
            job = tier.job(answers[0].job_id)
            assert job is not None
            assert sorted(message.message_id for message in job.messages) == sorted(
                f"m{n}" for n in range(THREADS // 2)
            )

    def test_one_of_many_workers_claims(self, tier: LineTier, settings: Settings, chat: Chat) -> None:
        chat.says("a")
        processes = [LineTier(tier.store, settings, chat.clock) for _ in range(THREADS)]
        claims = self.at_once(THREADS, lambda n: processes[n].claim(chat.key, f"worker-{n}"))
        held = [claim for claim in claims if isinstance(claim, Claim)]
        assert len(held) == 1
        assert tier.owner(chat.key, held[0].lock_id) == chat.job_id(1)
        assert held[0].job.attempts == 1

    def test_while_patients_type_and_workers_run_each_message_is_answered_once(
        self, tier: LineTier, settings: Settings, clock: Clock
    ) -> None:
        """Three conversations, three patients and six workers, until everything sent is in one ended job."""
        keys = [ConversationKey("clinic", f"busy-{number}") for number in range(3)]
        sent: dict[ConversationKey, list[str]] = {key: [] for key in keys}
        covered: list[str] = []
        deadline = time.monotonic() + 60

        def patient(key: ConversationKey) -> None:
            process = LineTier(tier.store, settings, clock)
            for number in range(12):
                message_id = f"{key.conversation_id}-{number}"
                request = Chat(cast(Tier, process), clock, key).request(named(message_id))
                process.accept(request, job_id=key.new_job_id(), lock_id=message_id)
                sent[key].append(message_id)

        def worker(number: int) -> None:
            key, process = keys[number % len(keys)], LineTier(tier.store, settings, clock)
            while len(sent[key]) < 12 or process.waiting(key):
                assert time.monotonic() < deadline
                lock_id = new_message("", None).message_id
                claim = process.claim(key, lock_id)
                job = getattr(claim, "job", None)
                while job:
                    answered = [message.message_id for message in job.messages]
                    sealed = process.seal(key, lock_id, answered, next_id=key.new_job_id(), fenced=True)
                    if sealed.verdict == "sealed" and sealed.job:
                        ended = replace(sealed.job, status=JobStatus.COMPLETED, finished_at=0.0)
                        covered.extend(message.message_id for message in ended.messages)
                        assert process.finish(key, lock_id, ended).done
                        job = None
                    else:
                        assert sealed.verdict == "again"
                        job = sealed.job

        with ThreadPoolExecutor(9) as threads:
            running = [threads.submit(patient, key) for key in keys]
            running += [threads.submit(worker, number) for number in range(6)]
            for future in running:
                future.result(90)
        for key in keys:
            assert [message_id for message_id in covered if message_id in sent[key]] == sent[key]
        assert len(covered) == 36
