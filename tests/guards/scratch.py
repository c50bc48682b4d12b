"""A copy of this repository in a folder of its own, in which guards can be taken away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.guards.guard import PACKAGE, Guard

#: A test that hangs without a guard has not shown what the guard is for.
HANG_SECONDS = 60
#: How the reason of a failure begins that an assertion of a test saw.
_ASSERTED = ("assert ", "AssertionError", "Failed: ")


@dataclass(frozen=True)
class Outcome:
    """How pytest ended: its exit code and all that it printed."""

    code: int
    output: str

    @property
    def passed(self) -> bool:
        return self.code == 0

    @property
    def caught(self) -> bool:
        """Whether a test failed, and nothing else went wrong."""
        reasons = [reason for _, reason in self._failures]
        return self.code == 1 and bool(reasons) and all(reason.startswith(_ASSERTED) for reason in reasons)

    @property
    def why(self) -> str:
        """What was seen, in one line."""
        if self.passed:
            return "it passes"
        seen = [reason for _, reason in self._failures] or [line for line in self.output.splitlines() if line.strip()]
        return seen[-1] if seen else f"pytest ended with {self.code}"

    @property
    def _failures(self) -> list[tuple[str, str]]:
        """The failed tests, each with its reason; an error outside of a test has none that counts."""
        found = []
        for line in self.output.splitlines():
            kind, _, rest = line.partition(" ")
            if kind in ("FAILED", "ERROR"):
                node, _, reason = rest.partition(" - ")
                found.append((node, reason if kind == "FAILED" else f"error: {reason}"))
        return found


class Scratch:
    """The copy. It holds what is tracked or would be, as it is now."""

    def __init__(self, repository: Path, directory: Path) -> None:
        self.directory = directory
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=repository, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (repository / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, directory / name)

    @property
    def is_used(self) -> bool:
        """Whether tests in the copy import the copy's package, and not the installed one."""
        command = [sys.executable, "-c", "import message_handler; print(message_handler.__file__)"]
        ran = subprocess.run(command, cwd=self.directory, env=self._environment, check=True, capture_output=True)
        return Path(os.fsdecode(ran.stdout).strip()).is_relative_to((self.directory / PACKAGE).resolve())

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """Inside, the guard is gone. Raises ValueError if it is not where the list says."""
        kept: dict[Path, str] = {}
        try:
            for removal in guard.removals:
                file = self.directory / PACKAGE / removal.file
                text = file.read_text()
                kept.setdefault(file, text)
                file.write_text(removal.applied(text))
            yield
        finally:
            for file, text in kept.items():
                file.write_text(text)

    def run(self, chosen: Iterable[str], *options: str) -> Outcome:
        """Run tests as pytest is told which."""
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *options, *chosen]
        command += ["-o", f"faulthandler_timeout={HANG_SECONDS}"]
        ran = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Outcome(ran.returncode, ran.stdout)

    @property
    def _environment(self) -> dict[str, str]:
        source = (self.directory / PACKAGE).parent.resolve()
        kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        return kept | {
            "PYTHONPATH": str(source),
            # A file may change twice within the second that its bytecode is dated by.
            "PYTHONDONTWRITEBYTECODE": "1",
            # No test here needs a plugin, and they take as long as a test.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # A missing server fails a test then, which would otherwise be skipped and catch nothing.
            "CI": "true",
        }
