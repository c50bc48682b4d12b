"""How long Postgres keeps patients' data, and how an export shows all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import InvalidRequest, NotFound, Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Request
from message_handler.drivers.postgres import Database, execute
from message_handler.drivers.postgres_connection import connector
from message_handler.metrics import Meter
from message_handler.operations import retention
from message_handler.operations.export import export
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Chat, Clock, named
from tests.contract.conversation import NOTICE, Conversation, raised
from tests.contract.threads import at_once
from tests.servers import emptied

SETTINGS = Settings(retention_conversations_days=100)
OLD = "now() - interval '101 days'"


@pytest.fixture
def keeping(postgres_archive: PostgresArchive, postgres_database: Database, sql: Connection) -> PostgresRetention:
    sql.execute_simple(emptied("lines", "ended_jobs", "audit"))
    return PostgresRetention(postgres_database)


@pytest.fixture
def tiers(settings: Settings) -> Failover:
    return Failover(MemoryTier(settings))


def patient(archive: PostgresArchive, number: int, platform_id: str = "default") -> Conversation:
    return Conversation(archive, ConversationKey(platform_id, f"patient-{number}"))


def ages(sql: Connection, *talks: Conversation, by: str = OLD) -> None:
    """Make these conversations so old."""
    for talk in talks:
        sql.run(f"update conversations set updated_at = {by} where conversation_id = :id", id=talk.key.conversation_id)


def purge(
    keeping: PostgresRetention, tiers: Failover, settings: Settings = SETTINGS, *, seconds: float = 30
) -> dict[str, int]:
    return retention.purge(keeping, tiers, settings, Meter(), clock=time.time, until=time.time() + seconds)


def left(sql: Connection) -> list[str]:
    """The conversations of which there is a row in any table."""
    names = ("conversations", "turns", "jobs", "settled", "held", "deliveries", "lines", "raised", "findings")
    rows = sql.run(" union ".join(f"select conversation_id from {name}" for name in names))
    return sorted(row[0] for row in rows or ())


class TestConversations:
    def test_an_old_conversation_is_deleted_whole_and_others_stay(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        old, new = patient(postgres_archive, 1), patient(postgres_archive, 2)
        for talk in (old, new):
            talk.answer(1, "m0")
            postgres_archive.note_raised(raised(key=talk.key))
        ages(sql, old)
        ages(sql, new, by="now() - interval '99 days'")
        assert purge(keeping, tiers)["conversations"] == 1
        assert left(sql) == ["patient-2"]
        assert new.turns() == [("user", "text of m0"), ("assistant", "Rest.")]

    def test_for_ever_is_for_ever(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        ages(sql, talk)
        assert purge(keeping, tiers, Settings(retention_conversations_days=0))["conversations"] == 0
        assert left(sql) == ["patient-1"]

    def test_what_is_under_way_stays(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        running, holding, telling, waiting = talks = [patient(postgres_archive, number) for number in range(1, 5)]
        for talk in talks:
            talk.answer(1, "m0")
        running.number(running.job(2, "m1"))
        postgres_archive.hand_off(holding.key, "nurse")
        postgres_archive.park(Request(holding.key, (), (), "nurse"), [named("m1")])
        sql.run(
            "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)"
            " values ('default', cast(:id as uuid), 'patient-3', 'msg_1', '{}', now(), now())",
            id=telling.id(1),
        )
        Chat(tiers.tiers[0], Clock(time.time()), waiting.key).says(named("m1"))
        ages(sql, *talks)
        listed = keeping.idle(before=time.time() - 86_400, after="-infinity", most=10)
        assert [idle.key for idle in listed] == [waiting.key]  # the tier knows them
        assert purge(keeping, tiers)["conversations"] == 0
        # Nor does one that began after the others were listed.
        others = [running.key, holding.key, telling.key]
        assert keeping.purge_conversations(others, before=time.time() - 86_400) == 0
        assert left(sql) == ["patient-1", "patient-2", "patient-3", "patient-4"]

    def test_what_waits_in_the_postgres_tier_stays(
        self,
        postgres_archive: PostgresArchive,
        postgres_database: Database,
        keeping: PostgresRetention,
        settings: Settings,
        sql: Connection,
    ) -> None:
        tier = PostgresTier(postgres_database, settings)
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        Chat(tier, Clock(), talk.key).says(named("m1"))
        ages(sql, talk)
        assert keeping.idle(before=time.time(), after="-infinity", most=10) == []
        assert keeping.purge_conversations([talk.key], before=time.time() - 86_400) == 0
        sql.run("delete from line_states")
        assert purge(keeping, Failover(tier))["conversations"] == 1

    def test_while_a_tier_is_away_nothing_is_purged(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, redis_tier: RedisTier, sql: Connection
    ) -> None:
        class Away(MemoryTier):
            def waiting(self, key: ConversationKey) -> Job | None:
                raise Unavailable("Redis")

        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        ages(sql, talk)
        with pytest.raises(Unavailable):
            purge(keeping, Failover(Away(SETTINGS), redis_tier))
        assert left(sql) == ["patient-1"]

    def test_it_goes_in_batches_and_the_next_run_goes_on(
        self,
        postgres_archive: PostgresArchive,
        keeping: PostgresRetention,
        tiers: Failover,
        sql: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retention, "MOST_CONVERSATIONS", 3)
        sizes: list[int] = []
        delete = keeping.purge_conversations

        def counting(keys: list[ConversationKey], *, before: float) -> int:
            sizes.append(len(keys))
            return delete(keys, before=before)

        monkeypatch.setattr(keeping, "purge_conversations", counting)
        talks = [patient(postgres_archive, number) for number in range(8)]
        for number, talk in enumerate(talks):
            talk.answer(1, "m0")
            ages(sql, talk, by=f"now() - interval '{200 - number} days'")
        assert purge(keeping, tiers, seconds=0)["conversations"] == 0
        now = time.time()
        moved = retention.purge(
            keeping, tiers, SETTINGS, Meter(), clock=lambda: now + 9 * (len(sizes) == 2), until=now + 5
        )
        assert moved["conversations"] == 6
        assert left(sql) == ["patient-6", "patient-7"]
        assert purge(keeping, tiers)["conversations"] == 2
        assert sizes == [3, 3, 2]
        assert left(sql) == []

    def test_a_batch_has_a_bounded_number_of_turns(
        self,
        postgres_archive: PostgresArchive,
        keeping: PostgresRetention,
        tiers: Failover,
        sql: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retention, "MOST_TURNS", 5)
        sizes: list[int] = []
        delete = keeping.purge_conversations
        monkeypatch.setattr(
            keeping, "purge_conversations", lambda keys, **more: sizes.append(len(keys)) or delete(keys, **more)
        )
        for number, answers in enumerate((1, 1, 4, 1)):
            talk = patient(postgres_archive, number)
            for answer in range(answers):
                talk.answer(answer + 1, f"m{answer}")
            ages(sql, talk, by=f"now() - interval '{200 - number} days'")
        assert purge(keeping, tiers)["conversations"] == 4
        assert sizes == [2, 1, 1]

    def test_a_conversation_that_goes_on_meanwhile_stays(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, sql: Connection
    ) -> None:
        # Listed as idle ── a message comes, its run takes a fence ── deleted?
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        ages(sql, talk)
        (idle,) = keeping.idle(before=time.time() - 86_400, after="-infinity", most=10)
        number = talk.number(talk.job(2, "m1"))
        assert keeping.purge_conversations([idle.key], before=time.time() - 86_400) == 0
        assert postgres_archive.commit(talk.completed(talk.job(2, "m1")), number)
        assert len(talk.turns()) == 4

    def test_a_message_that_is_parked_meanwhile_keeps_its_conversation(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, sql: Connection
    ) -> None:
        # Listed ── a patient writes, it is held, 202 ── (handed back and answered, or not yet) ── deleted?
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        postgres_archive.hand_off(talk.key, "nurse")
        ages(sql, talk)
        (idle,) = keeping.idle(before=time.time() - 86_400, after="-infinity", most=10)
        assert postgres_archive.park(Request(talk.key, (), (), "nurse"), [named("m1")])
        assert keeping.purge_conversations([idle.key], before=time.time() - 86_400) == 0
        assert postgres_archive.parked_under(talk.key, ["m1"])
        sql.run("delete from held")
        assert keeping.purge_conversations([idle.key], before=time.time() - 86_400) == 0

    def test_a_delivery_that_is_redriven_meanwhile_is_not_deleted_unsent(
        self,
        postgres_archive: PostgresArchive,
        postgres_database: Database,
        keeping: PostgresRetention,
        sql: Connection,
    ) -> None:
        talks = [patient(postgres_archive, number) for number in (1, 2, 3)]
        for talk, status in zip(talks, ("dead", "dead", "delivered"), strict=True):
            talk.answer(1, "m0")
            sql.run(
                "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, status, created_at,"
                " give_up_at) values ('default', cast(:id as uuid), :name, :name, '{}', :status, now(), now())",
                id=talk.id(1),
                name=talk.key.conversation_id,
                status=status,
            )
        ages(sql, *talks)
        listed = [idle.key for idle in keeping.idle(before=time.time() - 86_400, after="-infinity", most=10)]
        assert len(listed) == 3
        assert len(PostgresOutbox(postgres_database).redrive("default", now=time.time())) == 2
        sql.run("update outbox set status = 'delivered' where webhook_id = 'patient-2'")  # a worker was faster
        assert keeping.purge_conversations(listed, before=time.time() - 86_400) == 1
        assert left(sql) == ["patient-1", "patient-2"]

    def test_a_redrive_and_a_purge_do_not_wait_for_each_other(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, migrated: Settings, sql: Connection
    ) -> None:
        # redrive: conversation ── purge: its deliveries? ── redrive: the same
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        sql.run(
            "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, status, created_at,"
            " give_up_at) values ('default', cast(:id as uuid), 'patient-1', 'msg', '{}', 'dead', now(), now())",
            id=talk.id(1),
        )
        ages(sql, talk)
        with closing(connector(migrated)()) as redriving:
            redriving.execute_simple("begin")
            values = {"platform_id": "default", "now": time.time()}
            execute(redriving, values, "lock_platform", "touch_dead_deliveries")
            assert keeping.purge_conversations([talk.key], before=time.time() - 86_400) == 0
            assert execute(redriving, values, "redrive_deliveries") == [["patient-1"]]
            redriving.execute_simple("commit")
        assert left(sql) == ["patient-1"]

    def test_a_locked_conversation_is_left_alone_without_waiting(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, migrated: Settings, sql: Connection
    ) -> None:
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        ages(sql, talk)
        sql.run("begin")
        sql.run("select 1 from conversations where conversation_id = 'patient-1' for update")
        with ThreadPoolExecutor(1) as others:
            purging = others.submit(keeping.purge_conversations, [talk.key], before=time.time() - 86_400)
            done, _ = wait([purging], timeout=1)
            sql.run("rollback")
            assert done, "the purge waits for the lock"
        assert purging.result() == 0
        assert keeping.purge_conversations([talk.key], before=time.time() - 86_400) == 1

    def test_a_run_that_takes_its_fence_at_the_same_time_commits(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, sql: Connection
    ) -> None:
        for number in range(20):
            talk = patient(postgres_archive, number)
            talk.answer(1, "m0")
            ages(sql, talk)
            job = talk.job(2, "m1")
            fence, _ = at_once(
                lambda talk=talk, job=job: talk.number(job),  # type: ignore[misc]
                lambda talk=talk: keeping.purge_conversations([talk.key], before=time.time() - 86_400),  # type: ignore[misc]
            )
            assert postgres_archive.commit(talk.completed(job), fence)
            assert talk.turns()[-1] == ("assistant", "Rest.")
            assert talk.archived(2).reply == "Rest."

    def test_a_late_duplicate_of_a_purged_message_is_a_new_message(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        ages(sql, talk)
        purge(keeping, tiers)
        assert talk.settled("m0") == [None]
        talk.answer(2, "m0")
        assert talk.turns() == [("user", "text of m0"), ("assistant", "Rest.")]

    def test_no_record_of_a_conversation_can_be_older_than_it(self) -> None:
        with pytest.raises(Exception, match="retention_conversations_days"):
            Settings(retention_conversations_days=29)
        assert Settings().retention_conversations_days == 3653

    def test_tenants_go_each_by_their_own_rows(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        mine, theirs = patient(postgres_archive, 1), patient(postgres_archive, 1, "other")
        for talk in (mine, theirs):
            talk.answer(1, "m0")
        sql.run(f"update conversations set updated_at = {OLD} where platform_id = 'other'")
        assert purge(keeping, tiers)["conversations"] == 1
        assert mine.turns() == [("user", "text of m0"), ("assistant", "Rest.")]
        assert postgres_archive.conversation(theirs.key) is None


class TestOtherRows:
    @pytest.fixture
    def outbox(self, postgres_archive: PostgresArchive, sql: Connection) -> Callable[..., None]:
        talk = patient(postgres_archive, 1)
        numbers = iter(range(1, 100))

        def tell(status: str, days: int) -> None:
            number = next(numbers)
            talk.answer(number, f"m{number}")
            sql.run(
                "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, status, created_at,"
                " delivered_at, give_up_at) select 'default', cast(:id as uuid), 'patient-1', :webhook, '{}', :status,"
                " at, case when :status = 'delivered' then at end, at"
                " from (select now() - make_interval(days => cast(:days as integer)) as at) as moment",
                id=talk.id(number),
                webhook=f"msg_{status}_{days}",
                status=status,
                days=days,
            )

        return tell

    def test_deliveries_go_by_their_end(
        self, keeping: PostgresRetention, tiers: Failover, sql: Connection, outbox: Callable[..., None]
    ) -> None:
        for status in ("pending", "delivered", "dead"):
            for days in (29, 31, 89, 91):
                outbox(status, days)
        assert purge(keeping, tiers)["deliveries"] == 4
        rows = [row[0] for row in sql.run("select webhook_id from outbox order by sequence") or ()]
        pending = [f"msg_pending_{days}" for days in (29, 31, 89, 91)]
        assert rows == [*pending, "msg_delivered_29", *(f"msg_dead_{days}" for days in (29, 31, 89))]

    def test_no_more_than_a_batch_at_a_time(
        self, keeping: PostgresRetention, sql: Connection, outbox: Callable[..., None]
    ) -> None:
        for _ in range(1):
            outbox("delivered", 40)
        outbox("delivered", 41)
        moments: dict[str, Any] = {"delivered_before": time.time(), "dead_before": time.time()}
        assert keeping.purge_deliveries(**moments, most=1) == 1
        assert keeping.purge_deliveries(**moments, most=1) == 1
        assert keeping.purge_deliveries(**moments, most=1) == 0

    def test_erasures_are_forgotten_when_no_record_can_be_that_old(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        talk = patient(postgres_archive, 1)
        postgres_archive.erase(talk.key)
        assert purge(keeping, tiers)["erasures"] == 0
        sql.run("update erasures set erased_at = now() - interval '91 days'")
        assert purge(keeping, tiers)["erasures"] == 1
        assert not postgres_archive.erased(talk.key, 0.0)

    def test_what_operators_did_goes_by_its_age(
        self, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        sql.run(
            "insert into audit (platform_id, at, actor, action, kind, record_id)"
            " select 'default', now() - make_interval(days => days), 'user:1', 'put', 'bots', days::text"
            " from unnest(array[2556, 2558]) as days"
        )
        assert purge(keeping, tiers, Settings(retention_audit_days=0))["audit"] == 0
        assert purge(keeping, tiers)["audit"] == 1
        assert sql.run("select record_id from audit") == [["2556"]]

    def test_it_is_found_without_looking_at_every_row(self, keeping: PostgresRetention, sql: Connection) -> None:
        sql.run("set enable_seqscan = off")
        try:
            plans = [
                "select 1 from conversations where updated_at < now() order by updated_at limit 10",
                "select 1 from erasures where erased_at < now() limit 10",
                "select 1 from audit where at < now() limit 10",
                "select 1 from jobs where platform_id = 'a' and conversation_id = 'b'",
                "select 1 from outbox where status = 'dead' and coalesce(delivered_at, give_up_at) < now() limit 10",
            ]
            for plan in plans:
                lines = " ".join(row[0] for row in sql.run(f"explain {plan}") or ())
                assert "Index" in lines
                assert "Seq Scan" not in lines
        finally:
            sql.run("reset enable_seqscan")


def whole(keeping: PostgresRetention, tiers: Failover, key: ConversationKey, **limits: int) -> list[dict[str, Any]]:
    """Reads all pages of an export."""
    records, after = [], None
    for _ in range(1_000):
        page = export(keeping, tiers, key, after=after, **limits)
        records += page["records"]
        after = page["next"]
        if after is None:
            return records
    raise AssertionError("the export has no end")


class TestExport:
    def test_all_that_is_stored_is_shown(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover, sql: Connection
    ) -> None:
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        postgres_archive.hand_off(talk.key, "nurse")
        postgres_archive.park(Request(talk.key, (), (), "nurse", {"user_id": "u1"}), [named("m1")])
        sql.run(
            "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)"
            " values ('default', cast(:id as uuid), 'patient-1', 'msg_1', '{}', now(), now())",
            id=talk.id(1),
        )
        Chat(tiers.tiers[0], Clock(time.time()), talk.key).says(named("m2"))
        other = patient(postgres_archive, 2)
        other.answer(1, "not mine")
        records = whole(keeping, tiers, talk.key)
        kinds = [record["kind"] for record in records]
        assert kinds == ["conversation", "turn", "turn", "job", "settled", "held", "delivery", "waiting"]
        shown = dict(zip(kinds, records, strict=True))
        assert [record["content"] for record in records if record["kind"] == "turn"] == ["text of m0", "Rest."]
        assert shown["conversation"]["handed_off"] is True
        assert shown["job"]["reply"] == "Rest."
        assert shown["job"]["status"] == "completed"
        assert shown["settled"]["message_id"] == "m0"
        assert shown["held"]["content"] == "text of m1"
        assert shown["held"]["resources"] == {"user_id": "u1"}
        assert shown["delivery"]["webhook_id"] == "msg_1"
        assert shown["waiting"]["messages"][0]["content"] == "text of m2"
        assert "not mine" not in str(records)

    def test_what_was_raised_is_shown_with_its_notice(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover
    ) -> None:
        talk = patient(postgres_archive, 1)
        postgres_archive.note_raised(raised(key=talk.key))
        postgres_archive.note_raised(raised(key=patient(postgres_archive, 2).key))
        _, job, found = whole(keeping, tiers, talk.key)
        assert (job["kind"], job["job_kind"], job["reply"]) == ("job", "notice", NOTICE)
        assert (found["kind"], found["job_id"], found["level"]) == ("raised", job["job_id"], "emergency")
        assert (found["rule"], found["drill"], found["closed_at"]) == ("chest-pain", False, None)

    def test_the_words_that_an_edit_replaced_are_shown_and_the_platforms_id_alone(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover
    ) -> None:
        talk, edit = patient(postgres_archive, 1), named("m0", "new words")
        talk.answer(1, named("m0", "old words"), replace(edit, message_id=edit.edit_ids[0]))
        chat = Chat(tiers.tiers[0], Clock(time.time()), talk.key)
        chat.says(named("m1", "old"))
        chat.says(named("m1", "new"))
        records = whole(keeping, tiers, talk.key)
        said = [(r["content"], r["earlier"]) for r in records if r["kind"] == "turn"]
        assert said == [("new words", ["old words"]), ("Rest.", [])]
        assert [message["message_id"] for message in records[-1]["messages"]] == ["m1", "m1"]
        assert " edit " not in str(records)

    @pytest.mark.parametrize("limits", [{"most": 1}, {"most": 2}, {"most": 7}, {"most_bytes": 1}, {"most_bytes": 900}])
    def test_a_long_one_comes_in_pages_each_record_once(
        self,
        postgres_archive: PostgresArchive,
        keeping: PostgresRetention,
        tiers: Failover,
        limits: dict[str, int],
    ) -> None:
        talk = patient(postgres_archive, 1)
        for number in range(1, 13):
            talk.answer(number, f"m{number}")
        at_once_ = whole(keeping, tiers, talk.key)
        assert len(at_once_) == 1 + 24 + 12 + 12
        assert whole(keeping, tiers, talk.key, **limits) == at_once_

    def test_a_page_is_bounded(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover
    ) -> None:
        talk = patient(postgres_archive, 1)
        for number in range(1, 5):
            talk.answer(number, f"m{number}", reply="é" * 300_000)
        page = export(keeping, tiers, talk.key)
        assert 0 < sum(len(str(record).encode()) for record in page["records"]) < 1_100_000
        assert page["next"]
        assert len(whole(keeping, tiers, talk.key)) == 1 + 8 + 4 + 4

    def test_an_unknown_conversation_is_not_found(self, keeping: PostgresRetention, tiers: Failover) -> None:
        with pytest.raises(NotFound):
            export(keeping, tiers, ConversationKey("default", "nobody"))

    def test_another_tenants_is_not_found(
        self, postgres_archive: PostgresArchive, keeping: PostgresRetention, tiers: Failover
    ) -> None:
        talk = patient(postgres_archive, 1)
        talk.answer(1, "m0")
        with pytest.raises(NotFound):
            export(keeping, tiers, replace(talk.key, platform_id="other"))

    @pytest.mark.parametrize("after", ["", "x", "9.a", "-1.a", "1", "1.\x00", "1 .a", "1.\ud800"])
    def test_a_place_that_is_none_is_refused(self, keeping: PostgresRetention, tiers: Failover, after: str) -> None:
        with pytest.raises(InvalidRequest, match="next"):
            export(keeping, tiers, ConversationKey("default", "patient-1"), after=after)
