"""Writes the functions' output to a file, and notable lines to the terminal too."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import IO, TextIO

_NOTABLE = {"WARNING", "ERROR", "CRITICAL"}


class FunctionLog:
    """The functions' stdout and stderr in lines, as CloudWatch Logs gets them, including metrics in EMF."""

    def __init__(self, path: Path, terminal: TextIO | None, *, notable_only: bool = True) -> None:
        """Start an empty file that only this user may read. Without a terminal, no line is shown."""
        self._terminal = terminal
        self._notable_only = notable_only
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _private(path)

    def follow(self, function: str, output: IO[bytes]) -> None:
        """Copy a process's output until it ends."""
        with output:
            for raw in output:
                # The runtime client joins the lines of a traceback with carriage returns.
                for line in raw.decode(errors="replace").rstrip("\r\n").split("\r"):
                    self.write(function, line)

    def write(self, function: str, line: str) -> None:
        """Add a line. A line that is not JSON is notable: a traceback, or a forgotten print."""
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()
        if self._terminal is None or not line.strip():
            return
        if not self._notable_only:
            print(line, file=self._terminal, flush=True)
        elif is_notable(line):
            print(f"[{function}] {line}", file=self._terminal, flush=True)

    def close(self) -> None:
        with self._lock:
            self._file.close()


def is_notable(line: str) -> bool:
    """Whether the terminal shows this line."""
    try:
        record = json.loads(line)
    except ValueError:
        return True
    return not isinstance(record, dict) or record.get("level") in _NOTABLE


def _private(path: Path) -> TextIO:
    """An empty file of this user alone. The lines of a log hold ids, which may be telephone numbers."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(file, 0o600)  # a file that was there has kept its mode
    return os.fdopen(file, "w", encoding="utf-8")
