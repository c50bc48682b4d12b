"""SQS and Secrets Manager on loopback: `moto`'s server, in its own process because its import takes 2 s.

`python -m local.aws FD` serves on an inherited socket, so that its address is known before it is ready.

moto's queues are not safe under concurrent requests. Two receivers can get the same message. A message that is sent or
deleted while another is deleted can vanish or come back. So requests are answered one at a time, and a long poll waits
here.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.intrinsics import ACCOUNT
from local.processes import end, spawn
from local.server import names_this_machine

# The longest delay of a message after its own delay or visibility timeout. A sent message comes at once.
_LOOK_AGAIN_SECONDS = 0.2

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


@dataclass(frozen=True)
class Simulator:
    """The running process."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def queue_url_prefix(self) -> str:
        return f"{self.endpoint}/{ACCOUNT}/"

    def stop(self) -> None:
        end(self.process, signal.SIGKILL, grace_seconds=1)  # all its state is in memory


def start_simulator(log: Path) -> Simulator:
    """Start the process. Requests may be sent at once; the first is answered when the process is ready."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, log.open("wb") as output:
        process = spawn(
            [sys.executable, "-m", "local.aws", str(listener.fileno())],
            directory=Path(__file__).parent.parent,
            output=output,
            inherited=[listener.fileno()],
        )
        return Simulator(f"http://127.0.0.1:{listener.getsockname()[1]}", process)


class OneAtATime:
    """WSGI: answers an application's requests one at a time. An SQS long poll becomes short polls with pauses."""

    def __init__(self, application: Callable[[Environ, StartResponse], Iterable[bytes]]) -> None:
        self._application = application
        self._changed = threading.Condition()

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if not names_this_machine([environ.get("HTTP_HOST", "")]):  # see `server`
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        with self._changed:
            if environ.get("HTTP_X_AMZ_TARGET") == "AmazonSQS.ReceiveMessage":
                answer = self._receive(environ, json.loads(body))
            else:
                answer = self._ask(environ, body)
                self._changed.notify_all()
        start_response(answer.status, answer.headers)
        return [answer.body]

    def _receive(self, environ: Environ, request: dict[str, Any]) -> _Answer:
        deadline = time.monotonic() + request.get("WaitTimeSeconds", 0)
        body = json.dumps({**request, "WaitTimeSeconds": 0}).encode()
        while True:
            answer = self._ask(environ, body)
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not answer.status.startswith("200") or json.loads(answer.body).get("Messages"):
                return answer
            self._changed.wait(min(remaining, _LOOK_AGAIN_SECONDS))

    def _ask(self, environ: Environ, body: bytes) -> _Answer:
        started: list[Any] = []
        asked = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        chunks = list(self._application(asked, lambda *arguments: started.extend(arguments)))
        return _Answer(started[0], started[1], b"".join(chunks))


@dataclass(frozen=True)
class _Answer:
    status: str
    headers: list[tuple[str, str]]
    body: bytes


def main(descriptor: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler, fd=descriptor
    ).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
