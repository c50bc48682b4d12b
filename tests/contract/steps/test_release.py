"""A lock is released, on every tier: by its owner, or by an operator."""

from __future__ import annotations

from dataclasses import replace

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.jobs import JobStatus
from tests.contract.chat import BOT, Chat, named


class TestRelease:
    def test_all_messages_of_a_released_job_end_as_cancelled(self, chat: Chat) -> None:
        accepted = chat.says(named("m1"), "two", context=[Turn("user", "before")], resources={"user": 1})
        chat.says(named("m3"))
        assert chat.tier.release(chat.key, "lock-1")
        assert (chat.head, chat.lock) == (None, None)
        job = chat.tier.job(accepted.job_id)
        assert job
        assert (job.status, job.key, job.bot_id, job.reply) == (JobStatus.CANCELLED, chat.key, BOT, None)
        assert [(message.message_id, message.content) for message in job.messages] == [
            (message_id, "") for message_id in ("m1", accepted.message_id, "m3")
        ]
        assert (job.context, job.resources, job.superseded_by) == ((), {}, None)
        late = chat.says(named("m1"))
        assert (late.job_id, late.duplicate, late.consolidated_messages) == (accepted.job_id, True, 3)
        assert chat.says(named("m4")).lock_id

    def test_what_waits_behind_it_moves_up(self, chat: Chat) -> None:
        chat.says(named("m1"))
        chat.claimed()
        chat.seal(["m1"])
        second = chat.says(named("m2"))
        assert chat.tier.release(chat.key, "worker")
        assert chat.words(chat.head) == ["text of m2"]
        assert chat.claimed("another").job_id == second.job_id

    def test_only_the_owner_releases(self, chat: Chat) -> None:
        assert not chat.tier.release(chat.key, "lock-1")
        chat.says(named("m1"))
        before = chat.snapshot(chat.job_id(1))
        for lock_id in ("", "another"):
            assert not chat.tier.release(chat.key, lock_id)
        assert not chat.tier.release(ConversationKey("clinic-2", "patient-1"), "lock-1")
        assert chat.snapshot(chat.job_id(1)) == before
        chat.claimed()
        assert not chat.tier.release(chat.key, "lock-1")
        assert chat.tier.release(chat.key, "worker")
        assert not chat.tier.release(chat.key, "worker")


class TestForceRelease:
    def test_the_holder_is_emptied_and_the_job_waits_again(self, chat: Chat) -> None:
        chat.says("a")
        job = chat.claimed()
        released = chat.tier.force_release(chat.key)
        assert released == chat.head == replace(job, status=JobStatus.PENDING)
        assert chat.heartbeat() == "lost"
        assert chat.seal(["minted-0"]).verdict == "lost"
        assert chat.claimed("another").attempts == 2

    def test_what_may_be_committed_is_remembered(self, chat: Chat) -> None:
        chat.says("a")
        chat.claimed()
        chat.seal(["minted-0"], fenced=True)
        released = chat.tier.force_release(chat.key)
        assert released is not None
        assert released.maybe_committed
        assert not released.sealed

    def test_a_cancel_goes_on_after_a_release(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        chat.cancel(accepted.job_id)
        released = chat.tier.force_release(chat.key)
        assert released is not None
        assert released.status is JobStatus.CANCELLING

    def test_without_a_lock_there_is_nothing_to_release(self, chat: Chat) -> None:
        assert chat.tier.force_release(chat.key) is None
        chat.says("a")
        chat.answered()
        assert chat.tier.force_release(chat.key) is None
