"""Stands in for Postgres if none is configured. Nothing is archived, and runs go on without a fence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.errors import Unavailable
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request
from message_handler.domain.raised import Raised, RaisedConversation
from message_handler.ports.archive import (
    Committed,
    Conversation,
    Erased,
    Fence,
    Minute,
    Noted,
    Settled,
    Unsent,
    Verdict,
)
from message_handler.ports.audit import AuditEntry
from message_handler.ports.configuration import OutdatedRules, Records

if TYPE_CHECKING:
    from message_handler.domain.safety_report import Counted
    from message_handler.ports.raised import Reminder, Wanted


class NoArchive:
    """Knows nothing and permits nothing. The tier alone guards the replies, and remembers them for an hour."""

    name: Literal["postgres", "memory", "none"] = "none"
    away = True

    def ping(self) -> None:
        raise Unavailable("Postgres")

    def close(self) -> None:
        """Nothing to close."""

    def migrate(self) -> list[str]:
        raise Unavailable("Postgres")

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        raise Unavailable("Postgres")

    def commit(self, job: Job, fence: int) -> Committed | None:
        raise Unavailable("Postgres")

    def archive(self, job: Job) -> bool:
        raise Unavailable("Postgres")

    def keep_wordless(self, key: ConversationKey, bot_id: str, messages: Sequence[Message]) -> None:
        """Nothing is archived."""

    def note_raised(self, raised: Raised) -> bool:
        """Nothing is archived."""
        return False

    def interrupt(self, job: Job) -> None:
        raise Unavailable("Postgres")

    def cancel(self, job: Job) -> Verdict:
        raise Unavailable("Postgres")

    def unsend(self, key: ConversationKey, message_id: str, waiting: Sequence[Job], *, at: float) -> Unsent:
        raise Unavailable("Postgres")

    def raise_fence(self, key: ConversationKey) -> None:
        raise Unavailable("Postgres")

    def supersede(self, job: Job, successor_id: str) -> None:
        raise Unavailable("Postgres")

    def settled(self, key: ConversationKey, message_ids: Iterable[str]) -> dict[str, Settled]:
        return {}

    def settle_also(self, key: ConversationKey, message_ids: Sequence[str], end: Settled) -> None:
        raise Unavailable("Postgres")

    def unfinished(self, *, most: int) -> list[Job]:
        return []

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        return None

    def job(self, platform_id: str, job_id: str) -> Job | None:
        return None

    def jobs(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        raise Unavailable("Postgres")

    def last_end(self, platform_id: str) -> float | None:
        raise Unavailable("Postgres")

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        raise Unavailable("Postgres")

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        raise Unavailable("Postgres")

    def conversation(self, key: ConversationKey) -> Conversation | None:
        return None

    def bot_of(self, key: ConversationKey) -> str | None:
        return None

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        raise Unavailable("Postgres")

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        raise Unavailable("Postgres")

    def park(self, request: Request, messages: Sequence[Message]) -> ParkResult | None:
        raise Unavailable("Postgres")

    def parked_under(self, key: ConversationKey, message_ids: Iterable[str]) -> tuple[Message, ...]:
        return ()

    def resume(self, key: ConversationKey) -> bool:
        raise Unavailable("Postgres")

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        raise Unavailable("Postgres")

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        raise Unavailable("Postgres")

    def to_unpark(self) -> list[ConversationKey]:
        return []

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        raise Unavailable("Postgres")

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        return None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        raise Unavailable("Postgres")


class NoAudit:
    """Stands in for Postgres' audit. Actions that must be audited are refused."""

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        raise Unavailable("Postgres (it keeps the audit)")

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        raise Unavailable("Postgres")


class NoRaised:
    """Stands in for Postgres' raised conversations. None is known, and none can be taken."""

    def find(self, platform_id: str, job_id: str) -> RaisedConversation | None:
        raise Unavailable("Postgres")

    def listed(
        self, platform_id: str, wanted: Wanted, *, behind: tuple[int, str] | None, most: int
    ) -> list[RaisedConversation]:
        raise Unavailable("Postgres")

    def take(self, platform_id: str, job_id: str, entry: AuditEntry, *, now: float) -> bool:
        raise Unavailable("Postgres")

    def close(self, platform_id: str, job_id: str, entry: AuditEntry, *, why: str, now: float) -> bool:
        raise Unavailable("Postgres")

    def report(self, platform_id: str, *, since: float, until: float) -> tuple[list[Counted], int]:
        raise Unavailable("Postgres")

    def remind(self, *, now: float, seconds: float, reminders: int, most: int) -> list[Reminder]:
        raise Unavailable("Postgres")


class NoConfiguration:
    """Stands in for Postgres' configuration. There is none to read, and no place to keep one."""

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T:
        raise Unavailable("Postgres")

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        raise Unavailable("Postgres")

    def old_reviews(self, before: str) -> int:
        raise Unavailable("Postgres")

    def outdated_rules(self, compiled_for: str, *, most: int) -> list[OutdatedRules]:
        raise Unavailable("Postgres")

    def recompile_rules(self, outdated: OutdatedRules, compiled: str | None, compiled_for: str) -> None:
        raise Unavailable("Postgres")
