"""Thousands of good and bad requests, which schemathesis makes from the published description.

They have their own service, because they change its configuration. It may send to no host, not even to this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.stack import LocalStack
from local.tokens import Issuer
from openapi.admin_routes import BOT, CORE_AI
from openapi.document import EXAMPLES
from openapi.routes import MESSAGE
from tests.integration.conftest import PATIENCE
from tests.published import DOCUMENT, routes

PROGRAM = Path(sys.executable).with_name("schemathesis")
SEED = 20260615
#: Requests for each route and phase: FUZZ_EXAMPLES=100 makes more.
EXAMPLES_EACH = int(os.environ.get("FUZZ_EXAMPLES", "8"))
#: The longest run, on a loaded machine.
SECONDS = 240
PHASES = "examples,coverage,fuzzing,stateful"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
TENANT = "default"
REPORT = "report.ndjson"
#: The default platform stays.
NEVER = {("DELETE", "/admin/platforms/{platform_id}")}


class Target:
    """A running service, and a token if it needs one."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = requests.request(method, self.url + path, json=body, headers=self.headers, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def ended_job(self, conversation_id: str, message: dict[str, object]) -> str:
        job_id: str = self.call("POST", f"/conversations/{conversation_id}/messages", message)["ai_job_id"]
        until = time.monotonic() + 30
        while self.call("GET", f"/jobs/{job_id}?wait=1")["status"] not in ("completed", "failed"):
            assert time.monotonic() < until
        return job_id

    def waiting_job(self, conversation_id: str) -> str:
        """A job that waits for longer than a run of this test takes: the job before it runs for 100 s."""
        slow = {"history": "<USER>[slow:100]</USER>", "double_texting": "enqueue"}
        self.call("POST", f"/conversations/{conversation_id}/messages", slow)
        answer = self.call(
            "POST", f"/conversations/{conversation_id}/messages", slow | {"message_id": MESSAGE["message_id"]}
        )
        job_id: str = answer["ai_job_id"]
        return job_id

    def document(self) -> dict[str, Any]:
        """The description with ids of existing things. A route that ends a thing has its own."""
        for bot_id, core_ai_id in ((EXAMPLES["bot_id"], EXAMPLES["core_ai_id"]), ("deleted", "deleted")):
            self.call("PUT", f"/admin/core-ai/{core_ai_id}", CORE_AI)
            self.call("PUT", f"/admin/bots/{bot_id}", BOT)
        for conversation_id in (EXAMPLES["conversation_id"], "erased"):
            self.call("POST", f"/conversations/{conversation_id}/messages", MESSAGE)
        job_id = self.ended_job("answered", MESSAGE)
        failed = self.ended_job("failed", {"history": "<USER>[fail]</USER>"})
        slow, _, _ = map(self.waiting_job, ("slow", "locked", "unsent"))
        drills = ({"conversation_id": conversation_id} for conversation_id in ("raised", "taken"))
        raised, taken = (self.call("POST", "/admin/safety/drill", drill)["job_id"] for drill in drills)
        self.call("POST", f"/admin/safety/raised/{taken}/take")
        document: dict[str, Any] = json.loads(json.dumps(DOCUMENT).replace(EXAMPLES["job_id"], job_id))
        for method, path, example in (
            ("post", "/admin/jobs/{job_id}/retry", failed),
            ("delete", "/jobs/{job_id}", slow),
            ("post", "/admin/safety/raised/{job_id}/take", raised),
            ("post", "/admin/safety/raised/{job_id}/close", taken),
            ("get", "/admin/locks/{conversation_id}", "locked"),
            ("delete", "/admin/locks/{conversation_id}", "locked"),
            ("delete", "/admin/conversations/{conversation_id}", "erased"),
            ("delete", "/admin/bots/{bot_id}", "deleted"),
            ("delete", "/admin/core-ai/{core_ai_id}", "deleted"),
            ("delete", "/conversations/{conversation_id}/messages/{message_id}", "unsent"),
        ):
            document["paths"][path][method]["parameters"][0]["example"] = example
        # For a tenant that no token names, every route answers the same.
        document["components"]["parameters"]["X-Platform-Id"]["schema"] = {"enum": [TENANT, "another"]}
        return document

    def fuzz(
        self, document: dict[str, Any], folder: Path, *more: str, phases: str = PHASES, examples: int = EXAMPLES_EACH
    ) -> subprocess.CompletedProcess[str]:
        file = folder / "openapi.json"
        file.write_text(json.dumps(document))
        headers = [f"--header={name}: {value}" for name, value in self.headers.items()]
        return subprocess.run(
            [
                PROGRAM, "run", file, "--url", self.url, "--seed", str(SEED), "--max-examples", str(examples),
                "--phases", phases, "--checks", ",".join(CHECKS), "--workers", "2",
                "--request-timeout", "40", "--generation-database", "none", "--no-color",
                "--report", "ndjson", "--report-ndjson-path", REPORT, *headers, *more,
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )  # fmt: skip


def running(issuer: Issuer | None = None) -> LocalStack:
    environment = {"SIMULATED_AI_DELAY_MS": "0", "MAX_WAIT_SECONDS": "1"}
    given = {name: os.environ[name] for name in ("REDIS_URL", "DATABASE_URL") if name in os.environ}
    return LocalStack(environment=environment | given, settings=PATIENCE, issuer=issuer)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with running() as stack:
        yield Target(stack.url)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    issuer = Issuer(tmp_path_factory.mktemp("fuzz") / "key.pem")
    with running(issuer) as stack:
        yield Target(stack.url, issuer.issue([TENANT], ["messages", "admin"]))


def answered(report: Path) -> set[tuple[str, str]]:
    """(method, path) of each route that succeeded at least once."""
    found = set()
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for name, interaction in recorder.get("interactions", {}).items():
            response, case = interaction.get("response"), recorder["cases"].get(name)
            if case and response and response["status_code"] < 300:
                found.add((case["value"]["method"], case["value"]["path"]))
    return found


def test_nothing_that_is_sent_breaks_it_or_its_promises(target: Target, tmp_path: Path) -> None:
    run = target.fuzz(target.document(), tmp_path)
    assert run.returncode == 0, run.stdout[-10_000:]
    assert answered(tmp_path / REPORT) == routes() - NEVER


def test_nothing_that_is_sent_breaks_a_service_with_tokens(guarded: Target, tmp_path: Path) -> None:
    document = guarded.document()
    # With both headers at once, which schemathesis often sends, the API reads no record.
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [
                it for it in operation["parameters"] if not it.get("$ref", "").endswith("-Match")
            ]
    run = guarded.fuzz(document, tmp_path, phases="examples,coverage")
    assert run.returncode == 0, run.stdout[-10_000:]
    assert answered(tmp_path / REPORT) == routes() - NEVER


def test_an_answer_that_is_not_as_promised_is_found(target: Target, tmp_path: Path) -> None:
    document = target.document()
    document["components"]["schemas"]["Job"]["properties"]["restarts"] = {"type": "string"}
    run = target.fuzz(document, tmp_path, "--include-path", "/jobs/{job_id}", phases="examples")
    assert run.returncode == 1
    assert "restarts" in run.stdout
