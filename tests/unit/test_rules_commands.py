"""The commands for a tenant's safety rules: what they ask of the API, and what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from message_handler import cli
from message_handler.cli.client import Answer
from message_handler.safety.rules import shipped
from tests.published import assert_published

RULE = {"id": "clinic-pump", "level": "urgent", "about": "A broken pump", "phrases": ["my pump <gone>"]}
OWN = {"language": "en", "words": {"gone": ["stopped", "is broken"]}, "rules": [RULE]}
SETTINGS = {"languages": None, "rules": [OWN], "not_applicable": {"en-seizure": "The ward line."}, "review": None}
SHIPPED = {
    "id": "en-seizure",
    "language": "en",
    "level": "emergency",
    "about": "A seizure",
    "source": None,
    "reviewed_by": None,
    "reviewed_at": None,
    "not_applicable": "The ward line.",
}
SHOWN = {
    "settings": SETTINGS,
    "in_force": {
        "rules_version": "0123456789abcdef",
        "languages": ["en", "vi"],
        "review": "missing",
        "not_applicable": ["en-seizure"],
        "refused": [],
    },
    "shipped": {"rules_version": "fedcba9876543210", "languages": ["en", "vi"], "rules": [SHIPPED]},
}
YAML = """
rules:
  - language: en
    words: {gone: [stopped, is broken]}
    rules:
      - {id: clinic-pump, level: urgent, about: A broken pump, phrases: [my pump <gone>]}
not_applicable: {en-seizure: The ward line.}
review: {reviewed_by: Dr Lan, reviewed_at: 2026-11-30, rules_version: 0123456789abcdef}
"""


@dataclass
class Api:
    """Answers each call with the rules, which must be a published answer of its route."""

    calls: list[tuple[str, Any, Any]] = field(default_factory=list)

    def call(self, method: str, *path: str, body: Any = None, headers: Any = None) -> Answer:
        assert path == ("admin", "safety")
        self.calls.append((method, body, headers))
        told = {"Content-Type": "application/json", "X-Correlation-ID": "c", "ETag": '"7"'}
        assert_published(method, "/admin/safety", 200, told, SHOWN)
        return Answer(200, SHOWN, '"7"')


Run = Callable[..., Api]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, code: int = 0) -> Api:
        api = Api()
        monkeypatch.setattr(cli, "Client", lambda *_, **__: api)
        assert cli.main(["safety", *arguments]) == code
        return api

    return run


def test_they_are_shown_with_what_does_not_apply(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show").calls == [("GET", None, None)]
    shown = capsys.readouterr().out
    for words in ("0123456789abcdef", "missing", "clinic-pump", "The ward line.", "revision"):
        assert words in shown
    run("show", "--json")
    assert json.loads(capsys.readouterr().out) == SHOWN


def test_the_settings_are_shown_to_be_edited_and_set(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("show", "--settings")
    file = tmp_path / "settings.json"
    file.write_text(capsys.readouterr().out)
    api = run("set", str(file), "--if-match", "7")
    assert api.calls == [("PUT", SETTINGS, {"If-Match": '"7"'})]
    assert "0123456789abcdef" in capsys.readouterr().out


def test_they_may_be_written_as_yaml(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(YAML)
    ((method, body, headers),) = run("set", str(file)).calls
    assert (method, headers) == ("PUT", {})
    assert body["rules"] == [OWN]
    assert body["review"]["reviewed_at"] == "2026-11-30"


@pytest.mark.parametrize(("name", "text"), [("x.json", "{"), ("x.yaml", "rules: ["), ("x.yaml", "- a")])
def test_what_is_no_json_or_yaml_is_refused_and_nothing_is_sent(run: Run, tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert run("set", str(file), code=2).calls == []


@pytest.mark.parametrize("id_", ["drill", shipped().compiled[1]["rules"][0]["id"]])
def test_lint_refuses_an_id_that_a_write_refuses(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], id_: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"language: en\nrules: [{{id: {id_}, level: urgent, about: x, phrases: [zebra]}}]")
    run("lint", "--own", str(file), code=1)
    assert "another rule has this id" in capsys.readouterr().out


def test_own_rules_are_checked_with_the_shipped_groups(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = next(iter(shipped().compiled[0]["groups"]))
    file = tmp_path / "own.yaml"
    file.write_text(f"language: en\nrules: [{{id: own-1, level: urgent, about: x, phrases: [zebra <{group}>, zebra]}}]")
    run("lint", "--own", str(file))
    assert "1 rules" in capsys.readouterr().out
    run("lint", str(file), code=1)
    assert "is no group" in capsys.readouterr().out
    run("check", "--own", str(file), "a zebra, and I can't breathe")
    shown = capsys.readouterr().out
    assert "own-1" in shown
    assert "en-breathing" in shown
