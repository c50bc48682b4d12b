"""The list of the protocol's guards is true, and only a failed assertion shows that a test catches a missing guard."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.guards import marks
from tests.guards.__main__ import GUARDS, main
from tests.guards.guard import IN_MEMORY, PACKAGE, REPOSITORY, Guard, Removal
from tests.guards.scratch import Outcome, Scratch


def name(guard: Guard) -> str:
    return f"{guard.name} ({guard.files})"


@pytest.mark.parametrize("guard", GUARDS, ids=name)
class TestEachGuard:
    def test_its_text_stands_once_where_the_list_says(self, guard: Guard) -> None:
        texts = {removal.file: (REPOSITORY / PACKAGE / removal.file).read_text() for removal in guard.removals}
        for removal in guard.removals:
            texts[removal.file] = removal.applied(texts[removal.file])
        for file, text in texts.items():
            if file.endswith(".py"):
                ast.parse(text, file)

    def test_its_tests_exist(self, guard: Guard) -> None:
        if guard.test == IN_MEMORY:
            assert all((REPOSITORY / chosen).exists() for chosen in guard.chosen[:-2])
            return
        file, *scopes = guard.chosen[0].partition("[")[0].split("::")
        defined = re.findall(r"^ *(?:class|def) (\w+)", (REPOSITORY / file).read_text(), re.MULTILINE)
        assert set(scopes) <= set(defined)


def test_no_guard_is_listed_twice() -> None:
    assert len({guard.removals for guard in GUARDS}) == len(GUARDS)


class TestRemoval:
    @pytest.mark.parametrize("text", ["nothing of it", "if it: if it:"])
    def test_text_that_is_not_there_once_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not once"):
            Removal("steps.py", "if it:", "if False:").applied(text)

    def test_a_removal_without_a_change_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not once"):
            Removal("steps.py", "if it:", "if it:").applied("if it:")


class TestMarks:
    @pytest.mark.parametrize(
        ("marked", "without"),
        [
            ("if late:  # guard: step finish\n    pass", "if False:"),
            ("while late:  # guard: step finish -> late()\n    pass", "while late():"),
            ("if late:\n    pass\nelif found.at > now:  # guard: step finish\n    pass", "elif False:"),
            ("(\n    a\n    and b == c  # guard: step seal\n    and d\n)", "    and True"),
            ("(\n    a\n    or b == c  # guard: step seal\n    or d\n)", "    or False"),
            ("[\n    a\n    for a in b\n    if a  # guard: step seal\n]", "    if True"),
            ("[\n    a\n    for a in b\n    if a  # guard: step seal -> False\n]", "    if False"),
            ("call(\n    a,\n    b=c,  # guard: step seal\n)", ""),
            ("call(\n    a,\n    b=c,  # guard: step seal -> d\n)", "    b=d,"),
            ("call(\n    a,\n    b + c,  # guard: step seal -> b\n)", "    b,"),
            ("a[b] = a.get(b) + 1  # guard: step undo, posts", "pass"),
            ("a = b  # guard: step undo, posts -> c", "a = c"),
            ("return a and b  # guard: step seal -> a", "return a"),
        ],
    )
    def test_what_is_marked_is_gone(self, marked: str, without: str) -> None:
        (guard,) = marks.guards_in("steps.py", marked)
        assert guard.removals[0].new == without
        ast.parse(guard.removals[0].applied(marked))

    def test_a_mark_is_named_by_its_line(self) -> None:
        (guard,) = marks.guards_in("steps.py", "a = b  # guard: invariant 4, seal -> c")
        assert (guard.name, guard.rule) == ("a = b", "invariant 4, seal")

    @pytest.mark.parametrize(
        "marked",
        [
            "(\n    a and b  # guard: step seal\n)",
            "call(a, (\n    b  # guard: step seal\n))",
            "for a in b:  # guard: step seal\n    pass",
            "call(a,  # guard: step seal -> None\nb)",
            "a()  # guard:",
        ],
    )
    def test_what_can_not_be_removed_is_told(self, marked: str) -> None:
        with pytest.raises(ValueError, match=r"mark|removed"):
            list(marks.guards_in("steps.py", marked))


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="git lists what is copied")
class TestScratch:
    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Iterator[Scratch]:
        with closing(Scratch(REPOSITORY, tmp_path)) as scratch:
            yield scratch

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

    def test_an_expected_error_that_did_not_come_has_caught_it(self) -> None:
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
    def test_no_other_outcome_has_caught_it(self, code: int, output: str) -> None:
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
