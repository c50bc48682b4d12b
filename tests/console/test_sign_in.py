"""Signing in: with a pasted token on this machine, by Cognito's authorization code elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from local.tokens import Issuer
from message_handler.http.console import Console
from message_handler.http.rest import Call
from message_handler.settings import Settings
from tests.console.conftest import CANARY, ROOT, Host, Opened, eventually, opens, panes, replies, says
from tests.integration.cognito import CLIENT_ID, Cognito, running


def token(issuer: Issuer, *scopes: str, tenants: tuple[str, ...] = ("default",), **more: Any) -> str:
    return issuer.issue(tenants, scopes, user="ada", **more)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    context = browser.new_context()
    opened = Opened(context.new_page())
    yield opened
    opened.check()
    context.close()


@pytest.fixture
def tab(opened: Opened) -> Page:
    return opened.page


def signs_in(page: Page, host: Host, pasted: str) -> None:
    page.goto(host.console)
    page.get_by_label("Access token").fill(pasted)
    page.get_by_role("button", name="Use it").click()


def signed_in(page: Page, host: Host, pasted: str) -> None:
    signs_in(page, host, pasted)
    expect(panes(page)).to_have_count(1)


def test_without_a_token_nothing_is_shown_but_how_to_get_one(tab: Page, guarded_host: Host) -> None:
    signs_in(tab, guarded_host, "no token")
    expect(tab.get_by_role("alert")).to_have_text("This is not an access token.")
    expect(panes(tab)).to_have_count(0)
    expect(tab.get_by_role("tab")).to_have_count(0)


def test_what_the_token_lacks_the_scope_for_is_refused_with_what_to_do(
    tab: Page, guarded_host: Host, issuer: Issuer
) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages"))
    pane = panes(tab).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(CANARY)
    for view in ("Operations", "Safety", "Configuration"):
        refusal = opens(tab, view).get_by_role("alert").filter(has_text="You may not open this view")
        expect(refusal).to_contain_text("needs the scope message-handler/admin")
        expect(refusal).to_contain_text("Sign in as another user")
    expect(tab.get_by_role("table")).to_have_count(0)
    expect(tab.get_by_role("button", name="New bot")).to_have_count(0)


def test_with_the_scope_it_is_not_and_signing_out_forgets_the_token(
    tab: Page, guarded_host: Host, issuer: Issuer
) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages", "admin"))
    expect(opens(tab, "Operations").get_by_role("heading", name="Live locks")).to_be_visible()
    tab.get_by_role("button", name="Sign out").click()
    expect(tab.get_by_role("button", name="Use it")).to_be_visible()
    assert tab.evaluate("Object.keys(sessionStorage)") == []


def test_an_expired_token_ends_in_the_sign_in(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    signs_in(tab, guarded_host, token(issuer, "messages", "admin", expires=-5))
    expect(tab.get_by_role("alert")).to_have_text("Your sign-in has ended.")


def test_a_token_of_another_issuer_ends_in_the_sign_in(tab: Page, guarded_host: Host, tmp_path: Path) -> None:
    signs_in(tab, guarded_host, token(Issuer(tmp_path / "key.pem"), "messages", "admin"))
    expect(tab.get_by_role("alert")).to_have_text("Your sign-in has ended.")
    expect(panes(tab)).to_have_count(0)


def test_a_token_of_no_tenant_is_shown_nothing_and_told_why(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages", "admin", tenants=()))
    says(panes(tab).first, f"Hello {CANARY}")
    expect(panes(tab).first.locator(".state")).to_contain_text("not accepted")
    for view in ("Operations", "Safety", "Configuration"):
        expect(opens(tab, view).get_by_role("alert")).to_contain_text("and a tenant")
    expect(tab.get_by_role("table")).to_have_count(0)


def test_nothing_that_was_shown_stays_when_the_sign_in_ends(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages", "admin"))
    pane = panes(tab).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(CANARY)
    tab.route("**/admin/**", lambda route: route.fulfill(status=401, json={"message": "Unauthorized"}))
    opens(tab, "Operations")
    expect(tab.get_by_role("alert")).to_have_text("Your sign-in has ended.")
    assert CANARY not in tab.content()
    assert tab.evaluate("Object.keys(sessionStorage)") == []


def test_an_operator_of_several_tenants_chooses_one(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages", "admin", tenants=("default", "clinic-b")))
    asked: list[str | None] = []
    tab.on("request", lambda request: "/admin/" in request.url and asked.append(request.headers.get("x-platform-id")))
    with tab.expect_navigation():
        tab.get_by_label("Tenant").select_option("default")
    expect(opens(tab, "Operations").get_by_role("heading", name="Live locks")).to_be_visible()
    expect(tab.get_by_text("No conversation is locked")).to_be_visible()
    assert asked[-1] == "default"


class Provider(Cognito):
    """A Cognito whose tokens the local host accepts."""

    def __init__(self, callback_url: str, issuer: Issuer) -> None:
        super().__init__(callback_url)
        self._issuer = issuer

    def _tokens(self) -> dict[str, Any]:
        return super()._tokens() | {"access_token": token(self._issuer, "messages", "admin")}


@pytest.fixture
def provider(tab: Page, guarded_host: Host, issuer: Issuer) -> Iterator[Provider]:
    """A Cognito of another origin. As on AWS, the stage's variables name it.

    The function's own code serves the page. All else is the running service's.
    """
    with running(Provider(guarded_host.console, issuer)) as provider:
        variables = {"signIn": provider.url, "operatorClient": CLIENT_ID}
        settings = Settings.from_environment({"AUTH_REQUIRED": "true"})
        routes = Console(ROOT / "functions" / "admin" / "console", lambda: settings).routes()

        def serves(route: Route) -> None:
            path = urlsplit(route.request.url).path
            status, body, headers = routes["GET", path](Call({"stageVariables": variables}, None))
            text = body if isinstance(body, str) else json.dumps(body)
            route.fulfill(status=status, body=text, headers={"Content-Type": "application/json"} | headers)

        def leads(route: Route) -> None:
            # By a script, because a redirect would bypass `serves`.
            _, _, headers = provider.authorize(dict(parse_qsl(urlsplit(route.request.url).query)))
            script = f"<script>location.replace({json.dumps(headers['Location'])})</script>"
            route.fulfill(body=script, content_type="text/html")

        tab.route(f"{provider.sign_in_url}?*", leads)
        tab.route(re.compile(r"/console(\?.*)?$|/console/settings\.json$"), serves)
        yield provider


def test_a_sign_in_at_cognito_leaves_no_code_in_the_address_bar(
    tab: Page, guarded_host: Host, provider: Provider, issuer: Issuer
) -> None:
    tab.goto(guarded_host.console)
    tab.get_by_role("button", name="Sign in").click()
    expect(panes(tab)).to_have_count(1)
    assert tab.url == f"{guarded_host.console}#chat"
    (asked,) = provider.authorized
    assert asked["code_challenge_method"] == "S256" and len(asked["state"]) >= 32
    assert asked["redirect_uri"] == guarded_host.console
    assert tab.evaluate("Object.keys(sessionStorage)") == ["message-handler.tokens"]
    assert tab.evaluate("localStorage.length") == 0
    # An access token lasts an hour, and a shift is longer: the page renews the token by itself.
    tab.evaluate(
        """(expired) => {
            const kept = JSON.parse(sessionStorage.getItem("message-handler.tokens"));
            sessionStorage.setItem("message-handler.tokens", JSON.stringify({ ...kept, access: expired }));
        }""",
        token(issuer, "messages", "admin", expires=-5),
    )
    tab.reload()
    expect(panes(tab)).to_have_count(1)
    expect(opens(tab, "Operations").get_by_role("heading", name="Live locks")).to_be_visible()
    assert provider.posted[-1]["grant_type"] == "refresh_token"
    assert len(provider.refresh_tokens) == 1
    tab.get_by_role("button", name="Sign out").click()
    expect(tab.get_by_role("button", name="Sign in")).to_be_visible()
    eventually(lambda: not provider.refresh_tokens)
    assert provider.left == [{"client_id": CLIENT_ID, "logout_uri": guarded_host.console}]


RESTED = "You were signed out after 15 minutes without a touch."


def test_an_operator_who_leaves_is_signed_out_and_nothing_stays(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    tab.clock.install()
    signed_in(tab, guarded_host, token(issuer, "messages", "admin"))
    pane = panes(tab).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(CANARY)
    for touch in (lambda: tab.mouse.move(9, 9), lambda: tab.keyboard.press("Shift"), lambda: tab.mouse.wheel(0, 1)):
        tab.clock.fast_forward("14:30")
        touch()
    expect(replies(pane)).to_contain_text(CANARY)
    tab.clock.fast_forward("15:01")
    expect(tab.get_by_role("alert")).to_have_text(RESTED)
    assert CANARY not in tab.content()
    assert tab.evaluate("Object.keys(sessionStorage)") == []


def test_a_tab_that_the_browser_restores_later_is_signed_out(tab: Page, guarded_host: Host, issuer: Issuer) -> None:
    signed_in(tab, guarded_host, token(issuer, "messages", "admin"))
    tab.evaluate(
        """() => {
            const kept = JSON.parse(sessionStorage.getItem("message-handler.tokens"));
            const touched = kept.touched - 15 * 60_000;
            addEventListener("pagehide", () =>
                sessionStorage.setItem("message-handler.tokens", JSON.stringify({ ...kept, touched })));
        }"""
    )
    tab.reload()
    expect(tab.get_by_role("alert")).to_have_text(RESTED)
    expect(panes(tab)).to_have_count(0)


def test_an_operator_who_leaves_must_sign_in_at_cognito_again(
    tab: Page, guarded_host: Host, provider: Provider
) -> None:
    tab.clock.install()
    tab.goto(guarded_host.console)
    tab.get_by_role("button", name="Sign in").click()
    expect(panes(tab)).to_have_count(1)
    tab.clock.fast_forward("15:01")
    expect(tab.get_by_role("alert")).to_have_text(RESTED)
    eventually(lambda: not provider.refresh_tokens)
    assert len(provider.left) == 1
    tab.go_back()
    expect(panes(tab)).to_have_count(0)


def test_a_token_that_is_renewed_while_the_operator_signs_out_is_not_kept(
    tab: Page, guarded_host: Host, provider: Provider, issuer: Issuer
) -> None:
    tab.goto(guarded_host.console)
    tab.get_by_role("button", name="Sign in").click()
    expect(panes(tab)).to_have_count(1)
    asked: list[Route] = []
    tab.route("**/oauth2/token", lambda route: asked.append(route))
    tab.route("**/admin/**", lambda route: route.fulfill(status=401, json={"message": "Unauthorized"}))
    tab.route("**/logout?*", lambda route: route.fulfill(status=204))  # the page stays until the answer comes
    with tab.expect_request("**/oauth2/token"):
        opens(tab, "Operations")
    tab.get_by_role("button", name="Sign out").click()
    with tab.expect_response("**/oauth2/token"):
        renewed = {"access_token": token(issuer, "messages", "admin"), "expires_in": 3600}
        asked[0].fulfill(json=renewed, headers={"Access-Control-Allow-Origin": "*"})
    tab.wait_for_timeout(200)
    assert tab.evaluate("Object.keys(sessionStorage)") == []


def test_the_page_reaches_its_cognito_and_no_other_server(
    opened: Opened, tab: Page, guarded_host: Host, provider: Provider, issuer: Issuer
) -> None:
    with running(Provider(guarded_host.console, issuer)) as other:
        tab.goto(guarded_host.console)
        tab.get_by_role("button", name="Sign in").click()
        expect(panes(tab)).to_have_count(1)
        assert [form["grant_type"] for form in provider.posted] == ["authorization_code"]
        reached = tab.evaluate(
            """async (url) => {
                const told = new Promise((is) => addEventListener("securitypolicyviolation", is, { once: true }));
                const reached = await fetch(`${url}/oauth2/token`, { method: "POST" }).catch((error) => error.name);
                await told;
                return [reached, refused.splice(0)];
            }""",
            other.url,
        )
        assert reached == ["TypeError", [f"connect-src {other.url}/oauth2/token"]]
        assert other.posted == []
        assert {"violates" in told for told in opened.wrong} == {True}  # the browser reports it too
        opened.wrong.clear()


@pytest.mark.parametrize("wrong", ["state", "refusal", "code"])
def test_a_sign_in_that_was_not_begun_here_or_is_refused_gives_no_token(
    tab: Page, guarded_host: Host, provider: Provider, wrong: str
) -> None:
    provider.state = "another" if wrong == "state" else None
    provider.refusal = "access_denied" if wrong == "refusal" else None
    provider.status = 400 if wrong == "code" else None
    tab.goto(guarded_host.console)
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("alert")).to_be_visible()
    expect(panes(tab)).to_have_count(0)
    assert "?" not in tab.url
    assert len(provider.posted) == (1 if wrong == "code" else 0)
    assert tab.evaluate("Object.keys(sessionStorage)") == []
