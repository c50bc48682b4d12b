"""The audit of a single process. It lives and ends with the process."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

from message_handler.ports.audit import AuditEntry

#: The most entries that are kept; the oldest are dropped first. A single process keeps nothing for good anyway.
_KEPT = 10_000


class MemoryAudit:
    """Keeps the promises of `Audit` within one process, for as long as it lives."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._entries: deque[tuple[str, AuditEntry]] = deque(maxlen=_KEPT)
        self._count = 0

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        with self._mutex:
            self._count += 1
            self._entries.append((platform_id, replace(entry, id=self._count, at=time.time())))

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        with self._mutex:
            newest = list(reversed(self._entries))
        found = [
            entry
            for tenant, entry in newest
            if tenant == platform_id
            and (kind is None or entry.kind == kind)
            and (before_id is None or entry.id < before_id)
        ]
        return found[:most]
