"""Which stores the service works with, and how it names a store that it can't reach or won't use."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from local import reachable, stores
from local.errors import StoreStartError, StoreUnavailableError
from local.stores import Server, start_valkey
from message_handler import MessageHandler
from message_handler.domain.errors import SettingsError, TooOld, Unavailable
from message_handler.drivers import postgres
from message_handler.drivers import redis as redis_driver
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.redis import connect
from message_handler.operations import health
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier
from message_handler.wiring import build
from tests.certificates import Certificates, certify
from tests.chaos.proxy import Proxy
from tests.conftest import started
from tests.servers import start_postgres_15

NAMES = ("Redis", "Postgres")
REFUSED = r"isn't trusted \(.*key usage.*\): .* RFC 5280"


def settings_of(name: str, url: str) -> Settings:
    timeout: dict[str, Any] = {"redis_timeout_ms": 500} if name == "Redis" else {"database_timeout": 0.5}
    return Settings(**timeout | {"redis_url" if name == "Redis" else "database_url": SecretStr(url)})


def ping(name: str, url: str) -> None:
    """Reach a store once, as a new process does."""
    settings = settings_of(name, url)
    if name == "Redis":
        tier = RedisTier(connect(settings), settings)
        try:
            tier.ping()
        finally:
            tier.close()
        return
    known = Database(connector(settings))
    try:
        known.ping()
    finally:
        known.close()


@pytest.fixture
def urls(valkey: Server, migrated: Settings) -> dict[str, str]:
    assert migrated.database_url
    return {"Redis": valkey.url, "Postgres": migrated.database_url.get_secret_value()}


@pytest.fixture
def reasons(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """The stores that went away, and why."""

    def said() -> list[tuple[str, str]]:
        records = [record for record in caplog.records if record.getMessage() == "a store went away"]
        return [(vars(record)["store"], vars(record)["reason"]) for record in records]

    return said


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release refuses the servers of today as too old."""
    monkeypatch.setattr("message_handler.drivers.postgres.OLDEST_MAJOR", 99)
    monkeypatch.setattr("message_handler.drivers.redis.OLDEST_MAJOR", 99)
    monkeypatch.setattr(stores, "OLDEST", {"PostgreSQL": 99, "Redis": 99, "Valkey": 99})


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("name", NAMES)
class TestTooOld:
    def test_in_a_function_it_is_away_and_the_status_says_why(
        self, urls: dict[str, str], name: str, reasons: Callable[[], Any]
    ) -> None:
        parts = build(settings_of(name, urls[name]), deployed=True)
        try:
            status = health.status(parts.tiers, parts.archive, parts.queue)
        finally:
            parts.close()
        tier = name.lower()
        assert (status["status"], status["tiers"][tier]) == ("degraded", "away")
        assert "at least 99 is needed" in status["reasons"][tier]
        assert [store for store, _ in reasons()] == [name]

    def test_a_program_is_told_at_its_start(self, urls: dict[str, str], name: str) -> None:
        handler = MessageHandler(settings_of(name, urls[name]))
        with pytest.raises(SettingsError, match=f"^{name} .*at least 99 is needed"):
            handler.initialize()
        handler.close()

    def test_its_connections_are_closed(self, urls: dict[str, str], name: str) -> None:
        with pytest.raises(TooOld):
            ping(name, urls[name])  # pytest fails a test that leaves a socket open


@pytest.mark.usefixtures("old")
class TestTheLocalHost:
    def test_a_server_of_ours_that_is_too_old_is_not_used(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="is too old: the service needs 99 or later"):
            start_valkey(tmp_path)

    def test_one_that_the_environment_names_stops_the_start(self, valkey: Server) -> None:
        with pytest.raises(StoreStartError, match=r"REDIS_URL: \w+ [\d.]+ is too old"):
            reachable.redis_version(valkey.url, "")


def test_which_are_new_enough() -> None:
    assert [stores.too_old(f"{name} {oldest}.0.1") for name, oldest in stores.OLDEST.items()] == [None] * 3
    assert all(stores.too_old(f"{name} {oldest - 1}.9") for name, oldest in stores.OLDEST.items())
    assert stores.OLDEST["PostgreSQL"] == postgres.OLDEST_MAJOR
    assert stores.OLDEST["Redis"] == redis_driver.OLDEST_MAJOR


def test_redis_is_asked_once_in_a_process(valkey: Server) -> None:
    with redis.Redis.from_url(valkey.url) as observer, connect(settings_of("Redis", valkey.url)) as client:
        client.ping()
        before = observer.info("commandstats")["cmdstat_info"]["calls"]
        for _ in range(3):
            client.connection_pool.disconnect()
            client.ping()
        assert observer.info("commandstats")["cmdstat_info"]["calls"] == before + 1  # the observer's own connection


class TestWhy:
    @pytest.mark.parametrize("name", NAMES)
    def test_no_server_listens(self, name: str, reasons: Callable[[], Any]) -> None:
        with pytest.raises(Unavailable):
            ping(name, {"Redis": "redis://127.0.0.1:1/0", "Postgres": "postgresql://user@127.0.0.1:1/app"}[name])
        assert reasons() == [(name, "refused")]

    @pytest.mark.parametrize("name", NAMES)
    def test_it_says_nothing(self, name: str, reasons: Callable[[], Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(Unavailable):
                ping(name, {"Redis": f"redis://{address}/0", "Postgres": f"postgresql://user@{address}/app"}[name])
        assert reasons() == [(name, "timeout")]

    @pytest.mark.parametrize("name", NAMES)
    def test_its_name_is_unknown(self, name: str, reasons: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(Unavailable):
            ping(name, {"Redis": "redis://nowhere/0", "Postgres": "postgresql://user@nowhere/app"}[name])
        assert reasons() == [(name, "name not found")]

    @pytest.mark.parametrize("name", NAMES)
    def test_it_hangs_up(self, name: str, reasons: Callable[[], Any]) -> None:
        proxy = Proxy(1)
        proxy.refuse()
        address = f"127.0.0.1:{proxy.port}"
        try:
            with pytest.raises(Unavailable):
                ping(name, {"Redis": f"redis://{address}/0", "Postgres": f"postgresql://user@{address}/app"}[name])
        finally:
            proxy.close()
        assert reasons() == [(name, "connection lost")]

    def test_the_login_is_refused(self, urls: dict[str, str], reasons: Callable[[], Any]) -> None:
        before, _, behind = urls["Postgres"].rpartition("@")
        with pytest.raises(Unavailable):
            ping("Postgres", f"{before.rpartition(':')[0]}:wrong@{behind}")
        ((_, reason),) = reasons()
        assert reason.startswith("login: ")


@pytest.fixture
def lax(tmp_path: Path) -> Certificates:
    """An authority's certificate that lacks what RFC 5280 requires."""
    return certify(tmp_path / "certificates", strict=False)


def test_an_authority_that_python_refuses_is_named_with_openssls_reason(lax: Certificates, tmp_path: Path) -> None:
    server = started(partial(start_postgres_15, certificates=lax), tmp_path)
    try:
        with pytest.raises(Unavailable, match=REFUSED):
            ping("Postgres", server.url)
    finally:
        server.stop()


def test_an_authority_of_redis_that_python_refuses_is_named_with_its_reason(lax: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lax.server, lax.key)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as server:

        def shakes_hands() -> None:
            accepted, _ = listener.accept()
            with suppress(OSError), accepted, context.wrap_socket(accepted, server_side=True):
                pass

        server.submit(shakes_hands)
        with pytest.raises(Unavailable, match=REFUSED):
            ping("Redis", f"rediss://127.0.0.1:{listener.getsockname()[1]}/0?ssl_ca_certs={lax.authority}")
