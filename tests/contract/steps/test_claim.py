"""A worker claims the head of a line and keeps its claim, on every tier."""

from __future__ import annotations

from message_handler.domain.jobs import JobStatus
from message_handler.protocol.results import ClaimRefused
from message_handler.settings import Settings
from tests.contract.chat import DAY, Chat, Clock


class TestClaim:
    def test_the_head_of_the_line_is_run(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(2)
        job = chat.claimed()
        assert job == chat.head
        assert job.status is JobStatus.PROCESSING
        assert job.attempts == 1
        assert job.started_at == clock.now
        assert chat.claim("another") is not None

    def test_nothing_waits_for_an_unknown_conversation(self, chat: Chat) -> None:
        assert chat.claim() is None
        assert chat.head is None

    def test_the_head_is_claimed_whatever_job_woke_the_worker(self, chat: Chat) -> None:
        """Counterexample 3: J0 was committed and its lock released. J0's record must wake J1."""
        first = chat.says("a")
        job = chat.claimed()
        sealed = chat.seal([first.message_id])
        second = chat.says("b")
        chat.tier.force_release(chat.key)
        assert chat.claimed("rescuer").job_id == first.job_id
        assert sealed.job is not None
        chat.finish("rescuer", chat.end(sealed.job))
        chat.record_arrives(job.job_id, *job.messages)
        assert chat.claimed("rescuer").job_id == second.job_id

    def test_a_fresh_claim_is_refused_until_its_holders_deadline(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.claimed()
        assert chat.claim("another") == ClaimRefused(settings.run_seconds)
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.claim("another") == ClaimRefused(settings.run_seconds - settings.heartbeat_stale + 1, overdue=1)
        assert chat.heartbeat() == "valid"

    def test_a_holder_that_has_missed_two_heartbeats_is_overdue(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.claimed()
        clock.advance(2 * settings.heartbeat_every)
        assert chat.claim("another") == ClaimRefused(settings.run_seconds - 2 * settings.heartbeat_every)
        clock.advance(0.5)
        refused = chat.claim("another")
        assert isinstance(refused, ClaimRefused)
        assert refused.overdue == settings.heartbeat_stale - 2 * settings.heartbeat_every - 0.5

    def test_a_holder_past_its_deadline_is_waited_for_until_its_claim_can_be_taken_over(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.claimed()
        for _ in range(3):
            clock.advance(settings.run_seconds / 3)
            chat.heartbeat()
        refused = chat.claim("another")
        assert refused == ClaimRefused(settings.heartbeat_stale)
        clock.advance(settings.heartbeat_stale)
        assert chat.claimed("another").attempts == 2

    def test_a_stale_claim_is_taken_over(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        started = chat.claimed().started_at
        clock.advance(settings.heartbeat_stale)
        job = chat.claimed("another")
        assert (job.attempts, job.started_at) == (2, started)
        assert chat.heartbeat() == "lost"
        assert chat.heartbeat("another") == "valid"

    def test_a_takeover_reopens_a_sealed_job_and_remembers_that_it_may_be_committed(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id], fenced=True)
        clock.advance(settings.heartbeat_stale)
        job = chat.claimed("another")
        assert not job.sealed
        assert job.maybe_committed
        assert chat.says("b").job_id == first.job_id

    def test_a_job_that_is_being_cancelled_is_handed_over_as_it_is(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        accepted = chat.says("a")
        chat.cancel(accepted.job_id)
        job = chat.claimed()
        assert job.status is JobStatus.CANCELLING
        assert job.attempts == 0
        assert isinstance(chat.claim("another"), ClaimRefused)
        clock.advance(settings.heartbeat_stale)
        assert chat.claimed("another").status is JobStatus.CANCELLING


class TestHeartbeatAndOwner:
    def test_a_heartbeat_keeps_the_claim(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        for _ in range(4):
            clock.advance(settings.heartbeat_stale - 1)
            assert chat.heartbeat() == "valid"
        assert chat.lock is not None
        assert chat.lock.heartbeat_at == clock.now
        assert chat.tier.sweep(older_than=DAY) == []
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_only_the_claims_own_lock_id_extends_it(self, chat: Chat) -> None:
        accepted = chat.says("a")
        assert accepted.lock_id
        assert chat.heartbeat(accepted.lock_id) == "lost"
        chat.claimed()
        assert chat.heartbeat("another") == "lost"
        assert chat.heartbeat(accepted.lock_id) == "lost"

    def test_a_heartbeat_tells_of_a_cancel(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        chat.cancel(accepted.job_id)
        assert chat.heartbeat() == "cancelling"
        assert chat.heartbeat("another") == "lost"

    def test_a_stale_holder_that_was_not_replaced_may_go_on(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        clock.advance(settings.heartbeat_stale * 2)
        assert chat.heartbeat() == "valid"
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_a_lock_belongs_to_its_taker_until_a_worker_claims_it(self, chat: Chat) -> None:
        accepted = chat.says("a")
        assert chat.tier.owner(chat.key, "lock-1") == accepted.job_id
        assert chat.tier.owner(chat.key, "another") is None
        chat.claimed()
        assert chat.tier.owner(chat.key, "lock-1") is None
        assert chat.tier.owner(chat.key, "worker") == accepted.job_id
        chat.tier.force_release(chat.key)
        assert chat.tier.owner(chat.key, "worker") is None

    def test_without_a_lock_there_is_no_owner(self, chat: Chat) -> None:
        assert chat.tier.owner(chat.key, "lock-1") is None
        chat.says("a")
        chat.answered()
        assert chat.tier.owner(chat.key, "worker") is None
        chat.says("b")
        chat.tier.force_release(chat.key)
        assert chat.tier.owner(chat.key, "") is None
