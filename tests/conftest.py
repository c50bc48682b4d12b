"""Shared by all tests: real servers. Each starts empty when the first test asks for it, and ends with the run.

If a server's program is missing, its tests skip and say so. Under CI=true they fail, so that no gap stays unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from local.errors import StoreUnavailableError
from local.stores import Server, start_postgres, start_valkey
from message_handler.drivers import aws
from tests.certificates import Certificates, certify
from tests.servers import Cluster, SecuredRedis, start_cluster, start_postgres_15, start_redis_with_tls

# The same examples in every run: a failure comes from a change. --hypothesis-profile=default looks for new examples.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


class OneConsole(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """As `--dist loadfile`, but one process runs all files of tests/console: they share a service and a browser."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/console/"
        return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneConsole | None:
    return OneConsole(config, log) if config.getoption("dist") == "loadfile" else None


def started[S](start: Callable[[Path], S], directory: Path) -> S:
    """A server that `start` starts in the directory. Without its program the test skips, or under CI=true fails."""
    try:
        return start(directory)
    except StoreUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = started(start_valkey, tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = started(start_postgres, tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = started(start_cluster, tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def secured_redis(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[SecuredRedis]:
    start = partial(start_redis_with_tls, certificates=certificates)
    server = started(start, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_15(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Server]:
    start = partial(start_postgres_15, certificates=certificates)
    server = started(start, tmp_path_factory.mktemp("postgres-15"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def own_session() -> Iterator[None]:
    """Renew the session of AWS clients for each test: it keeps credentials, and whether moto was active."""
    aws.session.cache_clear()
    yield
    aws.session.cache_clear()


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a Secrets Manager within this process."""
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        yield client
        client.close()
