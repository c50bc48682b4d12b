"""The gateway turns HTTP requests into REST proxy events and back, and gives some answers by itself."""

from __future__ import annotations

import base64
import json
import socket
import threading
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from local.gateway import Gateway
from local.pool import Pool
from local.proxy import GatewayResponses, Request, Router, build_event, translate
from local.runtime import Outcome
from local.stack import LocalStack
from local.template import GatewayResponse, Route, TemplateSource

from .conftest import Client

ROOT = Path(__file__).parents[2]

# ── Events ───────────────────────────────────────────────────────────────────────────────────────


def event_of(**parts: Any) -> dict[str, Any]:
    defaults = {"method": "GET", "path": "/x/y", "query": "", "headers": [], "body": b"", "source_ip": "127.0.0.1"}
    return build_event(Request(**{**defaults, **parts}), Route("GET", "/x/{y}", "F"), {"y": "y"}, "v1")


def test_the_event_has_all_that_a_rest_api_sends() -> None:
    event = event_of()
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/x/{y}", "/x/y", "GET")
    assert event["pathParameters"] == {"y": "y"}
    assert event["queryStringParameters"] is event["multiValueQueryStringParameters"] is None
    assert event["body"] is None
    assert event["isBase64Encoded"] is False
    context = event["requestContext"]
    assert (context["stage"], context["path"], context["resourcePath"]) == ("v1", "/v1/x/y", "/x/{y}")
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert {"requestId", "accountId", "apiId", "httpMethod"} <= set(context)


def test_repeated_headers_and_parameters_keep_all_values_and_the_last_one() -> None:
    event = event_of(query="a=1&a=%C3%A9&b=", headers=[("X", "1"), ("X", "2")])
    assert event["queryStringParameters"] == {"a": "é", "b": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "é"], "b": [""]}
    assert event["headers"] == {"X": "2"}
    assert event["multiValueHeaders"] == {"X": ["1", "2"]}


def test_a_body_that_is_not_utf8_comes_as_base64() -> None:
    assert event_of(body="é".encode())["body"] == "é"
    event = event_of(body=b"\xff\x00")
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == b"\xff\x00"


# ── Routes ───────────────────────────────────────────────────────────────────────────────────────

ROUTER = Router([Route("GET", "/a/{x}", "F"), Route("GET", "/a/b", "F"), Route("POST", "/a/{x}/c", "F")])


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/a/b", "/a/b", {}),
        ("GET", "/a/z", "/a/{x}", {"x": "z"}),
        ("GET", "/a/b%2Fc%20%C3%A9", "/a/{x}", {"x": "b/c é"}),
        ("GET", "/a/%00%0A", "/a/{x}", {"x": "\0\n"}),
        ("GET", "/a/%FF", "/a/{x}", {"x": "\N{REPLACEMENT CHARACTER}"}),
        ("POST", "/a/z/c", "/a/{x}/c", {"x": "z"}),
    ],
)
def test_a_route_is_found_with_decoded_parameters(
    method: str, path: str, route: str, parameters: dict[str, str]
) -> None:
    found = ROUTER.find(method, path)
    assert found is not None
    assert (found[0].path, found[1]) == (route, parameters)


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/b/", "/a//c", "/b/z", "/A/b", "//a/b"])
def test_other_paths_have_no_route(path: str) -> None:
    assert ROUTER.find("GET", path) is None


# ── Responses ────────────────────────────────────────────────────────────────────────────────────

RESPONSES = GatewayResponses({"DEFAULT_5XX": GatewayResponse(500, {"application/problem+json": "{}"})})


@pytest.mark.parametrize(
    "payload",
    [
        "null",
        '"text"',
        "[]",
        "{}",
        '{"statusCode": "?"}',
        '{"statusCode": 700}',
        '{"statusCode": 200, "body": 5}',
        '{"statusCode": 200, "headers": [1]}',
        '{"statusCode": 200, "body": "%", "isBase64Encoded": true}',
        "not json",
    ],
)
def test_a_malformed_result_is_a_gateway_failure(payload: str) -> None:
    assert translate(Outcome(payload.encode()), RESPONSES).status == 500


def test_headers_that_belong_to_the_connection_are_not_the_functions() -> None:
    result = {"statusCode": 200, "headers": {"Content-Length": "7", "X": True}, "body": "é"}
    response = translate(Outcome(json.dumps(result).encode()), RESPONSES)
    assert list(response.headers) == [("X", "true"), ("Content-Type", "application/json")]
    assert response.body == "é".encode()


def test_a_gateway_response_falls_back_to_the_default_of_its_class_and_then_to_aws() -> None:
    assert RESPONSES.response("INTEGRATION_TIMEOUT").status == 500
    unconfigured = GatewayResponses({}).response("MISSING_AUTHENTICATION_TOKEN")
    assert (unconfigured.status, json.loads(unconfigured.body)) == (403, {"message": "Forbidden"})


def test_each_answer_of_the_projects_gateway_carries_the_correlation_id() -> None:
    configured = TemplateSource(ROOT / "template.yaml").resolve({}, "").gateway_responses
    responses = GatewayResponses(configured)
    for kind in ("MISSING_AUTHENTICATION_TOKEN", "UNAUTHORIZED", "ACCESS_DENIED", "REQUEST_TOO_LARGE", "DEFAULT_4XX"):
        ids = {dict(responses.response(kind).headers)["X-Correlation-ID"] for _ in range(2)}
        assert len({uuid.UUID(id_) for id_ in ids}) == 2, kind
    failed = translate(Outcome.error("KeyError", "?"), responses, "of-the-event")
    assert dict(failed.headers)["X-Correlation-ID"] == "of-the-event"


def test_a_timeout_has_the_id_of_the_event_that_the_function_logs() -> None:
    class Stuck:
        def submit(self, event: bytes) -> Future[Outcome]:
            self.event = json.loads(event)
            return Future()

    stuck, template = Stuck(), TemplateSource(ROOT / "template.yaml").resolve({}, "")
    gateway = Gateway(template, {"StatusFunction": cast(Pool, stuck)}, integration_seconds=0.01)
    response = gateway.handle(Request("GET", "/jobs/x", "", [], b"", "127.0.0.1"))
    assert dict(response.headers)["X-Correlation-ID"] == stuck.event["requestContext"]["requestId"]


def test_a_function_that_takes_too_long_is_an_integration_timeout(app: Path) -> None:
    class Stuck:
        def __init__(self) -> None:
            self.outcome: Future[Outcome] = Future()

        def submit(self, event: bytes) -> Future[Outcome]:
            return self.outcome

    stuck = Stuck()
    template = TemplateSource(app / "template.yaml").resolve({}, "")
    gateway = Gateway(template, {"EchoFunction": cast(Pool, stuck)}, integration_seconds=0.01)
    response = gateway.handle(Request("GET", "/echo/x", "", [], b"", "127.0.0.1"))
    assert (response.status, response.body) == (504, b'{"status":504}')
    assert stuck.outcome.cancelled()  # it had not begun, and the gateway no longer waits


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────────────


def test_a_request_reaches_its_function_and_the_answer_comes_back(client: Client) -> None:
    answer = client.request("POST", "/echo/a%2Fb?q=1&q=%26", "é".encode(), X_Some="thing")
    assert answer.status == 200
    event = answer.json["event"]
    assert event["path"] == "/echo/a%2Fb"
    assert event["pathParameters"] == {"name": "a/b"}
    assert event["multiValueQueryStringParameters"] == {"q": ["1", "&"]}
    assert event["headers"]["X-Some"] == "thing"
    assert event["body"] == "é"
    assert event["requestContext"]["stage"] == "v1"
    assert answer.json["layer"] == "the layer"


def test_a_response_keeps_its_headers_and_its_bytes(client: Client) -> None:
    answer = client.request("GET", "/echo/x?headers=1")
    assert (answer.status, answer.body) == (201, b"hi")
    assert answer.headers["X-One"] == "1"
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_an_unknown_route_is_the_templates_gateway_response(client: Client, method: str) -> None:
    answer = client.request(method, "/nowhere")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body == (b"" if method == "HEAD" else b'{"status":404}')
    assert client.request("GET", "/echo/x").status == 200  # the connection still works


@pytest.mark.parametrize("query", ["raise=secret", "exit=1", "malformed=1", "sleep=10"])
def test_a_function_that_fails_crashes_or_times_out_is_a_default_5xx(client: Client, query: str) -> None:
    answer = client.request("GET", f"/echo/x?{query}")
    assert (answer.status, answer.body) == (500, b'{"status":500}')
    assert client.request("GET", "/echo/x").status == 200  # from a new environment


def test_a_body_over_10_mb_is_refused(client: Client, stack: LocalStack) -> None:
    answer = client.request("POST", "/echo/x", b"x" * (10 * 1024 * 1024 + 1))
    assert (answer.status, answer.headers["X-Limit"]) == (413, "10 MB")
    again = Client(stack.url)
    assert again.request("POST", "/echo/x", b"x" * (7 * 1024 * 1024)).status == 413  # more than Lambda takes
    assert again.request("POST", "/echo/x", b"x" * (256 * 1024)).status == 200
    again.close()


def test_a_chunked_body_is_put_together(client: Client) -> None:
    answer = client.request("POST", "/echo/x", iter([b"one ", b"two"]))
    assert answer.json["event"]["body"] == "one two"


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"BREW /echo/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_default_4xx_and_the_end_of_the_connection(stack: LocalStack, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(raw)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.endswith(b'{"status":400}')


FOREIGN = [
    ["evil.example"],
    ["127.0.0.1.evil.example:3000"],
    ["evil.example@127.0.0.1"],
    ["evil.example#@127.0.0.1"],
    ["[::1"],
    ["127.0.0.2"],
    ["0.0.0.0:3000"],
    [""],
    [],
    ["localhost", "evil.example"],
    ["evil.example", "localhost"],
]


@pytest.mark.parametrize("path", ["/echo/x", "/nowhere", "/local/parts", "http://localhost/echo/x"])
@pytest.mark.parametrize("hosts", FOREIGN, ids=str)
def test_only_requests_that_name_this_machine_are_answered(stack: LocalStack, path: str, hosts: list[str]) -> None:
    answer = raw_answer(int(stack.url.rsplit(":", 1)[1]), path, hosts)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b'"The header Host must name this machine: localhost, 127.0.0.1 or [::1]."}')


@pytest.mark.parametrize("host", ["localhost", "LocalHost:3000", "127.0.0.1:65535", "[::1]", "[::1]:3000"])
def test_each_name_of_this_machine_is_answered(stack: LocalStack, host: str) -> None:
    assert raw_answer(int(stack.url.rsplit(":", 1)[1]), "/echo/x", [host]).startswith(b"HTTP/1.1 200 ")


def test_the_body_of_a_refused_request_does_not_destroy_its_answer(stack: LocalStack) -> None:
    answer = raw_answer(int(stack.url.rsplit(":", 1)[1]), "/echo/x", ["evil.example"], b"x" * 8_000_000)
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_neither_the_queues_nor_the_functions_events_are_for_another_machines_page(
    stack: LocalStack, client: Client
) -> None:
    queues = int(stack.sqs.meta.endpoint_url.rsplit(":", 1)[1])
    assert raw_answer(queues, "/", ["evil.example"], b"{}").startswith(b"HTTP/1.1 403 ")
    environment = client.request("GET", "/echo/x").json["environment"]
    events = int(environment["AWS_LAMBDA_RUNTIME_API"].rsplit(":", 1)[1])
    assert raw_answer(events, "/2018-06-01/runtime/invocation/next", ["evil.example"]).startswith(b"HTTP/1.1 403 ")


def raw_answer(port: int, path: str, hosts: list[str], body: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1" if body else f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""]).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_sixty_requests_at_once_are_all_answered(stack: LocalStack) -> None:
    statuses: list[int] = []

    def ask() -> None:
        client = Client(stack.url)
        statuses.append(client.request("GET", "/echo/x?sleep=0.02").status)
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60
