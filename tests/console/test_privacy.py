"""Texts of patients and operators stay text, and stay in the tab."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser, Page, expect

from message_handler.domain.identifiers import is_conversation_id
from tests.console.conftest import CANARY, Host, add_pane, opens, panes, replies, says

#: Texts that run a script in a page that makes HTML of them. Each calls alert, which the fixture sees.
INJECTIONS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><script>alert(1)</script>',
    "'-alert(1)-'",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><button>x",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<template><img src=x onerror=alert(1)></template>",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!--><img src=x onerror=alert(1)>-->",
    "\u202egnp.exe <b>bold</b>",
]


@pytest.fixture
def elements(page: Page) -> set[str]:
    """The kinds of elements in the console."""
    expect(opens(page, "Operations").get_by_role("img", name="Time to the reply")).to_be_visible()
    expect(opens(page, "Configuration").get_by_role("button", name="Edit platform default")).to_be_visible()
    opens(page, "Chat")
    return kinds(page) | {"LI", "TR", "TD", "DIALOG", "DETAILS", "SECTION", "SPAN", "P"}


def kinds(page: Page) -> set[str]:
    found: list[str] = page.evaluate("[...new Set([...document.querySelectorAll('*')].map((node) => node.tagName))]")
    return set(found)


def test_messages_and_replies_are_text_whatever_is_typed(page: Page, elements: set[str]) -> None:
    pane = panes(page).first
    pane.get_by_label("Debounce, ms").fill("1000")
    says(pane, *INJECTIONS)
    expect(replies(pane).last).to_contain_text(f"> {INJECTIONS[-1]}")
    expect(pane.locator('.message[data-state="answered"]')).to_have_count(len(INJECTIONS))
    shown = page.evaluate("[...document.querySelectorAll('.message p')].map((node) => node.textContent)")
    assert sorted(shown) == sorted(INJECTIONS)
    said = "\n".join(page.evaluate("[...document.querySelectorAll('.reply')].map((node) => node.textContent)"))
    assert all(f"> {text}" in said for text in INJECTIONS)
    assert kinds(page) <= elements


def test_names_and_descriptions_are_text_wherever_they_are_shown(page: Page, host: Host, elements: set[str]) -> None:
    bots = [f"injected-{number}" for number in range(len(INJECTIONS))]

    def write(bot: str, text: str) -> bool:
        record = {"name": text, "description": text, "language": "en", "meta_data": {"failure_message": text}}
        return host.call("PUT", f"admin/bots/{bot}", json=record).ok

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, bots, INJECTIONS))
    try:
        configuration = opens(page, "Configuration")
        ids = configuration.locator("li .id", has_text="injected-")
        expect(ids).to_have_text(sorted(bots))
        named = ids.evaluate_all("(found) => found.map((id) => [id.textContent, id.previousSibling.textContent])")
        assert {tuple(pair) for pair in named} == set(zip(bots, INJECTIONS, strict=True))
        configuration.get_by_role("button", name=f"Edit bot {bots[0]}", exact=True).click()
        editor = page.locator("dialog.editor")
        expect(editor.get_by_role("heading")).to_have_text(f"{INJECTIONS[0]} (bot)")
        expect(editor.get_by_label("Description")).to_have_value(INJECTIONS[0])
        # A refusal, a conflict and a confirmation show the names too.
        assert host.call("PUT", f"admin/bots/{bots[0]}", json={"name": INJECTIONS[1], "language": "en"}).ok
        editor.get_by_role("button", name="Save").click()
        expect(editor.get_by_role("alert").filter(has_text="This record was changed")).to_contain_text(INJECTIONS[1])
        editor.get_by_role("button", name="Cancel").click()
        opens(page, "Chat")
        page.reload()
        pane = panes(page).first
        pane.get_by_label("Bot").fill(bots[1])
        says(pane, "[fail]")
        expect(replies(pane)).to_have_text(INJECTIONS[1])
        assert kinds(page) <= elements
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda bot: host.call("DELETE", f"admin/bots/{bot}"), bots))


def test_an_id_that_is_no_id_is_refused_and_shown_as_it_is(page: Page, elements: set[str]) -> None:
    for text in INJECTIONS:
        pane = add_pane(page, text)
        expect(pane.get_by_role("heading")).to_have_text(text)
        says(pane, "Hello")
        # Two of them are ids that a channel might make.
        expect(pane.locator(".state")).to_contain_text("answered" if is_conversation_id(text) else "not accepted")
    assert kinds(page) <= elements


def test_the_address_has_nothing_that_people_typed(page: Page, host: Host) -> None:
    for address in ("<script>alert(1)</script>", "chat?code=1&state=2", "constructor"):
        page.goto(f"{host.console}#{address}")
        page.reload()
        expect(panes(page)).to_have_count(1)
    assert page.url == f"{host.console}#chat"


def test_no_word_of_a_patient_outlives_the_tab_or_is_in_its_address(page: Page) -> None:
    word = f"{CANARY}-{uuid.uuid4().hex}"
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    pane = panes(page).first
    says(pane, f"Hello {word}")
    expect(replies(pane)).to_contain_text(word)
    pane.get_by_label("Speak as").select_option("Human colleague")
    says(pane, f"I am Ada {word}")
    expect(pane.locator(".message.sale")).to_contain_text("human colleague")
    for view in ("Operations", "Safety", "Configuration", "Chat"):
        opens(page, view)
        assert word not in page.url
        assert word not in page.title()
    kept = page.evaluate(
        """async () => [
            JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie,
            JSON.stringify(history.state), JSON.stringify(await indexedDB.databases()),
            JSON.stringify(await caches.keys()),
            JSON.stringify((await navigator.serviceWorker.getRegistrations()).length),
        ]"""
    )
    assert kept == ["{}", "{}", "", "null", "[]", "[]", "0"]
    assert not [address for address in addresses if word in address]


def test_a_foreign_script_would_not_run_nor_reach_a_server(browser: Browser, host: Host) -> None:
    """The policy is the last defence. The browser must enforce it: a header alone proves nothing."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(host.console)
    outcomes = page.evaluate(
        """async () => {
            const outcomes = [];
            for (const step of [
                () => { document.body.innerHTML = "<b>x</b>"; },
                () => { document.createElement("script").textContent = "window.ran = true"; },
                () => { document.createElement("script").src = "https://evil.example/x.js"; },
                () => fetch("https://evil.example/"),
            ]) {
                try { await step(); outcomes.push("done"); } catch (error) { outcomes.push(error.name); }
            }
            return outcomes;
        }"""
    )
    context.close()
    assert outcomes == ["TypeError", "TypeError", "TypeError", "TypeError"]
