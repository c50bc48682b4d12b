"""The safety view: an operator takes a raised conversation, and closes it with a word why."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import CANARY, Host, opens
from tests.console.test_reach import assert_accessible, sideways, walk_to

WHY = "The nurse has called."


@pytest.fixture
def name() -> str:
    """A conversation of this test alone."""
    return f"danger-{uuid.uuid4().hex[:8]}"


def danger(host: Host, name: str) -> str:
    """A patient is in danger. Returns the job of the notice."""
    body = {"messages": [{"role": "user", "content": f"{CANARY} I can't breathe"}]}
    answer: dict[str, Any] = host.call("POST", f"conversations/{name}/messages", json=body).json()
    return str(answer["safety"]["notice_job_id"])


def drill(host: Host, name: str) -> str:
    return str(host.call("POST", "admin/safety/drill", json={"conversation_id": name}).json()["job_id"])


def row_of(page: Page, name: str) -> Locator:
    return opens(page, "Safety").get_by_role("table", name="Raised conversations").get_by_role("row", name=name)


def test_a_raised_conversation_is_taken_and_closed_by_keyboard(page: Page, host: Host, name: str) -> None:
    danger(host, name)
    row = row_of(page, name)
    expect(row).to_contain_text("emergency")
    expect(row.get_by_text("drill")).to_be_hidden()
    walk_to(page, f"Take {name}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="You care for")).to_be_visible()
    expect(row).to_contain_text("anyone")
    expect(row.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Why")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.type(WHY)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(row).to_contain_text(f"closed: {WHY}")
    expect(row.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("button", name="all", exact=True)).to_be_focused()


def test_a_drill_is_marked_and_found_by_its_state(page: Page, host: Host, name: str) -> None:
    job_id = drill(host, name)
    row = row_of(page, name)
    expect(row.get_by_text("drill", exact=True).first).to_be_visible()
    states = page.get_by_role("group", name="Raised conversations by state")
    states.get_by_role("button", name="taken").click()
    expect(row).to_have_count(0)
    assert host.call("POST", f"admin/safety/raised/{job_id}/take").ok
    expect(row).to_have_count(1)


def test_what_another_operator_has_taken_is_not_taken_again(page: Page, host: Host, name: str) -> None:
    job_id = drill(host, name)
    row = row_of(page, name)
    expect(row).to_have_count(1)
    page.route("**/admin/safety/raised?*", lambda route: route.abort())
    assert host.call("POST", f"admin/safety/raised/{job_id}/take").ok
    row.get_by_role("button", name="Take").click()
    expect(page.get_by_role("status").filter(has_text="taken or closed already")).to_be_visible()
    page.unroute("**/admin/safety/raised?*")
    expect(row.get_by_role("button", name="Close")).to_be_visible()


def test_axe_finds_nothing_and_no_part_scrolls_sideways(page: Page, host: Host, name: str) -> None:
    job_id = drill(host, name)
    assert host.call("POST", f"admin/safety/raised/{job_id}/take").ok
    row_of(page, name).get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    assert_accessible(page)
    for width in (320, 1920):
        page.set_viewport_size({"width": width, "height": 700})
        assert sideways(page) == [], width
