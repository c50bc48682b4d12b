"""What the service needs of pg8000 beyond its documentation. If a test fails, look at the driver before you upgrade it.

redis-py is used through public names only. Its tests are in test_redis_client.py and test_redis.py.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection
from pydantic import SecretStr

from message_handler.drivers import postgres, postgres_connection, postgres_driver
from message_handler.drivers.postgres import execute
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.postgres_driver import close
from message_handler.settings import Settings

PG8000 = f"pg8000 {version('pg8000')}"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three statements: the first has a row for each of `words`, the second has no rows, Postgres refuses the third."""
    texts: dict[str, tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]] = {
        "each": ("select unnest(cast($1 as text[]))", lambda values: (values["words"],)),
        "none": ("set local work_mem = '4MB'", lambda values: ()),
        "wrong": ("select cast($1 as integer)", lambda values: (values["words"][0],)),
    }
    monkeypatch.setattr(postgres, "statement", texts.__getitem__)


@pytest.fixture
def connection(migrated: Settings) -> Iterator[Connection]:
    connection = connector(migrated)()
    yield connection
    with suppress(InterfaceError):
        connection.close()


@pytest.mark.usefixtures("statements")
class TestStatements:
    @pytest.mark.parametrize("size", [1, 1_000_000])
    def test_several_share_one_wait_and_each_ones_rows_come_in_turn(
        self, connection: Connection, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits, wait = list[object](), Connection.handle_messages

        def count(connection: Connection, context: Any) -> None:
            waits.append(context)
            wait(connection, context)

        monkeypatch.setattr(Connection, "handle_messages", count)
        words = ["ạ" * size, "b", "c' \\ :d"]
        assert execute(connection, {"words": words}, "each", "none", "each") == [[word] for word in words] * 2
        assert execute(connection, {"words": words}, "none") == []
        assert len(waits) == 2, f"{PG8000} waits for the server in between"

    def test_one_that_is_refused_takes_the_others_along_and_the_connection_goes_on(
        self, connection: Connection
    ) -> None:
        connection.run("create temporary table words (word text)")
        with pytest.raises(DatabaseError):
            execute(connection, {"words": ["a"]}, "each", "wrong", "each")
        assert execute(connection, {"words": ["a"]}, "each") == [["a"]]


class TestLists:
    def test_each_text_arrives_as_it_is(self, connection: Connection) -> None:
        """Ids may be any printable text, and a platform's `String(null)` is `null`."""
        texts = ["null", "Null", "NULL", "", " ", "a,b", "{}", '"', "\\", '\\"', "\n", "uống 💧", None, "'", "true"]
        rows = connection.run("select * from unnest(cast(:texts as text[]))", texts=texts)
        assert [text for (text,) in rows] == texts
        assert connection.run("select cast(:empty as text[])", empty=[]) == [[[]]]
        assert connection.run("select cast(:numbers as bigint[])", numbers=[1, -2, None]) == [[[1, -2, None]]]


class TestSockets:
    def test_messages_leave_at_once(self, migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        given: dict[str, Any] = {}
        monkeypatch.setattr(postgres_connection, "Connection", lambda **arguments: given.update(arguments))
        connector(migrated)(timeout=3)
        with given["sock"] as used:
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert used.gettimeout() == 3

    @pytest.mark.parametrize("moment", ["before its first message", "after it"])
    def test_one_whose_server_goes_in_its_login_is_closed_whole(
        self, migrated: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        assert migrated.database_url
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            url = f"postgresql://me@127.0.0.1:{port}/none"
            connect = connector(migrated.model_copy(update={"database_url": SecretStr(url)}))
            before = descriptors()

            def hang_up() -> None:
                accepted, _ = server.accept()
                if moment == "after it":
                    accepted.recv(1)
                # The connection is reset, so that the driver can't even send its goodbye.
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()

            with ThreadPoolExecutor(1) as other:
                hung_up = other.submit(hang_up)

                def connected(**arguments: Any) -> postgres_driver.Connection:
                    if moment == "before its first message":
                        hung_up.result(10)
                    return postgres_driver.Connection(**arguments)

                monkeypatch.setattr(postgres_connection, "Connection", connected)
                with pytest.raises((InterfaceError, OSError)) as gone:
                    connect(timeout=5)
                hung_up.result(10)
            assert descriptors() == before, f"{PG8000} keeps a descriptor"
            assert gone.value.__traceback__

    def test_one_whose_server_has_gone_is_closed_whole(self, connection: Connection, sql: Connection) -> None:
        """So it is while an error that refers to the file is still alive. The failed goodbye raises nothing."""
        before = descriptors()
        (pid,) = connection.run("select pg_backend_pid()")[0]
        sql.run("select pg_terminate_backend(:pid, 5000)", pid=pid)
        for _ in range(2):  # the first send still finds the server's last message
            with pytest.raises(InterfaceError) as gone:
                connection.run("select 1")
        close(connection)
        assert descriptors() == before - 1, f"{PG8000} keeps a descriptor"
        assert gone.value.__traceback__


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
