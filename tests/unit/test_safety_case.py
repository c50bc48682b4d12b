"""The safety case is true: its pages follow from safety/, and the tests and guards that controls name exist."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from local import evidence, hazards, safety_case
from local.evidence import Evidence
from local.hazards import LIKELIHOODS, RISKS, SEVERITIES, Control, Hazards, Rating
from tests.guards.__main__ import GUARDS
from tests.guards.guard import IN_MEMORY
from tests.node_ids import TEST_ID, exists

LOG = hazards.read()
CONTROLS = LOG.controls
A_TEST = "tests/unit/test_safety_case.py::TestPages::test_each_is_what_safety_makes"
RESULTS = """<testsuites><testsuite timestamp="2026-11-30T21:00:00+00:00">
<testcase classname="tests.unit.test_safety_case.TestPages" name="test_each_is_what_safety_makes[a]"/>
<testcase classname="tests.unit.test_safety_case.TestPages" name="test_each_is_what_safety_makes[b]">{}</testcase>
<testcase classname="tests.unit.test_other" name="test_each_is_what_safety_makes"><failure/></testcase>
</testsuite></testsuites>"""


def by_id(control: Control) -> str:
    return control.id


def text_of(**changes: Any) -> str:
    """The log of one hazard with one control, as a file has it."""
    control = {"id": "C01", "text": "It is controlled.", "status": "built", "tests": [A_TEST]} | changes
    hazard = {
        "id": "H01",
        "name": "a hazard",
        "causes": ["a cause"],
        "hazard": "It may happen.",
        "harm": "It hurts.",
        "before": {"severity": "major", "likelihood": "high"},
        "after": {"severity": "major", "likelihood": "very low"},
        "controls": ["C01"],
    }
    return yaml.safe_dump({"reviewed_by": None, "reviewed_at": None, "controls": [control], "hazards": [hazard]})


def made_up(**changes: Any) -> Hazards:
    return Hazards.model_validate(yaml.safe_load(text_of(**changes)))


class TestPages:
    @pytest.mark.parametrize("page", [safety_case.LOG, safety_case.CASE], ids=lambda page: page.name)
    def test_each_is_what_safety_makes(self, page: Path) -> None:
        assert safety_case.pages(LOG, evidence.read())[page] == page.read_text(), "run `make safety-case`"

    def test_an_open_control_is_shown_as_open_and_its_hazard_as_uncontrolled(self) -> None:
        log = made_up(status="planned", tests=[])
        (hazard,) = log.hazards
        assert log.today(hazard) == hazard.before
        assert "**OPEN**" in safety_case.hazard_log(log, None)
        assert "[C01]" in safety_case.case(log, None, "<!-- open controls -->")

    def test_a_hazard_without_open_controls_has_the_rating_with_all_of_them(self) -> None:
        log = made_up()
        (hazard,) = log.hazards
        assert log.today(hazard) == hazard.after
        assert safety_case.case(log, None, "<!-- open controls -->").endswith("There is none.")

    def test_a_review_is_named_when_there_is_one(self) -> None:
        reviewed = LOG.model_copy(update={"reviewed_by": "Dr A. Example", "reviewed_at": date(2026, 11, 30)})
        assert "Reviewed by Dr A. Example on 2026-11-30." in safety_case.hazard_log(reviewed, None)
        assert "No clinical safety officer" in safety_case.hazard_log(made_up(), None)

    def test_a_place_without_a_text_is_noticed(self) -> None:
        with pytest.raises(KeyError):
            safety_case.case(LOG, None, "<!-- nothing of it -->")


@pytest.mark.parametrize("control", CONTROLS, ids=by_id)
class TestEachControl:
    def test_its_tests_exist(self, control: Control) -> None:
        assert [test for test in control.tests if not TEST_ID.fullmatch(test) or not exists(test)] == []

    def test_its_guards_are_guards_and_its_tests_catch_their_removal(self, control: Control) -> None:
        for name in control.guards:
            found = [guard for guard in GUARDS if guard.name == name]
            assert found, f"tests/guards has no guard {name!r}"
            catching = {f"tests/{guard.test.partition('[')[0]}" for guard in found if guard.test != IN_MEMORY}
            assert catching <= set(control.tests), f"a test that catches the removal of {name!r} is missing"


class TestTheFile:
    @pytest.mark.parametrize(
        "changes",
        [
            {"tests": []},
            {"status": "planned"},
            {"status": "transferred", "tests": [], "guards": ["a guard"]},
            {"status": "nearly"},
            {"id": "C02"},
            {"unknown": 1},
        ],
        ids=str,
    )
    def test_a_control_that_is_wrong_is_refused(self, changes: Mapping[str, Any]) -> None:
        with pytest.raises(ValidationError):
            made_up(**changes)

    def test_ids_that_come_twice_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "hazards.yaml"
        content = yaml.safe_load(text_of())
        file.write_text(yaml.safe_dump(content | {"controls": content["controls"] * 2}))
        with pytest.raises(ValidationError, match="twice"):
            hazards.read(file)

    def test_controls_that_make_it_worse_are_refused(self) -> None:
        content = yaml.safe_load(text_of())
        content["hazards"][0]["after"] = {"severity": "catastrophic", "likelihood": "very high"}
        with pytest.raises(ValidationError, match="greater"):
            Hazards.model_validate(content)

    def test_it_has_the_hazards_of_the_whole_way(self) -> None:
        assert 20 <= len(LOG.hazards) <= 60
        assert all(LOG.with_status(status) for status in ("built", "transferred"))

    def test_worse_harm_or_more_of_it_is_never_a_smaller_risk(self) -> None:
        for likelihood, risks in zip(LIKELIHOODS, RISKS, strict=True):
            assert list(risks) == sorted(risks)
            assert [Rating(severity=each, likelihood=likelihood).risk for each in SEVERITIES] == list(risks)
        assert all(list(column) == sorted(column) for column in zip(*RISKS, strict=True))


class TestEvidence:
    @pytest.mark.parametrize(
        ("end", "outcome"), [("", "passed"), ("<skipped/>", "passed"), ("<failure/>", "failed"), ("<error/>", "failed")]
    )
    def test_a_test_failed_if_it_failed_once(self, tmp_path: Path, end: str, outcome: str) -> None:
        results = tmp_path / "results.xml"
        results.write_text(RESULTS.format(end))
        found = evidence.of_junit(results, [A_TEST])
        assert (found.outcome(A_TEST), found.run_at) == (outcome, "2026-11-30")
        assert found.outcome("tests/unit/test_other.py::test_each_is_what_safety_makes") is None

    def test_what_was_written_is_read_and_shown(self, tmp_path: Path) -> None:
        run = Evidence("1.2.3", "0123456789ab", "2026-11-30", {A_TEST: {"passed": 2}})
        run.write(tmp_path / "evidence.json")
        assert evidence.read(tmp_path / "evidence.json") == run
        assert evidence.read(tmp_path / "none.json") is None
        assert f"`{A_TEST}`: passed" in safety_case.hazard_log(made_up(), run)
        assert "of version 1.2.3, commit `0123456789ab`" in safety_case.case(made_up(), run, "<!-- evidence -->")

    def test_a_removal_that_no_test_caught_is_counted(self) -> None:
        run = Evidence("1.2.3", "0123456789ab", "2026-11-30", {evidence.REMOVALS: {"passed": 62, "failed": 1}})
        shown = safety_case.case(made_up(), run, "<!-- evidence -->")
        assert "| removals of guards: failed | 1 |" in shown
        assert exists(evidence.REMOVALS)

    def test_a_test_that_did_not_run_is_named(self) -> None:
        run = Evidence("1.2.3", "0123456789ab", "2026-11-30")
        assert f"`{A_TEST}`: not in the last recorded run" in safety_case.hazard_log(made_up(), run)
        assert "| not in that run | 1 |" in safety_case.case(made_up(), run, "<!-- evidence -->")

    @pytest.mark.parametrize("text", ["<testsuites/>", "no XML", ""])
    def test_a_file_that_has_none_of_these_tests_is_refused_and_nothing_is_written(
        self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = tmp_path / "results.xml"
        results.write_text(text)
        monkeypatch.setattr(safety_case, "LOG", tmp_path / "log.md")
        assert safety_case.main(["--results", str(results)]) == 1
        assert "can't be used as evidence" in capsys.readouterr().err
        assert not (tmp_path / "log.md").exists()
