"""The published description matches the service: it has the same routes, and describes each answer.

`Service.http` compares each answer of each test in this folder with it. Here the tests call each example event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from local.template import TemplateSource
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.drivers.postgres import Database
from message_handler.operations.raised import close, take
from openapi.document import as_text
from tests.contract.conversation import raised
from tests.published import DOCUMENT, assert_published, resolved, routes
from tests.unit.service import CANARY, EVENTS, KEY, Service, load_event
from tests.unit.test_danger import EMERGENCY

ROOT = Path(__file__).parents[2]
CALLS = sorted(file.stem for file in EVENTS.glob("*.json") if "httpMethod" in json.loads(file.read_text()))


JSON = {"Content-Type": "application/json", "X-Correlation-ID": "c"}
REVISION = '^"[0-9]{1,18}"$'
PROBLEM = {"Content-Type": "application/problem+json"}


def test_the_file_is_what_the_models_and_routes_say() -> None:
    assert (ROOT / "openapi.json").read_text(encoding="utf-8") == as_text(), "run make openapi"


def test_it_is_openapi_and_all_that_it_names_is_used() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    named = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        for name in components
        if kind != "securitySchemes"
    }
    assert named == set(references(DOCUMENT))


def references(value: Any) -> Iterator[str]:
    """Each `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def test_what_the_gateway_answers_by_itself_is_published_for_every_route() -> None:
    responses = TemplateSource(ROOT / "template.yaml").resolve({}, "http://127.0.0.1/").gateway_responses
    # No request of a published route leads to these. The gateway may answer the others before it asks a function.
    never = {"MISSING_AUTHENTICATION_TOKEN", "RESOURCE_NOT_FOUND", "UNSUPPORTED_MEDIA_TYPE"}
    for method, path in routes():
        known = operation(method, path)
        signed_in = {"UNAUTHORIZED"} if known["security"] else set()
        for kind in responses.keys() - never - ({"UNAUTHORIZED"} - signed_in):
            status, headers = responses[kind].status, responses[kind].headers
            (media_type, text), *_ = responses[kind].templates.items()
            assert_published(method, path, status or 0, {"Content-Type": media_type} | headers, json.loads(text))


def test_what_needs_a_token_says_so_and_lets_the_tenant_be_named() -> None:
    for method, path in routes():
        known = operation(method, path)
        names = {resolved(parameter)["name"] for parameter in known["parameters"]}
        assert bool(known["security"]) == ("401" in known["responses"]) == ("X-Platform-Id" in names), path


def test_what_has_a_revision_tells_it_and_lets_it_be_compared() -> None:
    record = {"/admin/bots/{bot_id}", "/admin/core-ai/{core_ai_id}", "/admin/platforms/{platform_id}", "/admin/safety"}
    for method, path in routes():
        known = operation(method, path)
        names = {resolved(parameter)["name"] for parameter in known["parameters"]}
        headers = [resolved(answer).get("headers", {}) for answer in known["responses"].values()]
        has_revision = any(
            resolved(each["ETag"])["schema"]["pattern"] == REVISION for each in headers if "ETag" in each
        )
        assert has_revision == (path in record and method in ("GET", "PUT")), path
        compares = path in record and method in ("PUT", "DELETE")
        assert ("If-Match" in names) == ("412" in known["responses"]) == compares, path


def test_every_route_has_an_example() -> None:
    called = {(event["httpMethod"], event["resource"]) for event in map(load_event, CALLS)}
    assert called == routes()


@pytest.fixture
def whole(configured: Service, database: Database) -> Iterator[Service]:
    """The functions over all that Postgres keeps, with erasures."""
    configured.use(retention=PostgresRetention(database))
    yield configured
    database.run(lambda connection: connection.run("delete from erasures"))


@pytest.mark.parametrize("name", CALLS)
def test_every_example_is_answered_as_it_says(whole: Service, name: str) -> None:
    """First without data, then while a message waits, then after its answer."""
    function = name.partition("-")[0]
    for example in ("admin-put-core-ai", "admin-put-bot", "admin-put-platform", "intake-post-message"):
        whole.http(function, whole.event(name))
        whole.http(example.partition("-")[0], whole.event(example))
    whole.http(function, whole.event(name))
    whole.deliver()
    whole.http(function, whole.event(name))


def test_an_export_is_answered_as_it_says_whatever_is_in_it(whole: Service, database: Database) -> None:
    """A record of each kind, with and without its optional fields."""
    kinds = set()

    def export() -> None:
        answer = whole.http("admin", whole.event("admin-export-conversation"))
        kinds.update(record["kind"] for record in answer.body["records"])

    whole.http("admin", whole.event("admin-put-platform"))
    before = [{"role": "user", "content": CANARY, "message_id": "m-0"}, {"role": "assistant", "content": CANARY}]
    named = {"role": "user", "content": CANARY, "message_id": "m-1"}
    for body in ({"messages": [*before, named], "resources": {"n": 1}}, {"history": f"<USER>{CANARY}</USER>"}):
        assert whole.post(body).status == 202
        export()
        whole.deliver()
        export()
    whole.post({"messages": [named | {"content": f"{CANARY} {EMERGENCY}", "message_id": "m-3"}]})
    whole.deliver()
    handoff = whole.event("intake-handoff", pathParameters={"conversation_id": KEY.conversation_id})
    assert whole.http("intake", handoff | {"body": '{"to": "human"}'}).body["status"] == "handed_off"
    whole.post({"messages": [*before, named | {"message_id": "m-2"}], "resources": {"n": 1}})
    whole.deliver()
    found = raised(key=KEY)
    PostgresArchive(database).note_raised(found)
    export()
    take(whole.parts.raised, KEY.platform_id, found.job_id, "user:1", now=time.time())
    close(whole.parts.raised, KEY.platform_id, found.job_id, "user:2", why="The nurse has called.", now=time.time())
    export()
    assert kinds == {"conversation", "turn", "job", "settled", "held", "delivery", "raised", "finding", "waiting"}


def test_a_notice_is_answered_as_it_says(whole: Service, database: Database) -> None:
    found = raised(key=KEY, notice=CANARY)
    PostgresArchive(database).note_raised(found)
    job = whole.http("status", whole.event("status-get-job", pathParameters={"job_id": found.job_id})).body
    assert (job["kind"], job["reply"]["content"], job["messages"]) == ("notice", CANARY, [])
    (listed,) = whole.http("admin", whole.event("admin-list-jobs", queryStringParameters=None)).body["jobs"]
    assert (listed["kind"], listed["job_id"]) == ("notice", found.job_id)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"status": 200}, "answers 200"),
        ({"headers": {"Content-Type": "text/plain"}}, "as text/plain"),
        ({"headers": {"Content-Type": "application/json"}}, "lacks its x-correlation-id"),
        ({"headers": JSON | {"ETag": '"1"'}}, "has a etag"),
        ({"status": 429, "headers": PROBLEM | {"Retry-After": "soon"}}, "retry-after does not match its"),
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
        "headers": answer.headers,
        "body": answer.body,
    }
    assert_published(**known)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=missing):
        assert_published(**(known | change))  # type: ignore[arg-type]
