"""The OpenAPI document, made of the table of routes and the models' schemas."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from message_handler.intake.requests import MESSAGE_ID, MESSAGE_ID_RULE
from openapi import headers
from openapi.answers import Problem
from openapi.route import Route, Scope
from openapi.routes import ROUTES
from openapi.schemas import CONVERSATION_ID, FILE_NAME, IDENTIFIER, REF, Json, answer_name, request_name, schemas

#: Examples of the path parameters, by name.
EXAMPLES = {
    "conversation_id": "conv_123",
    "message_id": "m-1",
    "job_id": "361f1a3a-0dbe-8854-9d6e-3cf972894b32",
    "bot_id": "pharmacy",
    "core_ai_id": "trial",
    "platform_id": "default",
    "file": "app.js",
}
#: Those of path parameters that are no identifiers of ours, by name.
_SCHEMAS = {
    "conversation_id": CONVERSATION_ID,
    "message_id": {"type": "string", "pattern": MESSAGE_ID, "description": MESSAGE_ID_RULE},
    "file": FILE_NAME,
}
ROOT = Path(__file__).parents[1]
#: The package's version; the API, the library and the template share it.
VERSION: str = tomllib.loads((ROOT / "layers/message_handler/pyproject.toml").read_text())["project"]["version"]
_DESCRIPTION = (
    "Stands between a chat platform and an AI, and loses, doubles or leaks no message. After a `202` the message ends"
    " answered, visibly failed or cancelled. Read the reply with `GET /jobs/{job_id}`, or receive it by a signed"
    " webhook."
)
#: The repository has no licence file: all rights are reserved. SPDX calls an own licence `LicenseRef-…`.
_LICENCE = {"name": "All rights reserved", "identifier": "LicenseRef-All-rights-reserved"}
_CONTACT = "The maintainers, through the repository (vulnerabilities: privately, as SECURITY.md describes)"


@dataclass(frozen=True)
class Audience:
    """The callers that a scope is for: the tag of its routes."""

    name: str
    description: str


AUDIENCES: dict[Scope, Audience] = {
    "messages": Audience(
        "Platforms",
        "For a chat platform's server: hand in patients' messages and read the answers."
        " The token needs the scope `message-handler/messages`.",
    ),
    "admin": Audience(
        "Operators",
        "For the people who run the service: state, locks, jobs, configuration, and a patient's data."
        " The token needs the scope `message-handler/admin`.",
    ),
    None: Audience("Public", "Open without a token: whether the service is up, and the files of the operators' page."),
}
_SCOPES = {
    "message-handler/messages": "Hand in messages and read the answers",
    "message-handler/admin": "Operate the service and change its configuration",
}
_SIGN_IN = "https://example.auth.eu-central-1.amazoncognito.com/oauth2"
#: The addresses are examples: OpenAPI allows variables in `servers` only.
_TOKEN: Json = {
    "type": "oauth2",
    "description": (
        "An access token (a JWT) of the stack's Cognito user pool, sent as `Authorization: Bearer …`. The stack's"
        " outputs `TokenUrl` and `SignInUrl` name the addresses that issue it. A platform's server uses client"
        " credentials and also asks for the scope of its tenant, `tenant/{platform_id}`. A person uses an authorization"
        " code with PKCE and is in the group of that name. If a token holds several tenants, the header `X-Platform-Id`"
        " selects one. For another tenant's data the answer is `404`."
    ),
    "flows": {
        "clientCredentials": {"tokenUrl": f"{_SIGN_IN}/token", "scopes": _SCOPES},
        "authorizationCode": {
            "authorizationUrl": f"{_SIGN_IN}/authorize",
            "tokenUrl": f"{_SIGN_IN}/token",
            "scopes": _SCOPES,
        },
    },
}


def as_text() -> str:
    """The document as its file holds it."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def document() -> Json:
    """The document."""
    answers = [model for route in ROUTES for models in route.answers.values() for model in models]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MessageHandler",
            "version": VERSION,
            "description": _DESCRIPTION,
            "contact": {"name": _CONTACT},
            "license": _LICENCE,
        },
        "servers": [{"url": "https://{host}/v1", "variables": {"host": {"default": "api.example.com"}}}],
        "tags": [{"name": each.name, "description": each.description} for each in AUDIENCES.values()],
        "security": [],
        "paths": _paths(),
        "components": {
            "schemas": schemas([Problem, *answers]),
            "responses": _problems(),
            "parameters": headers.PARAMETERS,
            "headers": headers.HEADERS,
            "securitySchemes": {"token": _TOKEN},
        },
    }


def _paths() -> Json:
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return paths


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": _operation_id(route),
        "tags": [AUDIENCES[route.scope].name],
        "summary": route.summary,
        "description": route.description,
        "security": [{"token": [f"message-handler/{route.scope}"]}] if route.scope else [],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *headers.parameters(route)],
        "responses": {str(status): answer for status, answer in sorted(_answers(route).items())},
    }
    if route.body:
        schema = {"$ref": f"{REF}{request_name(route.body)}"}
        content = {"schema": schema} | ({"example": route.example} if route.example else {})
        operation["requestBody"] = {"required": route.body_required, "content": {"application/json": content}}
    return operation


def _operation_id(route: Route) -> str:
    return "_".join(re.findall(r"[a-z]+", f"{route.method} {route.path}".lower()))


def _links(route: Route) -> Json:
    """The operations that may follow, for the job that the answer names or for the path's own parameter."""
    links: Json = {}
    for method, path in (link.split(" ") for link in route.links):
        (to,) = [each for each in ROUTES if (each.method, each.path) == (method, path)]
        (name,) = re.findall(r"{(\w+)}", to.path)
        value = f"$request.path.{name}" if f"{{{name}}}" in route.path else f"$response.body#/ai_{name}"
        parameters = {name: value}
        if route.sends_revision and to.compares_revision:
            parameters["If-Match"] = "$response.header.ETag"
        links[_operation_id(to)] = {"operationId": _operation_id(to), "parameters": parameters}
    return {"links": links} if links else {}


def _path_parameters(route: Route) -> list[Json]:
    names = re.findall(r"{(\w+)}", route.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "example": EXAMPLES[name]}
        for name in names
        for schema in [_SCHEMAS.get(name, IDENTIFIER)]
    ]


def _query_parameters(route: Route) -> list[Json]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]


def _answers(route: Route) -> dict[int, Json]:
    """The answers by status. If a status may be an answer or a problem, the media type says which of them it is."""
    found: dict[int, Json] = {status: {"$ref": f"#/components/responses/{status}"} for status in route.all_problems}
    for status, models in route.answers.items():
        refs = [{"$ref": f"{REF}{answer_name(model)}"} for model in models]
        content = {"application/json": {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}}
        if status == HTTPStatus.OK:
            content |= {media_type: {"schema": {"type": "string"}} for media_type in route.also}
        if status in found:
            found[status] = _answer(status, content | _PROBLEM, headers.of_answer(route, may_be_problem=True))
        else:
            links = _links(route) if status < HTTPStatus.BAD_REQUEST else {}
            found[status] = _answer(status, content, headers.of_answer(route)) | links
    if route.media_types:
        file = {media_type: {"schema": {"type": "string"}} for media_type in route.media_types}
        found[200] = _answer(HTTPStatus.OK, file, headers.of_answer(route))
        found[304] = _answer(HTTPStatus.NOT_MODIFIED, {}, headers.of_answer(route))
    return found


_PROBLEM: Json = {"application/problem+json": {"schema": {"$ref": f"{REF}{answer_name(Problem)}"}}}


def _problems() -> Json:
    """The problems that routes share, by status."""
    statuses = {status for route in ROUTES for status in set(route.all_problems) - set(route.answers)}
    return {str(status): _answer(status, _PROBLEM, headers.of_problem(status)) for status in sorted(statuses)}


def _answer(status: int, content: Json, headers: Json) -> Json:
    # Python 3.12 has an older phrase for 413 than 3.13.
    phrase = "Content Too Large" if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else HTTPStatus(status).phrase
    return (
        {"description": phrase} | ({"headers": headers} if headers else {}) | ({"content": content} if content else {})
    )
