"""Whether an answer of the API is one that `openapi.json` announces: its status, its media type and its body."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCUMENT = json.loads((Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8"))


def routes() -> set[tuple[str, str]]:
    """(method, path) of every route that is published."""
    return {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}


def route_of(method: str, path: str) -> str:
    """The published path that a request's path is one of, or the path itself."""
    return next((known for verb, known in sorted(routes()) if verb == method and _pattern(known).fullmatch(path)), path)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{\w+}", "[^/]+", path))


@cache
def _validator(method: str, path: str, status: int, media_type: str) -> Draft202012Validator:
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} answers {status}, which is not published"
    content = responses[str(status)]["content"]
    assert media_type in content, f"{method} {path} answers {status} as {media_type}, which is not published"
    return Draft202012Validator(content[media_type]["schema"] | {"components": DOCUMENT["components"]})


def assert_published(method: str, path: str, status: int, media_type: str, body: Any) -> None:
    """Raises AssertionError that names what differs. A route that isn't there may answer 404 alone."""
    if (method, path) not in routes():
        assert status == 404, f"{method} {path} is not published"
        return
    errors = list(_validator(method, path, status, media_type.partition(";")[0]).iter_errors(body))
    assert not errors, (
        f"{method} {path} {status}: {errors[0].json_path} {errors[0].validator}: {errors[0].message[:200]}"
    )
