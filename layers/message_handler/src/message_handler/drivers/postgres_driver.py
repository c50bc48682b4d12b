"""pg8000's connection, with two faults mended: how it closes, and how it sends lists.

`Connection._sock` is the only private name of pg8000 that is used. It is needed to close a connection completely.

It is the file through which a connection reads and writes. pg8000's `close` writes a goodbye into it, and closes
the socket below. If the server has gone, the goodbye stays in the file. The garbage collector later tries to send it
again, prints the error, and only then frees the descriptor. No public name leads to the file.

All other code uses public names of pg8000, see `postgres.execute`. tests/contract/test_drivers.py checks both.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pg8000 import native
from pg8000.exceptions import InterfaceError


class Connection(native.Connection):  # type: ignore[misc]  # it has no types
    """A pg8000 connection whose `close` leaves nothing open. It is also closed when a login fails."""

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except BaseException:
            # pg8000 closes it only if the first message could be sent.
            if getattr(self, "_sock", None) is not None:
                close(self)
            raise
        self.register_out_adapter(list, array)

    def close(self) -> None:
        file = self._sock
        try:
            super().close()
        finally:
            if file is not None:
                with suppress(OSError):
                    file.close()


def array(values: list[Any]) -> str:
    """A list as Postgres reads it. Each text is quoted: pg8000 sends the text `null` bare, and Postgres reads NULL."""
    texts = ["NULL" if value is None else _quoted(str(value)) for value in values]
    return f"{{{','.join(texts)}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def close(connection: Connection) -> None:
    """Close a connection, even if its server has gone."""
    # The goodbye to the server may fail.
    with suppress(InterfaceError, OSError):
        connection.close()
