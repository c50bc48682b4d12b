"""How a `LineTier` saves in any store of lines: it compares times, repeats a save, and ends a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import JobStatus
from message_handler.ports.line_store import Save
from message_handler.ports.tier import Tier
from message_handler.protocol import accepting
from message_handler.protocol.line import Line
from message_handler.protocol.results import Accepted, Claim, ClaimRefused
from message_handler.settings import Settings
from message_handler.tiers.line_tier import LineTier
from tests.contract.chat import Chat, Clock, named
from tests.contract.gate import Gate

DAY = 24 * 3600.0


@dataclass
class Host:
    """Another host, whose clock is `ahead` seconds ahead of the store's."""

    chat: Chat
    ahead: float = 0.0


@pytest.fixture
def host(tier: LineTier, settings: Settings, clock: Clock) -> Host:
    other = LineTier(tier.store, settings, lambda: clock() + host.ahead)
    host = Host(Chat(cast(Tier, other), clock))
    return host


class TestAClockThatIsWrong:
    """The host knows the line already. Only the time shows that its step was computed at another moment."""

    def test_a_host_that_is_ahead_does_not_take_a_live_holders_lock(
        self, chat: Chat, host: Host, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.claimed()
        host.chat.tier.look(chat.key, "worker")
        clock.advance(settings.heartbeat_stale - 5)
        host.ahead = 10
        refused = host.chat.claim("another")
        assert isinstance(refused, ClaimRefused)
        assert refused.wait == pytest.approx(settings.run_seconds - settings.heartbeat_stale + 5, abs=0.01)
        assert chat.heartbeat() == "valid"

    def test_a_host_that_is_behind_claims_for_as_long_as_any_other(self, chat: Chat, host: Host, clock: Clock) -> None:
        chat.says("a")
        host.chat.tier.look(chat.key, "worker")
        host.ahead = -10
        host.chat.claimed()
        assert chat.lock
        assert chat.lock.heartbeat_at == pytest.approx(clock.now, abs=0.01)
        host.ahead = -20
        clock.advance(1)
        assert host.chat.heartbeat() == "valid"
        assert chat.lock.heartbeat_at == pytest.approx(clock.now, abs=0.01)

    def test_a_sweep_that_was_frozen_before_its_save_looks_again(
        self, chat: Chat, host: Host, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its job would be due at once, because the wait passed while the host was frozen."""
        chat.says("a")
        clock.advance(settings.wake_after)
        store = cast(LineTier, chat.tier).store
        save, frozen = store.save, iter([2 * settings.wake_after])

        def late(saves: Sequence[Save]) -> Any:
            clock.advance(next(frozen, 0))
            return save(saves)

        monkeypatch.setattr(store, "save", late)
        chat.tier.look(chat.key, "worker")
        assert len(chat.tier.sweep(older_than=DAY)) == 1
        assert host.chat.tier.sweep(older_than=DAY) == []


class TestASaveThatIsRepeated:
    """The answer to a save was lost, so the client sends it again. The step is not taken twice."""

    @pytest.fixture
    def lost(self, tier: LineTier, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Chat]:
        """The chat, with the first answer to its next save lost."""
        save, losing = tier.store.save, list[bool]()

        def repeated(saves: Sequence[Save]) -> Any:
            if losing:
                losing.clear()
                save(saves)
            return save(saves)

        def armed() -> Chat:
            losing.append(True)
            return chat

        monkeypatch.setattr(tier.store, "save", repeated)
        return armed

    def test_a_repeated_save_is_known_for_the_same(self, lost: Callable[[], Chat]) -> None:
        accepted = lost().says(named("m1"))
        assert (accepted.lock_id, accepted.duplicate) == ("lock-1", False)
        job = lost().claimed()
        assert job.attempts == 1
        assert [message.content for message in job.messages] == ["text of m1"], "the text comes with either answer"
        assert lost().heartbeat() == "valid"
        assert lost().seal(["m1"]).verdict == "sealed"
        chat = lost()
        assert chat.finish("worker", chat.end(job, reply="Rest.")).done
        assert chat.says(named("m1")).duplicate

    def test_a_message_that_is_undone_after_a_repeated_save_was_posted_once(
        self, chat: Chat, lost: Callable[[], Chat]
    ) -> None:
        accepted = lost().says(named("m1"))
        lost().undo(accepted)
        assert chat.head is None


class TestEnds:
    def test_a_cancel_waits_for_no_patient_who_may_still_be_typing(self, chat: Chat) -> None:
        job_id = chat.accept(replace(chat.request("a"), debounce=5.0, debounce_max=10.0)).job_id
        assert isinstance(chat.claim(), ClaimRefused)
        chat.cancel(job_id)
        claim = chat.claim()
        assert isinstance(claim, Claim)
        assert claim.job.status is JobStatus.CANCELLING

    def test_a_message_that_a_human_will_answer_was_not_answered(self, chat: Chat) -> None:
        """A worker did not learn that its commit succeeded. Later messages are parked. The job ends as completed."""
        chat.says("a")
        chat.finish("worker", chat.end(chat.claimed(), reply="Rest.", parked=True))
        chat.says("a", "b")
        assert chat.words(chat.head) == ["a", "b"]


def test_a_step_that_fails_is_no_other_steps_concern(
    tier: LineTier, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps on several conversations go together. Steps on one conversation become one save."""
    accept = accepting.accept

    def breaks(line: Line, **arguments: Any) -> Accepted:
        accepted = accept(line, **arguments)
        if accepted.pending[-1].content == "broken":
            raise ZeroDivisionError
        return accepted

    monkeypatch.setattr(accepting, "accept", breaks)
    gate = Gate(monkeypatch)
    together = cast(Tier, LineTier(tier.store, settings, clock, together=True))
    steps = [("first", "good"), ("a", "good"), ("b", "broken"), ("c", "broken"), ("c", "good")]
    calls = [
        partial(
            Chat(together, clock, ConversationKey("clinic", name), accepts=number).says, named(f"m{number}", content)
        )
        for number, (name, content) in enumerate(steps)
    ]
    with ThreadPoolExecutor(len(calls)) as threads:
        answers = gate.together(threads, *calls)
    assert [type(answer) for answer in answers] == [Accepted, Accepted, ZeroDivisionError, ZeroDivisionError, Accepted]
