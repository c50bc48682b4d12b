"""The whole product as deployed: the template on the local host. All these tests share it.

Each message in these tests contains `CANARY`. At the end no log line, metric or error body may contain it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.stack import LocalStack
from tests.published import assert_published, route_of

CANARY = "c4n4ry"
#: Long enough for a test's requests while the AI works, on a machine with two cores.
AI_DELAY_MS = 5_000
#: Long timeouts, so that a loaded machine does not look like dead servers.
PATIENCE = {"REDIS_TIMEOUT_MS": "10000", "DATABASE_TIMEOUT": "10"}
#: As in `make run`: platforms' webhooks are on this machine, and configuration holds secrets. Limits are the defaults.
SETTINGS = {"EGRESS_ALLOW_LOOPBACK": "true", "ALLOW_LITERAL_SECRETS": "true", **PATIENCE}


class Api:
    """Calls the API from any thread, keeps the bodies of errors, and compares each answer with the description."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.problems: list[str] = []
        self._sessions = threading.local()

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
            self._sessions.session.trust_env = False
        response: requests.Response = self._sessions.session.request(method, self.url + path, timeout=60, **arguments)
        if response.status_code >= 400:
            self.problems.append(response.text)
        route = route_of(method, path.partition("?")[0])
        assert_published(method, route, response.status_code, response.headers, response.json())
        return response

    def post(self, conversation_id: str, **body: Any) -> dict[str, Any]:
        """Post a message, which must be accepted. Returns the answer."""
        response = self.call("POST", f"/conversations/{conversation_id}/messages", json=body)
        assert response.status_code == 202, response.text
        result: dict[str, Any] = response.json()
        return result

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until this job has ended, and return it. Follows no `superseded_by`."""
        for _ in range(6):
            job: dict[str, Any] = self.call("GET", f"/jobs/{job_id}?wait=20").json()
            if job["status"] in ("completed", "failed", "cancelled"):
                return job
        pytest.fail(f"job {job_id} did not end in two minutes: it is {job['status']}")

    def turns(self, conversation_id: str) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = self.call("GET", f"/conversations/{conversation_id}").json()["turns"]
        return turns


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    environment = {"SIMULATED_AI_DELAY_MS": str(AI_DELAY_MS)}
    given = {name: os.environ[name] for name in ("REDIS_URL", "DATABASE_URL") if name in os.environ}
    with LocalStack(environment=environment | given, settings=SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def api(stack: LocalStack) -> Iterator[Api]:
    api = Api(stack.url)
    yield api
    assert_private("the functions' log", stack.log_file.read_text())
    assert_private("an error body", "\n".join(api.problems))


def assert_private(where: str, text: str) -> None:
    found = [line for line in text.splitlines() if CANARY in line]
    assert not found, f"a patient's words are in {where}: {found[0]}"
