"""No platform and no conversation keeps the deliveries of another waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from queue import Empty, SimpleQueue
from typing import Any, cast

import pytest

from message_handler.delivery.deliveries import (
    BACKOFF,
    CLAIM_SECONDS,
    MAX_ASKING_SECONDS,
    MOST_AT_ONCE,
    MOST_WOKEN,
    MOST_WOKEN_AT_ONCE,
    SLOW_SECONDS,
)
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.records import DeliveryRecord
from message_handler.ports.outbox import Delivery
from message_handler.ports.queue import Queue
from tests.contract.chat import DAY
from tests.contract.delivery.office import CLINIC, LAB, Office
from tests.contract.receiver import Answer, Told
from tests.contract.world import FakeQueue


class TestPoison:
    """A failure of one conversation's delivery is not held against the others."""

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
    def test_one_server_error_alone_pauses_no_platform(
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

    def test_server_errors_of_two_conversations_in_a_row_pause_the_platform(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(3)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(500)
        for talk in talks:
            office.works(talk.key)
        assert len(receiver.told) == 2

    def test_a_success_between_two_server_errors_keeps_the_platform_going(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(4)]
        for talk in talks:
            talk.answer(1, "m0")
        for talk, status in zip(talks, (500, 200, 500, 200), strict=True):
            receiver.answers(status)
            office.works(talk.key)
        assert len(receiver.told) == 4

    def test_an_untried_delivery_is_the_first_to_ask_whether_a_platform_is_back(self, office: Office) -> None:
        receiver = office.platform()
        talks = [office.talk(f"patient-{number}") for number in range(3)]
        for talk in talks:
            talk.answer(1, "m0")
        receiver.answers(429)
        office.works(talks[0].key)
        office.clock.advance(60)
        assert office.outbox.due(now=office.clock(), most=9) == [talks[1].key]

    def test_a_conversation_that_a_pause_refuses_is_woken_at_its_end(self, office: Office) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        receiver.answers(429)
        office.works(first.key)
        office.queue.sent.clear()
        office.works(second.key)
        assert office.queue.sent == [(DeliveryRecord(second.key), BACKOFF[0])]

    def test_no_conversation_is_woken_at_the_end_of_a_long_pause(self, office: Office) -> None:
        receiver = office.platform()
        first, second = office.talk("patient-1"), office.talk("patient-2")
        for talk in (first, second):
            talk.answer(1, "m0")
        receiver.answers(503, Retry_After="600")
        for talk in (first, second):
            office.works(talk.key)
        assert office.queue.sent == []

    def test_the_first_success_after_a_pause_wakes_the_waiting_conversations(self, office: Office) -> None:
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
        """The slow platform has more conversations than there are workers, and all of them came first."""
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
                ready.put(record.key)  # at once, without the delay

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

    def test_a_delivery_over_its_platforms_limit_is_woken_soon(self, office: Office) -> None:
        office.platform()
        *others, last = [office.talk(f"patient-{number}") for number in range(MOST_AT_ONCE + 1)]
        for talk in (*others, last):
            talk.answer(1, "m0")
        for number, talk in enumerate(others, 900):
            now = office.clock()
            limits = {"now": now, "until": now + CLAIM_SECONDS, "busy_until": now + 2}
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

    def test_the_sweep_wakes_a_delivery_without_a_record(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        assert office.deliveries.sweep() == 1
        record = office.queue.next()
        assert record
        assert record.record == DeliveryRecord(office.talk().key)
        office.passes(1)
        assert len(receiver.told) == 1
        assert office.deliveries.sweep() == 0
