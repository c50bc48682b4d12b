"""The clients of one process that wait for jobs. tiers/redis.py counts for all processes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from message_handler.ports.line_store import LONGEST_WAIT


class Waits:
    """The waits of one process. Threads may share them. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        #: By the wait's id: its tenant, and when it counts no longer.
        self._waits: dict[str, tuple[str, float]] = {}

    def begin(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool:
        with self._mutex:
            now = self._clock()
            self._waits = {id_: wait for id_, wait in self._waits.items() if wait[1] > now}
            own = sum(tenant == platform_id for tenant, _ in self._waits.values())
            if own >= most or len(self._waits) >= most_in_all:
                return False
            self._waits[wait_id] = (platform_id, now + LONGEST_WAIT)
            return True

    def end(self, wait_id: str) -> None:
        with self._mutex:
            self._waits.pop(wait_id, None)
