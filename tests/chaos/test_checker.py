"""The checker finds each kind of broken promise in a made-up history, and no violation in a good one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.campaign import by_fault
from tests.chaos.checker import check, p99, story, tellings
from tests.chaos.history import (
    AFTERMATH_SECONDS,
    CANARY,
    Asked,
    Cancelled,
    Fault,
    FencedOut,
    History,
    JobRow,
    Part,
    Posted,
    Seen,
    SettledRow,
    Told,
    TurnRow,
    Unsent,
    text_of,
)


def posted(at: float, message: str, job: str | None, status: int | None = 202) -> Posted:
    return Posted(at, at + 0.1, "c", message, status, job, "lock_acquired" if job else None)


def job(job_id: str, fence: int = 1, status: str = "completed", superseded_by: str | None = None) -> JobRow:
    return JobRow(job_id, "c", status, fence, "…", None, superseded_by)


def settled(at: float, message: str, job_id: str, kind: str = "answered") -> SettledRow:
    return SettledRow("c", message, job_id, kind, at)


def said(position: int, message: str, job_id: str | None = None) -> TurnRow:
    return TurnRow("c", position, "user", text_of(message), job_id)


def replied(position: int, job_id: str, *messages: str) -> TurnRow:
    return TurnRow("c", position, "assistant", "\n".join(f"> {text_of(message)}" for message in messages), job_id)


def good() -> History:
    """J0 answers m0 and m1; a second later, J1 answers m2. m1 came twice, and a POST got no answer."""
    return History(
        posted=[
            posted(1, "m0", "J0"),
            posted(2, "m1", "J0"),
            replace(posted(2.5, "m1", "J0"), duplicate=True),
            posted(5, "m2", None, status=None),
            posted(6, "m2", "J1"),
        ],
        seen=[
            Seen(3, "c", "J0", "processing"),
            Seen(5, "c", "J0", "completed", "…"),
            Seen(6, "c", "J0", "completed", "…"),
        ],
        asked=[Asked(1.5, "J0", 1, 1), Asked(2.6, "J0", 2, 2), Asked(6.5, "J1", 3, 1)],
        jobs={"J0": job("J0", 2), "J1": job("J1", 3)},
        settled=[settled(4, "m0", "J0"), settled(4, "m1", "J0"), settled(7, "m2", "J1")],
        turns=[
            *(said(1, "m0"), said(2, "m1"), replied(3, "J0", "m0", "m1")),
            *(said(4, "m2"), replied(5, "J1", "m2")),
        ],
    )


def test_a_good_history_has_no_violation() -> None:
    assert check(good()) == []


def test_a_look_that_says_it_could_not_ask_may_be_older_than_the_one_before() -> None:
    history = polled(good())
    open_again = (told("m0", "pending"), told("m1", "processing"))
    history.seen.append(Seen(8, "c", "J0", "processing", messages=open_again, degraded=True))
    assert check(history) == []
    history.seen.append(Seen(9, "c", "J0", "processing", messages=open_again))
    assert {violation.promise for violation in check(history)} == {"10 changed"}


def lost(history: History) -> None:
    history.settled = [row for row in history.settled if row.message_id != "m2"]
    history.turns = history.turns[:3]


def answered_in_no_reply(history: History) -> None:
    history.turns = history.turns[:3]


def failed_invisibly(history: History) -> None:
    history.settled[2] = settled(7, "m2", "J1", "failed")
    history.turns = history.turns[:3]


def cancelled_without_a_request(history: History) -> None:
    history.settled[2] = settled(7, "m2", "J1", "cancelled")
    history.turns = history.turns[:3]


def doubled(history: History) -> None:
    history.turns[-1] = replied(5, "J1", "m2", "m1")


def doubled_in_one_reply(history: History) -> None:
    history.turns[-1] = replied(5, "J1", "m2", "m2")


def answered_though_cancelled(history: History) -> None:
    history.cancelled.append(Cancelled(6.2, 6.3, "c", "J1", 200))
    history.settled[2] = settled(7, "m2", "J1", "cancelled")


def answered_by_another_job_than_settled(history: History) -> None:
    history.settled[2] = settled(6.4, "m2", "J0")
    history.jobs["J1"] = job("J1", 3, superseded_by="J0")


def promised_job_leads_nowhere(history: History) -> None:
    history.posted[1] = posted(2, "m1", "J9")


def committed_under_an_older_fence(history: History) -> None:
    history.jobs["J0"] = job("J0", 4)
    history.asked[1] = Asked(2.6, "J0", 4, 2)


def committed_after_a_later_fence_was_given_out(history: History) -> None:
    history.asked.append(Asked(3, "J1", 3, 1))


def archived_twice(history: History) -> None:
    history.turns.insert(3, said(4, "m1"))


def out_of_order(history: History) -> None:
    history.turns[2], history.turns[4] = replied(3, "J0", "m0"), replied(5, "J1", "m1", "m2")
    history.settled[0], history.settled[2] = settled(4, "m0", "J0"), settled(7, "m2", "J1")
    history.settled[1] = settled(7, "m1", "J1")
    history.jobs["J0"] = job("J0", 2, superseded_by="J1")
    history.posted[0], history.posted[1] = posted(2, "m0", "J0"), posted(1, "m1", "J0")
    del history.posted[2]


def out_of_order_in_one_reply(history: History) -> None:
    history.turns[2] = replied(3, "J0", "m1", "m0")


def still_locked(history: History) -> None:
    history.rest.locked.append("c")


def still_queued(history: History) -> None:
    history.rest.queued = 1


def dead(history: History) -> None:
    history.rest.dead_letters = 1


def processing_for_ever(history: History) -> None:
    history.jobs["J8"] = job("J8", status="processing", superseded_by="J1")
    history.posted[-1] = posted(6, "m2", "J8")


def polled(history: History) -> History:
    """The history of a client that polled both jobs, and heard of each end within a second."""
    history.polled = {"J0", "J1"}
    history.seen += [
        Seen(4.5, "c", "J0", "completed", "…", messages=(told("m0"), told("m1"))),
        Seen(6.5, "c", "J1", "pending", messages=(told("m2", "pending", "J1"),)),
        Seen(7.8, "c", "J1", "completed", "…", messages=(told("m2", "answered", "J1"),)),
    ]
    return history


def told(message: str, status: str = "answered", job_id: str = "J0") -> Told:
    return Told(message, status, job_id)


def told_too_late(history: History) -> None:
    polled(history)
    history.seen[-1] = replace(history.seen[-1], at=7 + 65.1)


def never_told(history: History) -> None:
    polled(history).seen.pop()


def two_in_a_hundred_told_late(history: History) -> None:
    polled(history)
    for number in range(98):
        add_told(history, number, 17.5 if number < 2 else 8)


def add_told(history: History, number: int, at: float) -> None:
    """Add a message in a conversation of its own. It is answered at 7, and the client hears of it at `at`."""
    name, message, job_id = f"c{number}", f"n{number}", f"K{number}"
    history.polled.add(job_id)
    history.posted.append(replace(posted(6, message, job_id), conversation=name))
    history.jobs[job_id] = replace(job(job_id), conversation=name)
    history.settled.append(replace(settled(7, message, job_id), conversation=name))
    history.turns += [replace(turn, conversation=name) for turn in (said(1, message), replied(2, job_id, message))]
    history.seen.append(Seen(at, name, job_id, "completed", messages=(told(message, "answered", job_id),)))


def told_late_of_what_another_job_told(history: History) -> None:
    """Postgres gets the answer later than a client does: the client's time counts."""
    polled(history).posted.append(posted(6.2, "m2", "J7"))
    history.jobs["J7"] = job("J7", status="cancelled", superseded_by="J1")
    history.polled.add("J7")
    history.settled[2] = settled(80, "m2", "J1")
    history.seen.append(Seen(80, "c", "J7", "cancelled", messages=(told("m2", "answered", "J1"),)))


def told_of_the_message_and_unfinished_itself(history: History) -> None:
    polled(history)
    history.seen[-1] = replace(history.seen[-1], status="processing")


def told_of_another_job_than_settled(history: History) -> None:
    polled(history)
    history.seen[-1] = replace(history.seen[-1], messages=(told("m2", "answered", "J0"),))


def an_end_that_changed(history: History) -> None:
    history.seen.append(Seen(8, "c", "J0", "completed", "another reply"))


def an_end_that_was_taken_back(history: History) -> None:
    history.seen.append(Seen(8, "c", "J0", "processing"))


def a_message_that_was_told_and_waits_again(history: History) -> None:
    polled(history).seen.append(Seen(8, "c", "J0", "completed", "…", messages=(told("m0"), told("m1", "pending"))))


def a_message_that_was_told_otherwise(history: History) -> None:
    polled(history).seen.append(Seen(8, "c", "J0", "completed", "…", messages=(told("m0"), told("m1", "failed"))))


def a_confirmed_cancel_that_cancelled_nothing(history: History) -> None:
    history.cancelled.append(Cancelled(6.2, 6.3, "c", "J1", 200))


def leaked(history: History) -> None:
    history.leaks.append("line 7 of the functions' log")


def answered_without_a_notice(history: History) -> None:
    history.posted[0] = replace(history.posted[0], danger=True)


def noticed_twice_in_an_hour(history: History) -> None:
    for number in (0, 1):
        history.posted[number] = replace(history.posted[number], danger=True, notice=f"N{number}")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lost, "1 lost"),
        (answered_in_no_reply, "1 lost"),
        (failed_invisibly, "1 lost"),
        (cancelled_without_a_request, "1 lost"),
        (doubled, "2 doubled"),
        (doubled_in_one_reply, "2 doubled"),
        (answered_though_cancelled, "2 doubled"),
        (answered_by_another_job_than_settled, "2 doubled"),
        (promised_job_leads_nowhere, "2 wrong job"),
        (told_of_another_job_than_settled, "2 wrong job"),
        (told_too_late, "2 told late"),
        (never_told, "2 told late"),
        (two_in_a_hundred_told_late, "2 told late"),
        (told_late_of_what_another_job_told, "2 told late"),
        (told_of_the_message_and_unfinished_itself, "2 told late"),
        (committed_under_an_older_fence, "3 stale"),
        (committed_after_a_later_fence_was_given_out, "3 stale"),
        (archived_twice, "5 duplicate"),
        (out_of_order, "6 out of order"),
        (out_of_order_in_one_reply, "6 out of order"),
        (still_locked, "7 stranded"),
        (still_queued, "7 stranded"),
        (dead, "7 stranded"),
        (processing_for_ever, "7 stranded"),
        (an_end_that_changed, "10 changed"),
        (an_end_that_was_taken_back, "10 changed"),
        (a_message_that_was_told_and_waits_again, "10 changed"),
        (a_message_that_was_told_otherwise, "10 changed"),
        (a_confirmed_cancel_that_cancelled_nothing, "10 changed"),
        (leaked, "11 leaked"),
        (answered_without_a_notice, "16 danger first"),
        (noticed_twice_in_an_hour, "16 danger first"),
    ],
)
def test_a_spoilt_history_shows_which_promise_was_broken(spoil: Callable[[History], None], promise: str) -> None:
    history = good()
    spoil(history)
    assert {violation.promise for violation in check(history)} == {promise}


def edited() -> History:
    """As `good`. m1 is edited before the run, and its old words come again. m2 is edited after its reply: J2 answers
    the edit. m3 joins J2 and is unsent: it ends in J3."""
    history = good()
    history.posted += [
        replace(posted(2.2, "m1~1", "J0"), edited=True),
        replace(posted(8, "m2~1", "J2"), edited=True),
        posted(8.1, "m3", "J2"),
    ]
    history.unsent.append(Unsent(8.2, 8.3, "c", "m3", 200))
    history.asked.append(Asked(8.5, "J2", 4, 1))
    history.jobs |= {"J2": job("J2", 4), "J3": job("J3", 5, "cancelled")}
    history.settled += [
        settled(4, "m1 edit 5e", "J0"),
        settled(9, "m2 edit 7a", "J2"),
        settled(8.2, "m3", "J3", "cancelled"),
    ]
    history.turns = [
        *(said(1, "m0", "J0"), said(2, "m1~1", "J0"), replied(3, "J0", "m0", "m1~1")),
        *(said(4, "m2", "J1"), replied(5, "J1", "m2"), said(6, "m2~1", "J2"), replied(7, "J2", "m2~1")),
        said(8, "m3", "J3"),
    ]
    return history


def test_a_good_history_with_edits_has_no_violation() -> None:
    assert check(edited()) == []


def test_an_end_in_a_job_that_no_client_asked_for_may_change_too() -> None:
    history = polled(good())
    told_otherwise = tuple(replace(end, job_id="J7") for end in (told("m0"), told("m1", "failed")))
    history.seen.append(Seen(8, "c", "J0", "completed", "…", messages=told_otherwise))
    assert "10 changed" in {violation.promise for violation in check(history)}


def test_a_job_that_was_promised_an_edit_may_tell_the_end_of_the_words_before_it_first() -> None:
    history = edited()
    history.seen += [
        Seen(8.5, "c", "J2", "completed", messages=(told("m2", "failed", "J1"),)),
        Seen(9.4, "c", "J2", "completed", messages=(told("m2", "answered", "J2"),)),
    ]
    assert check(history) == []
    history.seen.append(Seen(9.5, "c", "J2", "completed", messages=(told("m2", "failed", "J2"),)))
    assert {violation.promise for violation in check(history)} == {"10 changed"}


def test_an_edit_during_the_run_may_be_answered_by_itself() -> None:
    history = edited()
    late_edit(history, sent_at=2.7)
    assert check(history) == []


def test_an_edit_may_be_answered_by_itself_if_it_came_when_the_run_had_closed_its_job() -> None:
    history = edited()
    late_edit(history, sent_at=2.2)
    assert check(history) == []


def test_old_words_may_take_the_place_of_an_edit_that_redis_forgot() -> None:
    history = edited()
    history.turns[1], history.turns[2] = said(2, "m1", "J0"), replied(3, "J0", "m0", "m1")
    assert {violation.promise for violation in check(history)} == {"1 lost", "2 old words"}
    history.faults.append(Fault(2.3, 2.4, "redis", "flushed"))
    assert check(history) == []
    history.posted = [event for event in history.posted if (event.version, event.at) != ("m1", 2.5)]
    assert {violation.promise for violation in check(history)} == {"1 lost"}


def test_old_words_that_come_again_may_be_answered_again_where_redis_was_away() -> None:
    history = edited()
    old_words_that_came_back(history)
    history.posted.append(posted(8.5, "m2", "J2"))
    assert {violation.promise for violation in check(history)} == {"2 old words"}
    history.faults.append(Fault(7.9, 8.2, "redis", "refused"))
    assert check(history) == []


def test_an_edit_before_the_run_may_be_answered_by_itself_where_redis_was_away() -> None:
    history = edited()
    old_words_though_the_edit_was_there(history)
    history.faults.append(Fault(2, 2.5, "redis", "flushed"))
    assert check(history) == []


def test_old_words_and_answered_unsent_messages_are_excused_where_both_stores_were_away() -> None:
    for spoil in (old_words_that_came_back, unsent_and_answered):
        history = edited()
        spoil(history)
        assert {violation.promise[0] for violation in check(history)} == {"2"}
        history.faults.append(away("both", 6, 8))
        assert check(history) == []


def test_edits_may_fail_and_be_cancelled() -> None:
    history = edited()
    history.settled[4] = settled(9, "m2 edit 7a", "J2", "failed")
    history.jobs["J2"] = replace(job("J2", 4, "failed"), error="ai_failed")
    del history.turns[6]
    assert check(history) == []
    history.settled[4] = settled(9, "m2 edit 7a", "J2", "cancelled")
    assert {violation.promise for violation in check(history)} == {"1 lost"}
    history.cancelled.append(Cancelled(8.2, 8.3, "c", "J2", 200))
    assert check(history) == []


def test_a_replaced_version_may_be_noted_after_a_later_fence_was_taken() -> None:
    history = edited()
    history.settled.append(settled(6.8, "m1 edit 0a", "J0"))
    assert check(history) == []


def test_an_edit_takes_the_place_of_the_words_that_it_replaced() -> None:
    """m0 is edited after m1 was accepted. The edit stands before m1 all the same."""
    history = edited()
    history.posted.append(posted(2.25, "m0~1", "J0"))
    history.settled.append(settled(4, "m0 edit 1", "J0"))
    history.turns[0], history.turns[2] = said(1, "m0~1", "J0"), replied(3, "J0", "m0~1", "m1~1")
    assert check(history) == []


def test_a_client_of_an_edit_hears_of_its_end_and_not_of_the_earlier_one() -> None:
    history = edited()
    history.polled = {"J1", "J2"}
    answered, unsent = told("m2", "answered", "J1"), told("m3", "cancelled", "J3")
    history.seen += [
        Seen(7.5, "c", "J1", "completed", messages=(answered,)),
        Seen(8.3, "c", "J2", "processing", messages=(answered, told("m2", "processing", "J2"), unsent)),
        Seen(9.4, "c", "J2", "completed", messages=(answered, told("m2", "answered", "J2"), unsent)),
    ]
    took = [(telling.job_id, telling.message, round(telling.seconds or 0, 1)) for telling in tellings(history)]
    assert took == [("J1", "m2", 0.5), ("J2", "m2~1", 0.4), ("J2", "m3", 0.1)]
    assert check(history) == []
    history.seen.pop()
    assert {violation.promise for violation in check(history)} == {"2 told late"}


def late_edit(history: History, sent_at: float) -> None:
    """J0 answers m1 as it was, and J1 answers its edit."""
    history.posted[5] = replace(posted(sent_at, "m1~1", "J1"), edited=True)
    history.settled[3] = settled(7, "m1 edit 5e", "J1")
    history.turns[1:5] = [
        *(said(2, "m1", "J0"), replied(3, "J0", "m0", "m1")),
        *(said(4, "m1~1", "J1"), said(4, "m2", "J1"), replied(5, "J1", "m1~1", "m2")),
    ]


def answered_with_old_words_alone(history: History) -> None:
    history.posted[5] = replace(posted(2.7, "m1~1", "J0"), edited=True)
    history.turns[1], history.turns[2] = said(2, "m1", "J0"), replied(3, "J0", "m0", "m1")


def an_edit_that_is_forgotten(history: History) -> None:
    del history.settled[4], history.turns[5:7]


def an_edit_in_no_reply(history: History) -> None:
    del history.turns[6]


def answered_with_both_words(history: History) -> None:
    history.turns[2] = replied(3, "J0", "m0", "m1", "m1~1")


def old_words_that_came_back(history: History) -> None:
    history.posted[4], history.posted[6] = posted(6, "m2", "J2"), replace(posted(8, "m2~1", "J1"), edited=True)
    history.turns[3:7] = [
        *(said(4, "m2~1", "J1"), replied(5, "J1", "m2~1")),
        *(said(6, "m2", "J2"), replied(7, "J2", "m2")),
    ]


def old_words_though_the_edit_was_there(history: History) -> None:
    late_edit(history, sent_at=2.2)
    history.asked[1] = Asked(3.4, "J0", 2, 2)


def old_words_though_the_edit_was_in_the_same_job(history: History) -> None:
    late_edit(history, sent_at=2.4)
    history.posted.append(replace(history.posted[5], job_id="J0", duplicate=True, at=2.2, until=2.3))
    history.jobs["J0"] = job("J0", 2, superseded_by="J1")


def an_edit_answered_twice(history: History) -> None:
    history.turns[4] = replied(5, "J1", "m2", "m1~1")


def an_edit_answered_though_cancelled(history: History) -> None:
    history.cancelled.append(Cancelled(8.2, 8.3, "c", "J2", 200))
    history.settled[4] = settled(9, "m2 edit 7a", "J2", "cancelled")


def an_edit_promised_a_job_that_leads_nowhere(history: History) -> None:
    history.posted[6] = replace(posted(8, "m2~1", "J9"), edited=True)


def an_edit_archived_twice(history: History) -> None:
    history.turns.insert(1, said(2, "m1~1"))


def an_edit_archived_beside_the_words_that_it_replaced(history: History) -> None:
    history.turns.insert(1, said(2, "m1", "J0"))


def an_edit_before_an_earlier_message(history: History) -> None:
    history.posted.append(posted(3.5, "m5", "J1"))
    history.settled.append(settled(9, "m5", "J2"))
    history.jobs["J1"] = job("J1", 3, superseded_by="J2")
    history.turns[6] = replied(7, "J2", "m2~1", "m5")


def unsent_and_answered(history: History) -> None:
    history.unsent[0] = Unsent(7.5, 7.6, "c", "m2", 200)
    history.settled[5] = settled(10.2, "m3", "J3")
    history.posted[7] = posted(8.1, "m3", "J3")
    history.turns.append(replied(9, "J3", "m3"))


def unsent_and_answered_afterwards(history: History) -> None:
    """The client unsent m2, whose edit was on its way."""
    history.unsent.append(Unsent(8.05, 8.06, "c", "m2", 200))
    history.settled[2] = settled(7, "m2", "J1", "cancelled")
    history.turns[4] = TurnRow("c", 5, "user", "", None)


def unsent_and_nothing_cancelled(history: History) -> None:
    history.settled[5] = settled(10.2, "m3", "J3", "failed")
    history.posted[7] = posted(8.1, "m3", "J3")
    history.jobs["J3"] = replace(job("J3", 5, "failed"), error="ai_failed")


def refused_as_answered_and_not_answered(history: History) -> None:
    history.unsent[0] = replace(history.unsent[0], status=409)
    history.posted[7] = posted(8.1, "m3", "J3")


def unknown_though_accepted(history: History) -> None:
    history.unsent.append(Unsent(10.15, 10.16, "c", "m3", 404))


def cancelled_where_another_message_was_unsent(history: History) -> None:
    history.unsent[0] = replace(history.unsent[0], message_id="m0", status=409)
    history.posted[7] = posted(8.1, "m3", "J3")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (answered_with_old_words_alone, "1 lost"),
        (an_edit_that_is_forgotten, "1 lost"),
        (an_edit_in_no_reply, "1 lost"),
        (cancelled_where_another_message_was_unsent, "1 lost"),
        (answered_with_both_words, "2 old words"),
        (old_words_that_came_back, "2 old words"),
        (old_words_though_the_edit_was_there, "2 old words"),
        (old_words_though_the_edit_was_in_the_same_job, "2 old words"),
        (an_edit_answered_twice, "2 doubled"),
        (an_edit_answered_though_cancelled, "2 doubled"),
        (an_edit_promised_a_job_that_leads_nowhere, "2 wrong job"),
        (an_edit_archived_twice, "5 duplicate"),
        (an_edit_archived_beside_the_words_that_it_replaced, "5 duplicate"),
        (an_edit_before_an_earlier_message, "6 out of order"),
        (unsent_and_answered, "2 unsent"),
        (unsent_and_answered_afterwards, "2 unsent"),
        (unsent_and_nothing_cancelled, "2 unsent"),
        (refused_as_answered_and_not_answered, "2 unsent"),
        (unknown_though_accepted, "2 unsent"),
    ],
)
def test_a_spoilt_history_with_edits_shows_which_promise_was_broken(
    spoil: Callable[[History], None], promise: str
) -> None:
    history = edited()
    spoil(history)
    assert {violation.promise for violation in check(history)} == {promise}


def test_a_client_that_polls_a_promised_job_hears_of_the_answer_in_time() -> None:
    history = polled(good())
    assert check(history) == []
    took = [(telling.job_id, telling.message, round(telling.seconds or 0, 1)) for telling in tellings(history)]
    assert took == [("J0", "m0", 0.5), ("J0", "m1", 0.5), ("J1", "m2", 0.8)]


def test_a_promise_is_told_from_the_moment_at_which_it_was_made() -> None:
    """A duplicate of a message that was answered long ago is promised another job."""
    history = polled(good())
    history.posted.append(replace(posted(60, "m0", "J8"), duplicate=True))
    history.jobs["J8"] = job("J8", status="cancelled", superseded_by="J0")
    history.polled.add("J8")
    history.seen.append(Seen(61, "c", "J8", "cancelled", messages=(told("m0"),)))
    assert check(history) == []


def test_a_job_whose_other_message_waits_may_go_on() -> None:
    history = polled(good())
    history.seen.insert(
        -1, Seen(7.2, "c", "J1", "processing", messages=(told("m2", "answered", "J1"), told("m9", "…")))
    )
    assert [telling.seconds for telling in tellings(history)][-1] == pytest.approx(0.2)


def test_a_client_of_one_message_hears_of_it_while_the_job_goes_on() -> None:
    history = polled(good())
    mine = (told("m2", "answered", "J1"),)
    history.seen.insert(-1, Seen(7.2, "c", "J1", "processing", messages=mine, asked_for="m2"))
    assert [telling.seconds for telling in tellings(history)][-1] == pytest.approx(0.2)


def test_one_in_a_hundred_may_be_told_later() -> None:
    history = polled(good())
    for number in range(97):
        add_told(history, number, 17.5 if number < 1 else 8)
    assert check(history) == []


def test_all_but_one_of_a_hundred() -> None:
    assert p99([]) == 0
    assert p99([3, 1]) == 3
    assert p99(range(1, 101)) == 99
    assert p99(range(1, 201)) == 198


def test_each_kind_of_fault_has_the_promises_of_the_messages_in_whose_life_it_was() -> None:
    history = polled(good())
    lost(history)
    history.faults += [
        Fault(6.5, 7, "worker", "killed"),
        Fault(2.7, 3, "redis", "full"),
        Fault(3, 3.1, "redis", "full"),
    ]
    rows = [line.split("  ") for line in by_fault(history, check(history)).splitlines()[1:]]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["redis: full", "2", "2", "0", "0", "0", "2", "0.5 s", "0.5 s"],
        ["worker: killed", "1", "1", "1", "0", "0", "0", "0.0 s", "0.0 s"],
        ["none", "0", "0", "0", "0", "0", "0", "0.0 s", "0.0 s"],
    ]


@pytest.mark.parametrize("part", ["redis", "worker"])
def test_the_order_is_promised_except_where_redis_was_lost_meanwhile(part: Part) -> None:
    history = good()
    out_of_order(history)
    history.faults.append(Fault(2.5, 3, part, "flushed"))
    assert [violation.promise for violation in check(history)] == (["6 out of order"] if part == "worker" else [])


def answered_twice(*faults: Fault) -> History:
    """A history in which m1 is answered at 40, and again at 70."""
    history = good()
    doubled(history)
    history.asked = [Asked(39, "J0", 2, 2), Asked(69, "J1", 3, 1)]
    history.turns[2], history.turns[-1] = replace(history.turns[2], at=40), replace(history.turns[-1], at=70)
    history.seen = []
    history.faults += faults
    return history


def away(part: Part, at: float, until: float) -> Fault:
    """A fault of this part from `at` to `until`."""
    return Fault(at, until + AFTERMATH_SECONDS, part, "…")


@pytest.mark.parametrize(
    ("faults", "excused"),
    [
        ((away("redis", 38, 41),), False),
        ((away("postgres", 38, 41),), False),
        ((away("pair", 38, 41),), False),
        ((away("both", 38, 41),), True),
        ((away("redis", 38, 41), away("postgres", 40, 42)), True),
        # The reply was given before Redis was away, and Postgres did not have it yet.
        ((away("postgres", 38, 41), away("redis", 48, 49)), True),
        ((away("postgres", 28, 32), away("redis", 43.9, 45)), True),
        # Postgres was back for long enough.
        ((away("postgres", 28, 32), away("redis", 44.1, 45)), False),
        ((away("postgres", 30, 41), away("redis", 56, 57)), False),
        ((away("redis", 20, 25), away("postgres", 40, 43)), False),
        # Both stores were away in the message's life, but not when a reply was given.
        ((away("redis", 10, 12), away("postgres", 10, 12)), False),
        ((away("redis", 53, 55), away("postgres", 53, 55)), False),
    ],
)
def test_a_second_answer_is_excused_only_where_a_reply_was_given_while_both_stores_were_away_or_shortly_before(
    faults: tuple[Fault, ...], excused: bool
) -> None:
    history = answered_twice(*faults)
    assert [violation.promise for violation in check(history)] == ([] if excused else ["2 doubled"])


@pytest.mark.parametrize("spoil", [committed_under_an_older_fence, committed_after_a_later_fence_was_given_out])
def test_a_fence_of_a_tier_that_forgot_is_excused_where_postgres_could_not_correct_it(
    spoil: Callable[[History], None],
) -> None:
    history = good()
    spoil(history)
    history.faults.append(away("redis", 1, 8))
    assert {violation.promise for violation in check(history)} == {"3 stale"}
    history.faults.append(away("postgres", 1, 8))
    assert check(history) == []


def test_what_was_given_without_both_stores_may_end_otherwise_and_be_told_late() -> None:
    history = polled(answered_twice(away("both", 38, 41)))
    history.seen = [
        Seen(40, "c", "J0", "completed", "…", messages=(told("m0"), told("m1"))),
        Seen(200, "c", "J0", "completed", "another", messages=(told("m0"), told("m1"))),
        Seen(70, "c", "J1", "completed", messages=(told("m2", "answered", "J1"),)),
    ]
    history.settled[2] = settled(70, "m2", "J1")
    assert check(history) == []
    history.faults.clear()
    assert {violation.promise for violation in check(history)} >= {"2 doubled", "10 changed"}


def test_a_reply_made_without_postgres_stands_where_it_was_said_whatever_fence_archived_it() -> None:
    history = good()
    committed_under_an_older_fence(history)
    history.asked = [Asked(2.7, "J0", None, 2), *history.asked[2:]]
    assert check(history) == []


def test_a_refused_commit_and_a_failed_or_cancelled_message_are_no_violation() -> None:
    history = good()
    history.fenced_out.append(FencedOut(6, "J0", 1))
    history.cancelled.append(Cancelled(6.2, 6.3, "c", "J1", 200))
    history.settled[2] = settled(7, "m2", "J1", "cancelled")
    history.turns = [*history.turns[:3], said(4, "m2")]
    history.posted.append(posted(8, "m3", "J2"))
    history.settled.append(settled(9, "m3", "J2", "failed"))
    history.jobs["J2"] = replace(job("J2", 4, "failed"), error="ai_failed")
    assert check(history) == []


def test_the_story_of_a_violation_is_the_shortest_that_shows_it() -> None:
    history = good()
    doubled(history)
    history.faults += [Fault(0, 0.5, "redis", "long before"), Fault(3, 3.5, "worker", "killed")]
    history.posted += [replace(posted(at, f"x{at}", "JX"), conversation="another") for at in range(100)]
    history.settled += [replace(settled(at, f"x{at}", "JX"), conversation="another") for at in range(100)]
    (violation,) = [found for found in check(history) if found.promise == "2 doubled"]
    lines = story(history, violation).splitlines()
    assert lines[0] == "2 doubled: m1 is answered 2 times (conversation c)"
    assert [line.split("  ")[2] for line in lines[1:]] == [
        "AI asked for job J0 with fence 1: 1 message(s)",
        "POST m1: 202 lock_acquired J0",
        "POST m1: 202 lock_acquired J0 duplicate",
        "AI asked for job J0 with fence 2: 2 message(s)",
        "FAULT worker: killed (for 0.5 s)",
        "GET job J0: processing, superseded by None",
        "Postgres: m1 answered by job J0",
        "GET job J0: completed, superseded by None",
        "AI asked for job J1 with fence 3: 1 message(s)",
        "job J0: completed, fence 2, superseded by None",
        "job J1: completed, fence 3, superseded by None",
        "reply 3 of job J0 answers m0 m1",
        "reply 5 of job J1 answers m2 m1",
    ]


def test_the_functions_log_is_read_for_calls_refusals_and_leaks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stamp = '"timestamp":"2026-11-22 21:00:00,500+0000"'
    log.write_text(
        f'{{"message":"asking the AI","ai_job_id":"J0","fence":null,"messages":2,{stamp}}}\n'
        f'{{"message":"fenced out","ai_job_id":"J0","fence":3,{stamp}}}\n'
        f'{{"message":"a store went away","store":"Redis",{stamp}}}\n'
        f"something else\n{CANARY}\n"
    )
    history = History()
    history.read_log(log)
    assert history.asked == [Asked(1795381200.5, "J0", None, 2)]
    assert history.fenced_out == [FencedOut(1795381200.5, "J0", 3)]
    assert [(fault.part, fault.at, fault.until) for fault in history.away] == [("redis", 1795381199.5, 1795381205.5)]
    assert history.leaks == ["line 5 of the functions' log"]
