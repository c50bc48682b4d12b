"""Deliveries that were given up are shown to their tenant, who can have them sent again."""

from __future__ import annotations

from typing import cast

from message_handler.domain.records import DeliveryRecord
from message_handler.operations import dead_letters
from message_handler.ports.queue import DeadLetter, Queue
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from tests.contract.chat import DAY, named
from tests.contract.conversation import Conversation
from tests.contract.delivery.office import CANARY, CLINIC, LAB, Office
from tests.contract.world import FakeQueue, World


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
                    "event": "ended",
                    "conversation_id": "patient-1",
                    "job_id": talk.id(1),
                    "attempts": 1,
                    "created_at": "2026-09-21T14:13:22.750Z",
                    "last_error": "http_410",
                }
            ]
        }
        assert office.deliveries.dead(LAB) == []

    def test_a_redriven_delivery_gets_another_day(self, office: Office) -> None:
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

    def test_a_redrive_wakes_the_conversations_whatever_the_platform_did_before(self, office: Office) -> None:
        talk = self.buries(office)
        office.sql.run("update platforms set webhook_failures = 9, webhook_retry_at = 'infinity'")
        office.deliveries.redrive(CLINIC)
        assert [record for record, _ in office.queue.sent] == [DeliveryRecord(talk.key)]
        office.works(talk.key)
        assert office.states() == ["delivered"]


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
