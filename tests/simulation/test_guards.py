"""The simulation can fail: each guard of the protocol is removed once, and then some run must break a promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from message_handler.archive.memory import MemoryArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Request
from message_handler.domain.records import Record
from message_handler.intake.intake import Intake
from message_handler.ports.archive import Unsent
from message_handler.ports.line_store import Save
from message_handler.protocol import accepting, steps
from message_handler.protocol.line import Line
from message_handler.worker import asking
from message_handler.worker.worker import Attempt
from tests.simulation.exhaustive import Bounds, Plan, explore
from tests.simulation.scopes import (
    a_message_after_the_fault_and_one_after_the_recovery,
    a_message_and_its_edit,
    a_message_that_is_unsent,
)
from tests.simulation.simulation import Simulation

Take = Callable[[pytest.MonkeyPatch], None]
Scope = Callable[[Plan], Simulation]


def comparison(patch: pytest.MonkeyPatch, compared: str) -> None:
    """A save succeeds whatever this field of the line is meanwhile."""
    before = Save.is_allowed

    def is_allowed(save: Save, fields: dict[str, str], *found: Any) -> bool:
        expected = fields.get(compared, "") if save.compared == compared else save.expected
        return before(replace(save, expected=expected), fields, *found)

    patch.setattr(Save, "is_allowed", is_allowed)


def version_comparison(patch: pytest.MonkeyPatch) -> None:
    comparison(patch, "version")


def owner_comparison(patch: pytest.MonkeyPatch) -> None:
    """Any worker counts as the lock's owner."""

    def owns(line: Line, lock_id: str) -> bool:
        return line.current is not None and line.lease is not None

    patch.setattr(steps, "owns", owns)
    comparison(patch, "holder")


def owner_comparison_of_finish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Line, "locked_by", lambda line, lock_id: line.current is not None)


def fence_and_settled_comparison(patch: pytest.MonkeyPatch) -> None:
    """Each of the two covers for the other, so both are removed."""

    def commit(archive: MemoryArchive, job: Any, fence: int) -> bool:
        archived = archive._conversation(job)
        known = archive.job(job.key.platform_id, job.job_id)
        if known is None or known.status.ended:
            return known is not None and known.status is job.status
        archived.settle(job, job.messages)
        archive._jobs.put(replace(job, superseded_by=known.superseded_by), fence)
        return True

    patch.setattr(MemoryArchive, "commit", commit)


def never_join_while_a_next_exists(patch: pytest.MonkeyPatch) -> None:
    before = accepting._target

    def target(line: Line, *arguments: Any) -> Any:
        return before(replace(line, next=None), *arguments)

    patch.setattr(accepting, "_target", target)


def always_send_the_record(patch: pytest.MonkeyPatch) -> None:
    """A duplicate gets `202`, and no record is sent."""
    before = Intake.accept

    def accept(intake: Intake, request: Request) -> Any:
        duplicates: list[bool] = []

        class Tiers:
            expected = intake.tiers.expected

            def first(self, step: Any) -> Any:
                tier, accepted = intake.tiers.first(step)
                duplicates.append(accepted.duplicate)
                return tier, accepted

        class Queue:
            in_process = False

            def send(self, record: Record, *, delay: int = 0) -> None:
                if not duplicates[-1]:
                    intake.queue.send(record, delay=delay)

        return before(replace(intake, tiers=Tiers(), queue=Queue()), request)  # type: ignore[arg-type]

    patch.setattr(Intake, "accept", accept)


def delete_by_message(patch: pytest.MonkeyPatch) -> None:
    """A record is deleted as soon as its worker is done with the job."""
    before = Attempt._check

    def check(attempt: Attempt, tier: Any, wait: float) -> float | None:
        before(attempt, tier, wait)
        return None

    patch.setattr(Attempt, "_check", check)


def link_to_the_job_that_answered(patch: pytest.MonkeyPatch) -> None:
    """Neither the deciding transactions nor the check of a record write a link."""
    patch.setattr(MemoryArchive, "supersede", lambda *_: None)
    patch.setattr(MemoryArchive, "_link_promises", lambda *_: None)


def maybe_committed_waits(patch: pytest.MonkeyPatch) -> None:
    """While Postgres is away a run goes on, although an earlier run may have committed."""
    before = steps.seal
    patch.setattr(steps, "seal", lambda *arguments, fenced, **options: before(*arguments, fenced=False, **options))


def other_words_under_an_id_are_an_edit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(accepting, "named", lambda incoming, *_, **__: incoming)


def the_newest_words_alone_are_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asking, "newest_versions", lambda messages: messages)


def postgres_settles_an_unsent_message(patch: pytest.MonkeyPatch) -> None:
    def unsend(_: MemoryArchive, key: ConversationKey, message_id: str, waiting: Sequence[Job]) -> Unsent:
        return Unsent("unsent", key.new_job_id(), (message_id,))

    patch.setattr(MemoryArchive, "unsend", unsend)


ONE_FAULT = Bounds(faults=1)
AT_A_COMMIT = Bounds(faults=1, at="archive.commit")
AFTER_A_DEAD_INTAKE = Bounds(faults=1, first=("redis.accept", "crash after"), at="redis.accept")
AFTER_A_PAUSED_COMMIT = Bounds(faults=1, first=("archive.commit", "pause after"), at="redis.finish")
AFTER_A_LAST_COMMIT = Bounds(faults=1, first=("archive.commit", "crash after"), at="archive.fence")


@pytest.mark.parametrize(
    ("guard", "bounds"),
    [
        (version_comparison, Bounds(preemptions=1)),
        (owner_comparison, ONE_FAULT),
        (owner_comparison_of_finish, AFTER_A_PAUSED_COMMIT),
        (fence_and_settled_comparison, ONE_FAULT),
        (never_join_while_a_next_exists, AT_A_COMMIT),
        (always_send_the_record, AFTER_A_DEAD_INTAKE),
        (delete_by_message, ONE_FAULT),
        (link_to_the_job_that_answered, ONE_FAULT),
        (maybe_committed_waits, AFTER_A_LAST_COMMIT),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_without_this_guard_a_promise_is_broken(guard: Take, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(guard, a_message_after_the_fault_and_one_after_the_recovery, bounds, monkeypatch)


@pytest.mark.parametrize(
    ("guard", "scope"),
    [
        (other_words_under_an_id_are_an_edit, a_message_and_its_edit),
        (the_newest_words_alone_are_asked_for, a_message_and_its_edit),
        (postgres_settles_an_unsent_message, a_message_that_is_unsent),
    ],
    ids=lambda value: value.__name__,
)
def test_without_this_guard_a_promise_of_edits_or_unsent_messages_is_broken(
    guard: Take, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(guard, scope, Bounds(preemptions=1), monkeypatch)


def breaks(guard: Take, scope: Scope, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the guard. Then some run within the bounds breaks a promise."""
    guard(monkeypatch)
    found = explore(scope, bounds, until_broken=True)
    assert found.violations, "no run broke a promise without the guard"
    print(f"\nwithout {guard.__name__}, schedule {found.runs}: {found.violations[0][1]}")
