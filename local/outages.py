"""`/local/parts`: the routes behind the console's buttons. Only this host has them, and no template.

    GET /local/parts            {"parts": [{"name": "redis", "state": "running", "ours": true}, …]}
    PUT /local/parts/{name}     {"state": "stopped"} or {"state": "running"}; answers with that part afterwards

Any page in the developer's browser can send requests to this machine. So the host serves only requests of the console.
It refuses a foreign origin, and anything that a form can send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from local.authorizer import Authorizer
from local.errors import HostError
from local.parts import Parts
from local.proxy import Request, Response

PREFIX = "/local/"
_PARTS = "/local/parts"
_SCOPES = ("message-handler/admin",)
#: `same-origin`: the page's own requests. `none`: an address that was typed.
_OWN_SITES = {"same-origin", "none"}
_STATES = ("running", "stopped")


class _ProblemError(Exception):
    """The answer is a problem; the message is its detail."""

    def __init__(self, status: HTTPStatus, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field


class Outages:
    """Serves the routes below `/local/`. With an `authorizer`, only operators may use them."""

    def __init__(self, parts: Parts, authorizer: Authorizer | None) -> None:
        self._parts = parts
        self._authorizer = authorizer

    def handle(self, request: Request) -> Response:
        """Answer one request. Raises RefusedError if its token is missing or not valid."""
        try:
            _check_origin(request)
            if self._authorizer is not None:
                tokens = _values(request, "authorization")
                self._authorizer.claims(tokens[-1] if tokens else None, _SCOPES)
            return _json(HTTPStatus.OK, self._answer(request))
        except _ProblemError as problem:
            body = {"type": "about:blank", "title": problem.status.phrase, "status": problem.status.value}
            body |= {"detail": str(problem)} | ({"field": problem.field} if problem.field else {})
            return _json(problem.status, body, "application/problem+json")

    def _answer(self, request: Request) -> dict[str, object]:
        name = unquote(request.path.removeprefix(_PARTS).removeprefix("/"))
        if request.method == "GET" and request.path == _PARTS:
            return {"parts": self._parts.all()}
        if request.method != "PUT" or not request.path.startswith(f"{_PARTS}/") or name not in self._parts:
            raise _ProblemError(HTTPStatus.NOT_FOUND, "There is no such route or part.")
        state = _wanted(request)
        try:
            if not self._parts.change(name, state):
                raise _ProblemError(HTTPStatus.CONFLICT, "This host did not start it, so it does not stop it.")
        except HostError as error:
            raise _ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
        return self._parts.show(name)


def _check_origin(request: Request) -> None:
    own = {f"http://{host}" for host in _values(request, "host")}
    foreign = [origin for origin in _values(request, "origin") if origin not in own]
    if foreign or set(_values(request, "sec-fetch-site")) - _OWN_SITES:
        raise _ProblemError(HTTPStatus.FORBIDDEN, "Only the console may use this route.")


def _wanted(request: Request) -> Any:
    """The state that a PUT asks for."""
    # A form can't send JSON. Another page's script would have to ask first (CORS), and gets no permission.
    if [value.partition(";")[0].strip().lower() for value in _values(request, "content-type")] != ["application/json"]:
        raise _ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This route accepts application/json only.")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or set(body) != {"state"} or body["state"] not in _STATES:
        raise _ProblemError(HTTPStatus.BAD_REQUEST, f"must be one of {', '.join(_STATES)}, and the only field", "state")
    return body["state"]


def _values(request: Request, name: str) -> list[str]:
    return [value for given, value in request.headers if given.lower() == name]


def _json(status: HTTPStatus, body: Mapping[str, object], media_type: str = "application/json") -> Response:
    headers = [("Content-Type", media_type), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
    return Response(status, headers, json.dumps(body).encode())
