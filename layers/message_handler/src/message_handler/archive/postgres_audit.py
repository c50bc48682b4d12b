"""The audit in Postgres. An entry is written in the same transaction as the action that it records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from message_handler.drivers.postgres import Database, execute
from message_handler.ports.audit import AuditEntry

if TYPE_CHECKING:
    from pg8000.native import Connection


def note(connection: Connection, platform_id: str, entry: AuditEntry) -> None:
    """Write an entry in the open transaction of this connection."""
    execute(connection, values(platform_id, entry), "note_audit")


def values(platform_id: str, entry: AuditEntry) -> dict[str, Any]:
    """The parameters of the statement `note_audit`."""
    return {
        "platform_id": platform_id,
        "actor": entry.actor,
        "action": entry.action,
        "kind": entry.kind,
        "record_id": entry.record_id,
        "before": _json(entry.before),
        "after": _json(entry.after),
    }


def _json(record: dict[str, Any] | None) -> str | None:
    return None if record is None else json.dumps(record)


class PostgresAudit:
    """Keeps a log of actions for each tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        self._database.execute(values(platform_id, entry), "note_audit")

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        wanted = {"platform_id": platform_id, "kind": kind, "before_id": before_id, "most": most}
        return [
            AuditEntry(actor, action, kind, record_id, before, after, id_, at)
            for id_, at, actor, action, kind, record_id, before, after in self._database.execute(wanted, "audit")
        ]
