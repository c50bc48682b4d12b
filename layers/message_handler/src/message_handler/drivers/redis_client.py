"""redis-py's client, by its shortest way to a server and back."""

from __future__ import annotations

from typing import Any

import redis


class Client(redis.Redis):
    """redis-py's, without what it puts around each command: retries, which `connect` turns off, and measurements that
    nobody reads. That takes as long as all the rest.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        pool = self.connection_pool
        # What the server has closed meanwhile is made anew here.
        connection = pool.get_connection()
        try:
            connection.send_packed_command(packed(args) or connection.pack_command(*args), check_health=False)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError:
            raise  # the answer: it has been read whole
        except BaseException:
            # Where this thread is told to end, the answer is still to come, and would be the next command's.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)


def packed(args: tuple[Any, ...]) -> list[bytes] | None:
    """A command of nothing but texts as it is sent; None for others. Its name may be of several words."""
    for word in args:
        if type(word) is not str:
            return None
    words = [word.encode() for word in (*args[0].split(), *args[1:])]
    pieces = [b"*%d\r\n" % len(words)]
    pieces += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return [b"".join(pieces)]
