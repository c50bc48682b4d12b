"""Committed replies reach their platforms: at least once, in order, signed, whatever the platforms do meanwhile.

Real Postgres, real HTTP on loopback, in virtual time.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from queue import Empty, SimpleQueue
from ssl import create_default_context
from typing import Any, cast

import pytest
from pg8000.native import Connection
from standardwebhooks import Webhook, WebhookVerificationError

from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.delivery import deliveries as delivery_module
from message_handler.delivery.deliveries import (
    BACKOFF,
    CONNECT_SECONDS,
    LEASE_SECONDS,
    MAX_ASKING_SECONDS,
    MOST_AT_ONCE,
    MOST_WOKEN,
    MOST_WOKEN_AT_ONCE,
    OVERDUE_SECONDS,
    SLOW_SECONDS,
    TOTAL_SECONDS,
    TRY_SECONDS,
    Deliveries,
)
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import EgressRefused, Unavailable
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.records import DeliveryRecord
from message_handler.drivers import egress as egress_module
from message_handler.drivers.egress import LOOK_UP_SECONDS, Egress
from message_handler.drivers.postgres import Database
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import Meter
from message_handler.operations import dead_letters
from message_handler.ports.outbox import Delivery, Outbox
from message_handler.ports.queue import DeadLetter, Queue
from message_handler.queue.codec import decode, encode
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from message_handler.wiring import build
from tests.certificates import Certificates
from tests.contract.chat import Clock, named
from tests.contract.receiver import Answer, Receiver, Told
from tests.contract.test_archive import ENDED, Conversation
from tests.contract.world import FakeQueue, World

CANARY = "c4n4ry"
DAY = 24 * 3600.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="
CLINIC, LAB = "clinic", "lab"


@dataclass
class Office:
    """The deliveries of all platforms, with their queue and a clock that moves when a test says so."""

    sql: Connection
    archive: PostgresArchive
    outbox: Outbox
    clock: Clock
    queue: FakeQueue
    deliveries: Deliveries
    meter: Meter
    receivers: list[Receiver] = field(default_factory=list)
    swept_at: float = 0.0

    def platform(self, platform_id: str = CLINIC, **meta_data: Any) -> Receiver:
        """A platform with a webhook, which takes everything."""
        receiver = Receiver()
        self.receivers.append(receiver)
        self.configure(platform_id, receiver.url, **meta_data)
        return receiver

    def configure(self, platform_id: str, base_url: str | None, **meta_data: Any) -> None:
        self.sql.run(
            "insert into platforms (platform_id, name, base_url, meta_data) values (:id, :id, :url, :meta)"
            " on conflict (platform_id) do update set base_url = excluded.base_url, meta_data = excluded.meta_data",
            id=platform_id,
            url=base_url,
            meta=json.dumps({"webhook_secrets": [SECRET]} | meta_data),
        )
        self.deliveries._webhooks.clear()

    def talk(self, name: str = "patient-1", platform_id: str = CLINIC) -> Conversation:
        return Conversation(self.archive, ConversationKey(platform_id, name))

    def works(self, key: ConversationKey) -> None:
        """A worker is woken for the conversation."""
        self.deliveries.deliver(key, self.clock() + 120)

    def claims(self, talk: Conversation) -> Delivery | float | None:
        """Another worker is faster."""
        now = self.clock()
        until = now + LEASE_SECONDS
        return self.outbox.claim(talk.key, talk.id(900), now=now, until=until, most=MOST_AT_ONCE, busy_until=now + 2)

    def passes(self, seconds: float) -> None:
        """Time passes, with a worker for each record that is due and a sweep every minute, until nothing is pending."""
        until = self.clock() + seconds
        while self.clock() <= until and self.rows("pending"):
            if self.swept_at + 60 <= self.clock():
                self.swept_at = self.clock()
                self.deliveries.sweep()
            while (record := self.queue.next()) and record.visible_at <= self.clock():
                self.queue.delete(record)
                self.works(cast(DeliveryRecord, record.record).key)
            moments = [self.swept_at + 60, *([record.visible_at] if record else ())]
            self.clock.advance(max(0.0, min(moments) - self.clock()))

    def rows(self, status: str | None = None) -> list[tuple[str, str, int, str | None]]:
        """Webhook ids, states, attempts and errors, in the order of the commits."""
        found = self.sql.run("select webhook_id, status, attempts, last_error from outbox order by sequence")
        return [(id_, state, tries, error) for id_, state, tries, error in found or () if status in (None, state)]

    def states(self) -> list[str]:
        return [state for _, state, _, _ in self.rows()]

    def counted(self) -> dict[str, float]:
        found: dict[str, float] = {}

        def add(name: str, _unit: str, value: float) -> None:
            found[name] = found.get(name, 0) + value

        self.meter.publish(add)
        return found


@pytest.fixture
def office(
    postgres_archive: PostgresArchive, postgres_database: Database, sql: Connection, clock: Clock
) -> Iterator[Office]:
    clock.advance(60)
    outbox, queue, meter = PostgresOutbox(postgres_database), FakeQueue(clock), Meter()
    egress = Egress((), allow_loopback=True)
    deliveries = Deliveries(outbox, cast(Queue, queue), egress, Secrets(literals=True), clock, meter)
    office = Office(sql, postgres_archive, outbox, clock, queue, deliveries, meter)
    yield office
    for receiver in office.receivers:
        receiver.stops()
    sql.run("delete from outbox")
    sql.run("delete from platforms where platform_id <> 'default'")


def fails(job: Job, notice: str | None = "Please call us.") -> Job:
    error = JobError("ai_failed", "The AI gave no answer.", notice)
    return replace(job, status=JobStatus.FAILED, error=error, finished_at=ENDED)


class TestOutbox:
    """What a commit leaves to be delivered, in its own transaction."""

    def test_a_committed_reply_is_to_be_delivered(self, office: Office) -> None:
        office.platform()
        job = office.talk().answer(1, "m0")
        assert office.rows() == [(f"msg_{job.job_id}", "pending", 0, None)]

    def test_a_commit_that_is_repeated_is_delivered_once(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.answer(1, "m0")
        assert office.archive.commit(job, 1)
        assert len(office.rows()) == 1

    def test_a_commit_that_is_refused_delivers_nothing(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        stale, _ = talk.number(job), talk.number(job)
        assert not office.archive.commit(talk.completed(job), stale)
        talk.answer(2, "m1")
        job = talk.job(3, "m0")
        taken = replace(talk.completed(job), messages=(named("m0"), named("m1")))
        assert not office.archive.commit(taken, talk.number(job))
        assert len(office.rows()) == 1

    def test_what_is_archived_late_has_a_day_from_then_on(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        long_ago = replace(talk.completed(talk.job(1, "m0")), finished_at=ENDED - 100 * DAY)
        assert office.archive.archive(long_ago)
        ((left,),) = office.sql.run("select extract(epoch from give_up_at - now())::float8 from outbox") or ()
        assert left > DAY - 3600

    def test_nothing_is_delivered_for_what_was_cancelled(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        talk.number(job)
        assert office.archive.cancel(job).cancelled
        assert office.rows() == []

    @pytest.mark.parametrize("base_url", [None, ""])
    def test_a_platform_without_a_webhook_has_no_deliveries(self, office: Office, base_url: str | None) -> None:
        office.configure(CLINIC, base_url)
        talk = office.talk()
        talk.answer(1, "m0")
        office.archive.archive(talk.completed(talk.job(2, "m1")))
        Conversation(office.archive, ConversationKey("nowhere", "patient-1")).answer(1, "m0")
        assert office.rows() == []

    def test_a_copy_of_a_job_is_not_delivered_again(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        talk.archive.supersede(talk.job(1, "m1"), talk.id(2))
        talk.archive.supersede(talk.job(2, "m0"), talk.id(1))
        assert office.sql.run("select count(*) from jobs where copy_of is not null") == [[1]]
        assert len(office.rows()) == 2

    def test_what_is_archived_late_is_delivered_under_the_id_of_the_run(self, office: Office) -> None:
        """It may have been posted with it while Postgres was away; parts of it run under another name here."""
        office.platform()
        talk = office.talk()
        office.archive.archive(talk.completed(talk.job(1, "m0")))
        assert office.archive.cancel(talk.job(2, "m1")).cancelled
        office.archive.archive(talk.completed(talk.job(2, "m1", "m2")))
        assert [id_ for id_, *_ in office.rows()] == [f"msg_{talk.id(1)}", f"msg_{talk.id(2)}"]
        assert not office.archive.archive(talk.completed(talk.job(1, "m0")))
        assert len(office.rows()) == 2

    def test_another_end_of_a_job_that_was_delivered_has_an_id_of_its_own(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.archive.archive(talk.completed(talk.job(1, "m1"), "late"))
        successor = talk.end(1)[3]
        assert [id_ for id_, *_ in office.rows()] == [f"msg_{talk.id(1)}", f"msg_{successor}"]

    def test_it_holds_no_text_and_goes_with_its_job(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, named("m0", CANARY), reply=CANARY)
        assert CANARY not in str(office.sql.run("select * from outbox"))
        office.sql.run("delete from jobs")
        assert office.rows() == []


class TestEvents:
    def test_a_reply_is_told_with_all_that_names_it(self, office: Office) -> None:
        receiver = office.platform(webhook_path="/replies")
        talk = office.talk()
        said = (Message("minted", "a"), Message("m1", "b", given=True, aliases=("m1-again",)))
        job = replace(talk.job(1, *said), correlation_id="corr-1")
        assert office.archive.commit(talk.completed(job, "Rest. 💊"), talk.number(job))
        office.works(talk.key)
        (told,) = receiver.told
        assert told.path == "/hook/replies"
        assert told.headers["content-type"] == "application/json"
        assert told.headers["x-correlation-id"] == "corr-1"
        assert told.headers["webhook-id"] == f"msg_{job.job_id}"
        assert told.headers["webhook-timestamp"] == str(int(office.clock()))
        assert told.event == {
            "type": "message.replied",
            "timestamp": "2026-09-21T14:13:22.750Z",
            "data": {
                "conversation_id": "patient-1",
                "job_id": job.job_id,
                "bot_id": job.bot_id,
                "message_ids": ["m1", "m1-again"],
                "consolidated_messages": 2,
                "reply": {"role": "assistant", "content": "Rest. 💊"},
                "notice": None,
                "error": None,
                "correlation_id": "corr-1",
                "provenance": None,
            },
        }
        assert office.rows() == [(told.webhook_id, "delivered", 1, None)]

    def test_a_failure_is_told_with_the_patients_notice_and_without_the_message_for_people(
        self, office: Office
    ) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        assert office.archive.commit(fails(job), talk.number(job))
        office.works(talk.key)
        (told,) = receiver.told
        assert told.event["type"] == "message.failed"
        data = told.event["data"]
        assert (data["reply"], data["notice"], data["error"]) == (None, "Please call us.", {"code": "ai_failed"})
        assert "x-correlation-id" not in told.headers
        assert office.states() == ["delivered"]

    def test_the_replies_of_a_conversation_leave_in_the_order_of_their_commits(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        for number in range(1, 6):
            talk.answer(number, f"m{number}", reply=str(number))
        office.works(talk.key)
        assert receiver.replies == ["1", "2", "3", "4", "5"]

    def test_what_is_measured(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        receiver.answers(503)
        office.works(office.talk().key)
        assert office.counted() == {"DeliveriesFailed": 1}
        receiver.answers(204)
        office.passes(60)
        delivered = office.counted()
        assert delivered["DeliveriesSucceeded"] == 1
        assert delivered["TimeToDeliver"] == pytest.approx(1000 * (office.clock() - ENDED), abs=61_000)
        assert set(delivered) == {"DeliveriesSucceeded", "TimeToDeliver"}


class TestSignatures:
    """Verified as receivers do, with the specification's own package; it compares the time with its own clock."""

    @pytest.fixture(autouse=True)
    def _now(self, clock: Clock) -> None:
        clock.advance(time.time() - clock())

    def verifies(self, secret: str, told: Told) -> bool:
        try:
            Webhook(secret).verify(told.body, told.headers)
        except WebhookVerificationError:
            return False
        return True

    def told(self, office: Office, receiver: Receiver) -> Told:
        talk = office.talk()
        talk.answer(1, named("m0"), reply="Thuốc này uống sau khi ăn.")
        office.works(talk.key)
        return receiver.told[-1]

    def test_a_receiver_verifies_it(self, office: Office) -> None:
        told = self.told(office, office.platform())
        assert self.verifies(SECRET, told)
        assert not self.verifies(OTHER_SECRET, told)
        assert not self.verifies(SECRET, replace(told, body=told.body.replace(b"sau", b"truoc")))
        assert not self.verifies(SECRET, replace(told, headers=told.headers | {"webhook-id": "msg_other"}))

    def test_while_keys_are_replaced_each_of_the_two_verifies_it(self, office: Office) -> None:
        told = self.told(office, office.platform(webhook_secrets=[OTHER_SECRET, SECRET]))
        first, _ = told.headers["webhook-signature"].split(" ")
        assert self.verifies(SECRET, told)
        assert self.verifies(OTHER_SECRET, told)
        assert self.verifies(OTHER_SECRET, replace(told, headers=told.headers | {"webhook-signature": first}))

    def test_a_key_in_secrets_manager_signs_and_so_does_soon_the_one_that_replaces_it(
        self, office: Office, vault: Any
    ) -> None:
        now = [0.0]
        arn = vault.create_secret(Name=f"message-handler/{CLINIC}/webhook", SecretString=SECRET)["ARN"]
        receiver, talk = office.platform(webhook_secrets=[arn]), office.talk()
        office.deliveries = replace(office.deliveries, secrets=Secrets(clock=lambda: now[0]))
        for number, (at, key) in enumerate([(0, SECRET), (299, SECRET), (301, OTHER_SECRET)], start=1):
            now[0] = at
            talk.answer(number, f"m{number}")
            office.works(talk.key)
            assert self.verifies(key, receiver.told[-1])
            vault.put_secret_value(SecretId=arn, SecretString=OTHER_SECRET)
        assert len(receiver.told) == 3


class TestKeys:
    @pytest.mark.parametrize(
        "secrets",
        [
            [],
            None,
            SECRET,
            [None],
            ["***"],
            [SECRET.removeprefix("whsec_")],
            ["whsec_" + "A" * 28],
            ["whsec_" + "A" * 88],
            ["whsec_not base64"],
            ["whsec_ä" + SECRET[7:]],
            [SECRET, "whsec_"],
        ],
    )
    def test_nothing_is_sent_unsigned(self, office: Office, secrets: Any) -> None:
        receiver = office.platform(webhook_secrets=secrets)
        talk = office.talk()
        talk.answer(1, "m0")
        office.works(talk.key)
        assert receiver.told == []
        assert [(tries, error) for _, _, tries, error in office.rows("pending")] == [(1, "webhook_unsigned")]
        office.configure(CLINIC, receiver.url)
        office.passes(600)
        assert len(receiver.told) == 1

    def test_a_meta_data_that_is_no_object_has_no_secrets(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.sql.run("update platforms set meta_data = '[1]' where platform_id = :id", id=CLINIC)
        office.works(talk.key)
        assert office.rows("pending")[0][2:] == (1, "webhook_unsigned")

    @pytest.mark.parametrize("kept_for", [None, "other"], ids=["written out", "of another tenant"])
    def test_a_secret_that_may_not_be_used_signs_nothing(
        self, office: Office, vault: Any, kept_for: str | None
    ) -> None:
        arn = vault.create_secret(Name=f"message-handler/{kept_for}/webhook", SecretString=SECRET)["ARN"]
        receiver = office.platform(webhook_secrets=[arn if kept_for else SECRET])
        talk, able = office.talk(), office.deliveries
        talk.answer(1, "m0")
        office.deliveries = replace(able, secrets=Secrets())
        office.works(talk.key)
        assert [(tries, error) for _, _, tries, error in office.rows("pending")] == [(1, "secret_refused")]
        assert receiver.told == []
        office.deliveries = replace(able, secrets=Secrets())
        mine = vault.create_secret(Name=f"message-handler/{CLINIC}/webhook", SecretString=SECRET)["ARN"]
        office.configure(CLINIC, receiver.url, webhook_secrets=[mine])
        office.passes(600)
        assert len(receiver.told) == 1

    def test_a_secret_that_can_not_be_read_now_is_asked_for_again(self, office: Office) -> None:
        class Away(Secrets):
            def reveal(self, value: str, platform_id: str) -> str:
                raise Unavailable("Secrets Manager")

        receiver = office.platform()
        talk, able = office.talk(), office.deliveries
        talk.answer(1, "m0")
        office.deliveries = replace(able, secrets=Away())
        office.works(talk.key)
        assert office.rows()[0][3] == "secret_unavailable"
        office.deliveries = able
        office.passes(600)
        assert len(receiver.told) == 1


class TestFailures:
    def test_what_100_replies_found_down_arrives_when_the_platform_is_back(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(20)]
        receiver.stops()
        for turn in range(1, 6):
            for talk in talks:
                talk.answer(turn, f"m{turn}", reply=f"{talk.key.conversation_id} {turn}")
                office.deliveries.wake(talk.key)
        office.passes(3 * 3600)
        assert office.states() == ["pending"] * 100
        receiver.starts()
        office.passes(900)
        assert office.states() == ["delivered"] * 100
        assert len(receiver.told) == len({told.webhook_id for told in receiver.told}) == 100
        for talk in talks:
            mine = [reply for reply in receiver.replies if reply.startswith(talk.key.conversation_id + " ")]
            assert mine == sorted(mine)

    def test_a_platform_that_is_down_is_asked_for_one_delivery_at_a_time(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(10)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(429)
        for talk in talks:
            office.works(talk.key)
        assert len(receiver.told) == 1
        office.clock.advance(BACKOFF[0] + 1)
        assert len(office.outbox.due(now=office.clock(), most=MOST_WOKEN)) == 1
        for talk in talks:
            office.works(talk.key)
        assert len(receiver.told) == 2

    def test_of_many_workers_one_asks_whether_a_platform_is_back(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(4)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(429)
        office.works(talks[0].key)
        office.clock.advance(60)
        met = threading.Barrier(4)

        def claim(talk: Conversation) -> bool:
            met.wait(10)
            return isinstance(office.claims(talk), Delivery)

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(claim, talks)) == 1

    def test_a_platform_says_for_how_long_it_wants_to_be_left_alone(self, office: Office) -> None:
        receiver = office.platform()
        for number in (1, 2):
            office.talk(f"patient-{number}").answer(1, "m0")
        receiver.answers(429, Retry_After="600")
        office.works(office.talk("patient-1").key)
        receiver.answers(200)
        office.passes(590)
        assert len(receiver.told) == 1
        office.passes(130)
        assert office.states() == ["delivered"] * 2

    def test_but_not_for_longer_than_an_hour(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        receiver.answers(503, Retry_After="9" * 400)
        office.works(office.talk().key)
        receiver.answers(200)
        office.passes(3720)
        assert office.states() == ["delivered"]

    def test_one_delivery_that_is_refused_holds_up_its_own_conversation_alone(self, office: Office) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0", reply="one")
            talk.answer(2, "m1", reply="two")

        def answer(told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            return (422 if told.event["data"]["conversation_id"] == "patient-1" else 200), {}

        receiver.answer = answer
        for _ in range(3):
            office.works(first.key)
        assert receiver.replies == ["one"]
        office.works(second.key)
        assert receiver.replies == ["one", "one", "two"]
        office.passes(3600)
        assert "two" not in [t.reply for t in receiver.told if t.event["data"]["conversation_id"] == "patient-1"]

    def test_the_tries_are_ever_further_apart(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        tried: list[float] = []

        def answer(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            tried.append(office.clock())
            return 422, {}

        receiver.answer = answer
        office.works(office.talk().key)
        office.passes(20 * 3600)
        waits = [after - before for before, after in pairwise(tried)]
        assert len(waits) == len(BACKOFF) + 3
        for wait, least in zip(waits, (*BACKOFF, *[4 * 3600.0] * 3), strict=True):
            assert least <= wait <= 1.2 * least + 61

    def test_after_a_day_it_is_given_up_and_the_next_goes_on(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0", reply="refused")
        receiver.answers(400)
        office.works(talk.key)
        office.passes(DAY - 3600)
        assert office.states() == ["pending"]
        job = talk.job(2, "m1")
        late = replace(talk.completed(job, "taken"), finished_at=office.clock())
        assert office.archive.commit(late, talk.number(job))
        receiver.answer = lambda told, _: (200 if told.reply == "taken" else 400, {})
        office.passes(9 * 3600)
        assert [(state, error) for _, state, _, error in office.rows()] == [("dead", "http_400"), ("delivered", None)]
        assert office.counted()["DeliveriesDead"] == 1

    def test_gone_is_given_up_at_once_and_the_next_goes_on(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0", reply="gone")
        talk.answer(2, "m1", reply="taken")
        receiver.answer = lambda told, _: (410 if told.reply == "gone" else 200, {})
        office.works(talk.key)
        assert [(state, tries, error) for _, state, tries, error in office.rows()] == [
            ("dead", 1, "http_410"),
            ("delivered", 1, None),
        ]

    def test_what_never_had_its_turn_is_given_up_with_its_day(self, office: Office) -> None:
        receiver = office.platform()
        for number in range(3):
            office.talk(f"patient-{number}").answer(1, "m0")
        receiver.stops()
        office.clock.advance(DAY + OVERDUE_SECONDS + 1)
        office.deliveries.sweep()
        assert [(state, error) for _, state, _, error in office.rows()] == [("dead", "expired")] * 3
        assert office.counted()["DeliveriesDead"] == 3

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_not_followed(self, office: Office, status: int) -> None:
        elsewhere = office.platform(LAB)
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        receiver.answers(status, Location=elsewhere.url)
        office.works(talk.key)
        assert (len(receiver.told), elsewhere.told) == (1, [])
        assert office.rows()[0][1:] == ("pending", 1, f"http_{status}")

    def test_an_answer_that_comes_too_late_is_a_failure_and_it_is_told_again_under_the_same_id(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery_module, "TOTAL_SECONDS", 0.2)
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        answered = threading.Event()

        def late(_told: Told, handler: BaseHTTPRequestHandler) -> Answer:
            assert handler.rfile.read(1) == b""  # until the caller has given up
            answered.set()
            return 200, {}

        receiver.answer = late
        office.works(talk.key)
        assert answered.wait(10)
        assert office.rows()[0][1:] == ("pending", 1, "no_answer")
        receiver.answers(200)
        office.passes(120)
        assert len(receiver.told) == 2
        assert receiver.told[0].webhook_id == receiver.told[1].webhook_id
        assert receiver.told[0].body == receiver.told[1].body

    @pytest.mark.parametrize("tls", [False, True])
    def test_an_answer_byte_by_byte_gets_no_more_time(
        self, office: Office, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tls: bool
    ) -> None:
        """Each byte comes in time; the whole never would."""
        monkeypatch.setattr(delivery_module, "TOTAL_SECONDS", 0.5)
        monkeypatch.setattr(egress_module, "_tls", lambda: create_default_context(cafile=certificates.authority))
        receiver = Receiver(certificates=certificates if tls else None)
        office.receivers.append(receiver)
        office.configure(CLINIC, receiver.url)
        talk = office.talk()
        talk.answer(1, "m0")
        finished = threading.Event()

        def drip(_told: Told, handler: BaseHTTPRequestHandler) -> Answer:
            with suppress(OSError):
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                for _ in range(200):  # ten seconds
                    time.sleep(0.05)
                    handler.wfile.write(b"x")
                finished.set()
            return None

        receiver.answer = drip
        office.works(talk.key)
        assert not finished.is_set()
        assert office.rows()[0][1:] == ("pending", 1, "no_answer")

    def test_nothing_is_sent_to_where_nothing_may_be_sent(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.deliveries = replace(office.deliveries, egress=Egress(("api.example.com",)))
        office.works(talk.key)
        assert receiver.told == []
        assert office.rows()[0][1:] == ("pending", 1, "address_refused")

    def test_a_webhook_that_was_taken_away_is_said(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.configure(CLINIC, None)
        office.works(talk.key)
        assert office.rows()[0][1:] == ("pending", 1, "webhook_missing")


class TestPoison:
    """What one conversation's delivery fails for is not held against the others."""

    @pytest.mark.parametrize("poison", [{"bad-0": 500}, {"bad-0": 500, "bad-1": 502}, {"bad-0": 429}], ids=str)
    def test_healthy_conversations_are_told_while_others_fail_all_day(
        self, office: Office, poison: dict[str, int]
    ) -> None:
        receiver = office.platform()
        receiver.answer = lambda told, _: (poison.get(told.event["data"]["conversation_id"], 200), {})
        for number, name in enumerate(poison, 1):
            office.talk(name).answer(number, "m0")
            office.works(office.talk(name).key)
        healthy = [office.talk(f"patient-{number}") for number in range(60)]
        for turn, woken in enumerate((True, False, True), 1):
            for number, talk in enumerate(healthy):
                talk.answer(100 * turn + number, f"m{turn}")
                if woken:
                    office.deliveries.wake(talk.key)
            office.passes(130)
            assert len(office.rows("delivered")) == 60 * turn
            office.passes(7 * 3600)
        assert [row[1] for row in office.rows("pending")] == ["pending"] * len(poison)
        assert len(receiver.told) < 60 * 3 + DAY / MAX_ASKING_SECONDS * len(poison)

    def test_a_success_leaves_the_others_the_time_of_their_next_try(self, office: Office) -> None:
        receiver = office.platform()
        bad, good = office.talk("bad"), office.talk("good")
        for talk in (bad, good):
            talk.answer(1, "m0")
        receiver.answers(500)
        office.works(bad.key)
        receiver.answers(200)
        office.works(good.key)
        office.works(bad.key)
        assert len(receiver.told) == 2
        assert office.outbox.due(now=office.clock() + BACKOFF[0] - 1, most=9) == []

    @pytest.mark.parametrize(("status", "headers", "paused"), [(500, {}, False), (503, {}, False), (429, {}, True)])
    def test_one_server_error_alone_is_not_its_platforms(
        self, office: Office, status: int, headers: dict[str, str], paused: bool
    ) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        receiver.answers(status, **headers)
        for talk in (first, first, second):
            office.works(talk.key)
        assert len(receiver.told) == (1 if paused else 2)

    def test_two_conversations_in_a_row_are(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(3)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(500)
        for talk in talks:
            office.works(talk.key)
        assert len(receiver.told) == 2

    def test_unless_one_succeeded_in_between(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(4)]
        for talk in talks:
            talk.answer(1, "m0")
        for talk, status in zip(talks, (500, 200, 500, 200), strict=True):
            receiver.answers(status)
            office.works(talk.key)
        assert len(receiver.told) == 4

    def test_who_asks_whether_a_platform_is_back_is_whoever_never_failed(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(3)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(429)
        office.works(talks[0].key)
        office.clock.advance(60)
        assert office.outbox.due(now=office.clock(), most=9) == [talks[1].key]

    def test_what_a_pause_refuses_is_woken_at_its_end(self, office: Office) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        receiver.answers(429)
        office.works(first.key)
        office.queue.sent.clear()
        office.works(second.key)
        assert office.queue.sent == [(DeliveryRecord(second.key), BACKOFF[0])]

    def test_unless_that_is_far_away(self, office: Office) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        receiver.answers(503, Retry_After="600")
        for talk in (first, second):
            office.works(talk.key)
        assert office.queue.sent == []

    def test_who_sees_that_a_platform_is_back_wakes_what_waits(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(MOST_WOKEN_AT_ONCE + 10)]
        for number, talk in enumerate(talks):
            talk.answer(number, "m0")
        office.platform(LAB)
        office.talk("patient-0", LAB).answer(1, "m0")
        receiver.answers(429, Retry_After="600")
        office.works(talks[0].key)
        receiver.answers(200)
        office.clock.advance(601)
        office.works(talks[1].key)
        woken = [cast(DeliveryRecord, record).key for record, _ in office.queue.sent]
        assert len(woken) == len(set(woken)) == MOST_WOKEN_AT_ONCE
        assert {key.platform_id for key in woken} == {CLINIC}

    def test_a_platform_that_failed_for_weeks_is_still_asked(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        office.sql.run("update platforms set webhook_failures = 5000 where platform_id = :id", id=CLINIC)
        receiver.answers(429)
        office.works(office.talk().key)
        assert office.rows()[0][1:] == ("pending", 1, "http_429")


class TestIsolation:
    def test_a_slow_platform_delays_no_other(self, office: Office) -> None:
        """It has more conversations than there are workers, and all of them came first."""
        slow, quick = office.platform(CLINIC), office.platform(LAB)
        free, all_told, over = threading.Event(), threading.Event(), threading.Event()
        ready = SimpleQueue[ConversationKey]()

        def hold(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            assert free.wait(30)
            return 200, {}

        def count(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            if len(quick.told) == 20:
                all_told.set()
            return 200, {}

        class Ready(FakeQueue):
            def send(self, record: Any, *, delay: int = 0) -> None:
                ready.put(record.key)  # whatever its delay

        slow.answer, quick.answer = hold, count
        office.deliveries = replace(office.deliveries, queue=cast(Queue, Ready(office.clock)))
        for platform_id in (CLINIC, LAB):
            for number in range(20):
                talk = office.talk(f"patient-{number}", platform_id)
                talk.answer(number, "m0")
                ready.put(talk.key)

        def work() -> None:
            while not over.is_set() and "pending" in states():
                with suppress(Empty):
                    office.works(ready.get(timeout=0.05))

        looking = threading.Lock()

        def states() -> list[str]:
            with looking:
                return office.states()

        with ThreadPoolExecutor(10) as threads:
            working = [threads.submit(work) for _ in range(10)]
            if not (in_time := all_told.wait(5)):
                over.set()
            held = len(slow.told)
            free.set()
            for each in working:
                each.result(30)
        assert in_time
        assert held == MOST_AT_ONCE
        assert states() == ["delivered"] * 40

    def test_a_conversation_whose_platform_is_slow_goes_to_the_queues_end(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        for number in (1, 2):
            talk.answer(number, f"m{number}")

        def slowly(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            office.clock.advance(SLOW_SECONDS + 0.5)
            return 200, {}

        receiver.answer = slowly
        office.works(talk.key)
        assert office.states() == ["delivered", "pending"]
        assert office.queue.sent == [(DeliveryRecord(talk.key), 0)]

    def test_one_too_many_for_its_platform_is_woken_soon(self, office: Office) -> None:
        office.platform()
        *others, last = [office.talk(f"patient-{number}") for number in range(MOST_AT_ONCE + 1)]
        for talk in (*others, last):
            talk.answer(1, "m0")
        for number, talk in enumerate(others, 900):
            now = office.clock()
            limits = {"now": now, "until": now + LEASE_SECONDS, "busy_until": now + 2}
            assert isinstance(office.outbox.claim(talk.key, talk.id(number), most=MOST_AT_ONCE, **limits), Delivery)
        office.works(last.key)
        ((record, delay),) = office.queue.sent
        assert record == DeliveryRecord(last.key)
        assert 1 <= delay <= 3
        assert office.rows("delivered") == []

    def test_a_dead_platform_delays_no_other(self, office: Office) -> None:
        dead, alive = office.platform(CLINIC), office.platform(LAB)
        dead.stops()
        for number in range(150):
            office.talk(f"patient-{number}", CLINIC).answer(number, "m0")
        office.talk("patient-0", LAB).answer(1, "m0")
        office.works(office.talk("patient-0", CLINIC).key)
        office.clock.advance(10)
        assert [key.platform_id for key in office.outbox.due(now=office.clock(), most=MOST_WOKEN)] == [CLINIC, LAB]
        office.passes(60)
        assert len(alive.told) == 1
        dead.starts()

    def test_the_sweep_takes_the_platforms_in_turn(self, office: Office) -> None:
        office.platform(CLINIC), office.platform(LAB)
        for number in range(4):
            office.talk(f"patient-{number}", CLINIC).answer(1, "m0")
        office.talk("patient-0", LAB).answer(1, "m0")
        due = office.outbox.due(now=office.clock(), most=3)
        assert [(key.platform_id, key.conversation_id) for key in due] == [
            (CLINIC, "patient-0"),
            (LAB, "patient-0"),
            (CLINIC, "patient-1"),
        ]

    def test_the_sweep_wakes_what_no_record_did(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        assert office.deliveries.sweep() == 1
        record = office.queue.next()
        assert record
        assert record.record == DeliveryRecord(office.talk().key)
        office.passes(1)
        assert len(receiver.told) == 1
        assert office.deliveries.sweep() == 0


class TestRaces:
    def test_two_workers_deliver_each_reply_once_and_in_order(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        for number in range(1, 21):
            talk.answer(number, f"m{number}", reply=f"{number:02}")
        met = threading.Barrier(4)

        def work(_: int) -> None:
            met.wait(10)
            for _ in range(20):
                office.works(talk.key)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert receiver.replies == [f"{number:02}" for number in range(1, 21)]
        assert office.states() == ["delivered"] * 20

    def test_nobody_overtakes_a_reply_that_is_being_delivered(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0", reply="one")
        talk.answer(2, "m1", reply="two")

        def meanwhile(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            if len(receiver.told) == 1:
                office.works(talk.key)
            return 200, {}

        receiver.answer = meanwhile
        office.works(talk.key)
        assert receiver.replies == ["one", "two"]

    @pytest.mark.parametrize("status", [200, 500, 410])
    def test_a_worker_that_paused_past_its_lease_marks_nothing(
        self, office: Office, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It may have told the platform twice, under one id; what became of it, the later claim decides."""
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        now = office.clock()

        def pause(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            office.clock.advance(LEASE_SECONDS + 1)
            assert isinstance(office.claims(talk), Delivery)
            return status, {}

        receiver.answer = pause
        office.works(talk.key)
        assert office.clock() > now + LEASE_SECONDS
        assert office.rows()[0][1:] == ("pending", 0, None)
        assert "a delivery's claim was lost" in [record.getMessage() for record in caplog.records]

    def test_a_worker_that_died_is_followed_after_its_lease(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        assert isinstance(office.claims(talk), Delivery)
        office.works(talk.key)
        assert office.deliveries.sweep() == 0
        assert receiver.told == []
        office.clock.advance(LEASE_SECONDS)
        assert office.deliveries.sweep() == 1
        office.works(talk.key)
        assert len(receiver.told) == 1

    @pytest.mark.parametrize("step", ["claim", "delivered", "undelivered", "redrive"])
    def test_each_locks_its_platform_before_a_delivery(self, office: Office, step: str) -> None:
        """Or two of them would wait for each other."""
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        claimed = None if step == "claim" else office.claims(talk)
        if step == "redrive":
            office.sql.run("update outbox set status = 'dead'")

        def take() -> object:
            if step == "claim":
                return office.claims(talk)
            if step == "redrive":
                return office.outbox.redrive(CLINIC, now=office.clock())
            assert isinstance(claimed, Delivery)
            if step == "delivered":
                return office.outbox.delivered(claimed, now=office.clock())
            at = office.clock() + 5
            return office.outbox.undelivered(
                claimed, "no_answer", next_attempt_at=at, dead=False, retry_at=at, certain=True
            )

        with ThreadPoolExecutor(1) as threads:
            office.sql.run("begin")
            try:
                office.sql.run("select from platforms where platform_id = :id for update", id=CLINIC)
                taking = threads.submit(take)
                until = time.monotonic() + 10
                while not office.sql.run("select from pg_locks where not granted"):
                    assert time.monotonic() < until, "nobody waited for the platform"
                skipped = office.sql.run("select 1 from outbox for update skip locked")
            finally:
                office.sql.run("rollback")
            assert taking.result(10)
        assert skipped == [[1]]

    def test_a_secret_that_is_slow_takes_no_time_of_the_try(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        seen = []

        class Slow(Secrets):
            def reveal(self, value: str, platform_id: str) -> str:
                office.clock.advance(110)
                seen.append(office.sql.run("select claimed_until from outbox"))
                return value

        office.deliveries = replace(office.deliveries, secrets=Slow())
        office.works(talk.key)
        assert seen == [[[None]]]
        assert receiver.told == []
        assert [record for record, _ in office.queue.sent] == [DeliveryRecord(talk.key)]

    def test_the_time_of_a_request_begins_with_the_look_up_of_its_address(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery_module, "TOTAL_SECONDS", 0.0)
        limit = delivery_module._Limit()
        monkeypatch.setattr(delivery_module, "TOTAL_SECONDS", 600.0)
        here, there = socket.socketpair()
        with here, there:
            limit.start(here)
            assert limit._timer
            limit._timer.join(10)
            limit.end()
        assert limit.exceeded

    def test_deadlines_nest(self) -> None:
        assert LOOK_UP_SECONDS + CONNECT_SECONDS < TOTAL_SECONDS < TRY_SECONDS < LEASE_SECONDS

    def test_without_time_left_another_goes_on(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.deliveries.deliver(talk.key, office.clock() + 10)
        assert receiver.told == []
        assert [record for record, _ in office.queue.sent] == [DeliveryRecord(talk.key)]

    def test_while_postgres_is_away_nothing_breaks(self, office: Office) -> None:
        class Away:
            def __getattr__(self, name: str) -> Any:
                def away(*_: Any, **__: Any) -> Any:
                    raise Unavailable("Postgres")

                return away

        deliveries = replace(office.deliveries, outbox=cast(Outbox, Away()))
        deliveries.deliver(office.talk().key, office.clock() + 120)
        assert deliveries.sweep() == 0
        with pytest.raises(Unavailable):
            deliveries.dead(CLINIC)


class TestAdministration:
    def buries(self, office: Office) -> Conversation:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, named("m0", CANARY), reply=CANARY)
        receiver.answers(410)
        office.works(talk.key)
        receiver.answers(200)
        return talk

    def test_dead_deliveries_are_shown_to_their_tenant_without_text(self, office: Office) -> None:
        talk = self.buries(office)
        shown = dead_letters.dead_letters(office.deliveries, CLINIC)
        assert shown == {
            "deliveries": [
                {
                    "webhook_id": f"msg_{talk.id(1)}",
                    "conversation_id": "patient-1",
                    "job_id": talk.id(1),
                    "attempts": 1,
                    "created_at": "2026-09-21T14:13:22.750Z",
                    "last_error": "http_410",
                }
            ]
        }
        assert office.deliveries.dead(LAB) == []

    def test_redriven_they_get_another_day(self, office: Office) -> None:
        talk = self.buries(office)
        office.clock.advance(3 * DAY)
        assert office.deliveries.redrive(LAB) == 0
        assert office.deliveries.redrive(CLINIC) == 1
        office.receivers[0].answers(400)
        office.passes(DAY / 2)
        assert office.states() == ["pending"]
        office.receivers[0].answers(200)
        office.passes(DAY / 2)
        assert office.states() == ["delivered"]
        assert {told.webhook_id for told in office.receivers[0].told} == {f"msg_{talk.id(1)}"}

    def test_redriven_ones_wake_their_conversations_whatever_the_platform_did_before(self, office: Office) -> None:
        talk = self.buries(office)
        office.sql.run("update platforms set webhook_failures = 9, webhook_retry_at = 'infinity'")
        office.deliveries.redrive(CLINIC)
        assert [record for record, _ in office.queue.sent] == [DeliveryRecord(talk.key)]
        office.works(talk.key)
        assert office.states() == ["delivered"]


def test_no_text_secret_or_address_is_in_a_log_or_a_metric(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver = office.platform()
    for status in (200, 302, 410, 429, 500):
        talk = office.talk(f"patient-{status}")
        talk.answer(1, named("m0", CANARY), reply=CANARY)
        receiver.answers(status)
        office.works(talk.key)
        office.passes(30)
    receiver.stops()
    office.talk().answer(1, named("m0", CANARY), reply=CANARY)
    office.clock.advance(3600)
    office.works(office.talk().key)
    receiver.starts()
    logged = "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    for failure in ("http_302", "http_410", "http_429", "http_500", "no_answer"):
        assert failure in logged
    for private in (CANARY, SECRET, SECRET.removeprefix("whsec_"), str(receiver.port)):
        assert private not in logged


def test_a_delivery_record_names_a_conversation_and_nothing_else() -> None:
    record = DeliveryRecord(ConversationKey(CLINIC, "patient-1"))
    assert json.loads(encode(record)) == {"deliver": {"platform_id": CLINIC, "conversation_id": "patient-1"}}
    assert decode(encode(record)) == record


def test_a_dead_letter_that_only_woke_is_removed(office: Office, settings: Settings) -> None:
    removed = []

    class Letters(FakeQueue):
        def dead_letters(self) -> list[DeadLetter]:
            return [] if removed else [DeadLetter(DeliveryRecord(office.talk().key), "receipt")]

        def remove(self, letter: DeadLetter) -> None:
            removed.append(letter.receipt)

    world = World(
        MemoryTier(settings, office.clock), office.archive, lambda _: None, office.clock, settings, office.talk().key
    )
    assert dead_letters.redrive(world.worker, cast(Queue, Letters(office.clock))) == 0
    assert removed == ["receipt"]


class TestParts:
    """Who delivers, by the settings."""

    def test_with_postgres_alone_the_processs_own_threads_deliver(self, migrated: Settings) -> None:
        parts = build(migrated)
        assert parts.deliveries
        assert parts.worker.deliveries is parts.deliveries
        assert parts.deliveries.queue is parts.queue
        parts.close()

    def test_without_postgres_nobody_does(self) -> None:
        parts = build(Settings())
        assert (parts.deliveries, parts.worker.deliveries) == (None, None)
        parts.close()

    def test_each_queue_has_its_own_url(self, migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        jobs, deliveries = "https://sqs.example/jobs", "https://sqs.example/deliveries"
        for url, expected in ((deliveries, deliveries), (None, jobs)):
            parts = build(migrated.model_copy(update={"job_queue_url": jobs, "delivery_queue_url": url}))
            assert parts.deliveries
            queues = cast(SqsQueue, parts.queue), cast(SqsQueue, parts.deliveries.queue)
            assert tuple(queue._url for queue in queues) == (jobs, expected)
            limits = queues[1]._client.meta.config
            if url:  # a commit waits no longer for a record that only wakes
                assert limits.connect_timeout + limits.read_timeout <= 3
                assert limits.retries["total_max_attempts"] == 1
            parts.close()

    def test_the_hosts_of_the_settings_may_be_sent_to(self, migrated: Settings) -> None:
        parts = build(migrated.model_copy(update={"egress_allowed_hosts": "api.example.com, *.partner.example,"}))
        assert parts.deliveries
        for host in ("api.example.com", "chat.partner.example"):
            parts.deliveries.egress.check(f"https://{host}/hook")
        for url in ("https://other.example/", "http://api.example.com/", "http://127.0.0.1:80/"):
            with pytest.raises(EgressRefused):
                parts.deliveries.egress.check(url)
        parts.close()


class TestWorkers:
    """From a run's end to the platform."""

    @pytest.fixture
    def world(self, office: Office, settings: Settings) -> World:
        key = ConversationKey(CLINIC, "patient-9")
        world = World(MemoryTier(settings, office.clock), office.archive, lambda _: None, office.clock, settings, key)
        world.queue = office.queue
        world.worker = replace(world.worker, queue=cast(Queue, office.queue), deliveries=office.deliveries)
        world.intake = replace(world.intake, queue=cast(Queue, office.queue))
        return world

    def next_delivery(self, office: Office) -> DeliveryRecord | None:
        records = [waiting.record for waiting in office.queue.waiting]
        return next((record for record in records if isinstance(record, DeliveryRecord)), None)

    def test_a_run_that_commits_wakes_its_delivery(self, office: Office, world: World) -> None:
        receiver = office.platform()
        world.posts("m0")
        world.delivers()
        assert office.states() == ["pending"]
        record = self.next_delivery(office)
        assert record == DeliveryRecord(world.key)
        assert world.worker.process(record, office.clock() + 120).retry_in is None
        assert receiver.replies == ['["text of m0"]']

    def test_the_first_reply_after_a_webhook_was_configured_wakes_at_once(self, office: Office) -> None:
        talk = office.talk()
        office.configure(CLINIC, None)
        office.deliveries.ended(talk.answer(1, "m0"), office.clock() + 120)
        assert office.queue.waiting == []
        receiver = Receiver()
        office.receivers.append(receiver)
        office.sql.run("update platforms set base_url = :url where platform_id = :id", url=receiver.url, id=CLINIC)
        office.deliveries.ended(talk.answer(2, "m1"), office.clock() + 120)
        assert [record.record for record in office.queue.waiting] == [DeliveryRecord(talk.key)]

    def test_one_without_a_webhook_wakes_nobody(self, office: Office, world: World) -> None:
        office.configure(CLINIC, None)
        world.posts("m0")
        world.delivers()
        assert self.next_delivery(office) is None

    def test_one_that_is_cancelled_wakes_nobody(self, office: Office, world: World) -> None:
        office.platform()
        accepted = world.posts("m0")
        assert accepted
        world.cancels(accepted["ai_job_id"])
        world.delivers()
        assert self.next_delivery(office) is None

    def test_a_queue_that_refuses_costs_time_but_no_reply(
        self, office: Office, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver = office.platform()
        world.posts("m0")

        def refuse(*_: Any, **__: Any) -> None:
            raise Unavailable("the queue")

        with monkeypatch.context() as refusing:
            refusing.setattr(FakeQueue, "send", refuse)
            world.delivers()
        assert world.answered("m0")
        office.passes(120)
        assert len(receiver.told) == 1

    @pytest.fixture
    def away(self, office: Office, world: World) -> Callable[[bool], None]:
        """Postgres goes away, and its outbox with it; or comes back."""

        class Door:
            shut = False

            def __getattr__(self, name: str) -> Any:
                if self.shut:
                    raise Unavailable("Postgres")
                return getattr(office.outbox, name)

        door = Door()
        office.deliveries = replace(office.deliveries, outbox=cast(Outbox, door))
        world.worker = replace(world.worker, deliveries=office.deliveries)

        def away(shut: bool) -> None:
            door.shut = shut
            world.postgres(away=shut)

        return away

    def test_while_postgres_is_away_it_is_told_at_once_and_again_under_the_same_id(
        self, office: Office, world: World, away: Callable[[bool], None]
    ) -> None:
        receiver = office.platform()
        world.posts("m0")
        world.delivers()
        office.passes(60)
        away(True)
        office.clock.advance(60)
        world.posts("m1")
        world.delivers()
        assert receiver.replies == ['["text of m0"]', '["text of m1"]']
        away(False)
        world.settles()
        office.passes(120)
        assert receiver.replies == ['["text of m0"]', '["text of m1"]', '["text of m1"]']
        assert len({told.webhook_id for told in receiver.told}) == 2
        assert receiver.told[1].event == receiver.told[2].event
        assert office.states() == ["delivered"] * 2

    def test_a_worker_that_does_not_know_the_webhook_leaves_it_to_the_archive(
        self, office: Office, world: World, away: Callable[[bool], None]
    ) -> None:
        receiver = office.platform()
        away(True)
        world.posts("m0")
        world.delivers()
        assert receiver.told == []
        away(False)
        world.settles()
        office.passes(120)
        assert receiver.replies == ['["text of m0"]']

    def test_what_has_no_time_left_is_left_to_the_archive(
        self, office: Office, world: World, away: Callable[[bool], None]
    ) -> None:
        receiver = office.platform()
        world.posts("m0")
        world.delivers()
        office.passes(60)
        away(True)
        world.posts("m1")
        world.delivers(seconds=14)
        assert len(receiver.told) == 1
        away(False)
        world.settles()
        office.passes(120)
        assert len(receiver.told) == 2
