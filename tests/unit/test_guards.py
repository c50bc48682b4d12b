"""The list of the protocol's guards is true, and only a test that saw the lack of a guard has caught it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guards.__main__ import GUARDS, REPOSITORY, main
from tests.guards.guard import PACKAGE, TESTS, Guard, Removal
from tests.guards.scratch import Outcome, Scratch


def name(guard: Guard) -> str:
    return f"{guard.name} ({guard.files})"


@pytest.mark.parametrize("guard", GUARDS, ids=name)
class TestEachGuard:
    def test_its_text_stands_once_where_the_list_says(self, guard: Guard) -> None:
        texts = {removal.file: (REPOSITORY / PACKAGE / removal.file).read_text() for removal in guard.removals}
        for removal in guard.removals:
            texts[removal.file] = removal.applied(texts[removal.file])

    def test_its_test_exists(self, guard: Guard) -> None:
        file, *scopes = guard.test.partition("[")[0].split("::")
        defined = re.findall(r"^ *(?:class|def) (\w+)", (REPOSITORY / TESTS / file).read_text(), re.MULTILINE)
        assert set(scopes) <= set(defined)


def test_no_guard_is_listed_twice() -> None:
    assert len({guard.removals for guard in GUARDS}) == len(GUARDS)


class TestRemoval:
    @pytest.mark.parametrize("text", ["nothing of it", "if it: if it:"])
    def test_text_that_is_not_there_once_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not once"):
            Removal("steps.py", "if it:", "if False:").applied(text)

    def test_one_that_removes_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not once"):
            Removal("steps.py", "if it:", "if it:").applied("if it:")


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="git lists what is copied")
class TestScratch:
    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Scratch:
        return Scratch(REPOSITORY, tmp_path)

    def test_its_tests_import_its_own_package(self, scratch: Scratch) -> None:
        assert scratch.is_used

    def test_a_guard_is_gone_and_comes_back(self, scratch: Scratch) -> None:
        guard = GUARDS[0]
        file = scratch.directory / PACKAGE / guard.removals[0].file
        whole = file.read_text()
        with scratch.without(guard):
            assert file.read_text() == guard.removals[0].applied(whole)
        assert file.read_text() == whole


class TestOutcome:
    def test_a_failed_assertion_has_caught_it(self) -> None:
        failed = "FAILED tests/test_a.py::test_it[a b] - AssertionError: assert ['a'] == []\n1 failed in 0.1s"
        assert Outcome(1, failed).caught

    def test_so_has_an_error_that_was_expected_and_did_not_come(self) -> None:
        failed = "FAILED tests/test_a.py::test_it - Failed: DID NOT RAISE <class 'Unavailable'>\n1 failed in 0.1s"
        assert Outcome(1, failed).caught

    @pytest.mark.parametrize(
        ("code", "output"),
        [
            (0, "1 passed in 0.1s"),
            (1, "FAILED tests/test_a.py::test_it - NameError: name 'line' is not defined\n1 failed in 0.1s"),
            (1, "ERROR tests/test_a.py::test_it - AssertionError: the server did not start\n1 error in 0.1s"),
            (1, "Timeout (0:01:00)!\nThread 0x1 (most recent call first):"),
            (2, "ERROR tests/test_a.py - SyntaxError: invalid syntax\n1 error in 0.1s"),
            (4, "ERROR: not found: tests/test_a.py::test_it"),
            (5, "no tests ran in 0.1s"),
        ],
        ids=["it passes", "it breaks", "no server", "it hangs", "no syntax", "no such test", "nothing ran"],
    )
    def test_nothing_else_has(self, code: int, output: str) -> None:
        outcome = Outcome(code, output)
        assert not outcome.caught
        assert outcome.why


class TestCommand:
    def test_the_list_names_each_guard_with_its_test(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--list", "--only", "FENCE counterexample 9"]) == 0
        listed = capsys.readouterr().out
        chosen = [guard for guard in GUARDS if guard.matches("fence counterexample 9")]
        assert chosen
        assert all(guard.name in listed and guard.test in listed for guard in chosen)
        assert len(listed.splitlines()) == 2 + len(chosen)

    def test_words_that_match_no_guard_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--only", "no such guard"]) == 2
        assert "no such guard" in capsys.readouterr().out
