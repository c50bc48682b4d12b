"""From the end of a run to the platform: which process delivers, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import EgressRefused, Unavailable
from message_handler.domain.records import DeliveryRecord
from message_handler.ports.outbox import Outbox
from message_handler.ports.queue import Queue
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from message_handler.wiring import build
from tests.contract.delivery.office import CLINIC, Office
from tests.contract.receiver import Receiver
from tests.contract.world import FakeQueue, World


class TestParts:
    """The settings decide which process delivers."""

    def test_with_postgres_alone_the_processs_own_threads_deliver(self, migrated: Settings) -> None:
        parts = build(migrated)
        assert parts.deliveries
        assert parts.worker.deliveries is parts.deliveries
        assert parts.deliveries.queue is parts.queue
        parts.close()

    def test_without_postgres_there_are_no_deliveries(self) -> None:
        parts = build(Settings())
        assert (parts.deliveries, parts.worker.deliveries) == (None, None)
        parts.close()

    def test_each_queue_has_its_own_url(self, migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        jobs, deliveries = "https://sqs.example/jobs", "https://sqs.example/deliveries"
        made: dict[object, tuple[Any, str]] = {}

        class Noted(SqsQueue):
            def __init__(self, client: Any, url: str, dead_letter_url: str | None = None) -> None:
                super().__init__(client, url, dead_letter_url)
                made[self] = client, url

        monkeypatch.setattr("message_handler.wiring.SqsQueue", Noted)
        for url, expected in ((deliveries, deliveries), (None, jobs)):
            parts = build(migrated.model_copy(update={"job_queue_url": jobs, "delivery_queue_url": url}))
            assert parts.deliveries
            queues = cast(SqsQueue, parts.queue), cast(SqsQueue, parts.deliveries.queue)
            assert [made[queue][1] for queue in queues] == [jobs, expected]
            limits = made[queues[1]][0].meta.config
            if url:  # a commit must not wait longer for a record that only wakes a worker
                assert limits.connect_timeout + limits.read_timeout <= 3
                assert limits.retries["total_max_attempts"] == 1
            parts.close()

    def test_deliveries_go_to_the_hosts_that_the_settings_allow(self, migrated: Settings) -> None:
        parts = build(migrated.model_copy(update={"egress_allowed_hosts": "api.example.com, *.partner.example,"}))
        assert parts.deliveries
        for host in ("api.example.com", "chat.partner.example"):
            parts.deliveries.egress.check(f"https://{host}/hook")
        for url in ("https://other.example/", "http://api.example.com/", "http://127.0.0.1:80/"):
            with pytest.raises(EgressRefused):
                parts.deliveries.egress.check(url)
        parts.close()


class TestWorkers:
    """From the end of a run to the platform."""

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

    def test_a_run_wakes_no_delivery_without_a_webhook(self, office: Office, world: World) -> None:
        office.configure(CLINIC, None)
        world.posts("m0")
        world.delivers()
        assert self.next_delivery(office) is None

    def test_a_cancelled_run_wakes_no_delivery(self, office: Office, world: World) -> None:
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
        """Lets Postgres, with its outbox, go away or come back."""

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

    def test_while_postgres_is_away_a_reply_is_posted_at_once_and_again_under_its_id(
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

    def test_without_time_left_the_archive_delivers_the_reply(
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
