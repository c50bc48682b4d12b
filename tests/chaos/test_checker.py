"""The checker finds each kind of broken promise in a made-up history, and none in good ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.checker import check, story
from tests.chaos.history import (
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
    TurnRow,
    text_of,
)


def posted(at: float, message: str, job: str | None, status: int | None = 202) -> Posted:
    return Posted(at, at + 0.1, "c", message, status, job, "lock_acquired" if job else None)


def job(job_id: str, fence: int = 1, status: str = "completed", superseded_by: str | None = None) -> JobRow:
    return JobRow(job_id, "c", status, fence, "…", None, superseded_by)


def settled(at: float, message: str, job_id: str, kind: str = "answered") -> SettledRow:
    return SettledRow("c", message, job_id, kind, at)


def said(position: int, message: str) -> TurnRow:
    return TurnRow("c", position, "user", text_of(message), None)


def replied(position: int, job_id: str, *messages: str) -> TurnRow:
    return TurnRow("c", position, "assistant", "\n".join(f"> {text_of(message)}" for message in messages), job_id)


def good() -> History:
    """m0 and m1 are answered by J0; m2, a second later, by J1; m1 came twice; a POST got no answer."""
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


def lost(history: History) -> None:
    history.settled = [row for row in history.settled if row.message_id != "m2"]
    history.turns = history.turns[:3]


def answered_in_no_reply(history: History) -> None:
    history.turns = history.turns[:3]


def failed_invisibly(history: History) -> None:
    history.settled[2] = settled(7, "m2", "J1", "failed")
    history.turns = history.turns[:3]


def cancelled_by_nobody(history: History) -> None:
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


def an_end_that_changed(history: History) -> None:
    history.seen.append(Seen(8, "c", "J0", "completed", "another reply"))


def an_end_that_was_taken_back(history: History) -> None:
    history.seen.append(Seen(8, "c", "J0", "processing"))


def a_confirmed_cancel_that_cancelled_nothing(history: History) -> None:
    history.cancelled.append(Cancelled(6.2, 6.3, "c", "J1", 200))


def leaked(history: History) -> None:
    history.leaks.append("line 7 of the functions' log")


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lost, "1 lost"),
        (answered_in_no_reply, "1 lost"),
        (failed_invisibly, "1 lost"),
        (cancelled_by_nobody, "1 lost"),
        (doubled, "2 doubled"),
        (doubled_in_one_reply, "2 doubled"),
        (answered_though_cancelled, "2 doubled"),
        (answered_by_another_job_than_settled, "2 doubled"),
        (promised_job_leads_nowhere, "2 wrong job"),
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
        (a_confirmed_cancel_that_cancelled_nothing, "10 changed"),
        (leaked, "11 leaked"),
    ],
)
def test_a_spoilt_history_shows_which_promise_was_broken(spoil: Callable[[History], None], promise: str) -> None:
    history = good()
    spoil(history)
    assert {violation.promise for violation in check(history)} == {promise}


@pytest.mark.parametrize("part", ["redis", "worker"])
def test_the_order_is_promised_except_where_redis_was_lost_meanwhile(part: Part) -> None:
    history = good()
    out_of_order(history)
    history.faults.append(Fault(2.5, 3, part, "flushed"))
    assert [violation.promise for violation in check(history)] == (["6 out of order"] if part == "worker" else [])


@pytest.mark.parametrize("parts", [("redis",), ("postgres",), ("redis", "postgres"), ("both",)])
def test_one_answer_is_promised_except_where_both_stores_were_lost_meanwhile(parts: tuple[Part, ...]) -> None:
    history = good()
    doubled(history)
    history.turns[-1] = replace(history.turns[-1], at=7)
    history.faults += [Fault(5, 5.5, part, "flushed") for part in parts]
    expected = ["2 doubled"] if parts in (("redis",), ("postgres",)) else []
    assert [violation.promise for violation in check(history)] == expected


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
