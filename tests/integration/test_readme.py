"""The README is true: what it tells people to type is run here, and its tables are compared with the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from local.invoke import BUILT
from local.stack import LocalStack
from message_handler.configuration.records import KINDS
from message_handler.metrics import UNITS
from message_handler.settings import Settings
from tests.contract.receiver import Receiver
from tests.integration.conftest import CANARY, Api

README = Path("README.md").read_text()


def blocks(name: str) -> list[str]:
    found = re.findall(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block marked {name!r}"
    return found


def shell(script: str) -> list[str]:
    result = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=120, check=True)
    return result.stdout.splitlines()


def on(api: Api, script: str, conversation_id: str) -> str:
    """The block with this stack's address, a fresh conversation, and the canary in its message."""
    script = script.replace("http://127.0.0.1:3000", api.url).replace("</USER>", f" [slow:0.5] {CANARY}</USER>")
    return re.sub(r"conv_\d+", conversation_id, script)


def test_the_first_conversation_goes_as_the_readme_says(api: Api) -> None:
    (script,) = blocks("conversation")
    answer = json.loads("".join(shell(on(api, script, f"readme_{uuid.uuid4().hex}"))))
    (shown,) = re.findall(r'```json\n(\{"success".*?\})\n```', README, re.DOTALL)
    assert set(answer) == set(json.loads(shown))
    assert api.ended(answer["ai_job_id"])["status"] == "completed"


def test_typing_fast_makes_one_job_and_the_repetition_is_a_duplicate(api: Api) -> None:
    (script,) = blocks("typing fast")
    conversation_id = f"readme_{uuid.uuid4().hex}"
    answers = [json.loads(line) for line in shell(on(api, script, conversation_id)) if line]
    (job_id,) = {answer["ai_job_id"] for answer in answers}
    assert [answer.get("duplicate") for answer in answers] == [None, None, True]
    reply = api.ended(job_id)["reply"]["content"]
    assert [reply.count(f"Question {number} ") for number in (1, 2)] == [1, 1]


@pytest.mark.parametrize("program", blocks("library"), ids=["plain", "awaitable"])
def test_the_library_examples_run_in_one_process_with_nothing_configured(program: str) -> None:
    environment = {"PATH": os.environ["PATH"], "SIMULATED_AI_DELAY_MS": "10"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[0] in ("pending", "processing", "completed")


def test_a_first_bot_is_made_by_the_readmes_requests(api: Api) -> None:
    (script,) = blocks("configuration")
    shell(script.replace("http://127.0.0.1:3000", api.url).replace("curl -s", "curl -s --fail-with-body"))
    answer = api.post(f"readme_{uuid.uuid4().hex}", history=f"<USER>{CANARY}</USER>", bot_id="pharmacy")
    assert answer["bot_name"] == "Pharmacy Assistant"


def test_a_webhook_is_told_as_the_readme_says(api: Api) -> None:
    (script,) = blocks("webhook")
    receiver = Receiver()
    try:
        script = script.replace("http://127.0.0.1:3000", api.url).replace("http://127.0.0.1:4000", receiver.url[:-5])
        *_, secret = shell(script.replace("curl -s", "curl -s --fail-with-body -o /dev/null") + '\necho "$secret"')
        api.ended(api.post(f"readme_{uuid.uuid4().hex}", history=f"<USER>{CANARY} [slow:0.1]</USER>")["ai_job_id"])
        for _ in range(600):
            if receiver.told:
                break
            time.sleep(0.1)
        told = receiver.told[0]
        assert told.path == "/hooks"
        assert Webhook(secret).verify(told.body, told.headers) == told.event
    finally:
        api.call("PUT", "/admin/platforms/default", json={"name": "Clinic chat"})
        receiver.stops()


def test_every_field_and_key_of_the_configuration_is_in_the_readme() -> None:
    section = README.split("## Configuration")[1].split("\n## ")[0]
    fields, *keys = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    names = set(re.findall(r"^\| (`[^|]+`) \|", "".join(keys), re.MULTILINE))
    listed = {name for row in names for name in re.findall(r"`(\w+)`", row)}
    assert listed == {name for kind in KINDS.values() for name in kind.meta_data.model_fields}
    for row, kind in zip(fields.splitlines()[2:], KINDS.values(), strict=True):
        listed = {name for name in re.findall(r"`(\w+)`", row) if name != "vi"}
        assert listed == set(kind.record.model_fields), kind.noun


def test_a_built_function_is_invoked_as_the_readme_says() -> None:
    if not BUILT.is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    (script,) = blocks("invoke")
    response = json.loads("".join(shell(script.replace("make ", "make --silent "))))
    assert response["statusCode"] == 202


def test_the_benchmarks_run_as_the_readme_says() -> None:
    if not BUILT.is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    (script,) = blocks("bench")
    first, some = re.findall(r"^make bench.*?(?= +#)", script, re.MULTILINE)
    assert first == "make bench"
    assert re.findall(r"--only (\w+)", some) == ["lock", "intake"]
    # A look: what is measured while other tests run says nothing.
    table = shell(f"{first} --silent ARGS='--quick --only history'")
    assert [line.split("  ")[0] for line in table if "/" in line][:2] == [
        "history parsing / a plain re pass",
        "10 MB of adversarial tags / 1 MB",
    ]


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    table = README.split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", table, re.MULTILINE))
    listed = {
        name: default
        for names, defaults in rows.items()
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=False)
    }
    listed.pop("POWERTOOLS_LOG_LEVEL")
    fields = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    assert set(listed) == set(fields)
    for name, default in fields.items():
        if default in (None, ""):
            assert listed[name].startswith("none"), name
        elif isinstance(default, bool):
            assert listed[name] == str(default).lower(), name
        elif default != listed[name].strip("`"):
            assert float(listed[name]) == float(default), name


def test_every_route_of_the_template_is_in_the_readme(stack: LocalStack) -> None:
    table = README.split("## The API")[1].split("\n## ")[0]
    listed = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", table, re.MULTILINE):
        for route in row.split(" · "):
            path = re.search(r"(/[^`? ]+)", route)
            assert path, route
            listed |= {(method, path[1]) for method in re.findall(r"GET|POST|PUT|DELETE", route)}
    assert listed == {(route.method, route.path) for route in stack.template.routes}


def test_every_metric_is_in_the_readme() -> None:
    table = README.split("## Watching it")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(UNITS)
