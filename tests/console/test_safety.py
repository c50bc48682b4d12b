"""The safety view: an operator takes a raised conversation, and closes it with a word why."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
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
    states = page.get_by_role("group", name="Raised conversations by state")
    expect(states.get_by_role("button", name="all")).to_be_focused()


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


class TestDrills:
    def test_one_is_raised_from_the_page(self, page: Page, host: Host, name: str) -> None:
        view = opens(page, "Safety")
        view.get_by_role("button", name="Raise a drill").click()
        dialog = page.get_by_role("dialog")
        conversation = dialog.get_by_label("Conversation")
        expect(conversation).to_be_focused()
        conversation.fill("")
        dialog.get_by_role("button", name="Raise it").click()
        expect(dialog).to_be_visible()
        conversation.fill(name)
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("status").filter(has_text=f"The drill {name} is raised.")).to_be_visible()
        expect(row_of(page, name).get_by_text("drill", exact=True).first).to_be_visible()


RULE, REASON = "en-seizure", "The ward line answers these patients."


def rules_row(page: Page, rule: str) -> Locator:
    rules = opens(page, "Safety").get_by_role("table", name="Shipped rules")
    return rules.get_by_role("row").filter(has=page.get_by_role("cell", name=rule, exact=True))


class TestRules:
    @pytest.fixture(autouse=True)
    def unwritten(self, host: Host) -> Iterator[None]:
        yield
        assert host.call("PUT", "admin/safety", json={}).ok

    def settings(self, host: Host) -> dict[str, Any]:
        settings: dict[str, Any] = host.call("GET", "admin/safety").json()["settings"]
        return settings

    def test_a_rule_is_declared_not_applicable_with_a_reason_by_keyboard(self, page: Page, host: Host) -> None:
        row = rules_row(page, RULE)
        expect(row).to_contain_text("yes")
        row.get_by_role("button", name="Does not apply").focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Reason")).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        page.keyboard.type(REASON)
        page.keyboard.press("Enter")
        expect(row).to_contain_text(f"no: {REASON}")
        assert self.settings(host)["not_applicable"] == {RULE: REASON}
        expect(page.get_by_text(f"not applicable {RULE}")).to_be_visible()
        expect(row.get_by_role("button", name="Applies again")).to_be_focused()
        page.keyboard.press("Enter")
        expect(row).to_contain_text("yes")
        assert self.settings(host)["not_applicable"] == {}

    def test_what_does_not_apply_is_found_by_its_filter_and_in_the_health(self, page: Page, host: Host) -> None:
        assert host.call("PUT", "admin/safety", json={"not_applicable": {RULE: REASON}}).ok
        row = rules_row(page, RULE)
        expect(row).to_contain_text(REASON)
        levels = page.get_by_role("group", name="Shipped rules by level")
        levels.get_by_role("button", name="not applicable").click()
        expect(page.get_by_role("table", name="Shipped rules").get_by_role("row")).to_have_count(2)
        levels.get_by_role("button", name="crisis").click()
        expect(row).to_have_count(0)
        expect(opens(page, "Operations").get_by_text(f"not applicable: {RULE}")).to_be_visible()

    def test_a_review_is_signed(self, page: Page, host: Host) -> None:
        view = opens(page, "Safety")
        expect(view.get_by_text("No clinician has reviewed these rules.")).to_be_visible()
        view.get_by_role("button", name="Sign the review").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Clinician").fill("Dr Lan")
        dialog.get_by_role("button", name="Sign it").click()
        expect(view.get_by_text("Reviewed. Dr Lan signed version")).to_be_visible()
        shown = host.call("GET", "admin/safety").json()
        assert shown["in_force"]["review"] == "valid"
        assert shown["settings"]["review"]["reviewed_by"] == "Dr Lan"
        assert host.call("PUT", "admin/safety", json=shown["settings"] | {"not_applicable": {RULE: REASON}}).ok
        page.reload()
        expect(view.get_by_text("The rules have changed since they were reviewed.")).to_be_visible()

    def test_own_rules_are_written_and_a_mistake_is_shown_at_its_field(self, page: Page, host: Host) -> None:
        view = opens(page, "Safety")
        view.get_by_role("button", name="Own rules and languages").click()
        editor = page.locator("dialog.editor")
        rules = editor.get_by_label("Own rules")
        rules.fill('[{"language": "en", "rules": [{"id": "clinic-pump", "level": "high", "about": "x"}]}]')
        editor.get_by_role("button", name="Save").click()
        expect(rules).to_have_attribute("aria-invalid", "true")
        expect(editor.get_by_text("must be emergency, crisis or urgent")).to_be_visible()
        pump = {"id": "clinic-pump", "level": "urgent", "about": "A broken pump", "phrases": ["my pump stopped"]}
        rules.fill(json.dumps([{"language": "en", "rules": [pump]}]))
        editor.get_by_role("button", name="Save").click()
        expect(editor).to_be_hidden()
        expect(view.get_by_text("own rules clinic-pump")).to_be_visible()

    def test_another_operators_change_is_not_lost(self, page: Page, host: Host) -> None:
        view = opens(page, "Safety")
        view.get_by_role("button", name="Own rules and languages").click()
        editor = page.locator("dialog.editor")
        languages = editor.get_by_label("Languages of the shipped rules")
        languages.fill("vi")
        assert host.call("PUT", "admin/safety", json={"languages": ["en"], "not_applicable": {RULE: REASON}}).ok
        editor.get_by_role("button", name="Save").click()
        conflict = editor.get_by_role("alert").filter(has_text="This record was changed")
        expect(conflict).to_contain_text("saved “en”, yours “vi”")
        conflict.get_by_role("button", name="Keep my values").click()
        editor.get_by_role("button", name="Save").click()
        expect(editor).to_be_hidden()
        settings = self.settings(host)
        assert (settings["languages"], settings["not_applicable"]) == (["vi"], {RULE: REASON})

    def test_a_button_changes_nothing_that_was_changed_meanwhile(self, page: Page, host: Host) -> None:
        row = rules_row(page, RULE)
        expect(row).to_contain_text("yes")
        assert host.call("PUT", "admin/safety", json={"languages": ["vi"]}).ok
        row.get_by_role("button", name="Does not apply").click()
        page.keyboard.type(REASON)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="it has been changed since you read it")).to_be_visible()
        assert self.settings(host)["not_applicable"] == {}

    def test_axe_finds_nothing(self, page: Page, host: Host) -> None:
        expect(rules_row(page, RULE)).to_contain_text("yes")
        assert_accessible(page)
        for name in ("Sign the review", "Own rules and languages"):
            page.get_by_role("button", name=name).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            assert_accessible(page)
            page.keyboard.press("Escape")
