"""The port of the queue, in which records wait for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from message_handler.domain.records import AnyRecord


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was received too often. `record` is None if it can't be read. `receipt` is needed to remove it."""

    record: AnyRecord | None
    receipt: str


class Queue(Protocol):
    """Delivers each record to a worker at least once, in no order."""

    name: str
    #: Whether the workers are threads of this process, and so share its memory.
    in_process: bool

    def ping(self) -> None: ...

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        """Send a record. It is durable when this returns, and a worker receives it after `delay` seconds.

        Raises Unavailable if the queue refused the record or did not answer, and PayloadTooLarge if it is too large.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """Some of the dead letters. They are hidden from other callers for a while. Raises Unavailable."""

    def count_dead_letters(self) -> int | None:
        """About how many dead letters there are, of all tenants; None if that is not known. Raises Unavailable."""

    def depth(self) -> dict[str, int]:
        """About how many records are `visible`, `in_flight` and `delayed`, of all tenants. Raises Unavailable."""

    def remove(self, letter: DeadLetter) -> None:
        """Remove a dead letter for good. Raises Unavailable."""

    def close(self) -> None: ...
