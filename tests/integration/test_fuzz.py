"""Thousands of requests that somebody else's program makes of the published description, good and bad ones.

On a service of their own, for they configure whatever they like; it may reach nobody, not even on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.stack import LocalStack
from openapi.routes import BOT, CORE_AI, EXAMPLES, MESSAGE
from tests.published import DOCUMENT

PROGRAM = Path(sys.executable).with_name("schemathesis")
SEED = 20260615
#: For each route and phase. All of it takes some 20 s on two cores.
EXAMPLES_EACH = 30
SECONDS = 120
PHASES = "examples,coverage,fuzzing,stateful"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def job_id(service: str) -> str:
    """A job that there is, of the conversation and the bot that the description's examples name."""

    def call(method: str, path: str, body: object) -> Any:
        answer = requests.request(method, f"{service}{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    call("PUT", f"/admin/core-ai/{EXAMPLES['core_ai_id']}", CORE_AI)
    call("PUT", f"/admin/bots/{EXAMPLES['bot_id']}", BOT)
    accepted = call("POST", f"/conversations/{EXAMPLES['conversation_id']}/messages", MESSAGE)
    return str(accepted["ai_job_id"])


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    environment = {"SIMULATED_AI_DELAY_MS": "0"}
    given = {name: os.environ[name] for name in ("REDIS_URL", "DATABASE_URL") if name in os.environ}
    with LocalStack(environment=environment | given) as stack:
        yield stack.url


def fuzz(
    service: str, document: dict[str, Any], job_id: str, folder: Path, *more: str, phases: str = PHASES
) -> subprocess.CompletedProcess[str]:
    file = folder / "openapi.json"
    file.write_text(json.dumps(document).replace(EXAMPLES["job_id"], job_id))
    return subprocess.run(
        [
            PROGRAM, "run", file, "--url", service, "--seed", str(SEED), "--max-examples", str(EXAMPLES_EACH),
            "--phases", phases, "--checks", ",".join(CHECKS), "--workers", "2",
            "--request-timeout", "40", "--generation-database", "none", "--no-color", *more,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )  # fmt: skip


def test_nothing_that_is_sent_breaks_it_or_its_promises(service: str, job_id: str, tmp_path: Path) -> None:
    run = fuzz(service, DOCUMENT, job_id, tmp_path)
    assert run.returncode == 0, run.stdout[-10_000:]
    assert f"{sum(map(len, DOCUMENT['paths'].values()))} selected" in run.stdout


def test_an_answer_that_is_not_as_promised_is_found(service: str, job_id: str, tmp_path: Path) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["components"]["schemas"]["Job"]["properties"]["restarts"] = {"type": "string"}
    run = fuzz(service, document, job_id, tmp_path, "--include-path", "/jobs/{job_id}", phases="examples")
    assert run.returncode == 1
    assert "restarts" in run.stdout
