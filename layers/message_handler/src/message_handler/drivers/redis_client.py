"""redis-py's client, on the shortest way to a server and back."""

from __future__ import annotations

from typing import Any

import redis


class Client(redis.Redis):
    """A redis-py client without the retries and measurements that redis-py puts around each command.

    `connect` turns the retries off, and nothing reads the measurements. Both take as long as all the rest.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        pool = self.connection_pool
        # The pool replaces a connection that the server has closed meanwhile.
        connection = pool.get_connection()
        try:
            connection.send_packed_command(packed(args) or connection.pack_command(*args), check_health=False)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError:
            raise  # this is the answer, and it has been read completely
        except BaseException:
            # After an interruption the answer is still to come. The next command would take it for its own.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)


def packed(args: tuple[Any, ...]) -> list[bytes] | None:
    """A command as bytes, if all its arguments are `str`, else None. A name of several words is split."""
    for word in args:
        if type(word) is not str:
            return None
    words = [word.encode() for word in (*args[0].split(), *args[1:])]
    pieces = [b"*%d\r\n" % len(words)]
    pieces += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return [b"".join(pieces)]
