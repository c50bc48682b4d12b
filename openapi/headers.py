"""The headers that requests may and answers do carry."""

from __future__ import annotations

from openapi.route import Route
from openapi.schemas import IDENTIFIER, Json

_REF = "#/components/headers/"
_CORRELATION_ID = "Follows the request through logs, provider and webhook."
_REVISION = '"[0-9]{1,18}"'

#: Of requests.
PARAMETERS: Json = {
    "X-Correlation-ID": {
        "name": "X-Correlation-ID",
        "in": "header",
        "description": _CORRELATION_ID,
        "schema": {"type": "string"},
    },
    "X-Platform-Id": {
        "name": "X-Platform-Id",
        "in": "header",
        "description": "Which of the token's tenants is meant, where it holds several. Any other is `403`.",
        "schema": IDENTIFIER,
        "example": "default",
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "Only if the record is still as this `ETag` says, or with `*` if there is one: else `412`.",
        "schema": {"type": "string", "pattern": rf"^(\*|{_REVISION})$"},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "Only if there is no such record yet: else `412`. Not together with `If-Match`.",
        "schema": {"type": "string", "enum": ["*"]},
    },
}

#: Of answers.
HEADERS: Json = {
    "X-Correlation-ID": {
        "description": f"{_CORRELATION_ID} The request's own, or else the gateway's.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The record's revision, for `If-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{_REVISION}$"},
    },
    "FileETag": {
        "description": "Of the file's content, for `If-None-Match`: `304` while it is the same.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'},
    },
    "Retry-After": {
        "description": "Seconds.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    # The gateway's own 401 is without.
    "WWW-Authenticate": {"schema": {"type": "string", "enum": ["Bearer"]}},
}

_OF_PROBLEMS = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}


def parameters(route: Route) -> list[Json]:
    """Those that a route's requests may carry."""
    names = ["X-Correlation-ID"]
    names += ["X-Platform-Id"] if route.scope else []
    names += ["If-Match"] if route.compares_revision else []
    names += ["If-None-Match"] if route.compares_revision and route.method == "PUT" else []
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def of_answer(route: Route, *, may_be_problem: bool = False) -> Json:
    """Those that a route's good answers carry."""
    names = ["X-Correlation-ID", *(["ETag"] if route.tells_revision else [])]
    if may_be_problem:  # which has none of them
        return {name: HEADERS[name] | {"required": False} for name in names}
    of_file = {"ETag": {"$ref": f"{_REF}FileETag"}} if route.media_types else {}
    return {name: {"$ref": f"{_REF}{name}"} for name in names} | of_file


def of_problem(status: int) -> Json:
    """Those that a problem of this status carries."""
    return {name: {"$ref": f"{_REF}{name}"} for name in _OF_PROBLEMS.get(status, ())}
