"""The commands for raised conversations and the report: what they ask of the API, and what they print."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from message_handler import cli
from message_handler.cli.client import Answer
from message_handler.domain.safety_report import Counted, Spent, rows_of
from tests.published import assert_published, route_of

JOB = "361f1a3a-0dbe-8854-9d6e-3cf972894b32"
WHY = "The nurse has called."
RAISED = {
    "job_id": JOB,
    "conversation_id": "conv_123",
    "state": "closed",
    "level": "emergency",
    "rule": "drill",
    "rules_version": "1",
    "drill": True,
    "raised_at": "2026-06-15T09:30:00.000Z",
    "delivered_at": None,
    "taken_by": "user:1",
    "taken_at": "2026-06-15T09:31:00.000Z",
    "closed_by": "user:2",
    "closed_at": "2026-06-15T09:32:00.000Z",
    "closed_why": WHY,
    "reminders": 0,
}
ROWS = rows_of([Counted("all", "", 2, taken=Spent(1, 20.5, 20.5)), Counted("level", "crisis", 2)])
REPORT = {"from": "2026-01-01", "to": "2026-12-31", "drills": 3, "rows": ROWS}


@dataclass
class Api:
    """Answers each call with the same body, which must be a published answer of its route."""

    body: Any
    calls: list[tuple[str, str, Any, Any]] = field(default_factory=list)

    def call(self, method: str, *path: str, query: Any = None, body: Any = None) -> Answer:
        address = f"/{'/'.join(path)}"
        named = {name: value for name, value in (query or {}).items() if value is not None}
        self.calls.append((method, address, named or None, body))
        status = 201 if address.endswith("drill") else 200
        headers = {"Content-Type": "application/json", "X-Correlation-ID": "c"}
        assert_published(method, route_of(method, address), status, headers, self.body)
        return Answer(status, self.body)


Run = Callable[..., Api]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against an API that answers with a body."""

    def run(body: Any, *arguments: str, code: int = 0) -> Api:
        api = Api(body)
        monkeypatch.setattr(cli, "Client", lambda *_, **__: api)
        assert cli.main(arguments) == code
        return api

    return run


def test_the_list_shows_who_has_taken_them_and_which_are_drills(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    api = run({"raised": [RAISED], "next": "more"}, "raised", "list", "--state", "closed", "--from", "2026-06-15")
    assert api.calls == [("GET", "/admin/safety/raised", {"state": "closed", "from": "2026-06-15"}, None)]
    printed = capsys.readouterr()
    head, row = printed.out.splitlines()
    assert "DRILL" in head
    assert row.split()[:6] == [JOB, "conv_123", "yes", "closed", "emergency", "drill"]
    assert "user:1" in row
    assert "--next more" in printed.err


def test_a_conversation_is_taken_and_closed_with_a_word_why(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    taken = run(RAISED, "raised", "take", JOB)
    assert "user:1" in capsys.readouterr().out
    closed = run(RAISED, "raised", "close", JOB, "--why", WHY, "--json")
    assert taken.calls == [("POST", f"/admin/safety/raised/{JOB}/take", None, None)]
    assert closed.calls == [("POST", f"/admin/safety/raised/{JOB}/close", None, {"why": WHY})]
    assert json.loads(capsys.readouterr().out) == RAISED


def test_a_drill_is_raised_only_after_it_was_confirmed(run: Run) -> None:
    assert run(RAISED, "raised", "drill", "drill-1", code=2).calls == []
    assert run(RAISED, "raised", "drill", "drill-1", "--yes").calls == [
        ("POST", "/admin/safety/drill", None, {"conversation_id": "drill-1"})
    ]


def test_closing_needs_a_word_why(run: Run) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(RAISED, "raised", "close", JOB)


def test_the_report_is_for_people_for_programs_and_for_spreadsheets(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    days = ("--from", "2026-01-01", "--to", "2026-12-31")
    api = run(REPORT, "safety", "report", *days)
    assert api.calls == [("GET", "/admin/safety/report", {"from": "2026-01-01", "to": "2026-12-31"}, None)]
    shown = capsys.readouterr().out
    assert "drills  3" in shown
    assert "20.5" in shown
    run(REPORT, "safety", "report", "--json")
    assert json.loads(capsys.readouterr().out) == REPORT
    run(REPORT, "safety", "report", "--csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["by"], row["name"], row["raised"], row["taken_median_seconds"]) for row in rows] == [
        ("all", "", "2", "20.5"),
        ("level", "crisis", "2", ""),
        ("drills", "", "3", ""),
    ]
