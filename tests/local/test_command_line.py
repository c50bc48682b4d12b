"""The command line of `python -m local`: its failures are clear, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from local.psql import address_file
from local.tokens import KEY_FILE, Issuer

from .conftest import APP, PYTHON_NEEDS, Client, eventually
from .test_pool import is_running

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-is-a-secret"


class Host:
    """A host process. Its own temporary folder shows what it leaves behind."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".out")
        self.errors = folder.with_suffix(".err")
        kept = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL", "PORT")}
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local", *arguments],
                cwd=ROOT,
                env={**kept, "TMPDIR": str(folder), **environment},
                stdout=output,
                stderr=errors,
            )

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def await_ready(self) -> str:
        """Wait for the last line of the greeting; returns the URL."""
        eventually(lambda: "Ready on" in self.printed or self.process.poll() is not None, seconds=60)
        match = re.search(r"Ready on (http://127\.0\.0\.1:\d+)", self.printed)
        assert match, self.errors.read_text()
        return match[1]

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def failure(self) -> str:
        """The single line of a host that can't start."""
        assert self.process.wait(60) == 2
        lines = self.errors.read_text().splitlines()
        host_lines = [line for line in lines if line.startswith("local: ")]
        assert len(host_lines) == 1, lines
        assert lines[-1] == host_lines[0]
        assert self.left_behind() == []
        return host_lines[0]

    def left_behind(self) -> list[str]:
        return [entry.name for entry in self.folder.iterdir()]


class Hosts:
    def __init__(self) -> None:
        self._started: list[Host] = []

    def start(self, *arguments: str, template: Path | None = None, **environment: str) -> Host:
        # Not in pytest's folder: under root, Postgres runs as another user, which may not enter it.
        folder = Path(tempfile.mkdtemp(prefix="message-handler-test-"))
        folder.chmod(0o755)
        log = folder.with_suffix(".log")
        if template is None:  # a copy, because the host keeps a folder beside its template
            template = shutil.copytree(APP, folder.with_suffix(".app")) / "template.yaml"
        options = ["--template", str(template), "--port", "0", "--log-file", str(log), *arguments]
        self._started.append(Host(options, folder, environment))
        return self._started[-1]

    def stop(self) -> None:
        for host in self._started:
            if host.process.poll() is None:
                host.process.kill()
            host.process.wait()
            shutil.rmtree(host.folder, ignore_errors=True)
            shutil.rmtree(host.folder.with_suffix(".app"), ignore_errors=True)
            for suffix in (".out", ".err", ".log"):
                host.folder.with_suffix(suffix).unlink(missing_ok=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    yield made
    made.stop()


@pytest.mark.parametrize("auth", ["1", "0", ""])
def test_with_auth_the_tokens_of_the_templates_folder_are_wanted(hosts: Hosts, auth: str) -> None:
    host = hosts.start("--without-redis", "--without-postgres", AUTH=auth)
    client = Client(host.await_ready())
    bare = client.request("GET", "/guarded")
    if auth == "1":
        issuer = Issuer(host.folder.with_suffix(".app") / KEY_FILE)
        token = issuer.issue(["clinic-a"], scope="app/read")
        assert client.request("GET", "/guarded", Authorization=f"Bearer {token}").status == 200
    client.close()
    assert bare.status == (401 if auth == "1" else 200)


def test_a_run_from_the_greeting_to_ctrl_c(hosts: Hosts) -> None:
    host = hosts.start("--concurrency", "2", GREETING="from outside", JOB_QUEUE_URL="http://elsewhere/")
    url = host.await_ready()
    for expected in (
        "PostgreSQL ",
        "Valkey ",
        "moto ",
        "awslambdaric ",
        "EchoFunction, timeout 1 s",
        "GET /echo/{name}",
    ):
        assert expected in host.printed
    client = Client(url)
    environment = client.request("GET", "/echo/x").json["environment"]
    client.close()
    assert environment["GREETING"] == "from outside"
    assert environment["JOB_QUEUE_URL"].startswith("http://127.0.0.1:")
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "EchoFunction"
    assert (environment["EGRESS_ALLOW_LOOPBACK"], environment["ALLOW_LITERAL_SECRETS"]) == ("true", "true")
    assert environment["AUTH_REQUIRED"] == "false"
    assert "not json: migrate" in host.errors.read_text()  # a line that isn't JSON goes to the terminal too
    children = host.children()
    assert len(children) > 5
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(
            b"GET /echo/x?sleep=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )  # a running function does not prevent the end
        host.process.send_signal(signal.SIGINT)
        host.process.send_signal(signal.SIGINT)  # an impatient second one changes nothing
        assert host.process.wait(20) == 0
    assert not any(is_running(pid) for pid in children)
    assert host.left_behind() == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0


def test_a_store_that_is_left_out_makes_the_start_degraded_and_it_says_why(hosts: Hosts) -> None:
    host = hosts.start("--without-redis", "--without-postgres", REDIS_URL="redis://127.0.0.1:1/0")
    url = host.await_ready()
    degraded = [line for line in host.printed.splitlines() if line.startswith("DEGRADED: ")]
    assert degraded == ["DEGRADED: without PostgreSQL, as requested", "DEGRADED: without Redis, as requested"]
    client = Client(url)
    environment = client.request("GET", "/echo/x").json["environment"]
    client.close()
    assert (environment["REDIS_URL"], environment["DATABASE_URL"]) == ("", "")


def test_sigterm_in_the_middle_of_the_start_leaves_nothing(hosts: Hosts) -> None:
    host = hosts.start()
    children = eventually(lambda: len(found := host.children()) > 1 and found)
    host.process.terminate()
    assert host.process.wait(20) == 0
    assert not any(is_running(pid) for pid in children)
    assert host.left_behind() == []


def test_a_signal_is_noted_and_interrupts_nothing() -> None:
    """If the handler raised during an import, another thread would wait for that module's lock for ever."""
    code = "import os, local.__main__ as m; stop = m._Stop(); print(stop()); os.kill(os.getpid(), 15); print(stop())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"], result.stderr


def test_a_host_that_is_killed_takes_its_processes_along(hosts: Hosts) -> None:
    host = hosts.start()
    host.await_ready()
    children = host.children()
    host.process.kill()
    eventually(lambda: not any(is_running(pid) for pid in children))


def test_an_occupied_port_is_said_and_what_its_host_keeps_stays(hosts: Hosts, tmp_path: Path) -> None:
    template = shutil.copytree(APP, tmp_path / "app") / "template.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = address_file(template.parent / ".local", port)
        address.parent.mkdir()
        address.touch()
        failure = hosts.start("--port", str(port), template=template).failure()
    assert failure == f"local: port {port} is in use: choose another one with --port or PORT"
    assert address.exists()


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL"])
def test_an_unreachable_store_is_said_without_its_password(hosts: Hosts, variable: str) -> None:
    scheme = "redis" if variable == "REDIS_URL" else "postgresql+asyncpg"
    host = hosts.start(**{variable: f"{scheme}://user:{SECRET}@127.0.0.1:1/0"})
    failure = host.failure()
    assert variable in failure
    assert "127.0.0.1:1" in failure
    assert SECRET not in host.errors.read_text() + host.printed


def test_a_url_that_is_none_is_said_without_its_password(hosts: Hosts) -> None:
    host = hosts.start(REDIS_URL=f"redis://user:{SECRET}/with@slash:port/0")
    assert host.failure() == "local: REDIS_URL: must be a URL such as redis://localhost:6379/0"


def test_bad_settings_name_their_variables(hosts: Hosts) -> None:
    bad = {"SECRETS_PREFIX": f"{SECRET} ", "SIMULATED_AI_DELAY_MS": "9-1"}
    host = hosts.start("--without-redis", "--without-postgres", template=ROOT / "template.yaml", **bad)
    failure = host.failure()
    assert failure.startswith("local: IntakeFunction: bad settings: SECRETS_PREFIX: ")
    assert "; SIMULATED_AI_DELAY_MS: " in failure
    assert SECRET not in host.errors.read_text() + host.printed


@pytest.mark.parametrize("module", ["local", "local.migrate", "local.psql"])
@pytest.mark.parametrize("port", ["x", "65536", "-1", "1.5"])
def test_a_bad_port_names_its_variable(module: str, port: str) -> None:
    environment = PYTHON_NEEDS | {"PORT": port}
    result = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert "the variable PORT, must be a whole number from 0 to 65535" in result.stderr


def test_a_missing_or_broken_template_is_said(hosts: Hosts, tmp_path: Path) -> None:
    assert "there is no such file" in hosts.start(template=tmp_path / "none.yaml").failure()
    (tmp_path / "broken.yaml").write_text("Resources: [")
    assert "broken.yaml line 1" in hosts.start(template=tmp_path / "broken.yaml").failure()


def test_a_migration_that_fails_stops_the_start(hosts: Hosts) -> None:
    failure = hosts.start(GREETING="refuse").failure()
    assert "the database can't be migrated: AdminFunction: RuntimeError: relation missing" in failure
    assert "message_handler:***@" in failure


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "65536"], ["--concurrency", "0"], ["--nonsense"]])
def test_wrong_options_are_refused(arguments: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", "local", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "error: " in result.stderr


def test_help_names_the_options() -> None:
    result = subprocess.run([sys.executable, "-m", "local", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    for option in ("--template", "--port", "--concurrency", "--log-file", "--without-redis", "REDIS_URL"):
        assert option in result.stdout
