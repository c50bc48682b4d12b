"""In this folder `new_world` and `world` make conversations with three tiers: Redis, then Postgres, then memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import redis
from pg8000.native import Connection

from message_handler.archive.memory import MemoryArchive
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.drivers.postgres import Database
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import Clock
from tests.contract.conftest import age_keys
from tests.contract.world import SettlingTier, World
from tests.servers import emptied

STORES = ("memory", "servers")


def named_tier(name: Any, settings: Settings, clock: Clock) -> MemoryTier:
    tier = MemoryTier(settings, clock)
    tier.name = name
    return tier


@pytest.fixture(params=STORES)
def new_world(request: pytest.FixtureRequest, settings: Settings) -> Callable[[], World]:
    """Makes a conversation with three tiers, in memory or on real servers."""

    def in_memory() -> World:
        clock, archive = Clock(), MemoryArchive()
        own = MemoryTier(settings, clock, unclaimed_seconds=settings.heartbeat_stale)

        def forget(world: World) -> None:
            world.store.target = named_tier("redis", settings, clock)

        key, tiers = ConversationKey("default", "patient"), (SettlingTier(archive, settings, clock), own)
        return World(named_tier("redis", settings, clock), archive, forget, clock, settings, key, others=tiers)

    if request.param == "memory":
        return in_memory
    client: redis.Redis = request.getfixturevalue("redis_client")
    archive: PostgresArchive = request.getfixturevalue("postgres_archive")
    database: Database = request.getfixturevalue("postgres_database")
    sql: Connection = request.getfixturevalue("sql")
    numbers = count()

    def on_servers() -> World:
        client.flushall()
        sql.execute_simple(emptied("line_states", "ended_jobs"))
        clock = Clock(followers=[lambda seconds: age_keys(client, seconds)])
        own = MemoryTier(settings, clock, unclaimed_seconds=settings.heartbeat_stale)
        tier, key = RedisTier(client, settings, clock), ConversationKey("default", f"patient-{next(numbers)}")
        lose = lambda _: client.flushall()  # noqa: E731
        return World(tier, archive, lose, clock, settings, key, others=(PostgresTier(database, settings, clock), own))

    return on_servers
