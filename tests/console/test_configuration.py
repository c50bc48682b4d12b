"""The configuration view: an edit never overwrites another one, and an error is shown at its field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import CANARY, Host, opens, panes, replies, says


@pytest.fixture
def bot(host: Host) -> Iterator[str]:
    record = {"name": "Pharmacy Assistant", "language": "en"}
    assert host.call("PUT", "admin/bots/pharmacy", json=record).ok
    yield "pharmacy"
    assert host.call("DELETE", "admin/bots/pharmacy").ok


def edits(page: Page, name: str) -> Locator:
    opens(page, "Configuration").get_by_role("button", name=f"Edit bot {name}").click()
    editor = page.locator("dialog.editor")
    expect(editor).to_be_visible()  # so that the test sees the record as it is now
    return editor


def test_a_bot_is_edited_and_the_next_reply_has_changed(page: Page, bot: str) -> None:
    pane = panes(page).first
    pane.get_by_label("Bot").fill(bot)
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text("Pharmacy Assistant answers")
    editor = edits(page, bot)
    editor.get_by_label("Name", exact=True).fill("Night Pharmacy")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()
    expect(opens(page, "Configuration").get_by_role("status")).to_contain_text("is saved")
    opens(page, "Chat")
    known = 1  # replies; an earlier configuration may be used for some seconds
    while "Night Pharmacy answers" not in replies(pane).last.inner_text():
        assert known < 20, "the edited bot never answers"
        says(pane, f"And now? {CANARY}")
        known += 1
        expect(replies(pane)).to_have_count(known)


def test_what_is_wrong_is_said_at_its_field_and_mended_there(page: Page, bot: str) -> None:
    editor = edits(page, bot)
    debounce, quiet = editor.get_by_label("Debounce, ms"), editor.get_by_label("Debounce limit, ms")
    debounce.fill("soon")
    editor.get_by_role("button", name="Save").click()
    expect(debounce).to_have_attribute("aria-invalid", "true")
    expect(debounce).to_be_focused()
    expect(debounce).to_have_accessible_description(
        "Quiet time before the AI is asked: 0 to 10000. 0: off. Not set: 500. must be a valid integer"
    )
    debounce.fill("900")
    quiet.fill("5")
    editor.get_by_role("button", name="Save").click()
    expect(quiet).to_have_attribute("aria-invalid", "true")
    expect(debounce).not_to_have_attribute("aria-invalid", "true")
    expect(editor.get_by_text("must not be less than debounce_ms")).to_be_visible()
    quiet.fill("1000")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()


def test_another_operators_change_is_shown_and_is_not_lost(page: Page, host: Host, bot: str) -> None:
    editor = edits(page, bot)
    theirs = {"name": "Theirs", "language": "en", "description": "by day"}
    assert host.call("PUT", f"admin/bots/{bot}", json=theirs).ok
    name = editor.get_by_label("Name", exact=True)
    name.fill("Mine")
    editor.get_by_role("button", name="Save").click()
    conflict = editor.get_by_role("alert").filter(has_text="This record was changed")
    expect(conflict).to_contain_text("Name: saved “Theirs”, yours “Mine”")
    expect(conflict).to_contain_text("Description: saved “by day”, yours “”")
    assert host.call("GET", f"admin/bots/{bot}").json()["name"] == "Theirs"
    conflict.get_by_role("button", name="Take the saved values").click()
    expect(name).to_have_value("Theirs")
    name.fill("Both")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()
    record = host.call("GET", f"admin/bots/{bot}").json()
    assert (record["name"], record["description"]) == ("Both", "by day")


def test_an_ai_core_is_created_given_to_a_bot_and_kept_while_the_bot_needs_it(page: Page, bot: str) -> None:
    configuration = opens(page, "Configuration")
    configuration.get_by_role("button", name="New AI core").click()
    editor = page.locator("dialog.editor")
    editor.get_by_role("button", name="Save").click()
    expect(editor.get_by_text("is missing")).to_be_visible()
    editor.get_by_label("Id", exact=True).fill("trial")
    editor.get_by_label("Name", exact=True).fill("Trial")
    editor.get_by_label("Endpoint").fill("simulated://")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()
    editor = edits(page, bot)
    editor.get_by_label("AI core").select_option("trial")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()

    configuration.get_by_role("button", name="Edit AI core trial").click()
    editor.get_by_role("button", name="Delete this AI core").click()
    page.get_by_role("button", name="Delete it").click()
    expect(editor.get_by_text("a bot answers with it: change that bot first")).to_be_visible()
    editor.get_by_role("button", name="Cancel").click()

    editor = edits(page, bot)
    editor.get_by_label("AI core").select_option("none")
    editor.get_by_role("button", name="Save").click()
    expect(editor).to_be_hidden()
    configuration.get_by_role("button", name="Edit AI core trial").click()
    editor.get_by_role("button", name="Delete this AI core").click()
    page.get_by_role("button", name="Delete it").click()
    expect(configuration.get_by_role("button", name="Edit AI core trial")).to_have_count(0)


def test_a_new_record_never_writes_over_one_that_is_there(page: Page, host: Host, bot: str) -> None:
    opens(page, "Configuration").get_by_role("button", name="New bot").click()
    editor = page.locator("dialog.editor")
    editor.get_by_label("Id", exact=True).fill(bot)
    editor.get_by_label("Name", exact=True).fill("Another")
    editor.get_by_role("button", name="Save").click()
    expect(editor.get_by_role("alert").filter(has_text="This record was changed")).to_be_visible()
    assert host.call("GET", f"admin/bots/{bot}").json()["name"] == "Pharmacy Assistant"


def test_a_stored_secret_is_kept_and_never_shown(page: Page, host: Host) -> None:
    record = {
        "name": "Real",
        "api_endpoint": "https://127.0.0.1:9/v1/chat",
        "auth_token": "s3cr3t",
        "meta_data": {"model": "m"},
    }
    assert host.call("PUT", "admin/core-ai/real", json=record).ok
    try:
        opens(page, "Configuration").get_by_role("button", name="Edit AI core real").click()
        editor = page.locator("dialog.editor")
        expect(editor.get_by_label("Token", exact=True)).to_have_value("***")
        editor.get_by_label("Name", exact=True).fill("Really")
        editor.get_by_role("button", name="Save").click()
        expect(editor).to_be_hidden()
        stored = host.call("GET", "admin/core-ai/real").json()
        assert (stored["name"], stored["auth_token"]) == ("Really", "***")
        assert "s3cr3t" not in page.content()
    finally:
        host.call("DELETE", "admin/core-ai/real")
