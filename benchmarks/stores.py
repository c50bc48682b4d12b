"""The real stores that figures are measured over, each started when the first figure asks for it.

Valkey, Postgres and the stand-in of SQS are processes of their own on loopback, without TLS. Unlike the local host's,
Postgres is durable here: a commit waits for the disk, as it does where it is deployed.
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
#: The stand-in of AWS takes any; a client won't be made without.
AWS = {
    "AWS_ACCESS_KEY_ID": "benchmarks",
    "AWS_SECRET_ACCESS_KEY": "benchmarks",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Closable(Protocol):
    def close(self) -> None: ...


class Stores:
    """`quick`: a look is enough, so what is large may be smaller."""

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self._cleanup = ExitStack()
        #: Of what has been started.
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
        """A durable database with our schema."""
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
        """A client of the stand-in, with the settings of none of ours."""
        import boto3

        keys = {"aws_access_key_id": "benchmarks", "aws_secret_access_key": "benchmarks"}
        return boto3.client("sqs", endpoint_url=self.sqs_endpoint, region_name="eu-central-1", **keys)

    def queue_url(self, name: str) -> str:
        """A queue of this name, new or not."""
        client = self.sqs_client()
        url: str = client.create_queue(QueueName=name)["QueueUrl"]
        client.close()
        return url

    def shared[T: Closable](self, name: str, make: Callable[[], T]) -> T:
        """What several figures use, made by the first and closed with the stores."""
        if name not in self._shared:
            self._shared[name] = made = make()
            self._cleanup.callback(made.close)
        found: T = self._shared[name]
        return found

    def settings(self, **changed: Any) -> Settings:
        """Of one process over Valkey and Postgres. A loaded machine must not look like a dead server."""
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
