"""The test suite's servers are what their names say."""

from __future__ import annotations

import pytest
import redis
from pydantic import SecretStr

from local.stores import Server
from message_handler.drivers.postgres import Database
from message_handler.drivers.redis import connect
from message_handler.settings import Settings
from tests.servers import SecuredRedis, port_of


def test_postgres_15_is_one_and_is_spoken_to_in_tls(postgres_15_database: Database, postgres_15: Server) -> None:
    assert postgres_15.version.startswith("PostgreSQL 15.")
    encrypted = postgres_15_database.run(
        lambda connection: connection.run("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    )
    assert encrypted == [[True]]


def test_the_secured_redis_speaks_nothing_but_tls(secured_redis: SecuredRedis) -> None:
    url = f"redis://:{secured_redis.password}@127.0.0.1:{port_of(secured_redis.url)}/0"
    plain = connect(Settings(redis_url=SecretStr(url), redis_timeout_ms=10_000))
    with plain, pytest.raises(redis.ConnectionError):
        plain.ping()
