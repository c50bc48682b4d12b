"""The operators' command line against the whole product, and its tokens and errors against a server of ours."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import CANARY, Api

COMMAND = [sys.executable, "-m", "message_handler"]
SECONDS = 60
#: What a terminal obeys: the control characters C0 and C1, delete, and what ends a line. A lone surrogate has no UTF-8.
COMMANDS = ["\x07", "\x08", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\x9d", "\u2028", "\u2029", "\ud800"]
#: What turns the direction of a line, or is not seen.
DIRECTIONS = ["\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069", "\ufeff", "\U000e0041"]


def environment(url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGE_HANDLER")}
    return kept | {"MESSAGE_HANDLER_URL": url, "COLUMNS": "200"} | more


@dataclass
class Operator:
    """Runs commands without a terminal."""

    url: str

    def run(self, *arguments: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=environment(self.url, **more),
            timeout=SECONDS,
        )

    def json(self, *arguments: str, given: str = "") -> Any:
        done = self.run(*arguments, "--json", given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, code: int, *arguments: str, given: str = "", **more: str) -> str:
        """The single line of the error."""
        done = self.run(*arguments, given=given, **more)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith("message-handler")
        return line


@pytest.fixture(scope="module")
def operator(api: Api) -> Operator:
    return Operator(api.url)


def failed(api: Api, conversation_id: str) -> str:
    job_id: str = api.post(conversation_id, history=f"<USER>[fail][slow:0.1] {CANARY}</USER><br>")["ai_job_id"]
    assert api.ended(job_id)["status"] == "failed"
    return job_id


class TestAgainstTheProduct:
    def test_the_status_is_for_people_and_for_machines(self, operator: Operator) -> None:
        status = operator.json("status")
        assert status["status"] == "healthy"
        assert status["tiers"] == {"redis": "up", "postgres": "up", "memory": "up"}
        assert set(status["queue"]) == {"visible", "in_flight", "delayed", "dead_letters"}
        assert isinstance(status["queue"]["visible"], int)
        assert status["worker"]["state"] in ("ok", "idle")
        shown = operator.run("status")
        assert shown.returncode == 0
        assert "redis     up" in shown.stdout
        assert operator.run("health").stdout == "up\n"

    def test_a_failed_job_is_found_and_retried(self, operator: Operator, api: Api) -> None:
        job_id = failed(api, "cli-retry")
        (listed,) = operator.json("jobs", "list", "--status", "failed", "--conversation", "cli-retry")["jobs"]
        assert listed["job_id"] == job_id
        table = operator.run("jobs", "list", "--conversation", "cli-retry").stdout.splitlines()
        assert table[0].split("  ")[0] == "JOB ID"
        assert len(table) == 2
        assert table[1].index("cli-retry") == table[0].index("CONVERSATION ID")
        successor = operator.json("jobs", "retry", job_id)["ai_job_id"]
        assert operator.json("jobs", "retry", job_id)["ai_job_id"] == successor
        assert api.ended(successor)["status"] == "failed"  # its message still asks to fail
        assert operator.json("jobs", "show", job_id)["superseded_by"] == successor
        entry = operator.json("audit", "list", "--kind", "jobs", "--limit", "1")["entries"][0]
        assert (entry["action"], entry["record_id"]) == ("retry", job_id)
        assert "404 Not Found" in operator.fails(1, "jobs", "retry", "361f1a3a-0dbe-8854-9d6e-3cf972894b32")

    def test_a_page_says_how_to_go_on(self, operator: Operator, api: Api) -> None:
        for _ in range(2):
            failed(api, "cli-pages")
        pages = operator.run("jobs", "list", "--conversation", "cli-pages", "--limit", "1")
        more = pages.stderr.split()[-1]
        second = operator.run("jobs", "list", "--conversation", "cli-pages", "--limit", "1", "--next", more)
        assert second.stderr == ""
        assert len(second.stdout.splitlines()) == 2
        assert second.stdout != pages.stdout

    def test_records_are_written_changed_and_deleted(self, operator: Operator, tmp_path: Path) -> None:
        core = {"name": "Trial", "api_endpoint": "simulated://"}
        assert operator.json("core-ai", "put", "cli", "-", "--new", given=json.dumps(core))["name"] == "Trial"
        assert "412 Precondition Failed" in operator.fails(
            1, "core-ai", "put", "cli", "-", "--new", given=json.dumps(core)
        )
        file = tmp_path / "record.json"
        file.write_text(json.dumps(operator.json("core-ai", "show", "cli") | {"name": "Trial 2"}))
        revision = operator.run("core-ai", "show", "cli").stdout.rsplit(maxsplit=1)[-1]
        operator.json("core-ai", "put", "cli", str(file), "--if-match", revision)
        assert "412" in operator.fails(1, "core-ai", "put", "cli", str(file), "--if-match", revision)
        assert "Trial 2" in operator.run("core-ai", "list").stdout
        assert "400" in operator.fails(1, "bots", "put", "cli", "-", given='{"name": "B", "core_ai_id": "none"}')
        assert operator.json("core-ai", "delete", "cli", "--yes") == {"deleted": True}
        actions = [entry["action"] for entry in operator.json("audit", "list", "--kind", "core_ai")["entries"][:3]]
        assert actions == ["delete", "put", "put"]

    def test_an_edit_writes_what_was_seen_or_nothing(self, operator: Operator, api: Api, tmp_path: Path) -> None:
        core = {"name": "Edited", "api_endpoint": "simulated://"}
        operator.json("core-ai", "put", "edited", "-", given=json.dumps(core))
        assert "nothing was changed" in operator.fails(1, "core-ai", "edit", "edited", EDITOR="true")
        editor = tmp_path / "editor.py"
        editor.write_text(
            "import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n"
            "file.write_text(file.read_text().replace('Edited', 'Changed'))\n"
        )
        mine = f"{sys.executable} {editor}"
        assert operator.run("core-ai", "edit", "edited", EDITOR=mine).returncode == 0
        assert operator.json("core-ai", "show", "edited")["name"] == "Changed"
        meddling = tmp_path / "meddling.py"
        meddling.write_text(
            "import json, pathlib, subprocess, sys\n"
            f"subprocess.run([sys.executable, '-m', 'message_handler', 'core-ai', 'put', 'edited', '-'],"
            f" input={json.dumps(json.dumps(core))}, text=True, check=True)\n"
            "file = pathlib.Path(sys.argv[1])\nfile.write_text(file.read_text().replace('Changed', 'Mine'))\n"
        )
        line = operator.fails(1, "core-ai", "edit", "edited", EDITOR=f"{sys.executable} {meddling}")
        assert "412 Precondition Failed" in line
        assert operator.json("core-ai", "show", "edited")["name"] == "Edited"
        operator.json("core-ai", "delete", "edited", "--yes")

    def test_locks_are_listed_and_released_when_it_is_meant(self, operator: Operator, api: Api) -> None:
        job_id = api.post("cli-lock", history=f"<USER>[slow:20] {CANARY}</USER><br>")["ai_job_id"]
        assert any(lock["ai_job_id"] == job_id for lock in operator.json("locks", "list")["locks"])
        assert operator.json("locks", "show", "cli-lock")["ai_job_id"] == job_id
        assert "--yes" in operator.fails(2, "locks", "release", "cli-lock")
        assert operator.json("locks", "release", "cli-lock", "--yes") == {"released": True}
        assert "--yes" in operator.fails(2, "jobs", "cancel", job_id)
        operator.json("jobs", "cancel", job_id, "--yes")
        assert operator.json("jobs", "show", job_id)["status"] == "cancelled"
        assert "409 Conflict" in operator.fails(1, "jobs", "cancel", job_id, "--yes")
        assert operator.json("locks", "cleanup", "--max-age-hours", "24", "--yes")["cleaned"] >= 0

    def test_a_human_takes_over_and_hands_back(self, operator: Operator, api: Api) -> None:
        api.ended(api.post("cli-human", history=f"<USER>[slow:0.1] {CANARY}</USER><br>")["ai_job_id"])
        assert operator.json("handoff", "cli-human", "human")["status"] == "handed_off"
        shown = operator.run("conversations", "show", "cli-human")
        assert "handed_off" in shown.stdout
        assert operator.json("handoff", "cli-human", "bot")["status"] == "active"

    def test_a_message_without_words_is_seen(self, operator: Operator, api: Api) -> None:
        photo = {"role": "user", "content": "", "message_id": "photo-1"}
        assert api.post("cli-photo|+1", messages=[photo])["status"] == "nothing_to_answer"
        for _ in range(100):
            shown = operator.run("conversations", "show", "cli-photo|+1").stdout
            if "[no words]" in shown:
                break
        assert "[no words]" in shown
        assert operator.json("conversations", "show", "cli-photo|+1")["turns"][0]["content"] == ""

    def test_dead_letters_are_listed_and_tried_again(self, operator: Operator) -> None:
        assert operator.json("dead-letters", "list")["deliveries"] == []
        assert operator.run("dead-letters", "list").stdout.startswith("nothing\n")
        assert "--yes" in operator.fails(2, "dead-letters", "redrive")
        assert operator.json("dead-letters", "redrive", "--yes") == {"redriven": 0}

    @pytest.mark.parametrize("answer", ["y\n", "n\n", "\n"])
    def test_at_a_terminal_it_asks(self, operator: Operator, answer: str) -> None:
        code, output = at_a_terminal(operator.url, answer, "dead-letters", "redrive")
        assert "[y/N]" in output
        assert (code, "redriven" in output) == ((0, True) if answer == "y\n" else (1, False))

    def test_a_narrow_terminal_gets_a_line_for_each_field(self, operator: Operator, api: Api) -> None:
        failed(api, "cli-narrow")
        _, output = at_a_terminal(operator.url, "", "jobs", "list", "--conversation", "cli-narrow", COLUMNS="60")
        assert any(line.split() == ["status", "failed"] for line in output.splitlines())
        assert all(len(line) <= 60 for line in output.splitlines())

    def test_usage_is_told_with_examples(self, operator: Operator) -> None:
        for arguments in ((), ("locks",), ("locks", "steal"), ("jobs", "list", "--status", "lost")):
            assert operator.run(*arguments).returncode == 2
        for arguments in (("--help",), ("jobs", "--help"), ("jobs", "retry", "--help")):
            shown = operator.run(*arguments)
            assert shown.returncode == 0
            assert "usage: message-handler" in shown.stdout
        assert "message-handler jobs retry" in operator.run("jobs", "retry", "--help").stdout
        assert "FILE" not in operator.fails(2, "bots", "put", "x", "/no/such/file")
        assert "not JSON" in operator.fails(2, "bots", "put", "x", "-", given=f"{{{CANARY}")


def at_a_terminal(url: str, typed: str, *arguments: str, **more: str) -> tuple[int, str]:
    """The exit code, and all that the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(url, **more)
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    seen = b""
    try:
        while select.select([ours], [], [], SECONDS)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the command has ended
                break
            if not part:
                break
            seen += part
    finally:
        os.close(ours)
    return process.wait(SECONDS), seen.decode().replace("\r\n", "\n")


@dataclass
class Service:
    """Answers with each of `first` once, then as set. It keeps its requests: method, path, headers, body."""

    status: int = 200
    answer: bytes = b'{"status": "healthy", "locks": []}'
    first: list[bytes] = field(default_factory=list)
    token_status: int = 200
    asked: list[tuple[str, str, Message, bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service.asked.append((self.command, self.path, self.headers, body))
            token = self.path == "/token"
            status = service.token_status if token else service.status
            answer = json.dumps({"access_token": f"from-{CANARY}"}).encode() if token else service.answer
            answer = service.first.pop(0) if service.first and not token else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


class TestSigningIn:
    CREDENTIALS: ClassVar = {"MESSAGE_HANDLER_CLIENT_ID": "ops", "MESSAGE_HANDLER_CLIENT_SECRET": f"secret-{CANARY}"}

    def test_a_token_goes_along_and_a_tenant_if_it_is_named(self, service: Service) -> None:
        operator = Operator(service.url + "/v1")
        done = operator.run("locks", "list", "--platform", "clinic", MESSAGE_HANDLER_TOKEN=f"t-{CANARY}")
        assert done.returncode == 0
        _, path, headers, _ = service.asked[0]
        assert (path, headers["Authorization"]) == ("/v1/admin/locks", f"Bearer t-{CANARY}")
        assert headers["X-Platform-Id"] == "clinic"
        assert CANARY not in done.stdout + done.stderr

    def test_client_credentials_get_one(self, service: Service) -> None:
        more = self.CREDENTIALS | {"MESSAGE_HANDLER_TOKEN_URL": service.url + "/token"}
        assert Operator(service.url).run("locks", "list", **more).returncode == 0
        (method, path, headers, body), (_, _, called, _) = service.asked
        assert (method, path, body) == ("POST", "/token", b"grant_type=client_credentials")
        assert headers["Authorization"].startswith("Basic ")
        assert called["Authorization"] == f"Bearer from-{CANARY}"

    def test_health_needs_none(self, service: Service) -> None:
        assert Operator(service.url).run("health", MESSAGE_HANDLER_TOKEN="t").returncode == 0
        assert "Authorization" not in service.asked[0][2]

    def test_an_operator_who_is_not_signed_in_is_told_so(self, service: Service) -> None:
        operator = Operator(service.url)
        assert "MESSAGE_HANDLER_TOKEN_URL is not set" in operator.fails(4, "locks", "list", **self.CREDENTIALS)
        assert operator.fails(4, "locks", "list", MESSAGE_HANDLER_TOKEN=f"two\n{CANARY}").count(CANARY) == 0
        service.token_status = 400
        more = self.CREDENTIALS | {"MESSAGE_HANDLER_TOKEN_URL": service.url + "/token"}
        assert CANARY not in operator.fails(4, "locks", "list", **more)
        service.status, service.answer = 401, b'{"message": "Unauthorized"}'
        assert operator.fails(4, "locks", "list").endswith("401 Unauthorized: sign in: message-handler login")

    def test_a_token_is_never_sent_in_plain_http_to_another_machine(self) -> None:
        assert "https" in Operator("http://api.example").fails(2, "locks", "list", MESSAGE_HANDLER_TOKEN="t")
        more = self.CREDENTIALS | {"MESSAGE_HANDLER_TOKEN_URL": "http://auth.example/token"}
        assert "MESSAGE_HANDLER_TOKEN_URL" in Operator("http://127.0.0.1:1").fails(2, "locks", "list", **more)


class TestAnswers:
    def test_unhealthy_is_an_exit_code(self, service: Service) -> None:
        service.answer = b'{"status": "unhealthy"}'
        assert Operator(service.url).run("status").returncode == 1
        service.status, service.answer = 503, b'{"status": "down"}'
        done = Operator(service.url).run("health")
        assert (done.returncode, done.stdout) == (1, "down\n")

    def test_a_problem_is_one_line(self, service: Service) -> None:
        problem = {"title": "Conflict", "status": 409, "detail": "job_id: the job has not failed"}
        service.status, service.answer = 409, json.dumps(problem).encode()
        line = Operator(service.url).fails(1, "jobs", "retry", "x")
        assert line == "message-handler: 409 Conflict: job_id: the job has not failed"
        service.status, service.answer = 502, b"<html>"
        assert Operator(service.url).fails(1, "locks", "list") == "message-handler: 502"
        service.status, service.answer = 200, b"<html>"
        assert "--url" in Operator(service.url).fails(1, "locks", "list")

    def test_the_command_is_installed_under_its_own_name(self, service: Service) -> None:
        installed = Path(sys.executable).with_name("message-handler")
        done = subprocess.run([installed, "health"], capture_output=True, env=environment(service.url), timeout=SECONDS)
        assert (done.returncode, done.stdout) == (0, b"healthy\n")

    def test_an_api_that_does_not_answer_is_another_exit_code(self) -> None:
        assert "can't be reached" in Operator("http://127.0.0.1:1").fails(3, "status")

    def test_an_answer_moves_no_cursor(self, service: Service) -> None:
        lock = {"conversation_id": "c\x1b[2J", "ai_job_id": "j\nx", "tier": "redis"}
        service.answer = json.dumps({"locks": [lock]}).encode()
        shown = Operator(service.url).run("locks", "list").stdout
        assert r"c\x1b[2J" in shown
        assert len(shown.splitlines()) == 2

    @pytest.mark.parametrize(
        "arguments", [["status"], ["status", "--json"], ["conversations", "export", "c-1"]], ids=str
    )
    def test_a_patients_control_characters_are_shown_as_escapes(self, service: Service, arguments: list[str]) -> None:
        said = {f"said{mark}": f"a{mark}b" for mark in (*COMMANDS, *DIRECTIONS)} | {"list": [*COMMANDS, *DIRECTIONS]}
        answer: dict[str, Any] = {"status": "healthy", "records": [said], "next": None, **said}
        service.answer = json.dumps(answer).encode()
        done = Operator(service.url).run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "a\nb" not in done.stdout
        assert not set(done.stdout) & {*COMMANDS, *DIRECTIONS} - {"\n"}
        if "export" in arguments:
            assert json.loads(done.stdout)["records"] == [said]
        elif "--json" in arguments:
            assert json.loads(done.stdout) == answer
        else:
            assert r"a\x1bb" in done.stdout

    @pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
    def test_what_people_write_is_shown_as_it_is(self, service: Service, options: list[str]) -> None:
        words = ["đau đầu", "頭痛\u3000です", "می\u200cخواهم", "👩\u200d⚕️", "10\xa0mg", "a\u0301"]
        service.answer = json.dumps({"status": "healthy", "said": words}).encode()
        shown = Operator(service.url).run("status", *options).stdout
        assert [each for each in words if each not in shown] == []

    def test_a_path_is_only_what_was_named(self, service: Service) -> None:
        Operator(service.url).run("locks", "show", "../bots?x#y")
        assert service.asked[0][1] == "/admin/locks/..%2Fbots%3Fx%23y"

    def test_an_export_is_readable_for_its_owner_alone_and_overwrites_nothing(
        self, service: Service, tmp_path: Path
    ) -> None:
        exported = {"conversation_id": "c-1", "records": [{"kind": "turn", "content": "đau đầu"}]}
        service.answer = json.dumps(exported | {"next": None}).encode()
        file = tmp_path / "patient.json"
        operator = Operator(service.url)
        assert operator.run("conversations", "export", "c-1", "--output", str(file)).returncode == 0
        assert service.asked[0][:2] == ("GET", "/admin/conversations/c-1/export")
        assert json.loads(file.read_text(encoding="utf-8")) == exported
        assert file.stat().st_mode & 0o777 == 0o600
        assert "exists" in operator.fails(2, "conversations", "export", "c-1", "--output", str(file))
        assert json.loads(operator.run("conversations", "export", "c-1").stdout) == exported

    def test_an_export_is_whole_however_many_pages_it_has(self, service: Service, tmp_path: Path) -> None:
        pages = [([{"kind": "conversation"}], "1.a b&"), ([{"kind": "turn"}], "2.x"), ([{"kind": "job"}], None)]
        service.first = [
            json.dumps({"conversation_id": "c-1", "records": records, "next": more}).encode() for records, more in pages
        ]
        done = Operator(service.url).run("conversations", "export", "c-1")
        assert done.returncode == 0
        assert json.loads(done.stdout) == {
            "conversation_id": "c-1",
            "records": [{"kind": "conversation"}, {"kind": "turn"}, {"kind": "job"}],
        }
        assert [urlsplit(path).query for _, path, _, _ in service.asked] == ["", "after=1.a+b%26", "after=2.x"]

    def test_an_export_that_breaks_off_is_none(self, service: Service, tmp_path: Path) -> None:
        service.first = [b'{"conversation_id": "c-1", "records": [{"kind": "conversation"}], "next": "1.x"}']
        service.answer = b"<html>"
        file = tmp_path / "patient.json"
        Operator(service.url).fails(1, "conversations", "export", "c-1", "--output", str(file))
        assert not file.exists()

    def test_an_erasure_asks_first(self, service: Service) -> None:
        operator = Operator(service.url)
        operator.fails(2, "conversations", "erase", "c-1")
        assert service.asked == []
        assert operator.run("conversations", "erase", "c-1", "--yes").returncode == 0
        assert service.asked[0][:2] == ("DELETE", "/admin/conversations/c-1")
