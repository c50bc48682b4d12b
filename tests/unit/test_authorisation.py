"""The authorisation matrix over the functions alone, with claims as API Gateway passes them.

Each function checks the claims itself, even if the template's authoriser is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.template import TemplateSource
from message_handler.domain.conversations import ConversationKey
from message_handler.settings import Settings
from tests.authorisation import CONVERSATION, MARK, ROWS, Answer, Matrix, Name, Token
from tests.published import assert_published, body_of
from tests.unit.claims import of_client, of_person
from tests.unit.service import Service, load_event

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


def event_of(
    method: str, resource: str, ids: dict[str, str], body: Any, claims: dict[str, str] | None, **headers: str
) -> dict[str, Any]:
    """The event of a call, as API Gateway sends it."""
    event = load_event("intake-post-message")
    context = event["requestContext"] | ({} if claims is None else {"authorizer": {"claims": claims}})
    return event | {
        "httpMethod": method,
        "resource": resource,
        "pathParameters": {name: id_ for name, id_ in ids.items() if f"{{{name}}}" in resource} or None,
        "headers": event["headers"] | headers,
        "requestContext": context,
        "body": None if body is None else json.dumps(body),
    }


@pytest.fixture(scope="module")
def functions() -> dict[Name, str]:
    """The function of each route in the template."""
    routes = TemplateSource(TEMPLATE).resolve({}, queue_url_prefix="").routes
    return {(route.method, route.path): route.function.removesuffix("Function").lower() for route in routes}


@pytest.fixture
def closed(configured: Service) -> Service:
    """The four functions as deployed: they need a token."""
    configured.use(settings=Settings(auth_required=True))
    return configured


@pytest.fixture
def matrix(closed: Service, functions: dict[Name, str]) -> Matrix:
    closed.output.private.add(MARK)

    def call(method: str, resource: str, ids: dict[str, str], body: Any, token: Token | None) -> Answer:
        claims = None
        if token:
            claims = of_client(token.tenant or "x", *token.scopes, expires=token.expires)
            if token.tenant is None:
                claims["scope"] = claims["scope"].removesuffix(" tenant/x")
        event = event_of(method, resource, ids, body, claims)
        response = closed.invoke(functions[method, resource], event)
        body = body_of(response["headers"], response["body"])
        assert_published(method, resource, response["statusCode"], response["headers"], body)
        return Answer(response["statusCode"], response["body"])

    matrix = Matrix(call, "clinic-a", "clinic-b")
    matrix.prepare()
    closed.parts.tiers.tiers[0].claim(ConversationKey(matrix.a, CONVERSATION), "a worker")
    return matrix


def test_every_route_of_the_template_has_a_row(functions: dict[Name, str]) -> None:
    assert set(ROWS) == set(functions)


@pytest.mark.parametrize("name", ROWS, ids=" ".join)
def test_each_caller_gets_only_what_it_may(matrix: Matrix, name: Name) -> None:
    matrix.check(name)


def test_a_tenant_sees_and_moves_its_own_thing_of_the_same_id_alone(matrix: Matrix) -> None:
    """B posts with A's conversation id: there are two conversations, two jobs and two locks."""
    before, token = matrix.all_of_a(), Token("clinic-b", "messages")
    posted = matrix.ask("POST", "/conversations/{conversation_id}/messages", token, {"history": "<USER>B</USER><br>"})
    assert (posted.status, posted.body["action"]) == (202, "lock_acquired")
    assert posted.body["ai_job_id"] != matrix.ids["job_id"]
    (lock,) = matrix.ask("GET", "/admin/locks", Token("clinic-b", "admin")).body["locks"]
    assert (lock["conversation_id"], lock["ai_job_id"]) == (CONVERSATION, posted.body["ai_job_id"])
    assert matrix.ask("DELETE", "/admin/locks/{conversation_id}", Token("clinic-b", "admin")).status == 200
    assert matrix.ask("POST", "/conversations/{conversation_id}/handoff", token, {"to": "human"}).status == 200
    assert matrix.all_of_a() == before


PLATFORM = "/admin/platforms/{platform_id}"
LIMIT = "meta_data.rate_limit_per_minute"


def limited(per_minute: int | None) -> dict[str, Any]:
    return {"name": MARK, "meta_data": {"rate_limit_per_minute": per_minute} if per_minute else {}}


class TestTheOwnersLimits:
    """Tenants share the deployment: none of them raises its own share."""

    def test_a_tenant_sets_raises_and_removes_no_limit(self, matrix: Matrix) -> None:
        operator, owner = Token(matrix.a, "admin"), Token(matrix.a, "admin", is_owner=True)

        def limit() -> Any:
            return matrix.ask("GET", PLATFORM, operator).body["meta_data"].get("rate_limit_per_minute")

        refused = matrix.ask("PUT", PLATFORM, operator, limited(1_000_000))
        assert (refused.status, refused.body.get("field")) == (403, LIMIT)
        assert matrix.ask("PUT", PLATFORM, owner, limited(30)).status == 200
        refused = matrix.ask("PUT", PLATFORM, operator, limited(31))
        assert (refused.status, refused.body.get("field"), limit()) == (403, LIMIT, 30)
        for same in (limited(30), limited(None)):  # the rest of the record is the tenant's own
            assert matrix.ask("PUT", PLATFORM, operator, same).status == 200
            assert limit() == 30
        assert matrix.ask("PUT", PLATFORM, owner, limited(None)).status == 200
        assert limit() is None

    def test_a_tenant_does_not_lose_its_limit_with_its_record(self, matrix: Matrix) -> None:
        operator, owner = Token("clinic-b", "admin"), Token("clinic-b", "admin", is_owner=True)
        ids = {"platform_id": "clinic-b"}
        assert matrix.call("PUT", PLATFORM, ids, limited(30), owner).status == 200
        refused = matrix.call("DELETE", PLATFORM, ids, None, operator)
        assert (refused.status, refused.body.get("field")) == (403, LIMIT)
        assert matrix.call("DELETE", PLATFORM, ids, None, owner).status == 200

    def test_the_owners_scope_alone_opens_no_route(self, matrix: Matrix) -> None:
        for scope in ("messages", "admin"):
            wrong = Token(matrix.a, "messages" if scope == "admin" else "admin", is_owner=True)
            resource = "/admin/locks" if scope == "admin" else "/conversations/{conversation_id}"
            assert matrix.ask("GET", resource, wrong).status == 403

    def test_a_person_is_no_owner_whatever_their_client_asks_for(self, closed: Service) -> None:
        claims = of_person(["tenant/clinic-a"], "admin", "deployment")
        event = event_of("PUT", PLATFORM, {"platform_id": "clinic-a"}, limited(30), claims)
        assert closed.http("admin", event).status == 403


def test_a_bot_needs_its_platforms_record_first(matrix: Matrix) -> None:
    for resource in ("/admin/bots/{bot_id}", "/admin/core-ai/{core_ai_id}"):
        answer = matrix.ask("PUT", resource, Token("clinic-new", "admin"), ROWS["PUT", resource].body)
        assert (answer.status, answer.body.get("field")) == (409, "platform_id")


def test_a_tenant_without_any_record_is_answered_by_the_default_bot(matrix: Matrix, closed: Service) -> None:
    token = Token("clinic-new", "messages")
    posted = matrix.ask("POST", "/conversations/{conversation_id}/messages", token, {"history": "<USER>B</USER><br>"})
    assert (posted.status, posted.body["bot_name"]) == (202, "Healthcare Assistant")
    closed.deliver()
    matrix.ids["job_id"] = posted.body["ai_job_id"]
    assert matrix.ask("GET", "/jobs/{job_id}", token).body["status"] == "completed"


class TestOperators:
    def test_an_operator_of_two_tenants_names_one(self, closed: Service) -> None:
        claims = of_person(["tenant/clinic-a", "tenant/clinic-b"], "admin")
        for tenant, status in (("clinic-a", 200), ("clinic-b", 200), ("clinic-c", 403), ("a b", 400)):
            event = event_of("GET", "/admin/locks", {}, None, claims, **{"x-platform-id": tenant})
            assert closed.http("admin", event).status == status
        answer = closed.http("admin", event_of("GET", "/admin/locks", {}, None, claims))
        assert (answer.status, answer.body["field"]) == (400, "X-Platform-Id")

    def test_an_unknown_caller_is_told_to_bring_a_token(self, closed: Service) -> None:
        answer = closed.http("admin", event_of("GET", "/admin/locks", {}, None, None))
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize(
        ("claims", "counted"),
        [
            (None, "RefusedForToken"),
            (of_person(["tenant/clinic-a"], "admin") | {"exp": "0"}, "RefusedForToken"),
            (of_person(["tenant/clinic-a"], "messages"), "RefusedForScope"),
            (of_person([], "admin"), "RefusedForTenant"),
            (of_person(["tenant/clinic-b"], "admin"), "RefusedForTenant"),
        ],
    )
    def test_a_refused_caller_is_counted_with_the_reason(
        self, closed: Service, claims: dict[str, str] | None, counted: str
    ) -> None:
        closed.http("admin", event_of("GET", "/admin/locks", {}, None, claims, **{"x-platform-id": "clinic-a"}))
        assert [name for name in closed.output.metrics if name.startswith("Refused")] == [counted]

    def test_direct_invocations_are_the_deployments_own_and_need_no_token(self, closed: Service) -> None:
        assert closed.invoke("admin", {"action": "sweep"}) == {"swept": 0}

    def test_what_cannot_be_read_of_the_settings_leaves_all_closed(self, closed: Service) -> None:
        closed.use(settings=None)
        assert closed.http("admin", event_of("GET", "/admin/locks", {}, None, None)).status == 500
        assert closed.http("admin", event_of("GET", "/health", {}, None, None)).status == 200
