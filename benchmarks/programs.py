"""Programs of other environments. Each is a process that is asked on its stdin and answers on its stdout.

Both ways, a line is one JSON object. A program ends when its stdin does, or is killed at the end of its `with` block.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
#: The longest time for an answer. A program without one by then is stuck.
TIMEOUT_SECONDS = 120.0
#: The only environment variables that a program gets. There are no credentials among them.
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


class Program:
    """A running `python -m module` of an environment beside .venv, in the module's folder.

    Raises RuntimeError if the environment is not there.
    """

    def __init__(self, environment: str, module: str, *, timeout: float = TIMEOUT_SECONDS, folder: Path = ROOT) -> None:
        self._module, self._timeout = module, timeout
        python = ROOT / environment / "bin/python"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        try:
            self.process = subprocess.Popen(
                [python, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                cwd=folder,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            )
        except FileNotFoundError:
            self._said.close()
            raise RuntimeError(f"{environment} is not there: `make {environment}/synced` makes it") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._said):
            assert stream
            with suppress(BrokenPipeError):  # it has not read all of it
                stream.close()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The program's answer. Raises RuntimeError if it ends without one, or gives none in time."""
        assert self.process.stdin and self.process.stdout
        late = threading.Event()

        def end() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(self._timeout, end)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if late.is_set():
            raise RuntimeError(f"{self._module} gave no answer within {self._timeout:g} s")
        if not answer:
            self.process.wait()
            raise RuntimeError(f"{self._module} failed: {self._last_words()}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}"
