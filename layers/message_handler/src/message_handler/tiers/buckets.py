"""Rate limits of one process: how many messages each tenant may still send. lua/admit.lua counts for all processes.

Each tenant has a bucket with one minute's messages. It is full at the start and refills evenly. So a tenant may send
`per_minute` messages at once, and then one every 60 / `per_minute` seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: The most tenants whose buckets a process keeps. Beyond that, all buckets start full again.
_MAX_BUCKETS = 10_000
#: A bucket with this much counts as having a whole message, because rounding may have lost the rest.
_WHOLE = 0.999999


class Buckets:
    """The buckets of one process. Threads may share them. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, platform_id: str, per_minute: int) -> float:
        """Take one message from a tenant's bucket. Returns 0, or the seconds until there is one to take."""
        with self._mutex:
            now = self._clock()
            tokens, at = self._buckets.get(platform_id, (float(per_minute), now))
            # If the clock is set back, the same time must not refill the bucket twice.
            now = max(now, at)
            tokens = min(per_minute, tokens + (now - at) * per_minute / 60)
            if tokens < _WHOLE:
                return (1 - tokens) * 60 / per_minute
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            self._buckets[platform_id] = (tokens - 1, now)
            return 0.0
