"""A circuit breaker: a store that is away costs one timeout, and then nothing until the next probe.

    closed ── a call fails ──▶ open ── after `retry_after` one call goes through ──▶ closed, or open again

Only an outage opens it. A store that refuses a command has answered: such an error is not an Unavailable.

Each process has its own state. A Lambda function is frozen between calls, so nothing can run in the background:
an ordinary call serves as the probe.
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
    """Guards one store. `name` is for messages, `retry_after` is in seconds, `clock` returns seconds."""

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
        """The error that calls raise while the breaker is open, with the last known reason; None while it is closed."""
        # A new error each time: a raised one keeps the frames that it passed through alive.
        why = self._why
        return why and type(why)(self.name, reason=why.reason)

    def guard(self) -> Self:
        """Call the store inside this context.

        While the breaker is open, entering raises Unavailable. An Unavailable raised inside opens the breaker.
        """
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Unavailable):
            self.record(error)
        elif error is None or isinstance(error, Exception):
            # The store answered, if only with a refusal. A process that is being ended learned nothing of the store.
            self.record(None)

    def __enter__(self) -> None:
        if self._why is None:
            return
        with self._mutex:
            if why := self.why:
                now = self.clock()
                if now < self._probe_at:
                    raise why
                # This call is the probe. Calls that come while it is under way are refused.
                self._probe_at = now + self.retry_after

    def record(self, why: Unavailable | None) -> None:
        """Open the breaker because of `why`, or close it if None. For calls that were not made inside `guard`."""
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
