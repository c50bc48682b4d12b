"""A TCP proxy on loopback in front of a store. It breaks the network between them on demand.

    function ── up: requests ──▶ proxy ──▶ store
             ◀── down: answers ──

A connection whose bytes are held back stays open: its client runs into its own timeout, as behind a network that drops
packets. The bytes go on when the proxy is healed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["up", "down"]

_CHUNK = 256 * 1024


class Trigger:
    """Calls `action` once, before the first chunk of bytes that `matches` goes on. The chunk waits meanwhile."""

    def __init__(self, direction: Direction, matches: Callable[[bytes], bool], action: Callable[[], object]) -> None:
        self.direction = direction
        self.fired = threading.Event()
        self._matches = matches
        self._action = action
        self._mutex = threading.Lock()
        self._taken = False

    def look(self, chunk: bytes) -> None:
        with self._mutex:
            if self._taken or not self._matches(chunk):
                return
            self._taken = True
        try:
            self._action()
        finally:
            self.fired.set()


class _Link:
    """One connection through the proxy: two sockets, and a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, store: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (client, store)
        self.closed = False
        for direction, source, sink in (("up", client, store), ("down", store, client)):
            arguments = (direction, source, sink)
            threading.Thread(target=self._pump, args=arguments, name="proxy", daemon=True).start()

    def close(self) -> None:
        self.closed = True
        for end in self._sockets:
            with suppress(OSError):  # already closed
                end.shutdown(socket.SHUT_RDWR)  # wakes the pumps, which closing alone would not
            end.close()

    def _pump(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # closing tells the other end
            while chunk := source.recv(_CHUNK):
                self._proxy.pass_on(self, direction, chunk)
                if self.closed:
                    break
                sink.sendall(chunk)
        self._proxy.forget(self)


class Proxy:
    """A proxy for one store. It listens on `port` of loopback."""

    def __init__(self, target: int) -> None:
        """`target` is the store's port. At first the proxy breaks nothing."""
        self._target = target
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._stalled: set[Direction] = set()
        self._refusing = False
        self._delay = 0.0
        self._triggers: list[Trigger] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, name="proxy", daemon=True).start()

    def url(self, store_url: str) -> str:
        """The store's URL, through the proxy."""
        parts = urlsplit(store_url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}{'@' if credentials else ''}127.0.0.1:{self.port}"))

    def aim(self, target: int, *, cut: bool = True) -> None:
        """Send new connections to another port of loopback. With `cut`, end the present ones too."""
        self._target = target
        if cut:
            self.cut()

    def cut(self) -> None:
        """End all connections. New ones are served."""
        with self._changed:
            links, self._links = self._links, set()
            self._changed.notify_all()
        for link in links:
            link.close()
        with self._changed:
            self._changed.notify_all()

    def refuse(self) -> None:
        """End all connections, and each new one at once."""
        self._refusing = True
        self.cut()

    def stall(self, *directions: Direction) -> None:
        """Hold back bytes `up` (the store gets no requests), `down` (its answers don't arrive), or both."""
        with self._changed:
            self._stalled = set(directions)
            self._changed.notify_all()

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for `seconds`."""
        self._delay = seconds

    def heal(self) -> None:
        with self._changed:
            self._refusing, self._delay = False, 0.0
            self._stalled.clear()
            self._triggers.clear()
            self._changed.notify_all()

    def when(self, direction: Direction, matches: Callable[[bytes], bool], action: Callable[[], object]) -> Trigger:
        """Call `action` once, before the first bytes that `matches` go on."""
        trigger = Trigger(direction, matches, action)
        self._triggers.append(trigger)
        return trigger

    def close(self) -> None:
        self._refusing = True
        self._listener.close()
        self.heal()
        self._refusing = True
        self.cut()

    def forget(self, link: _Link) -> None:
        with self._changed:
            self._links.discard(link)
            self._changed.notify_all()
        link.close()

    def pass_on(self, link: _Link, direction: Direction, chunk: bytes) -> None:
        """Returns when the chunk may go on, or its connection is closed."""
        for trigger in tuple(self._triggers):
            if trigger.direction == direction:
                trigger.look(chunk)
        if self._delay:
            time.sleep(self._delay)
        with self._changed:
            self._changed.wait_for(lambda: direction not in self._stalled or link.closed)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._refusing:
                client.close()
                continue
            try:
                store = socket.create_connection(("127.0.0.1", self._target), timeout=2)
            except OSError:
                client.close()
                continue
            store.settimeout(None)
            for end in (client, store):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._links.add(_Link(self, client, store))
            if self._refusing:
                self.cut()  # a connection that came in between
