"""A circuit breaker: a store that went away costs one timeout, and then nothing until it is probed.

    closed ── a call fails ──▶ open ── after `retry_after` one call goes through ──▶ closed, or open again

It opens for an outage. A store that refuses one thing has answered: that is told as another error than Unavailable.

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

from message_handler.domain.errors import ReadOnly, Unavailable

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Guards one store. `name` is what people call it, `retry_after` seconds, `clock` in seconds."""

    def __init__(self, name: str, retry_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.retry_after = retry_after
        self.clock = clock
        self._mutex = threading.Lock()
        self._why: Unavailable | None = None
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store was away when it was last called."""
        return self._why is not None

    @property
    def why(self) -> Unavailable | None:
        """What is raised while it is open, with what the store was away for when it was last called; None if closed."""
        # A new one each time: one that was raised holds on to whatever was at work.
        why = self._why
        return why and type(why)(self.name, reason=why.reason)

    def guard(self) -> Self:
        """Call the store inside. Raises Unavailable without calling while open; one raised inside opens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Unavailable):
            self.turn(error)
        elif error is None or isinstance(error, Exception):
            # It answered, and be it with a refusal. (A process that is told to end learned nothing of the store.)
            self.turn(None)

    def __enter__(self) -> None:
        if self._why is None:
            return
        with self._mutex:
            if why := self.why:
                now = self.clock()
                if now < self._probe_at:
                    raise why
                # This call is the probe; who comes while it is under way is refused.
                self._probe_at = now + self.retry_after

    def turn(self, why: Unavailable | None) -> None:
        """Open it because of `why`, or close it: the store was called elsewhere than inside `guard`."""
        if why is None and self._why is None:
            return
        with self._mutex:
            before, self._why = self._why, why and type(why)(self.name, reason=why.reason)
            if why:
                self._probe_at = self.clock() + self.retry_after
        if why and (before is None or isinstance(why, ReadOnly) is not isinstance(before, ReadOnly)):
            _log.warning("a store went away", extra={"store": self.name, "reason": why.reason})
        elif before and why is None:
            _log.warning("a store is back", extra={"store": self.name})
