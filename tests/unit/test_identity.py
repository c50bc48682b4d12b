"""The caller and its tenant, from the claims that API Gateway passes. All claims are text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from message_handler.domain.errors import Forbidden, InvalidRequest, RequestError, Unauthenticated
from message_handler.http.identity import Caller, identify
from message_handler.http.rest import Call, serve
from message_handler.metrics import Meter
from message_handler.settings import Settings
from tests.unit.claims import PERSON, of_client, of_person

CLOSED, OPEN = Settings(), Settings(auth_required=False)


def event(claims: Any, **headers: str) -> dict[str, Any]:
    return {
        "headers": {name.replace("_", "-"): value for name, value in headers.items()} or None,
        "requestContext": {"authorizer": {"claims": claims}},
    }


def refusal(claims: Any, **headers: str) -> RequestError:
    with pytest.raises(RequestError) as refused:
        identify(event(claims, **headers), CLOSED, "messages")
    return refused.value


class TestCallers:
    def test_a_platform_is_the_tenant_of_its_scope(self) -> None:
        caller = identify(event(of_client("clinic-a", "messages")), CLOSED, "messages")
        assert caller == Caller("client:client-of-clinic-a", "clinic-a")

    def test_a_person_is_of_the_tenant_of_their_group(self) -> None:
        claims = of_person(["staff", "tenant/clinic-a"], "admin")
        assert identify(event(claims), CLOSED, "admin") == Caller(f"user:{PERSON}", "clinic-a")

    def test_a_person_gets_no_tenant_by_asking_for_a_scope(self) -> None:
        """Each member of the pool may ask for all scopes of the operators' client."""
        asked = of_person(["tenant/clinic-a"], "messages") | {"scope": "message-handler/messages tenant/clinic-b"}
        assert identify(event(asked), CLOSED, "messages").platform_id == "clinic-a"
        assert "clinic-b" not in str(refusal(asked, x_platform_id="clinic-b"))
        assert refusal(asked | {"cognito:groups": ""}).status == 403

    def test_a_tenants_id_may_hold_all_that_an_identifier_may(self) -> None:
        name = "A.b_c:d@e-" + "9" * 245
        assert identify(event(of_client(name, "messages")), CLOSED, "messages").platform_id == name

    @pytest.mark.parametrize("header", ["x_platform_id", "X_Platform_Id", "X_PLATFORM_ID"])
    def test_of_several_tenants_the_header_names_one(self, header: str) -> None:
        claims = of_person(["tenant/clinic-a", "tenant/clinic-b"], "messages")
        for tenant in ("clinic-a", "clinic-b"):
            assert identify(event(claims, **{header: tenant}), CLOSED, "messages").platform_id == tenant

    def test_the_only_tenant_may_be_named_too(self) -> None:
        claims = of_client("clinic-a", "messages")
        assert identify(event(claims, x_platform_id="clinic-a"), CLOSED, "messages").platform_id == "clinic-a"


class TestRefusals:
    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"requestContext": None},
            {"requestContext": {}},
            {"requestContext": {"authorizer": None}},
            {"requestContext": {"authorizer": {"claims": None}}},
            {"requestContext": {"authorizer": {"claims": {}}}},
            {"requestContext": {"authorizer": {"claims": "message-handler/messages"}}},
            {"requestContext": {"authorizer": {"principalId": "x"}}},
            {"headers": {"Authorization": "Bearer x"}},
        ],
    )
    def test_without_claims_no_caller_is_known(self, event: Mapping[str, Any]) -> None:
        with pytest.raises(Unauthenticated):
            identify(event, CLOSED, "messages")

    @pytest.mark.parametrize("missing", ["exp", "token_use", "sub", "client_id"])
    def test_without_a_claim_that_every_access_token_has_no_caller_is_known(self, missing: str) -> None:
        claims = of_client("clinic-a", "messages")
        del claims[missing]
        assert refusal(claims).status == 401

    def test_an_identity_token_is_no_access_token(self) -> None:
        assert refusal(of_client("clinic-a", "messages") | {"token_use": "id"}).status == 401

    @pytest.mark.parametrize(
        "exp",
        [
            "Wed Nov 25 15:00:00 UTC 2020",
            "1700000000",
            1_700_000_000,
            "",
            "soon",
            None,
            "²",
        ],
    )
    def test_what_has_expired_or_can_not_be_read_is_refused(self, exp: Any) -> None:
        assert refusal(of_client("clinic-a", "messages") | {"exp": exp}).status == 401

    @pytest.mark.parametrize("exp", ["Wed Nov 25 15:00:00 UTC 2099", "4102444800", 4_102_444_800])
    def test_what_has_not_expired_is_taken(self, exp: Any) -> None:
        identify(event(of_client("clinic-a", "messages") | {"exp": exp}), CLOSED, "messages")

    def test_a_token_ends_on_its_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        claims = of_client("clinic-a", "messages") | {"exp": "Wed Dec 06 17:22:52 UTC 2023"}
        monkeypatch.setattr(time, "time", lambda: 1_701_883_371.9)
        identify(event(claims), CLOSED, "messages")
        monkeypatch.setattr(time, "time", lambda: 1_701_883_372.0)
        assert refusal(claims).status == 401

    @pytest.mark.parametrize(
        "scope",
        [
            "",
            "message-handler/admin",
            "message-handler/messages2",
            "messages",
            "x/messages",
            "MESSAGE-HANDLER/MESSAGES",
        ],
    )
    def test_without_the_scope_it_is_forbidden(self, scope: str) -> None:
        claims = of_client("clinic-a", "messages") | {"scope": f"{scope} tenant/clinic-a"}
        assert isinstance(refusal(claims), Forbidden)

    @pytest.mark.parametrize("tenant", ["", "tenant/", "tenant", "clinic-a", "xtenant/a", "tenant/a/b", "tenant/é"])
    def test_without_a_tenant_it_is_forbidden(self, tenant: str) -> None:
        claims = of_client("clinic-a", "messages") | {"scope": f"message-handler/messages {tenant}"}
        assert isinstance(refusal(claims), Forbidden)
        assert isinstance(refusal(of_person([tenant], "messages")), Forbidden)

    def test_several_tenants_and_none_named_is_the_callers_to_mend(self) -> None:
        error = refusal(of_person(["tenant/clinic-a", "tenant/clinic-b"], "messages"))
        assert (error.status, error.field) == (400, "X-Platform-Id")

    def test_another_tenant_than_the_tokens_is_forbidden_whether_it_exists_or_not(self) -> None:
        claims = of_client("clinic-a", "messages")
        errors = [refusal(claims, x_platform_id=named) for named in ("default", "clinic-nowhere")]
        assert [error.status for error in errors] == [403, 403]
        assert len({str(error) for error in errors}) == 1

    def test_a_header_that_names_nothing_or_two_is_refused_without_its_value(self) -> None:
        claims = of_client("clinic-a", "messages")
        for error in (
            refusal(claims, x_platform_id="no tenant"),
            refusal(claims, x_platform_id="clinic-a", X_PLATFORM_ID="clinic-b"),
        ):
            assert (error.status, error.field) == (400, "X-Platform-Id")
            assert "no tenant" not in str(error)
        twice = event(claims, x_platform_id="clinic-a") | {
            "multiValueHeaders": {"x-platform-id": ["clinic-b", "clinic-a"]}
        }
        with pytest.raises(InvalidRequest):
            identify(twice, CLOSED, "messages")


class TestCalls:
    def test_a_call_knows_its_tenant_and_for_the_audit_who_it_was(self) -> None:
        call = Call({}, identify(event(of_client("clinic-a", "admin")), CLOSED, "admin"))
        assert (call.platform_id, call.actor) == ("clinic-a", "client:client-of-clinic-a")

    def test_an_open_route_that_asks_for_a_tenant_gets_none(self) -> None:
        """It must not be the default tenant, whose name every caller would see."""

        def route(call: Call) -> tuple[int, dict[str, Any]]:
            return 200, {"tenant": call.platform_id}

        call = {"httpMethod": "GET", "resource": "/open", "requestContext": {}}
        routes = {("GET", "/open"): route}
        asked = partial(serve, routes, call, lambda: OPEN, scope="admin", meter=Meter())
        assert asked(open_routes=set(routes))["statusCode"] == 500
        assert asked()["statusCode"] == 200


class TestWithoutAuthentication:
    def test_every_caller_is_the_default_tenant(self) -> None:
        for scope in ("messages", "admin"):
            assert identify({}, OPEN, scope) == Caller("anyone", "default", is_owner=True)  # type: ignore[arg-type]

    def test_claims_change_nothing_and_another_tenant_is_refused(self) -> None:
        assert identify(event(of_client("clinic-a", "messages")), OPEN, "admin").platform_id == "default"
        with pytest.raises(Forbidden):
            identify(event(None, x_platform_id="clinic-a"), OPEN, "messages")
