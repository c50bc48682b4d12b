"""What platforms are still to be told, in Postgres. The rows are written by the commits themselves."""

from __future__ import annotations

from typing import Any

from message_handler.models import ConversationKey, DeadDelivery, Delivery, Job, JobError, JobStatus, Message
from message_handler.stores.database import Database


class PostgresOutbox:
    """Hands out each conversation's deliveries in order, each to one worker at a time."""

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
        refused_until, *claimed = rows[0]
        if refused_until is not None:
            return float(refused_until)
        return _delivery(key, claim_id, claimed) if claimed[0] else None

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
        return [ConversationKey(platform_id, conversation_id) for platform_id, conversation_id in rows]

    def expire(self, *, now: float, overdue: float) -> list[str]:
        return [row[0] for row in self._database.execute({"now": now, "overdue": overdue}, "expire_deliveries")]

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        rows = self._database.execute({"platform_id": platform_id, "most": most}, "dead_deliveries")
        return [DeadDelivery(*row) for row in rows]

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        values = {"platform_id": platform_id, "now": now}
        rows = self._database.execute(values, "lock_platform", "touch_dead_deliveries", "redrive_deliveries")
        return [ConversationKey(platform_id, row[0]) for row in rows]


def _claim_values(delivery: Delivery) -> dict[str, Any]:
    return {
        "platform_id": delivery.job.key.platform_id,
        "webhook_id": delivery.webhook_id,
        "claim_id": delivery.claim_id,
    }


def _delivery(key: ConversationKey, claim_id: str, row: list[Any]) -> Delivery:
    webhook_id, given_ids, attempts, give_up_at, failures, job_id, bot_id, status, message_ids, *rest = row
    reply, error_code, notice, correlation_id, finished_at = rest
    job = Job(
        job_id,
        key,
        JobStatus(status),
        tuple(Message(message_id, "") for message_id in message_ids),
        bot_id,
        finished_at=finished_at,
        reply=reply,
        error=JobError(error_code, "", notice) if error_code else None,
        correlation_id=correlation_id,
    )
    return Delivery(job, webhook_id, claim_id, tuple(given_ids), attempts, give_up_at, failures)
