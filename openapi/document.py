"""The OpenAPI document, made of the table of routes and of the models' own schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from message_handler.validation import IDENTIFIER_RULE
from openapi import requests
from openapi.answers import Problem
from openapi.routes import EXAMPLES, ROUTES, Route

Json = dict[str, Any]

_REF = "#/components/schemas/"
_DESCRIPTION = (
    "Between a chat platform and an AI: no message is lost, doubled or leaked. `202` means that the message will be"
    " answered; `GET /jobs/{job_id}` or a signed webhook tells the reply."
)
_CORRELATION = {
    "name": "X-Correlation-ID",
    "in": "header",
    "description": "Follows the request through logs, provider and webhook.",
    "schema": {"type": "string"},
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
#: The lengths and letters that identifiers have, in paths too.
_IDENTIFIER = {"type": "string", "pattern": "^[A-Za-z0-9._:@-]{1,255}$", "description": IDENTIFIER_RULE}
#: Titles repeat names, and the defaults of answers say only what may be missing.
_NOISE = frozenset({"title"})
_NOISE_OF_ANSWERS = _NOISE | {"default"}
_REQUESTS: list[type[BaseModel]] = [getattr(requests, name) for name in requests.__all__]


def written() -> str:
    """The document as its file has it."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def document() -> Json:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "MessageHandler", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "https://{host}/v1", "variables": {"host": {"default": "api.example.com"}}}],
        "security": [],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of the stack's user pool with the scope that the route names.",
                }
            },
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
        "summary": route.summary,
        "security": [{"token": [route.scope]}] if route.scope else [],
        "parameters": [*_path_parameters(route), *_query_parameters(route), _CORRELATION],
        "responses": {str(status): answer for status, answer in sorted(_answers(route).items())},
    }
    if route.body:
        schema = {"$ref": f"{_REF}{_named(route.body)}"}
        content = {"schema": schema} | ({"example": route.example} if route.example else {})
        operation["requestBody"] = {"required": route.body_required, "content": {"application/json": content}}
    return operation


def _operation_id(route: Route) -> str:
    return "_".join(re.findall(r"[a-z]+", f"{route.method} {route.path}".lower()))


def _links(route: Route) -> Json:
    """What may follow: by a job that the answer names, or by the path's own parameter."""
    links: Json = {}
    for method, path in (link.split(" ") for link in route.links):
        (to,) = [each for each in ROUTES if (each.method, each.path) == (method, path)]
        (name,) = re.findall(r"{(\w+)}", to.path)
        value = f"$request.path.{name}" if f"{{{name}}}" in route.path else f"$response.body#/ai_{name}"
        links[_operation_id(to)] = {"operationId": _operation_id(to), "parameters": {name: value}}
    return {"links": links} if links else {}


def _path_parameters(route: Route) -> list[Json]:
    names = re.findall(r"{(\w+)}", route.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": _IDENTIFIER, "example": EXAMPLES[name]}
        for name in names
    ]


def _query_parameters(route: Route) -> list[Json]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]


def _answers(route: Route) -> dict[int, Json]:
    """By status. One may be an answer in some cases and a problem in others: the media type tells them apart."""
    found: dict[int, Json] = {}
    for status, models in route.answers.items():
        refs = [{"$ref": f"{_REF}{model.__name__}"} for model in models]
        schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
        found[status] = _answer(status, "application/json", schema)
        if status < HTTPStatus.BAD_REQUEST:
            found[status] |= _links(route)
    for status in route.all_problems:
        problem = _answer(status, "application/problem+json", {"$ref": f"{_REF}{Problem.__name__}"})
        content = found.get(status, {}).get("content", {})
        found[status] = problem | {"content": content | problem["content"]}
    return found


def _answer(status: int, media_type: str, schema: Json) -> Json:
    retry = {"headers": _RETRY} if status == HTTPStatus.TOO_MANY_REQUESTS else {}
    return {"description": HTTPStatus(status).phrase, "content": {media_type: {"schema": schema}}} | retry


def _named(model: type[BaseModel]) -> str:
    """The name of a request's schema: answers have the plain one."""
    return model.__name__ if model.__name__.endswith("Request") else f"{model.__name__}Request"


def _schemas() -> Json:
    answers: list[type[BaseModel]] = [
        Problem,
        *(model for route in ROUTES for models in route.answers.values() for model in models),
    ]
    schemas: Json = {}
    # The metadata of records is in both, and the same: its models have no default but null.
    schemas |= _described(_REQUESTS, _named, _NOISE)
    schemas |= _described(list(dict.fromkeys(answers)), _plain_name, _NOISE_OF_ANSWERS)
    return dict(sorted(schemas.items()))


def _described(models: list[type[BaseModel]], name_of: Callable[[type[BaseModel]], str], noise: frozenset[str]) -> Json:
    own = {model.__name__: name_of(model) for model in models}
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=f"{_REF}{{model}}")
    return {own.get(name, name): _without(noise, schema) for name, schema in found["$defs"].items()}


def _plain_name(model: type[BaseModel]) -> str:
    return model.__name__


def _without(noise: frozenset[str], schema: Any, *, properties: bool = False) -> Any:
    if isinstance(schema, list):
        return [_without(noise, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without(noise, each, properties=name == "properties")
        for name, each in schema.items()
        if properties or name not in noise
    }
