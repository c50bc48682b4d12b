"""The port through which stored patients' data is exported, and deleted when it is old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from message_handler.domain.conversations import ConversationKey


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A stored record of a conversation as JSON, with its `kind`. (`section`, `key`) is its place in the export."""

    section: int
    key: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdleConversation:
    """A conversation with `turns` turns, in which nothing has happened since `updated_at` (text from Postgres)."""

    key: ConversationKey
    turns: int
    updated_at: str


class Retention(Protocol):
    """Reads and deletes what Postgres keeps of patients. Times are Unix seconds.

    Each call deletes a bounded number of rows, and returns how many. Each raises Unavailable if Postgres is away.
    """

    def kept(self, key: ConversationKey, after: tuple[int, str], *, most: int, most_bytes: int) -> list[StoredRecord]:
        """The stored records of a conversation that follow the place `after` (section, key), in order.

        At most `most` records and `most_bytes` of JSON, but always one if there is one.
        """

    def idle(self, *, before: float, after: str, most: int) -> list[IdleConversation]:
        """Up to `most` conversations without work in which nothing has happened since `before`, longest idle first.

        Only those that follow `after`, an `updated_at`, in that order.
        """

    def purge_conversations(self, keys: Sequence[ConversationKey], *, before: float) -> int:
        """Delete those conversations in which nothing has happened since `before`, and that have no work."""

    def purge_deliveries(self, *, delivered_before: float, dead_before: float, most: int) -> int:
        """Delete deliveries that arrived, or that were given up, before these times."""

    def purge_erasures(self, *, before: float, most: int) -> int:
        """Delete what is noted of erasures older than `before`."""

    def purge_audit(self, *, before: float, most: int) -> int:
        """Delete entries of the audit older than `before`."""
