"""Every store under one name: a test that asks for `tier` or `chat` runs once for each of `TIERS`, and a test that asks
for `archive` runs once for each of `ARCHIVES`.

To add a store, write a fixture named `<store>_tier` and add its name to `TIERS`. The tier must read the time from
`clock`, and start empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import Any

import pytest
import redis
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server
from message_handler.archive.memory import MemoryArchive
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_raised import PostgresRaised
from message_handler.domain import identifiers
from message_handler.domain.conversations import ConversationKey
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.redis import connect
from message_handler.drivers.redis_cluster import ClusterClient
from message_handler.ports.archive import Archive
from message_handler.ports.raised import RaisedStore
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.sql import migrations
from message_handler.tiers.memory import MemoryTier
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Chat, Clock
from tests.contract.world import World
from tests.servers import ALL_TAKEN, Cluster, SecuredRedis, emptied

TIERS = ("memory", "redis", "redis_cluster", "redis_tls", "postgres", "postgres15_tls")
#: All migrations and functions, in the order in which they are applied.
MIGRATIONS = [
    "0001_conversations.sql",
    "0002_lines.sql",
    "0003_answers.sql",
    "0004_outbox.sql",
    "0005_handoff.sql",
    "0006_configuration.sql",
    "0007_suspects.sql",
    "0008_administration.sql",
    "0009_retention.sql",
    "0010_functions.sql",
    "0011_statistics.sql",
    "0012_line_states.sql",
    "0013_job_documents.sql",
    "0014_edits.sql",
    "0015_message_events.sql",
    "0016_safety.sql",
    "0017_safety_rules.sql",
    "0018_findings.sql",
    *(function.name for function in migrations.functions()),
]
ARCHIVES = ("memory", "postgres", "postgres15_tls")
SHARDS = 64


def nodes_of(client: redis.Redis) -> Collection[redis.Redis]:
    """A client for each server that this client uses."""
    if not isinstance(client, ClusterClient):
        return (client,)
    client.get("any key: it is now known who has which slots")
    return [redis.Redis(connection_pool=pool) for pool in client.pools]


def age_keys(client: redis.Redis, seconds: float) -> None:
    """Shorten each key's remaining life, as if the time had passed on the servers too."""
    for node in nodes_of(client):
        keys = list(node.scan_iter(count=1000))
        pipeline = node.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        for key, left in zip(keys, pipeline.execute(), strict=True):
            if left > 0:
                pipeline.pexpire(key, max(0, left - int(seconds * 1000)))
        pipeline.execute()


def empty(tier: Tier) -> None:
    """Delete all that the tier's store has."""
    if isinstance(tier, RedisTier):
        for node in nodes_of(tier.store.client):
            node.flushall()
    elif isinstance(tier, PostgresTier):
        statement = emptied("line_states", "ended_jobs", "settled")
        tier.store.database.run(lambda connection: connection.execute_simple(statement))


def lenient_breaker(store: str = "Redis") -> CircuitBreaker:
    """A breaker that lets every call through, so that tests see at once that a server is back."""
    return CircuitBreaker(store, retry_after=0)


def database_of(settings: Settings) -> Database:
    return Database(connector(settings), lenient_breaker("Postgres"))


@pytest.fixture(autouse=True, scope="module")
def few_shards() -> Iterator[None]:
    """Divide conversations among 64 shards. A sweep of all 1,024 takes Redis' client longer than most tests.

    The tests of whole processes have them all. A cluster's three nodes have some of the 64 each.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identifiers, "SHARDS", SHARDS)
        patch.setattr("message_handler.tiers.redis.SHARDS", SHARDS)
        identifiers.shard_of.cache_clear()
        yield
    identifiers.shard_of.cache_clear()


@pytest.fixture
def settings() -> Settings:
    return Settings(debounce_ms=0)  # a test that needs a debounce sets it


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _redis_client(url: str, **settings: Any) -> Iterator[redis.Redis]:
    # The timeout is long, so that a busy machine does not look like a dead server.
    client = connect(Settings(redis_url=SecretStr(url), redis_timeout_ms=10_000, **settings))
    yield client
    client.close()


# All tests share one client of each server, because connecting costs more than a test. Each test empties the server.


@pytest.fixture(scope="session")
def redis_client(valkey: Server) -> Iterator[redis.Redis]:
    yield from _redis_client(valkey.url)


@pytest.fixture(scope="session")
def redis_cluster_client(cluster: Cluster) -> Iterator[redis.Redis]:
    yield from _redis_client(cluster.url, redis_cluster=True)


@pytest.fixture(scope="session")
def redis_tls_client(secured_redis: SecuredRedis) -> Iterator[redis.Redis]:
    yield from _redis_client(secured_redis.url, redis_password=SecretStr(secured_redis.password))


@pytest.fixture
def memory_tier(settings: Settings, clock: Clock) -> MemoryTier:
    return MemoryTier(settings, clock)


def _redis_tier(client: redis.Redis, settings: Settings, clock: Clock) -> RedisTier:
    tier = RedisTier(client, settings, clock, lenient_breaker())
    empty(tier)
    clock.followers.append(lambda seconds: age_keys(client, seconds))
    return tier


@pytest.fixture
def redis_tier(redis_client: redis.Redis, settings: Settings, clock: Clock) -> RedisTier:
    return _redis_tier(redis_client, settings, clock)


@pytest.fixture
def redis_cluster_tier(redis_cluster_client: redis.Redis, settings: Settings, clock: Clock) -> RedisTier:
    return _redis_tier(redis_cluster_client, settings, clock)


@pytest.fixture
def redis_tls_tier(redis_tls_client: redis.Redis, settings: Settings, clock: Clock) -> RedisTier:
    return _redis_tier(redis_tls_client, settings, clock)


def _postgres_tier(database: Database, settings: Settings, clock: Clock) -> PostgresTier:
    tier = PostgresTier(database, settings, clock)
    empty(tier)
    return tier


@pytest.fixture
def postgres_tier(postgres_database: Database, settings: Settings, clock: Clock) -> PostgresTier:
    return _postgres_tier(postgres_database, settings, clock)


@pytest.fixture
def postgres15_tls_tier(postgres_15_database: Database, settings: Settings, clock: Clock) -> PostgresTier:
    return _postgres_tier(postgres_15_database, settings, clock)


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> Tier:
    found: Tier = request.getfixturevalue(f"{request.param}_tier")
    return found


@pytest.fixture
def chat(tier: Tier, clock: Clock) -> Chat:
    return Chat(tier, clock)


def _settings_of(server: Server) -> Settings:
    return Settings(database_url=SecretStr(server.url), database_timeout=30)


def _migrated(settings: Settings) -> Iterator[Database]:
    database = database_of(settings)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def postgres_database(postgres: Server) -> Iterator[Database]:
    """A database with the service's schema."""
    yield from _migrated(_settings_of(postgres))


@pytest.fixture(scope="session")
def postgres_15_database(postgres_15: Server) -> Iterator[Database]:
    yield from _migrated(_settings_of(postgres_15))


@pytest.fixture(scope="session")
def migrated(postgres: Server, postgres_database: Database) -> Settings:
    """The settings for a database with the service's schema."""
    return _settings_of(postgres)


@pytest.fixture(scope="session")
def sql(migrated: Settings) -> Iterator[Connection]:
    """A connection for the test's own statements."""
    connection = connector(migrated)()
    yield connection
    connection.close()


@pytest.fixture
def memory_archive() -> MemoryArchive:
    return MemoryArchive()


def _postgres_archive(database: Database) -> PostgresArchive:
    tables = ("conversations", "outbox", "jobs", "settled", "turns", "held", "erasures", "bots", "core_ai")
    database.run(lambda connection: connection.execute_simple(f"{emptied(*tables)}; {ALL_TAKEN}"))
    return PostgresArchive(database)


@pytest.fixture
def postgres_archive(postgres_database: Database) -> PostgresArchive:
    return _postgres_archive(postgres_database)


@pytest.fixture
def postgres15_tls_archive(postgres_15_database: Database) -> PostgresArchive:
    return _postgres_archive(postgres_15_database)


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest) -> Archive:
    found: Archive = request.getfixturevalue(f"{request.param}_archive")
    return found


@pytest.fixture
def raised_store(archive: Archive) -> RaisedStore:
    """Who cares for the raised conversations of the archive. Its audit is empty."""
    if isinstance(archive, MemoryArchive):
        return archive.raised
    assert isinstance(archive, PostgresArchive)
    database = archive._database
    database.run(lambda connection: connection.run("truncate audit"))
    return PostgresRaised(database)


#: Pairs of a tier and an archive.
STORES = ("memory", "redis and postgres", "postgres alone")


@pytest.fixture(params=STORES)
def new_world(request: pytest.FixtureRequest, settings: Settings) -> Callable[[], World]:
    """Makes an untouched conversation over one pair of stores."""
    numbers = count()

    def in_memory() -> World:
        clock = Clock()

        def lose(world: World) -> None:
            world.store.target = MemoryTier(settings, clock)

        key = ConversationKey("default", "patient")
        return World(MemoryTier(settings, clock), MemoryArchive(), lose, clock, settings, key)

    if request.param == "memory":
        return in_memory
    archive: PostgresArchive = request.getfixturevalue("postgres_archive")
    sql: Connection = request.getfixturevalue("sql")
    if request.param == "postgres alone":
        database: Database = request.getfixturevalue("postgres_database")
        request.getfixturevalue("postgres_tier")  # emptied

        def lose_all(_: World | None = None) -> None:
            sql.execute_simple(emptied("line_states", "ended_jobs"))

        def in_postgres() -> World:
            lose_all()
            clock = Clock()
            key = ConversationKey("default", f"patient-{next(numbers)}")
            return World(PostgresTier(database, settings, clock), archive, lose_all, clock, settings, key)

        return in_postgres
    client: redis.Redis = request.getfixturevalue("redis_client")

    def lose(_: World) -> None:
        client.flushall()

    def on_servers() -> World:
        client.flushall()
        sql.execute_simple(emptied("line_states", "ended_jobs"))
        clock = Clock(followers=[lambda seconds: age_keys(client, seconds)])
        key = ConversationKey("default", f"patient-{next(numbers)}")
        return World(RedisTier(client, settings, clock), archive, lose, clock, settings, key)

    return on_servers


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()
