"""The service in one process, without tokens, and its output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from local.stores import Server
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_audit import PostgresAudit
from message_handler.archive.postgres_configuration import PostgresConfiguration
from message_handler.archive.postgres_raised import PostgresRaised
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.bot_config import BotConfigService
from message_handler.drivers.egress import Egress
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import Meter
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from tests.servers import ALL_TAKEN, emptied
from tests.unit.service import FUNCTIONS, HeldQueue, Output, ScriptedAI, Service, load_function, parts_of, quote


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Output]:
    """The test's output and log. At its end they may not contain a patient's words."""
    caplog.set_level(logging.DEBUG, "message_handler")
    output = Output(capsys, caplog)
    yield output
    output.assert_private()


@pytest.fixture
def service(output: Output, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The four functions over parts in memory. The queue keeps records until the test delivers them."""
    queue, ai = HeldQueue(), ScriptedAI(quote)
    meter, settings = Meter(), Settings(auth_required=False, debounce_ms=0)
    service = Service(output, parts_of(settings, queue, ai, meter=meter), queue, ai, meter)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "MessageHandler")
    layer = logging.getLogger("message_handler")
    before = (layer.handlers, layer.level, layer.propagate)
    for name in FUNCTIONS:
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", name)
        service.functions[name] = load_function(name)
        monkeypatch.setattr(service.functions[name], "parts", lambda: service.parts)
        monkeypatch.setattr(service.functions[name], "meter", service.meter)
    yield service
    layer.handlers, layer.propagate = before[0], before[2]
    layer.setLevel(before[1])


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """A Postgres with today's schema."""
    database = Database(connector(Settings(database_url=SecretStr(postgres.url), database_timeout=30)))
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def configured(service: Service, database: Database) -> Iterator[Service]:
    """The four functions over a Postgres without configuration."""
    tables = ("conversations", "outbox", "jobs", "settled", "turns", "held", "bots", "core_ai", "audit", "erasures")
    tables += ("safety_rules",)
    clean = f"{emptied(*tables)}; {ALL_TAKEN}; update platforms set meta_data = '{{}}'"
    database.run(lambda connection: connection.execute_simple(clean))
    parts, archive = service.parts, PostgresArchive(database)
    bots = BotConfigService(parts.tiers, archive, parts.settings)
    egress = Egress(["*.ai.example", "*.clinic.example"])
    service.use(
        archive=archive,
        bots=bots,
        intake=replace(parts.intake, bots=bots),
        worker=replace(parts.worker, archive=archive, bots=bots),
        configuration_store=PostgresConfiguration(database),
        egress=egress,
        secrets=Secrets(literals=True),
        audit=PostgresAudit(database),
        raised=PostgresRaised(database),
        retention=PostgresRetention(database),
    )
    yield service
    database.run(
        lambda connection: connection.execute_simple(
            clean + ", name = 'Default platform', description = '', base_url = null"
        )
    )


@pytest.fixture
def changed() -> list[dict[str, Any]]:
    """The changes of records' visibility that SQS was asked for, in their order."""
    return []


@pytest.fixture
def sqs(changed: list[dict[str, Any]]) -> SqsQueue:
    class Client:
        def change_message_visibility_batch(self, **arguments: Any) -> dict[str, Any]:
            changed.extend(arguments["Entries"])
            return {}

    return SqsQueue(Client(), "https://sqs.example/queue")
