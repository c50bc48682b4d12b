"""A call that blocks, in a thread of its own, so that its caller can look elsewhere and end it at any moment.

    caller   watch("") ─ watch("Drink") ─ watch raises ─ shuts the socket down ─ the exception passes on
    thread   connect ─── "Drink" ──────── waits for bytes ─────────────────────┴─ fails, closes, ends

Closing a socket wakes nobody who reads from it, and a response's own lock is held by its reader: a shutdown does, and
needs no lock.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Watch

#: The longest that the caller does not look elsewhere; Watch promises a quarter of a second.
TICK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to connect, to the first and between any two pieces of an answer, and for all of it."""

    connect: float
    gap: float
    total: float

    @staticmethod
    def of(total: float, left: float) -> Limits:
        """The limits of one try with `left` of `total` seconds: one that hangs leaves time for another."""
        return Limits(min(total / 6, left), min(total / 2, left), left)


class Line:
    """The connection of one call, for whoever has to cut it from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def hold(self, connected: socket.socket) -> None:
        """Remember the call's socket. Raises OSError if the call has been cut: nothing must be sent any more."""
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("cut")
            # A descriptor of our own: the call's may be closed, and its number used again, at any time.
            self._socket = connected.dup()

    def cut(self) -> None:
        """End the connection: whoever reads from it finds it closed."""
        with self._lock:
            self._cut = True
            if self._socket:
                with suppress(OSError):  # the other side was faster
                    self._socket.shutdown(socket.SHUT_RDWR)
        self.release()

    def release(self) -> None:
        """Forget the socket; the call closes its own."""
        with self._lock:
            if self._socket:
                self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class _Returned[R]:
    value: R


def attend[R](produce: Callable[[Line], Generator[str, None, R]], watch: Watch, limits: Limits) -> R:
    """What `produce` returns; what it yields are pieces of a text that `watch` is told, or "" for a sign of life.

    Whatever `watch` raises ends the call, as does a limit (ProviderFailure ai_timeout).
    """
    line = Line()
    pieces: SimpleQueue[str | _Returned[R] | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            generator = produce(line)
            while True:
                try:
                    pieces.put(next(generator))
                except StopIteration as end:
                    pieces.put(_Returned(end.value))
                    return
        except BaseException as error:  # noqa: BLE001  it is the caller's
            pieces.put(error)
        finally:
            line.release()

    thread = threading.Thread(target=run, name="ai-call", daemon=True)
    text = ""
    end = time.monotonic() + limits.total
    due = time.monotonic() + limits.gap
    thread.start()
    try:
        while True:
            watch(text)
            now = time.monotonic()
            if now >= min(due, end):
                raise ProviderFailure("ai_timeout", again=True)
            try:
                piece = pieces.get(timeout=min(TICK_SECONDS, due - now, end - now))
            except Empty:
                continue
            if isinstance(piece, _Returned):
                return piece.value
            if isinstance(piece, BaseException):
                raise piece
            text += piece
            due = time.monotonic() + limits.gap
    except BaseException:
        line.cut()
        raise
