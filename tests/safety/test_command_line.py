"""`message-handler safety` needs no service and no login."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from message_handler.cli import main
from message_handler.safety import rules
from tests.safety.samples import RULES


@pytest.fixture(autouse=True)
def _sample_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("message_handler.cli.safety.shipped", lambda: RULES)


def test_check_shows_what_matches_and_what_lowered_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["safety", "check", "no chest pain. I want to die"]) == 0
    shown = capsys.readouterr().out
    assert "suicide" in shown
    assert "emergency -> none" in shown
    assert "negation: no" in shown


def test_check_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("chest pain"))
    assert main(["safety", "check", "-", "--json"]) == 0
    (match,) = json.loads(capsys.readouterr().out)
    assert (match["rule"], match["level"], match["words"]) == ("chest", "emergency", "chest pain")


def test_check_says_that_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["safety", "check", "hello"]) == 0
    assert capsys.readouterr().out == "no rule matches\n"


def test_lint_accepts_the_shipped_files(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(rules.FILE.with_name("rules").glob("*.yaml"))
    assert main(["safety", "lint", *map(str, files)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(files) == 2


def test_lint_names_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("language: en\nrules: [{id: a, level: high, about: x, phrases: [word]}]\n")
    assert main(["safety", "lint", str(file)]) == 1
    assert "own.yaml: a: level: must be emergency, crisis or urgent" in capsys.readouterr().out


def test_lint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["safety", "lint", str(tmp_path / "own.yaml")]) == 2
    assert "pip install pyyaml" in capsys.readouterr().err


def test_lint_of_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["safety", "lint", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
