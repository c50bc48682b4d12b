"""How many messages each tenant may still send, as one process knows it. lua/admit.lua does the same for all of them.

A bucket holds a minute's messages, is full at the start, and refills evenly: so many at once, then one every
60 / `per_minute` seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Tenants of which a process knows; past it the buckets start anew.
_MAX_BUCKETS = 10_000
#: What of one message may be lost to rounding.
_WHOLE = 0.999999


class Buckets:
    """Safe to call from several threads. `clock`: Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, platform_id: str, per_minute: int) -> float:
        """Take one message; 0, or the seconds until there is one to take."""
        with self._mutex:
            now = self._clock()
            tokens, at = self._buckets.get(platform_id, (float(per_minute), now))
            # A clock that was set back refills nothing twice.
            now = max(now, at)
            tokens = min(per_minute, tokens + (now - at) * per_minute / 60)
            if tokens < _WHOLE:
                return (1 - tokens) * 60 / per_minute
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            self._buckets[platform_id] = (tokens - 1, now)
            return 0.0
