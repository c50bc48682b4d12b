"""The only use of a private name of pg8000: `Connection._sock`, to close a connection completely.

`_sock` is the file through which a connection reads and writes. pg8000's `close` writes a goodbye into it, and closes
the socket below. If the server has gone, the goodbye stays in the file. The garbage collector later tries to send it
again, prints the error, and only then frees the descriptor. No public name leads to the file.

All other code uses public names of pg8000, see `postgres.execute`. tests/contract/test_drivers.py checks both.
"""

from __future__ import annotations

from contextlib import suppress

from pg8000 import native
from pg8000.exceptions import InterfaceError


class Connection(native.Connection):  # type: ignore[misc]  # it has no types
    """A pg8000 connection whose `close` leaves nothing open. pg8000 also calls it when a login fails."""

    def close(self) -> None:
        file = self._sock
        try:
            super().close()
        finally:
            if file is not None:
                with suppress(OSError):
                    file.close()


def close(connection: Connection) -> None:
    """Close a connection, even if its server has gone."""
    # The goodbye to the server may fail.
    with suppress(InterfaceError, OSError):
        connection.close()
