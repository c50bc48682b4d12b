"""A provider of streamed chat completions on this machine. It follows scripts, also those that break the protocol."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Far longer than any test needs, so that a failing test ends too.
PATIENCE_SECONDS = 20.0

type Script = Callable[[Exchange], None]


@dataclass
class Call:
    """One request. `closed` is set when the client has ended the connection, or can't any more."""

    path: str
    headers: dict[str, str]
    raw: bytes
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))


class Exchange:
    """One answer, while it is sent."""

    def __init__(self, handler: BaseHTTPRequestHandler, call: Call) -> None:
        self.call = call
        self._handler = handler
        self._chunked = True

    def start(
        self, status: int = 200, kind: str = "text/event-stream; charset=utf-8", *, chunked: bool = True, **headers: str
    ) -> None:
        self._chunked = chunked
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self._handler.end_headers()

    def interim(self, raw: bytes) -> None:
        """Answers before the answer."""
        self._handler.wfile.write(raw)

    def send(self, piece: bytes) -> None:
        if piece:
            self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if self._chunked else piece)

    def event(self, chunk: dict[str, Any] | str) -> None:
        data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
        self.send(f"data: {data}\n\n".encode())

    def text(self, content: str, finish: str | None = None) -> None:
        self.event({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})

    def end(self) -> None:
        """End the body properly."""
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")

    def stall(self) -> None:
        """Send nothing until the client ends the connection."""
        ready, _, _ = select.select([self._handler.connection], [], [], PATIENCE_SECONDS)
        if ready and self._handler.connection.recv(1) == b"":
            self.call.closed.set()


def says(*texts: str, finish: str = "stop", usage: tuple[int, int] | None = (7, 5)) -> Script:
    """A whole answer, with a chunk for each text."""

    def script(exchange: Exchange) -> None:
        exchange.start()
        for text in texts:
            exchange.text(text)
        exchange.text("", finish)
        if usage:
            exchange.event({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        exchange.event("[DONE]")
        exchange.end()

    return script


def fails(status: int, **headers: str) -> Script:
    """An error. Its body repeats the request, as some providers' bodies do."""

    def script(exchange: Exchange) -> None:
        exchange.start(status, "application/json", **headers)
        exchange.send(exchange.call.raw)
        exchange.end()

    return script


class Server(ThreadingHTTPServer):
    """Plays one script for each request, and the last one for all later requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripts: list[Script] = [says("Good ", "day.")]
        self.calls: list[Call] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/chat/completions"

    def take(self, call: Call) -> Script:
        self.calls.append(call)
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: in many tests the client ends the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.path, headers, self.rfile.read(int(self.headers["Content-Length"])))
        self.close_connection = True
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.server.take(call)(Exchange(self, call))
        except OSError:
            call.closed.set()

    def log_message(self, *_: Any) -> None:
        """Nothing."""
