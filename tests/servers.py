"""Servers that only tests need: a cluster of three, and the oldest versions we support, with TLS and passwords."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import redis

from local.errors import StoreStartError, StoreUnavailableError
from local.stores import START_SECONDS, Server, free_port, start, start_postgres_with, start_valkey_with
from tests.certificates import Certificates

SLOTS = 16_384
#: Let no platform have failed deliveries: earlier tests of this process may have left some.
ALL_TAKEN = "update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null"


def emptied(*tables: str) -> str:
    """The statements that empty these tables of few rows. Deleting is fifty times as fast as truncating them.

    Name a table before those that it refers to.
    """
    return "; ".join(f"delete from {table}" for table in tables)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


@dataclass(frozen=True)
class Cluster:
    """Valkey nodes that share the slots evenly, without replicas. `url` names the first of them."""

    nodes: tuple[Server, ...]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def start_cluster(directory: Path, size: int = 3, timeout_ms: int = 15_000) -> Cluster:
    """Start a cluster. A node that is silent for `timeout_ms` is down for the others.

    Raises StoreUnavailableError or StoreStartError.
    """
    with ExitStack() as started:
        nodes = []
        for number in range(size):
            nodes.append(start_node(directory / str(number), timeout_ms=timeout_ms))
            started.callback(nodes[-1].stop)
        _join(nodes)
        started.pop_all()
    return Cluster(tuple(nodes))


def start_node(directory: Path, port: int | None = None, timeout_ms: int = 15_000) -> Server:
    """Start one node of a cluster. With the directory and port of an earlier node it takes that node's place.

    Its bus has a separate port, because the usual one, 10,000 above, may be too high.
    """
    directory.mkdir(parents=True, exist_ok=True)
    bus = directory / "bus.port"

    def options() -> list[str]:
        if port is None:
            bus.write_text(str(free_port()))
        words = ["--cluster-enabled", "yes", "--cluster-port", bus.read_text()]
        # A new replica does not wait until others want to synchronise too.
        return [*words, "--cluster-node-timeout", str(timeout_ms), "--repl-diskless-sync-delay", "0"]

    return start_valkey_with(options, directory, port)


def _join(nodes: list[Server]) -> None:
    """Distribute the slots, introduce the nodes to each other, and wait until each node sees the whole cluster."""
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(redis.Redis.from_url(node.url)) for node in nodes]
        for number, client in enumerate(clients):
            first, last = SLOTS * number // len(nodes), SLOTS * (number + 1) // len(nodes) - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            # Nodes with the same epoch resolve that conflict first, which takes seconds.
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            introduce(node, clients[0])
        deadline = time.monotonic() + START_SECONDS
        while not all(sees_its_cluster(client, "ok", len(nodes)) for client in clients):
            if time.monotonic() > deadline:
                raise StoreStartError("the cluster's nodes don't find each other")
            time.sleep(0.02)


def introduce(node: Server, known: redis.Redis) -> None:
    """Let a node join the cluster of a known one. Does not wait until they have found each other."""
    with redis.Redis.from_url(node.url, decode_responses=True) as client:
        bus = int(client.config_get("cluster-port")["cluster-port"])
    known.execute_command("CLUSTER MEET", "127.0.0.1", port_of(node.url), bus)


def sees_its_cluster(client: redis.Redis, state: str, size: int) -> bool:
    """Whether this node sees the cluster in this state (`ok` or `fail`), with slots on `size` nodes."""
    info = client.execute_command("CLUSTER INFO")
    assert isinstance(info, dict)
    return info["cluster_state"] == state and int(info["cluster_size"]) == size


@dataclass(frozen=True)
class SecuredRedis:
    """A Redis that speaks only TLS and needs a password. `url` does not contain it."""

    server: Server
    password: str

    @property
    def url(self) -> str:
        return self.server.url

    def stop(self) -> None:
        self.server.stop()


def start_redis_with_tls(directory: Path, certificates: Certificates, *, cluster: bool = False) -> SecuredRedis:
    """Start Debian's Redis. As a cluster, this one node has all slots, like ElastiCache Serverless.

    Raises StoreUnavailableError or StoreStartError.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise StoreUnavailableError("no Redis with TLS: install Debian's redis-server (7.0)")
    directory.mkdir(parents=True, exist_ok=True)
    password = token_hex(16)
    options = {
        "bind": "127.0.0.1",
        "port": "0",
        "save": "",
        "appendonly": "no",
        "requirepass": password,
        "tls-cert-file": str(certificates.server),
        "tls-key-file": str(certificates.key),
        "tls-ca-cert-file": str(certificates.authority),
        "tls-auth-clients": "no",
        "dir": str(directory),
    }
    if cluster:
        options |= {"cluster-enabled": "yes", "tls-cluster": "yes"}

    def command(port: int) -> list[str | Path]:
        words = options | {"tls-port": str(port)} | ({"cluster-port": str(free_port())} if cluster else {})
        # In a file, because every user of the machine can read a command line.
        file = directory / "redis.conf"
        file.touch(mode=0o600)
        file.write_text("".join(f'{name} "{value}"\n' for name, value in words.items()))
        return [Path(program).absolute(), file]

    def url(port: int) -> str:
        return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificates.authority}"

    def connect(port: int, pid: int) -> str:
        with redis.Redis.from_url(url(port), password=password, decode_responses=True) as client:
            answer = client.info("server")
            assert isinstance(answer, dict)
            if answer["process_id"] != pid:
                raise ConnectionError("not our server")
            if cluster and not client.execute_command("CLUSTER SLOTS"):
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
            if cluster and not sees_its_cluster(client, "ok", 1):
                raise ConnectionError("not ready")
            return f"Redis {answer['redis_version']}"

    process, version, port = start(command, connect, directory / "redis.log", None, signal.SIGKILL)
    return SecuredRedis(Server("redis", version, url(port), process, signal.SIGKILL), password)


def start_postgres_15(directory: Path, certificates: Certificates) -> Server:
    """Start Debian's Postgres 15 with a certificate. Its URL asks for `verify-full` with our authority.

    Raises StoreUnavailableError or StoreStartError.
    """
    programs = Path("/usr/lib/postgresql/15/bin")
    if not (programs / "postgres").exists():
        raise StoreUnavailableError("no Postgres 15: install Debian's postgresql-15")
    # Postgres looks for files with these names by default.
    secrets = {"server.crt": certificates.server.read_text(), "server.key": certificates.key.read_text()}
    server = start_postgres_with(directory, programs=programs, options={"ssl": "on"}, secrets=secrets)
    return replace(server, url=f"{server.url}?sslmode=verify-full&sslrootcert={certificates.authority}")
