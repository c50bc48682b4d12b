"""The pages' pictures of the running service. `make screenshots` writes them to docs/images.

Without SCREENSHOTS they are taken too, and thrown away: a change of the console that breaks them fails here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import ROOT, Host, Opened, add_pane, opens, panes, replies, says

#: The largest picture that loads fast enough in a page.
MAXIMUM_BYTES = 250_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ROOT / "docs" / "images" if os.environ.get("SCREENSHOTS") else tmp_path


@pytest.fixture
def still(browser: Browser, host: Host) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 920}, reduced_motion="reduce")
    opened = Opened(context.new_page())
    opened.page.goto(host.console)
    yield opened.page
    opened.check()
    context.close()


def takes(page: Page, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    page.mouse.move(0, 0)
    page.screenshot(path=file, animations="disabled", caret="hide")
    assert 10_000 < file.stat().st_size < MAXIMUM_BYTES


def test_the_readme_shows_the_chat(still: Page, folder: Path) -> None:
    page = still
    first, second = panes(page).first, add_pane(page, "conv_mai")
    first.get_by_label("Debounce, ms").fill("3000")
    says(first, "Hello", "My tablets make me dizzy.", "May I drive?")
    expect(replies(first)).to_contain_text("answers 3 messages")
    first.get_by_role("button", name="Send a duplicate").click()
    expect(first.locator(".state").last).to_contain_text("duplicate")
    second.get_by_role("button", name="50 at once").click()
    expect(replies(second).last).to_contain_text("Message 50 of 50")
    second.get_by_role("region").evaluate("(transcript) => transcript.scrollTo(0, 0)")
    page.evaluate("scrollTo(0, 0)")
    takes(page, folder / "console-chat.png")


def test_the_page_on_administration_shows_the_operations_in_an_outage(still: Page, folder: Path) -> None:
    page = still
    pane = panes(page).first
    says(pane, "How often may I take it?")
    expect(replies(pane)).to_have_count(1)
    operations = opens(page, "Operations")
    operations.get_by_role("button", name="Stop Redis").click()
    try:
        expect(page.locator("#banner")).to_contain_text("Degraded")
        opens(page, "Chat")
        says(pane, "[slow:20] And at night?")
        expect(pane.locator(".job-head").last).to_contain_text("the AI is at work")
        opens(page, "Operations")
        expect(operations.get_by_role("table", name="Live locks").get_by_role("row")).not_to_have_count(0)
        expect(operations.get_by_text("1 running")).to_be_visible()
        takes(page, folder / "console-operations.png")
    finally:
        operations.get_by_role("button", name="Start Redis").click()
        expect(page.locator("#banner")).to_be_empty()


def test_the_page_on_safety_shows_the_rules_and_a_drill(still: Page, host: Host, folder: Path) -> None:
    page = still
    assert host.call("PUT", "admin/safety", json={"not_applicable": {"en-seizure": "The ward line answers them."}}).ok
    raised = host.call("POST", "admin/safety/drill", json={"conversation_id": "drill-picture"}).json()
    assert host.call("POST", f"admin/safety/raised/{raised['job_id']}/take").ok
    try:
        safety = opens(page, "Safety")
        expect(safety.get_by_role("row", name="drill-picture")).to_be_visible()
        safety.get_by_role("button", name="not applicable").click()
        expect(safety.get_by_role("table", name="Shipped rules").get_by_role("row")).to_have_count(2)
        takes(page, folder / "console-safety.png")
    finally:
        assert host.call("PUT", "admin/safety", json={}).ok
        assert host.call("POST", f"admin/safety/raised/{raised['job_id']}/close", json={"why": "A picture."}).ok
