"""`python -m local.invoke` runs one built function with only the modules that were built in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.invoke import main

from .conftest import APP, PYTHON_NEEDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The application as built by `sam build`: the layer's modules are in `python`."""
    folder = tmp_path / "build"
    shutil.copytree(APP, folder)
    (folder / "layer" / "src").rename(folder / "layer" / "python")
    return folder / "template.yaml"


def invoke(template: Path, function: str, event: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = template.parent / "event.json"
    path.write_text(event)
    command = [sys.executable, "-m", "local.invoke", "--template", str(template), function, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=PYTHON_NEEDS | environment)


def test_the_result_is_on_stdout_and_the_logs_are_on_stderr(built: Path) -> None:
    result = invoke(built, "AdminFunction", '{"action": "test"}')
    assert (result.returncode, json.loads(result.stdout)) == (0, {"did": "test"})
    assert result.stderr == "not json: test\n"


def test_the_callers_environment_reaches_the_function(built: Path) -> None:
    result = invoke(built, "EchoFunction", "{}", REDIS_URL="redis://given", AWS_ACCESS_KEY_ID="mine", OTHER="x")
    environment = json.loads(json.loads(result.stdout)["body"])["environment"]
    assert (environment["REDIS_URL"], environment["AWS_ACCESS_KEY_ID"]) == ("redis://given", "mine")
    assert environment["AUTH_REQUIRED"] == "false"  # as under `sam local`: an event from a file has no token
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


@pytest.mark.parametrize(
    ("template", "function", "event", "said"),
    [
        (
            "template.yaml",
            "Nobody",
            "{}",
            "there is no function Nobody; choose one of AdminFunction, EchoFunction, WorkerFunction",
        ),
        ("template.yaml", "AdminFunction", "{", "event.json isn't JSON"),
        ("template.yaml", "AdminFunction", None, "event.json: No such file or directory"),
        ("unbuilt.yaml", "AdminFunction", "{}", "run `make build` first"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_line(
    built: Path, capsys: pytest.CaptureFixture[str], template: str, function: str, event: str | None, said: str
) -> None:
    path = built.parent / "event.json"
    if event is not None:
        path.write_text(event)
    assert main(["--template", str(built.parent / template), function, str(path)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("invoke: ")
    assert (printed.err.count("\n"), printed.out) == (1, "")
