"""Lines in Postgres, for the tier that takes over while Redis is away. An SQL function compares and sets a line's row.

A row is locked only within one statement. So a process that stops in the middle of a step stops no other process, and a
connection that breaks leaves all or nothing. No session state pins a proxy's connection. Times come from the server's
clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text
from message_handler.domain.identifiers import shard_of_job
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.ports.line_store import CLOCK_MARGIN, MOST_REMEMBERED, Save, Saved, Snapshot
from message_handler.protocol.line_documents import STRUCTURE
from message_handler.protocol.results import TierName
from message_handler.settings import Settings
from message_handler.tiers.alone import CountsAlone
from message_handler.tiers.line_tier import LineTier

#: The index shows the oldest of a tenant's unarchived ends, up to this number. The rest follow once these are archived.
MOST_UNARCHIVED = 500


class PostgresLines(CountsAlone):
    """See the port `LineStore`. `clock`: a test's own (Unix seconds), or None for the server's."""

    name: TierName = "postgres"

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock or time.time)
        self.database = database
        self._settings = settings
        self.clock = clock

    def ping(self) -> None:
        self.database.ping()

    def close(self) -> None:
        self.database.close()

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        clock = self.clock() if self.clock else None
        values = [_values(save) | {"number": number, "clock": clock} for number, save in enumerate(saves)]
        try:
            rows = self._execute("save_lines", saves=as_text(values))
        except StatementRefused as refused:
            # One save that Postgres refuses has rolled back all of them. So each is made by itself.
            return [refused] if len(saves) == 1 else [answer for save in saves for answer in self.save([save])]
        answers = {number: _answer(*row) for number, *row in rows}
        return [answers[number] for number in range(len(saves))]

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        ids = {
            "platform_ids": [key.platform_id for key in keys],
            "conversation_ids": [key.conversation_id for key in keys],
        }
        rows = self._execute("read_lines", names=None if names is None else list(names), **ids) if keys else []
        return [fields or {} for (fields,) in rows]

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        rows = self._execute("remembered", message_id=message_id, **_key_values(key))
        return dict(rows)

    def find(self, job_id: str) -> ConversationKey | str | None:
        found = self._execute("find_job", job_id=job_id) if shard_of_job(job_id) is not None else []
        for platform_id, conversation_id, document in found:
            return document if platform_id is None else ConversationKey(platform_id, conversation_id)
        return None

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        self._execute("archived_end", platform_id=key.platform_id, job_id=job_id, document=document, seconds=seconds)

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        rows = self._execute("unarchived_ends", most=MOST_UNARCHIVED)
        return [(ConversationKey(*key), str(job_id)) for *key, job_id in rows]

    def live(self, platform_id: str) -> list[ConversationKey]:
        rows = self._execute("live_lines", platform_id=platform_id)
        return [ConversationKey(platform_id, conversation_id) for (conversation_id,) in rows]

    def due(self, older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
        """See the port. First drops the lines whose messages were all answered on another tier: they need no record."""
        self._execute("drop_ended", heartbeat_stale=self._settings.heartbeat_stale, platform_id=platform_id)
        rows = self._execute("due_lines", older_than=older_than, platform_id=platform_id)
        return [ConversationKey(*row) for row in rows]

    def _execute(self, statement: str, **values: Any) -> list[Any]:
        return self.database.execute({"clock": self.clock() if self.clock else None} | values, statement)


def _key_values(key: ConversationKey) -> dict[str, Any]:
    return {"platform_id": key.platform_id, "conversation_id": key.conversation_id}


def _values(save: Save) -> dict[str, Any]:
    """A save as the SQL function `save_lines` takes it."""
    is_heartbeat = save.compared == "holder"
    return _key_values(save.key) | {
        "compared": save.compared,
        "seen": save.expected,
        "version": save.fields.get("version"),
        "heartbeat_at": save.heartbeat_at,
        "now": save.now,
        "margin": CLOCK_MARGIN,
        "most": MOST_REMEMBERED,
        "ids": save.ids,
        "unknown_ids": save.unknown_ids,
        "names": save.names,
        "unknown_names": save.unused_names,
        "structure": STRUCTURE,
        "set_fields": {name: text for name, text in save.fields.items() if text is not None} or None,
        "gone": [name for name, text in save.fields.items() if text is None],
        "due_at": None if save.due_at == "as it is" else save.due_at,
        "ttl": save.ttl,
        "remembered": {id_: text for id_, text in save.remembered.items() if text is not None},
        "forgotten": [id_ for id_, text in save.remembered.items() if text is None],
        "ended": {job_id: end for job_id, end in save.jobs.items() if end},
        "unarchived": save.unarchived,
        "job_ids": None if is_heartbeat else save.line_jobs,
        "message_ids": None if is_heartbeat else save.waiting,
        "erased": list(save.jobs) if save.erases else None,
        "wanted": save.wanted,
    }


def _answer(
    wanted: dict[str, str] | None, met_at: float | None, structure: Any, remembered: Any, taken: list[str] | None
) -> Saved | Snapshot:
    if met_at is None:
        return Saved(wanted or {})
    return Snapshot(structure or {}, met_at, remembered or {}, frozenset(taken or ()))


class PostgresTier(LineTier):
    """A tier over lines in Postgres. `clock`: a test's own (Unix seconds), or None for the server's."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        *,
        together: bool = False,
    ) -> None:
        super().__init__(PostgresLines(database, settings, clock), settings, clock or time.time, together=together)
