"""The one private name of pg8000 that is read: `Connection._sock`, to close a connection whole.

`_sock` is the file through which a connection reads and writes. `Connection.close` writes a goodbye into it, and closes
the socket below. If the server has gone, the goodbye stays in the file: the garbage collector tries to send it again,
prints the error, and only then gives the descriptor back. No public name leads to the file.

All else goes through public names, see `database.execute`. tests/contract/test_drivers.py holds both.
"""

from __future__ import annotations

from contextlib import suppress

from pg8000.exceptions import InterfaceError
from pg8000.native import Connection


def close(connection: Connection) -> None:
    """Close it whole, whether the server is there or not."""
    file = connection._sock  # noqa: SLF001  see above
    for close in (connection.close, file.close):
        # There may be nobody left to say goodbye to.
        with suppress(InterfaceError, OSError):
            close()
