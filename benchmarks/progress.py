"""The progress on stderr while figures are measured: a moving line on a terminal, else a line for each figure."""

from __future__ import annotations

import time
from typing import TextIO

_WIDTH = 20


class Progress:
    def __init__(self, count: int, stream: TextIO) -> None:
        self._count = count
        self._stream = stream
        self._moves = stream.isatty()
        self._start = time.monotonic()
        self._number = 0

    def begins(self, name: str) -> None:
        self._number += 1
        self.round(name, 0, 1)

    def round(self, name: str, done: int, of: int) -> None:
        if self._moves:
            filled = _WIDTH * min(done, of) // of
            bar = "█" * filled + "░" * (_WIDTH - filled)
            self._stream.write(f"\r\033[K{self._head()} {name:32} {bar} {done} rounds")
            self._stream.flush()

    def ends(self, name: str, outcome: str) -> None:
        clear = "\r\033[K" if self._moves else ""
        self._stream.write(f"{clear}{self._head()} {name:32} {outcome}\n")
        self._stream.flush()

    def _head(self) -> str:
        seconds = int(time.monotonic() - self._start)
        return f"[{self._number}/{self._count}  {seconds // 60}:{seconds % 60:02}]"
