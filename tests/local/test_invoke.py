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


def test_the_answer_is_utf_8_whatever_the_terminals_encoding_is(built: Path) -> None:
    result = invoke(built, "EchoFunction", '{"queryStringParameters": {"raise": "đau đầu"}}', PYTHONIOENCODING="ascii")
    assert "đau đầu" in json.loads(result.stdout)["errorMessage"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository's `make invoke` before anything is set up. Each program that it calls talks on stdout."""
    for name in ("template.yaml", "samconfig.toml", "requirements/runtime.txt", "requirements/dev.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements" / "sam.txt").touch()
    (tmp_path / "layers" / "message_handler").mkdir(parents=True)
    (tmp_path / "layers" / "message_handler" / "pyproject.toml").touch()
    (tmp_path / "functions").mkdir()
    (tmp_path / "event.json").write_text("{}")
    program(tmp_path / "requirements" / "sync.sh", SYNC)
    return tmp_path


#: Plays the set-up of an environment: its Python runs `local.invoke`, its sam builds.
SYNC = """
echo "setting up $1"; mkdir -p "$1/bin"
printf '#!/bin/sh\\n[ "$1" = -c ] || { echo a log line >&2; echo \\047{"statusCode": 200}\\047; }\\n' >"$1/bin/python"
printf '#!/bin/sh\\necho sam builds; mkdir -p .aws-sam/build; [ ! -e broken ]\\n' >"$1/bin/sam"
chmod +x "$1/bin/python" "$1/bin/sam"; pwd -P >"$1/synced"
"""


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh{text}")
    path.chmod(0o755)


def make_invoke(folder: Path, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    command = [
        "make",
        *arguments,
        "invoke",
        f"FUNCTION={changed.get('function', 'IntakeFunction')}",
        "EVENT=event.json",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=PYTHON_NEEDS)


def test_make_invoke_prints_nothing_but_the_answer_on_stdout(folder: Path) -> None:
    for said in (["setting up .venv", "setting up .venv-sam", "sam builds"], []):  # first, and once all is set up
        result = make_invoke(folder)
        assert (result.returncode, json.loads(result.stdout)) == (0, {"statusCode": 200}), result.stderr
        assert [line for line in said if line not in result.stderr] == []
    (folder / "requirements" / "runtime.txt").touch()  # it is set up and built again
    assert json.loads(make_invoke(folder).stdout) == {"statusCode": 200}


def test_make_invoke_that_fails_before_the_function_prints_nothing_on_stdout(folder: Path) -> None:
    (folder / "broken").touch()
    for result in (make_invoke(folder), make_invoke(folder, function="Nobody")):
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr


def test_make_invoke_from_elsewhere_prints_nothing_but_the_answer_if_make_is_silent(folder: Path) -> None:
    assert json.loads(make_invoke(folder, "-s", "-C", str(folder)).stdout) == {"statusCode": 200}


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
