"""The operations view: what an operator sees in an incident, and can do."""

from __future__ import annotations

import re

import requests
from playwright.sync_api import Page, expect

from tests.console.conftest import CANARY, Host, eventually, opens, panes, replies, says


def test_a_failed_job_is_found_by_its_state_and_retried(page: Page) -> None:
    pane = panes(page).first
    name = pane.get_by_role("heading").inner_text()
    says(pane, f"[fail] {CANARY}")
    expect(pane.locator('.message[data-state="failed"]')).to_have_count(1)
    operations = opens(page, "Operations")
    operations.get_by_role("button", name="failed", exact=True).click()
    row = operations.get_by_role("table", name="Jobs").get_by_role("row", name=name)
    expect(row).to_have_count(1)
    retries: list[str] = []
    page.on("request", lambda request: retries.append(request.url) if request.method == "POST" else None)
    expect(row).to_contain_text("failed · ai_failed")
    row.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("stays failed")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    row.get_by_role("button", name="Retry").click()
    dialog.get_by_role("button", name="Retry it").click()
    expect(operations.get_by_role("status")).to_contain_text("answers in its place")
    assert len(retries) == 1, "the remaining job was not retried"
    expect(row.first.get_by_role("cell").nth(3)).to_contain_text("→")
    successor = row.first.get_by_role("cell").nth(3).inner_text()[-6:]
    opens(page, "Chat")
    expect(pane.locator(".job-head")).to_contain_text(f"job …{successor}")


def test_the_last_minutes_are_drawn_and_told(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_have_count(1)
    operations = opens(page, "Operations")
    expect(operations.get_by_role("img", name="Jobs per minute")).to_have_accessible_name(
        re.compile(r"completed: at most \d+, last \d+; begun: at most \d+, last \d+")
    )
    operations.get_by_text("Show the figures as a table").click()
    expect(operations.get_by_role("table", name="The last minutes in figures").get_by_role("row")).to_have_count(16)


def test_dead_letters_are_shown_and_redriven(page: Page, host: Host) -> None:
    """The platform does not answer. The test gives its delivery up, as the service does after a day."""
    path = "admin/platforms/default"
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    webhook = {"name": "P", "base_url": "http://127.0.0.1:9", "meta_data": {"webhook_secrets": [secret]}}
    assert host.call("PUT", path, json=webhook).ok
    try:
        pane = panes(page).first
        name = pane.get_by_role("heading").inner_text()
        says(pane, f"Hello {CANARY}")
        expect(replies(pane)).to_have_count(1)
        give_up = "update outbox set status = 'dead' where conversation_id = :name and last_error is not null"
        eventually(lambda: host.change(give_up, name=name))
        operations = opens(page, "Operations")
        row = operations.get_by_role("table", name="Dead letters").get_by_role("row", name=name)
        expect(row).to_have_count(1)
        operations.get_by_role("button", name="Redrive all").click()
        page.get_by_role("dialog").get_by_role("button", name="Redrive them").click()
        expect(operations.get_by_role("status")).to_contain_text("tried again")
        expect(row).to_have_count(0)
    finally:
        assert host.call("PUT", path, json={"name": "Default platform"}).ok


def test_an_api_that_does_not_answer_is_said_aloud(page: Page) -> None:
    opens(page, "Operations")
    page.route("**/admin/**", lambda route: route.abort())
    expect(page.locator("#banner")).to_contain_text("No answer")
    page.unroute("**/admin/**")
    expect(page.locator("#banner")).to_be_empty()


def test_the_buttons_that_stop_parts_are_for_this_page_alone(host: Host) -> None:
    other = {"Origin": "http://evil.example"}
    answer = requests.put(f"{host.url}/local/parts/redis", json={"state": "stopped"}, headers=other, timeout=10)
    assert answer.status_code == 403
