"""The published description is what is served: no route too many, none missing, and no answer that it doesn't know.

`Service.http` holds every answer of every test in this folder against it; here it is every example event.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from local.template import TemplateSource
from openapi.document import written
from tests.published import DOCUMENT, assert_published, routes
from tests.unit.service import EVENTS, Service, load_event

ROOT = Path(__file__).parents[2]
CALLS = sorted(file.stem for file in EVENTS.glob("*.json") if "httpMethod" in json.loads(file.read_text()))


def test_the_file_is_what_the_models_and_routes_say() -> None:
    assert (ROOT / "openapi.json").read_text(encoding="utf-8") == written(), "make openapi writes it anew"


def test_its_schemas_are_schemas_and_all_of_them_are_used() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert {f"#/components/schemas/{name}" for name in schemas} == set(references(DOCUMENT))


def references(value: Any) -> Iterator[str]:
    """Each `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_route_of_the_template_is_published_and_no_other() -> None:
    source = TemplateSource(ROOT / "template.yaml")
    source.transform()
    deployed = source.resolve({}, "http://127.0.0.1/")
    assert routes() == {(route.method, route.path) for route in deployed.routes}


def test_every_route_of_the_functions_is_published_and_no_other(service: Service) -> None:
    served = {route for name in ("intake", "admin") for route in service.functions[name].ROUTES}
    assert routes() == served


def test_every_route_has_an_example() -> None:
    called = {(event["httpMethod"], event["resource"]) for event in map(load_event, CALLS)}
    assert called == routes()


@pytest.mark.parametrize("name", CALLS)
def test_every_example_is_answered_as_it_says(configured: Service, name: str) -> None:
    """Once before there is anything, and once when there is."""
    function = name.partition("-")[0]
    for example in ("admin-put-core-ai", "admin-put-bot", "admin-put-platform", "intake-post-message"):
        configured.http(function, configured.event(name))
        configured.http(example.partition("-")[0], configured.event(example))
    configured.deliver()
    configured.http(function, configured.event(name))


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"status": 200}, "answers 200"),
        ({"media_type": "text/plain"}, "as text/plain"),
        ({"body": {"success": True}}, "oneOf"),
        ({"path": "/nowhere"}, "/nowhere is not published"),
    ],
)
def test_an_answer_that_is_not_published_is_noticed(
    configured: Service, change: dict[str, object], missing: str
) -> None:
    answer = configured.post({"history": "<USER>Hi</USER>"})
    known: dict[str, object] = {
        "method": "POST",
        "path": "/conversations/{conversation_id}/messages",
        "status": answer.status,
        "media_type": "application/json",
        "body": answer.body,
    }
    assert_published(**known)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=missing):
        assert_published(**(known | change))  # type: ignore[arg-type]
