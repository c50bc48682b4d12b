"""The port of the store that keeps the tenants' configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from message_handler.ports.audit import AuditEntry

#: The kinds of configuration records, named as their tables.
RecordKind = Literal["bots", "core_ai", "platforms"]
#: What a tenant keeps: its records, and what it has written about the safety rules, under its own id.
Kept = RecordKind | Literal["safety_rules"]


class OutdatedRules(NamedTuple):
    """A tenant's own safety rules that another release has compiled."""

    platform_id: str
    revision: int
    document: dict[str, Any]


class Records(Protocol):
    """One tenant's configuration, within one transaction. Its secrets are as they were written.

    Each record has a `revision`, a number that each write raises.
    """

    def all(self, kind: RecordKind) -> list[dict[str, Any]]:
        """All records of a kind, ordered by their ids."""

    def get(self, kind: Kept, id_: str) -> dict[str, Any] | None: ...

    def put(self, kind: Kept, record: dict[str, Any]) -> bool:
        """Write a whole record. Returns whether it is new."""

    def delete(self, kind: RecordKind, id_: str) -> None: ...

    def note(self, entry: AuditEntry) -> None:
        """Add an entry to the audit, in this transaction."""


class ConfigurationStore(Protocol):
    """Keeps the tenants' configuration. Each method raises Unavailable if the store is away."""

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T: ...

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        """Take a step on the tenant's configuration, in a transaction that excludes other changes.

        A step that raises changes nothing. A step may run twice, if the first connection turns out to be dead.
        """

    def old_reviews(self, before: str) -> int:
        """The number of emergency contacts and safety rules, of all tenants, that were reviewed before a day
        (`2026-11-30`)."""

    def outdated_rules(self, compiled_for: str, *, most: int) -> list[OutdatedRules]:
        """Own rules, of all tenants, that are compiled for another version of the shipped ones: up to `most`."""

    def recompile_rules(self, outdated: OutdatedRules, compiled: str | None, compiled_for: str) -> None:
        """Keep what was compiled, unless an operator has changed the rules meanwhile."""
