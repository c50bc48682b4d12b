"""The tenants' configuration in Postgres."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from message_handler.archive import postgres_audit
from message_handler.drivers.postgres import Database, execute, transaction
from message_handler.ports.audit import AuditEntry
from message_handler.ports.configuration import Kept, OutdatedRules, RecordKind, Records

if TYPE_CHECKING:
    from pg8000.native import Connection


@dataclass(frozen=True, slots=True)
class _PostgresRecords:
    """A tenant's records, on one connection. The statements of a kind are named after its table."""

    connection: Connection
    platform_id: str

    def all(self, kind: RecordKind) -> list[dict[str, Any]]:
        return [row[0] for row in self._execute(kind, id=None)]

    def get(self, kind: Kept, id_: str) -> dict[str, Any] | None:
        rows = self._execute(kind, id=id_)
        return rows[0][0] if rows else None

    def put(self, kind: Kept, record: dict[str, Any]) -> bool:
        values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in record.items()}
        return bool(self._execute(f"put_{kind}", **values)[0][0])

    def delete(self, kind: RecordKind, id_: str) -> None:
        self._execute(f"delete_{kind}", id=id_)

    def note(self, entry: AuditEntry) -> None:
        postgres_audit.note(self.connection, self.platform_id, entry)

    def _execute(self, statement: str, **values: Any) -> list[Any]:
        return execute(self.connection, values | {"platform_id": self.platform_id}, statement)


class PostgresConfiguration:
    """Keeps the tenants' configuration."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T:
        return self._database.run(lambda connection: look(_PostgresRecords(connection, platform_id)))

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        def work(connection: Connection) -> T:
            with transaction(connection):
                execute(connection, {"platform_id": platform_id}, "lock_configuration")
                return step(_PostgresRecords(connection, platform_id))

        return self._database.run(work)

    def old_reviews(self, before: str) -> int:
        return int(self._database.execute({"before": before}, "old_reviews")[0][0])

    def outdated_rules(self, compiled_for: str, *, most: int) -> list[OutdatedRules]:
        found = self._database.execute({"compiled_for": compiled_for, "most": most}, "outdated_safety_rules")
        return [OutdatedRules(*row) for row in found]

    def recompile_rules(self, outdated: OutdatedRules, compiled: str | None, compiled_for: str) -> None:
        self._database.execute(
            {
                "platform_id": outdated.platform_id,
                "revision": outdated.revision,
                "compiled": compiled,
                "compiled_for": compiled_for,
            },
            "recompile_safety_rules",
        )
