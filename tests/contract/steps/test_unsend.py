"""A2. A patient takes a message back: what each tier makes of it once Postgres has settled it."""

from __future__ import annotations

import pytest

from message_handler.domain.jobs import JobStatus
from tests.contract.chat import Chat, named


def unsend(chat: Chat, *message_ids: str) -> None:
    """Job 60 has settled these messages as cancelled."""
    chat.tier.unsend(chat.key, message_ids, chat.job_id(60))


class TestUnsend:
    def test_the_job_goes_on_without_it(self, chat: Chat) -> None:
        job_id = chat.says(named("m1", "a")).job_id
        chat.says(named("m2", "b"))
        unsend(chat, "m1")
        assert chat.head is not None
        assert (chat.head.job_id, chat.words(chat.head)) == (job_id, ["b"])

    def test_a_job_without_another_message_ends_as_cancelled(self, chat: Chat) -> None:
        job_id = chat.says(named("m1", "a")).job_id
        unsend(chat, "m1")
        ended = chat.tier.job(job_id)
        assert ended is not None
        assert (ended.status, ended.superseded_by) == (JobStatus.CANCELLED, chat.job_id(60))
        assert (chat.head, chat.lock) == (None, None)

    def test_the_next_job_moves_up(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        chat.claimed()
        chat.seal(["m1"])
        following = chat.says(named("m2", "b")).job_id
        unsend(chat, "m1")
        assert chat.head is not None
        assert (chat.head.job_id, chat.head.status) == (following, JobStatus.PENDING)
        assert chat.claimed("another").job_id == following

    def test_it_leaves_the_next_job_too(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        chat.claimed()
        chat.seal(["m1"])
        chat.says(named("m2", "b"))
        chat.says(named("m3", "c"))
        unsend(chat, "m2")
        chat.sealed_and_ended("A.")
        assert chat.words(chat.head) == ["c"]

    def test_all_its_versions_leave(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        edit = chat.says(named("m1", "b")).message_id
        chat.says(named("m2", "c"))
        unsend(chat, "m1", edit)
        assert chat.words(chat.head) == ["c"]

    def test_it_is_a_duplicate_afterwards(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        unsend(chat, "m1")
        late = chat.says(named("m1", "a"))
        assert (late.duplicate, late.job_id) == (True, chat.job_id(60))
        chat.record_arrives(chat.job_id(70), named("m1", "a"))
        assert chat.head is None

    def test_a_run_notices_that_it_left(self, chat: Chat) -> None:
        chat.says(named("m1", "a"), named("m2", "b"))
        chat.claimed()
        unsend(chat, "m1")
        assert chat.tier.look(chat.key, "worker", seen=2) == "newer"
        sealed = chat.seal(["m1", "m2"])
        assert sealed.verdict == "again"
        assert chat.words(sealed.job) == ["b"]
        assert chat.seal(["m2"]).verdict == "sealed"

    def test_a_run_that_has_no_time_left_is_lost(self, chat: Chat) -> None:
        chat.says(named("m1", "a"), named("m2", "b"))
        chat.claimed()
        unsend(chat, "m1")
        ids, next_id = ["m1", "m2"], chat.job_id(61)
        sealed = chat.tier.seal(chat.key, "worker", ids, next_id=next_id, fenced=False, may_restart=False)
        assert sealed.verdict == "lost"

    def test_a_worker_that_has_sealed_it_ends_nothing(self, chat: Chat) -> None:
        chat.says(named("m1", "a"), named("m2", "b"))
        chat.claimed()
        sealed = chat.seal(["m1", "m2"]).job
        assert sealed is not None
        unsend(chat, "m1")
        assert not chat.finish("worker", chat.end(sealed, reply="A and B.")).done
        again = chat.claimed("another")
        assert (chat.words(again), again.maybe_committed) == (["b"], True)

    def test_a_worker_that_has_sealed_another_message_goes_on(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        chat.claimed()
        chat.seal(["m1"])
        chat.says(named("m2", "b"))
        unsend(chat, "m2")
        chat.sealed_and_ended("A.")
        assert chat.head is None

    @pytest.mark.parametrize("message_id", ["m1", "m9"])
    def test_what_does_not_wait_changes_nothing(self, chat: Chat, message_id: str) -> None:
        chat.says(named("m1", "a"))
        chat.answered()
        chat.says(named("m2", "b"))
        before = chat.snapshot(chat.job_id(1))
        unsend(chat, message_id)
        assert chat.snapshot(chat.job_id(1)) == before
