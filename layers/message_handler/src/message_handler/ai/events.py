"""Server-sent events, as the HTML standard has them, from bytes that come in any pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Events:
    """Takes a stream's bytes as they come, and gives the data of each event that is complete."""

    def __init__(self) -> None:
        #: The line that has not ended yet, in the pieces in which it came.
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._begun = False
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of the events that `piece` completes. Raises UnicodeDecodeError where one is no UTF-8."""
        if self._after_cr and piece:
            # \r ended a line already; with it, \n is the same line's end.
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        first, *others = _LINE_END.split(piece)
        self._rest.append(first)
        if not others:
            return
        lines = [b"".join(self._rest), *others[:-1]]
        self._rest = [others[-1]]
        for line in lines:
            if not self._begun:
                line, self._begun = line.removeprefix(_BOM), True
            if line:
                name, _, value = line.partition(b":")
                if name == b"data":
                    self._data.append(value.removeprefix(b" "))
            elif self._data:
                data, self._data = b"\n".join(self._data), []
                yield data.decode()
