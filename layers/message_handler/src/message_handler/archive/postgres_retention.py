"""Retention in Postgres: exports all that is kept of a conversation, and deletes old data in bounded steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.drivers.postgres import Database
from message_handler.ports.retention import IdleConversation, StoredRecord


class PostgresRetention:
    """Keeps the promises of `Retention`. Times are Unix seconds by the caller's clock; it may be a little off."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self, key: ConversationKey, after: tuple[int, str], *, most: int, most_bytes: int) -> list[StoredRecord]:
        section, last_key = after
        values = {
            "platform_id": key.platform_id,
            "conversation_id": key.conversation_id,
            "section": section,
            "key": last_key,
        }
        limits = {"most": most, "most_bytes": most_bytes}
        return [StoredRecord(*row) for row in self._database.execute(values | limits, "export_conversation")]

    def idle(self, *, before: float, after: str, most: int) -> list[IdleConversation]:
        rows = self._database.execute({"before": before, "after": after, "most": most}, "idle_conversations")
        return [IdleConversation(ConversationKey(platform_id, id_), turns, at) for platform_id, id_, turns, at in rows]

    def purge_conversations(self, keys: Sequence[ConversationKey], *, before: float) -> int:
        values: dict[str, Any] = {
            "platform_ids": [key.platform_id for key in keys],
            "conversation_ids": [key.conversation_id for key in keys],
            "before": before,
        }
        return int(self._database.execute(values, "purge_conversations")[0][0])

    def purge_deliveries(self, *, delivered_before: float, dead_before: float, most: int) -> int:
        values = {"delivered_before": delivered_before, "dead_before": dead_before, "most": most}
        return len(self._database.execute(values, "purge_deliveries"))

    def purge_erasures(self, *, before: float, most: int) -> int:
        return len(self._database.execute({"before": before, "most": most}, "purge_erasures"))

    def purge_audit(self, *, before: float, most: int) -> int:
        return len(self._database.execute({"before": before, "most": most}, "purge_audit"))
