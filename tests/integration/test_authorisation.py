"""The authorisation matrix over the whole stack of `AUTH=1 make run`: gateway, functions, real stores."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from local.stack import LocalStack
from local.tokens import Issuer
from tests.authorisation import MARK, REFUSED, ROWS, Answer, Matrix, Name, Token
from tests.integration.conftest import PATIENCE
from tests.integration.test_pages import shell
from tests.pages import blocks
from tests.published import assert_published, body_of


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()  # the template folder's, as with `make token`


@pytest.fixture(scope="module")
def guarded(issuer: Issuer) -> Iterator[LocalStack]:
    with LocalStack(environment={}, settings=PATIENCE, issuer=issuer) as running:
        yield running
        assert MARK not in running.log_file.read_text()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # without a proxy, for addresses of this machine
        yield session


@pytest.fixture
def matrix(guarded: LocalStack, issuer: Issuer, session: requests.Session) -> Iterator[Matrix]:
    """Two new tenants for one test."""

    def call(method: str, resource: str, ids: dict[str, str], body: Any, token: Token | None) -> Answer:
        path = resource.format_map({name: quote(id_, safe="") for name, id_ in ids.items()})
        headers = {}
        if token:
            tenants = [token.tenant] if token.tenant else []
            headers["Authorization"] = f"Bearer {issuer.issue(tenants, token.scopes, expires=token.expires)}"
        response = session.request(method, guarded.url + path, json=body, headers=headers, timeout=60)
        if response.status_code >= 400:
            assert response.headers["Content-Type"] == "application/problem+json"
        body = body_of(response.headers, response.text)
        assert_published(method, resource, response.status_code, response.headers, body)
        return Answer(response.status_code, response.text)

    name = uuid.uuid4().hex
    matrix = Matrix(call, f"a-{name}", f"b-{name}")
    matrix.prepare()
    while matrix.ask("GET", "/jobs/{job_id}", Token(matrix.a, "messages")).body["status"] == "pending":
        time.sleep(0.05)
    # The worker has begun. Its first steps take a moment.
    before = None
    while before != (now := matrix.all_of_a()):
        before = now
        time.sleep(0.2)
    yield matrix
    matrix.ask("DELETE", "/jobs/{job_id}", Token(matrix.a, "messages"))  # its worker is free for the next test


def test_the_gateway_asks_for_each_routes_scope_itself(guarded: LocalStack) -> None:
    wanted = {name: row.scope and (f"message-handler/{row.scope}",) for name, row in ROWS.items()}
    assert {(route.method, route.path): route.scopes for route in guarded.template.routes} == wanted


@pytest.mark.parametrize("name", ROWS, ids=" ".join)
def test_each_caller_gets_only_what_it_may(matrix: Matrix, name: Name) -> None:
    matrix.check(name)


def test_a_token_of_another_key_is_none(
    matrix: Matrix, guarded: LocalStack, session: requests.Session, tmp_path: Path
) -> None:
    forged = Issuer(tmp_path / "other.pem").issue([matrix.a], ["messages", "admin"])
    for resource in ("/admin/locks", "/conversations/conv_123"):
        answer = session.get(guarded.url + resource, headers={"Authorization": f"Bearer {forged}"}, timeout=60)
        assert answer.status_code == REFUSED["no token"]


def test_an_operator_of_two_tenants_names_the_one_that_is_meant(
    matrix: Matrix, guarded: LocalStack, issuer: Issuer, session: requests.Session
) -> None:
    token = issuer.issue([matrix.a, matrix.b], ["admin"], user="ana")

    def locks(tenant: str | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "X-Platform-Id": tenant}  # requests leaves a None out
        return session.get(f"{guarded.url}/admin/locks", headers=headers, timeout=60)

    assert locks().status_code == 400
    (lock,) = locks(matrix.a).json()["locks"]
    assert lock["ai_job_id"] == matrix.ids["job_id"]
    assert locks(matrix.b).json() == {"locks": []}
    assert locks("default").status_code == 403


def test_over_its_rate_a_tenant_is_told_when_to_come_again(
    matrix: Matrix, guarded: LocalStack, session: requests.Session
) -> None:
    """Redis counts for all processes. The other tenant goes on."""
    limited = {"name": MARK, "meta_data": {"rate_limit_per_minute": 2}}
    operator, platform = Token(matrix.a, "admin", is_owner=True), Token(matrix.a, "messages")
    assert matrix.ask("PUT", "/admin/platforms/{platform_id}", operator, limited).status == 200
    resource, body = "/conversations/{conversation_id}/messages", {"history": "<USER>[slow:20]</USER><br>"}

    def posts() -> int:
        return matrix.ask("POST", resource, platform, body).status

    deadline = time.monotonic() + 15
    while (status := posts()) == 202:  # until each process has seen the limit
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert status == 429
    assert matrix.ask("POST", resource, Token(matrix.b, "messages"), body).status == 202


def test_a_token_is_made_and_used_as_the_page_says(guarded: LocalStack) -> None:
    (script,) = blocks("token")
    script = script.replace("http://127.0.0.1:3000", guarded.url).replace("clinic-a", f"clinic-{uuid.uuid4().hex}")
    *_, written, accepted = shell(re.sub(r"(-d '.*')$", r"\1; echo", script, flags=re.MULTILINE))
    assert json.loads(written)["meta_data"] == {"rate_limit_per_minute": 600}
    assert json.loads(accepted)["status"] == "ai_processing_started"
