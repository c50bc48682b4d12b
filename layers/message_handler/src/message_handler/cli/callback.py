"""The one request with which a browser comes back from signing in, at a port of this machine (RFC 8252, 7.3)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from queue import Empty, SimpleQueue
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

from message_handler.cli.connection import NotSignedIn

_PAGE = b"You may close this page.\n"


class _Server(ThreadingTCPServer):
    """Threads: browsers open connections ahead, on which nothing comes."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A browser that hangs up is told nothing, and nobody is told of it."""


@contextmanager
def waiting_at(callback_url: str) -> Iterator[Callable[[float], str]]:
    """Listens, and gives the function that waits so many seconds for the first callback, and returns its query.

    Raises ValueError for an address that is none of this machine's, NotSignedIn if the port is taken; what it gives
    raises NotSignedIn if nobody comes.
    """
    parts = urlsplit(callback_url)
    if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1") or not parts.port or parts.query:
        raise ValueError("--callback-url must be http://localhost:PORT/…, as it stands in OperatorCallbackUrls")
    queries: SimpleQueue[str] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == (parts.path or "/"):
                self._answer(200)
                queries.put(query)
            else:  # an icon
                self._answer(404)

        def send_error(self, code: int, *_: Any) -> None:
            self._answer(code)

        def _answer(self, status: int) -> None:
            """Nothing of what was asked for: anybody may send a browser here."""
            self.send_response_only(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(_PAGE)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(_PAGE)

        def log_message(self, *_: Any) -> None:
            """The code is in it."""

    def wait(seconds: float) -> str:
        try:
            return queries.get(timeout=seconds)
        except Empty:
            raise NotSignedIn(
                f"nobody came back within {seconds:g} seconds: try again. If the browser showed an error, look at "
                "--client-id, and at the stack's OperatorCallbackUrls"
            ) from None

    try:
        server = _Server(("127.0.0.1", parts.port), Handler)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else "can't be had"
        raise NotSignedIn(
            f"the port {parts.port} {why}: end what listens there, or name another address of the stack's "
            "OperatorCallbackUrls by --callback-url"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield wait
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
