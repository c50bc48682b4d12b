"""A request's messages are undone, on every tier, because the queue refused its record."""

from __future__ import annotations

import pytest

from message_handler.domain.errors import Conflict
from tests.contract.chat import Chat, named


class TestUndo:
    def test_the_whole_job_and_its_lock_go(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.undo(accepted)
        assert chat.snapshot(accepted.job_id) == [None, None, None]
        assert chat.claim() is None
        assert chat.tier.locks("clinic") == []

    def test_the_conversation_is_as_if_never_seen(self, chat: Chat) -> None:
        chat.undo(chat.says("a"))
        again = chat.says("a", bot="another")
        assert again.lock_id == "lock-2"
        assert not again.duplicate

    def test_a_seen_conversation_keeps_its_bot(self, chat: Chat) -> None:
        chat.says("a")
        chat.answered()
        chat.undo(chat.says("b"))
        with pytest.raises(Conflict):
            chat.says("c", bot="another")

    def test_only_the_refused_request_goes(self, chat: Chat) -> None:
        chat.says("a")
        chat.undo(chat.says("b"))
        assert chat.words(chat.head) == ["a"]
        assert chat.lock is not None

    def test_a_message_that_was_posted_twice_stays(self, chat: Chat) -> None:
        """Counterexample 11: the duplicate got `202`, then the first request's send fails."""
        first = chat.says(named("m1"))
        second = chat.says(named("m1"))
        chat.undo(first)
        assert chat.words(chat.head) == ["text of m1"]
        chat.undo(second)
        assert chat.head is None

    def test_a_whole_history_posts_each_of_its_messages(self, chat: Chat) -> None:
        first = chat.says("a")
        second = chat.says("a", "b")
        chat.undo(first)
        assert chat.words(chat.head) == ["a", "b"]
        chat.undo(second)
        assert chat.head is None

    def test_nothing_leaves_a_sealed_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        chat.undo(first)
        assert chat.words(chat.head) == ["a"]

    def test_the_next_job_goes_alone(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        chat.undo(second)
        assert chat.tier.job(second.job_id) is None
        assert chat.words(chat.head) == ["a"]
        assert chat.heartbeat() == "valid"

    def test_the_next_job_moves_up_where_the_head_goes(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        chat.tier.force_release(chat.key)
        chat.undo(first)
        assert chat.head is not None
        assert chat.head.job_id == second.job_id
        assert chat.tier.job(first.job_id) is None
        assert chat.claimed().job_id == second.job_id

    def test_a_worker_whose_job_was_undone_has_lost_it(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        chat.undo(accepted)
        assert chat.heartbeat() == "lost"
        assert chat.seal(accepted.posted).verdict == "lost"

    def test_unknown_and_ended_messages_are_left_alone(self, chat: Chat) -> None:
        chat.tier.undo(chat.key, ["never seen"])
        accepted = chat.says(named("m1"))
        ended = chat.answered()
        chat.undo(accepted)
        assert chat.says(named("m1")).duplicate
        assert chat.tier.job(ended.job_id) is not None
