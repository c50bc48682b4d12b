"""Turns HTTP requests into REST proxy events (payload version 1.0) and results into responses, as API Gateway does.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
As with a REST API, `path` stays percent-encoded; `pathParameters` and the query are decoded.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.intrinsics import ACCOUNT
from local.runtime import Outcome
from local.template import REQUEST_ID, GatewayResponse, Route

MAXIMUM_BODY = 10 * 1024 * 1024  # bytes, the gateway's limit

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """An HTTP request. `path` and `query` are percent-encoded, as received."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    source_ip: str


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


class Router:
    """Finds the route of a request. A literal segment wins over a parameter, and no parameter is empty."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(route, route.path.strip("/").split("/")) for route in routes]
        self._routes.sort(key=lambda item: [segment.startswith("{") for segment in item[1]])

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and its decoded path parameters."""
        segments = path.removeprefix("/").split("/")
        for route, pattern in self._routes:
            parameters = _match(pattern, segments) if route.method == method else None
            if parameters is not None:
                return route, parameters
        return None


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    parameters = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{") and segment:
            parameters[expected[1:-1]] = unquote(segment, errors="replace")
        elif unquote(segment, errors="replace") != expected:
            return None
    return parameters


def build_event(
    request: Request, route: Route, parameters: Mapping[str, str], stage: str, claims: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The event of a request, with the `claims` of its verified token.

    A body that is not UTF-8 is sent as base64, so that the function can refuse it.
    """
    query = parse_qsl(request.query, keep_blank_values=True, errors="replace")
    try:
        body, encoded = request.body.decode() or None, False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(request.body).decode(), True
    now = time.time()
    return {
        "resource": route.path,
        "path": request.path,
        "httpMethod": request.method,
        "headers": dict(request.headers),
        "multiValueHeaders": _grouped(request.headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _grouped(query) or None,
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": "127.0.0.1",
            "domainPrefix": "127",
            "extendedRequestId": uuid.uuid4().hex[:16],
            "httpMethod": request.method,
            "identity": {"sourceIp": request.source_ip, "userAgent": dict(request.headers).get("User-Agent")},
            "path": f"/{stage}{request.path}",
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "local",
            "resourcePath": route.path,
            "stage": stage,
            **({} if claims is None else {"authorizer": {"claims": dict(claims)}}),
        },
        "body": body,
        "isBase64Encoded": encoded,
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return groups


def translate(outcome: Outcome, gateway: GatewayResponses, request_id: str | None = None) -> Response:
    """A function's result as an HTTP response. A failed function or a malformed result is a DEFAULT_5XX."""
    if outcome.failed:
        too_large = b'"RequestEntityTooLarge"' in outcome.payload[:64]
        return gateway.response("REQUEST_TOO_LARGE" if too_large else "DEFAULT_5XX", request_id)
    try:
        result = json.loads(outcome.payload)
        headers = [(str(name), _header_value(value)) for name, value in (result.get("headers") or {}).items()]
        for name, values in (result.get("multiValueHeaders") or {}).items():
            headers = [header for header in headers if header[0].lower() != name.lower()]
            headers += [(str(name), _header_value(value)) for value in values]
        text = result.get("body") or ""
        body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
        status = int(result["statusCode"])
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        return gateway.response("DEFAULT_5XX", request_id)
    if not 100 <= status <= 599:
        return gateway.response("DEFAULT_5XX", request_id)
    headers = [header for header in headers if header[0].lower() not in _CONNECTION_HEADERS]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    return Response(status, headers, body)


_CONNECTION_HEADERS = {"connection", "content-length", "date", "keep-alive", "transfer-encoding"}


def _header_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# AWS's defaults: https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
_STATUS = {
    "MISSING_AUTHENTICATION_TOKEN": HTTPStatus.FORBIDDEN,
    "UNAUTHORIZED": HTTPStatus.UNAUTHORIZED,
    "ACCESS_DENIED": HTTPStatus.FORBIDDEN,
    "REQUEST_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "INTEGRATION_FAILURE": HTTPStatus.GATEWAY_TIMEOUT,
    "INTEGRATION_TIMEOUT": HTTPStatus.GATEWAY_TIMEOUT,
    "DEFAULT_4XX": HTTPStatus.BAD_REQUEST,
    "DEFAULT_5XX": HTTPStatus.BAD_GATEWAY,
}


class GatewayResponses:
    """The gateway's own answers: the template's, else AWS's defaults."""

    def __init__(self, configured: Mapping[str, GatewayResponse]) -> None:
        self._configured = configured

    def response(self, kind: str, request_id: str | None = None) -> Response:
        """The response of a gateway response type, such as INTEGRATION_TIMEOUT.

        `request_id`: the id that the request's event has; None if there is no event.
        """
        default = "DEFAULT_5XX" if _STATUS[kind] >= HTTPStatus.INTERNAL_SERVER_ERROR else "DEFAULT_4XX"
        found = self._configured.get(kind) or self._configured.get(default) or GatewayResponse(None, {})
        status = found.status or _STATUS[kind]
        message = {"message": HTTPStatus(status).phrase}
        templates = found.templates or {"application/json": json.dumps(message)}
        content_type, text = next(iter(templates.items()))
        request_id = request_id or str(uuid.uuid4())
        headers = [(name, request_id if value == REQUEST_ID else value) for name, value in found.headers.items()]
        return Response(status, [("Content-Type", content_type), *headers], text.encode())
