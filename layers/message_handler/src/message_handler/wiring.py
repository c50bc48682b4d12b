"""The one place where adapters are built from settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from message_handler.ai import AI
from message_handler.ai.simulated import SimulatedAI
from message_handler.bot_config import BotConfigService
from message_handler.errors import AIError, SettingsError
from message_handler.intake import Intake
from message_handler.models import Outcome, Record
from message_handler.processing import Worker
from message_handler.queues import Queue, SqsQueue, ThreadQueue
from message_handler.settings import Settings
from message_handler.stores.port import Archive, Tier


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of one process, built once and kept for its life."""

    settings: Settings
    tier: Tier
    archive: Archive
    queue: Queue
    bots: BotConfigService
    intake: Intake
    worker: Worker

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.queue.close()
        self.tier.close()
        self.archive.close()


def build(settings: Settings | None = None) -> Parts:
    """The parts that `settings` (default: the environment) ask for. Connects to nothing yet.

    Raises SettingsError.
    """
    settings = settings or Settings.from_environment()
    if settings.redis_url and not settings.database_url:
        raise SettingsError("bad settings: REDIS_URL needs DATABASE_URL too: replies are arbitrated there")
    tier, archive = _tier(settings), _archive(settings)
    bots = BotConfigService(tier, archive, settings)
    worker: Worker

    def work(record: Record, receive_count: int) -> Outcome:
        return worker.process(record, time.time() + settings.run_seconds, receive_count)

    queue = _sqs(settings.job_queue_url) if settings.job_queue_url else ThreadQueue(work)
    worker = Worker(tier, archive, queue, bots, lambda core_ai: _ai(core_ai, settings), settings)
    return Parts(settings, tier, archive, queue, bots, Intake(tier, queue, bots, settings), worker)


# Each adapter's client library is imported only where it is used: a cold start is paid by patients.


def _tier(settings: Settings) -> Tier:
    if settings.redis_url:
        from message_handler.stores.redis import RedisTier, connect

        return RedisTier(connect(settings), settings)
    from message_handler.stores.memory import MemoryTier

    return MemoryTier(settings)


def _archive(settings: Settings) -> Archive:
    if settings.database_url:
        from message_handler.stores.postgres import PostgresArchive, connector

        return PostgresArchive(connector(settings))
    from message_handler.stores.memory import MemoryArchive

    return MemoryArchive()


def _sqs(url: str) -> SqsQueue:
    import boto3
    from botocore.config import Config

    # Deadlines nest: all tries together stay well below the API's 29 s.
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=20,
    )
    return SqsQueue(boto3.client("sqs", config=config), url)


def _ai(core_ai: dict[str, Any], settings: Settings) -> AI:
    if not core_ai["api_endpoint"].startswith("simulated://"):
        raise AIError("ai_unsupported", "This AI endpoint is not supported by this version.")
    return SimulatedAI(settings.simulated_ai_delay_ms)
