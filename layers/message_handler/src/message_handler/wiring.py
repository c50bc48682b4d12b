"""The one place where adapters are built from settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from message_handler.ai import AI
from message_handler.ai.simulated import SimulatedAI
from message_handler.bot_config import BotConfigService
from message_handler.errors import AIError
from message_handler.intake import Intake
from message_handler.metrics import Meter
from message_handler.models import ArchiveRecord, Outcome, Record
from message_handler.processing import Worker
from message_handler.queues import Queue, SqsQueue, ThreadQueue
from message_handler.settings import Settings
from message_handler.stores.breaker import CircuitBreaker
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive, Tier


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of one process, built once and kept for its life."""

    settings: Settings
    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    intake: Intake
    worker: Worker

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.queue.close()
        self.tiers.close()
        self.archive.close()


def build(settings: Settings | None = None, *, deployed: bool = False, meter: Meter | None = None) -> Parts:
    """The parts that `settings` (default: the environment) ask for. Connects to nothing yet.

    `deployed`: Redis and Postgres are expected, and working without them is degraded; else what isn't configured
    isn't missed. What is measured goes to `meter`. Raises SettingsError.
    """
    settings = settings or Settings.from_environment()
    meter = meter or Meter()
    tiers, archive = _stores(settings, deployed=deployed)
    bots = BotConfigService(tiers, archive, settings)
    worker: Worker

    def work(record: Record | ArchiveRecord, receive_count: int) -> Outcome:
        return worker.process(record, time.time() + settings.run_seconds, receive_count)

    queue = _sqs(settings) if settings.job_queue_url else ThreadQueue(work)
    worker = Worker(tiers, archive, queue, bots, lambda core_ai: _ai(core_ai, settings), settings, meter=meter)
    intake = Intake(tiers, queue, bots, settings, meter=meter, archive=archive)
    return Parts(settings, tiers, archive, queue, bots, intake, worker)


# Each adapter's client library is imported only where it is used: a cold start is paid by patients.


def _stores(settings: Settings, *, deployed: bool) -> tuple[Failover, Archive]:
    """The tiers that there may be, best first, and the archive."""
    from message_handler.stores.memory import MemoryTier

    tiers: list[Tier] = []
    archive: Archive
    if settings.redis_url:
        from message_handler.stores.redis import RedisTier
        from message_handler.stores.redis_client import connect

        tiers.append(RedisTier(connect(settings), settings))
    if settings.database_url:
        from message_handler.stores.database import Database, connector
        from message_handler.stores.postgres import PostgresTier
        from message_handler.stores.postgres_archive import PostgresArchive

        database = Database(connector(settings), CircuitBreaker("Postgres", settings.store_retry_after))
        tiers.append(PostgresTier(database, settings))
        archive = PostgresArchive(database)
    elif deployed or settings.redis_url or settings.job_queue_url:
        from message_handler.stores.no_archive import NoArchive

        archive = NoArchive()
    else:
        from message_handler.stores.memory_archive import MemoryArchive

        archive = MemoryArchive()
    # Whoever works in another process never finishes what waits in this one's memory.
    unheld_seconds = settings.heartbeat_stale if settings.job_queue_url else None
    tiers.append(MemoryTier(settings, unheld_seconds=unheld_seconds))
    return Failover(*tiers, expected="redis" if deployed else None), archive


def _sqs(settings: Settings) -> SqsQueue:
    import boto3
    from botocore.config import Config

    # Deadlines nest: all tries together stay well below the API's 29 s.
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=20,
    )
    assert settings.job_queue_url
    return SqsQueue(boto3.client("sqs", config=config), settings.job_queue_url, settings.dead_letter_queue_url)


def _ai(core_ai: dict[str, Any], settings: Settings) -> AI:
    if not core_ai["api_endpoint"].startswith("simulated://"):
        raise AIError("ai_unsupported", "This AI endpoint is not supported by this version.")
    return SimulatedAI(settings.simulated_ai_delay_ms)
