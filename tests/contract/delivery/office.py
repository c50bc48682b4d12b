"""The deliveries of all platforms: real Postgres, real HTTP on loopback, in virtual time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.delivery.deliveries import (
    CLAIM_SECONDS,
    MOST_AT_ONCE,
    Deliveries,
)
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.records import DeliveryRecord
from message_handler.metrics import Meter
from message_handler.ports.outbox import Delivery, Outbox
from tests.contract.chat import Clock
from tests.contract.conversation import Conversation
from tests.contract.receiver import Receiver
from tests.contract.world import FakeQueue

CANARY = "c4n4ry"


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
        """A platform with a webhook that takes every delivery."""
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

    def talk(self, name: str = "patient-1", platform_id: str = CLINIC) -> Conversation:
        return Conversation(self.archive, ConversationKey(platform_id, name))

    def works(self, key: ConversationKey) -> None:
        """A worker is woken for the conversation."""
        self.deliveries.deliver(key, self.clock() + 120)

    def claims(self, talk: Conversation) -> Delivery | float | None:
        """Another worker claims the next delivery first."""
        now = self.clock()
        until = now + CLAIM_SECONDS
        return self.outbox.claim(talk.key, talk.id(900), now=now, until=until, most=MOST_AT_ONCE, busy_until=now + 2)

    def passes(self, seconds: float) -> None:
        """Let time pass until no delivery is pending: workers take each due record, and the sweep runs every minute."""
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
        found = self.sql.run("select webhook_id, status, attempts, last_error from deliveries order by sequence")
        return [(id_, state, tries, error) for id_, state, tries, error in found or () if status in (None, state)]

    def states(self) -> list[str]:
        return [state for _, state, _, _ in self.rows()]

    def counted(self) -> dict[str, float]:
        found: dict[str, float] = {}

        def add(name: str, _unit: str, value: float) -> None:
            found[name] = found.get(name, 0) + value

        self.meter.publish(add)
        return found
