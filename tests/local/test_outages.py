"""Parts of the running host are stopped and started: real processes are killed. Only some callers may ask for it."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from pg8000.exceptions import InterfaceError
from pg8000.native import Connection

from local.authorizer import Authorizer, RefusedError
from local.errors import StoreStartError
from local.outages import Outages
from local.parts import Parts
from local.proxy import Request, Response
from local.stack import LocalStack
from local.stores import Server
from local.tokens import Issuer

from .conftest import APP, Answer, Client, eventually

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def whole() -> Iterator[LocalStack]:
    """A host with its own stores."""
    with LocalStack(APP / "template.yaml", environment={}, concurrency=2) as running:
        if running.missing:
            pytest.skip("; ".join(running.missing))
        yield running


@pytest.fixture
def visitor(whole: LocalStack) -> Iterator[Client]:
    opened = Client(whole.url)
    yield opened
    for name in ("redis", "postgres", "worker"):
        assert change(opened, name, "running").status == 200
    opened.close()


def change(client: Client, name: str, state: str) -> Answer:
    return client.request("PUT", f"/local/parts/{name}", json.dumps({"state": state}), **JSON)


def states(client: Client) -> dict[str, str]:
    parts = client.request("GET", "/local/parts").json["parts"]
    assert all(set(part) == {"name", "state", "ours"} for part in parts)
    return {part["name"]: part["state"] for part in parts}


def ours(url: str | None) -> tuple[int, psutil.Process]:
    """The port of a store's URL, and this host's process that listens there."""
    port = urlsplit(url or "").port
    assert port
    for process in psutil.Process().children(recursive=True):
        if any(it.laddr.port == port and it.status == psutil.CONN_LISTEN for it in process.net_connections()):
            return port, process
    raise AssertionError("no process listens there")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


class TestStores:
    def test_redis_is_killed_and_comes_back_empty_at_its_address(self, whole: LocalStack, visitor: Client) -> None:
        assert whole.redis_url
        port, process = ours(whole.redis_url)
        with redis.Redis.from_url(whole.redis_url) as client:
            client.set("key", "value")
        answer = change(visitor, "redis", "stopped")
        assert (answer.status, answer.json) == (200, {"name": "redis", "state": "stopped", "ours": True})
        assert not process.is_running()
        assert refuses(port)
        assert states(visitor) == {"redis": "stopped", "postgres": "running", "worker": "running"}
        assert change(visitor, "redis", "running").json["state"] == "running"
        with redis.Redis.from_url(whole.redis_url) as client:
            assert client.get("key") is None
        assert ours(whole.redis_url)[0] == port

    def test_postgres_comes_back_with_all_that_was_committed(self, whole: LocalStack, visitor: Client) -> None:
        parts = urlsplit(whole.database_url or "")

        def connect() -> Connection:
            return Connection(parts.username, "127.0.0.1", parts.path[1:], parts.port, parts.password, timeout=10)

        port, process = ours(whole.database_url)
        everything = [process, *process.children(recursive=True)]
        connection = connect()
        connection.run("create table kept (n integer)")
        connection.run("insert into kept values (7)")
        connection.run("begin")
        connection.run("insert into kept values (8)")  # never committed
        assert change(visitor, "postgres", "stopped").status == 200
        assert not [each for each in everything if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        with suppress(InterfaceError):  # its server is stopped
            connection.close()
        assert refuses(port)
        assert states(visitor)["postgres"] == "stopped"
        assert change(visitor, "postgres", "running").json["state"] == "running"
        again = connect()
        assert again.run("select n from kept") == [[7]]
        again.close()
        assert ours(whole.database_url)[0] == port

    def test_while_a_store_is_stopped_no_other_process_gets_its_port(self, whole: LocalStack, visitor: Client) -> None:
        port, _ = ours(whole.redis_url)
        change(visitor, "redis", "stopped")
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))

    @pytest.mark.parametrize("name", ["redis", "postgres", "worker"])
    def test_asking_twice_changes_nothing(self, whole: LocalStack, visitor: Client, name: str) -> None:
        for state in ("running", "running", "stopped", "stopped", "running"):
            assert change(visitor, name, state).json == {"name": name, "state": state, "ours": True}
            assert states(visitor)[name] == state

    def test_a_store_that_died_by_itself_is_seen_and_started(self, whole: LocalStack, visitor: Client) -> None:
        _, process = ours(whole.redis_url)
        process.kill()
        eventually(lambda: states(visitor)["redis"] == "stopped")
        assert change(visitor, "redis", "running").status == 200
        assert not refuses(ours(whole.redis_url)[0])

    def test_given_ones_are_seen_and_left_alone(self, valkey: Server, postgres: Server) -> None:
        environment = {"REDIS_URL": valkey.url, "DATABASE_URL": postgres.url}
        with LocalStack(APP / "template.yaml", environment=environment) as stack:
            client = Client(stack.url)
            parts = {part["name"]: part for part in client.request("GET", "/local/parts").json["parts"]}
            assert [parts[name]["ours"] for name in ("redis", "postgres", "worker")] == [False, False, True]
            assert {part["state"] for part in parts.values()} == {"running"}
            for name in ("redis", "postgres"):
                answer = change(client, name, "stopped")
                assert (answer.status, answer.headers["Content-Type"]) == (409, "application/problem+json")
            client.close()
        for server in (valkey, postgres):
            assert server.process.poll() is None

    def test_a_store_that_is_not_there_is_no_part(self, stack: LocalStack, client: Client) -> None:
        assert states(client) == {"worker": "running"}
        assert change(client, "redis", "stopped").status == 404


class TestWorker:
    def test_a_worker_is_killed_during_a_record_which_is_worked_on_again(
        self, whole: LocalStack, visitor: Client
    ) -> None:
        def send(**body: Any) -> str:
            name = uuid.uuid4().hex
            whole.sqs.send_message(QueueUrl=whole.queue_url("JobQueue"), MessageBody=json.dumps({"name": name, **body}))
            return name

        def seen(name: str) -> int:
            return whole.log_file.read_text().count(name)

        # Polls that end meanwhile receive records and return them. Each of these counts as a receive.
        policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:DeadLetterQueue", "maxReceiveCount": 10}
        more = {"VisibilityTimeout": "4", "RedrivePolicy": json.dumps(policy)}
        whole.sqs.set_queue_attributes(QueueUrl=whole.queue_url("JobQueue"), Attributes=more)
        before = send(sleep=2)
        eventually(lambda: seen(before))
        assert whole.environments("WorkerFunction")
        assert change(visitor, "worker", "stopped").status == 200
        assert whole.environments("WorkerFunction") == []
        meanwhile = send()
        eventually(lambda: states(visitor)["worker"] == "stopped")
        assert (seen(before), seen(meanwhile)) == (1, 0)
        assert change(visitor, "worker", "running").status == 200
        eventually(lambda: seen(before) == 2 and seen(meanwhile) == 1)


def test_whatever_is_stopped_when_the_host_ends_nothing_is_left() -> None:
    others = set(psutil.Process().children(recursive=True))
    with LocalStack(APP / "template.yaml", environment={}, concurrency=2) as running:
        if running.missing:
            pytest.skip("; ".join(running.missing))
        client = Client(running.url)
        change(client, "postgres", "stopped")
        change(client, "postgres", "running")
        change(client, "redis", "stopped")
        change(client, "worker", "stopped")
        client.close()
    assert set(psutil.Process().children(recursive=True)) <= others


# ── Who may ask ──────────────────────────────────────────────────────────────────────────────────


class Switch:
    """A part that keeps the requests to it."""

    ours = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    def state(self) -> Any:
        return "stopped" if self.asked[-1:] == ["stop"] else "running"

    def stop(self) -> None:
        self.asked.append("stop")

    def start(self) -> None:
        if self.broken:
            raise StoreStartError("exit code 1: no space left")
        self.asked.append("start")


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def parts(switch: Switch) -> Parts:
    parts = Parts()
    parts.add("redis", switch)
    return parts


OWN = {"Host": "127.0.0.1:3000", "Content-Type": "application/json"}
STOP = b'{"state": "stopped"}'


def put(
    outages: Outages, body: bytes = STOP, *more: tuple[str, str], path: str = "/local/parts/redis", **changes: Any
) -> Response:
    headers = {name: value for name, value in (OWN | changes.pop("headers", {})).items() if value is not None}
    return outages.handle(Request(changes.get("method", "PUT"), path, "", [*headers.items(), *more], body, "127.0.0.1"))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost:3000", "Origin": "http://localhost:3000"},
        {"Host": "[::1]:3000", "Origin": "http://[::1]:3000"},
        {"Content-Type": "application/json; charset=utf-8"},
    ],
)
def test_the_consoles_own_page_may(parts: Parts, switch: Switch, headers: dict[str, str]) -> None:
    assert put(Outages(parts, None), headers=headers).status == 200
    assert switch.asked == ["stop"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:5173"}, 403),
        ({"Origin": "https://127.0.0.1:3000"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=application/json"}, 415),
        ({"Content-Type": None}, 415),
    ],
    ids=str,
)
def test_no_other_page_may(parts: Parts, switch: Switch, headers: dict[str, str | None], status: int) -> None:
    answer = put(Outages(parts, None), headers=headers)
    assert answer.status == status
    assert switch.asked == []
    assert dict(answer.headers)["Content-Type"] == "application/problem+json"
    assert not any(name.lower().startswith("access-control") for name, _ in answer.headers)
    if status == HTTPStatus.FORBIDDEN:  # it may not read either
        get = put(Outages(parts, None), b"", path="/local/parts", method="GET", headers=headers)
        assert get.status == status


@pytest.mark.parametrize("header", [("Origin", "http://evil.example"), ("Content-Type", "text/plain")])
def test_a_second_header_is_no_way_around(parts: Parts, switch: Switch, header: tuple[str, str]) -> None:
    first = {"Origin": "http://127.0.0.1:3000"}
    assert put(Outages(parts, None), STOP, header, headers=first).status in (403, 415)
    assert switch.asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[]", b'"stopped"', b'{"state": "paused"}', b'{"state": ["stopped"]}', b'{"state": null}',
     b'{"state": "stopped", "force": true}', b"\xff", b"[" * 100_000],
)  # fmt: skip
def test_what_makes_no_sense_is_named(parts: Parts, switch: Switch, body: bytes) -> None:
    answer = put(Outages(parts, None), body)
    assert (answer.status, json.loads(answer.body)["field"], switch.asked) == (400, "state", [])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/local/parts/nothing"),
        ("PUT", "/local/parts/"),
        ("PUT", "/local/parts"),
        ("PUT", "/local/redis"),
        ("PUT", "/local/partsredis"),
        ("GET", "/local/parts/redis"),
        ("GET", "/local/"),
        ("DELETE", "/local/parts/redis"),
        ("POST", "/local/parts/redis"),
        ("OPTIONS", "/local/parts/redis"),
    ],
)
def test_other_methods_and_paths_are_404(parts: Parts, switch: Switch, method: str, path: str) -> None:
    assert put(Outages(parts, None), method=method, path=path).status == 404
    assert switch.asked == []


def test_what_is_not_ours_is_left_alone(parts: Parts, switch: Switch) -> None:
    switch.ours = False
    for state in ("stopped", "running"):
        assert put(Outages(parts, None), json.dumps({"state": state}).encode()).status == 409
    assert switch.asked == []


def test_what_can_not_be_started_says_why(parts: Parts, switch: Switch) -> None:
    switch.broken = True
    answer = put(Outages(parts, None), b'{"state": "running"}')
    assert (answer.status, json.loads(answer.body)["detail"]) == (500, "exit code 1: no space left")


def test_where_tokens_are_wanted_an_operators_is(parts: Parts, switch: Switch, issuer: Issuer) -> None:
    outages = Outages(parts, Authorizer(issuer))
    for token, kind in (
        (None, "UNAUTHORIZED"),
        ("rubbish", "UNAUTHORIZED"),
        (issuer.issue(["default"], ["admin"], expires=-60), "UNAUTHORIZED"),
        (issuer.issue(["default"], ["messages"]), "ACCESS_DENIED"),
    ):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        for method, path in (("PUT", "/local/parts/redis"), ("GET", "/local/parts")):
            with pytest.raises(RefusedError, match=kind):
                put(outages, headers=headers, method=method, path=path)
    assert switch.asked == []
    admin = {"Authorization": f"Bearer {issuer.issue(['default'], ['admin'])}"}
    assert put(outages, headers=admin).status == 200
    foreign = admin | {"Origin": "http://evil.example"}
    assert put(outages, headers=foreign).status == 403
    assert switch.asked == ["stop"]


def test_the_gateway_refuses_as_it_does_elsewhere(guarded: LocalStack) -> None:
    client = Client(guarded.url)
    assert client.request("GET", "/local/parts").status == 401
    assert change(client, "worker", "stopped").status == 401
    client.close()
    assert guarded.environments("WorkerFunction")


def test_the_functions_are_told_that_there_are_outages_to_try(client: Client) -> None:
    assert client.request("GET", "/echo/x").json["environment"]["LOCAL_OUTAGES"] == "true"
