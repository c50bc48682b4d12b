"""The service's client is quicker than redis-py's, and must otherwise behave the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from local.stores import Server
from message_handler.drivers.redis import connect
from message_handler.drivers.redis_client import packed
from message_handler.settings import Settings
from tests.servers import SecuredRedis

KEY = "test:client"
#: More than arrives in one read.
LARGE = 300_000
TEXTS = ["", "a", "\r\n", "$1\r\na\r\n", "-ERR no error", "Dạ bác sĩ ơi", "x" * 16_384, "ạ" * LARGE]


@pytest.fixture
def client(valkey: Server) -> Iterator[redis.Redis]:
    with connect(Settings(redis_url=SecretStr(valkey.url), redis_timeout_ms=10_000)) as client:
        client.delete(KEY)
        yield client


@pytest.fixture
def theirs(valkey: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url, decode_responses=True, protocol=2) as client:
        yield client


def told(call: Callable[[], Any]) -> Any:
    """The answer to a call, or the type of its error."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  each is compared
        return type(error)


class TestCommands:
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
    def test_texts_are_sent_as_redis_py_sends_them(self, words: list[str]) -> None:
        for name in ("EVALSHA", "CLUSTER SLOTS"):
            sent = packed((name, *words))
            assert sent is not None
            assert b"".join(sent) == b"".join(redis.Connection().pack_command(name, *words))

    def test_numbers_and_bytes_are_sent_as_redis_py_sends_them(self, client: redis.Redis) -> None:
        client.hset(KEY, mapping={"whole": 7, "half": 0.5, "bytes": b"\x41"})
        assert client.hmget(KEY, ["whole", "half", "bytes"]) == ["7", "0.5", "A"]

    @pytest.mark.parametrize("nothing", [None, True])
    def test_what_redis_py_refuses_is_refused(self, client: redis.Redis, nothing: Any) -> None:
        assert told(lambda: client.execute_command("SET", KEY, nothing)) is redis.DataError
        assert client.get(KEY) is None


class TestAnswers:
    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_a_text_comes_as_it_is_whatever_is_in_it(self, client: redis.Redis, text: str) -> None:
        assert client.echo(text) == text
        client.set(KEY, text)
        assert client.get(KEY) == text

    def test_a_text_comes_as_it_is_over_tls_too(self, secured_redis: SecuredRedis) -> None:
        settings = Settings(
            redis_url=SecretStr(secured_redis.url),
            redis_password=SecretStr(secured_redis.password),
            redis_timeout_ms=10_000,
        )
        with connect(settings) as client:
            assert [client.echo(text) for text in TEXTS] == TEXTS

    def test_the_others_are_read_as_redis_py_reads_them(self, client: redis.Redis, theirs: redis.Redis) -> None:
        commands: list[tuple[Any, ...]] = [
            ("GET", KEY),
            ("PING",),
            ("INCR", KEY),
            ("MGET", KEY, "test:none", KEY),
            ("EVAL", "return {1, {'a', 'b'}, false, redis.status_reply('fine')}", 0),
            ("EVAL", "return {}", 0),
            ("EVAL", "return '$1'", 0),
            ("TIME",),
        ]
        for command in commands:
            theirs.delete(KEY)
            expected = theirs.execute_command(*command)
            theirs.delete(KEY)
            assert type(client.execute_command(*command)) is type(expected)
            if command != ("TIME",):
                theirs.delete(KEY)
                assert client.execute_command(*command) == expected

    def test_an_error_is_raised_and_the_connection_goes_on(self, client: redis.Redis) -> None:
        number = client.client_id()
        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha("0" * 40, 0)
        with pytest.raises(redis.ResponseError, match="no"):
            client.eval("return redis.error_reply('no')", 0)
        assert (client.echo("a"), client.client_id()) == ("a", number)

    def test_several_that_come_at_once_are_told_apart(self, valkey: Server) -> None:
        with connect(Settings(redis_url=SecretStr(valkey.url), redis_timeout_ms=2_000)) as client:
            for texts in (["a", "b", "c"], TEXTS):
                pipeline = client.pipeline(transaction=False)
                for text in texts:
                    pipeline.echo(text)
                assert told(pipeline.execute) == texts
                assert client.echo("a") == "a"


class TestConnections:
    def test_one_that_is_closed_is_noticed_before_anything_is_sent(
        self, client: redis.Redis, theirs: redis.Redis
    ) -> None:
        number = client.client_id()
        for expected in (1, 2):
            theirs.client_kill_filter(_id=str(number))
            assert told(lambda: client.incr(KEY)) == expected
            assert client.client_id() != number
            number = client.client_id()

    def test_a_late_answer_is_never_another_threads(self, client: redis.Redis, theirs: redis.Redis) -> None:
        pool = client.connection_pool
        connection: Any = pool.get_connection()
        connection.send_command("ECHO", "a secret")
        for _ in range(2):  # then the answer has arrived
            theirs.ping()
        pool.release(connection)
        assert client.echo("mine") == "mine"

    def test_each_thread_has_its_own(self, client: redis.Redis) -> None:
        together = Barrier(8)

        def talk(number: int) -> bool:
            together.wait(10)
            return all(client.echo(f"{number} {turn}") == f"{number} {turn}" for turn in range(200))

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(talk, range(8)))

    def test_after_a_fork_none_is_shared(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        number, parent = client.client_id(), os.getpid()
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: parent + 1)
            assert client.client_id() != number

    @pytest.mark.parametrize(
        "close", [lambda client: client.close(), lambda client: client.connection_pool.disconnect(False)]
    )
    def test_kept_connections_are_closed_with_the_others(
        self, client: redis.Redis, theirs: redis.Redis, close: Callable[[redis.Redis], None]
    ) -> None:
        number = client.client_id()
        close(client)
        deadline = time.monotonic() + 10
        while theirs.client_list(client_id=[number]):
            assert time.monotonic() < deadline
        assert client.client_id() != number
