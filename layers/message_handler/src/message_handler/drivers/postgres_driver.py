"""The one private name of pg8000 that is read: `Connection._sock`, to close a connection whole.

`_sock` is the file through which a connection reads and writes. pg8000's `close` writes a goodbye into it, and closes
the socket below. If the server has gone, the goodbye stays in the file. The garbage collector then tries to send it
again, prints the error, and only then gives the descriptor back. No public name leads to the file.

All else goes through public names, see `database.execute`. tests/contract/test_drivers.py holds both.
"""

from __future__ import annotations

from contextlib import suppress

from pg8000 import native
from pg8000.exceptions import InterfaceError


class Connection(native.Connection):  # type: ignore[misc]  # it has no types
    """pg8000's, but its `close` leaves nothing open. pg8000 calls that too, where a login fails."""

    def close(self) -> None:
        file = self._sock
        try:
            super().close()
        finally:
            if file is not None:
                with suppress(OSError):
                    file.close()


def close(connection: Connection) -> None:
    """Close it, whether the server is there or not."""
    # There may be nobody left to say goodbye to.
    with suppress(InterfaceError, OSError):
        connection.close()
