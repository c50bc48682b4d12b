"""Receives the browser's request after signing in, at a port of this machine (RFC 8252, 7.3)."""

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
_FOREIGN_PAGE = b"This is not the sign-in that was started in the terminal. Close this page.\n"


class _Server(ThreadingTCPServer):
    """With a thread for each connection: browsers open some in advance and send nothing on them."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Stay silent when a browser closes its connection."""


@contextmanager
def waiting_at(callback_url: str, is_awaited: Callable[[str], bool]) -> Iterator[Callable[[float], str]]:
    """Listen for a callback. Yields a function that waits up to a number of seconds and returns its query.

    Any web page may send a browser here. So a callback counts only if `is_awaited(query)`, and no other ends the wait.
    Raises ValueError if the address is not on this machine, and NotSignedIn if the port is taken. The function raises
    NotSignedIn if no callback comes in time.
    """
    parts = urlsplit(callback_url)
    if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1") or not parts.port or parts.query:
        raise ValueError(
            "--callback-url must be http://localhost:PORT/…, exactly as in the parameter OperatorCallbackUrls"
        )
    queries: SimpleQueue[str] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path != (parts.path or "/"):  # browsers also ask for an icon
                self._answer(404)
            elif is_awaited(query):
                self._answer(200)
                queries.put(query)
            else:
                self._answer(400, _FOREIGN_PAGE)

        def send_error(self, code: int, *_: Any) -> None:
            self._answer(code)

        def _answer(self, status: int, page: bytes = _PAGE) -> None:
            """A fixed page, with nothing of the request in it."""
            self.send_response_only(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            """Log nothing: the request holds the code."""

    def wait(seconds: float) -> str:
        try:
            return queries.get(timeout=seconds)
        except Empty:
            raise NotSignedIn(
                f"the browser did not come back within {seconds:g} seconds: try again. If it showed an error, check "
                "--client-id and the stack's parameter OperatorCallbackUrls"
            ) from None

    try:
        server = _Server(("127.0.0.1", parts.port), Handler)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else "can't be opened"
        raise NotSignedIn(
            f"port {parts.port} {why}: stop the program that uses it, or name another address of the stack's "
            "OperatorCallbackUrls with --callback-url"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield wait
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
