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

    def claim(self, key: ConversationKey, claim_id: str, *, now: float, until: float) -> Delivery | None:
        values = {"platform_id": key.platform_id, "conversation_id": key.conversation_id, "claim_id": claim_id}
        rows = self._database.execute(values | {"now": now, "until": until}, "claim_delivery")
        return _delivery(key, claim_id, rows[0]) if rows else None

    def delivered(self, delivery: Delivery, *, now: float) -> bool:
        return bool(self._database.execute(_claim_values(delivery) | {"now": now}, "delivered")[0][0])

    def undelivered(
        self, delivery: Delivery, code: str, *, next_attempt_at: float, dead: bool, retry_at: float | None
    ) -> bool:
        values = {
            "code": code,
            "status": "dead" if dead else "pending",
            "next_attempt_at": next_attempt_at,
            "retry_at": retry_at,
        }
        return bool(self._database.execute(_claim_values(delivery) | values, "undelivered")[0][0])

    def due(self, *, now: float, most: int) -> list[ConversationKey]:
        rows = self._database.execute({"now": now, "most": most}, "due_deliveries")
        return [ConversationKey(platform_id, conversation_id) for platform_id, conversation_id in rows]

    def expire(self, *, now: float, overdue: float) -> list[str]:
        return [row[0] for row in self._database.execute({"now": now, "overdue": overdue}, "expire_deliveries")]

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        rows = self._database.execute({"platform_id": platform_id, "most": most}, "dead_deliveries")
        return [DeadDelivery(*row) for row in rows]

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        rows = self._database.execute({"platform_id": platform_id, "now": now}, "redrive_deliveries")
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
