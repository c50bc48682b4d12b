"""Several workers deliver at the same time. Each reply arrives once and in order."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any, cast

import pytest

from message_handler.delivery import posting as posting_module
from message_handler.delivery.deliveries import CLAIM_SECONDS, TRY_SECONDS
from message_handler.delivery.posting import CONNECT_SECONDS, TOTAL_SECONDS
from message_handler.domain.errors import Unavailable
from message_handler.domain.records import DeliveryRecord
from message_handler.drivers.egress import LOOK_UP_SECONDS
from message_handler.drivers.secrets import Secrets
from message_handler.ports.outbox import Delivery, Outbox
from tests.contract.delivery.office import CLINIC, Office
from tests.contract.receiver import Answer, Told


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

    def test_no_reply_overtakes_one_that_is_being_delivered(self, office: Office) -> None:
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
        """The platform may be told twice, under one id. The later claim decides what became of the delivery."""
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        now = office.clock()

        def pause(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
            office.clock.advance(CLAIM_SECONDS + 1)
            assert isinstance(office.claims(talk), Delivery)
            return status, {}

        receiver.answer = pause
        office.works(talk.key)
        assert office.clock() > now + CLAIM_SECONDS
        assert office.rows()[0][1:] == ("pending", 0, None)
        assert "a delivery's claim was lost" in [record.getMessage() for record in caplog.records]

    def test_after_a_dead_workers_lease_another_delivers(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        assert isinstance(office.claims(talk), Delivery)
        office.works(talk.key)
        assert office.deliveries.sweep() == 0
        assert receiver.told == []
        office.clock.advance(CLAIM_SECONDS)
        assert office.deliveries.sweep() == 1
        office.works(talk.key)
        assert len(receiver.told) == 1

    @pytest.mark.parametrize("step", ["claim", "delivered", "undelivered", "redrive"])
    def test_each_step_locks_the_platform_before_the_delivery(self, office: Office, step: str) -> None:
        """Otherwise two of them could wait for each other."""
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
                    assert time.monotonic() < until, "no step waited for the platform's row"
                skipped = office.sql.run("select 1 from outbox for update skip locked")
            finally:
                office.sql.run("rollback")
            assert taking.result(10)
        assert skipped == [[1]]

    def test_a_slow_secret_takes_no_time_of_the_lease(self, office: Office) -> None:
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
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver, talk, now = office.platform(), office.talk(), [0.0]
        talk.answer(1, "m0")
        monkeypatch.setattr(posting_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        look_up = socket.getaddrinfo

        def slowly(*address: Any, **options: Any) -> Any:
            now[0] += TOTAL_SECONDS
            return look_up(*address, **options)

        monkeypatch.setattr(socket, "getaddrinfo", slowly)

        def answer(_told: Told, handler: BaseHTTPRequestHandler) -> Answer:
            with suppress(TimeoutError):
                handler.connection.settimeout(1)
                handler.rfile.read(1)  # until the caller has given up
            return 200, {}

        receiver.answer = answer
        office.works(talk.key)
        assert office.rows()[0][1:] == ("pending", 1, "no_answer")

    def test_deadlines_nest(self) -> None:
        assert LOOK_UP_SECONDS + CONNECT_SECONDS < TOTAL_SECONDS < TRY_SECONDS < CLAIM_SECONDS

    def test_without_time_left_another_worker_goes_on(self, office: Office) -> None:
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
