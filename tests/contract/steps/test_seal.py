"""A worker seals its job before the commit, on every tier."""

from __future__ import annotations

from dataclasses import replace

import pytest

from message_handler.domain.conversations import Turn
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.protocol.results import ClaimRefused, Sealed
from message_handler.settings import Settings
from tests.contract.chat import BOT, DAY, Chat, Clock


class TestSeal:
    def test_before_a_slow_commit_a_seal_shows_that_the_worker_lives(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        first = chat.says("a")
        chat.claimed()
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.seal([first.message_id], fenced=True).verdict == "sealed"
        clock.advance(settings.heartbeat_stale - 1)
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_without_newer_messages_the_job_is_sealed(self, chat: Chat) -> None:
        first = chat.says("a")
        job = chat.claimed()
        sealed = chat.seal([first.message_id], fenced=False)
        assert sealed == Sealed("sealed", replace(job, sealed=True))
        assert chat.head == sealed.job
        assert chat.heartbeat() == "valid"

    @pytest.mark.parametrize("fenced", [True, False])
    def test_a_fenced_job_may_be_committed(self, chat: Chat, fenced: bool) -> None:
        first = chat.says("a")
        chat.claimed()
        sealed = chat.seal([first.message_id], fenced=fenced)
        assert sealed.job is not None
        assert sealed.job.maybe_committed is fenced
        assert chat.head == sealed.job

    def test_an_unfenced_seal_does_not_forget_a_fenced_one(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id], fenced=True)
        assert chat.seal([first.message_id], fenced=False).job == chat.head
        assert chat.head is not None
        assert chat.head.maybe_committed

    def test_newer_messages_restart_the_run_and_at_the_limit_wait_for_the_next(
        self, chat: Chat, settings: Settings
    ) -> None:
        """Endless typing still gets an answer (invariant 8)."""
        accepted = chat.says("0")
        seen = [message.message_id for message in chat.claimed().messages]
        for restart in range(1, settings.max_restarts + 1):
            assert chat.says(str(restart)).job_id == accepted.job_id
            again = chat.seal(seen)
            assert again.verdict == "again"
            assert again.job is not None
            assert again.job.restarts == restart
            assert not again.job.sealed
            seen = [message.message_id for message in again.job.messages]
        late = chat.says("too late")
        assert late.job_id != accepted.job_id
        sealed = chat.seal(seen)
        assert sealed.verdict == "sealed"
        assert chat.words(sealed.job) == ["0", "1", "2", "3"]
        assert chat.words(late.job_id) == ["too late"]

    def test_newer_messages_at_the_limit_go_to_the_head_of_the_next_job(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a", "b", "c", context=[Turn("assistant", "Hello?")], resources={"user": 1})
        chat.claimed()
        for _ in range(settings.max_restarts):
            assert chat.seal(["minted-0"]).verdict == "again"
        clock.advance(1)
        sealed = chat.seal(["minted-1"])
        assert sealed.verdict == "sealed"
        assert chat.words(sealed.job) == ["b"]
        following = chat.tier.job(chat.job_id(800))
        assert following == Job(
            chat.job_id(800),
            chat.key,
            JobStatus.PENDING,
            (Message("minted-0", "a"), Message("minted-2", "c")),
            BOT,
            context=(Turn("assistant", "Hello?"),),
            resources={"user": 1},
            created_at=clock.now,
        )

    def test_newer_messages_at_the_limit_go_before_those_of_the_next_job(self, chat: Chat, settings: Settings) -> None:
        chat.says("a", "b")
        chat.claimed()
        for _ in range(settings.max_restarts):
            chat.seal(["minted-0"])
        waiting = chat.says("c")
        chat.seal(["minted-0"], next_number=801)
        assert chat.words(waiting.job_id) == ["b", "c"]
        assert chat.tier.job(chat.job_id(801)) is None

    def test_a_cancel_comes_before_the_seal_or_not_at_all(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        chat.cancel(accepted.job_id)
        assert chat.seal([accepted.message_id]) == Sealed("cancelling", chat.head)
        assert chat.head is not None
        assert not chat.head.sealed

    def test_only_the_owner_seals(self, chat: Chat) -> None:
        accepted = chat.says("a")
        assert accepted.lock_id
        before = chat.head
        assert chat.seal([accepted.message_id], accepted.lock_id) == Sealed("lost")
        assert chat.head == before
        chat.claimed()
        before = chat.head
        assert chat.seal([accepted.message_id], "another") == Sealed("lost")
        assert chat.head == before

    def test_a_message_after_the_seal_waits_for_the_next_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second, third = chat.says("b"), chat.says("c")
        assert second.job_id == third.job_id == chat.job_id(2)
        assert second.lock_id is None
        assert chat.words(second.job_id) == ["b", "c"]
        assert chat.words(first.job_id) == ["a"]

    def test_no_message_joins_a_job_while_a_next_one_waits(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        """Counterexample 7: J0 is sealed and m1 waits in J1. The worker dies, and J0 is opened again."""
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        clock.advance(settings.heartbeat_stale)
        chat.tier.sweep(older_than=DAY)
        assert chat.says("c").job_id == second.job_id
        chat.claimed("rescuer")
        assert chat.says("d").job_id == second.job_id
        assert chat.words(first.job_id) == ["a"]
        assert chat.words(second.job_id) == ["b", "c", "d"]

    def test_nothing_rides_on_a_message_of_another_job(self, chat: Chat) -> None:
        # The request's own message is in the sealed job, so its record is deleted with that job.
        chat.says("b")
        chat.claimed()
        chat.seal(["minted-0"])
        accepted = chat.says("a", "b")
        assert accepted.duplicate
        assert accepted.message_id == "minted-0"
        assert accepted.posted == ("minted-0",)
        assert chat.tier.job(chat.job_id(2)) is None


class TestASealWithoutTimeForAnotherRun:
    def test_newer_messages_wait_for_the_next_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.says("b")
        sealed = chat.tier.seal(
            chat.key, "worker", [first.message_id], next_id=chat.job_id(8), fenced=True, may_restart=False
        )
        assert sealed.verdict == "sealed"
        assert chat.words(sealed.job) == ["a"]
        assert chat.words(chat.job_id(8)) == ["b"]
