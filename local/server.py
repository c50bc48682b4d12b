"""HTTP/1.1 with keep-alive on loopback, a thread for each connection. The host's two servers are based on it.

Any web page in the developer's browser can send requests to loopback. If the page's own name points here (DNS
rebinding), it can read the answers too. Such a request names the page's host, so only this machine's names are served.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

_DRAIN_SECONDS = 5.0
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_NOT_THIS_MACHINE = json.dumps(
    {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "The header Host must name this machine: localhost, 127.0.0.1 or [::1].",
    }
).encode()


def names_this_machine(hosts: Iterable[str]) -> bool:
    """Whether a request's `Host` headers are there, and each is a name of this machine."""
    given = list(hosts)
    return bool(given) and all(_LOOPBACK.fullmatch(host) for host in given)


class LoopbackServer(socketserver.ThreadingTCPServer):
    """Listens when it is made, and answers when it is started. Callers wait in the backlog until then."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int) -> None:
        """Listen on a port; 0 is any free one. Raises OSError if the port is taken."""
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self, handler: type[Handler]) -> None:
        """Answer requests with this connection class."""
        self.RequestHandlerClass = handler
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port and close all connections. Harmless if the server was never started."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._lock:
            open_connections = list(self._connections)
        for connection in open_connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the peer has closed it already

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that closes its connection is not an error
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection. Each answer is one write."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or an answer waits 40 ms for the acknowledgement of the previous one

    def parse_request(self) -> bool:
        """Read a request's head. A request that names another machine is answered here and goes no further."""
        if not super().parse_request():
            return False
        if names_this_machine(self.headers.get_all("Host") or ()):
            return True
        self.close_connection = True
        headers = [("Content-Type", "application/problem+json"), ("X-Content-Type-Options", "nosniff")]
        self.answer(HTTPStatus.FORBIDDEN, _NOT_THIS_MACHINE, headers)
        self.drain()
        return False

    def drain(self) -> None:
        """Read the rest of the request: closing a socket with unread data could destroy the answer."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        self.connection.settimeout(1)
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline and self.rfile.read1(65536):
                continue
        except OSError:
            return  # the client is slow or gone; it has its answer

    def answer(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Send a response; Date and Content-Length are added."""
        phrase = HTTPStatus(status).phrase if status in HTTPStatus else ""
        lines = [f"HTTP/1.1 {status} {phrase}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}".replace("\r", " ").replace("\n", " ") for name, value in headers]
        bodiless = status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if not bodiless:
            lines.append(f"Content-Length: {len(body)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        self.wfile.write(head if bodiless or self.command == "HEAD" else head + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the signature is inherited)
        """Print no access log: paths name conversations."""
