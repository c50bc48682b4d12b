"""The evidence of the safety case: how the tests that controls name ended in the last run that was recorded."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree  # nosec B405

ROOT = Path(__file__).parents[1]
FILE = ROOT / "safety" / "evidence.json"

#: Removes each guard that a control names.
REMOVALS = "tests/guards/test_safety_case.py::test_a_test_fails_without_it"

type Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Evidence:
    """One run: its version, commit and day, and how often each test ended how. A test ends once for each parameter."""

    version: str
    commit: str
    run_at: str
    tests: dict[str, dict[Outcome, int]] = field(default_factory=dict)

    def outcome(self, test: str) -> Outcome | None:
        """None if the run had no such test. A test failed if it failed once, and passed if it passed at least once."""
        ends = self.tests.get(test, {})
        return next((outcome for outcome in _WORST_FIRST if ends.get(outcome)), None)

    def write(self, file: Path = FILE) -> None:
        file.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


_WORST_FIRST: tuple[Outcome, ...] = ("failed", "passed", "skipped")


def read(file: Path = FILE) -> Evidence | None:
    """The recorded run, or None if none was recorded."""
    return Evidence(**json.loads(file.read_text())) if file.exists() else None


def of_junit(results: Path, tests: Iterable[str]) -> Evidence:
    """The evidence in a file of `pytest --junitxml`, for these tests. Raises ValueError if none of them is there."""
    try:
        root = ElementTree.parse(results).getroot()  # noqa: S314  # nosec B314
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no JUnit file: {error}") from error
    names = {_junit_name(test): test for test in tests}
    found: dict[str, dict[Outcome, int]] = {}
    for case in root.iter("testcase"):
        function = case.get("name", "").partition("[")[0]
        if test := names.get((case.get("classname", ""), function)):
            ends = found.setdefault(test, {})
            outcome = _outcome(case)
            ends[outcome] = ends.get(outcome, 0) + 1
    if not found:
        raise ValueError("it has none of the tests that controls name")
    suite = next(root.iter("testsuite"))
    return Evidence(_version(), _commit(), suite.get("timestamp", "")[:10], found)


def _junit_name(test: str) -> tuple[str, str]:
    """The class and the name that pytest gives a test in its JUnit file."""
    file, *classes, function = test.split("::")
    return ".".join([*Path(file).with_suffix("").parts, *classes]), function


def _outcome(case: ElementTree.Element) -> Outcome:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def _version() -> str:
    package = ROOT / "layers" / "message_handler" / "pyproject.toml"
    return str(tomllib.loads(package.read_text())["project"]["version"])


def _commit() -> str:
    """The commit of this folder, which ends with `-dirty` if files differ from it."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
