"""The admin function serves the operators' console: its files, their headers and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from message_handler.domain.double_texting import POLICIES
from message_handler.http.console import SCOPES, Console
from message_handler.http.rest import Call, serve
from message_handler.metrics import Meter
from message_handler.settings import Settings
from tests.unit.service import CANARY, Answer, Service

SIGN_IN = "https://clinic.auth.eu-central-1.amazoncognito.com"
FOLDER = Path(__file__).parents[2] / "functions" / "admin" / "console"


def policy(answer: Answer) -> dict[str, str]:
    """The Content-Security-Policy, by directive."""
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def ask(service: Service, name: str = "admin-console", file: str | None = None, **headers: str) -> Answer:
    event = service.event(name)
    more = {"pathParameters": {"file": file}} if file else {}
    return service.http("admin", event | {"headers": event["headers"] | headers} | more)


@pytest.fixture
def closed(service: Service) -> Service:
    """The service as deployed: it needs a token, and these requests have none."""
    service.use(settings=Settings(auth_required=True))
    return service


class TestFiles:
    def test_the_page_needs_no_token(self, closed: Service) -> None:
        answer = ask(closed)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert answer.body == (FOLDER / "index.html").read_text()

    def test_each_file_of_the_folder_comes_whole_with_its_type(self, closed: Service) -> None:
        types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
        files = [file for file in FOLDER.iterdir() if file.suffix != ".html"]
        assert {"app.js", *types} & {file.name for file in files}
        for file in files:
            answer = ask(closed, "admin-console-file", file.name)
            assert (answer.status, answer.body) == (200, file.read_text()), file.name
            assert answer.headers["Content-Type"] == f"{types[file.suffix]}; charset=utf-8"

    @pytest.mark.parametrize("file", ["pane.js", "records.js"])
    def test_each_double_texting_policy_can_be_chosen(self, file: str) -> None:
        said = (FOLDER / file).read_text()
        assert [policy for policy in POLICIES if policy not in said] == []

    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "..",
            "index.html",
            "../app.py",
            "%2e%2e%2fapp.py",
            "/etc/passwd",
            "app.js/",
            "./app.js",
            "APP.JS",
            "app.js\0",
            "none.js",
            CANARY,
        ],
    )
    def test_no_other_name_is_one(self, service: Service, name: str) -> None:
        answer = ask(service, "admin-console-file", name or "%")
        assert (answer.status, answer.body["field"]) == (404, "file")

    def test_only_files_of_the_folder_itself_that_a_page_may_have(self, tmp_path: Path) -> None:
        folder = tmp_path / "console"
        (folder / "sub.js").mkdir(parents=True)
        for name in ("app.js", "page.css", "icon.svg", "other.html", "app.py", ".hidden.js", "app.js~", "a b.js"):
            (folder / name).write_text(name)
        (tmp_path / "secret.js").write_text("secret")
        (folder / "link.js").symlink_to(tmp_path / "secret.js")
        routes = Console(folder, Settings).routes()

        def status(file: str) -> int:
            event = {"httpMethod": "GET", "resource": "/console/{file}", "pathParameters": {"file": file}}
            answer = serve(routes, event, Settings, meter=Meter(), scope="admin", open_routes=routes)
            return int(answer["statusCode"])

        names = {file.name for file in folder.iterdir()} | {"../secret.js"}
        assert {name for name in names if status(name) == 200} == {"app.js", "page.css", "icon.svg"}

    def test_a_browser_that_has_a_file_already_gets_304(self, service: Service) -> None:
        first = ask(service)
        tag = first.headers["ETag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = ask(service, **{"If-None-Match": known})
            assert (again.status, again.body) == (304, "")
            assert again.headers["ETag"] == tag
            assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
        assert ask(service, **{"if-none-match": '"other"'}).status == 200
        assert first.headers["Cache-Control"] == "no-cache"
        assert ask(service, "admin-console-file").headers["ETag"] != tag

    def test_a_changed_file_has_another_tag(self, tmp_path: Path) -> None:
        def tag(text: str) -> str:
            (tmp_path / "index.html").write_text(text)
            answer: Any = Console(tmp_path, Settings).page(Call({}, None))
            return str(answer[2]["ETag"])

        assert tag("one") == tag("one") != tag("two")


class TestHeaders:
    @pytest.mark.parametrize("name", ["admin-console", "admin-console-file"])
    def test_the_page_can_do_nothing_but_what_it_is_for(self, service: Service, name: str) -> None:
        answer = ask(service, name)
        assert policy(answer) == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            "connect-src": f"'self' {SIGN_IN}",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not any(name.lower().startswith("access-control") for name in answer.headers)

    def test_without_a_sign_in_it_speaks_to_its_own_server_alone(self, service: Service) -> None:
        answer = service.http("admin", service.event("admin-console", stageVariables=None))
        assert policy(answer)["connect-src"] == "'self'"


class TestSettings:
    def test_people_sign_in_with_the_stacks_own_cognito(self, closed: Service) -> None:
        answer = ask(closed, "admin-console-settings")
        assert answer.body == {
            "sign_in": {
                "authorize_url": f"{SIGN_IN}/oauth2/authorize",
                "token_url": f"{SIGN_IN}/oauth2/token",
                "revoke_url": f"{SIGN_IN}/oauth2/revoke",
                "logout_url": f"{SIGN_IN}/logout",
                "client_id": "4fqpexample0operators0client",
                "scopes": list(SCOPES),
            },
            "outages": False,
            "idle_seconds": 900,
            "stale_seconds": 8.0,
            "wake_seconds": 50.0,
        }
        assert answer.headers["Cache-Control"] == "no-cache"

    @pytest.mark.parametrize("variables", [None, {}, {"signIn": SIGN_IN}, {"operatorClient": "c"}])
    def test_without_a_login_server_a_token_is_pasted(self, closed: Service, variables: Any) -> None:
        answer = closed.http("admin", closed.event("admin-console-settings", stageVariables=variables))
        assert answer.body["sign_in"] == {"paste": True}

    def test_without_authorisation_no_token_is_asked_for(self, service: Service) -> None:
        assert ask(service, "admin-console-settings").body["sign_in"] is None

    def test_the_deployment_says_how_long_an_operator_may_rest(self, service: Service) -> None:
        service.use(settings=Settings.from_environment({"CONSOLE_IDLE_MINUTES": "5", "AUTH_REQUIRED": "false"}))
        assert ask(service, "admin-console-settings").body["idle_seconds"] == 300

    def test_outages_are_for_the_host_that_has_them(self, service: Service) -> None:
        service.use(settings=Settings.from_environment({"LOCAL_OUTAGES": "true", "AUTH_REQUIRED": "false"}))
        assert ask(service, "admin-console-settings").body["outages"] is True

    def test_a_lock_looks_stuck_when_the_service_thinks_so(self, service: Service) -> None:
        variables = {"HEARTBEAT_STALE": "9", "HEARTBEAT_EVERY": "3", "WAKE_AFTER": "70", "AUTH_REQUIRED": "false"}
        service.use(settings=Settings.from_environment(variables))
        body = ask(service, "admin-console-settings").body
        assert (body["stale_seconds"], body["wake_seconds"]) == (9, 70)


def test_the_code_that_a_sign_in_brings_back_is_in_no_log(closed: Service) -> None:
    query = {"code": CANARY, "state": CANARY}
    event = closed.event(
        "admin-console",
        queryStringParameters=query,
        multiValueQueryStringParameters={name: [value] for name, value in query.items()},
    )
    assert closed.http("admin", event).status == 200  # `output` searches all that was printed
