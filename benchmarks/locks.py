"""The cost of the lock beside its single Redis call, and beside redis-py's own lock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.connection import ConnectionPool

from benchmarks.figure import Figure, Round, Target, alternating
from benchmarks.recording import bare_script
from benchmarks.stores import Stores
from message_handler.drivers.redis import connect
from message_handler.locks import MessageLockManager
from message_handler.tiers.failover import Failover
from message_handler.tiers.redis import RedisTier

MESSAGES = ["Dạ bác sĩ ơi, tôi bị đau đầu từ hôm qua, uống thuốc này mấy lần?"]


class _Same(ConnectionPool):
    """redis-py's own pool with one connection, which is already open."""

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self._connection = connection

    def make_connection(self) -> Any:
        return self._connection


def stock(client: Any) -> redis.Redis:
    """redis-py's usual client with its own pool, over the connection that our client uses."""
    connection = client.connection_pool.get_connection()
    client.connection_pool.release(connection)
    return redis.Redis(connection_pool=_Same(connection))


@contextmanager
def manager(stores: Stores) -> Iterator[tuple[MessageLockManager, Any]]:
    """The lock manager over an empty Redis, and its client."""
    settings = stores.settings()
    client = connect(settings)
    client.flushall()
    yield MessageLockManager(Failover(RedisTier(client, settings))), client
    client.close()


def acquiring(stores: Stores) -> Iterator[Round]:
    times = 50 if stores.quick else 200
    with manager(stores) as (locks, client):
        names = (f"conversation-{number:07}" for number in itertools.count())
        plain = stock(client)

        def acquire() -> None:
            assert locks.check_and_acquire_lock(next(names), MESSAGES)["acquired"]

        while True:
            bare = iter([bare_script(client, acquire, plain) for _ in range(times)])
            yield alternating(acquire, lambda bare=bare: next(bare)(), times)  # type: ignore[misc]


def cycling(stores: Stores) -> Iterator[Round]:
    times = 50 if stores.quick else 200
    with manager(stores) as (locks, _):
        names = (f"conversation-{number:07}" for number in itertools.count())
        # The usual client at its fastest settings: RESP 3 and bytes take longer here.
        plain = redis.Redis.from_url(stores.redis_url, protocol=2, decode_responses=True)

        def ours() -> None:
            name = next(names)
            lock_id = locks.check_and_acquire_lock(name, MESSAGES)["lock_id"]
            assert lock_id and locks.release_lock(name, lock_id)

        def theirs() -> None:
            lock = plain.lock(f"lock:{next(names)}", timeout=300, blocking=False)
            assert lock.acquire()
            lock.release()

        while True:
            yield alternating(ours, theirs, times)


FIGURES = (
    Figure(
        "lock-acquire",
        "lock acquire / bare EVALSHA",
        "a fresh conversation's lock through MessageLockManager",
        "the same script, keys and arguments by evalsha of redis-py's own client and pool, on the same connection",
        Target("≤", 1.25),
        acquiring,
        seconds=8,
    ),
    Figure(
        "lock-cycle",
        "lock acquire + release / redis-py's Lock",
        "acquire, with its look for duplicates and its job, and release through MessageLockManager",
        "acquire and release of redis-py's Lock, with its own client, pool and parser",
        Target("≤", 1.5),
        cycling,
        seconds=8,
    ),
)
