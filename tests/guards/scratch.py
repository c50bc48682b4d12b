"""A copy of this repository in its own folder, in which guards can be removed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.guards.guard import PACKAGE, Guard

#: Seconds for one test. A test that hangs without a guard has not caught it.
HANG_SECONDS = 60
#: How the reason of a failed assertion begins.
_ASSERTED = ("assert ", "AssertionError", "Failed: ")


@dataclass(frozen=True)
class Outcome:
    """The result of pytest: its exit code and its output."""

    code: int
    output: str

    @property
    def passed(self) -> bool:
        return self.code == 0

    @property
    def caught(self) -> bool:
        """Whether a test's assertion failed, and nothing else went wrong."""
        reasons = [reason for _, reason in self._failures]
        return self.code == 1 and bool(reasons) and all(reason.startswith(_ASSERTED) for reason in reasons)

    @property
    def why(self) -> str:
        """The reason for the outcome, in one line."""
        if self.passed:
            return "it passes"
        seen = [reason for _, reason in self._failures] or [line for line in self.output.splitlines() if line.strip()]
        return seen[-1] if seen else f"pytest ended with {self.code}"

    @property
    def _failures(self) -> list[tuple[str, str]]:
        """The failed tests, each with its reason. An error outside of a test does not count as a failed assertion."""
        found = []
        for line in self.output.splitlines():
            kind, _, rest = line.partition(" ")
            if kind in ("FAILED", "ERROR"):
                node, _, reason = rest.partition(" - ")
                found.append((node, reason if kind == "FAILED" else f"error: {reason}"))
        return found


class Scratch:
    """The copy, with the files that Git tracks or would track, as they are now. A warm process runs its tests."""

    def __init__(self, repository: Path, directory: Path) -> None:
        self.directory = directory
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=repository, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (repository / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, directory / name)
        self._states = 0
        command = [sys.executable, "-m", "tests.guards.warm"]
        pipe = subprocess.PIPE
        # A session of its own, so that one signal ends the test that runs as well.
        self._warm = subprocess.Popen(
            command, cwd=directory, env=self._environment, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )

    def close(self) -> None:
        """End what runs. Closing twice is harmless."""
        with self._warm:  # its end closes the pipes
            if self._warm.poll() is None:
                os.killpg(self._warm.pid, signal.SIGKILL)

    @property
    def is_used(self) -> bool:
        """Whether tests in the copy import the copy's package instead of the installed one."""
        command = [sys.executable, "-c", "import message_handler; print(message_handler.__file__)"]
        ran = subprocess.run(command, cwd=self.directory, env=self._environment, check=True, capture_output=True)
        return Path(os.fsdecode(ran.stdout).strip()).is_relative_to((self.directory / PACKAGE).resolve())

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """Inside the context the guard is removed. Raises ValueError if it is not where the list says."""
        kept: dict[Path, str] = {}
        try:
            for removal in guard.removals:
                file = self.directory / PACKAGE / removal.file
                text = file.read_text()
                kept.setdefault(file, text)
                self._write(file, removal.applied(text))
            yield
        finally:
            for file, text in kept.items():
                self._write(file, text)

    def _write(self, file: Path, text: str) -> None:
        """Write a file with a date of its own: bytecode is dated by the second, and a file may change twice in one."""
        file.write_text(text)
        self._states += 1
        os.utime(file, (self._states, self._states))

    def run(self, chosen: Iterable[str], *options: str) -> Outcome:
        """Run pytest with these arguments."""
        assert self._warm.stdin
        assert self._warm.stdout
        arguments = ["-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", *options, *chosen]
        arguments += ["-o", f"faulthandler_timeout={HANG_SECONDS}"]
        self._warm.stdin.write(f"{json.dumps(arguments)}\n")
        self._warm.stdin.flush()
        return Outcome(**json.loads(self._warm.stdout.readline()))

    @property
    def _environment(self) -> dict[str, str]:
        source = (self.directory / PACKAGE).parent.resolve()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return kept | {
            "PYTHONPATH": str(source),
            # No test here needs these plugins, and loading them takes as long as a test.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # So a missing server fails a test. A skipped test would catch nothing.
            "CI": "true",
        }
