"""The real stores of the benchmarks. Each starts when the first figure asks for it.

Valkey, Postgres and the stand-in of SQS are processes of their own on loopback, without TLS. Unlike on the local host,
Postgres is durable here: a commit waits for the disk, as in a deployment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import SecretStr

from local.aws import start_simulator
from local.stores import Server, start_postgres_with, start_valkey
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings

DURABLE = {"fsync": "on", "full_page_writes": "on", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
#: A client needs some credentials. The stand-in of AWS takes any.
AWS = {
    "AWS_ACCESS_KEY_ID": "benchmarks",
    "AWS_SECRET_ACCESS_KEY": "benchmarks",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Closable(Protocol):
    def close(self) -> None: ...


class Stores:
    """The stores of a run. With `quick`, figures may use less data."""

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self._cleanup = ExitStack()
        #: The names and versions of the started stores.
        self.versions: list[str] = []
        self._shared: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cleanup.close()

    @cached_property
    def folder(self) -> Path:
        return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))

    @cached_property
    def redis_url(self) -> str:
        return self._started(start_valkey(self.folder / "valkey"))

    @cached_property
    def database_url(self) -> str:
        """The address of a durable database with our schema."""
        url = self._started(start_postgres_with(self.folder / "postgres", options=DURABLE))
        database = Database(connector(Settings(database_url=SecretStr(url))))
        database.migrate()
        database.close()
        return url

    @cached_property
    def sqs_endpoint(self) -> str:
        simulator = start_simulator(self.folder / "aws.log")
        self._cleanup.callback(simulator.stop)
        return simulator.endpoint

    def sqs_client(self) -> Any:
        """A client of the stand-in with botocore's own settings."""
        import boto3

        keys = {"aws_access_key_id": "benchmarks", "aws_secret_access_key": "benchmarks"}
        return boto3.client("sqs", endpoint_url=self.sqs_endpoint, region_name="eu-central-1", **keys)

    def queue_url(self, name: str) -> str:
        """The address of the queue with this name. It is made if it is not there."""
        client = self.sqs_client()
        url: str = client.create_queue(QueueName=name)["QueueUrl"]
        client.close()
        return url

    def shared[T: Closable](self, name: str, make: Callable[[], T]) -> T:
        """An object that several figures share. The first one makes it, and the stores close it."""
        if name not in self._shared:
            self._shared[name] = made = make()
            self._cleanup.callback(made.close)
        found: T = self._shared[name]
        return found

    def settings(self, **changed: Any) -> Settings:
        """The settings of a process over Valkey and Postgres. A loaded machine must not look like a dead server."""
        given: dict[str, Any] = {
            "redis_url": SecretStr(self.redis_url),
            "redis_timeout_ms": 10_000,
            "database_url": SecretStr(self.database_url),
            "database_timeout": 30.0,
            "debounce_ms": 0,
        }
        return Settings(**given | changed)

    def _started(self, server: Server) -> str:
        self._cleanup.callback(server.stop)
        self.versions.append(server.version)
        return server.url
