"""A person takes a raised conversation and closes it, and the report counts it: over each archive."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from pg8000.native import Connection

from message_handler.archive.memory import MemoryArchive
from message_handler.archive.none import NoRaised
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_audit import PostgresAudit
from message_handler.archive.postgres_raised import PostgresRaised
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, NotFound, Unavailable
from message_handler.domain.raised import Raised, RaisedConversation
from message_handler.domain.safety_report import Counted, Spent
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.operations.raised import close, find, take
from message_handler.ports.archive import Archive
from message_handler.ports.audit import Audit, AuditEntry
from message_handler.ports.raised import RaisedStore, Reminder, Wanted
from tests.contract.conversation import HOUR, KEY, STARTED, Conversation, raised
from tests.contract.threads import at_once

TENANT = KEY.platform_id
#: The job of the one notice. (The ids that are derived differ with the number of shards.)
JOB = "d80ad0b2-5a6c-821f-8091-d697b6ba8ecc"
NOW = STARTED + 60
WHY = "The nurse has called."
ENTRY = AuditEntry("user:1", "take", "raised", JOB)


@pytest.fixture(autouse=True, scope="module")
def few_shards() -> None:
    """Here are all shards: `JOB` is named before any test begins."""


@pytest.fixture
def store(archive: Archive, raised_store: RaisedStore) -> RaisedStore:
    """A store in which one conversation is raised."""
    archive.note_raised(raised(job_id=JOB))
    return raised_store


def audit_of(archive: Archive) -> Audit:
    if isinstance(archive, MemoryArchive):
        return archive.audit
    assert isinstance(archive, PostgresArchive)
    return PostgresAudit(archive._database)


def audited(archive: Archive) -> list[tuple[Any, ...]]:
    entries = audit_of(archive).entries(TENANT, kind="raised", before_id=None, most=9)
    return [(entry.actor, entry.action, entry.record_id, entry.before, entry.after) for entry in entries]


def listed(store: RaisedStore, tenant: str = TENANT, **wanted: Any) -> list[str]:
    return [each.job_id for each in store.listed(tenant, Wanted(**wanted), behind=None, most=100)]


class TestTaking:
    def test_what_was_found_is_raised_until_a_person_takes_it(self, store: RaisedStore) -> None:
        found = find(store, TENANT, JOB)
        assert found == RaisedConversation(
            JOB, KEY.conversation_id, "emergency", "chest-pain", "2026-09-01", STARTED, drill=False
        )
        assert found.state == "raised"

    def test_it_is_taken_then_closed_with_a_word_why(self, store: RaisedStore, archive: Archive) -> None:
        taken = take(store, TENANT, JOB, "user:1", now=NOW)
        assert (taken.state, taken.taken_by, taken.taken_at) == ("taken", "user:1", NOW)
        closed = close(store, TENANT, JOB, "user:2", why=WHY, now=NOW + 5)
        assert closed == replace(taken, closed_by="user:2", closed_at=NOW + 5, closed_why=WHY)
        assert closed.state == "closed"
        assert audited(archive) == [
            ("user:2", "close", JOB, {"state": "taken"}, {"state": "closed"}),
            ("user:1", "take", JOB, {"state": "raised"}, {"state": "taken"}),
        ]

    @pytest.mark.parametrize("before", [0, 2], ids=["raised", "closed"])
    def test_only_what_is_taken_can_be_closed(self, store: RaisedStore, before: int) -> None:
        self.goes_on(store, before)
        with pytest.raises(Conflict):
            close(store, TENANT, JOB, "user:3", why="again", now=NOW)
        assert find(store, TENANT, JOB).closed_why == (WHY if before else None)

    @pytest.mark.parametrize("before", [1, 2], ids=["taken", "closed"])
    def test_only_what_is_raised_can_be_taken(self, store: RaisedStore, archive: Archive, before: int) -> None:
        self.goes_on(store, before)
        with pytest.raises(Conflict):
            take(store, TENANT, JOB, "user:3", now=NOW)
        assert find(store, TENANT, JOB).taken_by == "user:1"
        assert len(audited(archive)) == before, "what was refused is not in the audit"

    def goes_on(self, store: RaisedStore, steps: int) -> None:
        if steps > 0:
            take(store, TENANT, JOB, "user:1", now=NOW)
        if steps > 1:
            close(store, TENANT, JOB, "user:2", why=WHY, now=NOW)

    def test_of_people_who_take_it_at_the_same_moment_one_does(self, archive: Archive, store: RaisedStore) -> None:
        for hour in range(10):
            found = raised(hour=HOUR + 1 + hour)
            archive.note_raised(found)

            def tries(actor: str, job_id: str = found.job_id) -> bool:
                return store.take(TENANT, job_id, replace(ENTRY, actor=actor, record_id=job_id), now=NOW)

            won = at_once(*(lambda actor=actor: tries(actor) for actor in ("user:1", "user:2", "user:3")))
            assert sorted(won) == [False, False, True]
            (winner,) = [f"user:{number}" for number, wins in enumerate(won, 1) if wins]
            assert find(store, TENANT, found.job_id).taken_by == winner
            assert [entry[0] for entry in audited(archive) if entry[2] == found.job_id] == [winner]

    def test_of_people_who_close_it_at_the_same_moment_one_does(self, store: RaisedStore) -> None:
        take(store, TENANT, JOB, "user:1", now=NOW)
        tries = [lambda why=why: store.close(TENANT, JOB, ENTRY, why=why, now=NOW) for why in ("a", "b", "c")]
        won = at_once(*tries)
        assert sorted(won) == [False, False, True]
        assert find(store, TENANT, JOB).closed_why == "abc"[won.index(True)]

    @pytest.mark.parametrize(
        ("tenant", "job_id"),
        [("lab", JOB), (TENANT, "d80ad0b2-5a6c-821f-8091-d697b6ba8ecd"), (TENANT, "x")],
        ids=["tenant", "level", "name"],
    )
    def test_another_tenants_is_unknown(self, store: RaisedStore, archive: Archive, tenant: str, job_id: str) -> None:
        with pytest.raises(NotFound):
            take(store, tenant, job_id, "user:1", now=NOW)
        with pytest.raises(NotFound):
            close(store, tenant, job_id, "user:1", why=WHY, now=NOW)
        if job_id == JOB:
            assert not store.take(tenant, job_id, ENTRY, now=NOW)
            take(store, TENANT, JOB, "user:1", now=NOW)
            assert not store.close(tenant, job_id, ENTRY, why=WHY, now=NOW)
            assert find(store, TENANT, JOB).state == "taken"

    def test_an_erasure_takes_it_along_with_the_word_why(self, store: RaisedStore, archive: Archive) -> None:
        other = raised(key=ConversationKey(TENANT, "patient-2"))
        archive.note_raised(other)
        take(store, TENANT, JOB, "user:1", now=NOW)
        close(store, TENANT, JOB, "user:1", why=WHY, now=NOW)
        archive.erase(KEY)
        assert listed(store) == [other.job_id]
        assert WHY not in str(audit_of(archive).entries(TENANT, kind=None, before_id=None, most=9))


class TestTheFence:
    """A worker learns with its fence whether the conversation is raised."""

    def level(self, archive: Archive, key: ConversationKey = KEY) -> str | None:
        talk = Conversation(archive, key)
        return talk.fence(talk.job(1, "m9")).raised

    def test_tells_of_a_raised_conversation_until_it_is_closed(self, store: RaisedStore, archive: Archive) -> None:
        assert self.level(archive) == "emergency"
        take(store, TENANT, JOB, "user:1", now=NOW)
        assert self.level(archive) == "emergency"
        close(store, TENANT, JOB, "user:1", why=WHY, now=NOW)
        assert self.level(archive) is None

    @pytest.mark.parametrize("levels", [("crisis", "emergency"), ("emergency", "crisis")])
    def test_tells_the_worst_level(self, archive: Archive, levels: tuple[str, ...]) -> None:
        for hour, level in enumerate(levels):
            archive.note_raised(raised(level, hour=HOUR + hour))
        assert self.level(archive) == "emergency"

    def test_tells_of_no_other_conversation(self, archive: Archive) -> None:
        archive.note_raised(raised(key=ConversationKey(TENANT, "patient-2")))
        archive.note_raised(raised(key=ConversationKey("lab", KEY.conversation_id)))
        assert self.level(archive) is None

    def test_tells_of_no_drill(self, archive: Archive) -> None:
        archive.note_raised(raised(drill=True))
        assert self.level(archive) is None


def test_without_postgres_it_is_refused() -> None:
    store = NoRaised()
    for refused in (
        lambda: find(store, TENANT, JOB),
        lambda: store.take(TENANT, JOB, ENTRY, now=NOW),
        lambda: store.close(TENANT, JOB, ENTRY, why=WHY, now=NOW),
        lambda: listed(store),
        lambda: store.remind(now=NOW, seconds=1, reminders=1, most=1),
        lambda: store.report(TENANT, since=0, until=NOW),
    ):
        with pytest.raises(Unavailable):
            refused()


class TestTheList:
    def several(self, archive: Archive) -> list[Raised]:
        """Newest first. Two of them were raised at the same moment."""
        found = [raised(hour=HOUR + number, raised_at=STARTED + 3600 * (number // 2)) for number in range(5)]
        for each in found:
            archive.note_raised(each)
        return sorted(found, key=lambda each: (each.raised_at, each.job_id), reverse=True)

    def test_each_is_on_one_page_the_newest_first(self, archive: Archive, raised_store: RaisedStore) -> None:
        expected = [each.job_id for each in self.several(archive)]
        pages: list[list[str]] = []
        behind: tuple[int, str] | None = None
        while found := raised_store.listed(TENANT, Wanted(), behind=behind, most=2):
            pages.append([each.job_id for each in found])
            behind = (found[-1].raised, found[-1].job_id)
        assert [job_id for page in pages for job_id in page] == expected
        assert [len(page) for page in pages] == [2, 2, 1]

    def test_a_filter_leaves_out_what_differs(self, archive: Archive, raised_store: RaisedStore) -> None:
        found = self.several(archive)
        crisis = raised("crisis", ConversationKey(TENANT, "patient-2"), raised_at=STARTED - 60)
        others = raised(key=ConversationKey("lab", "patient-1"))
        for each in (crisis, others):
            archive.note_raised(each)
        take(raised_store, TENANT, found[0].job_id, "user:1", now=NOW)
        take(raised_store, TENANT, found[1].job_id, "user:1", now=NOW)
        close(raised_store, TENANT, found[1].job_id, "user:1", why=WHY, now=NOW)
        ids = [each.job_id for each in found]
        assert listed(raised_store) == [*ids, crisis.job_id]
        assert listed(raised_store, state="raised") == [*ids[2:], crisis.job_id]
        assert (listed(raised_store, state="taken"), listed(raised_store, state="closed")) == (ids[:1], ids[1:2])
        assert listed(raised_store, level="crisis") == [crisis.job_id]
        assert listed(raised_store, conversation_id="patient-2") == [crisis.job_id]
        assert listed(raised_store, since=STARTED, until=STARTED + 3600) == ids[3:]
        assert listed(raised_store, "lab") == [others.job_id]


class TestTheReport:
    def test_counts_what_was_raised_and_what_followed(self, archive: Archive, raised_store: RaisedStore) -> None:
        rules = ("en-breathing", "en-breathing", "vi-tho", "icu-x")
        for number, rule in enumerate(rules):
            level = "crisis" if rule == "icu-x" else "emergency"
            found = raised(level, hour=number, rule=rule, raised_at=STARTED)
            archive.note_raised(found)
            if number < 3:
                take(raised_store, TENANT, found.job_id, "user:1", now=STARTED + 10 * (number + 1))
        close(raised_store, TENANT, raised(hour=0).job_id, "user:1", why=WHY, now=STARTED + 100)
        archive.note_raised(raised(hour=9, drill=True, rule="drill"))
        archive.note_raised(raised(key=ConversationKey("lab", "patient-1")))
        archive.note_raised(raised(hour=8, raised_at=STARTED + 10))
        counted, drills = raised_store.report(TENANT, since=STARTED, until=STARTED + 10)
        by = {(each.by, each.name): each for each in counted}
        assert drills == 1
        assert by["all", ""] == Counted(
            "all", "", 4, taken=Spent(3, 20, pytest.approx(29)), closed=Spent(1, pytest.approx(100), pytest.approx(100))
        )
        assert {name: each.raised for name, each in by.items()} == {
            ("all", ""): 4,
            ("level", "crisis"): 1,
            ("level", "emergency"): 3,
            ("rule", "en-breathing"): 2,
            ("rule", "icu-x"): 1,
            ("rule", "vi-tho"): 1,
            ("language", "en"): 2,
            ("language", "other"): 1,
            ("language", "vi"): 1,
        }
        assert by["language", "vi"].taken == Spent(1, 30, 30)
        assert by["level", "crisis"] == Counted("level", "crisis", 1)

    def test_clocks_that_differ_make_no_negative_time(self, store: RaisedStore) -> None:
        take(store, TENANT, JOB, "user:1", now=STARTED - 5)
        counted, _ = store.report(TENANT, since=STARTED, until=STARTED + 10)
        assert {each.taken for each in counted} == {Spent(1, 0, 0)}

    def test_without_danger_it_is_one_row(self, raised_store: RaisedStore) -> None:
        assert raised_store.report(TENANT, since=0, until=time.time()) == ([Counted("all", "", 0)], 0)


class TestReminders:
    def reminded(self, store: RaisedStore, minutes: float, reminders: int = 3, most: int = 9) -> list[tuple[str, int]]:
        """The jobs and the numbers of the reminders that come these minutes after the danger was found."""
        now = STARTED + 60 * minutes
        return [
            (each.job_id, each.number) for each in store.remind(now=now, seconds=600, reminders=reminders, most=most)
        ]

    def test_come_every_ten_minutes_until_there_were_three(self, store: RaisedStore) -> None:
        assert [self.reminded(store, minutes) for minutes in (9, 10, 19, 20, 30, 40, 90)] == [
            [],
            [(JOB, 1)],
            [],
            [(JOB, 2)],
            [(JOB, 3)],
            [],
            [],
        ]
        assert find(store, TENANT, JOB).reminders == 3

    def test_that_come_late_do_not_come_all_at_once(self, store: RaisedStore) -> None:
        assert [self.reminded(store, minutes) for minutes in (90, 91, 100)] == [[(JOB, 1)], [], [(JOB, 2)]]

    @pytest.mark.parametrize("closes", [False, True])
    def test_end_when_a_person_takes_it(self, store: RaisedStore, closes: bool) -> None:
        take(store, TENANT, JOB, "user:1", now=NOW)
        if closes:
            close(store, TENANT, JOB, "user:1", why=WHY, now=NOW)
        assert self.reminded(store, 90) == []

    def test_are_for_every_tenant_the_oldest_first_and_bounded(self, store: RaisedStore, archive: Archive) -> None:
        lab = raised(key=ConversationKey("lab", "patient-1"), raised_at=STARTED - 60, drill=True)
        archive.note_raised(lab)
        (first,) = store.remind(now=STARTED + 600, seconds=600, reminders=3, most=1)
        assert first == Reminder(lab.key, lab.job_id, "emergency", drill=True, number=1)
        assert self.reminded(store, 10) == [(JOB, 1)]

    def test_of_two_sweeps_at_the_same_moment_one_reminds(self, archive: Archive, raised_store: RaisedStore) -> None:
        for hour in range(20):
            found = raised(hour=hour)
            archive.note_raised(found)
            reminded = at_once(*[lambda: self.reminded(raised_store, 10)] * 4)
            assert sorted(reminded) == [[], [], [], [(found.job_id, 1)]]


class TestInPostgres:
    def test_a_conversation_that_is_locked_is_left_to_the_next_sweep(
        self, postgres_archive: PostgresArchive, sql: Connection
    ) -> None:
        store = PostgresRaised(postgres_archive._database)
        postgres_archive.note_raised(raised(job_id=JOB))
        sql.run("begin")
        sql.run("select from conversations for update")
        assert store.remind(now=NOW + 600, seconds=600, reminders=3, most=9) == []
        sql.run("rollback")
        assert len(store.remind(now=NOW + 600, seconds=600, reminders=3, most=9)) == 1

    def test_a_change_that_the_audit_lacks_is_undone(self, postgres_archive: PostgresArchive) -> None:
        store = PostgresRaised(postgres_archive._database)
        postgres_archive.note_raised(raised(job_id=JOB))
        with pytest.raises(StatementRefused, match="23502"):
            store.take(TENANT, JOB, replace(ENTRY, kind=None), now=NOW)  # type: ignore[arg-type]
        assert find(store, TENANT, JOB).state == "raised"
