"""The port of the audit: what was done in each tenant, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody did: `action` to the `record_id` of a `kind`. Records are without their secrets; no text.

    `actor` says who, as its token does (`client:…`, `user:…`). `id` and `at` (Unix seconds) are the store's.
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
    """What was done in each tenant, by whom. Nothing is ever changed in it."""

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        """Keep what is about to be done. Raises Unavailable: then it may not be done."""

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        """The newest first; of one kind, if it is named, and from before an entry on."""
