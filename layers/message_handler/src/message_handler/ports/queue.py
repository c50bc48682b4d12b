"""The port of the queue, where records wait for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from message_handler.domain.records import AnyRecord


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was delivered too often; None if it is none of ours. `receipt` lets it be removed."""

    record: AnyRecord | None
    receipt: str


class Queue(Protocol):
    """Where records wait for a worker, at least once and in no order."""

    name: str
    #: Whether the workers are threads of this process, which share its memory.
    in_process: bool

    def ping(self) -> None: ...

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        """Durable when this returns; seen by a worker after `delay` seconds.

        Raises Unavailable if the queue refused, or if nobody knows; PayloadTooLarge if it never will take it.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """Some of the records that were delivered too often, hidden from others for a minute. Raises Unavailable."""

    def count_dead_letters(self) -> int | None:
        """About how many there are, of all tenants; None where that isn't known. Raises Unavailable."""

    def depth(self) -> dict[str, int]:
        """About how many records there are, of all tenants: `visible`, `in_flight`, `delayed`. Raises Unavailable."""

    def remove(self, letter: DeadLetter) -> None:
        """Remove a dead letter for good. Raises Unavailable."""

    def close(self) -> None: ...
