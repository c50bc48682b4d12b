"""The chat view shows a newcomer how messages are joined, and shows what really happened."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.channel_ids import CHANNEL_IDS
from tests.console.conftest import CANARY, Host, add_pane, groups, panes, replies, says


def test_a_first_conversation_is_answered_beneath_what_was_said(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(f"> Hello {CANARY}")
    expect(pane.locator(".message .state")).to_have_text("took the lock · answered")


def test_messages_typed_fast_are_seen_to_join_one_job_and_get_one_reply_in_their_order(page: Page) -> None:
    pane = panes(page).first
    pane.get_by_label("Debounce, ms").fill("3000")  # enough for a machine that is busy with other tests
    says(pane, f"one {CANARY}", f"two {CANARY}", f"three {CANARY}")
    expect(replies(pane)).to_have_text(
        f"[Simulated AI] Healthcare Assistant answers 3 messages:\n> one {CANARY}\n> two {CANARY}\n> three {CANARY}"
    )
    expect(groups(pane)).to_have_count(1)
    expect(pane.locator(".job-head")).to_contain_text("3 messages → 1 reply")
    expect(pane.locator(".state")).to_have_text(
        ["took the lock · answered", "joined the job · answered", "joined the job · answered"]
    )


def test_a_burst_of_50_ends_in_one_reply(page: Page) -> None:
    pane = panes(page).first
    pane.get_by_label("Debounce, ms").fill("3000")  # enough for a machine that is busy with other tests
    pane.get_by_role("button", name="50 at once").click()
    expect(replies(pane)).to_contain_text("answers 50 messages")
    expect(groups(pane)).to_have_count(1)
    expect(pane.locator(".message")).to_have_count(50)
    expect(pane.locator('.message[data-state="answered"]')).to_have_count(50)


def test_a_duplicate_starts_nothing(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_have_count(1)
    pane.get_by_role("button", name="Send a duplicate").click()
    expect(pane.locator(".state").last).to_have_text("duplicate: starts nothing")
    expect(pane.locator(".job-head")).to_contain_text("1 message → 1 reply")


def test_a_message_that_its_job_forgot_is_not_called_answered_before_the_archive_has_it(page: Page) -> None:
    """After Redis came back empty, the job's later records bring back the messages that it forgot."""
    archived = False

    def forgets(route: Route) -> None:
        job = route.fetch()
        route.fulfill(response=job, json=job.json() | {"consolidated_messages": 1})

    def has_one_yet(route: Route) -> None:
        known = route.fetch()
        turns = [turn for turn in known.json()["turns"] if archived or not turn["content"].startswith("two")]
        route.fulfill(response=known, json=known.json() | {"turns": turns})

    page.route(re.compile(r"/jobs/[^/]+$"), forgets)
    page.route(re.compile(r"/conversations/[^/]+$"), has_one_yet)
    pane = panes(page).first
    pane.get_by_label("Debounce, ms").fill("3000")  # enough for a machine that is busy with other tests
    says(pane, f"one {CANARY}", f"two {CANARY}")
    states = pane.locator(".message .state")
    expect(states).to_have_text(["took the lock · answered", "joined the job · safe in the queue, answered later"])
    archived = True
    expect(states).to_have_text(["took the lock · answered", "joined the job · answered"])


def test_a_cancelled_message_is_seen_to_be_cancelled(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"[slow:20] {CANARY}")
    pane.get_by_role("button", name="Cancel").click()
    expect(pane.locator('.message[data-state="cancelled"]')).to_have_count(1)
    expect(replies(pane)).to_have_count(0)


def test_a_failed_job_tells_the_patient_so(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"[fail] {CANARY}")
    expect(pane.locator('.message[data-state="failed"]')).to_have_count(1)
    expect(replies(pane)).not_to_be_empty()


def test_each_conversation_has_a_policy_of_its_own(page: Page) -> None:
    interrupts, waits, rejects = panes(page).first, add_pane(page), add_pane(page)
    for pane, policy in ((interrupts, "interrupt"), (waits, "enqueue"), (rejects, "reject")):
        pane.get_by_label("Double texting").select_option(policy)
        says(pane, f"[slow:4] first {CANARY}")
    for pane in (interrupts, waits, rejects):
        expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
        says(pane, f"second {CANARY}")
    expect(rejects.locator(".state").last).to_contain_text("not accepted")
    expect(waits.locator(".state").last).to_contain_text("waits for its turn")
    expect(interrupts.locator(".state").last).to_contain_text("interrupted the previous job")
    expect(replies(interrupts)).to_have_count(1)
    expect(replies(interrupts)).to_contain_text("answers 2 messages")
    expect(replies(waits)).to_have_count(2)
    expect(replies(rejects)).to_have_count(1)


def test_what_is_said_while_a_human_answers_is_held_and_answered_when_it_is_handed_back(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"[slow:20] first {CANARY}")
    expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
    pane.get_by_role("button", name="Hand off to a human").click()
    expect(pane.get_by_text("a human answers", exact=True)).to_be_visible()
    expect(pane.locator(".state").first).to_contain_text("stored for a human")
    pane.get_by_label("Speak as").select_option("Human colleague")
    says(pane, f"I am Ada {CANARY}")
    expect(pane.locator(".message.sale")).to_contain_text("human colleague")
    pane.get_by_label("Speak as").select_option("Patient")
    says(pane, f"Thank you {CANARY}")
    expect(pane.locator(".state").last).to_have_text("stored for a human")
    pane.get_by_role("button", name="Hand back to the bot").click()
    expect(pane.locator(".job-head").last).to_contain_text("2 messages")
    pane.get_by_role("button", name="Cancel").click()  # no need to wait for its 20 seconds


def test_the_text_so_far_is_shown_where_the_bot_shows_it(page: Page, host: Host) -> None:
    record = {"name": "Open book", "language": "en", "meta_data": {"show_partial_reply": True}}
    assert host.call("PUT", "admin/bots/open-book", json=record).ok
    pane = panes(page).first
    pane.get_by_label("Bot").fill("open-book")
    says(pane, f"[slow:4] {CANARY}")
    expect(pane.locator(".reply.partial")).to_contain_text("[Simulated AI] O")
    expect(replies(pane)).to_contain_text(CANARY)


def test_a_conversation_that_exists_is_gone_on_with(page: Page) -> None:
    first = panes(page).first
    says(first, f"Remember {CANARY}")
    expect(replies(first)).to_have_count(1)
    name = first.get_by_role("heading").inner_text()
    page.reload()
    again = add_pane(page, name)
    expect(again.locator(".message")).to_contain_text(f"Remember {CANARY}")
    expect(replies(again)).to_contain_text(f"> Remember {CANARY}")


@pytest.mark.parametrize("conversation_id", CHANNEL_IDS)
def test_a_conversation_may_have_an_id_as_its_channel_made_it(page: Page, host: Host, conversation_id: str) -> None:
    paths: list[str] = []
    page.on("request", lambda request: paths.append(request.url.removeprefix(f"{host.url}/")))
    pane = add_pane(page, conversation_id)
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(f"> Hello {CANARY}")
    name = quote(conversation_id, safe="!'()*~")  # as encodeURIComponent has it
    assert {f"conversations/{name}", f"conversations/{name}/messages"} <= set(paths)
    known = host.call("GET", f"conversations/{quote(conversation_id, safe='')}").json()
    assert known["conversation_id"] == conversation_id
    assert len(known["turns"]) == 2


def test_a_message_without_words_is_seen_to_be_kept(page: Page, host: Host) -> None:
    pane = panes(page).first
    says(pane, "\u200b")
    expect(pane.locator(".message .state")).to_have_text("kept: there is nothing to answer")
    expect(pane.locator(".message p")).to_have_text("[no words]")
    expect(pane.locator(".job-head:visible")).to_have_count(0)
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_contain_text(f"> Hello {CANARY}")
    conversation_id = str(pane.get_by_role("region").get_attribute("aria-label")).removeprefix("Transcript of ")
    again = add_pane(page, conversation_id)
    expect(again.locator(".message p").first).to_have_text("[no words]")
    expect(replies(again)).to_contain_text(f"> Hello {CANARY}")
    assert "\u200b" in [
        turn["content"] for turn in host.call("GET", f"conversations/{conversation_id}").json()["turns"]
    ]


def changes(message: Locator, words: str) -> None:
    """Edit a message with the keyboard."""
    message.get_by_role("button", name="Edit").press("Enter")
    box = message.get_by_role("textbox", name="New words")
    expect(box).to_be_focused()
    box.fill(words)
    box.press("Enter")


def again(page: Page, pane: Locator) -> Locator:
    """The same conversation after a reload of the page."""
    name = pane.get_by_role("heading").inner_text()
    page.reload()
    return add_pane(page, name)


def test_an_edited_message_is_answered_with_its_newest_words_and_marked(page: Page) -> None:
    pane = panes(page).first
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if request.method == "GET" else None)
    pane.get_by_label("Debounce, ms").fill("6000")  # enough for two edits on a machine that is busy with other tests
    says(pane, f"2 pills {CANARY}", f"a day {CANARY}")
    message = pane.locator(".message").first
    changes(message, f"20 pills {CANARY}")
    expect(message.locator(".state")).to_have_text("joined the job · edited")
    expect(pane.get_by_role("textbox", name="Message in")).to_be_focused()
    changes(message, f"3 pills {CANARY}")
    expect(replies(pane)).to_contain_text(f"answers 2 messages:\n> 3 pills {CANARY}\n> a day {CANARY}")
    expect(pane.locator(".message p")).to_have_text([f"3 pills {CANARY}", f"a day {CANARY}"])
    expect(message.locator(".state")).to_have_text("joined the job · answered · edited")
    expect(pane.locator(".job-head")).to_contain_text("2 messages → 1 reply")
    assert [url for url in looks if "/conversations/" in url] == [], "no message was taken for late"
    reloaded = again(page, pane)
    expect(reloaded.locator(".message p")).to_have_text([f"3 pills {CANARY}", f"a day {CANARY}"])
    expect(reloaded.locator(".state")).to_have_text(["answered · edited", "answered"])


def test_an_edit_of_an_answered_message_gets_a_further_reply(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"2 pills {CANARY}")
    expect(replies(pane)).to_have_count(1)
    changes(pane.locator(".message"), f"20 pills {CANARY}")
    expect(replies(pane)).to_have_count(2)
    changes(pane.locator(".message").last, f"2 pills {CANARY}")  # the patient returns to the first words
    expect(replies(pane)).to_have_count(3)
    expect(replies(pane).last).to_contain_text(f"> 2 pills {CANARY}")
    expect(pane.get_by_role("button", name="Edit")).to_have_count(1)
    states = ["answered", "answered · edited", "answered · edited"]
    expect(pane.locator(".state")).to_have_text([f"took the lock · {state}" for state in states])
    expect(again(page, pane).locator(".state")).to_have_text(states)


def test_an_edit_may_be_cancelled(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_have_count(1)
    message = pane.locator(".message")
    message.get_by_role("button", name="Edit").press("Enter")
    box = message.get_by_role("textbox", name="New words")
    expect(box).to_have_value(f"Hello {CANARY}")
    box.fill(f"Good-bye {CANARY}")
    box.press("Escape")
    expect(message.get_by_role("button", name="Edit")).to_be_focused()
    expect(message.locator("p")).to_have_text(f"Hello {CANARY}")
    changes(message, f"Hello {CANARY} ")  # the same words are no edit
    expect(pane.locator(".message")).to_have_count(1)
    expect(message.locator(".state")).to_have_text("took the lock · answered")


def test_an_edit_that_is_refused_leaves_the_message(page: Page) -> None:
    pane = panes(page).first
    pane.get_by_label("Double texting").select_option("reject")
    says(pane, f"[slow:4] first {CANARY}")
    expect(pane.locator(".job-head")).to_contain_text("the AI is at work")
    changes(pane.locator(".message"), f"second {CANARY}")
    expect(pane.locator(".message p")).to_have_text([f"[slow:4] first {CANARY}", f"second {CANARY}"])
    expect(replies(pane)).to_contain_text(f"> [slow:4] first {CANARY}")
    expect(pane.locator('.message[data-state="answered"] p')).to_have_text(f"[slow:4] first {CANARY}")
    expect(pane.locator('.message[data-state="rejected"] p')).to_have_text(f"second {CANARY}")
    changes(pane.locator(".message").first, f"third {CANARY}")
    expect(replies(pane).last).to_contain_text(f"> third {CANARY}")


def test_the_newest_words_wait_for_the_bot_while_a_human_answers(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_have_count(1)
    pane.get_by_role("button", name="Hand off to a human").click()
    says(pane, f"2 pills {CANARY}")
    expect(pane.locator(".state").last).to_have_text("stored for a human")
    changes(pane.locator(".message").last, f"20 pills {CANARY}")
    expect(pane.locator(".state").last).to_have_text("stored for a human · edited")
    expect(pane.locator(".message.user")).to_have_count(2)
    pane.get_by_role("button", name="Hand back to the bot").click()
    expect(replies(pane).last).to_contain_text(f"> 20 pills {CANARY}")
    expect(pane.locator(".job-head").last).to_contain_text("1 message → 1 reply")


def test_an_unsent_message_gets_no_reply_and_is_marked(page: Page) -> None:
    pane = panes(page).first
    pane.get_by_label("Debounce, ms").fill("6000")  # enough for a machine that is busy with other tests
    says(pane, f"one {CANARY}", f"two {CANARY}")
    pane.locator(".message").first.get_by_role("button", name="Unsend").press("Enter")
    unsent = pane.locator('.message[data-state="unsent"]')
    expect(unsent.locator("p")).to_have_text(f"one {CANARY}")
    expect(unsent.locator(".state")).to_have_text("unsent")
    expect(unsent.get_by_role("button")).to_have_count(0)
    expect(replies(pane)).to_contain_text(f"> two {CANARY}")
    expect(replies(pane)).not_to_contain_text(f"> one {CANARY}")
    expect(pane.locator(".job-head:visible")).to_contain_text("1 message → 1 reply")
    says(pane, f"[slow:20] three {CANARY}")
    pane.locator(".message", has_text="three").get_by_role("button", name="Unsend").press("Enter")
    expect(unsent).to_have_count(2)
    expect(groups(pane)).to_have_count(3)
    reloaded = again(page, pane)
    expect(reloaded.locator('.message[data-state="unsent"] p')).to_have_text(
        [f"one {CANARY}", f"[slow:20] three {CANARY}"]
    )
    expect(reloaded.locator(".state")).to_have_text(["unsent", "answered", "unsent"])
    expect(replies(reloaded)).to_have_count(1)


def test_an_answered_message_that_is_unsent_shows_what_the_service_says(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"one {CANARY}")
    expect(replies(pane)).to_have_count(1)
    pane.get_by_role("button", name="Unsend").press("Enter")
    said = "the message has been answered: its reply stands, and later contexts omit the message"
    expect(pane.locator(".state")).to_contain_text("took the lock · answered · unsent")
    expect(pane.locator(".state")).to_contain_text(said)
    expect(replies(pane)).to_have_count(1)
    expect(pane.locator(".job-head")).to_contain_text("1 message → 1 reply")
    expect(again(page, pane).locator(".state")).to_have_text("answered · unsent")


@pytest.mark.parametrize("status", [404, 503])
def test_a_message_that_cannot_be_unsent_stays(page: Page, status: int) -> None:
    def fails(route: Route) -> None:
        if route.request.method == "DELETE":
            route.fulfill(status=status, json={"detail": "this is why", "status": status})
        else:
            route.continue_()

    page.route(re.compile(r"/messages/[^/]+$"), fails)
    pane = panes(page).first
    says(pane, f"one {CANARY}")
    expect(replies(pane)).to_have_count(1)
    pane.get_by_role("button", name="Unsend").press("Enter")
    expect(pane.locator(".transcript .note")).to_have_text("this is why")
    expect(pane.locator(".state")).to_have_text("took the lock · answered")


def test_messages_without_a_reply_are_there_after_a_reload(page: Page) -> None:
    pane = panes(page).first
    says(pane, f"[slow:20] {CANARY}")
    pane.get_by_role("button", name="Cancel").click()
    expect(pane.locator('.message[data-state="cancelled"]')).to_have_count(1)
    says(pane, f"[fail] {CANARY}")
    expect(pane.locator('.message[data-state="failed"]')).to_have_count(1)
    says(pane, f"Hello {CANARY}")
    expect(replies(pane)).to_have_count(2)
    expect(again(page, pane).locator(".state")).to_have_text(["cancelled", "failed", "answered"])
