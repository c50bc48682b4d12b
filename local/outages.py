"""`/local/parts`: what the console's buttons ask this host for. It exists here alone, and in no template.

    GET /local/parts            {"parts": [{"name": "redis", "state": "running", "ours": true}, …]}
    PUT /local/parts/{name}     {"state": "stopped"} or {"state": "running"}; answers with that part when it is done

Any page in the developer's browser can send requests to this machine. So only the console's own are served: a foreign
origin is refused, and a host that isn't this machine (a name that somebody has pointed here), and whatever a form could
send.
"""

from __future__ import annotations

import json
import re
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
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
#: The page's own requests, and an address that somebody typed.
_OWN_SITES = {"same-origin", "none"}
_STATES = ("running", "stopped")


class _ProblemError(Exception):
    """What is answered; the message is the detail."""

    def __init__(self, status: HTTPStatus, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field


class Outages:
    """Serves what is below `/local/`. With an `authorizer`, operators alone."""

    def __init__(self, parts: Parts, authorizer: Authorizer | None) -> None:
        self._parts = parts
        self._authorizer = authorizer

    def handle(self, request: Request) -> Response:
        """Answer one request. Raises RefusedError where a token is wanted."""
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
                raise _ProblemError(HTTPStatus.CONFLICT, "This host did not start it, and leaves it alone.")
        except HostError as error:
            raise _ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
        return self._parts.show(name)


def _check_origin(request: Request) -> None:
    hosts = _values(request, "host")
    if not hosts or any(not _LOOPBACK.fullmatch(host) for host in hosts):
        raise _ProblemError(HTTPStatus.FORBIDDEN, "This is for this machine alone.")
    foreign = [origin for origin in _values(request, "origin") if origin not in {f"http://{host}" for host in hosts}]
    if foreign or set(_values(request, "sec-fetch-site")) - _OWN_SITES:
        raise _ProblemError(HTTPStatus.FORBIDDEN, "This is for the console's own page alone.")


def _wanted(request: Request) -> Any:
    """The state that a PUT asks for."""
    # A form can't say so, and another page's script would have to ask first (CORS), which nobody answers.
    if [value.partition(";")[0].strip().lower() for value in _values(request, "content-type")] != ["application/json"]:
        raise _ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This takes application/json.")
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
