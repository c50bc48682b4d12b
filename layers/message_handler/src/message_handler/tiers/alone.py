"""What a process counts by itself where no store counts for all: rate limits, and clients that wait for jobs."""

from __future__ import annotations

from collections.abc import Callable

from message_handler.tiers.buckets import Buckets
from message_handler.tiers.waits import Waits


class CountsAlone:
    """The counts of a `LineStore`, kept in one process. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._buckets = Buckets(clock)
        self._waits = Waits(clock)

    def cached(self, name: str) -> str | None:
        """Always None: a process has a cache of its own in front of this one."""
        return None

    def cache(self, name: str, text: str, seconds: float) -> None:
        """See `cached`."""

    def admit(self, name: str, per_minute: int, count: int = 1) -> float:
        return self._buckets.take(name, per_minute, count)

    def begin_wait(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool:
        return self._waits.begin(platform_id, wait_id, most=most, most_in_all=most_in_all)

    def end_wait(self, platform_id: str, wait_id: str) -> None:
        self._waits.end(wait_id)
