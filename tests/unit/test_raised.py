"""The routes by which people take raised conversations, practise with drills, and read the report."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from message_handler.archive.none import NoArchive, NoAudit, NoRaised
from message_handler.domain.errors import Unavailable
from message_handler.http.paging import cursor
from message_handler.safety.notices import drill_notice_of, notice_of, notice_texts, plain
from message_handler.safety.rules import shipped
from tests.unit.service import CANARY, Answer, Service, bot, says

EMERGENCY = "I can't breathe"
UNKNOWN_JOB = "361f1a3a-0dbe-8854-9d6e-3cf972894b32"
WHY = "The nurse has called."


@pytest.fixture(params=["memory", "postgres"])
def operated(request: pytest.FixtureRequest, service: Service) -> Service:
    """The service over each archive in turn."""
    if request.param == "postgres":
        service = request.getfixturevalue("configured")
        service.use(intake=replace(service.parts.intake, archive=service.parts.archive))
    return service


def get(service: Service, name: str, **query: str) -> Answer:
    multiple = {key: [value] for key, value in query.items()} or None
    return service.http(
        "admin", service.event(name, queryStringParameters=query or None, multiValueQueryStringParameters=multiple)
    )


def listed(service: Service, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(service, "admin-list-raised", **query).body["raised"]
    return found


def post(service: Service, name: str, job_id: str, body: Any = None) -> Answer:
    text = None if body is None else json.dumps(body)
    return service.http("admin", service.event(name, pathParameters={"job_id": job_id}, body=text))


def take(service: Service, job_id: str) -> Answer:
    return post(service, "admin-take-raised", job_id)


def close(service: Service, job_id: str, body: Any = None) -> Answer:
    return post(service, "admin-close-raised", job_id, {"why": WHY} if body is None else body)


def drill(service: Service, body: Any = None) -> Answer:
    text = json.dumps({"conversation_id": "drill-1"} if body is None else body)
    return service.http("admin", service.event("admin-raise-drill", body=text))


def found(service: Service, conversation_id: str = "conv_123") -> str:
    """A patient is in danger. Returns the job of the notice."""
    job_id: str = service.post(says(EMERGENCY, "m0"), conversation_id).body["safety"]["notice_job_id"]
    return job_id


class TestTaking:
    def test_a_person_takes_it_and_closes_it_with_a_word_why(self, operated: Service) -> None:
        job_id = found(operated)
        (raised,) = listed(operated)
        assert (raised["job_id"], raised["conversation_id"], raised["state"]) == (job_id, "conv_123", "raised")
        assert (raised["level"], raised["drill"], raised["rules_version"]) == ("emergency", False, shipped().version)
        taken = take(operated, job_id)
        assert (taken.status, taken.body["state"], taken.body["taken_by"]) == (200, "taken", "anyone")
        closed = close(operated, job_id, {"why": f"  {WHY}\n"})
        assert (closed.status, closed.body["state"], closed.body["closed_why"]) == (200, "closed", WHY)
        assert listed(operated) == [closed.body]
        operated.output.assert_private(json.dumps(closed.body))

    def test_each_change_is_in_the_audit_without_the_word_why(self, operated: Service) -> None:
        job_id = found(operated)
        take(operated, job_id)
        close(operated, job_id)
        entries = get(operated, "admin-list-audit", kind="raised").body["entries"]
        assert [(entry["actor"], entry["action"], entry["record_id"]) for entry in entries] == [
            ("anyone", "close", job_id),
            ("anyone", "take", job_id),
        ]
        assert WHY not in json.dumps(entries)

    def test_the_state_decides(self, operated: Service) -> None:
        job_id = found(operated)
        assert close(operated, job_id).status == 409
        assert [take(operated, job_id).status, take(operated, job_id).status] == [200, 409]
        assert [close(operated, job_id).status, close(operated, job_id).status] == [200, 409]
        assert take(operated, job_id).status == 409

    @pytest.mark.parametrize("job_id", [UNKNOWN_JOB, "x", UNKNOWN_JOB.upper()])
    def test_what_is_unknown_is_404(self, operated: Service, job_id: str) -> None:
        for answer in (take(operated, job_id), close(operated, job_id)):
            assert (answer.status, answer.body["field"]) == (404, "job_id")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "why"),
            ({"why": None}, "why"),
            ({"why": 1}, "why"),
            ({"why": " \n"}, "why"),
            ({"why": "x" * 201}, "why"),
            ({"why": WHY, "more": 1}, "more"),
            ([], None),
        ],
    )
    def test_a_word_why_that_is_wrong_is_refused(self, service: Service, body: Any, field: str | None) -> None:
        job_id = found(service)
        take(service, job_id)
        answer = close(service, job_id, body)
        assert (answer.status, answer.body.get("field")) == (400, field)
        assert listed(service)[0]["state"] == "taken"

    def test_a_word_of_200_characters_is_kept(self, operated: Service) -> None:
        job_id = found(operated)
        take(operated, job_id)
        assert close(operated, job_id, {"why": "x" * 199 + "\0"}).body["closed_why"] == "x" * 199 + "\ufffd"

    def test_without_postgres_it_is_503(self, service: Service) -> None:
        service.use(raised=NoRaised())
        answers = [take(service, UNKNOWN_JOB), close(service, UNKNOWN_JOB), get(service, "admin-list-raised")]
        assert [answer.status for answer in answers] == [503, 503, 503]


class TestTheList:
    def test_comes_in_pages_and_by_state(self, operated: Service) -> None:
        jobs = [found(operated, f"c-{number}") for number in range(3)][::-1]
        first = get(operated, "admin-list-raised", limit="2").body
        second = get(operated, "admin-list-raised", limit="2", next=first["next"]).body
        assert [each["job_id"] for each in first["raised"] + second["raised"]] == jobs
        assert second["next"] is None
        take(operated, jobs[1])
        assert [each["job_id"] for each in listed(operated, state="raised")] == [jobs[0], jobs[2]]
        assert [each["job_id"] for each in listed(operated, conversation_id="c-1", state="taken")] == [jobs[1]]

    def test_of_a_day_has_all_of_that_day(self, operated: Service) -> None:
        now = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC).timestamp()
        operated.use(intake=replace(operated.parts.intake, clock=lambda: now))
        job_id = found(operated)
        assert [each["job_id"] for each in listed(operated, **{"from": "2026-03-31", "to": "2026-03-31"})] == [job_id]
        assert listed(operated, **{"from": "2026-04-01"}) == listed(operated, to="2026-03-30") == []

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"state": CANARY}, "state"),
            ({"level": "high"}, "level"),
            ({"conversation_id": f"{CANARY} "}, "conversation_id"),
            ({"from": "2026-02-30"}, "from"),
            ({"to": "20260230"}, "to"),
            ({"to": "9999-12-31"}, "to"),
            ({"limit": "0"}, "limit"),
            ({"next": cursor(1, CANARY)}, "next"),
        ],
    )
    def test_a_wrong_filter_is_refused(self, service: Service, query: dict[str, str], field: str) -> None:
        answer = get(service, "admin-list-raised", **query)
        assert (answer.status, answer.body["field"]) == (400, field)


class TestADrill:
    def test_everybody_can_see_that_it_is_one(self, operated: Service) -> None:
        answer = drill(operated)
        assert (answer.status, answer.body["drill"], answer.body["rule"]) == (201, True, "drill")
        assert listed(operated) == [answer.body]
        event = operated.event("status-get-job", pathParameters={"job_id": answer.body["job_id"]})
        job = operated.http("status", event).body
        assert (job["kind"], job["drill"], job["status"]) == ("notice", True, "completed")
        assert job["reply"]["content"].startswith(("This is a drill", "Đây là diễn tập"))
        (jobs,) = get(operated, "admin-list-jobs").body["jobs"]
        assert jobs["drill"] is True
        (line,) = [line for line in operated.output.logs if line["message"] == "a drill"]
        assert (line["level"], line["drill"]) == ("WARNING", True)

    def test_it_takes_no_place_of_a_notice_for_real_danger(self, operated: Service) -> None:
        drills = [drill(operated, {"conversation_id": "conv_123"}) for _ in range(2)]
        assert [answer.status for answer in drills] == [201, 201]
        job_id = found(operated)
        assert [each["drill"] for each in listed(operated)] == [False, True, True]
        assert take(operated, job_id).body["drill"] is False

    def test_it_is_in_the_audit_or_refused(self, operated: Service) -> None:
        job_id = drill(operated).body["job_id"]
        entries = get(operated, "admin-list-audit", kind="raised").body["entries"]
        assert [(entry["action"], entry["record_id"]) for entry in entries] == [("drill", job_id)]
        operated.use(audit=NoAudit())
        assert drill(operated).status == 503
        assert len(listed(operated)) == 1

    def test_that_was_raised_is_answered_although_postgres_goes_away_behind_it(self, service: Service) -> None:
        service.use(raised=NoRaised())
        assert drill(service).status == 201

    def test_without_an_archive_it_is_refused(self, service: Service) -> None:
        service.use(archive=NoArchive())
        assert drill(service).status == 503

    def test_in_a_conversation_that_was_just_erased_it_is_refused(self, operated: Service) -> None:
        drill(operated, {"conversation_id": "conv_123"})
        operated.http(
            "admin", operated.event("admin-erase-conversation", pathParameters={"conversation_id": "conv_123"})
        )
        answer = drill(operated, {"conversation_id": "conv_123"})
        assert (answer.status, answer.body["field"]) == (409, "conversation_id")

    @pytest.mark.parametrize(
        ("body", "field"),
        [({}, "conversation_id"), ({"conversation_id": "a b"}, "conversation_id"), ({"to": "x"}, "to")],
    )
    def test_a_wrong_body_is_refused(self, service: Service, body: Any, field: str) -> None:
        answer = drill(service, body)
        assert (answer.status, answer.body["field"]) == (400, field)

    @pytest.mark.parametrize("language", ["en", "vi", "fr"])
    def test_a_bots_turn_that_repeats_its_notice_answers_nothing(self, language: str) -> None:
        config = bot("default", language=language)
        notice = drill_notice_of(config, "emergency")
        assert notice.endswith(notice_of(config, "emergency"))
        assert plain(f" {notice}\n") in notice_texts(config)


class TestReminders:
    def test_come_with_the_sweep(self, operated: Service) -> None:
        operated.use(intake=replace(operated.parts.intake, clock=lambda: time.time() - 601))
        found(operated)
        assert operated.invoke("admin", {"action": "sweep"}) == {"swept": 0}
        assert operated.invoke("admin", {"action": "sweep"}) == {"swept": 0}
        assert [raised["reminders"] for raised in listed(operated)] == [1]
        assert operated.output.metrics["SafetyUntaken"] == [1, 0]

    def test_wait_while_postgres_is_away_and_the_sweep_goes_on(self, service: Service) -> None:
        service.use(raised=NoRaised())
        try:
            assert service.invoke("admin", {"action": "sweep"}) == {"swept": 0}
        except Unavailable:
            pytest.fail("the sweep ends")
        assert "SafetyUntaken" not in service.output.metrics


def today() -> str:
    """Not a constant: a run of all tests may begin on the day before."""
    return datetime.now(UTC).date().isoformat()


class TestTheReport:
    def test_counts_without_any_text(self, operated: Service) -> None:
        job_id = found(operated)
        found(operated, "another")
        drill(operated)
        take(operated, job_id)
        answer = get(operated, "admin-report-safety")
        operated.output.assert_private(json.dumps(answer.body))
        assert (answer.body["from"], answer.body["to"], answer.body["drills"]) == (f"{today()[:4]}-01-01", today(), 1)
        rows = answer.body["rows"]
        assert [(row["by"], row["name"], row["raised"], row["taken"]) for row in rows] == [
            ("all", None, 2, 1),
            ("level", "emergency", 2, 1),
            ("rule", "en-breathing", 2, 1),
            ("language", "en", 2, 1),
        ]
        assert rows[0]["taken_median_seconds"] >= 0
        assert (rows[0]["closed"], rows[0]["closed_p95_seconds"]) == (0, None)

    def test_as_csv_has_the_same_rows(self, operated: Service) -> None:
        found(operated)
        rows = get(operated, "admin-report-safety").body["rows"]
        answer = get(operated, "admin-report-safety", format="csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        read = list(csv.DictReader(io.StringIO(answer.body)))
        as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
        assert read[:-1] == as_text
        assert (read[-1]["by"], read[-1]["raised"]) == ("drills", "0")

    def test_has_the_days_that_are_asked_for(self, operated: Service) -> None:
        found(operated)
        for days, count in (((today(), today()), 1), (("2020-01-01", "2020-12-31"), 0)):
            report = get(operated, "admin-report-safety", **dict(zip(("from", "to"), days, strict=True))).body
            assert (report["from"], report["to"], report["rows"][0]["raised"]) == (*days, count)

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"from": CANARY}, "from"),
            ({"from": "2026-02-01", "to": "2026-01-31"}, "to"),
            ({"format": "xml"}, "format"),
        ],
    )
    def test_a_wrong_query_is_refused(self, service: Service, query: dict[str, str], field: str) -> None:
        answer = get(service, "admin-report-safety", **query)
        assert (answer.status, answer.body["field"]) == (400, field)
