"""The admin function's routes for bots, AI cores and platforms."""

import base64
import json
from typing import Any

import pytest

from message_handler.drivers.egress import Egress
from tests.unit.service import (
    CANARY,
    NOUNS,
    Answer,
    Service,
    load_event,
)

COLLECTIONS = ("bots", "core_ai", "platforms")
BOT_RECORD = {"bot_id", "platform_id", "name", "description", "language", "is_active", "core_ai_id", "meta_data"}
CORE_AI_RECORD = {
    "core_ai_id",
    "name",
    "api_endpoint",
    "auth_required",
    "auth_token",
    "timeout_seconds",
    "meta_data",
}
PLATFORM_RECORD = {"platform_id", "name", "description", "base_url", "auth_required", "meta_data"}


def put(service: Service, name: str, **changes: Any) -> Answer:
    """Put an event's record with some fields changed."""
    event = service.event(name)
    return service.http("admin", event | {"body": json.dumps(json.loads(event["body"]) | changes)})


def test_records_are_created_shown_and_deleted(configured: Service) -> None:
    answers = {noun: configured.http("admin", configured.event(f"admin-put-{noun}")) for noun in ("core-ai", *NOUNS)}
    assert [answers[noun].status for noun in NOUNS] == [201, 200, 200]  # the platform and the AI core exist already
    for noun, shape in zip(NOUNS, (BOT_RECORD, CORE_AI_RECORD, PLATFORM_RECORD), strict=True):
        assert set(answers[noun].body) == shape
        shown = configured.http("admin", configured.event(f"admin-get-{noun}"))
        assert (shown.status, shown.body) == (200, answers[noun].body)
        sent = json.loads(load_event(f"admin-put-{noun}")["body"])
        secret = ("auth_token", "meta_data")
        assert {k: v for k, v in shown.body.items() if k in sent and k not in secret} == {
            k: v for k, v in sent.items() if k not in secret
        }
    assert answers["bot"].body["meta_data"] == json.loads(load_event("admin-put-bot")["body"])["meta_data"]
    for noun, collection, key in zip(NOUNS, ("bots", "core-ai", "platforms"), COLLECTIONS, strict=True):
        listed = configured.http("admin", configured.event(f"admin-list-{collection}"))
        assert (listed.status, listed.body) == (200, {key: [answers[noun].body]})
    for noun in ("bot", "core-ai"):
        deleted = configured.http("admin", configured.event(f"admin-delete-{noun}"))
        assert (deleted.status, deleted.body) == (200, {"deleted": True})
        assert configured.http("admin", configured.event(f"admin-delete-{noun}")).status == 404
        assert configured.http("admin", configured.event(f"admin-get-{noun}")).status == 404


def test_a_bot_answers_as_it_was_configured(configured: Service) -> None:
    assert configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"}).status == 404
    configured.http("admin", configured.event("admin-put-core-ai"))
    configured.http("admin", configured.event("admin-put-bot"))
    answer = configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"})
    assert (answer.status, answer.body["bot_name"]) == (202, "Pharmacy Assistant")
    put(configured, "admin-put-bot", is_active=False)
    assert configured.post({"history": f"<USER>{CANARY}</USER>", "bot_id": "pharmacy"}).status == 409


def test_secrets_are_never_shown(configured: Service) -> None:
    """At its end the `output` fixture checks that no log and no error has them."""
    secret = "whsec_" + base64.b64encode(CANARY.encode() * 4).decode()
    configured.output.private |= {secret}
    meta_data = {"webhook_secrets": [secret]}
    first = [
        put(configured, "admin-put-core-ai", auth_token=f"sk-{CANARY}"),
        put(configured, "admin-put-platform", meta_data=meta_data),
    ]
    assert first[0].body["auth_token"] == "***"
    assert first[1].body["meta_data"]["webhook_secrets"] == ["***"]
    shown = [configured.http("admin", configured.event(f"admin-get-{noun}")) for noun in NOUNS[1:]]
    listed = [configured.http("admin", configured.event(f"admin-list-{name}")) for name in ("core-ai", "platforms")]
    refused = [
        put(configured, "admin-put-core-ai", auth_token=f"sk {CANARY}"),
        put(configured, "admin-put-core-ai", api_endpoint=f"https://{CANARY}.example"),
        put(configured, "admin-put-platform", meta_data={"webhook_secrets": [CANARY]}),
        put(configured, "admin-put-platform", base_url=f"http://{CANARY}"),
    ]
    assert [answer.status for answer in refused] == [400] * 4
    for answer in [*first, *shown, *listed]:
        configured.output.assert_private(json.dumps(answer.body))


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("admin-put-bot", {"meta_data": {"debounce_ms": CANARY}}, "meta_data.debounce_ms"),
        ("admin-put-bot", {"meta_data": {"colour": CANARY}}, "meta_data.colour"),
        ("admin-put-bot", {"core_ai_id": CANARY}, "core_ai_id"),
        ("admin-put-core-ai", {"api_endpoint": f"http://api.ai.example/{CANARY}"}, "api_endpoint"),
        ("admin-put-core-ai", {"api_endpoint": "https://127.0.0.1/"}, "api_endpoint"),
        ("admin-put-core-ai", {"api_endpoint": f"https://me:{CANARY}@api.ai.example/"}, "api_endpoint"),
        ("admin-put-core-ai", {"api_endpoint": f"https://api.ai.example.{CANARY}.example"}, "api_endpoint"),
        ("admin-put-platform", {"base_url": f"https://{CANARY}.example"}, "base_url"),
        ("admin-put-platform", {"base_url": "http://chat.clinic.example"}, "base_url"),
        ("admin-put-platform", {"base_url": "simulated://chat"}, "base_url"),
        ("admin-put-platform", {"base_url": "bedrock://chat"}, "base_url"),
        ("admin-put-core-ai", {"api_endpoint": f"https://ai.clinic.example/v1?key={CANARY}"}, "api_endpoint"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name_and_nothing_is_stored(
    configured: Service, name: str, changes: dict[str, Any], field: str
) -> None:
    event = configured.event(name.replace("put", "get"))
    before = configured.http("admin", event)
    answer = put(configured, name, **changes)
    assert (answer.status, answer.body["field"]) == (400, field)
    assert configured.http("admin", event) == before


@pytest.mark.parametrize("body", [None, "", "null", "[]", f'"{CANARY}"', f'{{"name": "{CANARY}'])
def test_a_body_that_is_no_object_is_refused(configured: Service, body: str | None) -> None:
    for noun in NOUNS:
        assert configured.http("admin", configured.event(f"admin-put-{noun}", body=body)).status == 400


@pytest.mark.parametrize("verb", ["get", "put", "delete"])
def test_an_id_that_can_be_none_is_refused(configured: Service, verb: str) -> None:
    for noun, name in zip(NOUNS, ("bot_id", "core_ai_id", "platform_id"), strict=True):
        for id_ in ("", f"{CANARY}/1", f"{CANARY}%20", "x" * 256):
            answer = configured.http("admin", configured.event(f"admin-{verb}-{noun}", pathParameters={name: id_}))
            assert (answer.status, answer.body["field"]) == (400, name)


@pytest.mark.parametrize("verb", ["get", "put", "delete"])
def test_another_platform_is_not_found(configured: Service, verb: str) -> None:
    answer = configured.http("admin", configured.event(f"admin-{verb}-platform", pathParameters={"platform_id": "x"}))
    assert (answer.status, answer.body["field"]) == (404, "platform_id")


@pytest.mark.parametrize(
    ("noun", "reason"), [("core-ai", "a bot answers with it"), ("platform", "the default platform can't be deleted")]
)
def test_what_is_needed_is_not_deleted(configured: Service, noun: str, reason: str) -> None:
    configured.http("admin", configured.event("admin-put-core-ai"))
    configured.http("admin", configured.event("admin-put-bot"))
    answer = configured.http("admin", configured.event(f"admin-delete-{noun}"))
    assert answer.status == 409
    assert reason in answer.body["detail"]


@pytest.mark.parametrize("noun", NOUNS)
@pytest.mark.parametrize("verb", ["list", "get", "put", "delete"])
def test_without_postgres_it_is_503(service: Service, noun: str, verb: str) -> None:
    service.use(egress=Egress(["*.ai.example", "*.clinic.example"]))
    plural = {"bot": "bots", "platform": "platforms"}.get(noun, noun)
    answer = service.http("admin", service.event(f"admin-{verb}-{plural if verb == 'list' else noun}"))
    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert answer.body["detail"].startswith("Postgres is not available")
