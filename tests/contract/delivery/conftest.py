"""The `office` fixture: deliveries over a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.delivery.deliveries import (
    Deliveries,
)
from message_handler.drivers.egress import Egress
from message_handler.drivers.postgres import Database
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import Meter
from message_handler.ports.queue import Queue
from tests.contract.chat import Clock
from tests.contract.delivery.office import Office
from tests.contract.world import FakeQueue


@pytest.fixture
def office(
    postgres_archive: PostgresArchive, postgres_database: Database, sql: Connection, clock: Clock
) -> Iterator[Office]:
    clock.advance(60)
    outbox, queue, meter = PostgresOutbox(postgres_database), FakeQueue(clock), Meter()
    egress = Egress((), allow_loopback=True)
    deliveries = Deliveries(outbox, cast(Queue, queue), egress, Secrets(literals=True), clock, meter)
    office = Office(sql, postgres_archive, outbox, clock, queue, deliveries, meter)
    yield office
    for receiver in office.receivers:
        receiver.stops()
    sql.run("delete from deliveries")
    sql.run("delete from platforms where platform_id <> 'default'")
