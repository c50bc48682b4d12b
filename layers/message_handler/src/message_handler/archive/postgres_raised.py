"""Raised conversations in Postgres. A change and its entry in the audit are one transaction."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from message_handler.archive import postgres_audit
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.raised import RaisedConversation
from message_handler.domain.safety_report import LANGUAGES, Counted, Spent
from message_handler.drivers.postgres import Database, execute, transaction
from message_handler.ports.audit import AuditEntry
from message_handler.ports.raised import Reminder, Wanted

if TYPE_CHECKING:
    from pg8000.native import Connection

_ANY = asdict(Wanted()) | {"job_id": None, "raised": None, "behind": None}


class PostgresRaised:
    """Keeps the promises of `RaisedStore` in Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, platform_id: str, job_id: str) -> RaisedConversation | None:
        found = self._rows(platform_id, job_id=job_id, most=1)
        return found[0] if found else None

    def listed(
        self, platform_id: str, wanted: Wanted, *, behind: tuple[int, str] | None, most: int
    ) -> list[RaisedConversation]:
        raised, job_id = behind or (None, None)
        return self._rows(platform_id, **asdict(wanted), raised=raised, behind=job_id, most=most)

    def take(self, platform_id: str, job_id: str, entry: AuditEntry, *, now: float) -> bool:
        return self._change("take_raised", platform_id, job_id, entry, now=now)

    def close(self, platform_id: str, job_id: str, entry: AuditEntry, *, why: str, now: float) -> bool:
        return self._change("close_raised", platform_id, job_id, entry, now=now, why=why)

    def report(self, platform_id: str, *, since: float, until: float) -> tuple[list[Counted], int]:
        values = {"platform_id": platform_id, "since": since, "until": until, "languages": list(LANGUAGES)}
        rows = self._database.execute(values, "safety_report")
        return [_counted(*row[:-1]) for row in rows], rows[0][-1]

    def remind(self, *, now: float, seconds: float, reminders: int, most: int) -> list[Reminder]:
        values = {"now": now, "seconds": seconds, "reminders": reminders, "most": most}
        rows = self._database.execute(values, "remind_raised")
        return [Reminder(ConversationKey(platform_id, id_), *about) for platform_id, id_, *about in rows]

    def _change(self, statement: str, platform_id: str, job_id: str, entry: AuditEntry, **values: Any) -> bool:
        values |= {"platform_id": platform_id, "job_id": job_id, "actor": entry.actor}

        def work(connection: Connection) -> bool:
            with transaction(connection):
                changed = bool(execute(connection, values, statement))
                if changed:
                    postgres_audit.note(connection, platform_id, entry)
                return changed

        return self._database.run(work)

    def _rows(self, platform_id: str, **values: Any) -> list[RaisedConversation]:
        rows = self._database.execute(_ANY | values | {"platform_id": platform_id}, "raised")
        return [RaisedConversation(*row) for row in rows]


def _counted(
    by: Any, name: str, raised: int, delivered: int, taken: int, closed: int, *seconds: float | None
) -> Counted:
    spent = [Spent(count, *seconds[at : at + 2]) for count, at in ((delivered, 0), (taken, 2), (closed, 4))]
    return Counted(by, name, raised, *spent)
