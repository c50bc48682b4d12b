"""The console's requests over the whole product: its files, its statistics, and outages during the work."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.stack import LocalStack
from local.tokens import Issuer
from tests.integration.conftest import CANARY, SETTINGS, Api, assert_private
from tests.published import assert_published, body_of

ROOT = Path(__file__).parents[2]
#: Seconds for which a process does without a store that went away.
RETRY_AFTER = 1
FILES = ROOT / "functions" / "admin" / "console"


@pytest.fixture(scope="module")
def own() -> Iterator[LocalStack]:
    """A product with its own stores, which tests stop."""
    environment = {"SIMULATED_AI_DELAY_MS": "2000"}
    # If Redis forgets a job, a message that joined it is answered when its own record comes: by default 150 s later.
    settings = SETTINGS | {"JOIN_DELAY": "10", "STORE_RETRY_AFTER": str(RETRY_AFTER)}
    with LocalStack(environment=environment, settings=settings) as running:
        if running.missing:
            pytest.skip("; ".join(running.missing))
        yield running
        assert_private("the functions' log", running.log_file.read_text())


def eventually(check: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "this never came true"
        time.sleep(0.3)


class Visitor(Api):
    """A person who uses the console."""

    def get(self, path: str, **headers: str) -> Any:
        """Get a file, and compare the answer with the description."""
        response = requests.get(self.url + path, headers=headers, timeout=60)
        route = "/console" if path.partition("?")[0] == "/console" else "/console/{file}"
        body = body_of(response.headers, response.text)
        assert_published("GET", route, response.status_code, response.headers, body)
        return response

    def change(self, name: str, state: str) -> None:
        origin = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        answer = requests.put(f"{self.url}/local/parts/{name}", json={"state": state}, headers=origin, timeout=90)
        assert (answer.status_code, answer.json()["state"]) == (200, state), answer.text

    def reply(self, job_id: str) -> str:
        """The reply of a message's job, or of the job that it leads to."""
        job = self.ended(job_id)
        while job["superseded_by"]:
            job = self.ended(job["superseded_by"])
        assert job["status"] == "completed", job
        content: str = job["reply"]["content"]
        return content


@pytest.fixture
def visitor(own: LocalStack) -> Iterator[Visitor]:
    visitor = Visitor(own.url)
    yield visitor
    for name in ("redis", "postgres", "worker"):
        visitor.change(name, "running")
    eventually(lambda: visitor.call("GET", "/admin/status").json()["status"] == "healthy", 30)
    time.sleep(2 * RETRY_AFTER)  # one process has seen it; each of the others looks again with its next call
    assert_private("an error body", "\n".join(visitor.problems))


def test_the_page_and_all_that_it_names_is_there(visitor: Visitor) -> None:
    page = visitor.get("/console")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    named = re.findall(r"(?:src|href)=\"([^\"#]+)\"", page.text)
    assert named
    for address in named:
        answer = visitor.get(f"/{address}")  # from /console, as a browser resolves it
        assert (answer.status_code, answer.text) == (200, (FILES / Path(address).name).read_text())
    assert visitor.get("/console/none.js").status_code == 404
    for path in ("/console/..%2fapp.py", "/console/%2e%2e%2fapp.py", "/console/%252e%252e%252fapp.py"):
        assert visitor.get(path).status_code == 404


def test_what_is_known_already_is_not_sent_again(visitor: Visitor) -> None:
    page = visitor.get("/console")
    again = visitor.get("/console", **{"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "Content-Length" not in again.headers


def test_a_sign_in_that_comes_back_leaves_nothing_in_the_log(visitor: Visitor) -> None:
    assert visitor.get(f"/console?code={CANARY}&state={CANARY}").status_code == 200  # `own` reads the log


def test_the_settings_say_that_no_token_is_needed(visitor: Visitor) -> None:
    settings = visitor.call("GET", "/console/settings.json").json()
    assert settings == {"sign_in": None, "outages": True, "idle_seconds": 900, "stale_seconds": 8, "wake_seconds": 50}


def test_the_last_minutes_show_what_was_answered(visitor: Visitor) -> None:
    job = visitor.ended(visitor.post("minutes", history=f"<USER>{CANARY}</USER><br>")["ai_job_id"])
    assert job["status"] == "completed"
    minutes = visitor.call("GET", "/admin/statistics?minutes=2").json()["minutes"]
    done = [minute for minute in minutes if minute["completed"]]
    assert sum(minute["created"] for minute in minutes) >= 1
    assert all(minute["p95_seconds"] >= minute["median_seconds"] >= 1.9 for minute in done)
    assert done


def test_with_redis_killed_in_the_middle_of_a_burst_each_message_is_answered_once(visitor: Visitor) -> None:
    """A person types some messages, stops Redis with the button, and types some more."""
    names = [f"{CANARY} {number}." for number in range(20)]
    for number, content in enumerate(names):
        if number == 10:
            visitor.change("redis", "stopped")
        visitor.post("outage", messages=[{"role": "user", "content": content, "message_id": f"m-{number}"}])

    def settled() -> bool:
        answer = visitor.call("GET", "/conversations/outage")
        return answer.status_code == 200 and answer.json()["pending"] is None and len(answer.json()["turns"]) > 20

    eventually(settled, 90)
    turns = visitor.turns("outage")
    assert sorted(turn["content"] for turn in turns if turn["role"] == "user") == sorted(names)
    replies = {turn["job_id"] for turn in turns if turn["role"] == "assistant"}
    assert 1 <= len(replies) <= 3
    assert {turn["job_id"] for turn in turns} == replies


def test_what_was_said_while_postgres_was_away_is_archived_when_it_is_back(visitor: Visitor) -> None:
    visitor.change("postgres", "stopped")
    job_id = visitor.post("archived", history=f"<USER>{CANARY} away</USER><br>")["ai_job_id"]
    assert visitor.reply(job_id)
    assert visitor.call("GET", "/admin/statistics").status_code == 503
    visitor.change("postgres", "running")

    def archived() -> bool:
        answer = visitor.call("GET", "/conversations/archived")
        return answer.status_code == 200 and len(answer.json()["turns"]) == 2

    eventually(archived, 60)


def test_what_is_said_while_no_worker_runs_is_answered_when_one_does(visitor: Visitor) -> None:
    visitor.change("worker", "stopped")
    job_id = visitor.post("waits", history=f"<USER>{CANARY} wait</USER><br>")["ai_job_id"]
    time.sleep(1)
    assert visitor.call("GET", f"/jobs/{job_id}").json()["status"] == "pending"
    visitor.change("worker", "running")
    assert visitor.reply(job_id)


def test_with_tokens_the_page_asks_for_one(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "key.pem")
    with LocalStack(environment={}, issuer=issuer, redis=False, postgres=False) as stack:
        visitor = Visitor(stack.url)
        assert visitor.get("/console").status_code == 200
        assert visitor.call("GET", "/console/settings.json").json()["sign_in"] == {"paste": True}
        assert visitor.call("GET", "/admin/statistics").status_code == 401


def test_make_run_says_where_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local", "--port", "0", "--without-redis", "--without-postgres"]
    log = ["--log-file", str(tmp_path / "log")]
    with subprocess.Popen([*command, *log], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Console:"):
                break
        process.terminate()
        process.communicate(timeout=60)
    (ready,) = [line for line in lines if line.startswith("Ready on ")]
    assert lines[-1] == f"Console: {ready.split()[2]}/console"
