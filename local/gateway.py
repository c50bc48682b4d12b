"""The front: HTTP on the developer's port. It answers as API Gateway does, without the stage in the path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any
from urllib.parse import urlsplit

from local.authorizer import Authorizer, RefusedError
from local.outages import PREFIX, Outages
from local.pool import Pool
from local.proxy import MAXIMUM_BODY, GatewayResponses, Request, Response, Router, build_event, translate
from local.server import Handler
from local.template import Route, Template

INTEGRATION_SECONDS = 29.0  # the longest that a REST API waits for a function


class Gateway:
    """Turns requests into invocations. The time limit is API Gateway's, including the wait for an environment.

    With an `authorizer`, it requires a token on the routes that require one in the template.
    """

    def __init__(
        self,
        template: Template,
        pools: Mapping[str, Pool],
        authorizer: Authorizer | None = None,
        integration_seconds: float = INTEGRATION_SECONDS,
        outages: Outages | None = None,
    ) -> None:
        self._router = Router(template.routes)
        self._responses = GatewayResponses(template.gateway_responses)
        self._stage = template.stage
        self._pools = pools
        self._authorizer = authorizer
        self._integration_seconds = integration_seconds
        self._outages = outages

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        if self._outages is not None and request.path.startswith(PREFIX):
            try:
                return self._outages.handle(request)
            except RefusedError as refused:
                return self.refuse(str(refused))
        found = self._router.find(request.method, request.path)
        if found is None:
            return self.refuse("MISSING_AUTHENTICATION_TOKEN")  # AWS's name for an unknown route
        route, parameters = found
        try:
            claims = self._claims(request, route)
        except RefusedError as refused:
            return self.refuse(str(refused))
        event = build_event(request, route, parameters, self._stage, claims)
        request_id = event["requestContext"]["requestId"]
        outcome = self._pools[route.function].submit(json.dumps(event).encode())
        try:
            return translate(outcome.result(self._integration_seconds), self._responses, request_id)
        except FutureTimeoutError:
            outcome.cancel()  # an invocation that still waits is dropped; a running one goes on
            return self.refuse("INTEGRATION_TIMEOUT", request_id)

    def _claims(self, request: Request, route: Route) -> dict[str, str] | None:
        if self._authorizer is None or route.scopes is None:
            return None
        headers = [value for name, value in request.headers if name.lower() == "authorization"]
        return self._authorizer.claims(headers[-1] if headers else None, route.scopes)

    def refuse(self, kind: str, request_id: str | None = None) -> Response:
        """The gateway's own answer of this type."""
        return self._responses.response(kind, request_id)


def front(gateway: Gateway) -> type[Handler]:
    """The connection class of a LoopbackServer that serves this gateway."""

    class Front(_Front):
        def __init__(self, *arguments: Any) -> None:
            self._gateway = gateway
            super().__init__(*arguments)

    return Front


class _UnreadableBodyError(Exception):
    """The body can't be read; the message is the type of gateway response."""


class _Front(Handler):
    timeout = 60  # seconds until an idle or stuck connection is closed
    _gateway: Gateway

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        if not path.startswith("/"):  # the absolute form, which proxies send
            path = urlsplit(path).path or "/"
        try:
            body = self._read_body()
        except _UnreadableBodyError as error:
            self.close_connection = True
            self._send(self._gateway.refuse(str(error)))
            self.drain()
            return
        source_ip = self.client_address[0]
        forwarded = [
            ("X-Forwarded-For", source_ip),
            ("X-Forwarded-Port", str(self.connection.getsockname()[1])),
            ("X-Forwarded-Proto", "http"),
        ]
        request = Request(self.command, path, query, [*self.headers.items(), *forwarded], body, source_ip)
        self._send(self._gateway.handle(request))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The standard library calls this for a request that is not HTTP."""
        self.close_connection = True
        self._send(self._gateway.refuse("DEFAULT_4XX"))

    def _send(self, response: Response) -> None:
        self.answer(response.status, response.body, response.headers)

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            raise _UnreadableBodyError("DEFAULT_4XX")
        if int(length) > MAXIMUM_BODY:
            raise _UnreadableBodyError("REQUEST_TOO_LARGE")
        return self._read_exactly(int(length))

    def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        total = 0
        while True:
            try:
                size = int(self.rfile.readline(100).split(b";")[0], 16)
            except ValueError:
                raise _UnreadableBodyError("DEFAULT_4XX") from None
            total += size
            if total > MAXIMUM_BODY:
                raise _UnreadableBodyError("REQUEST_TOO_LARGE")
            chunks.append(self._read_exactly(size))
            if size == 0:
                while self.rfile.readline(1000).strip():  # trailers
                    continue
                return b"".join(chunks)
            self.rfile.readline(10)

    def _read_exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError("the client closed the connection within its request")
        return data
