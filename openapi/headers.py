"""The headers that requests may have and answers have."""

from __future__ import annotations

from openapi.route import Route
from openapi.schemas import IDENTIFIER, Json

_REF = "#/components/headers/"
_CORRELATION_ID = "Names the request in logs, at the provider and in the webhook."
_REVISION = '"[0-9]{1,18}"'

#: Headers of requests.
PARAMETERS: Json = {
    "X-Correlation-ID": {
        "name": "X-Correlation-ID",
        "in": "header",
        "description": f"{_CORRELATION_ID} An id is not used if it has more than 255 characters, or others than "
        "`A-Z a-z 0-9 . _ : @ -`.",
        "schema": {"type": "string"},
    },
    "X-Platform-Id": {
        "name": "X-Platform-Id",
        "in": "header",
        "description": "Selects a tenant if the token holds several. Any other tenant is `403`.",
        "schema": IDENTIFIER,
        "example": "default",
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "Write only if the record still has this `ETag`, or with `*` if it exists; else `412`.",
        "schema": {"type": "string", "pattern": rf"^(\*|{_REVISION})$"},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "`*`: write only if the record does not exist yet; else `412`. Not together with `If-Match`.",
        "schema": {"type": "string", "enum": ["*"]},
    },
}

#: Headers of answers.
HEADERS: Json = {
    "X-Correlation-ID": {
        "description": f"{_CORRELATION_ID} The id that the request sent, else one of the "
        "gateway. An answer of the gateway itself has the gateway's.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The record's revision, to send back in `If-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{_REVISION}$"},
    },
    "FileETag": {
        "description": "The version of the file. A request with it in `If-None-Match` gets `304` while it is the same.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    # Not required: the 401 of the gateway itself lacks it.
    "WWW-Authenticate": {
        "description": "The kind of token that is needed.",
        "schema": {"type": "string", "enum": ["Bearer"]},
    },
}

_OF_PROBLEMS = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}


def parameters(route: Route) -> list[Json]:
    """The headers that requests of a route may have."""
    names = ["X-Correlation-ID"]
    names += ["X-Platform-Id"] if route.scope else []
    names += ["If-Match"] if route.compares_revision else []
    names += ["If-None-Match"] if route.compares_revision and route.method == "PUT" else []
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def of_answer(route: Route, *, may_be_problem: bool = False) -> Json:
    """The headers of a route's answers that are no problems."""
    names = ["X-Correlation-ID", *(["ETag"] if route.sends_revision else [])]
    if may_be_problem:  # a problem has no revision
        return {name: HEADERS[name] | {"required": name == "X-Correlation-ID"} for name in names}
    may_wait = HEADERS["Retry-After"] | {"description": "Sent if too many clients wait already.", "required": False}
    of_wait = {"Retry-After": may_wait} if "wait" in route.query else {}
    of_file = {"ETag": {"$ref": f"{_REF}FileETag"}} if route.media_types else {}
    return {name: {"$ref": f"{_REF}{name}"} for name in names} | of_file | of_wait


def of_problem(status: int) -> Json:
    """The headers of a problem with this status."""
    return {name: {"$ref": f"{_REF}{name}"} for name in ("X-Correlation-ID", *_OF_PROBLEMS.get(status, ()))}
