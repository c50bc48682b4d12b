"""Every store under one name: a test that asks for `tier` or `chat` runs once for each of `TIERS`, one that asks
for `archive` once for each of `ARCHIVES`.

Another store joins by a fixture of its own that is named `<store>_tier`, and a line in `TIERS`. It reads the
time from `clock`, and starts empty.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server
from message_handler.settings import Settings
from message_handler.stores.memory import MemoryArchive, MemoryTier
from message_handler.stores.port import Archive, Tier
from message_handler.stores.postgres import PostgresArchive, connector
from message_handler.stores.redis import RedisTier, connect
from tests.contract.chat import Chat, Clock

TIERS = ("memory", "redis")
ARCHIVES = ("memory", "postgres")


def age_keys(client: redis.Redis, seconds: float) -> None:
    """Let every key's remaining life shrink, as if the time had passed for the server too."""
    for key in client.scan_iter(count=1000):
        if (left := int(client.pttl(key))) > 0:
            client.pexpire(key, max(0, left - int(seconds * 1000)))


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def redis_client(valkey: Server) -> Iterator[redis.Redis]:
    # A loaded machine must not look like a dead server.
    client = connect(Settings(redis_url=SecretStr(valkey.url), redis_timeout_ms=10_000))
    yield client
    client.close()


@pytest.fixture
def memory_tier(settings: Settings, clock: Clock) -> MemoryTier:
    return MemoryTier(settings, clock)


@pytest.fixture
def redis_tier(redis_client: redis.Redis, settings: Settings, clock: Clock) -> RedisTier:
    redis_client.flushall()
    clock.followers.append(lambda seconds: age_keys(redis_client, seconds))
    return RedisTier(redis_client, settings, clock)


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> Tier:
    found: Tier = request.getfixturevalue(f"{request.param}_tier")
    return found


@pytest.fixture
def chat(tier: Tier, clock: Clock) -> Chat:
    return Chat(tier, clock)


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> Settings:
    """The settings of a database with our schema."""
    settings = Settings(database_url=SecretStr(postgres.url), database_timeout=30)
    archive = PostgresArchive(connector(settings))
    archive.migrate()
    archive.close()
    return settings


@pytest.fixture(scope="session")
def sql(migrated: Settings) -> Iterator[Connection]:
    """A connection of the test's own."""
    connection = connector(migrated)()
    yield connection
    connection.close()


@pytest.fixture
def memory_archive() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture
def postgres_archive(migrated: Settings, sql: Connection) -> Iterator[PostgresArchive]:
    sql.run("truncate conversations, jobs, settled, turns, bots, core_ai")
    archive = PostgresArchive(connector(migrated))
    yield archive
    archive.close()


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest) -> Archive:
    found: Archive = request.getfixturevalue(f"{request.param}_archive")
    return found
