"""A1. A message that comes again under its id with other words: what each tier makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from message_handler.domain.errors import Rejected
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, shown_id
from message_handler.protocol.results import Accepted
from tests.contract.chat import Chat, named

OLD, NEW, NEWEST = "2 pills", "20 pills", "200 pills"


def ids(chat: Chat) -> list[str]:
    return [shown_id(message.message_id) for message in chat.head.messages] if chat.head else []


class TestWaiting:
    def test_it_waits_beside_the_version_that_it_replaces(self, chat: Chat) -> None:
        first = chat.says(named("m1", OLD))
        edit = chat.says(named("m1", NEW))
        assert (edit.edited, edit.duplicate) == (True, False)
        assert edit.job_id == first.job_id
        assert edit.consolidated_messages == 1
        assert chat.words(chat.head) == [OLD, NEW]
        assert ids(chat) == ["m1", "m1"]
        assert [m.content for m in edit.pending] == [OLD, NEW]

    @pytest.mark.parametrize("again", [OLD, NEW, f" {NEW}\r\n"])
    def test_every_known_version_is_a_duplicate(self, chat: Chat, again: str) -> None:
        chat.says(named("m1", OLD))
        edit = chat.says(named("m1", NEW))
        known = chat.says(named("m1", again))
        assert (known.edited, known.duplicate, known.job_id) == (False, True, edit.job_id)
        assert chat.words(chat.head) == [OLD, NEW]

    def test_old_words_come_back_if_the_platform_says_when(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.says(named("m1", NEW))
        back = replace(named("m1", OLD), edited_at=1_790_000_000.0)
        assert chat.says(back).edited
        assert chat.says(back).duplicate
        assert chat.says(named("m1", NEW)).duplicate
        assert chat.says(replace(back, edited_at=1_790_000_001.0)).duplicate, "the newest words already"
        assert chat.words(chat.head) == [OLD, NEW, OLD]

    def test_old_words_that_no_tier_knew_come_back_too(self, chat: Chat) -> None:
        chat.says(replace(named("m1", NEW), accepted_at=2.0))
        chat.record_arrives(chat.job_id(70), replace(named("m1", OLD), accepted_at=1.0))
        assert chat.says(named("m1", OLD)).duplicate
        back = replace(named("m1", OLD), edited_at=1_790_000_000.0)
        assert chat.says(back).edited
        assert chat.says(back).duplicate
        assert chat.words(chat.head) == [NEW, OLD]

    def test_an_undone_edit_leaves_the_version_before_it(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.undo(chat.says(named("m1", NEW)))
        assert chat.words(chat.head) == [OLD]
        assert chat.says(named("m1", NEW)).edited

    def test_an_edit_that_was_sent_twice_stays(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        edit = chat.says(named("m1", NEW))
        chat.says(named("m1", NEW))
        chat.undo(edit)
        assert chat.words(chat.head) == [OLD, NEW]

    def test_a_message_without_an_id_that_learned_it_may_be_edited(self, chat: Chat) -> None:
        chat.says(OLD)
        chat.says(named("m1", OLD))
        assert chat.says(named("m1", NEW)).edited

    def test_its_words_without_an_id_are_the_edit(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.says(named("m1", NEW))
        assert not chat.says(NEW, named("m2", "thanks")).duplicate
        assert chat.words(chat.head) == [OLD, NEW, "thanks"]

    def test_the_place_of_another_message_stays(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.says(named("m2", "sorry"))
        assert chat.says(named("m1", NEW)).consolidated_messages == 2
        assert chat.lock is not None
        assert chat.lock.consolidated_messages == 2

    def test_a_clock_that_is_behind_makes_no_edit_older(self, chat: Chat) -> None:
        chat.says(replace(named("m1", OLD), accepted_at=1_790_000_000.5))
        chat.says(replace(named("m1", NEW), accepted_at=1_790_000_000.25))
        assert chat.head is not None
        assert [m.accepted_at for m in chat.head.messages] == [1_790_000_000.5] * 2


class TestRunning:
    def test_the_run_notices_it(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.claimed()
        chat.says(named("m1", NEW))
        assert chat.tier.look(chat.key, "worker", seen=1) == "newer"
        sealed = chat.seal(["m1"])
        assert sealed.verdict == "again"
        assert chat.words(sealed.job) == [OLD, NEW]

    def test_behind_a_sealed_job_it_waits_for_the_next(self, chat: Chat) -> None:
        first = chat.says(named("m1", OLD))
        chat.claimed()
        chat.seal(["m1"])
        edit = chat.says(named("m1", NEW))
        assert edit.edited
        assert edit.job_id != first.job_id
        chat.sealed_and_ended("Take none.")
        assert chat.words(chat.head) == [NEW]
        for _ in range(2):
            assert chat.says(named("m1", OLD)).job_id == first.job_id
            assert chat.says(named("m1", NEW)).job_id == edit.job_id
            if chat.head:
                chat.answered()

    def test_a_job_that_may_be_committed_runs_again_with_it(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.claimed()
        chat.seal(["m1"])
        chat.tier.force_release(chat.key)
        chat.claimed("another")
        chat.says(named("m1", NEW))
        adopted = chat.adopt("another", ["m1"], replace(chat.head, superseded_by=chat.job_id(50)))
        assert chat.words(adopted) == [NEW]


class TestPolicies:
    def says(self, chat: Chat, policy: str, words: str) -> Accepted:
        return chat.accept(replace(chat.request(named("m1", words)), double_texting=policy))

    def test_under_enqueue_it_waits(self, chat: Chat) -> None:
        self.says(chat, "enqueue", OLD)
        running = chat.claimed()
        edit = self.says(chat, "enqueue", NEW)
        assert edit.edited
        assert edit.job_id != running.job_id

    def test_under_interrupt_it_interrupts(self, chat: Chat) -> None:
        self.says(chat, "interrupt", OLD)
        running = chat.claimed()
        edit = self.says(chat, "interrupt", NEW)
        assert edit.edited
        assert edit.interrupted is not None
        assert edit.interrupted.job_id == running.job_id
        assert chat.words(chat.head) == [OLD, NEW]

    def test_under_reject_it_is_rejected(self, chat: Chat) -> None:
        first = self.says(chat, "reject", OLD)
        with pytest.raises(Rejected):
            self.says(chat, "reject", NEW)
        assert self.says(chat, "reject", OLD).job_id == first.job_id
        assert chat.words(chat.head) == [OLD]


class TestEnded:
    def test_it_is_a_new_message(self, chat: Chat) -> None:
        first = chat.says(named("m1", OLD))
        chat.answered()
        edit = chat.says(named("m1", NEW))
        assert (edit.edited, edit.duplicate) == (True, False)
        assert edit.job_id != first.job_id
        assert chat.words(chat.head) == [NEW]

    def test_each_version_leads_to_its_own_job(self, chat: Chat) -> None:
        jobs = {}
        for words in (OLD, NEW, NEWEST):
            jobs[words] = chat.says(named("m1", words)).job_id
            chat.answered()
        for words, job_id in jobs.items():
            known = chat.says(named("m1", words))
            assert (known.duplicate, known.job_id) == (True, job_id)
        assert chat.head is None

    def test_versions_of_one_job_lead_to_it(self, chat: Chat) -> None:
        first = chat.says(named("m1", OLD))
        chat.says(named("m1", NEW))
        chat.answered()
        for words in (OLD, NEW):
            known = chat.says(named("m1", words))
            assert (known.duplicate, known.job_id, known.consolidated_messages) == (True, first.job_id, 1)

    def test_old_words_come_back_if_the_platform_says_when(self, chat: Chat) -> None:
        for words in (OLD, NEW):
            chat.says(named("m1", words))
            chat.answered()
        back = replace(named("m1", OLD), edited_at=1_790_000_000.0)
        returned = chat.says(back)
        assert returned.edited
        chat.answered()
        assert chat.says(back).job_id == returned.job_id
        assert chat.says(named("m1", NEW)).duplicate
        assert chat.head is None

    def test_a_history_that_begins_with_its_words_repeats_it(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.says(named("m1", NEW))
        chat.answered()
        chat.says(NEW, named("m2", "and now?"))
        assert chat.words(chat.head) == ["and now?"]


class TestEarlierTurns:
    """A whole history brings a message again, with other words, before the request's own message."""

    def history(self, chat: Chat, words: str) -> Accepted:
        return chat.says(replace(named("m1", words), earlier=True), named("m2", "thanks"))

    def test_while_it_waits_the_newest_words_win(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        accepted = self.history(chat, NEW)
        assert not accepted.edited, "the request's own message is no edit"
        assert chat.words(chat.head) == [OLD, NEW, "thanks"]

    def test_once_it_was_answered_the_archive_wins(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        chat.answered()
        self.history(chat, NEW)
        assert chat.words(chat.head) == ["thanks"]

    def test_a_record_brings_an_edit_that_waited(self, chat: Chat) -> None:
        chat.says(named("m1", OLD))
        pending = self.history(chat, NEW).pending
        chat.answered()
        chat.record_arrives(chat.job_id(70), *pending)
        assert chat.head is None


class TestRecords:
    """What a worker makes of a record if the tier has forgotten a version."""

    def at(self, second: int, words: str, message_id: str = "m1") -> Message:
        return replace(named(message_id, words), accepted_at=1_790_000_000.0 + second)

    def test_an_edit_that_looked_like_a_new_message_is_one(self, chat: Chat) -> None:
        chat.says(self.at(0, OLD))
        chat.record_arrives(chat.job_id(70), self.at(1, NEW))
        assert chat.words(chat.head) == [OLD, NEW]

    def test_words_that_were_replaced_stay_replaced(self, chat: Chat) -> None:
        chat.says(self.at(1, NEW))
        chat.record_arrives(chat.job_id(70), self.at(0, OLD))
        assert chat.words(chat.head) == [NEW]
        late = chat.says(self.at(2, OLD))
        assert (late.duplicate, late.edited) == (True, False)

    def test_words_that_were_replaced_stay_replaced_after_the_reply(self, chat: Chat) -> None:
        job_id = chat.says(self.at(1, NEW)).job_id
        chat.answered()
        chat.record_arrives(chat.job_id(70), self.at(0, OLD))
        assert chat.head is None
        assert chat.says(self.at(2, OLD)).job_id == job_id

    def test_a_record_of_both_brings_both_in_order(self, chat: Chat) -> None:
        chat.says(self.at(0, OLD))
        pending = chat.says(self.at(1, NEW)).pending
        chat.tier.erase(chat.key)
        chat.record_arrives(chat.job_id(70), *pending)
        assert chat.words(chat.head) == [OLD, NEW]
        assert chat.says(self.at(2, NEW)).duplicate

    def test_an_edit_is_known_under_the_id_that_another_tier_gave_it(self, chat: Chat) -> None:
        chat.says(self.at(0, OLD))
        edit = chat.says(self.at(1, NEW)).pending[-1]
        chat.tier.erase(chat.key)
        chat.says(self.at(2, NEW))
        chat.record_arrives(chat.job_id(70), edit)
        assert chat.words(chat.head) == [NEW]
        assert chat.head is not None
        assert edit.message_id in chat.head.messages[0].ids


class TestAdopting:
    def test_a_cancel_that_has_begun_covers_an_edit_under_its_new_id(self, chat: Chat) -> None:
        chat.says(message := named("m1", NEW))
        chat.tier.cancel(chat.key, chat.claimed().job_id)
        edit_id = message.edit_ids[0]
        adopted = chat.tier.adopt(chat.key, "worker", [], None, {"m1": edit_id})
        assert adopted is not None
        assert [m.message_id for m in adopted.being_cancelled().messages] == [edit_id]

    def test_an_edit_goes_on_under_its_own_id(self, chat: Chat) -> None:
        accepted = chat.says(named("m1", NEW))
        job = chat.claimed()
        ended = chat.end(job, JobStatus.CANCELLED, superseded_by=chat.job_id(50))
        (edit,) = job.messages[0].edit_ids
        adopted = chat.tier.adopt(chat.key, "worker", [], ended, {"m1": edit})
        assert adopted is not None
        assert [m.message_id for m in adopted.messages] == [edit]
        assert adopted.messages[0].promised == (accepted.job_id,)
        assert chat.says(named("m1", NEW)).duplicate
