"""What the pages tell people to type is run here. `tests/unit/test_pages.py` compares their tables with the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid

import pytest
from standardwebhooks import Webhook

from local.invoke import BUILT
from tests.contract.receiver import Receiver
from tests.integration.conftest import CANARY, Api
from tests.pages import all_blocks, blocks


def shell(script: str) -> list[str]:
    result = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=400, check=True)
    return result.stdout.splitlines()


def on(api: Api, script: str, conversation_id: str) -> str:
    """The block with this stack's address, a fresh conversation, and the canary in its message."""
    script = script.replace("http://127.0.0.1:3000", api.url).replace("</USER>", f" [slow:0.5] {CANARY}</USER>")
    return re.sub(r"conv_\d+", conversation_id, script)


@pytest.mark.parametrize("script", blocks("conversation"), ids=["readme", "tutorial"])
def test_the_first_conversation_goes_as_the_page_says(api: Api, script: str) -> None:
    answer = json.loads("".join(shell(on(api, script, f"page_{uuid.uuid4().hex}"))))
    shown = [block for block in all_blocks("json") if block.startswith('{"success"')]
    assert len(shown) == len(blocks("conversation"))
    assert all(set(answer) == set(json.loads(block)) for block in shown)
    assert api.ended(answer["ai_job_id"])["status"] == "completed"


def test_typing_fast_makes_one_job_and_the_repetition_is_a_duplicate(api: Api) -> None:
    (script,) = blocks("typing fast")
    conversation_id = f"page_{uuid.uuid4().hex}"
    answers = [json.loads(line) for line in shell(on(api, script, conversation_id)) if line]
    (job_id,) = {answer["ai_job_id"] for answer in answers}
    assert [answer.get("duplicate") for answer in answers] == [None, None, True]
    reply = api.ended(job_id)["reply"]["content"]
    assert [reply.count(f"Question {number} ") for number in (1, 2)] == [1, 1]


@pytest.mark.parametrize("program", blocks("library"), ids=["readme", "plain", "awaitable"])
def test_the_library_examples_run_in_one_process_with_nothing_configured(program: str) -> None:
    environment = {"PATH": os.environ["PATH"], "SIMULATED_AI_DELAY_MS": "10"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[0] in ("pending", "processing", "completed")


def test_a_first_bot_is_made_by_the_pages_requests(api: Api) -> None:
    (script,) = blocks("configuration")
    shell(script.replace("http://127.0.0.1:3000", api.url).replace("curl -s", "curl -s --fail-with-body"))
    answer = api.post(f"page_{uuid.uuid4().hex}", history=f"<USER>{CANARY}</USER>", bot_id="pharmacy")
    assert answer["bot_name"] == "Pharmacy Assistant"


def test_a_webhook_is_told_as_the_page_says(api: Api) -> None:
    (script,) = blocks("webhook")
    receiver = Receiver()
    try:
        script = script.replace("http://127.0.0.1:3000", api.url).replace("http://127.0.0.1:4000", receiver.url[:-5])
        *_, secret = shell(script.replace("curl -s", "curl -s --fail-with-body -o /dev/null") + '\necho "$secret"')
        api.ended(api.post(f"page_{uuid.uuid4().hex}", history=f"<USER>{CANARY} [slow:0.1]</USER>")["ai_job_id"])
        for _ in range(600):
            if receiver.told:
                break
            time.sleep(0.1)
        delivery = receiver.told[0]
        assert delivery.path == "/hooks"
        assert Webhook(secret).verify(delivery.body, delivery.headers) == delivery.event
    finally:
        api.call("PUT", "/admin/platforms/default", json={"name": "Clinic chat"})
        receiver.stops()


def test_a_built_function_is_invoked_as_the_page_says() -> None:
    if not BUILT.is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    (script,) = blocks("invoke")
    response = json.loads("".join(shell(script.replace("make ", "make --silent "))))
    assert response["statusCode"] == 202


def test_the_benchmarks_run_as_the_page_says() -> None:
    if not BUILT.is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    (script,) = blocks("bench")
    first, some = re.findall(r"^make bench.*?(?= +#)", script, re.MULTILINE)
    assert first == "make bench"
    assert re.findall(r"--only (\w+)", some) == ["lock", "intake"]
    # A quick look: figures measured beside other tests mean nothing.
    table = shell(f"{first} --silent ARGS='--quick --only history'")
    assert [line.split("  ")[0] for line in table if "/" in line][:2] == [
        "history parsing / a plain re pass",
        "10 MB of adversarial tags / 1 MB",
    ]
