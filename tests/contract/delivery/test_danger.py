"""Found danger is told to the platform ahead of all that waits, and holds nothing else back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

import pytest
from pg8000.native import Connection

from message_handler.archive.postgres_audit import PostgresAudit
from message_handler.archive.postgres_raised import PostgresRaised
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.bot_config import BotConfigService
from message_handler.delivery import deliveries as deliveries_module
from message_handler.delivery.deliveries import BACKOFF, MOST_AT_ONCE, OVERDUE_SECONDS, TRY_SECONDS, Deliveries
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.raised import Raised
from message_handler.domain.records import DeliveryRecord, NoticeRecord
from message_handler.drivers.postgres import Database
from message_handler.operations import dead_letters
from message_handler.operations.raised import drill, remind
from message_handler.ports.archive import ERASURE_MARGIN
from message_handler.ports.outbox import Delivery
from message_handler.ports.queue import Queue
from message_handler.ports.raised import Reminder
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from message_handler.worker.rescue import NOTICE_SECONDS
from tests.contract.chat import DAY
from tests.contract.conversation import NOTICE, Conversation, raised
from tests.contract.delivery.office import CLINIC, LAB, Office
from tests.contract.receiver import Answer, Receiver, Told
from tests.contract.world import FakeQueue, World


def danger(talk: Conversation, level: str = "emergency", **changes: Any) -> Raised:
    """The rules find danger in a conversation."""
    found = raised(level, talk.key, **changes)
    assert talk.archive.note_raised(found)
    return found


def types(receiver: Receiver) -> list[str]:
    return [told.event["type"] for told in receiver.told]


def refuses(*refused: str, status: int = 500) -> Callable[[Told, BaseHTTPRequestHandler], Answer]:
    """A platform that refuses events of these types."""
    return lambda told, _: (status if told.event["type"] in refused else 200, {})


class TestTheEvent:
    def test_it_says_what_was_found_and_what_the_patient_was_told(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        found = danger(talk, drill=True)
        office.works(talk.key)
        (told,) = receiver.told
        assert told.event == {
            "type": "safety.raised",
            "timestamp": "2026-09-21T14:13:20.250Z",
            "data": {
                "conversation_id": "patient-1",
                "job_id": found.job_id,
                "level": "emergency",
                "rule": "chest-pain",
                "notice": NOTICE,
                "message_ids": ["m0", "m1"],
                "bot_id": found.bot_id,
                "drill": True,
                "reminder": 0,
                "correlation_id": "corr-1",
            },
        }
        assert told.webhook_id == f"msg_safety_{found.job_id}"
        assert told.headers["x-correlation-id"] == "corr-1"
        assert office.states() == ["delivered"]

    def test_the_time_of_its_first_arrival_is_kept_for_the_report(self, office: Office, sql: Connection) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        other, found = danger(talk, "crisis"), danger(talk)
        sql.run("update raised set delivered_at = 'epoch' where job_id = :id", id=other.job_id)
        office.works(talk.key)
        assert len(receiver.told) == 3
        rows = sql.run("select cast(job_id as text), extract(epoch from delivered_at)::float8 from raised")
        assert dict(rows or ()) == {other.job_id: 0, found.job_id: pytest.approx(office.clock(), abs=1)}

    def test_a_drill_is_told_as_one(self, office: Office, settings: Settings) -> None:
        receiver = office.platform()
        talk = office.talk()
        tiers = Failover(MemoryTier(settings))
        bots = BotConfigService(tiers, office.archive, settings)
        audit = PostgresAudit(office.archive._database)
        job_id = drill(
            talk.key,
            "user:1",
            archive=office.archive,
            audit=audit,
            deliveries=office.deliveries,
            bots=bots,
            correlation_id="corr-2",
            now=office.clock(),
        ).job_id
        office.passes(60)
        (told,) = receiver.told
        assert told.event["type"] == "safety.raised"
        data = told.event["data"]
        assert (data["job_id"], data["drill"], data["rule"], data["message_ids"]) == (job_id, True, "drill", [])
        assert data["notice"].startswith(("This is a drill", "Đây là diễn tập"))

    def test_each_try_has_the_same_body(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        danger(talk)
        receiver.answers(500)
        office.works(talk.key)
        receiver.answers(200)
        office.passes(60)
        first, second = receiver.told
        assert (first.body, first.webhook_id) == (second.body, second.webhook_id)

    def test_after_an_erasure_it_is_another_event_although_its_job_has_the_same_id(self, office: Office) -> None:
        """A platform drops an event whose id it knows. The job is the same for a conversation, a level and an hour."""
        receiver = office.platform()
        talk = office.talk()
        found = danger(talk, raised_at=office.clock())
        for _ in range(2):
            office.passes(60)
            office.clock.now = max(office.clock(), time.time() + 2 * ERASURE_MARGIN + 600)
            remind(PostgresRaised(office.archive._database), office.meter, minutes=10, now=office.clock())
            office.passes(60)
            office.archive.erase(talk.key)
            assert danger(talk, raised_at=time.time() + 2 * ERASURE_MARGIN).job_id == found.job_id
        office.passes(60)
        ids = [told.webhook_id for told in receiver.told]
        assert len(ids) == len(set(ids)) == 5

    def test_the_same_danger_again_is_told_once(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        found = danger(talk)
        office.works(talk.key)
        assert not office.archive.note_raised(found)
        office.works(talk.key)
        assert len(receiver.told) == 1

    @pytest.mark.parametrize("base_url", ["", None])
    def test_a_platform_without_a_webhook_is_told_nothing(self, office: Office, base_url: str | None) -> None:
        office.configure(CLINIC, base_url)
        danger(office.talk())
        danger(office.talk(platform_id="nowhere"))
        assert office.rows() == []


class TestReminders:
    def reminds(self, office: Office, minutes: int = 10) -> list[Reminder]:
        store = PostgresRaised(office.archive._database)
        reminded = remind(store, office.meter, minutes=minutes, now=office.clock())
        office.deliveries.sweep()
        return reminded

    def test_tell_the_platform_again_under_an_id_of_their_own(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        found = danger(talk, drill=True, raised_at=office.clock())
        office.passes(60)
        for _ in range(5):
            office.clock.advance(600)
            self.reminds(office)
            office.passes(60)
        assert [(told.webhook_id, told.event["data"]["reminder"]) for told in receiver.told] == [
            (f"msg_safety_{found.job_id}", 0),
            *((f"msg_safety_{found.job_id}_{number}", number) for number in (1, 2, 3)),
        ]
        first, second, *_ = (told.event for told in receiver.told)
        assert first["data"] == second["data"] | {"reminder": 0}
        assert first["timestamp"] < second["timestamp"]
        assert office.counted()["SafetyUntaken"] == 3, "after the last reminder the alarm rings no more"

    def test_are_counted_without_a_webhook_too(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        office.configure(CLINIC, None)
        found = danger(office.talk(), raised_at=office.clock() - 600)
        with caplog.at_level(logging.WARNING, "message_handler"):
            (reminder,) = self.reminds(office)
        assert (reminder.job_id, reminder.number, office.rows()) == (found.job_id, 1, [])
        assert [(record.message, record.__dict__["drill"]) for record in caplog.records] == [
            ("no person has taken a raised conversation", False)
        ]
        assert office.counted()["SafetyUntaken"] == 1

    def test_are_off_with_zero_minutes(self, office: Office) -> None:
        danger(office.talk(), raised_at=office.clock() - 600)
        assert (self.reminds(office, minutes=0), office.counted()) == ([], {})


class TestAhead:
    def test_it_overtakes_what_waits(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        danger(talk)
        office.works(talk.key)
        assert types(receiver) == ["safety.raised", "message.replied", "message.replied"]

    def test_each_level_is_told_in_the_order_in_which_it_was_raised(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        danger(talk, "crisis")
        danger(talk, "emergency")
        office.works(talk.key)
        levels = [told.event["data"].get("level") for told in receiver.told]
        assert levels == ["crisis", "emergency", None]

    def test_it_does_not_wait_for_a_delivery_that_another_worker_makes(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0", reply="one")
        talk.answer(2, "m1", reply="two")

        def meanwhile(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            if len(receiver.told) == 1:
                danger(talk)
                office.works(talk.key)
            return 200, {}

        receiver.answer = meanwhile
        office.works(talk.key)
        assert types(receiver) == ["message.replied", "safety.raised", "message.replied"]
        assert [told.reply for told in receiver.told if told.event["type"] == "message.replied"] == ["one", "two"]

    def test_it_does_not_wait_for_a_delivery_that_failed(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        receiver.answer = refuses("message.replied", status=400)
        office.works(talk.key)
        danger(talk)
        office.works(talk.key)
        assert types(receiver) == ["message.replied", "safety.raised"]

    def test_the_sweep_wakes_it_although_a_reply_before_it_waits(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        receiver.answer = refuses("message.replied", status=400)
        office.works(talk.key)
        danger(talk)
        assert office.outbox.due(now=office.clock(), most=9) == [talk.key]

    def test_the_sweep_wakes_it_first_and_its_conversation_once(self, office: Office) -> None:
        office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        danger(second)
        assert office.outbox.due(now=office.clock(), most=9) == [second.key, first.key]
        assert office.outbox.due(CLINIC, now=office.clock(), most=9) == [second.key, first.key]
        assert office.outbox.due(LAB, now=office.clock(), most=9) == []

    def test_a_full_platform_gets_it_all_the_same(self, office: Office) -> None:
        office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(MOST_AT_ONCE + 1)]
        for talk in talks:
            talk.answer(1, "m0")
        for talk in talks[:-1]:
            assert isinstance(office.claims(talk), Delivery)
        assert isinstance(office.claims(talks[-1]), float)
        danger(talks[-1])
        assert isinstance(office.claims(talks[-1]), Delivery)

    def test_it_does_not_count_against_the_others(self, office: Office) -> None:
        office.platform()
        for number in range(MOST_AT_ONCE):
            talk = office.talk(f"patient-{number}")
            danger(talk)
            assert isinstance(office.claims(talk), Delivery)
        talk = office.talk("patient-9")
        talk.answer(1, "m0")
        assert isinstance(office.claims(talk), Delivery)

    def test_a_platform_that_fails_is_asked_no_more_often(self, office: Office) -> None:
        receiver = office.platform()
        receiver.answers(429)
        talks = [office.talk(f"patient-{number}") for number in range(3)]
        for talk in talks:
            danger(talk)
            office.works(talk.key)
        assert len(receiver.told) == 1
        office.clock.advance(BACKOFF[0])
        assert office.outbox.due(now=office.clock(), most=9) == [talks[1].key]
        assert isinstance(office.claims(talks[1]), Delivery)
        assert isinstance(office.claims(talks[2]), float)

    def test_a_platform_that_takes_it_gets_the_others_again(self, office: Office) -> None:
        receiver = office.platform()
        receiver.answers(429)
        first, second = office.talk("patient-1"), office.talk("patient-2")
        first.answer(1, "m0")
        office.works(first.key)
        danger(second)
        receiver.answers(200)
        office.clock.advance(60)
        office.works(second.key)
        assert DeliveryRecord(first.key) in [record for record, _ in office.queue.sent]

    def test_two_workers_do_not_make_the_same_delivery(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        danger(talk)
        assert isinstance(office.claims(talk), Delivery)
        assert office.claims(talk) is None


class TestHoldingNothingBack:
    @pytest.mark.parametrize("status", [400, 500])
    def test_one_that_fails_holds_no_reply_back(self, office: Office, status: int) -> None:
        receiver = office.platform()
        talk = office.talk()
        danger(talk)
        talk.answer(1, "m0", reply="one")
        talk.answer(2, "m1", reply="two")
        receiver.answer = refuses("safety.raised", status=status)
        office.works(talk.key)
        assert types(receiver) == ["safety.raised", "message.replied", "message.replied"]
        assert office.states() == ["pending", "delivered", "delivered"]
        receiver.answer = refuses()
        office.passes(60)
        assert types(receiver)[3:] == ["safety.raised"]

    def test_one_that_is_on_its_way_holds_no_reply_back(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        danger(talk)
        talk.answer(1, "m0")
        assert isinstance(office.claims(talk), Delivery)
        office.works(talk.key)
        assert types(receiver) == ["message.replied"]

    def test_another_level_does_not_wait_for_one_that_failed(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        danger(talk, "crisis")
        receiver.answers(400)
        office.works(talk.key)
        danger(talk, "emergency")
        receiver.answers(200)
        office.works(talk.key)
        levels = [told.event["data"]["level"] for told in receiver.told]
        assert levels == ["crisis", "emergency"]


class TestItsEnd:
    def test_one_that_is_given_up_is_shown_and_redriven(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        found = danger(talk)
        receiver.answers(410)
        office.works(talk.key)
        (shown,) = dead_letters.dead_letters(office.deliveries, CLINIC)["deliveries"]
        assert (shown["event"], shown["job_id"], shown["last_error"]) == ("raised", found.job_id, "http_410")
        receiver.answers(200)
        talk.answer(1, "m0")
        assert office.deliveries.redrive(CLINIC) == 1
        office.works(talk.key)
        assert types(receiver) == ["safety.raised", "safety.raised", "message.replied"]

    def test_one_that_never_arrives_is_given_up_after_a_day(self, office: Office) -> None:
        receiver = office.platform()
        danger(office.talk())
        receiver.answers(400)
        office.sql.run("update message_events set give_up_at = to_timestamp(:at)", at=office.clock() + DAY)
        office.clock.advance(DAY + OVERDUE_SECONDS + 1)
        office.deliveries.sweep()
        assert office.states() == ["dead"]

    def test_it_is_purged_and_erased_as_the_others_are(self, office: Office, postgres_database: Database) -> None:
        office.platform()
        keeping = PostgresRetention(postgres_database)
        talk = office.talk()
        danger(talk)
        office.works(talk.key)
        assert keeping.purge_deliveries(delivered_before=4e9, dead_before=4e9, most=9) == 1
        other = office.talk("patient-2")
        danger(other)
        office.archive.erase(other.key)
        assert office.rows() == []

    def test_it_keeps_its_conversation_until_it_is_delivered(self, office: Office, postgres_database: Database) -> None:
        office.platform()
        keeping = PostgresRetention(postgres_database)
        talk = office.talk()
        danger(talk)
        office.sql.run("update conversations set updated_at = now() - interval '400 days'")
        assert keeping.purge_conversations([talk.key], before=4e9) == 0
        office.works(talk.key)
        assert keeping.purge_conversations([talk.key], before=4e9) == 1
        assert office.sql.run("select count(*) from raised") == [[0]]


class TestWhilePostgresIsAway:
    @pytest.fixture
    def world(self, office: Office, settings: Settings) -> World:
        office.platform()
        world = World(
            MemoryTier(settings, office.clock),
            office.archive,
            lambda _: None,
            office.clock,
            settings,
            office.talk().key,
        )
        world.queue = office.queue
        world.worker = replace(world.worker, queue=cast(Queue, office.queue), deliveries=office.deliveries)
        office.deliveries.ended(office.talk().answer(1, "m0"), office.clock() + 120)  # now it knows the webhook
        office.works(world.key)
        office.receivers[0].told.clear()
        office.queue.waiting.clear()
        return world

    def process(self, world: World, found: Raised, seconds: float = 120) -> float | None:
        return world.worker.process(NoticeRecord(found), world.clock() + seconds).retry_in

    def test_it_is_told_at_once_and_again_under_its_id(self, office: Office, world: World) -> None:
        receiver, found = office.receivers[0], raised(key=world.key)
        world.postgres(away=True)
        assert self.process(world, found) is None
        assert types(receiver) == ["safety.raised"]
        world.postgres(away=False)
        world.clock.advance(NOTICE_SECONDS)
        world.delivers_all_due()
        office.works(world.key)
        first, second = receiver.told
        assert (first.body, first.webhook_id) == (second.body, second.webhook_id)
        assert [row[:2] for row in office.rows("delivered")][1:] == [(first.webhook_id, "delivered")]

    def test_its_record_waits_among_the_deliveries(self, office: Office, world: World) -> None:
        """The queue of jobs may be long."""
        jobs = FakeQueue(world.clock)
        world.worker = replace(world.worker, queue=cast(Queue, jobs))
        world.postgres(away=True)
        assert self.process(world, found := raised(key=world.key)) is None
        assert ([delivery.record for delivery in office.queue.waiting], jobs.waiting) == ([NoticeRecord(found)], [])

    def test_a_process_tells_it_once_however_often_its_record_comes(self, office: Office, world: World) -> None:
        receiver = office.receivers[0]
        world.postgres(away=True)
        for _ in range(3):
            self.process(world, raised(key=world.key))
        self.process(world, raised("crisis", world.key))
        levels = [told.event["data"]["level"] for told in receiver.told]
        assert levels == ["emergency", "crisis"]

    def test_without_time_for_a_try_another_receive_tells_it(self, office: Office, world: World) -> None:
        world.postgres(away=True)
        self.process(world, raised(key=world.key), TRY_SECONDS - 1)
        assert office.receivers[0].told == []
        self.process(world, raised(key=world.key), TRY_SECONDS + 1)
        assert types(office.receivers[0]) == ["safety.raised"]

    def test_a_platform_whose_webhook_is_unknown_is_told_later(
        self, office: Office, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_: str) -> Any:
            raise Unavailable("Postgres")

        monkeypatch.setattr(office.outbox, "webhook", away)
        office.deliveries.raised(raised(key=ConversationKey(LAB, "patient-1")), office.clock() + 120)
        new = Deliveries(office.outbox, office.queue, office.deliveries.egress, office.deliveries.secrets, office.clock)  # type: ignore[arg-type]
        new.raised(raised(key=world.key), office.clock() + 120)
        assert office.receivers[0].told == []

    def test_a_process_remembers_a_bounded_number(self, office: Office, world: World, monkeypatch: Any) -> None:
        monkeypatch.setattr(deliveries_module, "MOST_REMEMBERED", 2)
        for number in (1, 2, 3, 3, 1):
            office.deliveries.raised(raised(key=world.key, hour=number), office.clock() + 120)
        assert len(office.receivers[0].told) == 4

    def test_when_it_is_archived_its_delivery_is_woken(self, office: Office, world: World) -> None:
        assert self.process(world, raised(key=world.key)) is None
        assert [delivery.record for delivery in office.queue.waiting] == [DeliveryRecord(world.key)]
        assert office.receivers[0].told == []
        office.works(world.key)
        assert types(office.receivers[0]) == ["safety.raised"]


def test_no_words_of_the_notice_are_logged(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    office.platform()
    talk = office.talk()
    danger(talk, notice="c4n4ry")
    office.deliveries.raised(replace(raised(key=talk.key), notice="c4n4ry"), office.clock() + 120)
    office.works(talk.key)
    assert len(office.receivers[0].told) == 2
    assert "c4n4ry" not in "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
