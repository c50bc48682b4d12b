"""The one place where adapters are built from settings."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import SettingsError
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
    from redis import Redis

    from message_handler.configuration.admin import ConfigurationAdmin
    from message_handler.configuration.rules_admin import RulesAdmin
    from message_handler.delivery.deliveries import Deliveries
    from message_handler.domain.records import AnyRecord, Outcome
    from message_handler.drivers.egress import Egress
    from message_handler.drivers.postgres import Database
    from message_handler.drivers.secrets import Secrets
    from message_handler.ports.raised import RaisedStore
    from message_handler.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What a process needs to accept messages and to show their jobs. It is built once a process."""

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
        """Close the connections. Each is opened again when it is needed."""
        self.tiers.close()  # this closes Postgres too
        if not self.queue.in_process:
            self.queue.close()


@dataclass(frozen=True, slots=True)
class Parts(IntakeParts):
    """All parts of one process."""

    worker: Worker
    configuration_store: ConfigurationStore
    egress: Egress
    secrets: Secrets
    audit: Audit
    raised: RaisedStore
    #: The queue of jobs, for calls that are worth no second try. None: the queue is in this process.
    single_try_queue: SqsQueue | None = None
    #: The queue of deliveries, for such calls too. None: deliveries are woken by the queue of jobs.
    delivery_queue: SqsQueue | None = None
    #: None: without Postgres there is no outbox to deliver from.
    deliveries: Deliveries | None = None
    #: None: without Postgres nothing is kept for long.
    retention: Retention | None = None

    @property
    def configuration(self) -> ConfigurationAdmin:
        """How operators change the configuration. It is imported here because only they need it."""
        from message_handler.configuration.admin import ConfigurationAdmin

        return ConfigurationAdmin(
            self.configuration_store, self.bots.refresh, self.egress, self.secrets, self.settings.require_safety
        )

    @property
    def safety_rules(self) -> RulesAdmin:
        """How operators change the safety rules. It is imported here because only they need it."""
        from message_handler.configuration.rules_admin import RulesAdmin

        return RulesAdmin(self.configuration_store, self.bots.refresh)


def build(settings: Settings | None = None, *, deployed: bool = False, meter: Meter | None = None) -> Parts:
    """The parts for `settings` (default: the environment). They do not connect yet. Raises SettingsError.

    `deployed`: Redis and Postgres are expected, and a process without one of them is degraded. Otherwise Redis is never
    missed, and Postgres only if Redis or SQS is configured. `meter` collects the metrics.
    """
    settings = settings or Settings.from_environment()
    try:
        return _Builder(settings, deployed=deployed, meter=meter).parts()
    except SettingsError:
        raise _all_that_is_wrong(settings) from None


def build_intake(
    settings: Settings | None = None, *, deployed: bool = False, meter: Meter | None = None
) -> IntakeParts:
    """As `build`, without the imports for workers and operators, so that a start takes a third less time."""
    settings = settings or Settings.from_environment()
    try:
        return _Builder(settings, deployed=deployed, meter=meter).intake
    except SettingsError:
        raise _all_that_is_wrong(settings) from None


# Functions below import adapters and client libraries when they need them: a patient waits for each cold start.


class _Builder:
    """Builds the parts: those of intake at once, and all others when they are first needed."""

    def __init__(self, settings: Settings, *, deployed: bool, meter: Meter | None) -> None:
        self.meter = meter or Meter()
        self.database = _database(settings)
        archive = _archive(settings, self.database, deployed=deployed)
        tiers = _tiers(settings, self.database, deployed=deployed)
        bots = BotConfigService(tiers, archive, settings)
        client = _sqs_client() if settings.job_queue_url else None
        queue = _queue_at(settings.job_queue_url, client, settings.dead_letter_queue_url) or ThreadQueue(self._work)
        delivery_queue = _queue_at(settings.delivery_queue_url, client)
        intake = Intake(tiers, archive, queue, bots, settings, meter=self.meter, delivery_queue=delivery_queue)
        self.intake = IntakeParts(settings, tiers, archive, queue, bots, intake)
        self._mutex = threading.Lock()
        self._parts: Parts | None = None

    def parts(self) -> Parts:
        with self._mutex:  # without SQS, several threads of this process may need the worker at the same moment
            if self._parts is None:
                self._parts = self._build()
        return self._parts

    def _work(self, record: AnyRecord, receive_count: int) -> Outcome:
        run_seconds = self.intake.settings.run_seconds
        return self.parts().worker.process(record, time.time() + run_seconds, receive_count)

    def _build(self) -> Parts:
        from message_handler.ai.providers import Tools, ai_of
        from message_handler.delivery.deliveries import Deliveries
        from message_handler.worker.worker import Worker

        shared, stores = self.intake, _stores(self.database, self.intake.archive)
        settings, queue = shared.settings, shared.queue
        egress, secrets = _egress(settings), _secrets(settings)
        tools = Tools(settings, egress, secrets)
        single_try = _single_try_client() if settings.job_queue_url else None
        single_try_queue = _queue_at(settings.job_queue_url, single_try)
        delivery_queue = _queue_at(settings.delivery_queue_url, single_try)
        deliveries = None
        if stores.outbox:
            deliveries = Deliveries(stores.outbox, delivery_queue or queue, egress, secrets, meter=self.meter)
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
            stores.raised,
            single_try_queue,
            delivery_queue,
            deliveries,
            stores.retention,
        )


def _all_that_is_wrong(settings: Settings) -> SettingsError:
    """One error for all settings that a client refuses. (Building the parts ends at the first of them.)"""
    problems = []
    for build_client in (_database, _redis, _egress):
        try:
            build_client(settings)
        except SettingsError as error:
            problems.append(str(error))
    return SettingsError.of(problems)


def _database(settings: Settings) -> Database | None:
    if not settings.database_url:
        return None
    from message_handler.drivers.postgres import Database
    from message_handler.drivers.postgres_connection import connector

    breaker = CircuitBreaker("Postgres", settings.store_retry_after)
    return Database(connector(settings), breaker, timeout=settings.database_timeout)


def _archive(settings: Settings, database: Database | None, *, deployed: bool) -> Archive:
    if database:
        from message_handler.archive.postgres import PostgresArchive

        # Only deployed: elsewhere Ctrl-C may interrupt a thread, and it must not be one that works for others too.
        return PostgresArchive(database, together=deployed)
    if deployed or settings.redis_url or settings.job_queue_url:
        from message_handler.archive.none import NoArchive

        return NoArchive()
    from message_handler.archive.memory import MemoryArchive

    return MemoryArchive()


def _tiers(settings: Settings, database: Database | None, *, deployed: bool) -> Failover:
    """The configured tiers, the best first. Memory is always the last."""
    from message_handler.tiers.memory import MemoryTier

    tiers: list[Tier] = []
    if client := _redis(settings):
        from message_handler.tiers.redis import RedisTier

        tiers.append(RedisTier(client, settings, together=deployed))
    if database:
        from message_handler.tiers.postgres import PostgresTier

        tiers.append(PostgresTier(database, settings, together=deployed))
    # A worker in another process never finishes a job that waits in this process's memory.
    unclaimed_seconds = settings.heartbeat_stale if settings.job_queue_url else math.inf
    tiers.append(MemoryTier(settings, unclaimed_seconds=unclaimed_seconds))
    return Failover(*tiers, expected="redis" if deployed else None)


def _redis(settings: Settings) -> Redis | None:
    if not settings.redis_url:
        return None
    from message_handler.drivers.redis import connect

    return connect(settings)


class _Stores(NamedTuple):
    """The other stores in Postgres, and what stands for them without it."""

    configuration: ConfigurationStore
    audit: Audit
    raised: RaisedStore
    outbox: Outbox | None = None
    retention: Retention | None = None


def _stores(database: Database | None, archive: Archive) -> _Stores:
    if database:
        from message_handler.archive.postgres_audit import PostgresAudit
        from message_handler.archive.postgres_configuration import PostgresConfiguration
        from message_handler.archive.postgres_outbox import PostgresOutbox
        from message_handler.archive.postgres_raised import PostgresRaised
        from message_handler.archive.postgres_retention import PostgresRetention

        return _Stores(
            PostgresConfiguration(database),
            PostgresAudit(database),
            PostgresRaised(database),
            PostgresOutbox(database),
            PostgresRetention(database),
        )
    from message_handler.archive.memory import MemoryArchive
    from message_handler.archive.none import NoAudit, NoConfiguration, NoRaised

    if isinstance(archive, MemoryArchive):
        return _Stores(NoConfiguration(), archive.audit, archive.raised)
    return _Stores(NoConfiguration(), NoAudit(), NoRaised())


def _sqs_client() -> Any:
    """A client that sends what patients wait for."""
    from botocore.config import Config

    # Deadlines nest: all tries together take much less than the API's 29 s.
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=20,
    )
    return aws.client("sqs", config=config)


def _single_try_client() -> Any:
    """A client for calls that are worth no second try.

    One sends a record that only wakes a delivery. The worker has answered already, and the sweep replaces a lost
    record. The other hides records: its next call comes before they are seen.
    """
    from botocore.config import Config

    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}, max_pool_connections=20)
    return aws.client("sqs", config=config)


def _queue_at(url: str | None, client: Any | None, dead_letters: str | None = None) -> SqsQueue | None:
    return SqsQueue(client, url, dead_letters) if client and url else None


def _egress(settings: Settings) -> Egress:
    from message_handler.drivers.egress import Egress

    hosts = [host.strip() for host in settings.egress_allowed_hosts.split(",") if host.strip()]
    return Egress(hosts, allow_loopback=settings.egress_allow_loopback)


def _secrets(settings: Settings) -> Secrets:
    from message_handler.drivers.secrets import Secrets

    return Secrets(
        settings.secrets_prefix, arn_prefix=settings.secrets_arn_prefix, literals=settings.allow_literal_secrets
    )
