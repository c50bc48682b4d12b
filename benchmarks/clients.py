"""Sixteen clients at the same time. Each is a process with one thread, like an environment of Lambda.

A client calls, then pauses for a random time: without the pause, the figure would be the length of the queue for this
machine's processors. Threads of one process would measure the interpreter's lock.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

COUNT = 16
PAUSE_SECONDS = 0.05
#: The first calls of each client are not counted.
WARM_CALLS = 5

#: What a client does over and over, once it is set up.
Work = Callable[[], object]


class Clients:
    """The processes. All of them do the same work at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(COUNT):
            ours, theirs = spawning.Pipe()
            process = spawning.Process(target=_serve, args=(theirs, environment), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def set_up(self, work: Callable[[], Work]) -> None:
        """Let each process make its work with `work`, a module's function. Earlier work is dropped."""
        self._ask(work)

    def calls(self, seconds: float) -> list[float]:
        """The seconds of each call of all clients, who call for this many seconds."""
        return [taken for each in self._ask(seconds) for taken in each]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            process.kill()

    def _ask(self, what: object) -> list[Any]:
        try:
            for pipe in self._pipes:
                pipe.send(what)
            return [pipe.recv() for pipe in self._pipes]
        except (EOFError, BrokenPipeError):
            raise RuntimeError("a client has died; its error is above") from None


def _serve(pipe: Connection, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    call: Work = lambda: None  # noqa: E731  until the first order
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if callable(asked):
                call = asked()
                for _ in range(WARM_CALLS):
                    call()
                answer: Any = None
            else:
                answer = _calls(call, time.monotonic() + asked)
            try:
                pipe.send(answer)
            except OSError:  # the asking process was interrupted
                return


def _calls(call: Work, end: float) -> list[float]:
    taken: list[float] = []
    while True:
        time.sleep(random.expovariate(1 / PAUSE_SECONDS))
        start = time.perf_counter()
        if time.monotonic() > end:
            return taken
        call()
        taken.append(time.perf_counter() - start)


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def without_server(sqs: Any) -> None:
    """Answer a client of SQS within this process: it does all of its own work, and no server works.

    The stand-in serves one request at a time, in Python. SQS serves many.
    """
    from botocore.awsrequest import AWSResponse

    def answer(request: Any, **_: Any) -> Any:
        content = json.dumps({"MessageId": "00000000-0000-4000-8000-000000000000"}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "Content-Length": str(len(content))}
        return AWSResponse(request.url, 200, headers, _Body(content))

    sqs.meta.events.register("before-send.sqs", answer)
