"""A worker accepts its record's messages again, on every tier. That changes nothing unless the tier forgot them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message
from tests.contract.chat import BOT, Chat, named


class TestAcceptAgain:
    """The first thing that a worker does with each record. It changes nothing unless the tier forgot the messages."""

    def test_a_known_record_changes_nothing(self, chat: Chat) -> None:
        accepted = chat.says("a", "b")
        before = chat.snapshot()
        chat.record_arrives(accepted.job_id, *accepted.pending)
        assert chat.snapshot() == before

    def test_a_forgotten_record_makes_its_job_again_under_the_promised_name(self, chat: Chat) -> None:
        promised = chat.job_id(7)
        chat.record_arrives(promised, named("m1"), "b", resources={"user": 1})
        assert chat.head is not None
        assert chat.head.job_id == promised
        assert chat.words(promised) == ["text of m1", "b"]
        assert chat.head.resources == {"user": 1}
        assert chat.head.bot_id == BOT

    def test_a_record_with_a_policy_of_a_later_release_is_consolidated(self, chat: Chat) -> None:
        request = replace(chat.request("a"), double_texting=cast(DoubleTexting, "stack"))
        chat.tier.accept_again(request, job_id=chat.job_id(7), spare_id=chat.job_id(8))
        assert chat.words(chat.job_id(7)) == ["a"]

    def test_a_forgotten_record_leaves_the_lock_without_an_owner(self, chat: Chat) -> None:
        chat.record_arrives(chat.job_id(7), "a")
        assert chat.lock is not None
        assert chat.tier.owner(chat.key, "") is None
        assert chat.head is not None
        assert not chat.finish("", chat.end(chat.head)).done
        assert chat.claimed().attempts == 1

    def test_a_promised_name_that_is_taken_gives_way_to_a_spare(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        chat.answered()
        chat.record_arrives(first.job_id, named("m2"), spare=901)
        assert chat.head is not None
        assert chat.head.job_id == chat.job_id(901)
        ended = chat.tier.job(first.job_id)
        assert ended is not None
        assert ended.status is JobStatus.COMPLETED

    def test_a_promised_name_of_a_live_job_gives_way_to_a_spare(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        chat.claimed()
        chat.seal(["m1"])
        chat.record_arrives(first.job_id, named("m2"), spare=901)
        assert chat.words(chat.job_id(901)) == ["text of m2"]
        assert chat.words(first.job_id) == ["text of m1"]

    def test_the_name_of_an_undone_job_is_free(self, chat: Chat) -> None:
        # The send timed out, yet the record arrived. No client was promised the job, but its name leads here.
        accepted = chat.says(named("m1"))
        chat.undo(accepted)
        chat.record_arrives(accepted.job_id, named("m1"))
        assert chat.head is not None
        assert chat.head.job_id == accepted.job_id

    def test_a_record_of_an_ended_job_starts_nothing(self, chat: Chat) -> None:
        accepted = chat.says(named("m1"), named("m2"))
        chat.answered()
        chat.record_arrives(accepted.job_id, named("m1"), named("m2"))
        assert chat.head is None
        assert chat.claim() is None

    def test_an_answered_beginning_is_not_looked_for_by_its_words(self, chat: Chat) -> None:
        # A record's messages were new when intake accepted them. The patient said the same before by chance.
        chat.says("a", "b")
        chat.answered()
        chat.record_arrives(chat.job_id(7), "a", "b", "c")
        assert chat.words(chat.head) == ["a", "b", "c"]

    def test_cumulative_records_bring_earlier_messages_along_in_order(self, chat: Chat) -> None:
        """Counterexample 6: Redis is lost, and the second message's record comes first."""
        second = [named("m1"), named("m2")]
        chat.record_arrives(chat.job_id(7), *second)
        chat.record_arrives(chat.job_id(7), named("m1"))
        chat.record_arrives(chat.job_id(7), *second, named("m3"))
        assert [message.message_id for message in chat.claimed().messages] == ["m1", "m2", "m3"]

    def test_an_undo_leaves_what_a_record_brought(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.record_arrives(accepted.job_id, *accepted.pending)
        chat.undo(accepted)
        assert chat.words(chat.head) == ["a"]


class TestIdsOfOneUtterance:
    """The same utterance comes without an id, and again with one."""

    def test_a_record_that_knows_more_ids_finds_the_utterance_by_any_of_them(self, chat: Chat) -> None:
        """The tier forgot. The platform's retry comes first, under the id that the record knows as an alias."""
        chat.says(named("given", "hello"))
        known = Message("minted", "hello", given=True, aliases=("given",))
        chat.record_arrives(chat.job_id(7), known)
        (message,) = chat.head.messages if chat.head else ()
        assert set(message.ids) == {"given", "minted"}

    def test_a_record_that_knows_more_ids_is_known_to_have_ended_by_any_of_them(self, chat: Chat) -> None:
        chat.says(named("given", "hello"))
        chat.answered()
        chat.record_arrives(chat.job_id(7), Message("minted", "hello", given=True, aliases=("given",)))
        assert chat.head is None
