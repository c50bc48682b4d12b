"""A job is cancelled, on every tier."""

from __future__ import annotations

import pytest

from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import JobStatus
from message_handler.protocol.results import Finished
from tests.contract.chat import Chat, named


class TestCancel:
    @pytest.mark.parametrize("running", [False, True])
    def test_an_unsealed_job_is_marked_and_returned_with_its_messages(self, chat: Chat, running: bool) -> None:
        accepted = chat.says("a", "b")
        if running:
            chat.claimed()
        job = chat.cancel(accepted.job_id)
        assert job is not None
        assert job == chat.head == chat.tier.job(accepted.job_id)
        assert job.status is JobStatus.CANCELLING
        assert chat.words(job) == ["a", "b"]
        assert chat.cancel(accepted.job_id) == job

    def test_a_waiting_job_can_be_cancelled_before_its_turn(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        sealed = chat.seal([first.message_id])
        second = chat.says("b")
        job = chat.cancel(second.job_id)
        assert job is not None
        assert job.job_id == second.job_id
        assert sealed.job is not None
        chat.finish("worker", chat.end(sealed.job))
        assert chat.claimed("another").status is JobStatus.CANCELLING

    def test_a_sealed_an_ended_and_an_unknown_job_can_not_be_cancelled(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        sealed = chat.seal([accepted.message_id])
        assert chat.cancel(accepted.job_id) is None
        assert chat.head == sealed.job
        chat.sealed_and_ended("Rest.")
        assert chat.cancel(accepted.job_id) is None
        assert chat.cancel(chat.job_id(77)) is None
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert read.status is JobStatus.COMPLETED

    def test_a_message_that_comes_meanwhile_is_not_cancelled_with_it(self, chat: Chat) -> None:
        accepted = chat.says("a")
        cancelled = chat.cancel(accepted.job_id)
        second = chat.says("b")
        assert second.job_id != accepted.job_id
        assert cancelled is not None
        assert chat.finish(None, chat.end(cancelled, JobStatus.CANCELLED)) == Finished(True, waiting=True)
        assert chat.words(chat.claimed()) == ["b"]

    def test_a_message_that_comes_while_a_waiting_job_is_cancelled_is_not_cancelled(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        chat.claimed()
        chat.seal(["m1"])
        second = chat.says(named("m2"))
        cancelled = chat.cancel(second.job_id)
        assert cancelled is not None
        chat.says(named("m3"), resources={"user": 3})
        assert chat.finish(None, chat.end(cancelled, JobStatus.CANCELLED)) == Finished(True, waiting=False)
        read = chat.tier.job(second.job_id)
        assert read is not None
        assert read.status is JobStatus.CANCELLED
        assert chat.head is not None
        assert chat.head.job_id == first.job_id
        chat.sealed_and_ended("Rest.")
        following = chat.claimed()
        assert following.messages == (named("m3"),)
        assert following.resources == {"user": 3}
        assert following.status is JobStatus.PROCESSING
        assert following.job_id != second.job_id
        assert shard_of_job(following.job_id) == chat.key.shard
        assert chat.tier.job(following.job_id) == following


class TestACancelThatHasBegun:
    def test_a_cancel_covers_the_messages_of_its_beginning_and_no_later_ones(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        cancelling = chat.cancel(second.job_id)
        assert cancelling is not None
        assert chat.says("c").job_id == second.job_id
        chat.finish("worker", chat.end(chat.tier.job(first.job_id) or cancelling))
        claimed = chat.claimed("another")
        assert chat.words(claimed) == ["b", "c"]
        assert chat.words(claimed.being_cancelled()) == ["b"]
        again = chat.cancel(second.job_id)
        assert again is not None
        assert chat.words(again.being_cancelled()) == ["b"]
        chat.finish(None, chat.end(claimed.being_cancelled(), JobStatus.CANCELLED))
        assert chat.words(chat.head) == ["c"]
