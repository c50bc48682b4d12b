"""The port of the audit, which keeps what was done in each tenant, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done: `actor` did `action` to the record `record_id` of a `kind`.

    `actor` is named as its token does (`client:…`, `user:…`). `before` and `after` are the record without its secrets,
    and have no patient's words. The store sets `id` and `at` (Unix seconds).
    """

    actor: str
    action: str
    kind: str
    record_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    id: int = 0
    at: float = 0.0


class Audit(Protocol):
    """Keeps what was done in each tenant, and by whom. Its entries never change."""

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        """Keep an entry for what is about to be done. If this raises Unavailable, the caller may not do it."""

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        """Up to `most` entries, newest first: those of `kind`, unless it is None, with an id below `before_id`."""
