"""`python -m local.invoke`: one built function, with what it was built with and no more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import APP

ROOT = Path(__file__).parents[2]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The application as `sam build` leaves it: the layer's modules are in `python`."""
    folder = tmp_path / "build"
    shutil.copytree(APP, folder)
    (folder / "layer" / "src").rename(folder / "layer" / "python")
    return folder / "template.yaml"


def invoke(template: Path, function: str, event: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = template.parent / "event.json"
    path.write_text(event)
    command = [sys.executable, "-m", "local.invoke", "--template", str(template), function, str(path)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={"PATH": "", **environment}
    )


def test_the_result_is_on_stdout_and_the_logs_are_on_stderr(built: Path) -> None:
    result = invoke(built, "AdminFunction", '{"action": "test"}')
    assert (result.returncode, json.loads(result.stdout)) == (0, {"did": "test"})
    assert result.stderr == "not json: test\n"


def test_the_callers_environment_reaches_the_function(built: Path) -> None:
    result = invoke(built, "EchoFunction", "{}", REDIS_URL="redis://given", AWS_ACCESS_KEY_ID="mine", OTHER="x")
    environment = json.loads(json.loads(result.stdout)["body"])["environment"]
    assert (environment["REDIS_URL"], environment["AWS_ACCESS_KEY_ID"]) == ("redis://given", "mine")
    assert "OTHER" not in environment  # the template doesn't give it to the function


def test_a_function_error_is_exit_code_1(built: Path) -> None:
    result = invoke(built, "EchoFunction", '{"queryStringParameters": {"raise": "because"}}')
    assert result.returncode == 1
    assert json.loads(result.stdout)["errorMessage"] == "because"
    assert "[ERROR] ValueError: because" in result.stderr


def test_a_dependency_that_was_not_built_in_is_missing(built: Path) -> None:
    (built.parent / "functions" / "admin" / "app.py").write_text("import pg8000\n")
    result = invoke(built, "AdminFunction", "{}")
    assert result.returncode == 1
    assert "No module named 'pg8000'" in json.loads(result.stdout)["errorMessage"]


def test_wrong_usage_is_exit_code_2(built: Path, tmp_path: Path) -> None:
    unknown = invoke(built, "Nobody", "{}")
    assert unknown.returncode == 2
    names = "AdminFunction, EchoFunction, WorkerFunction"
    assert unknown.stderr == f"invoke: there is no function Nobody, only {names}\n"
    broken = invoke(built, "AdminFunction", "{")
    assert broken.returncode == 2
    assert "isn't JSON" in broken.stderr
    (tmp_path / "empty").mkdir()
    unbuilt = invoke(tmp_path / "empty" / "template.yaml", "AdminFunction", "{}")
    assert unbuilt.returncode == 2
    assert "run `make build` first" in unbuilt.stderr
