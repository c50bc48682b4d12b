"""Rate limits of one process: how much each tenant may still send. lua/admit.lua counts for all processes.

Each tenant has a bucket with one minute's messages. It is full at the start and refills evenly. So a tenant may send
`per_minute` messages at once, and then one every 60 / `per_minute` seconds. Other kinds of requests have buckets of
their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: The most tenants whose buckets a process keeps. Beyond that, all buckets start full again.
_MAX_BUCKETS = 10_000
#: A bucket may lack this much of a message, because rounding may have lost it.
_ROUNDED_OFF = 0.000001


class Buckets:
    """The buckets of one process. Threads may share them. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_minute: int, count: int = 1) -> float:
        """Take `count` messages from a bucket, but no more than it can hold.

        Returns 0, or the seconds until they are there.
        """
        with self._mutex:
            now = self._clock()
            tokens, at = self._buckets.get(name, (float(per_minute), now))
            # If the clock is set back, the same time must not refill the bucket twice.
            now = max(now, at)
            tokens = min(per_minute, tokens + (now - at) * per_minute / 60)
            wanted = min(count, per_minute)
            if tokens < wanted - _ROUNDED_OFF:
                return (wanted - tokens) * 60 / per_minute
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            self._buckets[name] = (tokens - wanted, now)
            return 0.0
