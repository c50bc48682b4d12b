"""A job is finished, on every tier: what the tier remembers of its end and its messages, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.protocol.line import LIVE_TTL_SECONDS
from message_handler.protocol.results import Finished
from message_handler.settings import Settings
from tests.contract.chat import BOT, Chat, Clock, named


class TestFinish:
    def test_an_ended_job_is_readable_for_an_hour_without_its_text(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        accepted = chat.says(named("m1"), "secret", context=[Turn("user", "secret")], resources={"x": "secret"})
        clock.advance(1)
        chat.claimed()
        clock.advance(1)
        ended = chat.sealed_and_ended("Rest.")
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert (read.status, read.reply, read.error) == (JobStatus.COMPLETED, "Rest.", None)
        assert (read.created_at, read.started_at, read.finished_at) == (clock.now - 2, clock.now - 1, clock.now)
        assert (read.attempts, read.restarts, read.bot_id, read.key) == (1, 0, BOT, chat.key)
        assert [message.message_id for message in read.messages] == [m.message_id for m in ended.messages]
        assert "secret" not in repr(read)
        clock.advance(settings.job_ttl - 1)
        assert chat.tier.job(accepted.job_id) == read
        clock.advance(1)
        assert chat.tier.job(accepted.job_id) is None

    def test_a_failed_job_says_why(self, chat: Chat) -> None:
        accepted = chat.says("a")
        error = JobError("ai_timeout", "The AI did not answer in time")
        chat.finish("worker", chat.end(chat.claimed(), JobStatus.FAILED, error=error))
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert (read.status, read.error) == (JobStatus.FAILED, error)

    def test_the_lock_goes_with_the_job(self, chat: Chat) -> None:
        chat.says("a")
        job = chat.claimed()
        assert chat.finish("worker", chat.end(job)) == Finished(True, waiting=False)
        assert chat.snapshot() == [None, None]
        assert chat.heartbeat() == "lost"
        assert chat.tier.locks("clinic") == []

    def test_the_next_job_moves_up_without_a_holder(self, chat: Chat, clock: Clock) -> None:
        first = chat.says("a")
        chat.claimed()
        sealed = chat.seal([first.message_id])
        second = chat.says("b")
        clock.advance(3)
        assert sealed.job is not None
        assert chat.finish("worker", chat.end(sealed.job)) == Finished(True, waiting=True)
        assert chat.head is not None
        assert chat.head.job_id == second.job_id
        assert chat.head.status is JobStatus.PENDING
        assert chat.lock is not None
        assert (chat.lock.acquired_at, chat.lock.heartbeat_at) == (clock.now, None)
        assert chat.heartbeat() == "lost"
        assert chat.claimed("another").job_id == second.job_id

    def test_only_the_owner_finishes(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        accepted = chat.says("a")
        job = chat.claimed()
        clock.advance(settings.heartbeat_stale)
        chat.claimed("another")
        before = chat.snapshot(accepted.job_id)
        assert chat.finish("worker", chat.end(job)) == Finished(False)
        assert chat.snapshot(accepted.job_id) == before

    def test_a_late_worker_does_not_finish_its_successors_job(self, chat: Chat) -> None:
        chat.says("a")
        late = chat.claimed()
        chat.finish(None, chat.end(late))
        chat.says("b")
        chat.claimed("another")
        assert not chat.finish("worker", chat.end(late)).done
        assert not chat.finish("another", chat.end(late)).done
        assert not chat.finish(None, chat.end(late)).done
        assert chat.words(chat.head) == ["b"]

    def test_a_job_ends_once(self, chat: Chat) -> None:
        """Invariant 10: an ended job never changes."""
        accepted = chat.says("a")
        job = chat.claimed()
        chat.finish("worker", chat.end(job, reply="Rest."))
        assert not chat.finish("worker", chat.end(job, JobStatus.FAILED)).done
        assert not chat.finish(None, chat.end(job, JobStatus.CANCELLED)).done
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert (read.status, read.reply) == (JobStatus.COMPLETED, "Rest.")

    def test_an_end_that_the_archive_decided_needs_no_owner(self, chat: Chat) -> None:
        accepted = chat.says("a")
        job = chat.claimed()
        assert chat.finish(None, chat.end(job, JobStatus.CANCELLED)) == Finished(True, waiting=False)
        assert chat.heartbeat() == "lost"
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert read.status is JobStatus.CANCELLED

    def test_the_next_job_can_end_by_verdict_before_its_turn(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        chat.claimed()
        chat.seal(["m1"])
        second = chat.says(named("m2"))
        following = chat.tier.job(second.job_id)
        assert following is not None
        assert not chat.finish("worker", chat.end(following)).done
        assert chat.finish(None, chat.end(following, JobStatus.CANCELLED)) == Finished(True, waiting=False)
        read = chat.tier.job(second.job_id)
        assert read is not None
        assert read.status is JobStatus.CANCELLED
        assert chat.heartbeat() == "valid"
        assert chat.head is not None
        assert chat.head.job_id == first.job_id
        late = chat.says(named("m2"))
        assert late.duplicate
        assert late.job_id == second.job_id
        assert chat.says(named("m3")).job_id == chat.job_id(4)

    def test_a_message_that_joined_unseen_waits_for_the_next_job(self, chat: Chat, clock: Clock) -> None:
        """A worker died after its commit. The fence finds all settled, and m1 joins before the job is finished."""
        chat.says(named("m0"), context=[Turn("assistant", "Hello?")], resources={"user": 1})
        committed = chat.end(chat.claimed(), reply="Rest.")
        clock.advance(1)
        joined = chat.says(named("m1"))
        assert joined.job_id == committed.job_id
        assert chat.finish("worker", committed) == Finished(True, waiting=True)
        assert chat.says(named("m0")).job_id == committed.job_id
        again = chat.says(named("m1"))
        assert again.duplicate
        assert again.job_id != committed.job_id
        job = chat.claimed()
        assert job.job_id == again.job_id
        assert job.messages == (named("m1"),)
        assert (job.context, job.resources) == ((Turn("assistant", "Hello?"),), {"user": 1})
        assert (job.created_at, job.restarts, job.attempts) == (clock.now, 0, 1)

    def test_a_message_that_joined_unseen_goes_before_those_of_the_next_job(
        self, chat: Chat, settings: Settings
    ) -> None:
        chat.says(named("m0"))
        job = chat.claimed()
        chat.says(named("m1"))
        for _ in range(settings.max_restarts):
            chat.seal(["m0"])
        second = chat.says(named("m2"))
        chat.finish("worker", chat.end(job))
        assert chat.head is not None
        assert chat.head.job_id == second.job_id
        assert chat.words(chat.head) == ["text of m1", "text of m2"]

    def test_an_end_without_texts_is_remembered_with_them(self, chat: Chat) -> None:
        # The archive's copy of a job names its messages without their texts.
        chat.says("a")
        job = chat.claimed()
        bare = tuple(Message(message.message_id, "") for message in job.messages)
        chat.finish(None, chat.end(job, messages=bare))
        chat.says("a", "b")
        assert chat.words(chat.head) == ["b"]

    def test_a_late_duplicate_starts_nothing_for_an_hour(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        first = chat.says(named("m1"), named("m2"))
        chat.answered()
        clock.advance(settings.job_ttl - 1)
        for message_id in ("m1", "m2"):
            late = chat.says(named(message_id))
            assert late.duplicate
            assert late.job_id == first.job_id
            assert late.message_id == message_id
            assert late.lock_id is None
            assert late.consolidated_messages == 2
            assert (late.pending, late.posted) == ((), ())
        assert chat.head is None
        clock.advance(1)
        assert not chat.says(named("m1")).duplicate

    def test_each_message_has_its_own_hour(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says(named("m1"))
        chat.answered()
        clock.advance(settings.job_ttl / 2)
        chat.says(named("m2"))
        chat.answered()
        clock.advance(settings.job_ttl / 2)
        assert chat.says(named("m2")).duplicate
        assert not chat.says(named("m1")).duplicate

    def test_an_answered_message_in_a_new_request_is_not_answered_again(self, chat: Chat) -> None:
        chat.says(named("m1"))
        chat.answered()
        accepted = chat.says(named("m1"), named("m2"))
        assert not accepted.duplicate
        assert accepted.posted == ("m2",)
        assert chat.words(chat.head) == ["text of m2"]


class TestForget:
    def test_a_forgotten_message_is_accepted_as_new(self, chat: Chat) -> None:
        first = chat.says(named("m1"), named("m2"))
        chat.answered()
        chat.tier.forget(chat.key, ["m1"])
        assert chat.says(named("m2")).duplicate
        chat.record_arrives(first.job_id, named("m1"))
        assert chat.words(chat.head) == ["text of m1"]

    def test_an_edit_is_forgotten_under_all_ids(self, chat: Chat) -> None:
        chat.says(named("m1", "2 pills"))
        chat.answered()
        job_id = chat.says(edit := named("m1", "20 pills")).job_id
        chat.answered()
        edit = replace(edit, message_id=edit.edit_ids[0])
        chat.tier.forget(chat.key, edit.possible_ids)
        chat.record_arrives(job_id, edit)
        assert chat.words(chat.head) == ["20 pills"]

    def test_a_waiting_message_and_an_unknown_one_stay_as_they_are(self, chat: Chat) -> None:
        chat.tier.forget(chat.key, ["never seen"])
        chat.says(named("m1"))
        chat.tier.forget(chat.key, ["m1"])
        assert chat.says(named("m1")).duplicate


class TestUnarchived:
    """The index of the ended jobs that Postgres does not have yet."""

    def ends(self, chat: Chat, number: int, *, unarchived: bool = True) -> Job:
        chat.says(named(f"m{number}", "it hurts"))
        ended = chat.end(chat.claimed(), reply="Rest.", unarchived=unarchived)
        assert chat.finish("worker", ended).done
        chat.clock.advance(1)
        return ended

    def test_an_unarchived_end_is_listed_until_postgres_has_it(self, chat: Chat) -> None:
        jobs = [self.ends(chat, number) for number in range(3)]
        self.ends(chat, 3, unarchived=False)
        assert chat.tier.unarchived() == [(chat.key, job.job_id) for job in jobs]
        chat.tier.archived(chat.key, jobs[1].job_id)
        assert chat.tier.unarchived() == [(chat.key, jobs[0].job_id), (chat.key, jobs[2].job_id)]
        assert chat.words(jobs[0].job_id) == ["it hurts"]
        assert chat.words(jobs[1].job_id) == [""]

    def test_archived_twice_is_archived_once(self, chat: Chat) -> None:
        ended = self.ends(chat, 1)
        for _ in range(2):
            chat.tier.archived(chat.key, ended.job_id)
        job = chat.tier.job(ended.job_id)
        assert job is not None
        assert (job.status, job.reply, job.unarchived) == (ended.status, "Rest.", False)
        assert chat.tier.unarchived() == []

    def test_an_entry_whose_end_is_gone_can_be_dropped(self, chat: Chat, clock: Clock) -> None:
        ended = self.ends(chat, 1)
        clock.advance(LIVE_TTL_SECONDS + 1)
        assert chat.tier.job(ended.job_id) is None
        chat.tier.archived(chat.key, ended.job_id)
        assert chat.tier.unarchived() == []
        assert chat.tier.job(ended.job_id) is None

    def test_a_job_that_lives_is_left_as_it_is(self, chat: Chat) -> None:
        job_id = chat.says("a").job_id
        chat.tier.archived(chat.key, job_id)
        assert chat.head is not None
        assert chat.tier.job(job_id) == chat.head

    def test_an_erased_end_is_in_no_index(self, chat: Chat) -> None:
        other = Chat(chat.tier, chat.clock, ConversationKey("clinic", "patient-2"))
        self.ends(chat, 1)
        kept = self.ends(other, 1)
        chat.tier.erase(chat.key)
        assert chat.tier.unarchived() == [(other.key, kept.job_id)]

    def test_a_tenants_many_ends_hide_no_other_tenants(self, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
        for store in ("redis", "postgres"):
            monkeypatch.setattr(f"message_handler.tiers.{store}.MOST_UNARCHIVED", 2)
        jobs = [self.ends(chat, number).job_id for number in range(4)]
        other = Chat(chat.tier, chat.clock, ConversationKey("lab", "patient-2"))
        theirs = self.ends(other, 1)
        found = chat.tier.unarchived()
        assert (other.key, theirs.job_id) in found
        assert [job_id for key, job_id in found if key == chat.key][:2] == jobs[:2]
        if chat.tier.name != "memory":
            assert len(found) == 3
