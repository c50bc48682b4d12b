"""The one place where adapters are built from settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from message_handler.ai import AI, Completion
from message_handler.ai.answering import Answering, Ask, Provider
from message_handler.ai.failures import Failure
from message_handler.ai.simulated import SimulatedAI
from message_handler.bot_config import BotConfigService
from message_handler.delivery import Deliveries
from message_handler.egress import Egress
from message_handler.intake import Intake
from message_handler.metrics import Meter
from message_handler.models import AnyRecord, Outcome
from message_handler.processing import Worker
from message_handler.queues import Queue, SqsQueue, ThreadQueue
from message_handler.secrets import Secrets
from message_handler.settings import Settings
from message_handler.stores.breaker import CircuitBreaker
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive, Audit, ConfigurationStore, Outbox, Retention, Tier

if TYPE_CHECKING:
    from message_handler.admin_configuration import ConfigurationAdmin


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
    configurations: ConfigurationStore
    egress: Egress
    secrets: Secrets
    audit: Audit
    #: None: there is no Postgres to deliver from.
    deliveries: Deliveries | None = None
    #: None: there is no Postgres that keeps anything.
    retention: Retention | None = None

    @property
    def configuration(self) -> ConfigurationAdmin:
        """What operators write. Only they wait for its import."""
        from message_handler.admin_configuration import ConfigurationAdmin

        return ConfigurationAdmin(self.configurations, self.bots, self.egress, self.secrets)

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
    tiers, archive, configurations, audit, outbox, retention = _stores(settings, deployed=deployed)
    bots = BotConfigService(tiers, archive, settings)
    worker: Worker

    def work(record: AnyRecord, receive_count: int) -> Outcome:
        return worker.process(record, time.time() + settings.run_seconds, receive_count)

    queue, delivery_queue = _sqs(settings) if settings.job_queue_url else (threads := ThreadQueue(work), threads)
    egress, secrets = _egress(settings), _secrets(settings)
    deliveries = Deliveries(outbox, delivery_queue, egress, secrets, meter=meter) if outbox else None
    worker = Worker(
        tiers,
        archive,
        queue,
        bots,
        lambda core_ai: _ai(core_ai, settings, egress, secrets),
        settings,
        meter=meter,
        deliveries=deliveries,
    )
    intake = Intake(tiers, archive, queue, bots, settings, meter=meter)
    return Parts(
        settings,
        tiers,
        archive,
        queue,
        bots,
        intake,
        worker,
        configurations,
        egress,
        secrets,
        audit,
        deliveries,
        retention,
    )


# Each adapter's client library is imported only where it is used: a cold start is paid by patients.


class _Stores(NamedTuple):
    """The tiers that there may be, best first, the archive, and what else Postgres keeps."""

    tiers: Failover
    archive: Archive
    configuration: ConfigurationStore
    audit: Audit
    outbox: Outbox | None
    retention: Retention | None


def _stores(settings: Settings, *, deployed: bool) -> _Stores:
    from message_handler.stores.memory import MemoryTier
    from message_handler.stores.no_archive import NoArchive, NoAudit, NoConfiguration

    tiers: list[Tier] = []
    archive: Archive
    configuration: ConfigurationStore = NoConfiguration()
    audit: Audit = NoAudit()
    outbox: Outbox | None = None
    retention: Retention | None = None
    if settings.redis_url:
        from message_handler.stores.redis import RedisTier
        from message_handler.stores.redis_client import connect

        tiers.append(RedisTier(connect(settings), settings))
    if settings.database_url:
        from message_handler.stores.database import Database, connector
        from message_handler.stores.postgres import PostgresTier
        from message_handler.stores.postgres_archive import PostgresArchive
        from message_handler.stores.postgres_audit import PostgresAudit
        from message_handler.stores.postgres_configuration import PostgresConfiguration
        from message_handler.stores.postgres_outbox import PostgresOutbox
        from message_handler.stores.postgres_retention import PostgresRetention

        database = Database(connector(settings), CircuitBreaker("Postgres", settings.store_retry_after))
        tiers.append(PostgresTier(database, settings))
        archive, configuration, audit, outbox = (
            PostgresArchive(database),
            PostgresConfiguration(database),
            PostgresAudit(database),
            PostgresOutbox(database),
        )
        retention = PostgresRetention(database)
    elif deployed or settings.redis_url or settings.job_queue_url:
        archive = NoArchive()
    else:
        from message_handler.stores.memory_archive import MemoryArchive

        archive = MemoryArchive()
        audit = archive.audit
    # Whoever works in another process never finishes what waits in this one's memory.
    unheld_seconds = settings.heartbeat_stale if settings.job_queue_url else None
    tiers.append(MemoryTier(settings, unheld_seconds=unheld_seconds))
    failover = Failover(*tiers, expected="redis" if deployed else None)
    return _Stores(failover, archive, configuration, audit, outbox, retention)


def _sqs(settings: Settings) -> tuple[SqsQueue, SqsQueue]:
    """The queue of jobs, and that of deliveries: the same one where there is no other."""
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
    client = boto3.client("sqs", config=config)
    queue = SqsQueue(client, settings.job_queue_url, settings.dead_letter_queue_url)
    if not settings.delivery_queue_url:
        return queue, queue
    # A record that only wakes is worth no second try: the worker has answered, and the sweep finds what it left.
    hasty = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}, max_pool_connections=20)
    return queue, SqsQueue(boto3.client("sqs", config=hasty), settings.delivery_queue_url)


def _egress(settings: Settings) -> Egress:
    hosts = [host.strip() for host in settings.egress_allowed_hosts.split(",") if host.strip()]
    return Egress(hosts, allow_loopback=settings.egress_allow_loopback)


def _secrets(settings: Settings) -> Secrets:
    return Secrets(settings.secrets_prefix, literals=settings.allow_literal_secrets)


def _ai(core_ai: dict[str, Any], settings: Settings, egress: Egress, secrets: Secrets) -> AI:
    """The AI that a configuration asks for, with the one that answers where the first does not."""
    records = [core_ai, *filter(None, [core_ai.get("fallback")])]
    return Answering(
        [
            Provider(
                record["core_ai_id"],
                float(record["timeout_seconds"] or settings.ai_timeout),
                _ask(record, settings, egress, secrets),
            )
            for record in records
        ]
    )


def _ask(core_ai: dict[str, Any], settings: Settings, egress: Egress, secrets: Secrets) -> Ask:
    scheme = core_ai["api_endpoint"].partition("://")[0].lower()
    if scheme in ("https", "http"):  # whether it may be http, the egress knows
        from message_handler.ai.chat_completions import ChatCompletions

        return ChatCompletions(core_ai, egress, secrets).ask
    if scheme == "bedrock":
        from message_handler.ai.bedrock import Bedrock

        return Bedrock(core_ai).ask
    if scheme == "simulated":
        simulated = SimulatedAI(settings.simulated_ai_delay_ms)
        return lambda prompt, watch, _limits: simulated.complete(prompt, watch)

    def unsupported(*_: object) -> Completion:
        raise Failure("ai_unsupported")

    return unsupported
