"""The parts of a running stack that can be killed, as by a crash, and started again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

from local.errors import StartError
from local.pool import Pool
from local.processes import end
from local.queues import Mapper
from local.reachable import listens
from local.stores import Server

State = Literal["running", "stopped"]

_KILL_SECONDS = 10.0  # Postgres needs up to five to end its own processes
_START_SECONDS = 60.0  # for a function's imports on a loaded machine


class Part(Protocol):
    """One part. `ours`: whether `stop` and `start` may be called. Both return when done, and may be repeated."""

    @property
    def ours(self) -> bool: ...

    def state(self) -> State: ...

    def stop(self) -> None: ...

    def start(self) -> None:
        """Raises a HostError."""


class OwnStore:
    """A store that the host started. `stop` kills it. `start` brings it back on its port, with the data on its disk."""

    ours = True

    def __init__(self, server: Server, start: Callable[[Path, int], Server], directory: Path) -> None:
        self._server = server
        self._start = start
        self._directory = directory
        self._port = urlsplit(server.url).port or 0
        self._placeholder: socket.socket | None = None

    def state(self) -> State:
        return "running" if self._server.process.poll() is None else "stopped"

    def stop(self) -> None:
        end(self._server.process, self._server.stop_signal, _KILL_SECONDS)
        if self._placeholder is None:
            # Bound but not listening: clients are refused, and no other process gets the port meanwhile. Otherwise even
            # a client that connects to it might get the port, and connect to itself.
            self._placeholder = socket.socket()
            self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._placeholder.bind(("127.0.0.1", self._port))

    def start(self) -> None:
        if self.state() == "running":
            return
        self._free_port()
        self._server = self._start(self._directory, self._port)

    def close(self) -> None:
        """End the store for good."""
        self._free_port()
        self._server.stop()

    def _free_port(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None


class GivenStore:
    """A store that the caller's URL names. It may have other users, so its state is shown but not changed."""

    ours = False

    def __init__(self, url: str, default_port: int) -> None:
        self._url = url
        self._default_port = default_port

    def state(self) -> State:
        return "running" if listens(self._url, self._default_port) else "stopped"

    def stop(self) -> None:
        raise AssertionError("the host did not start this store")

    start = stop


class Workers:
    """The functions that queues invoke, and the mappings that give them records."""

    ours = True

    def __init__(self, pools: Sequence[Pool], mappers: Callable[[], list[Mapper]]) -> None:
        self._pools = pools
        self._mappers = mappers
        self._polling: list[Mapper] = []

    def state(self) -> State:
        return "running" if self._polling else "stopped"

    def stop(self) -> None:
        """Receive no more records, and kill every process in the middle of its work."""
        self.rest()
        for pool in self._pools:
            pool.halt()

    def start(self) -> None:
        if self._polling:
            return
        for pool in self._pools:
            pool.resume()
        for pool in self._pools:
            if failure := pool.await_warm(_START_SECONDS):
                raise StartError(f"{pool.function.name} can't start: {failure.describe()}")
        self.poll()

    def rest(self) -> None:
        """Give the functions no more records. They go on with those that they have."""
        for mapper in self._polling:
            mapper.stop()
        self._polling = []

    def poll(self) -> None:
        """Give the running functions the records in their queues."""
        self._polling = self._mappers()
        for mapper in self._polling:
            mapper.start()


class Parts:
    """All parts by name. One is changed at a time."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._changing = threading.Lock()

    def add(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def all(self) -> list[dict[str, object]]:
        """All parts, each as `show` returns it."""
        return [self.show(name) for name in self._parts]

    def show(self, name: str) -> dict[str, object]:
        """`{"name", "state": "running" | "stopped", "ours": bool}`."""
        part = self._parts[name]
        return {"name": name, "state": part.state(), "ours": part.ours}

    def change(self, name: str, state: State) -> bool:
        """Stop or start a part. Returns False if the host may not change it. Raises a HostError if it can't start."""
        part = self._parts[name]
        if not part.ours:
            return False
        with self._changing:
            part.start() if state == "running" else part.stop()
        return True
