"""Operators sign in on the command line: a process, a browser, and a stand-in of Cognito."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.cognito import CLIENT_ID, Cognito, running, until
from tests.integration.conftest import CANARY
from tests.integration.test_command_line import COMMAND, SECONDS, environment

#: The line before the address.
SIGN_IN = "sign in at this address:\n"


@dataclass
class Person:
    """An operator with a home and a browser. No token may be in what its commands print."""

    cognito: Cognito
    home: Path
    seen: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.cognito.api_url, XDG_STATE_HOME=str(self.home), BROWSER=str(self.home / "browser"))

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, env=self.environment | more, timeout=SECONDS
        )
        self.seen += [done.stdout, done.stderr]
        return done

    @property
    def where(self) -> list[str]:
        return ["--sign-in-url", self.cognito.sign_in_url, "--client-id", CLIENT_ID]

    def login(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("login", "--callback-url", self.cognito.callback_url, *(arguments or self.where), **more)

    def begins(self, *command: str) -> subprocess.Popen[str]:
        """Start `login` without a browser. The test does the browser's part."""
        return subprocess.Popen(
            [*(command or COMMAND), "login", *self.where, "--callback-url", self.cognito.callback_url, "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def ends(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end. Returns the exit code and the last line."""
        output = process.communicate(timeout=SECONDS)
        self.seen += output
        assert "Traceback" not in "".join(output)
        return process.returncode, "".join(reversed(output)).splitlines()[-1]

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.home / "message-handler").glob("*") if path.is_file()]

    def keeps(self, **changes: object) -> None:
        """Change fields in the session's file."""
        (file,) = self.files
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def told(code: int, done: subprocess.CompletedProcess[str]) -> str:
    """The single line of a failed command's error."""
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("message-handler: ")
    return line


def address(process: subprocess.Popen[str]) -> str:
    assert process.stderr
    assert process.stderr.readline() == SIGN_IN
    return process.stderr.readline().strip()


def come_back(url: str) -> requests.Response:
    """Open the address and follow its redirects, as a browser does."""
    session = requests.Session()
    session.trust_env = False
    return session.get(url, timeout=SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def cognito() -> Iterator[Cognito]:
    with running(Cognito(f"http://localhost:{free_port()}/callback")) as cognito:
        yield cognito


@pytest.fixture
def person(cognito: Cognito, tmp_path: Path) -> Iterator[Person]:
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys, urllib.request as request\n"
        "request.build_opener(request.ProxyHandler({})).open(sys.argv[1]).read()\n"
    )
    browser.chmod(0o700)
    person = Person(cognito, tmp_path)
    yield person
    assert CANARY not in "".join(person.seen)


class TestLogin:
    def test_a_person_signs_in_with_a_browser_and_is_signed_in(self, person: Person) -> None:
        assert person.run("status").returncode == 4
        done = person.login()
        assert (done.returncode, done.stdout) == (0, f"signed in at {person.cognito.api_url}\n"), done.stderr
        assert done.stderr.startswith(SIGN_IN)
        assert person.run("status").returncode == 0
        (asked,) = person.cognito.authorized
        assert asked["scope"] == "openid message-handler/admin message-handler/messages"
        (form,) = person.cognito.posted
        assert form["code_verifier"] not in done.stderr

    def test_the_environment_says_where_and_the_last_time_does(self, person: Person) -> None:
        callback = ("--callback-url", person.cognito.callback_url)
        assert "SignInUrl" in told(2, person.login(*callback))
        assert "OperatorClientId" in told(
            2, person.login(*callback, MESSAGE_HANDLER_SIGN_IN_URL=person.cognito.sign_in_url)
        )
        where = {"MESSAGE_HANDLER_SIGN_IN_URL": person.cognito.sign_in_url, "MESSAGE_HANDLER_CLIENT_ID": CLIENT_ID}
        assert person.login(*callback, **where).returncode == 0
        assert person.login(*callback, "--json").stdout.startswith('{\n  "signed_in": true')

    def test_no_two_share_a_state_or_a_challenge(self, person: Person) -> None:
        assert [person.login().returncode for _ in range(2)] == [0, 0]
        first, second = person.cognito.authorized
        assert first["state"] != second["state"]
        assert first["code_challenge"] != second["code_challenge"]

    def test_only_this_user_can_read_what_is_kept(self, person: Person) -> None:
        folder = person.home / "message-handler"
        folder.mkdir(mode=0o755)
        previous = os.umask(0)
        try:
            assert person.login().returncode == 0
        finally:
            os.umask(previous)
        (file,) = folder.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert CANARY in file.read_text()

    def test_each_api_has_a_session_of_its_own(self, person: Person) -> None:
        assert person.login().returncode == 0
        assert person.run("status", "--url", person.cognito.url + "/v2").returncode == 4
        assert person.run("status", "--url", person.cognito.api_url + "/").returncode == 0

    def test_what_the_environment_holds_goes_before(self, person: Person) -> None:
        done = person.login(MESSAGE_HANDLER_TOKEN="another")
        assert done.stderr.endswith("MESSAGE_HANDLER_TOKEN is set and takes precedence over this session: unset it\n")
        done = person.run("status", MESSAGE_HANDLER_TOKEN="another")
        assert (done.returncode, done.stderr) == (4, "message-handler: 401 Unauthorized\n")

    def test_the_browser_is_told_nothing_but_that_it_may_go(self, person: Person) -> None:
        process = person.begins()
        url = address(process)
        parts = urlsplit(person.cognito.callback_url)
        idle = socket.create_connection(("127.0.0.1", parts.port or 0))  # browsers open idle connections
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=SECONDS)
        for method, path, status in (("GET", f"/{CANARY}", 404), (f"X{CANARY}", "/callback", 501)):
            connection.request(method, path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, b"You may close this page.\n")
            assert CANARY not in answer.reason + str(answer.headers)
            connection.close()
        answered = come_back(url)
        assert answered.text == "You may close this page.\n"
        assert answered.headers["Cache-Control"] == "no-store"
        assert answered.history[0].status_code == 302
        assert person.ends(process)[0] == 0
        idle.close()

    def test_a_browser_may_stay_open(self, person: Person) -> None:
        browser, closed, close = (person.home / name for name in ("browser", "closed", "close"))
        with browser.open("a") as script:
            script.write(
                "import os, pathlib, time\nos.close(1)\nos.close(2)\nend = time.monotonic() + 20\n"
                f"while time.monotonic() < end and not pathlib.Path({str(close)!r}).exists(): time.sleep(0.05)\n"
                f"pathlib.Path({str(closed)!r}).touch()\n"
            )
        assert person.login().returncode == 0
        assert not closed.exists()
        close.touch()
        until(closed.exists)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "callback",
        ["", "?code=c", "?code=c&state=", "?code=c&state=another", "?state=%ff&error=access_denied", "?error=e"],
    )
    def test_a_callback_of_another_sign_in_and_the_command_waits_for_its_own(
        self, person: Person, callback: str
    ) -> None:
        process = person.begins()
        url = address(process)
        answer = come_back(person.cognito.callback_url + callback)
        assert (answer.status_code, answer.text.partition(".")[0]) == (
            400,
            "This is not the sign-in that was started in the terminal",
        )
        assert person.cognito.posted == []
        assert come_back(url).status_code == 200
        assert person.ends(process) == (0, f"signed in at {person.cognito.api_url}")

    def test_a_second_callback(self, person: Person) -> None:
        person.cognito.may_answer.clear()
        process = person.begins()
        url = address(process)
        come_back(url)
        until(lambda: person.cognito.posted)
        with pytest.raises(requests.ConnectionError):
            come_back(url)
        person.cognito.may_answer.set()
        assert person.ends(process)[0] == 0
        assert len(person.cognito.posted) == 1

    @pytest.mark.parametrize(
        ("refusal", "what"),
        [("access_denied", "access was denied"), ("invalid_scope", "OperatorClientId"), (f"\x1b{CANARY}", "try again")],
    )
    def test_a_refused_operator_is_told_what_to_do(self, person: Person, refusal: str, what: str) -> None:
        person.cognito.refusal = refusal
        line = told(4, person.login())
        assert what in line
        assert "\x1b" not in line

    def test_a_code_that_is_worth_nothing(self, person: Person) -> None:
        process = person.begins()
        url = address(process)
        state = url.partition("&state=")[2].partition("&")[0]
        come_back(f"{person.cognito.callback_url}?code=stolen&state={state}")
        assert person.ends(process) == (
            4,
            "message-handler: the session has ended: sign in again: message-handler login",
        )

    def test_a_server_that_fails(self, person: Person) -> None:
        person.cognito.status = 503
        assert "answers 503: try again later" in told(3, person.login())
        person.cognito.status = 200
        assert "--sign-in-url" in told(4, person.login())
        assert person.files == []

    def test_a_port_that_is_taken(self, person: Person) -> None:
        port = urlsplit(person.cognito.callback_url).port
        with socket.create_server(("127.0.0.1", port or 0)):
            line = told(4, person.login())
        assert f"port {port} is in use" in line
        assert "--callback-url" in line
        assert person.cognito.authorized == []

    def test_addresses_that_a_code_or_a_token_must_not_go_to(self, person: Person) -> None:
        for given in ("https://example.com/callback", "http://example.com:80/callback", "http://localhost/callback"):
            assert "--callback-url" in told(2, person.login(*person.where, "--callback-url", given, "--no-browser"))
        for given in ("http://sign.in/oauth2/authorize", "https://sign.in", "https://sign.in/oauth2/authorize?x=y"):
            assert "--sign-in-url" in told(2, person.login("--sign-in-url", given, "--client-id", CLIENT_ID))
        assert "ApiUrl" in told(2, person.login(*person.where, MESSAGE_HANDLER_URL=""))

    def test_a_sign_in_that_never_comes_back_is_given_up(self, person: Person) -> None:
        impatient = "from message_handler.cli import login, main; login.PATIENCE = 0.5; raise SystemExit(main())"
        code, line = person.ends(person.begins(sys.executable, "-c", impatient))
        assert code == 4
        assert "the browser did not come back within 0.5 seconds: try again" in line

    def test_an_interrupted_one_leaves_nothing(self, person: Person) -> None:
        process = person.begins()
        address(process)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS) == ("", "")
        assert process.returncode == 130
        assert person.files == []
        socket.create_server(("127.0.0.1", urlsplit(person.cognito.callback_url).port or 0)).close()


class TestAnEndedToken:
    @pytest.fixture(autouse=True)
    def signed_in(self, person: Person) -> None:
        assert person.login().returncode == 0
        person.cognito.posted.clear()

    def test_is_refreshed_once_and_kept(self, person: Person) -> None:
        person.keeps(expires_at=0)
        person.cognito.access_tokens.clear()
        assert person.run("status").returncode == 0
        assert person.run("locks", "list").returncode == 0
        (form,) = person.cognito.posted
        assert form["grant_type"] == "refresh_token"
        (file,) = person.files
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_text())["refresh_token"] in person.cognito.refresh_tokens

    def test_a_token_that_the_api_refuses_is_refreshed_too(self, person: Person) -> None:
        person.cognito.access_tokens.clear()
        assert person.run("status").returncode == 0
        assert len(person.cognito.posted) == 1

    @pytest.mark.parametrize("expires_at", [0, 1e12])
    def test_that_no_refreshing_helps_is_said(
        self, person: Person, monkeypatch: pytest.MonkeyPatch, expires_at: float
    ) -> None:
        person.keeps(expires_at=expires_at)
        monkeypatch.setattr(person.cognito, "api", lambda _: (401, {"message": "Unauthorized"}, {}))
        line = told(4, person.run("status"))
        assert line == "message-handler: 401 Unauthorized: sign in again: message-handler login"
        assert len(person.cognito.posted) == 1

    def test_after_a_shift_one_signs_in_again(self, person: Person) -> None:
        person.keeps(expires_at=0)
        person.cognito.refresh_tokens.clear()
        assert told(4, person.run("status")).endswith("sign in again: message-handler login")
        assert person.login("--json").returncode == 0  # it remembers the address
        assert person.run("status").returncode == 0

    def test_a_server_that_is_away_is_another_thing(self, person: Person) -> None:
        person.keeps(expires_at=0)
        person.cognito.status = 500
        assert "answers 500: try again later" in told(3, person.run("status"))

    def test_a_file_that_is_none_of_ours_is_no_session(self, person: Person) -> None:
        (file,) = person.files
        for text in ("", "[]", '{"access_token": 1}', f'{{"{CANARY}'):
            file.write_text(text)
            assert told(4, person.run("status")) == "message-handler: 401 Unauthorized: sign in: message-handler login"


class TestLogout:
    def test_nothing_is_kept_and_the_session_is_over(self, person: Person) -> None:
        assert person.login().returncode == 0
        assert person.cognito.refresh_tokens
        done = person.run("logout")
        assert (done.returncode, done.stderr) == (0, "")
        assert person.cognito.refresh_tokens == set()
        assert person.files == []
        assert person.run("status").returncode == 4
        assert person.run("logout").returncode == 0

    def test_if_the_server_is_away_the_session_is_forgotten_too(self, person: Person) -> None:
        assert person.login().returncode == 0
        person.cognito.status = 503
        done = person.run("logout")
        assert done.returncode == 0
        assert "within 12 hours" in done.stderr
        assert person.files == []

    def test_no_home_is_no_session(self, person: Person) -> None:
        """A container's user may have no home."""
        homeless = (
            "import pathlib\n"
            "def home(): raise RuntimeError('none')\n"
            "pathlib.Path.home = home\n"
            "from message_handler.cli import main\nraise SystemExit(main())"
        )
        for arguments, code, line in (
            (["status"], 4, "sign in: message-handler login"),
            (["logout"], 0, ""),
            (["login", *person.where], 2, "XDG_STATE_HOME"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", homeless, *arguments],
                capture_output=True,
                text=True,
                env=person.environment | {"XDG_STATE_HOME": ""},
                timeout=SECONDS,
            )
            assert (done.returncode, line in done.stderr, "Traceback" in done.stderr) == (code, True, False)
        assert person.cognito.authorized == []
