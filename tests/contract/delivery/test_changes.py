"""Webhooks announce each message that a patient has edited or unsent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest
from pg8000.native import Connection

from message_handler.archive import postgres_steps
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.delivery.deliveries import TRY_SECONDS
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message
from message_handler.drivers.postgres import Database, transaction
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.operations import dead_letters
from message_handler.ports.outbox import Delivery
from tests.contract.chat import DAY, named
from tests.contract.conversation import ENDED, Conversation
from tests.contract.delivery.office import CANARY, CLINIC, Office
from tests.contract.delivery.test_events import fails

type Unsend = Callable[[Conversation, str, str], bool]


def edit(message_id: str, words: str = "a1b2") -> Message:
    """A version of a message, under the id that an edit has in a line."""
    return named(f"{message_id} edit {words}", f"{CANARY} {words} of {message_id}")


def answers(talk: Conversation, number: int, *messages: str | Message, correlation_id: str = "") -> Job:
    """The n-th job answers these messages."""
    job = talk.job(number, *messages, correlation_id=correlation_id)
    ended, fence = talk.completed(job), talk.number(job)
    assert talk.archive.commit(ended, fence)
    return ended


@pytest.fixture
def unsends(postgres_database: Database) -> Unsend:
    """Unsends a message of a job. Returns whether there is a new delivery."""

    def unsend(talk: Conversation, message_id: str, job_id: str) -> bool:
        def work(connection: Connection) -> bool:
            with transaction(connection):
                return postgres_steps.tell_unsent(connection, talk.key, job_id, message_id)

        return postgres_database.run(work)

    return unsend


class TestEdits:
    def test_an_edit_is_announced_before_the_reply_that_covers_it(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = answers(talk, 1, "m0", edit("m0"), "m1", edit("m2"), correlation_id="corr-1")
        office.works(talk.key)
        types = [told.event["type"] for told in receiver.told]
        assert types == ["message.edited", "message.edited", "message.replied"]
        first, second, reply = receiver.told
        assert first.event == {
            "type": "message.edited",
            "timestamp": "2026-09-21T14:13:22.750Z",
            "data": {
                "conversation_id": "patient-1",
                "message_id": "m0",
                "job_id": job.job_id,
                "bot_id": job.bot_id,
                "correlation_id": "corr-1",
            },
        }
        assert first.headers["x-correlation-id"] == "corr-1"
        assert second.event["data"]["message_id"] == "m2"
        assert reply.event["data"]["message_ids"] == ["m0", "m1", "m2"]
        assert len({told.webhook_id for told in receiver.told}) == 3
        assert not any(told.webhook_id.count(".") for told in receiver.told)
        assert office.states() == ["delivered"] * 3

    def test_an_edit_is_announced_after_the_reply_before_it(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, "m0")
        answers(talk, 2, edit("m0"))
        office.works(talk.key)
        types = [told.event["type"] for told in receiver.told]
        assert types == ["message.replied", "message.edited", "message.replied"]

    def test_a_message_that_was_edited_twice_is_announced_once_for_each_reply(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, "m0", edit("m0", "a"), edit("m0", "b"))
        answers(talk, 2, edit("m0", "c"))
        office.works(talk.key)
        assert [told.event["type"] for told in receiver.told] == ["message.edited", "message.replied"] * 2
        assert len({told.webhook_id for told in receiver.told}) == 4

    def test_an_edit_that_gets_no_reply_is_announced_before_the_failure(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = talk.job(1, edit("m0"))
        assert office.archive.commit(fails(job), talk.number(job))
        office.works(talk.key)
        assert [told.event["type"] for told in receiver.told] == ["message.edited", "message.failed"]

    def test_an_edit_that_is_cancelled_is_not_announced(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        assert office.archive.cancel(talk.job(1, edit("m0"))).cancelled
        assert office.rows() == []

    def test_the_reply_waits_until_the_edit_is_delivered(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, edit("m0"))
        receiver.answers(500)
        office.works(talk.key)
        office.works(talk.key)
        assert [told.event["type"] for told in receiver.told] == ["message.edited"]
        assert [row[1:] for row in office.rows()] == [("pending", 1, "http_500"), ("pending", 0, None)]

    def test_each_try_has_the_same_body(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, edit("m0"), correlation_id="corr-1")
        receiver.answers(500)
        office.works(talk.key)
        office.clock.advance(DAY / 2)
        office.sql.run('update jobs set document = document || \'{"correlation_id": "other", "bot_id": "other"}\'')
        receiver.answers(200)
        office.works(talk.key)
        first, second, _ = receiver.told
        assert (first.body, first.webhook_id) == (second.body, second.webhook_id)

    def test_no_event_without_a_webhook(self, office: Office, unsends: Unsend) -> None:
        office.configure(CLINIC, "")
        talk = office.talk()
        job = answers(talk, 1, edit("m0"))
        office.archive.archive(talk.completed(talk.job(2, edit("m1"))))
        assert not unsends(talk, "m2", job.job_id)
        nowhere = Conversation(office.archive, ConversationKey("nowhere", "patient-1"))
        assert not unsends(nowhere, "m0", answers(nowhere, 1, edit("m0")).job_id)
        assert office.rows() == []

    def test_while_postgres_is_away_an_edit_is_posted_before_its_reply_and_again_under_its_id(
        self, office: Office
    ) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = replace(talk.completed(talk.job(1, edit("m0"), edit("m1"), correlation_id="c")), unarchived=True)
        office.deliveries.ended(job, office.clock() + 120)
        types = ["message.edited", "message.edited", "message.replied"]
        assert [told.event["type"] for told in receiver.told] == types
        assert office.archive.archive(job)
        office.works(talk.key)
        assert [told.event["type"] for told in receiver.told] == types * 2
        for before, after in zip(receiver.told[:3], receiver.told[3:], strict=True):
            assert (before.webhook_id, before.body) == (after.webhook_id, after.body)

    def test_while_postgres_is_away_no_reply_overtakes_an_edit_that_failed(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = replace(talk.completed(talk.job(1, edit("m0"))), unarchived=True)
        receiver.answers(500)
        office.deliveries.ended(job, office.clock() + TRY_SECONDS)
        assert [told.event["type"] for told in receiver.told] == ["message.edited"]

    def test_another_end_of_a_job_announces_its_own_edit(self, office: Office) -> None:
        """The first end was committed for other words of the same message. The ids of both ends differ."""
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, edit("m0", "a"))
        with suppress(StatementRefused):  # it would be refused if both ends had the same ids
            office.archive.archive(talk.completed(talk.job(1, edit("m0", "b")), "late"))
        office.works(talk.key)
        assert [told.event["type"] for told in receiver.told] == ["message.edited", "message.replied"] * 2
        assert len({told.webhook_id for told in receiver.told}) == 4

    def test_no_words_of_a_patient_are_in_an_event_a_row_or_a_log(
        self, office: Office, unsends: Unsend, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        receiver = office.platform()
        talk = office.talk()
        unsends(talk, "m1", answers(talk, 1, edit("m0")).job_id)
        office.works(talk.key)
        assert [told.event["type"].split(".")[1] for told in receiver.told] == ["edited", "replied", "unsent"]
        told = [told.body.decode() for told in (receiver.told[0], receiver.told[2])]
        logged = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
        rows = office.sql.run("select * from message_events")
        assert CANARY not in f"{told} {logged} {rows}"


class TestUnsent:
    def test_an_unsent_message_is_announced_once(self, office: Office, unsends: Unsend) -> None:
        receiver = office.platform()
        talk, other = office.talk(), office.talk("patient-2")
        job = answers(talk, 1, "m0", correlation_id="corr-1")
        assert unsends(talk, "m0", job.job_id)
        assert not unsends(talk, "m0", job.job_id)
        assert not unsends(talk, "m0", talk.id(2))
        assert unsends(talk, "m1", job.job_id)
        assert unsends(other, "m0", answers(other, 1, "m0").job_id)
        office.works(talk.key)
        office.works(talk.key)
        _, told, more = receiver.told
        timestamp = told.event["timestamp"]
        assert abs(datetime.fromisoformat(timestamp).timestamp() - time.time()) < 60
        assert told.event == {
            "type": "message.unsent",
            "timestamp": timestamp,
            "data": {
                "conversation_id": "patient-1",
                "message_id": "m0",
                "job_id": job.job_id,
                "bot_id": job.bot_id,
                "correlation_id": "corr-1",
            },
        }
        assert more.event["data"]["message_id"] == "m1"

    def test_an_unsent_message_of_a_job_that_never_ran_is_announced_too(self, office: Office, unsends: Unsend) -> None:
        """The job's row comes between two tries. The event stays as it was."""
        receiver = office.platform()
        talk = office.talk()
        answers(talk, 1, "m0")
        assert unsends(talk, "m1", talk.id(2))
        receiver.answer = lambda told, _: (200 if told.event["type"] == "message.replied" else 500, {})
        office.works(talk.key)
        job = talk.job(2, "m2", correlation_id="corr-2")
        talk.number(job)
        office.clock.advance(60)
        office.works(talk.key)
        _, first, second = receiver.told
        assert first.event["data"] == {
            "conversation_id": "patient-1",
            "message_id": "m1",
            "job_id": job.job_id,
            "bot_id": job.bot_id,
            "correlation_id": None,
        }
        assert "x-correlation-id" not in first.headers
        assert (first.body, first.webhook_id) == (second.body, second.webhook_id)


class TestAdministration:
    def test_a_dead_one_is_shown_and_can_be_redriven(self, office: Office, unsends: Unsend) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = answers(talk, 1, edit("m0"))
        unsends(talk, "m1", job.job_id)
        receiver.answers(410)
        office.works(talk.key)
        shown = dead_letters.dead_letters(office.deliveries, CLINIC)["deliveries"]
        assert [dead["event"] for dead in shown] == ["edited", "ended", "unsent"]
        assert {(dead["conversation_id"], dead["job_id"]) for dead in shown} == {("patient-1", job.job_id)}
        receiver.answers(200)
        assert office.deliveries.redrive(CLINIC) == 3
        office.works(talk.key)
        assert office.states() == ["delivered"] * 3

    def test_one_whose_time_is_over_is_given_up(self, office: Office, unsends: Unsend) -> None:
        office.platform()
        talk = office.talk()
        unsends(talk, "m1", answers(talk, 1, edit("m0")).job_id)
        office.clock.advance(4000 * DAY)
        office.deliveries.sweep()
        assert office.rows() == [(id_, "dead", 0, "expired") for id_, *_ in office.rows()]
        assert office.counted() == {"DeliveriesDead": 3}

    def test_time_to_deliver_is_measured_from_the_event(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        answers(talk, 1, edit("m0"))
        office.works(talk.key)
        counted = office.counted()
        assert counted["DeliveriesSucceeded"] == 2
        assert counted["TimeToDeliver"] == pytest.approx(2000 * (office.clock() - ENDED), rel=0.01)

    def test_another_worker_claims_none_that_is_on_its_way(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        answers(talk, 1, edit("m0"))
        assert isinstance(office.claims(talk), Delivery)
        assert office.claims(talk) is None


class TestRetention:
    @pytest.fixture
    def keeping(self, postgres_database: Database) -> PostgresRetention:
        return PostgresRetention(postgres_database)

    def test_an_erased_conversation_has_no_events(self, office: Office, unsends: Unsend) -> None:
        receiver = office.platform()
        talk = office.talk()
        unsends(talk, "m1", answers(talk, 1, edit("m0")).job_id)
        unsends(talk, "m2", talk.id(2))
        office.archive.erase(talk.key)
        assert office.rows() == []
        office.works(talk.key)
        assert receiver.told == []

    def test_an_event_that_is_to_be_delivered_keeps_its_conversation(
        self, office: Office, unsends: Unsend, keeping: PostgresRetention
    ) -> None:
        office.platform()
        talk = office.talk()
        job = answers(talk, 1, "m0")
        office.works(talk.key)
        unsends(talk, "m0", job.job_id)
        office.sql.run("update conversations set updated_at = now() - interval '400 days'")
        before = time.time() - 300 * DAY
        assert keeping.idle(before=before, after="-infinity", most=9) == []
        assert keeping.purge_conversations([talk.key], before=before) == 0
        office.works(talk.key)
        assert keeping.purge_conversations([talk.key], before=before) == 1
        assert office.rows() == []

    def test_an_event_goes_by_its_end(self, office: Office, unsends: Unsend, keeping: PostgresRetention) -> None:
        office.platform()
        talk = office.talk()
        unsends(talk, "m1", answers(talk, 1, edit("m0")).job_id)
        assert keeping.purge_deliveries(delivered_before=4e9, dead_before=4e9, most=9) == 0
        office.works(talk.key)
        assert keeping.purge_deliveries(delivered_before=4e9, dead_before=4e9, most=9) == 3
        assert office.rows() == []

    def test_an_export_shows_each_event_as_what_it_is(
        self, office: Office, unsends: Unsend, keeping: PostgresRetention
    ) -> None:
        office.platform()
        talk = office.talk()
        unsends(talk, "m1", answers(talk, 1, "m0", edit("m0")).job_id)
        records = [stored.record for stored in keeping.kept(talk.key, (0, ""), most=99, most_bytes=10**6)]
        told = [(row["event"], row["message_ids"]) for row in records if row["kind"] == "delivery"]
        assert told == [("edited", ["m0"]), ("ended", ["m0"]), ("unsent", ["m1"])]
