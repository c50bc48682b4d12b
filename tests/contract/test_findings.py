"""Each message that a worker settles keeps what the rules have found in it, without its text: over each archive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import job_from_json, job_to_json
from message_handler.domain.jobs import MessageFinding
from message_handler.ports.archive import Archive
from message_handler.ports.audit import AuditEntry
from message_handler.ports.raised import RaisedStore
from tests.contract.conversation import ENDED, KEY, Conversation

URGENT = MessageFinding("m0", "urgent", "en-urine-blood", "v1", ((0, 5), (9, 14)))
CRISIS = MessageFinding("m1", "crisis", "vi-suicide", "v1", ((3, 8),))


@pytest.fixture
def talk(archive: Archive) -> Conversation:
    return Conversation(archive)


@pytest.fixture
def kept(postgres_archive: PostgresArchive) -> Conversation:
    """A conversation in Postgres."""
    return Conversation(postgres_archive)


def rows(sql: Connection) -> list[list[Any]]:
    found = sql.run(
        "select cast(job_id as text), message_id, level, rule, rules_version, place from findings order by 2"
    )
    return found or []


def commits(talk: Conversation, number: int, *messages: str, failed: bool = False) -> None:
    job = talk.job(number, *messages)
    ended = talk.failed(job) if failed else talk.completed(job)
    assert talk.archive.commit(replace(ended, findings=(URGENT, CRISIS)), talk.number(job))


@pytest.mark.parametrize("failed", [False, True])
def test_a_commit_keeps_them(kept: Conversation, sql: Connection, failed: bool) -> None:
    commits(kept, 1, "m0", "m1", failed=failed)
    assert rows(sql) == [
        [kept.id(1), "m0", "urgent", "en-urine-blood", "v1", [[0, 5], [9, 14]]],
        [kept.id(1), "m1", "crisis", "vi-suicide", "v1", [[3, 8]]],
    ]


def test_a_commit_without_danger_keeps_none(kept: Conversation, sql: Connection) -> None:
    kept.answer(1, "m0")
    assert rows(sql) == []


def test_an_end_that_is_archived_late_keeps_those_of_its_open_messages(kept: Conversation, sql: Connection) -> None:
    kept.answer(1, "m0")
    late = replace(kept.completed(kept.job(2, "m0", "m1")), findings=(URGENT, CRISIS), unarchived=True)
    carried = job_from_json(job_to_json(late))
    assert carried.findings == late.findings, "its record brings them"
    assert kept.archive.archive(carried)
    assert kept.archive.archive(carried) is False
    assert rows(sql) == [[*kept.settled("m1"), "m1", "crisis", "vi-suicide", "v1", [[3, 8]]]]


def test_an_erasure_takes_them_along(kept: Conversation, sql: Connection) -> None:
    commits(kept, 1, "m0", "m1")
    kept.archive.erase(KEY)
    assert rows(sql) == []


def test_a_retry_moves_them_to_the_job_that_answers(talk: Conversation, raised_store: RaisedStore) -> None:
    commits(talk, 1, "m0", "m1", failed=True)
    assert talk.archive.reopen(talk.archived(1), AuditEntry("user:nurse-1", "retry", "jobs", talk.id(1)))
    assert raised_store.report(KEY.platform_id, since=ENDED, until=ENDED + 1)[0][0].raised == 0
    commits(talk, 2, "m0", "m1")
    assert raised_store.report(KEY.platform_id, since=ENDED, until=ENDED + 1)[0][0].raised == 1


def test_in_postgres_a_retry_leaves_none_of_the_failed_job(kept: Conversation, sql: Connection) -> None:
    commits(kept, 1, "m0", "m1", failed=True)
    other = Conversation(kept.archive, ConversationKey(KEY.platform_id, "patient-2"))
    commits(other, 1, "m0")
    assert kept.archive.reopen(kept.archived(1), AuditEntry("user:nurse-1", "retry", "jobs", kept.id(1)))
    assert {row[0] for row in rows(sql)} == {other.id(1)}
    commits(kept, 2, "m0", "m1")
    assert {row[0] for row in rows(sql)} == {other.id(1), kept.id(2)}


def test_the_report_counts_the_urgent_ones(talk: Conversation, raised_store: RaisedStore) -> None:
    commits(talk, 1, "m0", "m1")
    commits(Conversation(talk.archive, ConversationKey("lab", "patient-1")), 1, "m0")
    counted, drills = raised_store.report(KEY.platform_id, since=ENDED, until=ENDED + 1)
    found = {(each.by, each.name): each for each in counted}
    names = {("all", ""), ("level", "urgent"), ("rule", URGENT.rule), ("language", "en")}
    assert (found.keys(), drills) == (names, 0)
    assert {(each.raised, each.delivered.count, each.taken.count, each.closed.count) for each in counted} == {
        (1, 0, 0, 0)
    }
    for since, until in ((ENDED + 1, ENDED + 9), (ENDED - 9, ENDED)):
        ((empty,), _) = raised_store.report(KEY.platform_id, since=since, until=until)
        assert empty.raised == 0
