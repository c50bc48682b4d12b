"""A call that blocks runs in a thread of its own: its caller can look elsewhere meanwhile, and end it at any moment.

    caller   watch("") ─ watch("Drink") ─ watch raises ─ shuts the socket down ─ the exception passes on
    thread   connect ─── "Drink" ──────── waits for bytes ─────────────────────┴─ fails, closes, ends

Closing a socket does not wake the thread that reads from it, and a response's own lock is held by that thread. A
shutdown wakes it, and needs no lock.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Watch

#: The longest time between two calls of a watch. Watch promises a quarter of a second.
TICK_SECONDS = 0.2
#: How long the rest of an answer is waited for once its outcome is known: what it cost, or why it was refused.
REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: `connect` for the connection, `gap` between two pieces of the answer, and `total` for all of it.

    A model that thinks before it speaks is silent. So `gap` applies only after the first words.
    """

    connect: float
    gap: float
    total: float

    @staticmethod
    def of(total: float, left: float) -> Limits:
        """The limits of one try with `left` of `total` seconds."""
        return Limits(min(total / 6, left), min(total / 2, left), left)


class Connection:
    """The connection of one call, which another thread can cut."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def opened(self, connected: socket.socket) -> None:
        """Remember the call's socket. Raises OSError if the call has been cut: nothing may be sent any more."""
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("cut")
            # A descriptor of our own: the call may close its own at any time, and its number may be used again.
            self._socket = connected.dup()

    def cut(self) -> None:
        """End the connection: the thread that reads from it finds it closed."""
        with self._lock:
            self._cut = True
            if self._socket:
                with suppress(OSError):  # the other side was faster
                    self._socket.shutdown(socket.SHUT_RDWR)
        self.forget()

    def forget(self) -> None:
        """Close our descriptor. The call closes its own."""
        with self._lock:
            if self._socket:
                self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class Known[R]:
    """The outcome of a call that has not ended. Its rest, which can only add to it, is waited for `seconds`."""

    outcome: R | ProviderFailure
    seconds: float = REST_SECONDS

    @property
    def is_reply(self) -> bool:
        return not isinstance(self.outcome, ProviderFailure)


@dataclass(frozen=True, slots=True)
class _Returned[R]:
    value: R


#: What a call does: it yields the text so far ("" is a sign of life), and its outcome once that is known. None: it asks
#: again, so the outcome is open again.
type Producer[R] = Generator[str | Known[R] | None, None, R]


def attend[R](produce: Callable[[Connection], Producer[R]], watch: Watch, limits: Limits) -> R:
    """Run `produce` in a thread, and return what it returns. `watch` is called with the text so far.

    Once the outcome is known, the call has the seconds left that it says, and a connection that breaks changes nothing.
    An exception of `watch` ends the call. So does a limit, as ProviderFailure ai_timeout.
    """
    connection = Connection()
    pieces: SimpleQueue[str | Known[R] | _Returned[R] | BaseException | None] = SimpleQueue()
    # With the context of this thread, which has the correlation id of log lines.
    run, arguments = copy_context().run, (_run, produce, connection, pieces)
    thread = threading.Thread(target=run, args=arguments, name="ai-call", daemon=True)
    text = ""
    known: Known[R] | None = None
    last = end = due = time.monotonic() + limits.total
    thread.start()
    try:
        while True:
            if known is None or not known.is_reply:  # no newer message is worth a reply that is whole
                watch(text)
            now = time.monotonic()
            if now >= min(due, end):
                if known is None:
                    raise ProviderFailure("ai_timeout", again=True)
                connection.cut()
                return _value(known.outcome)
            try:
                piece = pieces.get(timeout=min(TICK_SECONDS, due - now, end - now))
            except Empty:
                continue
            if isinstance(piece, _Returned):
                return piece.value
            if known and isinstance(piece, ProviderFailure) and piece.code == "ai_unreachable":
                return _value(known.outcome)
            if isinstance(piece, BaseException):
                raise piece
            if piece is None or isinstance(piece, Known):
                if piece is None:
                    end = last
                elif known is None:
                    end = min(last, time.monotonic() + piece.seconds)
                known = piece
                continue
            text = piece
            due = time.monotonic() + limits.gap if text else end
    except BaseException:
        connection.cut()
        raise


def _value[R](outcome: R | ProviderFailure) -> R:
    if isinstance(outcome, ProviderFailure):
        raise outcome
    return outcome


def _run[R](
    produce: Callable[[Connection], Producer[R]],
    connection: Connection,
    pieces: SimpleQueue[str | Known[R] | _Returned[R] | BaseException | None],
) -> None:
    """Put all that `produce` yields into `pieces`, then what it returns or raises."""
    try:
        generator = produce(connection)
        while True:
            try:
                pieces.put(next(generator))
            except StopIteration as end:
                pieces.put(_Returned(end.value))
                return
    except BaseException as error:  # noqa: BLE001  the caller raises it
        pieces.put(error)
    finally:
        connection.forget()
