"""The port of found danger: who takes a raised conversation, who closes it, and what is counted of all that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.raised import RaisedConversation, RaisedState
from message_handler.domain.safety_report import Counted
from message_handler.ports.audit import AuditEntry


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which raised conversations to list: those that have all of these. None: any.

    `since` and `until` (Unix seconds) bound the time at which they were raised; `until` is past the last one.
    """

    state: RaisedState | None = None
    level: str | None = None
    conversation_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Reminder:
    """The n-th reminder of a conversation that no person has taken."""

    key: ConversationKey
    job_id: str
    level: str
    drill: bool
    number: int


class RaisedStore(Protocol):
    """Knows the conversations of each tenant in which danger was found. `Archive.note_raised` adds them.

    A change and its entry in the audit are one step. Each method raises Unavailable while its store is away.
    """

    def find(self, platform_id: str, job_id: str) -> RaisedConversation | None:
        """The tenant's own, by the job of its notice."""

    def listed(
        self, platform_id: str, wanted: Wanted, *, behind: tuple[int, str] | None, most: int
    ) -> list[RaisedConversation]:
        """Up to `most` of a tenant's, newest first; only those behind one of this time (microseconds) and job."""

    def take(self, platform_id: str, job_id: str, entry: AuditEntry, *, now: float) -> bool:
        """Note that the entry's actor takes it. False: it is unknown, or is not `raised` any more."""

    def close(self, platform_id: str, job_id: str, entry: AuditEntry, *, why: str, now: float) -> bool:
        """Note that the entry's actor closes it. False: it is unknown, or is not `taken`."""

    def report(self, platform_id: str, *, since: float, until: float) -> tuple[list[Counted], int]:
        """What was raised from `since` and before `until`, counted in each way, and how many drills there were."""

    def remind(self, *, now: float, seconds: float, reminders: int, most: int) -> list[Reminder]:
        """Note a reminder of each conversation, of any tenant, that no person has taken for `seconds`.

        They count from when it was raised, or from the last reminder. Each gets at most `reminders`, and one call makes
        at most `most`. A platform with a webhook is told again.
        """
