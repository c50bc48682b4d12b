"""The port of the store that keeps what tenants configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from message_handler.ports.audit import AuditEntry

#: What is configured, by the names of its tables.
RecordKind = Literal["bots", "core_ai", "platforms"]


class Records(Protocol):
    """One tenant's configuration, within one transaction. Secrets are in it as they were written.

    Each record has a `revision`, a number that goes up with each write.
    """

    def all(self, kind: RecordKind) -> list[dict[str, Any]]:
        """Ordered by their ids."""

    def get(self, kind: RecordKind, id_: str) -> dict[str, Any] | None: ...

    def put(self, kind: RecordKind, record: dict[str, Any]) -> bool:
        """Write a whole record; whether it is a new one."""

    def delete(self, kind: RecordKind, id_: str) -> None: ...

    def note(self, entry: AuditEntry) -> None:
        """Put into the audit what is done in this transaction."""


class ConfigurationStore(Protocol):
    """Keeps what tenants configured. Raises Unavailable where it is away."""

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T: ...

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        """Take a step alone with the tenant's configuration; one that raises has changed nothing.

        It may be taken twice, where a connection turns out to be dead.
        """
