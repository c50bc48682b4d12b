"""One running application for all tests that only call it: `app/`, without stores."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from local.logs import FunctionLog
from local.pool import Pool
from local.stack import LocalStack
from local.template import Function
from local.tokens import Issuer

APP = Path(__file__).parent / "app"
#: Some installations of Python need LD_LIBRARY_PATH to start.
PYTHON_NEEDS = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        self._connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = self._connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def app() -> Path:
    return APP


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    with LocalStack(APP / "template.yaml", environment={}, concurrency=4, redis=False, postgres=False) as running:
        yield running


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("keys") / "key.pem")


@pytest.fixture(scope="session")
def guarded(issuer: Issuer) -> Iterator[LocalStack]:
    """The same application. It needs tokens of `issuer`."""
    template = APP / "template.yaml"
    with LocalStack(template, environment={}, concurrency=2, redis=False, postgres=False, issuer=issuer) as running:
        yield running


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    opened = Client(stack.url)
    yield opened
    opened.close()


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Repeat the check until it is true. The bound is for a loaded machine."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.02)
    return answer


class Pools:
    """Makes pools of a function from its code, given as text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Pool] = []
        self.log_file = folder / "log"
        self.log = FunctionLog(self.log_file, None)

    def make(self, code: str, *, concurrency: int = 4, timeout_seconds: float = 10) -> Pool:
        (self._folder / "app.py").write_text(code)
        function = Function("F", "app.handler", self._folder, (), timeout_seconds, 128, {}, "arn:aws:lambda:F")
        pool = Pool(function, PYTHON_NEEDS, concurrency, self.log)
        self._made.append(pool)
        return pool

    def stop(self) -> None:
        for pool in self._made:
            pool.stop(grace_seconds=0)
        self.log.close()


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Pools]:
    made = Pools(tmp_path)
    yield made
    made.stop()
