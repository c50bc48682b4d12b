"""Runs a whole template. `python -m local` and tests use it.

with LocalStack("template.yaml", environment={"SIMULATED_AI_DELAY_MS": "0"}) as stack:
    requests.post(f"{stack.url}/conversations/c/messages", json={...})
    stack.invoke("WorkerFunction", event)
    stack.sqs.receive_message(QueueUrl=stack.queue_url("DeadLetterQueue"))
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from local import reachable
from local.authorizer import Authorizer
from local.aws import Simulator, start_simulator
from local.errors import StartError, StartInterruptedError, StoreUnavailableError
from local.gateway import Gateway, front
from local.intrinsics import REGION
from local.logs import FunctionLog
from local.outages import Outages
from local.parts import GivenStore, OwnStore, Parts, Workers
from local.pool import Pool
from local.queues import Mapper, create_queues
from local.runtime import Environment
from local.schedule import Ticker
from local.server import LoopbackServer
from local.stores import Server, start_postgres, start_valkey
from local.template import Template, TemplateSource
from local.tokens import Issuer
from local.variables import function_variables, module_folders, simulated_aws
from message_handler.domain.errors import SettingsError
from message_handler.settings import Settings

START_SECONDS = 60.0  # for a function's imports on a loaded machine
STOP_GRACE_SECONDS = 1.0  # for the functions that are running
_STARTS: Mapping[str, Callable[..., Server]] = {"redis": start_valkey, "postgres": start_postgres}
_PORTS = {"redis": 6379, "postgres": 5432}
_ADMIN_FUNCTION = "AdminFunction"  # takes {"action": "migrate"}
#: The parameters with which the template names no stores in AWS.
WITHOUT_AWS = {"CreateVpc": "false", "CreateRedis": "false", "CreateDatabase": "false"}


class FunctionError(RuntimeError):
    """A function that was invoked directly failed; `payload` is the runtime's error object."""

    def __init__(self, message: str, payload: Any) -> None:
        super().__init__(message)
        self.payload = payload


@dataclass(frozen=True)
class Store:
    """A store in use. `version` is None for a Postgres of the caller. `own`: the host started it."""

    url: str
    version: str | None
    own: bool


class LocalStack:
    """Runs a template until it is stopped.

    - `environment`: replaces `os.environ`. Its REDIS_URL and DATABASE_URL replace the stores that the host would start.
      Its other variables replace those of the same name in the functions.
    - `settings`: more variables for every function, also such that the template does not name.
    - `concurrency`: the most environments of each function, and for each queue that invokes it.
    - `port`: 0 is any free one.
    - `log_file`: gets the functions' output. None: a file that is deleted with the stack. `terminal` gets warnings.
    - `redis`, `postgres`: False starts without that store.
    - `issuer`: callers need its tokens where the template requires one. Without it the API is open.

    `start` raises a HostError, and then leaves nothing behind.
    """

    def __init__(
        self,
        template: Path | str = "template.yaml",
        *,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        concurrency: int = 8,
        port: int = 0,
        log_file: Path | None = None,
        terminal: TextIO | None = None,
        redis: bool = True,
        postgres: bool = True,
        issuer: Issuer | None = None,
    ) -> None:
        self._template_path = Path(template)
        self._environment = dict(os.environ if environment is None else environment)
        open_to_all = {"AUTH_REQUIRED": "false" if issuer is None else "true", "REQUIRE_SAFETY": "false"}
        self._settings = {**open_to_all, "SIMULATED_AI": "true", "RATE_LIMIT_PER_MINUTE": "0", **(settings or {})}
        self._authorizer = Authorizer(issuer) if issuer else None
        self._concurrency = concurrency
        self._port = port
        self._log_file = log_file
        self._terminal = terminal
        self._wanted = {"redis": redis, "postgres": postgres}
        self._cleanup = ExitStack()
        self._pools: dict[str, Pool] = {}
        self._queue_url_prefix = ""
        self.stores: dict[str, Store] = {}  # "redis" and "postgres", if they are there
        self.missing: list[str] = []  # the reasons why a store is missing
        self.parts = Parts()  # the stores and the worker, which can be stopped and started
        self.template: Template
        self.url: str
        self.log_file: Path
        self.sqs: Any  # a boto3 client

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Start all parts, in parallel where possible. Returns when requests are answered.

        Between the steps `interrupted` is called; if it returns True, StartInterruptedError is raised.
        """
        try:
            for _ in self._start():
                if interrupted():
                    raise StartInterruptedError("the host was asked to stop while it started")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process, free every port, delete temporary files. Stopping twice is harmless."""
        self._cleanup.close()

    def invoke(self, function: str, event: Any) -> Any:
        """Invoke a function and return its result. Raises FunctionError, or KeyError for an unknown function."""
        outcome = self._pools[function].submit(json.dumps(event).encode()).result()
        if outcome.failed:
            raise FunctionError(f"{function}: {outcome.describe()}", json.loads(outcome.payload))
        return json.loads(outcome.payload)

    def variables(self, function: str) -> Mapping[str, str]:
        """The environment variables of a function's processes."""
        return self._pools[function].variables

    def environments(self, function: str) -> list[Environment]:
        """The processes of a function that run now. Raises KeyError for an unknown function."""
        return self._pools[function].environments()

    def queue_url(self, name: str) -> str:
        """The URL of a queue by its logical id."""
        return self._queue_url_prefix + self.template.queues[name].name

    @property
    def redis_url(self) -> str | None:
        return self._store_url("redis")

    @property
    def database_url(self) -> str | None:
        return self._store_url("postgres")

    def _store_url(self, name: str) -> str | None:
        return self.stores[name].url if name in self.stores else None

    def _start(self) -> Iterator[None]:
        """Start step by step. At each yield `stop` can end all that was started."""
        source = TemplateSource(self._template_path)
        self._find_given_stores()
        listener = self._listen()
        directory = self._make_directory()
        self.log_file = self._log_file or directory / "functions.log"
        log = FunctionLog(self.log_file, self._terminal)
        self._cleanup.callback(log.close)
        yield
        simulator = start_simulator(directory / "aws.log")
        self._cleanup.callback(simulator.stop)
        self._queue_url_prefix = simulator.queue_url_prefix
        starting = self._start_own_stores(directory)
        yield
        source.transform()  # takes a second, while the others start
        self.sqs = _sqs_client(simulator.endpoint)
        self._cleanup.callback(self.sqs.close)
        yield
        self._await_own_stores(starting, directory)
        self.template = source.resolve(self._parameters(), simulator.queue_url_prefix)
        yield
        self._start_functions(simulator, log)
        create_queues(self.sqs, self.template.queues)
        yield
        self._await_functions()
        yield
        self._migrate()
        yield
        self._start_events()
        outages = Outages(self.parts, self._authorizer)
        listener.start(front(Gateway(self.template, self._pools, self._authorizer, outages=outages)))
        self.url = f"http://127.0.0.1:{listener.port}"

    def _listen(self) -> LoopbackServer:
        try:
            listener = LoopbackServer(self._port)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
            raise StartError(f"port {self._port} {reason}: choose another one with --port or PORT") from error
        self._cleanup.callback(listener.close)
        return listener

    def _make_directory(self) -> Path:
        temporary = tempfile.TemporaryDirectory(prefix="message-handler-", ignore_cleanup_errors=True)
        self._cleanup.enter_context(temporary)
        if os.geteuid() == 0:
            # Postgres runs as the account `nobody`, which must be able to reach its own folder.
            Path(temporary.name).chmod(0o711)
        return Path(temporary.name)

    def _find_given_stores(self) -> None:
        """Use the stores that the environment names, if they can be reached, and note those that are not wanted."""
        for name, known_as in (("postgres", "PostgreSQL"), ("redis", "Redis")):
            if not self._wanted[name]:
                self.missing.append(f"without {known_as}, as requested")
        if self._wanted["redis"] and (url := self._environment.get("REDIS_URL")):
            version = reachable.redis_version(url, self._environment.get("REDIS_PASSWORD", ""))
            self.stores["redis"] = Store(url, version, own=False)
        if self._wanted["postgres"] and (url := self._environment.get("DATABASE_URL")):
            reachable.check_postgres(url)
            self.stores["postgres"] = Store(url, None, own=False)

    def _start_own_stores(self, directory: Path) -> dict[str, Future[Server]]:
        """Start the other stores, in threads."""
        executor = ThreadPoolExecutor(thread_name_prefix="stores")
        self._cleanup.callback(executor.shutdown)
        wanted = [name for name in _STARTS if self._wanted[name] and name not in self.stores]
        starting = {name: executor.submit(_STARTS[name], directory) for name in wanted}
        for future in starting.values():
            self._cleanup.callback(_stop_store, future)
        return starting

    def _await_own_stores(self, starting: Mapping[str, Future[Server]], directory: Path) -> None:
        for name in _STARTS:
            if name in self.stores:
                self.parts.add(name, GivenStore(self.stores[name].url, _PORTS[name]))
                continue
            if name not in starting:
                continue
            try:
                server = starting[name].result()
            except StoreUnavailableError as error:
                self.missing.append(str(error))
            else:
                self.stores[name] = Store(server.url, server.version, own=True)
                part = OwnStore(server, _STARTS[name], directory)
                self._cleanup.callback(part.close)
                self.parts.add(name, part)

    def _parameters(self) -> dict[str, str]:
        return WITHOUT_AWS | {"RedisUrl": self.redis_url or "", "DatabaseUrl": self.database_url or ""}

    def _start_functions(self, simulator: Simulator, log: FunctionLog) -> None:
        # These variables name stores and queues, which the host has chosen. A login belongs to its store's URL.
        decided = {"JOB_QUEUE_URL", "DELIVERY_QUEUE_URL", "REDIS_URL", "DATABASE_URL"}
        if not self._environment.get("REDIS_URL"):
            decided |= {"REDIS_PASSWORD", "REDIS_SECRET_ARN", "REDIS_IAM_CACHE"}
        if not self._environment.get("DATABASE_URL"):
            decided |= {"DATABASE_SECRET_ARN", "DATABASE_IAM"}
        overrides = {name: value for name, value in self._environment.items() if name not in decided}
        settings = {"LOCAL_OUTAGES": "true", **self._settings}
        if self._environment.get("REDIS_URL") and (password := self._environment.get("REDIS_PASSWORD")):
            settings["REDIS_PASSWORD"] = password  # not in the template; it belongs to this URL
        aws = simulated_aws(simulator.endpoint)
        self._cleanup.callback(self._stop_functions)
        for name, function in self.template.functions.items():
            path = os.pathsep.join(map(str, module_folders(function)))
            variables = {**function_variables(function, overrides, aws, path), **settings}
            _check_settings(name, variables)
            sources = sum(source.function == name for source in self.template.event_sources)
            self._pools[name] = Pool(function, variables, self._concurrency * max(1, sources), log)
            self._pools[name].warm()

    def _stop_functions(self) -> None:
        stops = [threading.Thread(target=pool.stop, args=(STOP_GRACE_SECONDS,)) for pool in self._pools.values()]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()

    def _await_functions(self) -> None:
        for name, pool in self._pools.items():
            if failure := pool.await_warm(START_SECONDS):
                raise StartError(f"{name} can't start: {failure.describe()}")

    def _migrate(self) -> None:
        """Migrate the database, as a deployment does."""
        if self.database_url is None or _ADMIN_FUNCTION not in self._pools:
            return
        try:
            self.invoke(_ADMIN_FUNCTION, {"action": "migrate"})
        except FunctionError as error:
            reason = reachable.without_password(str(error), self.database_url)
            raise StartError(f"the database can't be migrated: {reason}") from error

    def _start_events(self) -> None:
        invoked = {source.function for source in self.template.event_sources}
        if invoked:
            workers = Workers([self._pools[name] for name in sorted(invoked)], self._mappers)
            workers.poll()
            self._cleanup.callback(workers.rest)
            self.parts.add("worker", workers)
        for schedule in self.template.schedules:
            ticker = Ticker(schedule, self._pools[schedule.function])
            ticker.start()
            self._cleanup.callback(ticker.stop)

    def _mappers(self) -> list[Mapper]:
        found = []
        for source in self.template.event_sources:
            queue, pool = self.template.queues[source.queue], self._pools[source.function]
            found.append(Mapper(source, queue, self.queue_url(queue.name), self.sqs, pool, self._concurrency))
        return found


def _check_settings(function: str, variables: Mapping[str, str]) -> None:
    try:
        Settings.from_environment(variables)
    except SettingsError as error:
        raise StartError(f"{function}: {error}") from error


def _stop_store(starting: Future[Server]) -> None:
    if starting.exception() is None:  # waits if the store still starts
        starting.result().stop()


def _sqs_client(endpoint: str) -> Any:
    # Imported here, where the stores start meanwhile.
    import boto3
    from botocore.config import Config

    # No proxies: the endpoint is on loopback, whatever the environment says.
    config = Config(max_pool_connections=50, retries={"total_max_attempts": 2}, proxies={})
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 (not a secret)
        config=config,
    )
