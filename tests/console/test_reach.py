"""The console works by keyboard, on small screens, in dark mode, with screen readers and over slow connections."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Response, expect

from tests.console.conftest import CANARY, Host, add_pane, opens, panes, replies, says

FIRST_PAINT_BYTES = 100_000


def test_the_first_paint_weighs_less_than_100_kb(browser: Browser, host: Host) -> None:
    context = browser.new_context()
    page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto(host.console)
    expect(panes(page)).to_have_count(1)
    page.wait_for_load_state("networkidle")
    weights = {response.url: sum_of(response.request.sizes()) for response in responses}
    context.close()
    assert len(weights) > 5
    assert all(url.startswith(host.url) for url in weights), "something comes from elsewhere"
    assert sum(weights.values()) < FIRST_PAINT_BYTES, weights


def sum_of(sizes: Any) -> int:
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


@pytest.fixture
def lived_in(page: Page) -> Page:
    """The console with data in each view."""
    talk(page)
    return page


def talk(page: Page) -> None:
    """Make a conversation with a message in each state."""
    first = panes(page).first
    says(first, f"Hello {CANARY}", f"and {CANARY}")
    expect(replies(first)).to_have_count(1)
    first.get_by_role("button", name="Send a duplicate").click()
    says(first, f"[fail] {CANARY}")
    expect(first.locator('.message[data-state="failed"]')).to_have_count(1)
    first.get_by_label("Double texting").select_option("reject")
    first.get_by_label("Speak as").select_option("Human colleague")
    says(first, f"I am Ada {CANARY}")
    expect(first.get_by_text("a human answers", exact=True)).to_be_visible()


def works(page: Page) -> Locator:
    """A conversation with a running job, which lasts longer than a test."""
    pane = add_pane(page)
    says(pane, f"[slow:25] {CANARY}")
    expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
    return pane


def test_axe_finds_nothing_in_any_view(lived_in: Page) -> None:
    page = lived_in
    assert_accessible(page)
    pane = works(page)
    name = pane.get_by_role("heading").inner_text()
    operations = opens(page, "Operations")
    release = operations.get_by_role("button", name=f"Release {name}")
    expect(release).to_be_visible()
    operations.get_by_text("Show the figures as a table").click()
    assert_accessible(page)
    release.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    opens(page, "Configuration").get_by_role("button", name="New bot").click()
    page.locator("dialog.editor").get_by_role("button", name="Save").click()
    expect(page.locator("dialog.editor .complaint:visible")).to_have_count(1)
    assert_accessible(page)
    page.keyboard.press("Escape")
    assert_accessible(page)
    page.route("**/admin/**", lambda route: route.abort())
    opens(page, "Operations")
    expect(page.locator("#banner")).to_contain_text("No answer")
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    """Let axe check the page in light and dark mode."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"


def test_no_view_scrolls_sideways_however_narrow_or_wide(lived_in: Page) -> None:
    page = lived_in
    name = works(page).get_by_role("heading").inner_text()
    last = {"Chat": "50 at once", "Operations": f"Release {name}", "Configuration": "Edit platform default"}
    for view, button in last.items():
        expect(opens(page, view).get_by_role("button", name=button).first).to_be_visible()
        for width in (320, 1920):
            page.set_viewport_size({"width": width, "height": 700})
            assert sideways(page) == [], (view, width)
    page.set_viewport_size({"width": 320, "height": 700})
    page.get_by_role("button", name="New AI core").click()
    assert sideways(page) == []


def sideways(page: Page) -> list[str]:
    """The elements that reach beyond the page or cut off their own text."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("body *:not(.skip, .unseen, .unseen *, option, svg *, thead, thead *)")]
            .filter((node) => node.checkVisibility() && (node.getBoundingClientRect().right > innerWidth + 1
                || (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX !== "visible")))
            .map((node) => `${node.tagName}.${node.className} ${node.textContent.slice(0, 40)}`)"""
    )
    return found


def test_all_of_it_can_be_done_by_keyboard(page: Page) -> None:
    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the view")).to_be_focused()
    press("Tab")
    expect(page.get_by_role("tab", name="Chat")).to_be_focused()
    press("ArrowRight")
    expect(page.get_by_role("tab", name="Operations")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Operations")).to_be_visible()
    press("End")
    expect(page.get_by_role("tabpanel", name="Configuration")).to_be_visible()
    press("Home")
    walk_to(page, "Message in")
    page.keyboard.type(f"[slow:20] {CANARY}")
    press("Enter")
    pane = panes(page).first
    name = pane.get_by_role("heading").inner_text()
    expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
    page.get_by_role("tab", name="Chat").focus()
    press("ArrowRight")
    release = page.get_by_role("button", name=f"Release {name}")
    expect(release).to_be_visible()
    walk_to(page, f"Release {name}")
    press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    press("Escape")
    expect(dialog).to_be_hidden()
    expect(release).to_be_focused()
    page.get_by_role("tab", name="Operations").focus()
    press("ArrowLeft")
    walk_to(page, "Cancel")
    press("Enter")
    expect(pane.locator('.message[data-state="cancelled"]')).to_have_count(1)


def walk_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus. Each element on the way must show its focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        called, outlined = page.evaluate(
            """() => {
                const node = document.activeElement;
                const name = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;
                return [name, node === document.body || getComputedStyle(node).outlineStyle !== "none"];
            }"""
        )
        assert outlined, f"{called} does not show its focus"
        if name in called:
            return
    pytest.fail(f"Tab never comes to {name}")


def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, host: Host) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(host.console)
    says(panes(page).first, f"Hello {CANARY}")
    expect(page.locator(".group")).to_have_count(1)
    assert page.evaluate("document.getAnimations().length") == 0
    expect(replies(panes(page).first)).to_have_count(1)
    context.close()
