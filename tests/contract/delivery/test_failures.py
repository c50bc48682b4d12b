"""A failed delivery is tried again for a day, after ever longer pauses."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from ssl import create_default_context

import pytest

from message_handler.delivery import posting as posting_module
from message_handler.delivery.deliveries import (
    BACKOFF,
    MOST_WOKEN,
    OVERDUE_SECONDS,
)
from message_handler.drivers import egress as egress_module
from message_handler.drivers.egress import Egress
from message_handler.ports.outbox import Delivery
from tests.certificates import Certificates
from tests.contract.chat import DAY
from tests.contract.conversation import Conversation
from tests.contract.delivery.office import CLINIC, LAB, Office
from tests.contract.receiver import Answer, Receiver, Told


class TestFailures:
    def test_100_replies_of_an_outage_arrive_when_the_platform_is_back(self, office: Office) -> None:
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

    def test_one_of_many_workers_asks_whether_a_platform_is_back(self, office: Office) -> None:
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

    def test_a_retry_after_is_honoured(self, office: Office) -> None:
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

    def test_a_retry_after_is_honoured_for_an_hour_at_most(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        receiver.answers(503, Retry_After="9" * 400)
        office.works(office.talk().key)
        receiver.answers(200)
        office.passes(3720)
        assert office.states() == ["delivered"]

    def test_a_refused_delivery_holds_up_its_own_conversation_alone(self, office: Office) -> None:
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

    def test_after_a_day_a_delivery_is_given_up_and_the_next_one_goes_on(self, office: Office) -> None:
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

    def test_a_delivery_that_is_answered_gone_is_given_up_at_once(self, office: Office) -> None:
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

    def test_an_untried_delivery_is_given_up_after_its_day(self, office: Office) -> None:
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

    def test_interim_answers_are_not_the_answer(self, office: Office) -> None:
        """A receiver sends `103 Early Hints` before its `200`: the reply is told once, and so is the next one."""

        def hints_first(_told: Told, handler: BaseHTTPRequestHandler) -> Answer:
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
            return 200, {}

        receiver = office.platform()
        receiver.answer = hints_first
        talk = office.talk()
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        office.works(talk.key)
        assert [told.event["data"]["message_ids"] for told in receiver.told] == [["m0"], ["m1"]]
        assert office.states() == ["delivered", "delivered"]

    def test_a_late_answer_is_a_failure_and_the_delivery_is_repeated_under_its_id(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(posting_module, "TOTAL_SECONDS", 0.2)
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
        """Each byte comes in time, but the whole answer would never end."""
        monkeypatch.setattr(posting_module, "TOTAL_SECONDS", 0.5)
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

    def test_nothing_is_sent_to_a_host_that_is_not_allowed(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.deliveries = replace(office.deliveries, egress=Egress(("api.example.com",)))
        office.works(talk.key)
        assert receiver.told == []
        assert office.rows()[0][1:] == ("pending", 1, "address_refused")

    def test_a_missing_webhook_is_noted_as_the_reason(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.configure(CLINIC, None)
        office.works(talk.key)
        assert office.rows()[0][1:] == ("pending", 1, "webhook_missing")
