"""Server-sent events, as the HTML standard has them, from bytes that come in any pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from message_handler.ai.failures import ProviderFailure

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
#: Many times what a provider says in one event.
_MAX_LINE_BYTES = 1024 * 1024


class Events:
    """Takes a stream's bytes as they come, and gives the data of each event that is complete."""

    def __init__(self) -> None:
        #: The line that has not ended yet, in the pieces in which it came.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._begun = False
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of the events that `piece` completes.

        Raises UnicodeDecodeError where one is no UTF-8, and ProviderFailure ai_too_long for a line that does not end.
        """
        if self._after_cr and piece:
            # \r ended a line already; with it, \n is the same line's end.
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        first, *others = _LINE_END.split(piece)
        self._rest.append(first)
        self._rest_bytes += len(first)
        if self._rest_bytes > _MAX_LINE_BYTES:
            raise ProviderFailure("ai_too_long")
        if not others:
            return
        lines = [b"".join(self._rest), *others[:-1]]
        self._rest, self._rest_bytes = [others[-1]], len(others[-1])
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
