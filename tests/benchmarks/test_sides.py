"""Both sides of a figure do the same work: the bare call does all that the step does, on real stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from benchmarks.clients import Clients
from benchmarks.locks import MESSAGES
from benchmarks.recording import bare_script
from benchmarks.seeds import lock_in_memory
from benchmarks.stores import Stores
from local.stores import Server
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.redis import connect
from message_handler.locks import MessageLockManager
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.redis import RedisTier

SAFE = ("fsync", "synchronous_commit", "full_page_writes")


def test_the_bare_script_takes_the_very_lock_again(valkey: Server) -> None:
    settings = Settings(redis_url=SecretStr(valkey.url), redis_timeout_ms=10_000)
    client = connect(settings)
    locks = MessageLockManager(Failover(RedisTier(client, settings)))
    taken: list[str] = []

    def take() -> None:
        taken.append(locks.check_and_acquire_lock("bare", MESSAGES)["ai_job_id"])

    try:
        again = bare_script(client, take)
        assert locks.get_lock_info("bare") is None  # the recorded step left no trace
        again()
        lock = locks.get_lock_info("bare")
        assert lock
        assert [lock["ai_job_id"]] == taken
        assert "execute_command" not in vars(client)
    finally:
        client.close()


def test_the_stores_are_started_when_they_are_asked_for() -> None:
    with Stores() as stores:
        assert stores.versions == []
        assert stores.folder.is_dir()
    assert not stores.folder.exists()


def test_a_commit_waits_for_the_disk() -> None:
    with Stores() as stores:
        database = Database(connector(stores.settings()))
        asked = [database.run(lambda connection: connection.run(f"show {name}"))[0][0] for name in SAFE]  # noqa: B023
        database.close()
        assert asked == ["on"] * len(SAFE)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setattr("benchmarks.clients.COUNT", 2)
    started = Clients({})
    yield started
    started.close()


def test_clients_tell_what_each_call_took(clients: Clients) -> None:
    clients.set_up(lock_in_memory)
    taken = clients.calls(0.5)
    assert taken
    assert all(0 < seconds < 60 for seconds in taken)


def test_a_client_that_dies_is_told_and_not_waited_for(clients: Clients) -> None:
    with pytest.raises(RuntimeError, match="a client has died"):
        clients.set_up(len)  # type: ignore[arg-type]  # which wants an argument
