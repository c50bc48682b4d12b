"""What every tier promises, whichever store is behind it. Each test is named after the promise it keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.errors import Conflict
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.ports.tier import Tier
from message_handler.protocol.line import LIVE_TTL_SECONDS
from message_handler.protocol.results import ClaimRefused, Finished, Lock, Sealed
from message_handler.settings import Settings
from tests.contract.chat import BOT, Chat, Clock, named

DAY = 24 * 3600.0


def snapshot(chat: Chat, *job_ids: str) -> list[Any]:
    """All that can be seen of a conversation."""
    return [chat.head, chat.lock, *(chat.tier.job(job_id) for job_id in job_ids)]


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

    def test_the_same_id_is_the_same_message_whatever_its_text(self, chat: Chat) -> None:
        first = chat.says(named("m1", "hello"))
        again = chat.says(named("m1", "hello!"))
        assert again.duplicate
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

    def test_a_whole_history_puts_what_came_late_where_it_was_said(self, chat: Chat) -> None:
        chat.says(named("m3", "c"))
        chat.says(named("m1", "a"), named("m2", "b"), named("m3", "c"), named("m4", "d"))
        assert chat.words(chat.head) == ["a", "b", "c", "d"]

    def test_the_response_counts_and_names_what_waits_in_the_same_job(self, chat: Chat) -> None:
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
        for message_id in ("m1", "m2"):
            assert chat.says(named(message_id, "?")).duplicate

    def test_a_sealed_job_learns_no_ids(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        late = chat.says(named("m1", "a"))
        assert late.duplicate
        assert chat.head is not None
        assert chat.head.messages[0].ids == (first.message_id,)

    def test_what_is_pending_ends_with_the_job_of_the_message(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("b")
        assert [message.content for message in second.pending] == ["a", "b"]
        assert second.consolidated_messages == 1
        assert [message.content for message in chat.says("a").pending] == ["a"]


class TestWhatWasAnsweredBefore:
    """Requests that the platform made before it saw the reply."""

    def test_a_history_that_goes_on_brings_only_what_is_new(self, chat: Chat) -> None:
        first = chat.says("a", "b")
        chat.answered()
        second = chat.says("a", "b", "c")
        assert not second.duplicate
        assert second.job_id != first.job_id
        assert chat.words(chat.head) == ["c"]
        assert second.posted == (second.message_id,)

    def test_a_history_with_an_id_on_its_last_message_brings_only_that(self, chat: Chat) -> None:
        chat.says(named("m1", "a"))
        chat.answered()
        chat.says("a", named("m2", "b"))
        assert chat.words(chat.head) == ["b"]

    def test_a_late_beginning_of_it_is_a_duplicate(self, chat: Chat) -> None:
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

    def test_one_word_said_again_is_new(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.answered()
        assert not chat.says("a").duplicate

    def test_the_whole_said_again_is_new(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.answered()
        assert not chat.says("a", "b").duplicate
        assert chat.words(chat.head) == ["a", "b"]

    def test_ids_of_its_own_make_it_new(self, chat: Chat) -> None:
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


class TestBotAndRequest:
    def test_another_bots_request_is_refused_and_changes_nothing(self, chat: Chat) -> None:
        chat.says("a", context=[Turn("assistant", "Hello?")], resources={"user": 1})
        before = snapshot(chat)
        with pytest.raises(Conflict) as refused:
            chat.says("b", bot="another", context=[Turn("assistant", "x")] * 3, resources={"user": 2})
        assert refused.value.field == "bot_id"
        assert snapshot(chat) == before
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

    def test_a_record_is_taken_in_for_the_bot_that_the_conversation_has(self, chat: Chat) -> None:
        chat.says("a")
        chat.record_arrives(chat.job_id(1), named("m2"), bot="another")
        assert chat.head is not None
        assert chat.head.bot_id == BOT

    def test_the_longest_context_wins_and_of_equals_the_newest(self, chat: Chat) -> None:
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

    def test_a_duplicate_changes_neither(self, chat: Chat) -> None:
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


class TestAcceptAgain:
    """What a worker does with each record first: nothing, unless the tier forgot."""

    def test_a_known_record_changes_nothing(self, chat: Chat) -> None:
        accepted = chat.says("a", "b")
        before = snapshot(chat)
        chat.record_arrives(accepted.job_id, *accepted.pending)
        assert snapshot(chat) == before

    def test_a_forgotten_record_makes_its_job_again_under_the_promised_name(self, chat: Chat) -> None:
        promised = chat.job_id(7)
        chat.record_arrives(promised, named("m1"), "b", resources={"user": 1})
        assert chat.head is not None
        assert chat.head.job_id == promised
        assert chat.words(promised) == ["text of m1", "b"]
        assert chat.head.resources == {"user": 1}
        assert chat.head.bot_id == BOT

    def test_a_forgotten_record_gives_the_lock_to_nobody(self, chat: Chat) -> None:
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

    def test_a_name_taken_by_a_live_job_gives_way_too(self, chat: Chat) -> None:
        first = chat.says(named("m1"))
        chat.claimed()
        chat.seal(["m1"])
        chat.record_arrives(first.job_id, named("m2"), spare=901)
        assert chat.words(chat.job_id(901)) == ["text of m2"]
        assert chat.words(first.job_id) == ["text of m1"]

    def test_the_name_of_an_undone_job_is_free(self, chat: Chat) -> None:
        # The send timed out, yet the record arrived: nobody was promised anything, but the name leads here.
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
        # A record's messages were new when intake accepted them; that somebody said the same before is chance.
        chat.says("a", "b")
        chat.answered()
        chat.record_arrives(chat.job_id(7), "a", "b", "c")
        assert chat.words(chat.head) == ["a", "b", "c"]

    def test_cumulative_records_bring_earlier_messages_along_in_order(self, chat: Chat) -> None:
        """Counterexample 6: Redis is lost, the second message's record comes first."""
        second = [named("m1"), named("m2")]
        chat.record_arrives(chat.job_id(7), *second)
        chat.record_arrives(chat.job_id(7), named("m1"))
        chat.record_arrives(chat.job_id(7), *second, named("m3"))
        assert [message.message_id for message in chat.claimed().messages] == ["m1", "m2", "m3"]

    def test_it_can_not_be_undone(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.record_arrives(accepted.job_id, *accepted.pending)
        chat.undo(accepted)
        assert chat.words(chat.head) == ["a"]


class TestUndo:
    def test_the_whole_job_and_its_lock_go(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.undo(accepted)
        assert snapshot(chat, accepted.job_id) == [None, None, None]
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

    def test_what_was_posted_twice_stays(self, chat: Chat) -> None:
        """Counterexample 11: the duplicate was told 202, then the first request's send fails."""
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

    def test_the_unknown_and_the_ended_are_left_alone(self, chat: Chat) -> None:
        chat.tier.undo(chat.key, ["never seen"])
        accepted = chat.says(named("m1"))
        ended = chat.answered()
        chat.undo(accepted)
        assert chat.says(named("m1")).duplicate
        assert chat.tier.job(ended.job_id) is not None


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

    def test_it_is_the_head_whatever_job_woke_the_worker(self, chat: Chat) -> None:
        """Counterexample 3: J0 was committed, its lock released; J0's record must wake J1."""
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

    def test_a_takeover_reopens_what_was_sealed_and_remembers_that_it_may_be_committed(
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

    def test_it_tells_of_a_cancel(self, chat: Chat) -> None:
        accepted = chat.says("a")
        chat.claimed()
        chat.cancel(accepted.job_id)
        assert chat.heartbeat() == "cancelling"
        assert chat.heartbeat("another") == "lost"

    def test_a_stale_holder_that_nobody_replaced_may_go_on(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        clock.advance(settings.heartbeat_stale * 2)
        assert chat.heartbeat() == "valid"
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_the_lock_is_its_takers_until_a_worker_claims_it(self, chat: Chat) -> None:
        accepted = chat.says("a")
        assert chat.tier.owner(chat.key, "lock-1") == accepted.job_id
        assert chat.tier.owner(chat.key, "another") is None
        chat.claimed()
        assert chat.tier.owner(chat.key, "lock-1") is None
        assert chat.tier.owner(chat.key, "worker") == accepted.job_id
        chat.tier.force_release(chat.key)
        assert chat.tier.owner(chat.key, "worker") is None

    def test_no_lock_has_no_owner(self, chat: Chat) -> None:
        assert chat.tier.owner(chat.key, "lock-1") is None
        chat.says("a")
        chat.answered()
        assert chat.tier.owner(chat.key, "worker") is None
        chat.says("b")
        chat.tier.force_release(chat.key)
        assert chat.tier.owner(chat.key, "") is None


class TestAdopt:
    def test_after_a_slow_fence_it_says_that_its_worker_lives(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m1"))
        chat.claimed()
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.adopt("worker", [])
        clock.advance(settings.heartbeat_stale - 1)
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_with_everything_open_the_run_goes_on(self, chat: Chat, clock: Clock) -> None:
        chat.says(named("m1"), named("m2"))
        chat.claimed()
        chat.seal(["m1", "m2"], fenced=True)
        chat.tier.force_release(chat.key)
        job = chat.claimed()
        assert job.maybe_committed
        adopted = chat.adopt("worker", [])
        assert adopted == replace(job, maybe_committed=False) == chat.head

    def test_the_rest_of_a_settled_job_runs_under_its_successor(self, chat: Chat, clock: Clock) -> None:
        """Counterexample 2: J0{m0} was committed, its worker died, m1 joined it."""
        chat.says(named("m0"))
        first = chat.claimed()
        chat.seal(["m0"], fenced=True)
        chat.tier.force_release(chat.key)
        chat.says(named("m1"))
        assert chat.head is not None
        ended = chat.end(first, reply="Rest.", superseded_by=chat.job_id(50))
        chat.claimed("rescuer")
        clock.advance(1)
        successor = chat.adopt("rescuer", ["m0"], ended)
        assert successor is not None
        assert successor == chat.head == chat.tier.job(chat.job_id(50))
        assert successor.job_id == chat.job_id(50)
        assert successor.messages == (named("m1"),)
        assert successor.created_at == clock.now
        assert not successor.maybe_committed
        assert chat.heartbeat("rescuer") == "valid"
        old = chat.tier.job(first.job_id)
        assert old is not None
        assert (old.status, old.superseded_by, old.reply) == (JobStatus.COMPLETED, chat.job_id(50), "Rest.")
        late = chat.says(named("m0"))
        assert late.duplicate
        assert late.job_id == first.job_id
        joined = chat.says(named("m2"))
        assert joined.job_id == chat.job_id(50)

    def test_a_settled_message_is_remembered_by_all_its_ids(self, chat: Chat) -> None:
        chat.says("a", named("m2", "b"))
        chat.says(named("m1", "a"))
        chat.claimed()
        chat.adopt("worker", ["minted-0"])
        assert chat.words(chat.head) == ["b"]
        assert chat.says("a").duplicate is False
        assert chat.says(named("m1", "?")).duplicate

    def test_an_alias_that_was_settled_alone_is_dropped(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.says(named("m1", "a"))
        chat.claimed()
        job = chat.adopt("worker", ["m1"])
        assert job is not None
        assert [message.ids for message in job.messages] == [("minted-0",), ("minted-1",)]

    def test_an_open_alias_stays(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.says(named("m1", "a"))
        chat.claimed()
        job = chat.adopt("worker", ["minted-1"])
        assert job is not None
        assert job.messages == (Message("minted-0", "a", given=True, aliases=("m1",)),)

    def test_what_joined_since_the_fence_looked_stays(self, chat: Chat) -> None:
        chat.says(named("m0"))
        ended = chat.end(chat.claimed(), superseded_by=chat.job_id(50))
        chat.says(named("m1"))
        job = chat.adopt("worker", ["m0"], ended)
        assert job is not None
        assert job.messages == (named("m1"),)

    def test_nobody_but_the_owner_adopts(self, chat: Chat) -> None:
        accepted = chat.says(named("m1"))
        assert accepted.lock_id
        assert chat.adopt(accepted.lock_id, []) is None
        ended = chat.end(chat.claimed(), superseded_by=chat.job_id(50))
        assert chat.adopt("another", [], ended) is None
        assert chat.words(accepted.job_id) == ["text of m1"]
        assert chat.tier.job(chat.job_id(50)) is None


class TestSeal:
    def test_before_a_slow_commit_it_says_that_its_worker_lives(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        first = chat.says("a")
        chat.claimed()
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.seal([first.message_id], fenced=True).verdict == "sealed"
        clock.advance(settings.heartbeat_stale - 1)
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_with_nothing_new_the_door_closes(self, chat: Chat) -> None:
        first = chat.says("a")
        job = chat.claimed()
        sealed = chat.seal([first.message_id], fenced=False)
        assert sealed == Sealed("sealed", replace(job, sealed=True))
        assert chat.head == sealed.job
        assert chat.heartbeat() == "valid"

    @pytest.mark.parametrize("fenced", [True, False])
    def test_what_was_fenced_may_be_committed(self, chat: Chat, fenced: bool) -> None:
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

    def test_newer_messages_mean_run_again_and_then_wait_for_the_next(self, chat: Chat, settings: Settings) -> None:
        """Endless typing still gets an answer."""
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

    def test_newer_ones_at_the_limit_go_to_the_head_of_the_next_job(
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

    def test_they_go_before_those_that_wait_there_already(self, chat: Chat, settings: Settings) -> None:
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

    def test_nobody_but_the_owner_seals(self, chat: Chat) -> None:
        accepted = chat.says("a")
        assert accepted.lock_id
        before = chat.head
        assert chat.seal([accepted.message_id], accepted.lock_id) == Sealed("lost")
        assert chat.head == before
        chat.claimed()
        before = chat.head
        assert chat.seal([accepted.message_id], "another") == Sealed("lost")
        assert chat.head == before

    def test_who_comes_after_the_seal_waits_for_the_next_job(self, chat: Chat) -> None:
        first = chat.says("a")
        chat.claimed()
        chat.seal([first.message_id])
        second, third = chat.says("b"), chat.says("c")
        assert second.job_id == third.job_id == chat.job_id(2)
        assert second.lock_id is None
        assert chat.words(second.job_id) == ["b", "c"]
        assert chat.words(first.job_id) == ["a"]

    def test_nobody_joins_a_job_while_a_next_one_waits(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        """Counterexample 7: J0 is sealed, m1 waits in J1, the worker dies, J0 is opened again."""
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
        # The request's own message is in the sealed job: its record is deleted with that job.
        chat.says("b")
        chat.claimed()
        chat.seal(["minted-0"])
        accepted = chat.says("a", "b")
        assert accepted.duplicate
        assert accepted.message_id == "minted-0"
        assert accepted.posted == ("minted-0",)
        assert chat.tier.job(chat.job_id(2)) is None


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

    def test_a_failed_one_says_why(self, chat: Chat) -> None:
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
        assert snapshot(chat) == [None, None]
        assert chat.heartbeat() == "lost"
        assert chat.tier.locks("clinic") == []

    def test_the_next_job_moves_up_unheld(self, chat: Chat, clock: Clock) -> None:
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

    def test_nobody_but_the_owner_finishes(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        accepted = chat.says("a")
        job = chat.claimed()
        clock.advance(settings.heartbeat_stale)
        chat.claimed("another")
        before = snapshot(chat, accepted.job_id)
        assert chat.finish("worker", chat.end(job)) == Finished(False)
        assert snapshot(chat, accepted.job_id) == before

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
        """Terminal is terminal."""
        accepted = chat.says("a")
        job = chat.claimed()
        chat.finish("worker", chat.end(job, reply="Rest."))
        assert not chat.finish("worker", chat.end(job, JobStatus.FAILED)).done
        assert not chat.finish(None, chat.end(job, JobStatus.CANCELLED)).done
        read = chat.tier.job(accepted.job_id)
        assert read is not None
        assert (read.status, read.reply) == (JobStatus.COMPLETED, "Rest.")

    def test_what_the_archive_decided_needs_no_owner(self, chat: Chat) -> None:
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

    def test_who_joined_unseen_waits_for_the_next_job(self, chat: Chat, clock: Clock) -> None:
        """A crash after the commit: the fence finds all settled, and m1 joins before the job is finished."""
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

    def test_who_joined_unseen_goes_before_those_that_wait_there_already(self, chat: Chat, settings: Settings) -> None:
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

    def test_an_end_without_its_text_is_remembered_with_it(self, chat: Chat) -> None:
        # The archive's copy of a job names its messages and leaves their text out.
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


class TestGiveBack:
    def test_all_of_the_job_ends_as_cancelled(self, chat: Chat) -> None:
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

    def test_nobody_but_the_owner_gives_it_back(self, chat: Chat) -> None:
        assert not chat.tier.release(chat.key, "lock-1")
        chat.says(named("m1"))
        before = snapshot(chat, chat.job_id(1))
        for lock_id in ("", "another"):
            assert not chat.tier.release(chat.key, lock_id)
        assert not chat.tier.release(ConversationKey("clinic-2", "patient-1"), "lock-1")
        assert snapshot(chat, chat.job_id(1)) == before
        chat.claimed()
        assert not chat.tier.release(chat.key, "lock-1")
        assert chat.tier.release(chat.key, "worker")
        assert not chat.tier.release(chat.key, "worker")


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

    def test_a_sealed_an_ended_and_an_unknown_job_can_not(self, chat: Chat) -> None:
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

    def test_nor_one_that_comes_while_a_waiting_job_is_cancelled(self, chat: Chat) -> None:
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


class TestRelease:
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

    def test_a_cancel_goes_on(self, chat: Chat) -> None:
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


class TestSweep:
    def test_a_stale_holders_job_is_put_back_and_wants_a_record(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        job = chat.claimed()
        chat.seal(["minted-0"], fenced=True)
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.tier.sweep(older_than=DAY) == []
        clock.advance(1)
        put_back = replace(job, status=JobStatus.PENDING, maybe_committed=True)
        assert chat.tier.sweep(older_than=DAY) == [put_back]
        assert chat.head == put_back
        assert chat.heartbeat() == "lost"

    def test_a_live_holder_is_left_alone(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        for _ in range(10):
            clock.advance(settings.heartbeat_stale / 2)
            chat.heartbeat()
            assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat() == "valid"

    def test_an_unheld_job_is_woken_ever_less_often(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        """Nothing is stranded, and a sweep doesn't feed a backlog."""
        chat.says("a")
        for wait in (1, 1, 2, 4, 8, 16, 32, 64, 64):
            clock.advance(wait * settings.wake_after - 1)
            assert chat.tier.sweep(older_than=30 * DAY) == []
            clock.advance(1)
            assert chat.words(chat.tier.sweep(older_than=30 * DAY)[0]) == ["a"]

    def test_the_lock_of_an_unheld_job_stays_its_takers_until_it_is_woken(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after - 1)
        chat.tier.sweep(older_than=DAY)
        assert chat.tier.owner(chat.key, "lock-1")

    def test_a_job_that_moved_up_is_woken_if_nobody_comes(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        sealed = chat.seal(["minted-0"])
        second = chat.says("b")
        assert sealed.job is not None
        chat.finish("worker", chat.end(sealed.job))
        clock.advance(settings.wake_after)
        assert [job.job_id for job in chat.tier.sweep(older_than=DAY)] == [second.job_id]

    def test_after_a_crash_waiting_starts_anew(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        for wait in (1, 1, 2, 4):
            clock.advance(wait * settings.wake_after)
            assert len(chat.tier.sweep(older_than=DAY)) == 1
        chat.claimed()
        clock.advance(settings.heartbeat_stale)
        assert len(chat.tier.sweep(older_than=DAY)) == 1
        clock.advance(settings.wake_after)
        assert len(chat.tier.sweep(older_than=DAY)) == 1

    def test_an_old_job_that_nobody_holds_is_still_woken_ever_less_often(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(2 * DAY)
        assert len(chat.tier.sweep(older_than=DAY)) == 1
        assert chat.tier.sweep(older_than=DAY) == []

    def test_an_old_lock_is_put_back_even_if_its_holder_lives(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(3599)
        chat.claimed()
        assert chat.tier.sweep(older_than=3600) == []
        clock.advance(1)
        assert chat.heartbeat() == "valid"
        assert len(chat.tier.sweep(older_than=3600)) == 1
        assert chat.heartbeat() == "lost"

    def test_all_conversations_are_swept(self, tier: Tier, clock: Clock, settings: Settings) -> None:
        chats = [Chat(tier, clock, ConversationKey(f"p{n % 3}", f"c{n}")) for n in range(20)]
        for chat in chats:
            chat.says("a")
        chats[0].claimed()
        chats[1].answered()
        clock.advance(settings.wake_after)
        chats[2].says("b")
        swept = tier.sweep(older_than=DAY)
        assert {job.key for job in swept} == {chat.key for chat in chats} - {chats[1].key}
        assert len(swept) == 19

    def test_a_tenants_own_sweep_leaves_the_others_alone(self, tier: Tier, clock: Clock, settings: Settings) -> None:
        ours, theirs = (Chat(tier, clock, ConversationKey(platform, "c")) for platform in ("clinic", "lab"))
        for chat in (ours, theirs):
            chat.says("a")
            chat.claimed()
        assert [job.key for job in tier.sweep(older_than=0, platform_id="clinic")] == [ours.key]
        assert (ours.heartbeat(), theirs.heartbeat()) == ("lost", "valid")
        clock.advance(2 * settings.wake_after)
        assert [job.key for job in tier.sweep(older_than=DAY, platform_id="lab")] == [theirs.key]

    def test_nothing_is_older_than_for_ever(self, chat: Chat) -> None:
        chat.says("a")
        assert chat.tier.sweep(older_than=float("inf")) == []


class TestForget:
    def test_a_forgotten_message_is_accepted_as_new(self, chat: Chat) -> None:
        first = chat.says(named("m1"), named("m2"))
        chat.answered()
        chat.tier.forget(chat.key, "m1")
        assert chat.says(named("m2")).duplicate
        chat.record_arrives(first.job_id, named("m1"))
        assert chat.words(chat.head) == ["text of m1"]

    def test_a_waiting_message_and_an_unknown_one_stay_as_they_are(self, chat: Chat) -> None:
        chat.tier.forget(chat.key, "never seen")
        chat.says(named("m1"))
        chat.tier.forget(chat.key, "m1")
        assert chat.says(named("m1")).duplicate


class TestUnarchived:
    """The index of ends that Postgres lacks."""

    def ends(self, chat: Chat, number: int, *, unarchived: bool = True) -> Job:
        chat.says(named(f"m{number}", "it hurts"))
        ended = chat.end(chat.claimed(), reply="Rest.", unarchived=unarchived)
        assert chat.finish("worker", ended).done
        chat.clock.advance(1)
        return ended

    def test_it_names_them_until_postgres_has_them(self, chat: Chat) -> None:
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

    def test_one_whose_end_is_gone_can_be_dropped(self, chat: Chat, clock: Clock) -> None:
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

    def test_what_is_erased_is_in_no_index(self, chat: Chat) -> None:
        other = Chat(chat.tier, chat.clock, ConversationKey("clinic", "patient-2"))
        self.ends(chat, 1)
        kept = self.ends(other, 1)
        chat.tier.erase(chat.key)
        assert chat.tier.unarchived() == [(other.key, kept.job_id)]

    def test_many_keep_no_other_tenants_out_of_sight(self, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
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


class TestLock:
    def test_it_tells_who_waits_since_when_and_nothing_private(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        accepted = chat.says("secret", "words")
        acquired = clock.now
        clock.advance(1)
        expected = Lock(
            chat.key,
            accepted.job_id,
            acquired_at=acquired,
            heartbeat_at=None,
            expires_at=acquired + settings.lock_ttl,
            consolidated_messages=2,
            tier=chat.tier.name,
        )
        assert chat.lock == expected
        assert chat.tier.locks("clinic") == [expected]
        chat.claimed("worker-lock")
        assert chat.lock is not None
        assert (chat.lock.acquired_at, chat.lock.heartbeat_at) == (acquired, clock.now)
        assert chat.lock.expires_at == clock.now + settings.lock_ttl
        for private in ("secret", "lock-1", "worker-lock"):
            assert private not in repr(chat.lock)

    def test_all_of_a_tenant_are_listed_oldest_first(self, tier: Tier, clock: Clock) -> None:
        for number in (3, 1, 2):
            Chat(tier, clock, ConversationKey("clinic", f"c{number}")).says("a")
            Chat(tier, clock, ConversationKey("another", f"c{number}")).says("a")
            clock.advance(1)
        assert [lock.key.conversation_id for lock in tier.locks("clinic")] == ["c3", "c1", "c2"]
        assert {lock.key.platform_id for lock in tier.locks("clinic")} == {"clinic"}
        assert tier.locks("unknown") == []

    def test_no_lock_of_an_idle_conversation(self, chat: Chat) -> None:
        assert chat.lock is None
        chat.says("a")
        chat.answered()
        assert chat.lock is None


class TestIsolation:
    @pytest.mark.parametrize(
        "other", [ConversationKey("clinic-2", "patient-1"), ConversationKey("clinic", "patient-2")]
    )
    def test_conversations_never_see_each_other(self, tier: Tier, clock: Clock, other: ConversationKey) -> None:
        """The same ids in another tenant, or in another conversation, are other messages and other locks."""
        ours, theirs = Chat(tier, clock), Chat(tier, clock, other)
        first = ours.says(named("m1"), resources={"user": 1})
        ours.claimed()
        before = snapshot(ours, first.job_id)
        assert snapshot(theirs) == [None, None]
        assert theirs.claim() is None
        assert theirs.heartbeat() == "lost"
        assert theirs.adopt("worker", []) is None
        assert theirs.seal(["m1"]).verdict == "lost"
        assert not theirs.finish("worker", ours.end(before[2])).done
        assert not theirs.finish(None, ours.end(before[2])).done
        assert theirs.cancel(first.job_id) is None
        assert theirs.tier.owner(other, "worker") is None
        assert theirs.tier.force_release(other) is None
        theirs.undo(first)
        theirs.tier.forget(other, "m1")
        assert snapshot(ours, first.job_id) == before

        second = theirs.says(named("m1"), bot="another")
        assert second.lock_id
        assert not second.duplicate
        ours.sealed_and_ended("Rest.")
        assert theirs.words(theirs.head) == ["text of m1"]
        theirs.answered()
        assert theirs.says(named("m1"), bot="another").job_id == second.job_id
        assert ours.says(named("m1")).job_id == first.job_id

    def test_names_that_look_alike_are_two(self, tier: Tier, clock: Clock) -> None:
        one = Chat(tier, clock, ConversationKey("a:b", "c"))
        two = Chat(tier, clock, ConversationKey("a", "b:c"))
        one.says("x")
        assert two.says("x").lock_id
        assert [lock.key for lock in tier.locks("a")] == [two.key]


def test_an_unknown_or_foreign_job_id_leads_nowhere(chat: Chat) -> None:
    for job_id in (chat.job_id(1), "", "not-a-job", "6f1f7a4e-1d3c-4f5e-9a39-6c1f8f7f3e11"):
        assert chat.tier.job(job_id) is None


def test_a_tier_that_is_there_answers(tier: Tier) -> None:
    tier.ping()


class TestIdsOfOneUtterance:
    """An utterance that came without an id, and again with one."""

    def test_a_record_that_knows_more_ids_finds_the_utterance_by_any_of_them(self, chat: Chat) -> None:
        """The tier forgot; the platform's retry comes first, under the id that is an alias in the record."""
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


class TestACancelThatHasBegun:
    def test_it_covers_what_waited_then_and_nothing_that_came_later(self, chat: Chat) -> None:
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
