"""A function builds its parts when Lambda starts it. Functions restored from one snapshot share nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import snapshot_restore_py
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server
from message_handler import cold_start
from message_handler.domain.conversations import ConversationKey
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisLines, RedisTier
from message_handler.wiring import IntakeParts, build_intake

INTAKE = Path(__file__).parents[2] / "functions" / "intake"


class Sqs(BaseHTTPRequestHandler):
    """Answers every call, and notes the caller's address."""

    protocol_version = "HTTP/1.1"
    callers: list[Any] = []  # noqa: RUF012  the server's own

    def do_POST(self) -> None:
        self.callers.append(self.client_address)
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"Attributes": {}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sqs)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    Sqs.callers = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def parts(valkey: Server, migrated: Settings, sqs: str) -> Iterator[IntakeParts]:
    settings = migrated.model_copy(
        update={"redis_url": SecretStr(valkey.url), "redis_timeout_ms": 10_000, "job_queue_url": f"{sqs}/1/jobs"}
    )
    built = build_intake(settings, deployed=True)
    yield built
    built.close()


@pytest.fixture
def restore(monkeypatch: pytest.MonkeyPatch, parts: IntakeParts) -> Any:
    """Does what Lambda does after it restored a function with these parts."""
    registered: list[Any] = []
    monkeypatch.setattr(snapshot_restore_py, "register_after_restore", lambda *call: registered.append(call))
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    cold_start.prepare(lambda: parts)

    def restored() -> None:
        for function, *arguments in registered:
            function(*arguments)

    assert registered
    return restored


@pytest.fixture
def connections(parts: IntakeParts, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Any, ...]]:
    """Tells which connection to each store, and to the queue, is used now."""
    used: list[Connection] = []
    wait = Connection.handle_messages

    def noted(connection: Connection, context: Any) -> None:
        used.append(connection)
        wait(connection, context)

    monkeypatch.setattr(Connection, "handle_messages", noted)

    def found() -> tuple[Any, ...]:
        tier = cast(RedisTier, parts.tiers.tiers[0])
        redis_id = cast(RedisLines, tier.store).client.client_id()
        parts.archive.ping()
        cast(SqsQueue, parts.queue).ping()
        return redis_id, used[-1], Sqs.callers[-1]

    return found


def test_every_connection_is_made_anew_after_a_restore(
    connections: Callable[[], tuple[Any, ...]], restore: Any
) -> None:
    before = connections()
    assert connections() == before
    restore()
    after = connections()
    assert all(new != old for new, old in zip(after, before, strict=True))
    assert connections() == after


def test_two_functions_that_are_restored_from_one_snapshot_draw_differently(restore: Any) -> None:
    snapshot, key, drawn = random.getstate(), ConversationKey("clinic", "c-1"), []
    for _ in range(2):
        random.setstate(snapshot)
        restore()
        drawn.append((random.random(), key.new_job_id()))
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def start(**environment: str) -> list[Any]:
    """Import the intake function in a process of its own and call it. No store can be reached.

    Returns whether its parts were built at the import, the status, whether the garbage collector is on, and whether
    the imported objects are frozen.
    """
    program = (
        "import gc, json, sys\n"
        "import app\n"
        "built, collects, frozen = app.parts.cache_info().currsize, gc.isenabled(), gc.get_freeze_count() > 0\n"
        "class Context:\n"
        "    function_name, memory_limit_in_mb, invoked_function_arn, aws_request_id = 'intake', 1024, 'arn', 'id'\n"
        "sys.stdout = open('/dev/null', 'w')\n"
        "event = {'httpMethod': 'DELETE', 'resource': '/jobs/{job_id}', 'pathParameters': {'job_id': 'none'}}\n"
        "status = app.handler(event, Context())['statusCode']\n"
        "print(json.dumps([built, status, collects, frozen]), file=sys.__stdout__)\n"
    )
    aws = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-central-1"}
    powertools = {"POWERTOOLS_METRICS_NAMESPACE": "test", "POWERTOOLS_SERVICE_NAME": "intake"}
    stores = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "JOB_QUEUE_URL": "http://127.0.0.1:1/1/jobs",
        "AUTH_REQUIRED": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=INTAKE,
        env=os.environ | aws | powertools | stores | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_in_lambda_the_parts_are_there_before_the_first_call() -> None:
    assert start(AWS_LAMBDA_INITIALIZATION_TYPE="on-demand") == [1, 404, True, True]


def test_elsewhere_an_import_builds_nothing() -> None:
    assert start() == [0, 404, True, True]


@pytest.mark.parametrize(
    "wrong", [{"JOIN_DELAY": "soon"}, {"AWS_ENDPOINT_URL": "nowhere"}, {"AWS_DEFAULT_REGION": "no region"}], ids=str
)
def test_a_bad_setting_is_told_by_the_first_call(wrong: dict[str, str]) -> None:
    """Also one of AWS' own settings, which the service does not check. A failed start would be a bare `502`."""
    assert start(AWS_LAMBDA_INITIALIZATION_TYPE="on-demand", **wrong) == [0, 500, True, True]
