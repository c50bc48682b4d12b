"""The proxy's network faults, in front of a server that echoes."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while chunk := self.request.recv(1000):
            self.server.heard += chunk  # type: ignore[attr-defined]
            self.request.sendall(chunk)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    heard = b""


@pytest.fixture
def store() -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(store: EchoServer) -> Iterator[Proxy]:
    made = Proxy(store.server_address[1])
    yield made
    made.close()


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    made = []

    def connect() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def ask(connection: socket.socket, word: bytes) -> bytes:
    connection.sendall(word)
    return connection.recv(1000)


def test_what_is_sent_arrives_and_the_url_keeps_its_password(
    proxy: Proxy, connect: Callable[[], socket.socket]
) -> None:
    assert ask(connect(), b"hello") == b"hello"
    assert proxy.url("postgresql://me:secret@127.0.0.1:1/db") == f"postgresql://me:secret@127.0.0.1:{proxy.port}/db"
    assert proxy.url("redis://127.0.0.1:1/0") == f"redis://127.0.0.1:{proxy.port}/0"


def test_a_cut_ends_the_connections_and_new_ones_are_served(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    old = connect()
    assert ask(old, b"1") == b"1"
    proxy.cut()
    assert old.recv(1) == b""
    assert ask(connect(), b"2") == b"2"


def test_refusing_ends_new_connections_until_it_is_healed(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    proxy.refuse()
    with suppress(ConnectionResetError):  # it counts as the end too
        assert connect().recv(1) == b""
    proxy.heal()
    assert ask(connect(), b"3") == b"3"


def test_a_one_way_connection_is_heard_and_gets_no_answer(
    proxy: Proxy, store: EchoServer, connect: Callable[[], socket.socket]
) -> None:
    connection = connect()
    assert ask(connection, b"4") == b"4"
    proxy.stall("down")
    with pytest.raises(TimeoutError):
        ask(connection, b"5")
    assert store.heard == b"45"
    proxy.stall("up")
    assert connection.recv(1) == b"5"
    with pytest.raises(TimeoutError):
        ask(connection, b"6")
    assert store.heard == b"45"
    proxy.heal()
    assert connection.recv(1) == b"6"


def test_a_stalled_connection_can_be_cut(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    assert ask(connection, b"7") == b"7"
    proxy.stall("up", "down")
    connection.sendall(b"8")
    proxy.cut()
    assert connection.recv(1) == b""


def test_a_trigger_acts_once_before_the_bytes_go_on(
    proxy: Proxy, store: EchoServer, connect: Callable[[], socket.socket]
) -> None:
    heard = []
    trigger = proxy.when("up", lambda chunk: b"commit" in chunk, lambda: heard.append(store.heard))
    connection = connect()
    assert ask(connection, b"begin") == b"begin"
    assert not trigger.fired.is_set()
    assert ask(connection, b"commit") == b"commit"
    assert ask(connection, b"commit") == b"commit"
    assert (trigger.fired.is_set(), heard) == (True, [b"begin"])
