"""Parts are stopped during the work.

These are the last tests of the folder. Functions do without a store for some seconds after it was away. Until then a
message that was accepted on one tier is not recognised as a duplicate on another.
"""

from __future__ import annotations

import re
from collections import Counter

from playwright.sync_api import Page, expect

from tests.console.conftest import CANARY, Host, opens, panes, replies, says


def test_a_stuck_lock_is_seen_and_released_and_another_worker_answers(page: Page) -> None:
    pane = panes(page).first
    name = pane.get_by_role("heading").inner_text()
    says(pane, f"[slow:6] {CANARY}")
    expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
    operations = opens(page, "Operations")
    operations.get_by_role("button", name="Stop Worker").click()
    try:
        row = operations.get_by_role("table", name="Live locks").get_by_role("row", name=name)
        expect(row).to_contain_text("stuck")
        expect(page.locator("#banner.bad")).to_contain_text("No worker answers")
        expect(page.locator("#banner")).to_contain_text("no worker has shown a sign of life since")
        expect(page).to_have_title(re.compile("^No worker answers"))
        row.get_by_role("button", name="Release").click()
        dialog = page.get_by_role("dialog", name=f"Release the lock of {name}?")
        expect(dialog).to_contain_text("can't commit a reply")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()
        expect(row).to_contain_text("stuck")
        row.get_by_role("button", name="Release").click()
        dialog.get_by_role("button", name="Release it").click()
        expect(operations.get_by_text(f"{name} is free")).to_be_visible()
        expect(row).to_contain_text("none yet")
    finally:
        operations.get_by_role("button", name="Start Worker").click()
        expect(operations.get_by_role("button", name="Stop Worker")).to_be_visible()
    opens(page, "Chat")
    expect(replies(pane)).to_contain_text(CANARY)
    expect(page.locator("#banner")).to_be_empty()
    expect(replies(pane)).to_have_count(1)


def test_an_outage_of_redis_in_the_middle_of_a_burst_loses_and_doubles_nothing(page: Page, host: Host) -> None:
    pane = panes(page).first
    pane.get_by_role("button", name="50 at once").click()
    expect(pane.locator(".message").first).to_be_visible()
    operations = opens(page, "Operations")
    operations.get_by_role("button", name="Stop Redis").click()
    try:
        expect(operations.get_by_role("button", name="Start Redis")).to_be_visible()
        expect(page.locator("#banner")).to_contain_text("Degraded")
        expect(operations.locator(".tile", has_text="coordinates now")).to_contain_text("Postgres")
        opens(page, "Chat")
        pane.get_by_role("button", name="50 at once").click()
        expect(pane.locator(".message .badge", has_text="degraded").first).to_be_attached()
        # A record that met a live holder comes back at the holder's deadline, two minutes after the claim. Only then
        # does its promised job lead to the answer.
        expect(pane.locator('.message[data-state="answered"]')).to_have_count(100, timeout=150_000)
    finally:
        opens(page, "Operations").get_by_role("button", name="Start Redis").click()
        expect(page.locator("#banner")).to_be_empty()
    opens(page, "Chat")
    name = pane.get_by_role("heading").inner_text()
    turns = host.call("GET", f"conversations/{name}").json()["turns"]
    quoted = Counter(line for turn in turns if turn["role"] == "assistant" for line in turn["content"].splitlines()[1:])
    wrong = {line: times for line, times in quoted.items() if times != 2}
    assert not wrong and len(quoted) == 50, f"these messages are not in exactly one reply: {wrong}"
