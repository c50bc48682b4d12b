"""The one place where adapters are built from settings."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from message_handler.bot_config import BotConfigService
from message_handler.drivers import aws
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.intake.intake import Intake
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive
from message_handler.ports.audit import Audit
from message_handler.ports.configuration import ConfigurationStore
from message_handler.ports.outbox import Outbox
from message_handler.ports.queue import Queue
from message_handler.ports.retention import Retention
from message_handler.ports.tier import Tier
from message_handler.queue.sqs import SqsQueue
from message_handler.queue.threads import ThreadQueue
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

if TYPE_CHECKING:
    from message_handler.configuration.admin import ConfigurationAdmin
    from message_handler.delivery.deliveries import Deliveries
    from message_handler.domain.records import AnyRecord, Outcome
    from message_handler.drivers.egress import Egress
    from message_handler.drivers.postgres import Database
    from message_handler.drivers.secrets import Secrets
    from message_handler.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What a process needs that takes messages in and shows what becomes of them, built once and kept for its life."""

    settings: Settings
    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    intake: Intake

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.queue.close()
        self.tiers.close()
        self.archive.close()

    def disconnect(self) -> None:
        """Close the connections; each is made anew when it is needed."""
        self.tiers.close()  # Postgres is one of them
        if not self.queue.in_process:
            self.queue.close()


@dataclass(frozen=True, slots=True)
class Parts(IntakeParts):
    """Everything of one process."""

    worker: Worker
    configurations: ConfigurationStore
    egress: Egress
    secrets: Secrets
    audit: Audit
    #: The queue of jobs, for what has to be said in time or not at all. None: it is this process's own.
    single_try_queue: SqsQueue | None = None
    #: None: there is no Postgres to deliver from.
    deliveries: Deliveries | None = None
    #: None: there is no Postgres that keeps anything.
    retention: Retention | None = None

    @property
    def configuration(self) -> ConfigurationAdmin:
        """What operators write. Only they wait for its import."""
        from message_handler.configuration.admin import ConfigurationAdmin

        return ConfigurationAdmin(self.configurations, self.bots.refresh, self.egress, self.secrets)


def build(settings: Settings | None = None, *, deployed: bool = False, meter: Meter | None = None) -> Parts:
    """The parts that `settings` (default: the environment) ask for. Connects to nothing yet.

    `deployed`: Redis and Postgres are expected, and working without them is degraded; else what isn't configured
    isn't missed. What is measured goes to `meter`. Raises SettingsError.
    """
    return _Building(settings, deployed=deployed, meter=meter).whole()


def build_intake(
    settings: Settings | None = None, *, deployed: bool = False, meter: Meter | None = None
) -> IntakeParts:
    """As `build`, without importing what a worker and operators need: a start takes a third less."""
    return _Building(settings, deployed=deployed, meter=meter).intake


# Each adapter's client library is imported only where it is used: a cold start is paid by patients.


class _Building:
    """The parts in the making."""

    def __init__(self, settings: Settings | None, *, deployed: bool, meter: Meter | None) -> None:
        settings = settings or Settings.from_environment()
        self.meter = meter or Meter()
        self.database = _database(settings)
        archive = _archive(settings, self.database, deployed=deployed)
        tiers = _tiers(settings, self.database, deployed=deployed)
        bots = BotConfigService(tiers, archive, settings)
        queue = _sqs(settings) if settings.job_queue_url else ThreadQueue(self._work)
        intake = Intake(tiers, archive, queue, bots, settings, meter=self.meter)
        self.intake = IntakeParts(settings, tiers, archive, queue, bots, intake)
        self._mutex = threading.Lock()
        self._whole: Parts | None = None

    def whole(self) -> Parts:
        with self._mutex:  # the threads of a process without SQS may be the first to need a worker
            if self._whole is None:
                self._whole = self._finished()
        return self._whole

    def _work(self, record: AnyRecord, receive_count: int) -> Outcome:
        run_seconds = self.intake.settings.run_seconds
        return self.whole().worker.process(record, time.time() + run_seconds, receive_count)

    def _finished(self) -> Parts:
        from message_handler.ai.providers import Tools, ai_of
        from message_handler.delivery.deliveries import Deliveries
        from message_handler.worker.worker import Worker

        shared, stores = self.intake, _stores(self.database, self.intake.archive)
        settings, queue = shared.settings, shared.queue
        egress, secrets = _egress(settings), _secrets(settings)
        tools = Tools(settings, egress, secrets)
        single_try = _single_try_client() if settings.job_queue_url else None
        single_try_queue = (
            SqsQueue(single_try, settings.job_queue_url) if single_try and settings.job_queue_url else None
        )
        deliveries = None
        if stores.outbox:
            own = (
                SqsQueue(single_try, settings.delivery_queue_url)
                if single_try and settings.delivery_queue_url
                else None
            )
            deliveries = Deliveries(stores.outbox, own or queue, egress, secrets, meter=self.meter)
        worker = Worker(
            shared.tiers,
            shared.archive,
            queue,
            shared.bots,
            lambda core_ai: ai_of(core_ai, tools),
            settings,
            meter=self.meter,
            deliveries=deliveries,
        )
        return Parts(
            settings,
            shared.tiers,
            shared.archive,
            queue,
            shared.bots,
            shared.intake,
            worker,
            stores.configuration,
            egress,
            secrets,
            stores.audit,
            single_try_queue,
            deliveries,
            stores.retention,
        )


def _database(settings: Settings) -> Database | None:
    if not settings.database_url:
        return None
    from message_handler.drivers.postgres import Database
    from message_handler.drivers.postgres_connection import connector

    return Database(connector(settings), CircuitBreaker("Postgres", settings.store_retry_after))


def _archive(settings: Settings, database: Database | None, *, deployed: bool) -> Archive:
    if database:
        from message_handler.archive.postgres import PostgresArchive

        # Elsewhere threads may be interrupted, as by Ctrl-C: whoever goes for others must not be.
        return PostgresArchive(database, together=deployed)
    if deployed or settings.redis_url or settings.job_queue_url:
        from message_handler.archive.none import NoArchive

        return NoArchive()
    from message_handler.archive.memory import MemoryArchive

    return MemoryArchive()


def _tiers(settings: Settings, database: Database | None, *, deployed: bool) -> Failover:
    """The tiers that there may be, best first."""
    from message_handler.tiers.memory import MemoryTier

    tiers: list[Tier] = []
    if settings.redis_url:
        from message_handler.drivers.redis import connect
        from message_handler.tiers.redis import RedisTier

        tiers.append(RedisTier(connect(settings), settings, together=deployed))
    if database:
        from message_handler.tiers.postgres import PostgresTier

        tiers.append(PostgresTier(database, settings, together=deployed))
    # Whoever works in another process never finishes what waits in this one's memory.
    unclaimed_seconds = settings.heartbeat_stale if settings.job_queue_url else math.inf
    tiers.append(MemoryTier(settings, unclaimed_seconds=unclaimed_seconds))
    return Failover(*tiers, expected="redis" if deployed else None)


class _Stores(NamedTuple):
    """What else Postgres keeps."""

    configuration: ConfigurationStore
    audit: Audit
    outbox: Outbox | None = None
    retention: Retention | None = None


def _stores(database: Database | None, archive: Archive) -> _Stores:
    if database:
        from message_handler.archive.postgres_audit import PostgresAudit
        from message_handler.archive.postgres_configuration import PostgresConfiguration
        from message_handler.archive.postgres_outbox import PostgresOutbox
        from message_handler.archive.postgres_retention import PostgresRetention

        return _Stores(
            PostgresConfiguration(database),
            PostgresAudit(database),
            PostgresOutbox(database),
            PostgresRetention(database),
        )
    from message_handler.archive.memory import MemoryArchive
    from message_handler.archive.none import NoAudit, NoConfiguration

    return _Stores(NoConfiguration(), archive.audit if isinstance(archive, MemoryArchive) else NoAudit())


def _sqs(settings: Settings) -> SqsQueue:
    """The queue of jobs."""
    from botocore.config import Config

    # Deadlines nest: all tries together stay well below the API's 29 s.
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=20,
    )
    assert settings.job_queue_url
    return SqsQueue(aws.client("sqs", config=config), settings.job_queue_url, settings.dead_letter_queue_url)


def _single_try_client() -> Any:
    """For calls that are worth no second try.

    A record that only wakes a delivery: the worker has answered, and the sweep finds what it left. And the hiding of
    records: the next call comes before they are seen.
    """
    from botocore.config import Config

    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}, max_pool_connections=20)
    return aws.client("sqs", config=config)


def _egress(settings: Settings) -> Egress:
    from message_handler.drivers.egress import Egress

    hosts = [host.strip() for host in settings.egress_allowed_hosts.split(",") if host.strip()]
    return Egress(hosts, allow_loopback=settings.egress_allow_loopback)


def _secrets(settings: Settings) -> Secrets:
    from message_handler.drivers.secrets import Secrets

    return Secrets(settings.secrets_prefix, literals=settings.allow_literal_secrets)
