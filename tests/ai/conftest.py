"""AI providers on this machine, and the log of their calls."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from local.stores import free_port
from message_handler.ai.port import Prompt
from message_handler.domain.conversations import Turn
from message_handler.domain.messages import Message
from tests.ai.server import Server, says
from tests.unit.service import CANARY, Output

TOKEN = "s3cr3t-t0k3n"
MOCK_AI = Path(__file__).parents[2] / ".venv-mock-ai" / "bin" / "python"


@pytest.fixture(autouse=True)
def output(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Output]:
    """The test's output and log. At its end they may not contain a patient's words, a token or an address."""
    caplog.set_level(logging.DEBUG, "message_handler")
    output = Output(capsys, caplog)
    output.private |= {TOKEN, "/v1/chat"}
    yield output
    output.assert_private()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mock_ai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of another project's chat completions server."""
    if not MOCK_AI.exists():
        reason = "mock-ai-api is not installed: make .venv-mock-ai/synced"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    port, directory = free_port(), tmp_path_factory.mktemp("mock-ai")
    arguments = ["-m", "uvicorn", "app.openai_app:app", "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([MOCK_AI, *arguments], cwd=directory, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except URLError:
                time.sleep(0.1)
        else:
            pytest.fail((directory / "log").read_text())
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.kill()
        process.wait()


def prompt(*contents: str, context: tuple[Turn, ...] = (), timeout: float = 10, **more: object) -> Prompt:
    """A prompt. Each of its texts contains the canary."""
    messages = tuple(Message(f"m{number}", f"{CANARY} {content}") for number, content in enumerate(contents or ("Hi",)))
    given = {"request_id": "job:1", "correlation_id": "corr-1", **more}
    return Prompt("Nurse Lan", context, messages, timeout, **given)  # type: ignore[arg-type]


@pytest.fixture
def other() -> Iterator[Server]:
    """A second server."""
    server = Server()
    server.scripts = [says("From the other.")]
    yield server
    server.stop()
