"""One message in, one reply out, through all deployed parts."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from pg8000.native import Connection

from local.stack import LocalStack
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.integration.conftest import CANARY, Api, assert_private


def test_a_message_is_answered_and_both_turns_are_archived(api: Api, stack: LocalStack) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    accepted = api.post(
        conversation_id,
        history=f"<USER>Hello [slow:0.3] {CANARY}</USER><br>",
        resources={"user_id": "user_456"},
        bot_id=None,
        message_id=None,
    )
    assert set(accepted) == {
        *("success", "status", "action", "ai_job_id", "lock_id", "consolidated_messages", "bot_name")
    }
    assert (accepted["success"], accepted["status"], accepted["action"]) == (
        True,
        "ai_processing_started",
        "lock_acquired",
    )
    assert (accepted["consolidated_messages"], accepted["bot_name"]) == (1, "Healthcare Assistant")

    job = api.ended(accepted["ai_job_id"])
    assert job["status"] == "completed"
    assert job["reply"]["role"] == "assistant"
    assert "Simulated" in job["reply"]["content"]
    assert f"> Hello [slow:0.3] {CANARY}" in job["reply"]["content"].splitlines()

    turns = api.turns(conversation_id)
    assert [(turn["role"], turn["content"], turn["job_id"]) for turn in turns] == [
        ("user", f"Hello [slow:0.3] {CANARY}", job["job_id"]),
        ("assistant", job["reply"]["content"], job["job_id"]),
    ]
    assert archived(stack, conversation_id) == [
        ("user", f"Hello [slow:0.3] {CANARY}"),
        ("assistant", job["reply"]["content"]),
    ]


def archived(stack: LocalStack, conversation_id: str) -> list[tuple[str, str]]:
    """The turns in Postgres, read without the product."""
    assert stack.database_url
    connection: Connection = connector(Settings.from_environment({"DATABASE_URL": stack.database_url}))()
    try:
        rows = connection.run(
            "select role, content from turns where conversation_id = :id order by position", id=conversation_id
        )
    finally:
        connection.close()
    return [(role, content) for role, content in rows]


def test_a_conversation_that_is_being_answered_shows_its_lock_and_what_is_pending(api: Api) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    job_id = api.post(conversation_id, messages=[{"role": "user", "content": f"one [slow:4] {CANARY}"}])["ai_job_id"]
    joined = api.post(conversation_id, messages=[{"role": "user", "content": f"two {CANARY}"}])
    assert joined == {
        "success": True,
        "status": "locked",
        "action": "lock_exists",
        "message": "Message being processed by another request",
        "ai_job_id": job_id,
        "consolidated_messages": 2,
    }
    lock = api.call("GET", f"/admin/locks/{conversation_id}").json()
    assert set(lock) == {
        *("conversation_id", "ai_job_id", "acquired_at", "heartbeat_at"),
        *("expires_at", "consolidated_messages", "tier"),
    }
    assert (lock["ai_job_id"], lock["tier"]) == (job_id, "redis")
    # Not the whole lock: a heartbeat may have changed it.
    assert job_id in [one["ai_job_id"] for one in api.call("GET", "/admin/locks").json()["locks"]]
    pending = api.call("GET", f"/conversations/{conversation_id}").json()["pending"]
    assert pending == {"job_id": job_id, "consolidated_messages": 2}
    api.ended(job_id)
    assert api.call("GET", f"/conversations/{conversation_id}").json()["pending"] is None
    assert api.call("GET", f"/admin/locks/{conversation_id}").status_code == 404


def test_a_cancelled_job_says_so_and_its_conversation_goes_on(api: Api) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    job_id = api.post(conversation_id, history=f"<USER>never mind {CANARY}</USER>")["ai_job_id"]
    assert api.call("DELETE", f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert api.call("DELETE", f"/jobs/{job_id}").status_code == 409
    following = api.post(conversation_id, history=f"<USER>something else [slow:0.1] {CANARY}</USER>")
    assert following["action"] == "lock_acquired"
    reply = api.ended(following["ai_job_id"])["reply"]["content"]
    assert "something else" in reply
    assert "never mind" not in reply


def test_a_failing_ai_fails_the_job_visibly_and_frees_the_conversation(api: Api) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    job_id = api.post(conversation_id, history=f"<USER>[fail][slow:0.1] {CANARY}</USER>")["ai_job_id"]
    job = api.ended(job_id)
    assert (job["status"], job["reply"], job["error"]["code"]) == ("failed", None, "ai_failed")
    assert api.post(conversation_id, history=f"<USER>again {CANARY}</USER>")["action"] == "lock_acquired"


def test_an_operator_frees_a_conversation_and_it_is_answered_all_the_same(api: Api) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    job_id = api.post(conversation_id, history=f"<USER>[slow:2] {CANARY}</USER>")["ai_job_id"]
    assert api.call("DELETE", f"/admin/locks/{conversation_id}").json() == {"released": True}
    assert api.ended(job_id)["status"] == "completed"
    assert len([turn for turn in api.turns(conversation_id) if turn["role"] == "assistant"]) == 1


def test_every_part_reports_itself_healthy(api: Api) -> None:
    assert api.call("GET", "/health").json() == {"status": "up"}
    status = api.call("GET", "/admin/status").json()
    assert status["status"] == "healthy"
    assert status["components"] == {
        "redis_connected": True,
        "database_connected": True,
        "tier": "redis",
        "lock_manager": "healthy",
        "job_manager": "healthy",
        "queue": "sqs",
    }
    assert status["tiers"] == {"redis": "up", "postgres": "up", "memory": "up"}
    assert all(isinstance(count, int) for count in status["queue"].values())


def test_the_sweep_runs_on_demand(api: Api) -> None:
    response = api.call("POST", "/admin/locks/cleanup", json={"max_age_hours": 24})
    assert response.status_code == 200
    assert isinstance(response.json()["cleaned"], int)


@pytest.mark.parametrize(
    ("method", "path", "json"),
    [
        ("GET", "/jobs/none", None),
        ("POST", "/conversations/x/messages", {}),
        ("OPTIONS", "/jobs/none", None),
        ("GET", "/nowhere", None),
        ("POST", "/conversations/x/messages", {"history": "x" * 11_000_000}),
    ],
)
def test_error_answers_carry_the_correlation_id(api: Api, method: str, path: str, json: Any) -> None:
    """The gateway's own answers too: the last three."""
    first, second = (api.call(method, path, json=json).headers["X-Correlation-ID"] for _ in range(2))
    assert uuid.UUID(first) != uuid.UUID(second)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/conversations//messages", 404),
        (f"/conversations/{'x' * 256}/messages", 400),
        (f"/conversations/a%2F{CANARY}/messages", 400),
        (f"/conversations/%7B{CANARY}%7D/messages", 400),
        (f"/conversations/{CANARY}%0A/messages", 400),
        (f"/conversations/{CANARY}%00/messages", 400),
    ],
)
def test_a_path_that_names_no_conversation_is_a_problem(api: Api, path: str, status: int) -> None:
    response = api.call("POST", path, json={"history": f"<USER>{CANARY}</USER>"})
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(response.text)["status"] == status
    assert_private("an error body", response.text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe" + CANARY.encode(),
        b'{"history": "<USER>' + CANARY.encode() + b'</USER>", "message_id": "m\\u0000"}',
        b'{"history": "<USER>' + CANARY.encode() + b'</USER>", "message_id": "m\\ud800"}',
        b"[" * 5_000,
    ],
    ids=["empty", "broken", "not UTF-8", "U+0000 in an id", "lone surrogate in an id", "nested"],
)
def test_bytes_that_are_no_request_are_a_problem_and_store_nothing(api: Api, body: bytes) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"
    response = api.call("POST", f"/conversations/{conversation_id}/messages", data=body)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert api.call("GET", f"/conversations/{conversation_id}").status_code == 404
