"""What every archive promises: fences, commits, cancels and links. Each test is named after the promise it keeps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.ports.archive import Archive, ArchivedTurn, Verdict
from tests.contract.chat import BOT, named
from tests.contract.conversation import ENDED, KEY, STARTED, Conversation
from tests.contract.threads import at_once


@pytest.fixture
def talk(archive: Archive) -> Conversation:
    return Conversation(archive)


class TestTheDocument:
    """A job's document tells of its newest run and of its end."""

    def test_a_run_that_answered_nothing_leaves_nothing(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0", restarts=2, attempts=3))
        job = talk.job(1, "m0", restarts=0, attempts=1)
        fence = talk.number(job)
        assert talk.archive.commit(talk.failed(job), fence)
        assert (talk.archived(1).restarts, talk.archived(1).attempts) == (0, 1)

    def test_a_cancel_that_settles_nothing_keeps_what_is_known_of_the_job(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        job = talk.job(2, "m0", restarts=2, attempts=3, correlation_id="c-1")
        assert not talk.archive.cancel(job).cancelled
        found = talk.archived(2)
        assert (found.restarts, found.attempts, found.correlation_id, found.started_at) == (2, 3, "c-1", STARTED)

    def test_an_end_that_is_archived_keeps_its_first_start(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0"))
        assert talk.archive.archive(talk.completed(talk.job(1, "m0", started_at=STARTED + 9)))
        assert talk.archived(1).started_at == STARTED


class TestFence:
    def test_it_rises_by_one_with_each_run(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        assert [talk.number(job) for _ in range(3)] == [1, 2, 3]
        assert talk.number(talk.job(2, "m1")) == 4

    def test_each_conversation_has_its_own(self, archive: Archive) -> None:
        talks = [Conversation(archive, ConversationKey("clinic", f"patient-{n}")) for n in range(2)]
        assert [talk.number(talk.job(1, "m0")) for talk in talks] == [1, 1]

    def test_it_notes_the_run(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0", restarts=1, attempts=2))
        job = talk.archived(1)
        assert (job.status, job.key, job.bot_id, job.restarts, job.attempts) == (
            JobStatus.PROCESSING,
            KEY,
            BOT,
            1,
            2,
        )
        assert (job.created_at, job.started_at, job.finished_at) == (STARTED, STARTED, None)
        assert [message.message_id for message in job.messages] == ["m0"]

    def test_a_run_that_starts_again_notes_all_its_messages_and_its_first_start(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0"))
        talk.number(talk.job(1, "m0", "m1", started_at=STARTED + 60))
        job = talk.archived(1)
        assert [message.message_id for message in job.messages] == ["m0", "m1"]
        assert job.started_at == STARTED

    def test_the_conversation_belongs_to_the_first_runs_bot(self, talk: Conversation) -> None:
        assert talk.archive.bot_of(KEY) is None
        talk.number(talk.job(1, "m0"))
        talk.number(talk.job(2, "m1", bot_id="other"))
        assert talk.archive.bot_of(KEY) == BOT

    def test_the_newest_turns_come_oldest_first(self, talk: Conversation) -> None:
        talk.answer(1, named("m0", "a"), reply="A")
        talk.answer(2, named("m1", "b"), Message("minted", "c"), reply="B")
        job = talk.job(3, "m2")
        newest = (Turn("assistant", "A"), Turn("user", "b", "m1"), Turn("user", "c"), Turn("assistant", "B"))
        assert talk.fence(job, turns=4).turns == newest
        assert talk.fence(job, turns=100).turns == (Turn("user", "a", "m0"), *newest)
        assert talk.fence(job, turns=0).turns == ()
        assert all(abs(turn.said_at - ENDED) < 1 for turn in talk.fence(job, turns=4).turns)

    def test_an_ended_job_is_returned_as_it_ended_and_nothing_runs(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        before = talk.snapshot(1)
        fence = talk.fence(talk.job(1, "m0"))
        assert (fence.number, fence.successor_id, fence.settled) == (None, None, {"m0": talk.id(1)})
        assert fence.ended == talk.archived(1)
        assert talk.snapshot(1) == before
        assert talk.number(talk.job(2, "m1")) == 2

    def test_the_rest_of_an_ended_job_runs_under_its_successor(self, talk: Conversation) -> None:
        """A worker commits J0{m0} and dies before the finish. m1 joins J0 (counterexample 2)."""
        talk.answer(1, "m0")
        fence = talk.fence(talk.job(1, "m0", "m1"), successor=50)
        assert (fence.number, fence.settled, fence.successor_id) == (None, {"m0": talk.id(1)}, talk.id(50))
        assert fence.ended == talk.archived(1)
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, talk.id(50))
        assert talk.number(talk.job(50, "m1")) == 2

    def test_an_ended_job_never_runs_again(self, talk: Conversation) -> None:
        """The tier forgot J0. m1's record, which was promised J0, brings J0 back without m0."""
        talk.answer(1, "m0")
        fence = talk.fence(talk.job(1, "m1"), successor=50)
        assert (fence.number, fence.settled, fence.successor_id) == (None, {}, talk.id(50))
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, talk.id(50))

    def test_a_job_of_which_another_answered_a_part_ends_for_its_successor(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        fence = talk.fence(talk.job(2, "m0", "m1"), successor=50)
        assert (fence.number, fence.settled, fence.successor_id) == (None, {"m0": talk.id(1)}, talk.id(50))
        assert talk.end(2) == (JobStatus.CANCELLED, None, None, talk.id(50))
        assert talk.archived(2).finished_at is not None
        assert talk.end(1)[3] is None

    def test_a_run_that_it_ends_commits_nothing(self, talk: Conversation) -> None:
        """J2{m1} runs and its tier is lost. J2 comes back with m0 too, which was answered before."""
        talk.answer(1, "m0")
        running = talk.job(2, "m1")
        number = talk.number(running)
        assert talk.fence(talk.job(2, "m0", "m1"), successor=50).successor_id == talk.id(50)
        assert not talk.archive.commit(talk.completed(running), number)
        assert talk.settled("m1") == [None]

    def test_a_successor_that_never_ran_is_used_again(self, talk: Conversation) -> None:
        """A worker dies between the fence and the adoption."""
        talk.answer(1, "m0")
        job = talk.job(1, "m0", "m1")
        assert talk.fence(job, successor=50).successor_id == talk.id(50)
        assert talk.fence(job, successor=51).successor_id == talk.id(50)
        assert talk.end(1)[3] == talk.id(50)

    def test_after_a_successor_that_ended_comes_another(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        job = talk.job(1, "m0", "m1", "m2")
        talk.fence(job, successor=50)
        talk.answer(50, "m1")
        fence = talk.fence(job, successor=51)
        assert fence.settled == {"m0": talk.id(1), "m1": talk.id(50)}
        assert fence.successor_id == talk.id(51)
        assert (talk.end(1)[3], talk.end(50)[3]) == (talk.id(50), talk.id(51))

    def test_a_job_that_others_answered_whole_leads_to_the_last_of_them(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        fence = talk.fence(talk.job(3, "m0", "m1"), successor=50)
        assert (fence.number, fence.successor_id) == (None, None)
        assert fence.ended == talk.archived(3)
        assert talk.end(3) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_a_message_is_settled_under_each_of_its_ids(self, talk: Conversation) -> None:
        talk.answer(1, Message("m0", "yes", aliases=("a", "b")))
        assert talk.settled("m0", "a", "b") == [talk.id(1)] * 3
        fence = talk.fence(talk.job(2, Message("a", "yes", given=True), "m1"), successor=50)
        assert fence.settled == {"a": talk.id(1)}

    @pytest.mark.parametrize("id_", ["null", "Null", "a,b", "{a}", 'a"b', "a\\b", "'"])
    def test_an_id_of_any_printable_text_is_settled_and_found(self, talk: Conversation, id_: str) -> None:
        """`null` is what a platform's `String(null)` makes. In a list for Postgres it is not NULL."""
        talk.answer(1, id_)
        assert talk.settled(id_) == [talk.id(1)]
        assert talk.archive.settled(KEY, [id_]).keys() == {id_}
        assert talk.archive.cancel(talk.job(2, id_)).cancelled is False

    def test_an_alias_that_was_settled_alone_forbids_nothing(self, talk: Conversation) -> None:
        talk.answer(1, "a")
        fence = talk.fence(talk.job(2, Message("m0", "yes", aliases=("a",))))
        assert (fence.number, fence.settled) == (2, {"a": talk.id(1)})


class TestCommit:
    def test_it_settles_the_messages_and_archives_the_reply(self, talk: Conversation) -> None:
        job = talk.answer(1, named("m0", "a"), Message("minted", "b"), reply="A and B")
        assert talk.settled("m0", "minted") == [talk.id(1)] * 2
        archived = talk.archived(1)
        assert (archived.status, archived.reply, archived.error) == (JobStatus.COMPLETED, "A and B", None)
        assert (archived.created_at, archived.started_at, archived.finished_at) == (STARTED, STARTED, ENDED)
        found = talk.archive.conversation(KEY)
        assert found is not None
        assert (found.key, found.bot_id) == (KEY, BOT)
        assert list(found.turns) == [
            ArchivedTurn(Turn("user", "a", "m0"), ENDED, job.job_id),
            ArchivedTurn(Turn("user", "b"), ENDED, job.job_id),
            ArchivedTurn(Turn("assistant", "A and B"), ENDED, job.job_id),
        ]

    def test_it_keeps_what_the_run_became(self, talk: Conversation) -> None:
        job = talk.job(1, "m0", "m1")
        ended = replace(talk.completed(job), restarts=2, attempts=3)
        assert talk.archive.commit(ended, talk.number(job))
        archived = talk.archived(1)
        assert (archived.restarts, archived.attempts, len(archived.messages)) == (2, 3, 2)

    def test_a_stale_fence_is_refused_and_nothing_has_changed(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        stale, newest = talk.number(job), talk.number(job)
        before = talk.snapshot(1)
        assert not talk.archive.commit(talk.completed(job, "stale"), stale)
        assert talk.snapshot(1) == before
        assert talk.archive.commit(talk.completed(job, "fresh"), newest)
        assert not talk.archive.commit(talk.completed(job, "stale"), stale)
        assert talk.end(1)[:2] == (JobStatus.COMPLETED, "fresh")

    def test_another_jobs_newer_fence_shuts_a_run_out_too(self, talk: Conversation) -> None:
        paused = talk.job(1, "m0")
        number = talk.number(paused)
        talk.number(talk.job(2, "m1"))
        assert not talk.archive.commit(talk.completed(paused), number)
        assert talk.settled("m0") == [None]

    def test_a_fence_that_was_never_issued_is_refused(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        assert not talk.archive.commit(talk.completed(job), number + 1)
        assert not talk.archive.commit(talk.completed(talk.job(2, "m1")), number)

    def test_a_message_that_another_settled_refuses_the_whole(self, talk: Conversation) -> None:
        job = talk.job(1, "m0", "m1")
        talk.answer(2, "m1")
        job_again = talk.job(3, "m0")
        number = talk.number(job_again)
        before = talk.snapshot(1, 2, 3)
        assert not talk.archive.commit(talk.completed(replace(job_again, messages=job.messages)), number)
        assert talk.snapshot(1, 2, 3) == before
        assert talk.settled("m0", "m1") == [None, talk.id(2)]

    def test_an_alias_that_another_settled_refuses_the_whole(self, talk: Conversation) -> None:
        talk.answer(1, "a")
        job = talk.job(2, "m0")
        number = talk.number(job)
        learned = replace(job, messages=(Message("m0", "yes", aliases=("a",)),))
        assert not talk.archive.commit(talk.completed(learned), number)
        assert talk.settled("m0", "a") == [None, talk.id(1)]

    def test_an_ended_job_is_refused_another_end(self, talk: Conversation) -> None:
        job = talk.answer(1, "m0")
        before = talk.snapshot(1)
        assert not talk.archive.commit(talk.failed(talk.job(1, "m0")), 1)
        assert not talk.archive.commit(talk.completed(talk.job(1, "m0", "m1"), "more"), 2)
        assert talk.snapshot(1) == before
        assert job.reply == talk.end(1)[1]

    def test_the_same_end_twice_under_one_fence_is_one_commit(self, talk: Conversation) -> None:
        """The answer to the first commit was lost."""
        job = talk.answer(1, "m0")
        before = talk.snapshot(1)
        assert talk.archive.commit(job, 1)
        assert talk.snapshot(1) == before
        talk.number(talk.job(2, "m1"))
        assert talk.archive.commit(job, 1)
        assert talk.snapshot(1) == before

    def test_a_failed_job_settles_its_messages_and_keeps_their_text(self, talk: Conversation) -> None:
        job = talk.job(1, named("m0", "it hurts"))
        assert talk.archive.commit(talk.failed(job), talk.number(job))
        assert talk.settled("m0") == [talk.id(1)]
        error = JobError("ai_failed", "The AI gave no answer.")
        assert talk.end(1) == (JobStatus.FAILED, None, error, None)
        assert talk.turns() == [("user", "it hurts")]
        assert talk.fence(talk.job(2, "m1")).turns == (Turn("user", "it hurts", "m0"),)

    def test_turns_stand_in_the_order_of_the_commits(self, talk: Conversation) -> None:
        talk.answer(1, named("m0", "a"), named("m1", "b"), reply="A")
        failing = talk.job(2, named("m2", "c"))
        assert talk.archive.commit(talk.failed(failing), talk.number(failing))
        talk.archive.cancel(talk.job(3, named("m3", "d")))
        talk.answer(4, named("m4", "e"), reply="E")
        assert talk.turns() == [
            ("user", "a"),
            ("user", "b"),
            ("assistant", "A"),
            ("user", "c"),
            ("user", "d"),
            ("user", "e"),
            ("assistant", "E"),
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "Tôi bị đau đầu 🤕 \u202e \u0301 \x7f\x01",
            'O\'Brien said "no" {NULL}, {a,b} null',
            "back\\slash \\' \\\\ \\x00 \\u0000 E'\\n' $1 $$ :name ::text -- /* */",
            "line\nline\r\n\ttab\x0b\x0c end ",
            "",
            "ộ" * 200_000,
        ],
        ids=["unicode", "quotes", "backslashes", "white space", "empty", "600 KB"],
    )
    def test_texts_come_back_byte_for_byte(self, talk: Conversation, text: str) -> None:
        talk.answer(1, named("m0", text), named("m1", text), reply=text)
        assert talk.turns() == [("user", text), ("user", text), ("assistant", text)]
        assert talk.archived(1).reply == text
        turns = (Turn("user", text, "m0"), Turn("user", text, "m1"), Turn("assistant", text))
        assert talk.fence(talk.job(2, "m2")).turns == turns
        assert talk.archive.cancel(talk.job(2, named("m2", text))).cancelled
        assert talk.turns()[-1] == ("user", text)


class TestCancel:
    def test_a_job_that_never_ran_ends_as_cancelled(self, talk: Conversation) -> None:
        verdict = talk.archive.cancel(talk.job(1, named("m0", "a"), started_at=None))
        assert verdict == Verdict(talk.archived(1), cancelled=True)
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, None)
        assert (verdict.job.started_at, verdict.job.created_at) == (None, STARTED)
        assert verdict.job.finished_at is not None
        assert talk.settled("m0") == [talk.id(1)]
        assert talk.turns() == [("user", "a")]

    def test_it_stays_cancelled(self, talk: Conversation) -> None:
        """The job is cancelled, the tier is lost, and the record comes back (counterexample 4)."""
        job = talk.job(1, "m0")
        talk.archive.cancel(job)
        fence = talk.fence(job)
        assert (fence.number, fence.successor_id, fence.settled) == (None, None, {"m0": talk.id(1)})
        assert fence.ended == talk.archived(1)

    def test_the_run_that_goes_on_commits_nothing(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        assert talk.archive.cancel(job).cancelled
        before = talk.snapshot(1)
        assert not talk.archive.commit(talk.completed(job), number)
        assert not talk.archive.commit(talk.failed(job), number)
        assert talk.snapshot(1) == before
        assert talk.number(talk.job(2, "m1")) == number + 2

    def test_it_comes_too_late_for_a_committed_reply(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        before = talk.snapshot(1)
        assert talk.archive.cancel(talk.job(1, "m0")) == Verdict(talk.archived(1), cancelled=False)
        assert talk.snapshot(1) == before

    def test_only_what_is_open_is_cancelled_and_an_end_stays(self, talk: Conversation) -> None:
        job = talk.answer(1, named("m0", "a"))
        verdict = talk.archive.cancel(talk.job(1, named("m0", "a"), named("m1", "b")))
        assert verdict.cancelled
        assert talk.end(1) == (JobStatus.COMPLETED, job.reply, None, None)
        assert talk.settled("m0", "m1") == [talk.id(1)] * 2
        assert talk.turns() == [("user", "a"), ("assistant", "Rest."), ("user", "b")]

    def test_a_failed_end_stays(self, talk: Conversation) -> None:
        running = talk.job(1, "m0")
        job, number = talk.failed(running), talk.number(running)
        assert talk.archive.commit(job, number)
        verdict = talk.archive.cancel(job)
        assert (verdict.cancelled, verdict.job.status, verdict.job.error) == (False, JobStatus.FAILED, job.error)

    def test_a_successor_that_waited_for_a_run_ends_with_it(self, talk: Conversation) -> None:
        """Of J1{m0 m1}, m0 was answered and m1's run under J2 was lost. Then J1 is made again, and cancelled."""
        talk.answer(1, "m0")
        talk.fence(talk.job(1, "m0", "m1"), successor=2)
        talk.number(talk.job(2, "m1"))
        assert talk.archive.cancel(talk.job(1, "m0", "m1")).cancelled
        assert talk.end(2)[0] is JobStatus.CANCELLED

    def test_what_another_answered_is_not_cancelled(self, talk: Conversation) -> None:
        """The job ends all the same, or others could wait for it for ever."""
        talk.answer(1, "m0")
        verdict = talk.archive.cancel(talk.job(2, "m0"))
        assert verdict == Verdict(talk.archived(2), cancelled=False)
        assert talk.end(2)[0] is JobStatus.CANCELLED
        assert talk.settled("m0") == [talk.id(1)]
        assert talk.number(talk.job(3, "m1")) == 2

    def test_a_part_that_another_answered_stays_answered(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        assert talk.archive.cancel(talk.job(2, "m0", named("m1", "b"))).cancelled
        assert talk.settled("m0", "m1") == [talk.id(1), talk.id(2)]
        assert talk.turns()[-1] == ("user", "b")

    def test_an_open_alias_of_an_answered_message_is_not_cancelled(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        assert not talk.archive.cancel(talk.job(2, Message("m0", "yes", aliases=("a",)))).cancelled
        assert talk.settled("m0", "a") == [talk.id(1), None]

    def test_an_alias_keeps_the_job_that_settled_it(self, talk: Conversation) -> None:
        talk.answer(1, "a")
        assert talk.archive.cancel(talk.job(2, Message("m0", "yes", aliases=("a", "b")))).cancelled
        assert talk.settled("m0", "a", "b") == [talk.id(2), talk.id(1), talk.id(2)]

    def test_twice_is_once(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        first = talk.archive.cancel(job)
        before = talk.snapshot(1)
        assert talk.archive.cancel(job) == first
        assert talk.snapshot(1) == before
        assert talk.number(talk.job(2, "m1")) == number + 2

    def test_cancel_against_commit_has_one_winner(self, talk: Conversation) -> None:
        for number in range(1, 21):
            job = talk.job(number, f"m{number}")
            fence = talk.number(job)
            committed, verdict = at_once(
                partial(talk.archive.commit, talk.completed(job), fence), partial(talk.archive.cancel, job)
            )
            assert committed != verdict.cancelled
            status = JobStatus.COMPLETED if committed else JobStatus.CANCELLED
            assert verdict.job.status is status
            assert talk.end(number) == (status, "Rest." if committed else None, None, None)
            replies = [role for role, _ in talk.turns()].count("assistant")
            assert replies == sum(talk.end(n)[0] is JobStatus.COMPLETED for n in range(1, number + 1))
        assert len([turn for turn in talk.turns() if turn[0] == "user"]) == 20


class TestArchive:
    """A tier decided a job's end while Postgres was away. The archive record comes once Postgres is back."""

    def ended(self, talk: Conversation, number: int, *messages: str | Message, reply: str = "Rest.") -> Job:
        return replace(talk.completed(talk.job(number, *messages, restarts=1, attempts=2), reply), unarchived=True)

    def successor(self, talk: Conversation, number: int) -> Job:
        """The last job of the n-th job's chain."""
        job = talk.archived(number)
        while job.superseded_by:
            following = talk.archive.job(KEY.platform_id, job.superseded_by)
            assert following is not None
            job = following
        return job

    def test_what_never_ran_under_a_fence_is_settled_and_archived(self, talk: Conversation) -> None:
        message = Message("minted", "b", aliases=("m1",))
        assert talk.archive.archive(self.ended(talk, 1, named("m0", "a"), message, reply="A and B"))
        assert talk.settled("m0", "minted", "m1") == [talk.id(1)] * 3
        assert talk.turns() == [("user", "a"), ("user", "b"), ("assistant", "A and B")]
        job = talk.archived(1)
        assert (job.status, job.reply, job.error, job.superseded_by) == (JobStatus.COMPLETED, "A and B", None, None)
        assert (job.created_at, job.started_at, job.finished_at) == (STARTED, STARTED, ENDED)
        assert (job.restarts, job.attempts, job.bot_id, job.unarchived) == (1, 2, BOT, False)
        assert [m.message_id for m in job.messages] == ["m0", "minted"]
        found = talk.archive.conversation(KEY)
        assert found is not None
        assert found.turns[0] == ArchivedTurn(Turn("user", "a", "m0"), ENDED, job.job_id)

    def test_its_turns_stand_before_what_was_said_later(self, talk: Conversation) -> None:
        """J1's reply was given while Postgres was away. J2 was committed once it was back. Then J1's record came."""
        talk.answer(9, "m9")
        late = replace(self.ended(talk, 1, "m0", reply="first"), finished_at=ENDED + 1)
        last = talk.job(2, "m1")
        number = talk.number(last)
        assert talk.archive.commit(replace(talk.completed(last, "second"), finished_at=ENDED + 2), number)
        assert talk.archive.archive(late)
        talk.answer(3, "m2", reply="third")
        said = [content for role, content in talk.turns() if role == "assistant"]
        assert said == ["Rest.", "first", "second", "third"]
        fence = talk.fence(talk.job(4, "m3"))
        assert [turn.content for turn in fence.turns if turn.role == "assistant"] == said

    def test_a_failed_end_is_archived_as_it_is(self, talk: Conversation) -> None:
        job = replace(talk.failed(talk.job(1, named("m0", "it hurts"))), unarchived=True)
        assert talk.archive.archive(job)
        assert talk.end(1) == (JobStatus.FAILED, None, job.error, None)
        assert talk.settled("m0") == [talk.id(1)]
        assert talk.turns() == [("user", "it hurts")]

    def test_the_run_that_goes_on_is_shut_out_by_a_late_end(self, talk: Conversation) -> None:
        running = talk.job(2, "m1")
        number = talk.number(running)
        assert talk.archive.archive(self.ended(talk, 1, "m0"))
        assert not talk.archive.commit(talk.completed(running), number)
        assert talk.settled("m1") == [None]
        assert talk.number(running) == number + 2

    def test_a_job_that_ran_under_a_fence_before_ends_once(self, talk: Conversation) -> None:
        """The job was fenced and its worker died. The next worker found Postgres away."""
        running = talk.job(1, "m0", started_at=STARTED - 60)
        number = talk.number(running)
        assert talk.archive.archive(self.ended(talk, 1, "m0", "m1", reply="both"))
        assert talk.end(1) == (JobStatus.COMPLETED, "both", None, None)
        assert talk.archived(1).started_at == STARTED - 60
        assert not talk.archive.commit(talk.completed(running), number)
        assert talk.end(1)[:2] == (JobStatus.COMPLETED, "both")
        assert talk.fence(talk.job(1, "m0", "m1")).ended == talk.archived(1)

    def test_repeating_it_changes_nothing(self, talk: Conversation) -> None:
        job = self.ended(talk, 1, "m0", "m1")
        assert talk.archive.archive(job)
        before = talk.snapshot(1)
        assert not talk.archive.archive(job)
        assert not talk.archive.archive(replace(job, reply="another"))
        assert talk.snapshot(1) == before
        assert talk.number(talk.job(2, "m2")) == 2

    def test_one_of_two_late_ends_at_once_is_archived(self, talk: Conversation) -> None:
        for number in range(1, 11):
            job = self.ended(talk, number, f"m{number}")
            assert sorted(at_once(*[partial(talk.archive.archive, job)] * 3)) == [False, False, True]
        assert [role for role, _ in talk.turns()] == ["user", "assistant"] * 10

    def test_a_link_that_it_has_stays(self, talk: Conversation) -> None:
        talk.answer(2, "m1")
        talk.number(talk.job(1, "m0"))
        talk.archive.supersede(talk.job(1, "m1"), talk.id(2))
        assert talk.archive.archive(self.ended(talk, 1, "m0"))
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, talk.id(2))

    def test_where_another_answered_all_the_first_answer_stays(self, talk: Conversation) -> None:
        talk.answer(2, "m0", "m1", reply="first")
        before = talk.snapshot(1, 2)
        assert not talk.archive.archive(self.ended(talk, 1, "m0", "m1", reply="second"))
        assert talk.snapshot(1, 2) == before
        assert talk.number(talk.job(3, "m2")) == 2

    def test_where_another_answered_a_part_the_rest_is_settled_under_a_successor(self, talk: Conversation) -> None:
        talk.answer(2, named("m0", "a"), reply="first")
        assert talk.archive.archive(self.ended(talk, 1, named("m0", "a"), named("m1", "b"), reply="second"))
        successor = self.successor(talk, 1)
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, successor.job_id)
        assert shard_of_job(successor.job_id) == KEY.shard
        assert (successor.status, successor.reply, successor.finished_at) == (JobStatus.COMPLETED, "second", ENDED)
        assert [message.message_id for message in successor.messages] == ["m1"]
        assert talk.settled("m0", "m1") == [talk.id(2), successor.job_id]
        assert talk.turns() == [("user", "a"), ("assistant", "first"), ("user", "b"), ("assistant", "second")]

    def test_where_the_job_has_ended_what_is_open_is_settled_under_a_successor(self, talk: Conversation) -> None:
        """J1{m0} was committed and its worker died. While Postgres was away J1 was answered again, together with m1."""
        talk.answer(1, named("m0", "a"), reply="first")
        assert talk.archive.archive(self.ended(talk, 1, named("m0", "a"), named("m1", "b"), reply="second"))
        successor = self.successor(talk, 1)
        assert talk.end(1) == (JobStatus.COMPLETED, "first", None, successor.job_id)
        assert (successor.reply, talk.settled("m1")) == ("second", [successor.job_id])
        assert talk.turns()[2:] == [("user", "b"), ("assistant", "second")]

    def test_an_ended_job_with_other_messages_keeps_its_end_too(self, talk: Conversation) -> None:
        talk.archive.cancel(talk.job(1, "m0"))
        assert talk.archive.archive(self.ended(talk, 1, "m1"))
        successor = self.successor(talk, 1)
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, successor.job_id)
        assert talk.settled("m0", "m1") == [talk.id(1), successor.job_id]

    def test_repeating_an_end_with_other_messages_links_nothing(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        job = self.ended(talk, 1, "m0", "m1")
        assert talk.archive.archive(job)
        before, successor = talk.snapshot(1), self.successor(talk, 1)
        assert not talk.archive.archive(job)
        assert talk.snapshot(1) == before
        assert self.successor(talk, 1) == successor

    def test_a_successor_that_never_ran_lends_its_name(self, talk: Conversation) -> None:
        """The fence linked J50, and Postgres went away before it ran."""
        talk.answer(1, "m0")
        assert talk.fence(talk.job(1, "m0", "m1"), successor=50).successor_id == talk.id(50)
        assert talk.archive.archive(self.ended(talk, 1, "m0", "m1"))
        assert talk.settled("m1") == [talk.id(50)]
        assert talk.end(1)[3] == talk.id(50)
        assert talk.end(50) == (JobStatus.COMPLETED, "Rest.", None, None)

    def test_the_end_of_the_chain_is_linked(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        talk.fence(talk.job(1, "m0", "m1", "m2"), successor=50)
        talk.answer(50, "m1")
        assert talk.archive.archive(self.ended(talk, 1, "m0", "m1", "m2"))
        assert talk.end(1)[3] == talk.id(50)
        assert talk.end(50)[3] == self.successor(talk, 1).job_id
        assert talk.settled("m2") == [self.successor(talk, 1).job_id]

    def test_an_alias_that_another_settled_stays_its_own(self, talk: Conversation) -> None:
        talk.answer(2, "a")
        assert talk.archive.archive(self.ended(talk, 1, Message("m0", "yes", aliases=("a", "b"))))
        assert talk.settled("m0", "a", "b") == [talk.id(1), talk.id(2), talk.id(1)]

    def test_an_open_alias_of_an_answered_message_opens_nothing(self, talk: Conversation) -> None:
        talk.answer(2, "m0")
        assert not talk.archive.archive(self.ended(talk, 1, Message("m0", "yes", aliases=("a",))))
        assert talk.settled("a") == [None]

    def test_archive_against_commit_answers_each_message_once(self, talk: Conversation) -> None:
        for number in range(1, 21, 2):
            running = talk.job(number, f"m{number}")
            fence = talk.number(running)
            late = self.ended(talk, number + 1, f"m{number}", f"n{number}", reply="late")
            committed, archived = at_once(
                partial(talk.archive.commit, talk.completed(running), fence), partial(talk.archive.archive, late)
            )
            assert archived
            by, rest = talk.settled(f"m{number}", f"n{number}")
            assert (by == running.job_id) == bool(committed)
            assert (by == rest) == (not committed)
        assert len([role for role, _ in talk.turns() if role == "user"]) == 20


class TestInterrupt:
    def test_it_ends_the_job_leads_on_and_settles_nothing(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        fence = talk.number(job)
        talk.archive.interrupt(interrupted(talk, job, 2))
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))
        assert talk.settled("m0") == [None]
        assert not talk.archive.commit(talk.completed(job), fence)
        assert talk.settled("m0") == [None]

    def test_one_that_took_no_fence_yet_takes_none_any_more(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        talk.archive.interrupt(interrupted(talk, job, 2))
        fence = talk.fence(job)
        assert (fence.number, fence.successor_id) == (None, talk.id(2))
        assert talk.answer(2, "m0", "m1").job_id == talk.id(2)

    def test_one_that_has_ended_stays_as_it_is(self, talk: Conversation) -> None:
        job = talk.answer(1, "m0")
        before = talk.snapshot(1)
        talk.archive.interrupt(interrupted(talk, job, 2))
        assert talk.snapshot(1) == before

    def test_twice_is_once(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        talk.archive.interrupt(interrupted(talk, job, 2))
        before = talk.end(1)
        talk.archive.interrupt(interrupted(talk, job, 3))
        assert talk.end(1) == before

    def test_against_a_commit_one_wins(self, talk: Conversation) -> None:
        for number in range(1, 40, 2):
            job = talk.job(number, f"m{number}")
            fence = talk.number(job)
            _, committed = at_once(
                partial(talk.archive.interrupt, interrupted(talk, job, number + 1)),
                partial(talk.archive.commit, talk.completed(job), fence),
            )
            end = (JobStatus.COMPLETED, None) if committed else (JobStatus.CANCELLED, talk.id(number + 1))
            assert (talk.archived(number).status, talk.archived(number).superseded_by) == end


def interrupted(talk: Conversation, job: Job, successor: int) -> Job:
    return replace(job, status=JobStatus.CANCELLED, finished_at=ENDED, superseded_by=talk.id(successor))


class TestRaiseFence:
    def test_it_shuts_out_the_run(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = talk.number(job)
        talk.archive.raise_fence(KEY)
        assert not talk.archive.commit(talk.completed(job), number)
        assert talk.archive.commit(talk.completed(job), talk.number(job))

    def test_an_unknown_conversation_has_no_run_to_shut_out(self, talk: Conversation) -> None:
        talk.archive.raise_fence(KEY)
        assert talk.archive.conversation(KEY) is None
        assert talk.number(talk.job(1, "m0")) == 1


class TestSupersede:
    def test_a_completed_job_is_linked_and_keeps_its_end(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        talk.archive.supersede(talk.job(1, "m1"), talk.id(2))
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, talk.id(2))

    def test_a_job_that_never_ran_is_cancelled_by_it(self, talk: Conversation) -> None:
        talk.answer(2, "m0")
        talk.archive.supersede(talk.job(1, "m0", status=JobStatus.PENDING, started_at=None), talk.id(2))
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))
        job = talk.archived(1)
        assert (job.created_at, job.started_at) == (STARTED, None)
        assert job.finished_at is not None

    def test_the_end_of_the_chain_is_linked(self, talk: Conversation) -> None:
        for number in (1, 2, 3):
            talk.answer(number, f"m{number}")
        talk.archive.supersede(talk.job(1, "m2"), talk.id(2))
        talk.archive.supersede(talk.job(1, "m3"), talk.id(3))
        assert [talk.end(number)[3] for number in (1, 2, 3)] == [talk.id(2), talk.id(3), None]

    def test_a_link_is_written_once(self, talk: Conversation) -> None:
        for number in (1, 2, 3):
            talk.answer(number, f"m{number}")
        for successor in (2, 2, 3, 2, 3, 3):
            talk.archive.supersede(talk.job(1, "m0"), talk.id(successor))
        assert [talk.end(number)[3] for number in (1, 2, 3)] == [talk.id(2), talk.id(3), None]

    def test_a_chain_that_ends_with_a_mere_name_is_linked_and_ended(self, talk: Conversation) -> None:
        """J1{m0 m1} ended in favour of J2{m1}. J2's worker died before it ran. Then J3 answered m1."""
        talk.answer(1, "m0")
        assert talk.fence(talk.job(1, "m0", "m1"), successor=2).successor_id == talk.id(2)
        assert talk.archive.job(KEY.platform_id, talk.id(2)) is None
        talk.answer(3, "m1")
        talk.archive.supersede(talk.job(1, "m1"), talk.id(3))
        assert talk.end(1)[3] == talk.id(2)
        assert talk.end(2) == (JobStatus.CANCELLED, None, None, talk.id(3))

    def test_links_never_form_a_circle(self, talk: Conversation) -> None:
        for number in (1, 2, 3):
            talk.answer(number, f"m{number}", reply=f"reply {number}")
        talk.archive.supersede(talk.job(1), talk.id(1))
        talk.archive.supersede(talk.job(1), talk.id(2))
        talk.archive.supersede(talk.job(2), talk.id(3))
        assert [talk.end(number)[3] for number in (1, 2, 3)] == [talk.id(2), talk.id(3), None]

    def test_where_a_link_would_close_a_circle_the_chain_ends_with_a_copy(self, talk: Conversation) -> None:
        """J1 answered J2's message, and J2 answered J1's: each leads to the job that answered its own message."""
        talk.answer(1, "m1", reply="reply 1")
        talk.answer(2, "m2", reply="reply 2")
        for _ in range(3):
            talk.archive.supersede(talk.job(1, "m2"), talk.id(2))
            talk.archive.supersede(talk.job(2, "m1"), talk.id(1))
        assert talk.end(1)[3] == talk.id(2)
        copy_id = talk.end(2)[3]
        assert copy_id is not None
        copy = talk.archive.job(KEY.platform_id, copy_id)
        assert copy is not None
        assert (copy.status, copy.reply, copy.superseded_by) == (JobStatus.COMPLETED, "reply 1", None)
        assert talk.settled("m1", "m2") == [talk.id(1), talk.id(2)]
        assert [content for role, content in talk.turns() if role == "assistant"] == ["reply 1", "reply 2"]

    def test_a_linked_job_ends_with_the_last_of_its_messages(self, talk: Conversation) -> None:
        """J1{m0 m1} was abandoned and leads to J2, which answered m0. J3 answers m1. No worker looks at J1 again."""
        talk.number(talk.job(1, "m0", "m1"))
        talk.answer(2, "m0")
        talk.archive.supersede(talk.job(1, "m0"), talk.id(2))
        assert talk.end(1) == (JobStatus.PROCESSING, None, None, talk.id(2))
        talk.answer(3, "m1")
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_two_at_once_end_in_one_chain(self, talk: Conversation) -> None:
        for number in range(1, 31, 3):
            for job in range(number, number + 3):
                talk.answer(job, f"m{job}")
            at_once(
                *(
                    lambda number=number, to=to: talk.archive.supersede(talk.job(number), talk.id(number + to))
                    for to in (1, 2)
                )
            )
            links = [talk.end(job)[3] for job in range(number, number + 3)]
            one, other = talk.id(number + 1), talk.id(number + 2)
            assert links in ([one, other, None], [other, None, one])

    def test_a_run_that_goes_on_for_other_messages_may_still_commit(self, talk: Conversation) -> None:
        """A late record of m0 was promised J2, but J1 answered m0. The record must not end J2's run for m1."""
        talk.answer(1, "m0")
        running = talk.job(2, "m1")
        number = talk.number(running)
        talk.archive.supersede(talk.job(2, "m0"), talk.id(1))
        assert talk.end(2) == (JobStatus.PROCESSING, None, None, talk.id(1))
        assert talk.archive.commit(talk.completed(running), number)
        assert talk.end(2) == (JobStatus.COMPLETED, "Rest.", None, talk.id(1))

    def test_a_run_whose_messages_are_all_settled_ends(self, talk: Conversation) -> None:
        """J1 ran for m0 and was lost. J2 answered m0."""
        talk.number(talk.job(1, "m0"))
        talk.answer(2, "m0")
        assert talk.end(1)[0] is JobStatus.PROCESSING
        talk.archive.supersede(talk.job(1, "m0"), talk.id(2))
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_a_settled_run_in_the_middle_of_a_chain_ends_too(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        talk.number(talk.job(2, "m1"))
        talk.archive.supersede(talk.job(2, "m0"), talk.id(1))
        talk.answer(3, "m1")
        talk.archive.supersede(talk.job(2, "m1"), talk.id(3))
        assert talk.end(2) == (JobStatus.CANCELLED, None, None, talk.id(1))
        assert talk.end(1)[3] == talk.id(3)

    def test_a_record_without_its_own_message_is_linked_too(self, talk: Conversation) -> None:
        talk.answer(2, "m0")
        talk.archive.supersede(talk.job(1), talk.id(2))
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))


class TestReads:
    def test_what_was_never_archived_is_unknown(self, talk: Conversation) -> None:
        assert talk.archive.job(KEY.platform_id, talk.id(1)) is None
        assert talk.archive.conversation(KEY) is None
        assert talk.archive.bot_of(KEY) is None
        assert talk.settled("m0") == [None]

    def test_an_open_message_is_settled_by_no_job(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0"))
        assert talk.settled("m0") == [None]

    def test_a_conversation_begins_with_its_first_run(self, talk: Conversation) -> None:
        talk.number(talk.job(1, "m0"))
        assert talk.turns() == []

    def test_an_archive_that_is_there_answers(self, talk: Conversation) -> None:
        talk.archive.ping()

    def test_an_unknown_bot_has_no_configuration(self, talk: Conversation) -> None:
        assert talk.archive.configuration("default", "nobody") is None


class TestIsolation:
    def test_tenants_with_the_same_ids_never_see_each_other(self, archive: Archive) -> None:
        ours, theirs = (Conversation(archive, ConversationKey(name, "patient-1")) for name in ("clinic", "other"))
        # A job id names its conversation's shard. A store must still tell equal ids of two tenants apart.
        job = ours.job(1, named("m0", "ours"))
        foreign = replace(job, key=theirs.key, messages=(named("m0", "theirs"),))
        number, other_number = ours.number(job), theirs.number(foreign)
        assert (number, other_number) == (1, 1)
        assert archive.commit(ours.completed(job, "ours"), number)
        assert archive.settled_by(theirs.key, "m0") is None
        assert archive.bot_of(ConversationKey("third", "patient-1")) is None
        archive.raise_fence(ours.key)
        assert archive.cancel(foreign).cancelled
        archive.supersede(foreign, ours.id(50))
        assert ours.turns() == [("user", "ours"), ("assistant", "ours")]
        assert theirs.turns() == [("user", "theirs")]
        assert ours.end(1) == (JobStatus.COMPLETED, "ours", None, None)
        found = archive.job("other", job.job_id)
        assert found is not None
        assert (found.status, found.superseded_by) == (JobStatus.CANCELLED, ours.id(50))

    def test_a_tenant_interrupts_no_other_tenants_job(self, archive: Archive) -> None:
        ours, theirs = (Conversation(archive, ConversationKey(name, "patient-1")) for name in ("clinic", "other"))
        job = ours.job(1, "m0")
        foreign = replace(job, key=theirs.key)
        number = theirs.number(foreign)
        ours.number(job)
        archive.interrupt(interrupted(ours, job, 2))
        assert ours.end(1) == (JobStatus.CANCELLED, None, None, ours.id(2))
        assert archive.commit(theirs.completed(foreign), number)

    def test_conversations_of_one_tenant_share_no_messages(self, archive: Archive) -> None:
        talks = [Conversation(archive, ConversationKey("clinic", name)) for name in ("a", "b")]
        talks[0].answer(1, "m0")
        assert talks[1].settled("m0") == [None]
        talks[1].answer(1, "m0")
        assert len(talks[1].turns()) == 2


class TestRaces:
    def test_only_the_last_of_eight_fences_commits(self, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        numbers = at_once(*[lambda: talk.number(job)] * 8)
        assert sorted(numbers) == list(range(1, 9))
        committed = at_once(*(lambda n=n: (n, talk.archive.commit(talk.completed(job, f"by {n}"), n)) for n in numbers))
        assert [n for n, won in committed if won] == [8]
        assert talk.turns() == [("user", "text of m0"), ("assistant", "by 8")]

    def test_however_eight_workers_race_a_message_is_answered_once(self, talk: Conversation) -> None:
        def work(number: int) -> bool:
            job = talk.job(number, "m0", "m1")
            fence = talk.fence(job)
            return fence.number is not None and talk.archive.commit(talk.completed(job), fence.number)

        for _ in range(5):
            if talk.settled("m0") != [None]:
                break
            at_once(*(lambda n=n: work(n) for n in range(1, 9)))
        talk.settled("m0")
        assert sum(talk.end(n)[0] is JobStatus.COMPLETED for n in range(1, 9)) == 1
        assert [role for role, _ in talk.turns()] == ["user", "user", "assistant"]
