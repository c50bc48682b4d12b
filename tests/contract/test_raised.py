"""Danger that was found in a conversation is archived once, with its notice, and disturbs no run: over each archive."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import pytest
from pg8000.native import Connection

from message_handler.archive.none import NoArchive
from message_handler.domain.conversations import DEFAULT_BOT, ConversationKey
from message_handler.domain.errors import Conflict
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.raised import Raised
from message_handler.domain.records import NoticeRecord
from message_handler.operations import dead_letters, erasure
from message_handler.ports.archive import ERASURE_MARGIN, Archive
from message_handler.ports.audit import AuditEntry
from message_handler.ports.queue import DeadLetter, Queue
from tests.contract.chat import BOT
from tests.contract.conversation import HOUR, KEY, NOTICE, STARTED, Conversation, raised
from tests.contract.stories import on
from tests.contract.threads import at_once
from tests.contract.world import FakeQueue, World


def found_in(archive: Archive, this: Raised) -> bool:
    return archive.job(this.key.platform_id, this.job_id) is not None


class TestTheNoticesName:
    def test_is_the_same_for_a_conversation_a_level_and_an_hour(self) -> None:
        assert KEY.notice_job_id("crisis", HOUR) == KEY.notice_job_id("crisis", HOUR)

    def test_differs_with_each_of_them(self) -> None:
        others = [ConversationKey("lab", "patient-1"), ConversationKey("clinic", "patient-2")]
        names = [KEY.notice_job_id("crisis", HOUR), KEY.notice_job_id("crisis", HOUR + 1)]
        names += [KEY.notice_job_id("emergency", HOUR), *(key.notice_job_id("crisis", HOUR) for key in others)]
        assert len(set(names)) == 5

    @pytest.mark.parametrize("number", range(20))
    def test_leads_to_the_conversations_shard(self, number: int) -> None:
        key = ConversationKey("clinic", f"patient-{number}")
        assert shard_of_job(key.notice_job_id("crisis", HOUR)) == key.shard


class TestRaising:
    def test_the_notice_is_an_ended_job_without_messages(self, archive: Archive) -> None:
        assert archive.note_raised(raised())
        job = archive.job(KEY.platform_id, raised().job_id)
        assert job is not None
        assert (job.kind, job.status, job.reply, job.messages) == ("notice", JobStatus.COMPLETED, NOTICE, ())
        assert (job.bot_id, job.correlation_id, job.key) == (BOT, "corr-1", KEY)
        assert (job.created_at, job.started_at, job.finished_at) == (STARTED, STARTED, STARTED)

    def test_the_same_again_is_known_and_changes_nothing(self, archive: Archive) -> None:
        assert archive.note_raised(raised())
        assert not archive.note_raised(raised(notice="Other words.", rule="stroke"))
        job = archive.job(KEY.platform_id, raised().job_id)
        assert job is not None
        assert job.reply == NOTICE

    @pytest.mark.parametrize("other", [{"level": "crisis"}, {"hour": HOUR + 1}], ids=["level", "hour"])
    def test_another_level_or_hour_has_a_notice_of_its_own(self, archive: Archive, other: dict[str, Any]) -> None:
        assert archive.note_raised(raised())
        assert archive.note_raised(raised(**other))
        assert found_in(archive, raised(**other))

    def test_of_several_processes_one_notes_it(self, archive: Archive) -> None:
        for number in range(10):
            found = raised(hour=number)
            assert sorted(at_once(*[lambda: archive.note_raised(found)] * 3)) == [False, False, True]  # noqa: B023

    def test_a_conversation_that_is_there_keeps_its_own_bot(self, archive: Archive) -> None:
        Conversation(archive).answer(1, "m0")
        assert archive.note_raised(raised(bot_id="another"))
        job = archive.job(KEY.platform_id, raised().job_id)
        assert job is not None
        assert (archive.bot_of(KEY), job.bot_id) == (BOT, BOT)

    def test_a_conversation_that_is_missing_is_made(self, archive: Archive) -> None:
        assert archive.note_raised(raised())
        talk = Conversation(archive)
        assert (archive.bot_of(KEY), talk.turns(), talk.settled("m0")) == (None, [], [None])

    @pytest.mark.parametrize("by", ["a run", "a human", "a message without words"])
    def test_it_binds_a_conversation_to_no_bot(self, archive: Archive, by: str) -> None:
        """Its request may be refused, and name the wrong bot."""
        archive.note_raised(raised(bot_id="wrong"))
        talk = Conversation(archive)
        if by == "a run":
            talk.answer(1, "m0")
        elif by == "a human":
            archive.hand_off(KEY, BOT)
        else:
            archive.keep_wordless(KEY, BOT, [Message("p0", "")])
        archive.note_raised(raised("crisis", bot_id="wrong"))
        jobs = [archive.job(KEY.platform_id, raised(level).job_id) for level in ("emergency", "crisis")]
        assert [job.bot_id for job in jobs if job] == ["wrong", BOT]
        assert archive.bot_of(KEY) == BOT

    def test_a_run_goes_on_and_answers_the_message(self, archive: Archive) -> None:
        talk = Conversation(archive)
        job = talk.job(1, "m0")
        fence = talk.number(job)
        assert archive.note_raised(raised())
        assert archive.commit(talk.completed(job), fence)
        assert talk.settled("m0") == [talk.id(1)]
        assert talk.turns() == [("user", "text of m0"), ("assistant", "Rest.")]

    def test_a_notice_is_listed_as_such(self, archive: Archive) -> None:
        Conversation(archive).answer(1, "m0")
        archive.note_raised(raised())
        listed = archive.jobs(KEY.platform_id, status=None, conversation_id=None, behind=None, most=9)
        assert sorted((job.kind, job.reply) for job in listed) == [("notice", None), ("reply", None)]

    def test_a_notice_can_be_neither_retried_nor_cancelled(self, archive: Archive) -> None:
        archive.note_raised(raised())
        job = archive.job(KEY.platform_id, raised().job_id)
        assert job is not None
        with pytest.raises(Conflict):
            archive.reopen(job, AuditEntry("user:1", "retry", "jobs", job.job_id))
        verdict = archive.cancel(job)
        assert (verdict.cancelled, verdict.job.status) == (False, JobStatus.COMPLETED)
        assert archive.job(KEY.platform_id, raised().job_id) == job


class TestErasure:
    def test_what_was_raised_before_is_gone_and_stays_gone(self, archive: Archive) -> None:
        now = replace(raised(), raised_at=time.time())
        assert archive.note_raised(now)
        archive.erase(KEY)
        assert not found_in(archive, now)
        assert not archive.note_raised(now)
        assert not found_in(archive, now)
        assert archive.bot_of(KEY) is None

    def test_what_is_raised_later_is_new(self, archive: Archive) -> None:
        archive.note_raised(replace(raised(), raised_at=time.time()))
        archive.erase(KEY)
        later = replace(raised(), raised_at=time.time() + 2 * ERASURE_MARGIN)
        assert archive.note_raised(later)
        assert found_in(archive, later)

    def test_one_of_a_new_conversation_spares_what_has_begun_since(self, archive: Archive) -> None:
        archive.note_raised(replace(raised(), raised_at=time.time()))
        archive.erase(KEY)
        later = replace(raised("crisis"), raised_at=time.time() + 2 * ERASURE_MARGIN)
        assert archive.note_raised(later)
        assert not archive.note_raised(replace(raised(), raised_at=time.time() - 60))
        assert found_in(archive, later)


def test_without_an_archive_nothing_is_noted() -> None:
    assert not NoArchive().note_raised(raised())


class TestInPostgres:
    @pytest.fixture
    def archive(self, postgres_archive: Archive) -> Archive:
        return postgres_archive

    def test_a_row_tells_what_was_found(self, archive: Archive, sql: Connection) -> None:
        archive.note_raised(raised(drill=True))
        (row,) = sql.run("select to_jsonb(raised) from raised")
        found = {name: value for name, value in row[0].items() if value is not None}
        assert found.pop("raised_at").startswith("2026-09-21T")
        assert found == {
            "platform_id": "clinic",
            "conversation_id": "patient-1",
            "job_id": raised().job_id,
            "level": "emergency",
            "rule": "chest-pain",
            "rules_version": "2026-09-01",
            "message_ids": ["m0", "m1"],
            "drill": True,
            "reminders": 0,
        }

    def test_it_goes_with_its_conversation(self, archive: Archive, sql: Connection) -> None:
        archive.note_raised(raised())
        archive.note_raised(raised(key=ConversationKey("clinic", "patient-2")))
        archive.erase(KEY)
        assert sql.run("select conversation_id from raised") == [["patient-2"]]


class TestTheWay:
    """From a record to the archive, over each pair of stores."""

    def sends(self, world: World, level: str = "emergency") -> Raised:
        """Intake sends a record, because Postgres is away."""
        found = raised(level, world.key, raised_at=world.clock(), bot_id=DEFAULT_BOT)
        world.sender.send(NoticeRecord(found))
        return found

    def kept(self, world: World, found: Raised) -> bool:
        return world.archive.job(world.key.platform_id, found.job_id) is not None

    def test_it_is_archived_and_nothing_is_asked(self, world: World) -> None:
        found = self.sends(world)
        world.settles()
        assert self.kept(world, found)
        assert world.ai.prompts == []

    def test_while_postgres_is_away_it_waits_without_losing_a_delivery(self, world: World) -> None:
        found = self.sends(world)
        world.outlasts_an_outage()
        world.settles()
        assert self.kept(world, found)
        assert world.queue.waiting == []

    def test_delivered_twice_it_is_archived_once(self, world: World) -> None:
        found = self.sends(world)
        self.sends(world)
        world.settles()
        listed = world.archive.jobs(world.key.platform_id, status=None, conversation_id=None, behind=None, most=9)
        assert [job.job_id for job in listed] == [found.job_id]

    @pytest.mark.parametrize(
        "step", ["tier.claim", "archive.fence", "ai.complete", "tier.seal", "archive.commit", "tier.finish"]
    )
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_whenever_it_comes_the_run_goes_on(self, world: World, side: Any, step: str) -> None:
        sent: list[Raised] = []

        def happens() -> None:
            sent.append(self.sends(world))
            world.delivers_all_due()

        world.posts("m0")
        on(world, side, step, happens)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        assert self.kept(world, sent[0])
        world.checked()

    def test_a_record_that_comes_after_an_erasure_brings_nothing_back(self, world: World) -> None:
        world.clock.now = time.time() - 60
        world.posts("m0")
        world.settles()
        found = self.sends(world)
        erasure.erase(world.tiers, world.archive, world.key)
        world.settles()
        assert not self.kept(world, found)
        assert world.archive.conversation(world.key) is None

    @pytest.mark.parametrize("redriven", [0, 1])
    def test_a_dead_letter_is_archived_and_removed(self, world: World, redriven: int) -> None:
        found = raised(key=world.key, raised_at=world.clock())
        letters = [DeadLetter(NoticeRecord(found, redriven), "receipt")]

        class Letters(FakeQueue):
            def dead_letters(self) -> list[DeadLetter]:
                return list(letters)

            def remove(self, letter: DeadLetter) -> None:
                letters.remove(letter)

        queue = cast(Queue, Letters(world.clock))
        world.postgres(away=True)
        assert dead_letters.redrive(world.worker, queue) == 0
        assert len(letters) == 1
        world.postgres(away=False)
        assert dead_letters.redrive(world.worker, queue) == 0
        assert letters == []
        assert self.kept(world, found)

    def test_its_job_is_shown_as_a_notice(self, world: World) -> None:
        found = self.sends(world)
        world.settles()
        shown = world.jobs.get_job_status(found.job_id)
        assert shown is not None
        assert (shown["kind"], shown["status"], shown["messages"]) == ("notice", "completed", [])
        assert shown["reply"] == {"role": "assistant", "content": NOTICE}
        assert (shown["consolidated_messages"], shown["answered_by"], shown["usage"]) == (0, None, None)

    def test_it_is_not_cancelled(self, world: World) -> None:
        found = self.sends(world)
        world.settles()
        assert world.cancels(found.job_id) is None
        assert world.job(found.job_id).status is JobStatus.COMPLETED
