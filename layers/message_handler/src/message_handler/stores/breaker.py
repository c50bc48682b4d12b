"""A circuit breaker: a store that went away costs one timeout, and then nothing until it is probed.

    closed ── a call fails ──▶ open ── after `retry_after` one call goes through ──▶ closed, or open again

State is the process's own. Nothing runs in the background, because a Lambda function is frozen between calls: the
probe is somebody's call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from message_handler.errors import Unavailable

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Guards one store. `name` is what people call it, `retry_after` seconds, `clock` in seconds."""

    def __init__(self, name: str, retry_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._retry_after = retry_after
        self._clock = clock
        self._mutex = threading.Lock()
        self._open = False
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store was away when it was last called."""
        return self._open

    def guard(self) -> Self:
        """Call the store inside. Raises Unavailable without calling while open; one raised inside opens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Unavailable):
            self._turn(open_=True, reason=error.what)
        elif error is None or isinstance(error, Exception):
            # It answered, and be it with a refusal. (A process that is told to end learned nothing of the store.)
            self._turn(open_=False)

    def __enter__(self) -> None:
        if not self._open:
            return
        with self._mutex:
            if self._open:
                now = self._clock()
                if now < self._probe_at:
                    raise Unavailable(self.name)
                # This call is the probe; who comes while it is under way is refused.
                self._probe_at = now + self._retry_after

    def _turn(self, *, open_: bool, reason: str | None = None) -> None:
        if not open_ and not self._open:
            return
        with self._mutex:
            changed, self._open = self._open is not open_, open_
            if open_:
                self._probe_at = self._clock() + self._retry_after
        if changed and open_:
            _log.warning("a store went away", extra={"store": self.name, "reason": reason})
        elif changed:
            _log.warning("a store is back", extra={"store": self.name})
