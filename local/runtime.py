"""A Lambda execution environment: a process of the AWS runtime client, and the Runtime API that gives it work.

    host                                    process (python -m awslambdaric app.handler)
      │  start ───────────────────────────►  imports the handler
      │  ◄─────────── GET  invocation/next   (held until there is an event)
      │  event ───────────────────────────►  runs the handler
      │  ◄─────────── POST invocation/{id}/response, or .../error
      │  ◄─────────── GET  invocation/next   ...

The API is https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Each environment has its own port, because
the client can't name its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus

from local.logs import FunctionLog
from local.processes import spawn
from local.server import Handler, LoopbackServer
from local.template import Function

MAXIMUM_PAYLOAD = 6 * 1024 * 1024  # bytes, of an event and of a result
_PREFIX = "/2018-06-01/runtime"


@dataclass(frozen=True)
class Outcome:
    """The outcome of an invocation: the handler's result, or an error object with `errorType` and `errorMessage`."""

    payload: bytes
    failed: bool = False

    @classmethod
    def error(cls, kind: str, message: str) -> Outcome:
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)

    def describe(self) -> str:
        """An error in one line."""
        try:
            error = json.loads(self.payload)
            return " ".join(f"{error['errorType']}: {error['errorMessage']}".split())
        except (ValueError, KeyError, TypeError):
            return "unknown error"


@dataclass(frozen=True)
class Invocation:
    """An event for a handler, and its outcome."""

    event: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    outcome: Future[Outcome] = field(default_factory=Future)

    def begin(self) -> bool:
        """Begin the invocation; False if its caller no longer waits. Only a begun invocation gets an outcome."""
        return self.outcome.set_running_or_notify_cancel()


_EXITED = Outcome.error("Runtime.ExitError", "Runtime exited")


class Environment:
    """A process that runs one invocation at a time.

    `next_invocation(environment)` blocks until there is work, and returns None if the environment must end.
    `ended(environment)` is called once, after the process has ended and its running invocation has failed.
    """

    def __init__(
        self,
        function: Function,
        command: Sequence[str],
        variables: Mapping[str, str],
        log: FunctionLog,
        next_invocation: Callable[[Environment], Invocation | None],
        ended: Callable[[Environment], None],
    ) -> None:
        self.function = function
        self.failure: Outcome | None = None  # why the environment ended or can't start
        self._next_invocation = next_invocation
        self._ended = ended
        self._lock = threading.Lock()
        self._exited = False
        self._current: Invocation | None = None
        self._timer: threading.Timer | None = None
        self._api = LoopbackServer(0)
        self._api.start(_api_of(self))
        self._process = spawn(
            command,
            directory=function.code,
            environment={**variables, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.port}"},
        )
        if self._process.stdout is None:
            raise AssertionError("spawn gives a pipe")
        arguments = (function.name, self._process.stdout)
        self._output = threading.Thread(target=log.follow, args=arguments, name="output", daemon=True)
        self._output.start()
        threading.Thread(target=self._await_exit, name="exit", daemon=True).start()

    @property
    def event(self) -> bytes | None:
        """The event that it works on."""
        with self._lock:
            return self._current.event if self._current else None

    def kill(self) -> None:
        """Kill the process and its children."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process and its children. Returns False if it has ended."""
        with self._lock:
            if not self._exited:
                os.killpg(self._process.pid, number)
            return not self._exited

    def take(self) -> Invocation | None:
        """The next invocation, with its timeout running."""
        invocation = self._next_invocation(self)
        if invocation is None:
            return None
        with self._lock:
            self._current = invocation
            self._timer = threading.Timer(self.function.timeout_seconds, self._time_out, (invocation,))
            self._timer.daemon = True
            self._timer.start()
            exited = self._exited
        if exited:  # while it waited for the invocation
            self.finish(None, self.failure or _EXITED)
        return invocation

    def finish(self, request_id: str | None, outcome: Outcome) -> bool:
        """Set the outcome of the running invocation. False if its id is not `request_id`; None stands for any id."""
        with self._lock:
            invocation, timer = self._current, self._timer
            if invocation is None or timer is None or request_id not in (None, invocation.request_id):
                return False
            self._current = None
        timer.cancel()
        invocation.outcome.set_result(outcome)
        return True

    def _time_out(self, invocation: Invocation) -> None:
        seconds = self.function.timeout_seconds
        message = f"{invocation.request_id} Task timed out after {seconds:.2f} seconds"
        outcome = Outcome.error("Sandbox.Timedout", message)
        if self.finish(invocation.request_id, outcome):
            self.failure = outcome
            self.kill()

    def _await_exit(self) -> None:
        if hasattr(os, "waitid"):  # not on macOS before Python 3.13
            # WNOWAIT leaves a zombie, so that the process group's id is not reused before its children are killed.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        with self._lock:
            self._exited = True
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter for zombies only
                os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._output.join(1)  # its last output, before the caller gets the outcome
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        self.failure = self.failure or Outcome.error("Runtime.ExitError", f"Runtime exited with {how}")
        self.finish(None, self.failure)
        self._api.close()
        self._ended(self)


def _api_of(environment: Environment) -> type[Handler]:
    class RuntimeApi(Handler):
        def do_GET(self) -> None:
            if self.path != f"{_PREFIX}/invocation/next":
                self._reply(HTTPStatus.NOT_FOUND)
            elif invocation := environment.take():
                self.answer(HTTPStatus.OK, invocation.event, _headers(environment.function, invocation))
            else:
                environment.kill()  # before it reports the closed connection as an error
                self.close_connection = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match = re.fullmatch(rf"{_PREFIX}/invocation/([^/]+)/(response|error)", self.path)
            if match is not None:
                known = environment.finish(match[1], _outcome(body, failed=match[2] == "error"))
                self._reply(HTTPStatus.ACCEPTED if known else HTTPStatus.BAD_REQUEST)
            elif self.path == f"{_PREFIX}/init/error":
                environment.failure = Outcome(body, failed=True)
                self._reply(HTTPStatus.ACCEPTED)
            else:
                self._reply(HTTPStatus.NOT_FOUND)

        def _reply(self, status: HTTPStatus) -> None:
            body = json.dumps({"status": status.phrase}).encode()
            self.answer(status, body, [("Content-Type", "application/json")])

    return RuntimeApi


def _headers(function: Function, invocation: Invocation) -> list[tuple[str, str]]:
    trace = uuid.uuid4().hex
    return [
        ("Content-Type", "application/json"),  # the client crashes without one
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + function.timeout_seconds) * 1000))),
        ("Lambda-Runtime-Invoked-Function-Arn", function.arn),
        # Not sampled, because there is no daemon here that accepts segments.
        ("Lambda-Runtime-Trace-Id", f"Root=1-{trace[:8]}-{trace[8:]};Parent={trace[:16]};Sampled=0"),
    ]


def _outcome(body: bytes, *, failed: bool) -> Outcome:
    if len(body) <= MAXIMUM_PAYLOAD:
        return Outcome(body, failed)
    return Outcome.error("Function.ResponseSizeTooLarge", f"The result is larger than {MAXIMUM_PAYLOAD} bytes")
