"""The document's schemas: those of the models, without entries that repeat what is already known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from message_handler.domain import identifiers
from openapi import requests

Json = dict[str, Any]
Model = type[BaseModel]

REF = "#/components/schemas/"
#: An identifier in a path or a header.
IDENTIFIER: dict[str, object] = {
    "type": "string",
    "pattern": f"^{identifiers.IDENTIFIER}$",
    "description": identifiers.IDENTIFIER_RULE,
}
#: A conversation's id in a path or a query.
CONVERSATION_ID: dict[str, object] = {
    "type": "string",
    "pattern": f"^{identifiers.CONVERSATION_ID}$",
    "description": identifiers.CONVERSATION_ID_RULE,
}
FILE_NAME: dict[str, object] = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]*\.[a-z]+$"}
#: A title repeats a name. A default of an answer only marks a field that may be missing, as does null anywhere.
_NOISE = frozenset({"title"})
_NOISE_OF_ANSWERS = _NOISE | {"default"}
_REQUESTS: list[Model] = [getattr(requests, name) for name in requests.__all__]


def schemas(answers: Iterable[Model]) -> Json:
    """The schemas of all requests and of these answers, by name."""
    found: Json = {}
    # Requests and answers share the metadata of records. It has no default but null, so both schemas are equal.
    found |= _described(_REQUESTS, request_name, _NOISE)
    found |= _described(list(dict.fromkeys(answers)), answer_name, _NOISE_OF_ANSWERS)
    return dict(sorted(found.items()))


def request_name(model: Model) -> str:
    """The name of a request's schema. It ends with `Request`, because an answer may have the same name without it."""
    return model.__name__ if model.__name__.endswith("Request") else f"{model.__name__}Request"


def answer_name(model: Model) -> str:
    """The name of an answer's schema."""
    return model.__name__


def _described(models: list[Model], name_of: Callable[[Model], str], noise: frozenset[str]) -> Json:
    own = {model.__name__: name_of(model) for model in models}
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=f"{REF}{{model}}")
    return {own.get(name, name): _without(noise, schema) for name, schema in found["$defs"].items()}


def _without(noise: frozenset[str], schema: Any, *, properties: bool = False) -> Any:
    if isinstance(schema, list):
        return [_without(noise, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without(noise, each, properties=name == "properties")
        for name, each in schema.items()
        if properties or not (name in noise or (name == "default" and each is None))
    }
