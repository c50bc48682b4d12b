"""Whether `openapi.json` announces an answer of the API: its status, media type, headers and body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCUMENT = json.loads((Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8"))


def routes() -> set[tuple[str, str]]:
    """(method, path) of every published route."""
    return {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}


def route_of(method: str, path: str) -> str:
    """The published path that matches a request's path, or the path itself."""
    return next((known for verb, known in sorted(routes()) if verb == method and _pattern(known).fullmatch(path)), path)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{\w+}", "[^/]+", path))


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """The value itself, or the component that it refers to."""
    while "$ref" in value:
        found = DOCUMENT
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


#: If an answer has one of these headers, the description must name it.
_TOLD = {"etag", "retry-after", "www-authenticate", "x-correlation-id"}


@cache
def _response(method: str, path: str, status: int) -> dict[str, Any]:
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} answers {status}, which is not published"
    return resolved(responses[str(status)])


@cache
def _validator(method: str, path: str, status: int, media_type: str) -> Draft202012Validator:
    content = _response(method, path, status)["content"]
    assert media_type in content, f"{method} {path} answers {status} as {media_type}, which is not published"
    return Draft202012Validator(content[media_type]["schema"] | {"components": DOCUMENT["components"]})


def body_of(headers: Mapping[str, str], text: str) -> Any:
    """An answer's body: the JSON value, or the text of a file."""
    types = [value for name, value in headers.items() if name.lower() == "content-type"]
    return json.loads(text) if types and types[0].partition(";")[0].endswith("json") else text


def assert_published(method: str, path: str, status: int, headers: Mapping[str, str], body: Any) -> None:
    """Raises AssertionError, which names the difference. A path that is no route may only answer 404."""
    if (method, path) not in routes():
        assert status == 404, f"{method} {path} is not published"
        return
    sent = {name.lower(): value for name, value in headers.items()}
    if "content" not in _response(method, path, status):
        assert body == "", f"{method} {path} {status} has a body, which is not published"
        return
    validator = _validator(method, path, status, sent["content-type"].partition(";")[0])
    published = {name.lower(): resolved(it) for name, it in _response(method, path, status).get("headers", {}).items()}
    for name in sorted(_TOLD & (sent.keys() | published.keys())):
        assert name in published, f"{method} {path} {status} has a {name}, which is not published"
        assert name in sent or not published[name].get("required"), f"{method} {path} {status} lacks its {name}"
        if name in sent:
            assert Draft202012Validator(published[name]["schema"]).is_valid(sent[name]), (
                f"{name} does not match its published schema"
            )
    errors = list(validator.iter_errors(body))
    assert not errors, (
        f"{method} {path} {status}: {errors[0].json_path} {errors[0].validator}: {errors[0].message[:200]}"
    )
