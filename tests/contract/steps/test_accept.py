"""A request is accepted, on every tier: which messages join, which are duplicates, and whose context and bot count."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.errors import Conflict
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from tests.contract.chat import BOT, Chat, Clock, named


class TestAccept:
    def test_the_first_message_creates_a_job_and_takes_the_lock(self, chat: Chat, clock: Clock) -> None:
        accepted = chat.says(named("m1"))
        assert accepted.job_id == chat.job_id(1)
        assert accepted.lock_id == "lock-1"
        assert accepted.message_id == "m1"
        assert accepted.posted == ("m1",)
        assert accepted.pending == (named("m1"),)
        assert accepted.consolidated_messages == 1
        assert not accepted.duplicate
        job = Job(chat.job_id(1), chat.key, JobStatus.PENDING, (named("m1"),), BOT, created_at=clock.now)
        assert chat.head == chat.tier.job(accepted.job_id) == job

    def test_a_second_message_joins_the_job_and_learns_no_lock_id(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        second = chat.says(named("m2"))
        assert second.job_id == first.job_id
        assert second.lock_id is None
        assert second.consolidated_messages == 2
        assert [message.message_id for message in second.pending] == ["m1", "m2"]
        assert not second.duplicate
        assert chat.tier.job(chat.job_id(2)) is None

    def test_a_message_joins_a_running_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        assert chat.says("b").job_id == first.job_id
        assert chat.words(first.job_id) == ["a", "b"]

    def test_the_same_id_with_the_same_words_is_the_same_message(self, chat: Chat) -> None:
        first = chat.says(named("m1", "hello"))
        again = chat.says(named("m1", " hello"))
        assert again.duplicate
        assert not again.edited
        assert (again.job_id, again.message_id, again.lock_id) == (first.job_id, "m1", None)
        assert again.posted == ("m1",)
        assert chat.words(chat.head) == ["hello"]

    def test_two_ids_are_two_messages_even_with_one_text(self, chat: Chat) -> None:
        chat.says(named("m1", "yes"))
        second = chat.says(named("m2", "yes"))
        assert not second.duplicate
        assert chat.words(chat.head) == ["yes", "yes"]

    @pytest.mark.parametrize("stage", ["pending", "running", "sealed", "waiting for the next"])
    def test_without_ids_the_same_text_is_a_duplicate_while_its_job_lives(self, chat: Chat, stage: str) -> None:
        first = chat.says("hello")
        if stage != "pending":
            chat.claimed()
        if stage in ("sealed", "waiting for the next"):
            chat.seal([first.message_id])
        if stage == "waiting for the next":
            first = chat.says("are you there?")
        again = chat.says("are you there?" if stage == "waiting for the next" else "hello")
        assert again.duplicate
        assert (again.job_id, again.message_id) == (first.job_id, first.message_id)

    def test_the_same_text_is_a_new_message_once_it_was_answered(self, chat: Chat) -> None:
        first = chat.says("yes")
        chat.answered()
        second = chat.says("yes")
        assert not second.duplicate
        assert second.lock_id == "lock-2"
        assert second.job_id not in (None, first.job_id)

    def test_a_text_said_twice_in_one_history_is_two_messages(self, chat: Chat) -> None:
        chat.says("yes", "yes")
        assert chat.says("yes", "yes").duplicate
        third = chat.says("yes", "yes", "yes")
        assert not third.duplicate
        assert chat.words(chat.head) == ["yes", "yes", "yes"]

    @pytest.mark.parametrize("named_last", [False, True], ids=["without ids", "id on the last message"])
    @pytest.mark.parametrize("words", ["abcd", "aaaa", "abab", "aabb"])
    def test_whole_histories_keep_each_message_once_and_in_order_however_they_arrive(
        self, tier: Tier, clock: Clock, words: str, named_last: bool
    ) -> None:
        for order in permutations(range(1, 5)):
            patient = f"patient-{''.join(map(str, order))}"
            chat = Chat(tier, clock, ConversationKey("clinic", patient))
            for size in order:
                history: list[str | Message] = list(words[:size])
                if named_last:
                    history[-1] = named(f"m{size}", words[size - 1])
                accepted = chat.says(*history)
                assert accepted.job_id == chat.job_id(1)
            assert chat.words(chat.head) == list(words), order
            if named_last:
                assert chat.head is not None
                assert [f"m{n}" in m.ids for n, m in enumerate(chat.head.messages, 1)] == [True] * 4, order
                for size in order:
                    assert chat.says(named(f"m{size}", words[size - 1])).duplicate

    def test_increments_keep_the_order_in_which_they_arrive(self, chat: Chat) -> None:
        for number in (2, 1, 3):
            chat.says(named(f"m{number}", str(number)))
        assert chat.words(chat.head) == ["2", "1", "3"]

    def test_a_whole_history_puts_late_messages_where_they_were_said(self, chat: Chat) -> None:
        chat.says(named("m3", "c"))
        chat.says(named("m1", "a"), named("m2", "b"), named("m3", "c"), named("m4", "d"))
        assert chat.words(chat.head) == ["a", "b", "c", "d"]

    def test_the_response_counts_and_names_the_messages_of_the_same_job(self, chat: Chat) -> None:
        chat.says("a", "b")
        third = chat.says("a", "b", "c")
        assert third.consolidated_messages == 3
        assert [message.content for message in third.pending] == ["a", "b", "c"]
        assert third.posted == tuple(message.message_id for message in third.pending)
        assert third.message_id == third.pending[-1].message_id

    def test_a_message_known_without_an_id_learns_its_id(self, chat: Chat) -> None:
        first = chat.says("a", named("m2", "b"))
        late = chat.says(named("m1", "a"))
        assert late.duplicate
        assert late.message_id == first.posted[0]
        chat.answered()
        for message in (named("m1", "a"), named("m2", "b")):
            assert chat.says(message).duplicate

    def test_a_sealed_job_learns_no_ids(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        late = chat.says(named("m1", "a"))
        assert late.duplicate
        assert chat.head is not None
        assert chat.head.messages[0].ids == (first.message_id,)

    def test_the_pending_messages_end_with_the_messages_own_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        assert [message.content for message in second.pending] == ["a", "b"]
        assert second.consolidated_messages == 1
        assert [message.content for message in chat.says("a").pending] == ["a"]


class TestWhatWasAnsweredBefore:
    """The platform sent these requests before it saw the reply."""

    def test_a_longer_history_brings_only_its_new_messages(self, chat: Chat) -> None:
        first = chat.says("a", "b")
        chat.answered()
        second = chat.says("a", "b", "c")
        assert not second.duplicate
        assert second.job_id != first.job_id
        assert chat.words(chat.head) == ["c"]
        assert second.posted == (second.message_id,)

    def test_a_history_with_an_id_on_its_last_message_brings_only_that_message(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        chat.answered()
        chat.says("a", named("m2", "b"))
        assert chat.words(chat.head) == ["b"]

    def test_a_late_beginning_of_an_answered_history_is_a_duplicate(self, chat: Chat) -> None:
        first = chat.says("a", "b", "c")
        job = chat.answered()
        late = chat.says("a", "b")
        assert late.duplicate
        assert late.job_id == first.job_id
        assert late.message_id == job.messages[1].message_id
        assert late.consolidated_messages == 3
        assert late.posted == ()
        assert late.pending == ()
        assert chat.head is None

    def test_one_answered_text_said_again_is_new(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.answered()
        assert not chat.says("a").duplicate

    def test_an_answered_history_said_again_is_new(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.answered()
        assert not chat.says("a", "b").duplicate
        assert chat.words(chat.head) == ["a", "b"]

    def test_a_message_with_its_own_id_is_new(self, chat: Chat) -> None:
        chat.says("a")
        chat.answered()
        chat.says(named("m1", "a"), "b")
        assert chat.words(chat.head) == ["a", "b"]

    def test_only_the_last_answer_counts(self, chat: Chat) -> None:
        chat.says("a")
        chat.answered()
        chat.says("x")
        chat.answered()
        chat.says("a", "b")
        assert chat.words(chat.head) == ["a", "b"]

    def test_a_failed_answer_counts_and_a_cancelled_one_does_not(self, chat: Chat) -> None:
        chat.says("a")
        chat.finish("worker", chat.end(chat.claimed(), JobStatus.FAILED))
        chat.says("a", "b")
        assert chat.words(chat.head) == ["b"]
        chat.finish("worker", chat.end(chat.claimed(), JobStatus.CANCELLED))
        chat.says("b", "c")
        assert chat.words(chat.head) == ["b", "c"]

    def test_a_record_brings_the_other_messages_of_an_answered_request(self, chat: Chat) -> None:
        chat.says(named("m2"))
        chat.answered()
        chat.record_arrives(chat.job_id(70), named("m1"), named("m2"))
        assert chat.words(chat.head) == ["text of m1"]


class TestBotAndRequest:
    def test_another_bots_request_is_refused_and_changes_nothing(self, chat: Chat) -> None:
        chat.says("a", context=[Turn("assistant", "Hello?")], resources={"user": 1})
        before = chat.snapshot()
        with pytest.raises(Conflict) as refused:
            chat.says("b", bot="another", context=[Turn("assistant", "x")] * 3, resources={"user": 2})
        assert refused.value.field == "bot_id"
        assert chat.snapshot() == before
        assert chat.tier.job(chat.job_id(2)) is None

    def test_the_bot_stays_when_the_job_has_ended_and_for_an_hour(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.answered()
        clock.advance(settings.job_ttl - 1)
        with pytest.raises(Conflict):
            chat.says("b", bot="another")
        clock.advance(1)
        assert chat.says("b", bot="another").lock_id

    def test_a_record_is_accepted_for_the_conversations_own_bot(self, chat: Chat) -> None:
        chat.says("a")
        chat.record_arrives(chat.job_id(1), named("m2"), bot="another")
        assert chat.head is not None
        assert chat.head.bot_id == BOT

    def test_the_longest_context_wins_and_among_equals_the_newest(self, chat: Chat) -> None:
        def turns(*words: str) -> list[Turn]:
            return [Turn("assistant", word, f"id of {word}") for word in words]

        for context, expected in ((turns("1"), "1"), (turns(), "1"), (turns("2"), "2"), (turns("3", "4"), "34")):
            chat.says(f"with {expected} {len(context)}", context=context)
            assert chat.head is not None
            assert chat.head.context == tuple(turns(*expected))

    def test_the_newest_resources_win_whatever_the_context(self, chat: Chat) -> None:
        chat.says("a", context=[Turn("assistant", "Hello?")], resources={"user": 1})
        chat.says("b", resources={"user": 2})
        assert chat.head is not None
        assert chat.head.resources == {"user": 2}
        chat.says("c", context=[Turn("assistant", "Hi?")])
        assert chat.head is not None
        assert chat.head.resources == {"user": 2}
        assert chat.head.context == (Turn("assistant", "Hi?"),)

    def test_a_duplicate_changes_neither_context_nor_resources(self, chat: Chat) -> None:
        chat.says(named("m1"), resources={"user": 1})
        chat.says(named("m1"), context=[Turn("assistant", "Hello?")], resources={"user": 2})
        assert chat.head is not None
        assert chat.head.resources == {"user": 1}
        assert chat.head.context == ()

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " \t\r\n ",
            'quotes " \' ` and \\ backslashes \\" \\\\ \\n \\u0041',
            "Bác sĩ ơi, cháu bị đau đầu 🤕👩🏽‍⚕️ 🇻🇳",
            "line\u2028paragraph\u2029next\u0085bom\ufeffzero\u200bwidth",
            "controls \x01\x1b\x7f slash / </USER><br>{}[]null",
            "a" * 200_000,
            'đ\\"\n' * 50_000,
        ],
        ids=["empty", "blank", "quotes", "emoji", "separators", "controls", "200 KB", "escapes"],
    )
    def test_texts_come_back_as_they_were(self, chat: Chat, text: str) -> None:
        context = [Turn("user", text, "id"), Turn("assistant", text), Turn("sale", text)]
        resources = {text[:50]: text}
        accepted = chat.says(named("m1", text), text + "!", context=context, resources=resources)
        assert [message.content for message in accepted.pending] == [text, text + "!"]
        job = chat.claimed()
        for seen in (job, chat.head, chat.tier.job(accepted.job_id)):
            assert seen is not None
            assert [message.content for message in seen.messages] == [text, text + "!"]
            assert seen.context == tuple(context)
            assert seen.resources == resources
        ended = chat.end(job, reply=text, error=JobError("code", text))
        chat.finish("worker", ended)
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert (read.reply, read.error) == (text, JobError("code", text))

    def test_resources_come_back_as_they_were_from_every_step(self, chat: Chat) -> None:
        resources = {
            "empty": [[], {}, "", None, [[]], {"": {}}],
            "numbers": [0, -1, 2**53 + 1, 10**30, 0.1, 1e-300, 1.0, -0.0, 123456789.123456789],
            "flags": [True, False],
            "nested": {"a": {"b": [{"c": [1, [2, [3, {}]]]}]}},
            "deep": json.loads("[" * 200 + "]" * 200),
            "null\0": "\0",
        }
        first = chat.says("a", resources=resources, context=[])
        job = chat.claimed()
        chat.says("b")
        again = chat.seal([first.message_id]).job
        adopted = chat.adopt("worker", ["minted-0", "minted-1"])
        chat.says("c", resources=resources)
        released = chat.tier.force_release(chat.key)
        for seen in (job, again, adopted, released, chat.head):
            assert seen is not None
            assert json.dumps(seen.resources) == json.dumps(resources)
