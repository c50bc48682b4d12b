"""Statistics of the last minutes, from every archive: each tenant's jobs by minute, and how long they took."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pg8000.native import Connection

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import JobStatus
from message_handler.drivers import postgres
from message_handler.ports.archive import Archive, Minute
from message_handler.sql.statements import statement
from tests.contract.conversation import KEY, Conversation, raised

#: The beginning of a minute.
NOON = 1_790_000_040
HOUR = 3600


def end(talk: Conversation, number: int, *, began: float, ended: float, status: str = "completed") -> None:
    """The n-th job of a conversation, with one message, from its start to its end."""
    job = talk.job(number, f"m{number}", created_at=began, started_at=began)
    done = talk.completed(job) if status == "completed" else talk.failed(job)
    assert talk.archive.commit(replace(done, finished_at=ended), talk.number(job))


def minutes(archive: Archive, platform_id: str = KEY.platform_id) -> list[Minute]:
    return archive.minutes(platform_id, since=NOON, until=NOON + 180)


@pytest.fixture
def talk(archive: Archive) -> Conversation:
    return Conversation(archive)


def test_a_job_counts_where_it_began_and_where_it_ended(talk: Conversation) -> None:
    end(talk, 1, began=NOON + 1, ended=NOON + 3)
    end(talk, 2, began=NOON + 59.5, ended=NOON + 60.5)
    end(talk, 3, began=NOON + 61, ended=NOON + 62, status="failed")
    talk.number(talk.job(4, "m4", created_at=NOON + 130.0))
    assert minutes(talk.archive) == [
        Minute(NOON, created=2, completed=1, median_seconds=2.0, p95_seconds=2.0),
        Minute(NOON + 60, created=1, completed=1, failed=1, median_seconds=1.0, p95_seconds=1.0),
        Minute(NOON + 120, created=1),
    ]


def test_a_job_that_began_long_before_counts_where_it_ended(talk: Conversation) -> None:
    end(talk, 1, began=NOON - 20 * HOUR, ended=NOON + 10)
    assert minutes(talk.archive) == [
        Minute(NOON, completed=1, median_seconds=20 * HOUR + 10.0, p95_seconds=20 * HOUR + 10.0)
    ]


def test_a_job_outside_of_the_period_does_not_count(talk: Conversation) -> None:
    end(talk, 1, began=NOON - 2, ended=NOON - 0.001)
    end(talk, 2, began=NOON + 180.0, ended=NOON + 181)
    assert minutes(talk.archive) == []


def test_the_seconds_are_between_their_neighbours(talk: Conversation) -> None:
    for number, seconds in enumerate((1, 2, 3, 4, 100), start=1):
        end(talk, number, began=NOON + 50.0 - seconds, ended=NOON + 50.0)
    (minute,) = [each for each in minutes(talk.archive) if each.completed]
    assert minute.median_seconds == pytest.approx(3)
    assert minute.p95_seconds == pytest.approx(4 + 0.8 * 96)


def test_cancelled_jobs_are_counted(talk: Conversation) -> None:
    job = talk.job(1, "m1", created_at=NOON + 1.0)
    talk.number(job)
    talk.archive.cancel(job)
    found = talk.archived(1)
    assert (found.status, found.created_at) == (JobStatus.CANCELLED, NOON + 1.0)
    assert found.finished_at is not None
    (ended,) = talk.archive.minutes(KEY.platform_id, since=found.finished_at - 1, until=found.finished_at + 1)
    assert (ended.cancelled, ended.completed, ended.median_seconds) == (1, 0, None)


def test_each_tenant_has_its_own(archive: Archive) -> None:
    end(Conversation(archive), 1, began=NOON + 1, ended=NOON + 2)
    end(Conversation(archive, ConversationKey("another", "patient-1")), 2, began=NOON + 1, ended=NOON + 5)
    (mine,), (other,) = minutes(archive), minutes(archive, "another")
    assert (mine.median_seconds, other.median_seconds) == (1.0, 4.0)
    assert minutes(archive, "a third") == []


def test_a_copy_of_a_job_does_not_count(postgres_archive: Archive, sql: Connection) -> None:
    talk = Conversation(postgres_archive)
    end(talk, 1, began=NOON + 1, ended=NOON + 2)
    sql.run(
        "insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at, finished_at,"
        " copy_of) select platform_id, cast(:id as uuid), conversation_id, bot_id, status, message_ids, created_at,"
        " finished_at, job_id from jobs",
        id=talk.id(2),
    )
    (minute,) = minutes(postgres_archive)
    assert (minute.created, minute.completed) == (1, 1)


def test_the_jobs_are_found_without_looking_at_every_row(
    postgres_archive: Archive, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive has a month of a hundred tenants' jobs. The query asks for a hundred minutes."""
    sql.run(
        "insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at, finished_at)"
        " select 'clinic-' || n % 100, gen_random_uuid(), 'c', 'b', 'completed', '{}',"
        " to_timestamp(cast(:now as float8)) - n * interval '1 minute',"
        " to_timestamp(cast(:now as float8)) - n * interval '1 minute' + interval '3 seconds'"
        " from generate_series(1, 43200) as n",
        now=NOON,
    )
    sql.run("analyze jobs")
    monkeypatch.setattr(postgres, "statement", lambda name: (f"explain analyze {(it := statement(name))[0]}", it[1]))
    values = {"platform_id": "clinic-7", "since": NOON - 6000, "until": NOON}
    plan = [row[0] for row in postgres.execute(sql, values, "minutes")]
    used = "\n".join(plan)
    assert "Seq Scan" not in used
    assert "jobs_by_creation" in used
    assert "jobs_by_end" in used
    seen = [float(line.split("rows=")[2].split()[0]) for line in plan if "on jobs" in line]
    assert seen
    assert max(seen) <= 1


def test_a_safety_notice_does_not_count(talk: Conversation) -> None:
    end(talk, 1, began=NOON + 1, ended=NOON + 3)
    before = minutes(talk.archive), talk.archive.last_end(KEY.platform_id)
    assert talk.archive.note_raised(raised(raised_at=NOON + 50.0))
    assert (minutes(talk.archive), talk.archive.last_end(KEY.platform_id)) == before
