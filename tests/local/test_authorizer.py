"""Tokens on this machine: made like Cognito's, and checked like API Gateway's authoriser does."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from local.authorizer import Authorizer, RefusedError
from local.proxy import Request, build_event
from local.stack import LocalStack
from local.template import Route
from local.tokens import ISSUER, Issuer, TokenExpiredError, TokenRefusedError, main

from .conftest import Answer, Client

ROOT = Path(__file__).parents[2]
READ = ("app/read", "app/write")


@pytest.fixture
def authorizer(issuer: Issuer) -> Authorizer:
    return Authorizer(issuer)


@pytest.fixture
def caller(guarded: LocalStack) -> Iterator[Client]:
    opened = Client(guarded.url)
    yield opened
    opened.close()


def get(client: Client, path: str, token: str | None = None) -> Answer:
    return client.request("GET", path, **({} if token is None else {"Authorization": f"Bearer {token}"}))


class TestTokens:
    def test_a_platforms_token_has_what_client_credentials_give(self, issuer: Issuer) -> None:
        claims = issuer.verify(issuer.issue(["clinic-a"], ["messages", "admin"], expires=60))
        assert claims["sub"] == claims["client_id"] == "local-clinic-a"
        assert claims["scope"] == "message-handler/messages message-handler/admin tenant/clinic-a"
        assert (claims["token_use"], claims["iss"], claims["exp"] - claims["iat"]) == ("access", ISSUER, 60)
        assert "cognito:groups" not in claims

    def test_a_persons_tenants_are_groups(self, issuer: Issuer) -> None:
        claims = issuer.verify(issuer.issue(["clinic-a", "clinic-b"], ["admin"], user="ana"))
        assert claims["cognito:groups"] == ["tenant/clinic-a", "tenant/clinic-b"]
        assert (claims["scope"], claims["username"]) == ("message-handler/admin", "ana")
        assert claims["sub"] != claims["client_id"]

    def test_an_expired_token_is_told_from_no_token_of_ours(self, issuer: Issuer, tmp_path: Path) -> None:
        with pytest.raises(TokenExpiredError):
            issuer.verify(issuer.issue(expires=-1))
        stranger = Issuer(tmp_path / "other.pem")
        unsigned = jwt.encode({"sub": "x", "iss": ISSUER, "exp": time.time() + 60, "token_use": "access"}, None, "none")
        confused = jwt.encode({"sub": "x", "iss": ISSUER, "exp": time.time() + 60, "token_use": "access"}, "k" * 32)
        for token in (stranger.issue(), issuer.issue(iss="https://elsewhere"), unsigned, confused, "a.b.c", ""):
            with pytest.raises(TokenRefusedError):
                issuer.verify(token)

    def test_the_key_is_its_owners_alone_and_the_same_for_all(self, tmp_path: Path) -> None:
        file = tmp_path / ".local" / "key.pem"
        with ThreadPoolExecutor(4) as pool:
            tokens = list(pool.map(lambda _: Issuer(file).issue(), range(4)))
        for token in tokens:
            Issuer(file).verify(token)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]

    def test_the_command_prints_one_token(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["--tenant", "clinic-a", "--scope", "admin", "--expires", "60"]) == 0
        claims = Issuer().verify(capsys.readouterr().out.strip())
        assert claims["scope"] == "message-handler/admin tenant/clinic-a"
        main(["--tenant", "clinic-a", "--expires", "-60"])
        with pytest.raises(TokenExpiredError):
            Issuer().verify(capsys.readouterr().out.strip())

    def test_make_token_prints_nothing_else(self) -> None:
        command = [sys.executable, "-m", "local.tokens", "--tenant", "clinic-a", "--user", "ana"]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert jwt.get_unverified_header(printed.stdout.strip())["alg"] == "RS256"
        assert printed.stderr == ""


class TestAuthorizer:
    def test_claims_are_text_as_api_gateway_writes_it(self, authorizer: Authorizer, issuer: Issuer) -> None:
        token = issuer.issue(["a", "b"], user="ana", scope="app/read", exp=4_102_444_800, iat=1_701_883_372, flag=True)
        claims = authorizer.claims(f"Bearer {token}", READ)
        assert set(map(type, claims.values())) == {str}
        assert claims["exp"] == "Fri Jan 01 00:00:00 UTC 2100"
        assert claims["iat"] == "Wed Dec 06 17:22:52 UTC 2023"
        assert claims["cognito:groups"] == "tenant/a,tenant/b"
        assert claims["auth_time"].isdigit()
        assert (claims["version"], claims["flag"]) == ("2", "true")

    def test_a_token_may_come_without_bearer(self, authorizer: Authorizer, issuer: Issuer) -> None:
        assert authorizer.claims(issuer.issue(scope="x app/write"), READ)["scope"] == "x app/write"

    @pytest.mark.parametrize(
        ("changes", "scopes", "kind"),
        [
            ({"scope": "app/readers"}, READ, "ACCESS_DENIED"),
            ({"scope": ""}, READ, "ACCESS_DENIED"),
            ({"scope": "app/read", "token_use": "id"}, READ, "UNAUTHORIZED"),
            ({"scope": "app/read"}, (), "UNAUTHORIZED"),
            ({"scope": "app/read", "exp": 1}, READ, "UNAUTHORIZED"),
        ],
    )
    def test_what_is_not_allowed_is_refused(
        self, authorizer: Authorizer, issuer: Issuer, changes: dict[str, Any], scopes: tuple[str, ...], kind: str
    ) -> None:
        with pytest.raises(RefusedError, match=kind):
            authorizer.claims(f"Bearer {issuer.issue(**changes)}", scopes)

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer é"])
    def test_what_is_no_token_is_401(self, authorizer: Authorizer, header: str | None) -> None:
        with pytest.raises(RefusedError, match="UNAUTHORIZED"):
            authorizer.claims(header, READ)

    def test_a_method_without_scopes_takes_identity_tokens(self, authorizer: Authorizer, issuer: Issuer) -> None:
        assert authorizer.claims(issuer.issue(token_use="id"), ())["token_use"] == "id"


def test_an_event_has_claims_only_where_a_token_was_verified() -> None:
    request = Request("GET", "/x", "", [("Authorization", "Bearer x")], b"", "127.0.0.1")
    event = build_event(request, Route("GET", "/x", "F"), {}, "v1")
    assert "authorizer" not in event["requestContext"]


class TestGateway:
    def test_a_caller_with_the_scope_reaches_the_function_with_its_claims(self, caller: Client, issuer: Issuer) -> None:
        answer = get(caller, "/guarded", issuer.issue(["a"], scope="app/write"))
        assert answer.status == 200
        claims = answer.json["event"]["requestContext"]["authorizer"]["claims"]
        assert (claims["scope"], claims["token_use"]) == ("app/write", "access")
        assert answer.json["environment"]["AUTH_REQUIRED"] == "true"

    def test_the_gateway_answers_by_itself_as_the_template_says(self, caller: Client, issuer: Issuer) -> None:
        tokens = {"no": None, "bad": "x.y.z", "expired": issuer.issue(scope="app/read", expires=-1)}
        for answer in [get(caller, "/guarded", token) for token in tokens.values()]:
            assert (answer.status, answer.json) == (401, {"status": 401})
        wrong = get(caller, "/guarded", issuer.issue(scope="app/else"))
        assert (wrong.status, wrong.json) == (403, {"status": 403})
        assert wrong.headers["Content-Type"] == "application/problem+json"

    def test_a_route_that_is_open_in_the_template_is_open(self, caller: Client) -> None:
        assert get(caller, "/echo/fixed").status == 200

    def test_a_client_can_not_bring_claims_along(self, caller: Client) -> None:
        body = json.dumps({"requestContext": {"authorizer": {"claims": {"scope": "app/read"}}}})
        answer = caller.request("POST", "/echo/x", body, requestContext="x", authorizer="x")
        assert "authorizer" not in answer.json["event"]["requestContext"]

    def test_without_auth_all_is_open_and_the_functions_know(self, client: Client) -> None:
        answer = get(client, "/guarded")
        assert answer.status == 200
        assert answer.json["environment"]["AUTH_REQUIRED"] == "false"
