"""The webhook deliveries in Postgres. The transaction of an ended job, an unsent message or found danger adds one."""

from __future__ import annotations

from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import job_from_json
from message_handler.domain.events import DangerRaised, Event, EventKind, JobEnded, MessageChanged
from message_handler.domain.raised import Raised
from message_handler.drivers.postgres import Database
from message_handler.ports.outbox import DeadDelivery, Delivery


class PostgresOutbox:
    """Hands out a conversation's deliveries in order, each to one worker at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def webhook(self, platform_id: str) -> tuple[str, dict[str, Any]] | None:
        rows = self._database.execute({"platform_id": platform_id}, "webhook")
        return (rows[0][0], rows[0][1]) if rows else None

    def claim(
        self, key: ConversationKey, claim_id: str, *, now: float, until: float, most: int, busy_until: float
    ) -> Delivery | float | None:
        values = {"platform_id": key.platform_id, "conversation_id": key.conversation_id, "claim_id": claim_id}
        moments = {"now": now, "until": until, "most": most, "busy_until": busy_until}
        rows = self._database.execute(values | moments, "lock_platform", "claim_delivery")
        if not rows:
            return None
        refused_until, webhook_id, message_ids, attempts, give_up_at, failures, kind, document = rows[0]
        if refused_until is not None:
            return float(refused_until)
        if webhook_id is None:
            return None
        event = _event_of(key, kind, tuple(message_ids), document)
        return Delivery(event, webhook_id, claim_id, attempts, give_up_at, failures)

    def delivered(self, delivery: Delivery, *, now: float) -> bool:
        values = _claim_values(delivery) | {"now": now}
        return bool(self._database.execute(values, "lock_platform", "delivered")[0][0])

    def undelivered(
        self,
        delivery: Delivery,
        code: str,
        *,
        next_attempt_at: float,
        dead: bool,
        retry_at: float | None,
        certain: bool,
    ) -> bool:
        values = {
            "code": code,
            "status": "dead" if dead else "pending",
            "next_attempt_at": next_attempt_at,
            "retry_at": retry_at,
            "certain": certain,
        }
        return bool(self._database.execute(_claim_values(delivery) | values, "lock_platform", "undelivered")[0][0])

    def due(self, platform_id: str | None = None, *, now: float, most: int) -> list[ConversationKey]:
        rows = self._database.execute({"platform_id": platform_id, "now": now, "most": most}, "due_deliveries")
        found = [ConversationKey(platform_id, conversation_id) for platform_id, conversation_id in rows]
        return list(dict.fromkeys(found))

    def expire(self, *, now: float, overdue: float) -> list[str]:
        return [row[0] for row in self._database.execute({"now": now, "overdue": overdue}, "expire_deliveries")]

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        rows = self._database.execute({"platform_id": platform_id, "most": most}, "dead_deliveries")
        return [DeadDelivery(*row) for row in rows]

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        values = {"platform_id": platform_id, "now": now}
        rows = self._database.execute(values, "lock_platform", "touch_dead_deliveries", "redrive_deliveries")
        return [ConversationKey(platform_id, row[0]) for row in rows]


def _event_of(key: ConversationKey, kind: EventKind, message_ids: tuple[str, ...], document: dict[str, Any]) -> Event:
    match kind:
        case "ended":
            return JobEnded(job_from_json(document), message_ids)
        case "raised":
            return DangerRaised(Raised(key=key, message_ids=message_ids, **document))
        case _:
            return MessageChanged(kind, key, message_ids[0], **document)


def _claim_values(delivery: Delivery) -> dict[str, Any]:
    return {
        "platform_id": delivery.event.key.platform_id,
        "webhook_id": delivery.webhook_id,
        "claim_id": delivery.claim_id,
    }
