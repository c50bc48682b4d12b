"""Server-sent events, as the HTML standard defines them, from bytes that come in pieces of any size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from message_handler.ai.failures import ProviderFailure

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
#: Far longer than any line that a provider sends.
_MAX_LINE_BYTES = 1024 * 1024


class Event(NamedTuple):
    """One event that has data. `name` is "" if the server gave it none."""

    name: str
    data: str


class Events:
    """Takes a stream's bytes as they come, and gives each complete event."""

    def __init__(self) -> None:
        #: The pieces of the line that has not ended yet.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._name = b""
        self._data: list[bytes] = []
        self._begun = False
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that `piece` completes.

        Raises UnicodeDecodeError for data that is not UTF-8, and ProviderFailure ai_too_long for an endless line.
        """
        if self._after_cr and piece:
            # The \r has ended its line already. This \n belongs to the same line end.
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
                field, _, value = line.partition(b":")
                if field == b"data":
                    self._data.append(value.removeprefix(b" "))
                elif field == b"event":
                    self._name = value.removeprefix(b" ")
                continue
            name, data = self._name, self._data
            self._name, self._data = b"", []
            if data:
                yield Event(name.decode(errors="replace"), b"\n".join(data).decode())
