"""The port through which what is kept of patients is shown and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from message_handler.domain.conversations import ConversationKey


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that is stored of a conversation, as JSON with a `kind`, and its place in the order of all that is."""

    section: int
    key: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Idle:
    """A conversation in which nothing has happened since `updated_at` (as Postgres writes it); it has so many turns."""

    key: ConversationKey
    turns: int
    updated_at: str


class Retention(Protocol):
    """What Postgres keeps of patients. Times are Unix seconds; each call deletes a bounded number of rows."""

    def kept(self, key: ConversationKey, after: tuple[int, str], *, most: int, most_bytes: int) -> list[Kept]:
        """What is stored of a conversation behind a place (section, key), in order.

        Not more than `most` records and `most_bytes` of JSON, but one if there is any.
        """

    def idle(self, *, before: float, after: str, most: int) -> list[Idle]:
        """Conversations in which nothing has happened since `before` and nothing is under way, the longest idle first.

        From behind `after` on, an `updated_at`.
        """

    def purge_conversations(self, keys: Sequence[ConversationKey], *, before: float) -> int:
        """Delete those in which nothing has happened since `before`, unless somebody is at work on them; how many."""

    def purge_deliveries(self, *, delivered_before: float, dead_before: float, most: int) -> int: ...

    def purge_erasures(self, *, before: float, most: int) -> int: ...

    def purge_audit(self, *, before: float, most: int) -> int: ...
