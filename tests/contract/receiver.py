"""A chat platform's webhook: a real server on loopback that remembers each request."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.certificates import Certificates


@dataclass(frozen=True)
class Told:
    """One request that the webhook received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def reply(self) -> str:
        content: str = self.event["data"]["reply"]["content"]
        return content

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


#: A status with headers; None for no answer.
type Answer = tuple[int, dict[str, str]] | None


def takes(_told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
    return 200, {}


@dataclass
class Receiver:
    """Answers each request as `answer` says. None ends the connection without an answer."""

    answer: Callable[[Told, BaseHTTPRequestHandler], Answer] = takes
    told: list[Told] = field(default_factory=list)
    port: int = 0
    #: If set, the server speaks TLS.
    certificates: Certificates | None = None

    def __post_init__(self) -> None:
        self.starts()

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificates else ''}://127.0.0.1:{self.port}/hook"

    @property
    def replies(self) -> list[str]:
        return [told.reply for told in self.told]

    def told_of(self, conversation_id: str) -> list[Told]:
        """The requests about one conversation. Replies of earlier tests may still arrive."""
        return [told for told in self.told if told.event["data"]["conversation_id"] == conversation_id]

    def answers(self, status: int, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda _told, _handler: (status, named)

    def starts(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                told = Told(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.told.append(told)
                answer = receiver.answer(told, self)
                if answer is None:
                    return
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:  # a client that follows a redirect would use GET
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        class Server(ThreadingHTTPServer):
            # A test may block a handler. That must not keep the server from closing.
            daemon_threads = True
            block_on_close = False
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                """Print nothing: some tests want the client to disconnect."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates.server, self.certificates.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stops(self) -> None:
        """From now on connections to the port are refused."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
