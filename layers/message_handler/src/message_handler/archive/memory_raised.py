"""The raised conversations of a single process. They live and end with the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from message_handler.archive.memory_audit import MemoryAudit
from message_handler.archive.memory_jobs import MemoryJobs
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.raised import Raised, RaisedConversation
from message_handler.domain.safety import Level
from message_handler.domain.safety_report import Counted, counted
from message_handler.ports.audit import AuditEntry
from message_handler.ports.raised import Reminder, Wanted


class MemoryRaised:
    """Keeps the promises of `RaisedStore` within one process, for as long as it lives."""

    def __init__(self, audit: MemoryAudit, jobs: MemoryJobs) -> None:
        self._mutex = threading.Lock()
        self._audit = audit
        self._jobs = jobs
        #: By tenant and job.
        self._found: dict[tuple[str, str], RaisedConversation] = {}
        self._reminded_at: dict[tuple[str, str], float] = {}

    def add(self, raised: Raised) -> None:
        """Add danger that was found. The archive calls this once for each."""
        with self._mutex:
            self._found[raised.key.platform_id, raised.job_id] = RaisedConversation.of(raised)

    def forget(self, key: ConversationKey) -> None:
        """Delete all that was raised in a conversation, because it is erased."""
        with self._mutex:
            self._found = {
                (platform_id, job_id): each
                for (platform_id, job_id), each in self._found.items()
                if (platform_id, each.conversation_id) != (key.platform_id, key.conversation_id)
            }

    def level_of(self, key: ConversationKey) -> str | None:
        """The worst level at which a conversation is raised and not closed. A drill does not count."""
        own = (each for each in self._of(key.platform_id) if each.conversation_id == key.conversation_id)
        return max((Level(each.level) for each in own if each.state != "closed" and not each.drill), default=None)

    def find(self, platform_id: str, job_id: str) -> RaisedConversation | None:
        with self._mutex:
            return self._found.get((platform_id, job_id))

    def listed(
        self, platform_id: str, wanted: Wanted, *, behind: tuple[int, str] | None, most: int
    ) -> list[RaisedConversation]:
        found = [each for each in self._of(platform_id) if _is(each, wanted)]
        found.sort(key=lambda each: (each.raised, each.job_id), reverse=True)
        return [each for each in found if behind is None or (each.raised, each.job_id) < behind][:most]

    def take(self, platform_id: str, job_id: str, entry: AuditEntry, *, now: float) -> bool:
        with self._mutex:
            found = self._found.get((platform_id, job_id))
            if found is None or found.state != "raised":
                return False
            self._found[platform_id, job_id] = replace(found, taken_by=entry.actor, taken_at=now)
            self._audit.note(platform_id, entry)
            return True

    def close(self, platform_id: str, job_id: str, entry: AuditEntry, *, why: str, now: float) -> bool:
        with self._mutex:
            found = self._found.get((platform_id, job_id))
            if found is None or found.state != "taken":
                return False
            closed = replace(found, closed_by=entry.actor, closed_at=now, closed_why=why)
            self._found[platform_id, job_id] = closed
            self._audit.note(platform_id, entry)
            return True

    def report(self, platform_id: str, *, since: float, until: float) -> tuple[list[Counted], int]:
        own = [*self._of(platform_id), *self._urgent(platform_id)]
        found = [each for each in own if since <= each.raised_at < until]
        return counted(found), sum(each.drill for each in found)

    def _urgent(self, platform_id: str) -> Iterator[RaisedConversation]:
        """The urgent findings. They raise no conversation, but the report counts them."""
        for job in self._jobs:
            for found in job.findings if job.key.platform_id == platform_id else ():
                if found.level == "urgent":
                    facts = (found.level, found.rule, found.rules_version, job.finished_at or 0.0)
                    yield RaisedConversation(job.job_id, job.key.conversation_id, *facts, drill=False)

    def remind(self, *, now: float, seconds: float, reminders: int, most: int) -> list[Reminder]:
        with self._mutex:
            overdue = [
                (id_, each)
                for id_, each in sorted(self._found.items(), key=lambda item: item[1].raised_at)
                if each.state == "raised"
                and each.reminders < reminders
                and self._reminded_at.get(id_, each.raised_at) <= now - seconds
            ]
            return [self._remind(tenant, each, now) for (tenant, _), each in overdue[:most]]

    def _remind(self, tenant: str, each: RaisedConversation, now: float) -> Reminder:
        number = each.reminders + 1
        self._found[tenant, each.job_id] = replace(each, reminders=number)
        self._reminded_at[tenant, each.job_id] = now
        key = ConversationKey(tenant, each.conversation_id)
        return Reminder(key, each.job_id, each.level, each.drill, number)

    def _of(self, platform_id: str) -> list[RaisedConversation]:
        with self._mutex:
            return [each for (tenant, _), each in self._found.items() if tenant == platform_id]


def _is(each: RaisedConversation, wanted: Wanted) -> bool:
    return (
        wanted.state in (None, each.state)
        and wanted.level in (None, each.level)
        and wanted.conversation_id in (None, each.conversation_id)
        and (wanted.since is None or each.raised_at >= wanted.since)
        and (wanted.until is None or each.raised_at < wanted.until)
    )
