"""Danger first (invariant 16), over the whole product: with a model that hangs, and with each store away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from local.stack import LocalStack
from tests.ai.server import Server
from tests.contract.receiver import Receiver, Told
from tests.integration.conftest import CANARY, Api
from tests.integration.test_conversation import bot, eventually, provider, put, receiver, speaks_and_stalls

__all__ = ["bot", "provider", "receiver"]  # fixtures

EMERGENCY = f"{CANARY} I can't breathe"


def raised_in(receiver: Receiver, conversation_id: str) -> list[Told]:
    told = [each for each in receiver.told if each.event["type"] == "safety.raised"]
    return [each for each in told if each.event["data"]["conversation_id"] == conversation_id]


def says(message_id: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": EMERGENCY, "message_id": message_id}], **more}


def test_a_model_that_hangs_holds_no_notice_up(api: Api, provider: Server, receiver: Receiver, bot: str) -> None:
    provider.scripts = [speaks_and_stalls]
    conversation_id = f"conv_{uuid.uuid4().hex}"
    answer = api.post(conversation_id, **says("m0", bot_id=bot))
    safety = answer["safety"]
    assert (safety["level"], safety["rule"]) == ("emergency", "en-breathing")
    (told,) = eventually(lambda: raised_in(receiver, conversation_id), "the webhook")
    assert told.event["data"]["notice"] == safety["notice"]
    assert told.event["data"]["job_id"] == safety["notice_job_id"]
    assert told.event["data"]["message_ids"] == ["m0"]
    assert api.ended(safety["notice_job_id"])["reply"]["content"] == safety["notice"]
    assert api.call("GET", f"/jobs/{answer['ai_job_id']}").json()["status"] in ("pending", "processing")
    assert api.call("DELETE", f"/jobs/{answer['ai_job_id']}").status_code == 200


@pytest.fixture(scope="module")
def frail() -> Iterator[tuple[LocalStack, Api]]:
    """A stack whose stores may be stopped, with the product's own time limits."""
    settings = {"EGRESS_ALLOW_LOOPBACK": "true", "ALLOW_LITERAL_SECRETS": "true"}
    with LocalStack(environment={"SIMULATED_AI_DELAY_MS": "0"}, settings=settings) as stack:
        yield stack, Api(stack.url)


@pytest.mark.parametrize("away", [("redis",), ("postgres",), ("redis", "postgres")], ids="+".join)
def test_a_store_that_is_away_keeps_no_notice_back_and_it_is_archived_later(
    frail: tuple[LocalStack, Api], away: tuple[str, ...]
) -> None:
    stack, api = frail
    hook = Receiver()
    put(api, "platforms/default", name="P", base_url=hook.url, meta_data={"webhook_secrets": [f"whsec_{'a' * 43}="]})
    conversation_id = f"conv_{uuid.uuid4().hex}"
    assert "safety" not in api.post(conversation_id, messages=[{"role": "user", "content": f"{CANARY} hello"}])
    for name in away:
        stack.parts.change(name, "stopped")
    try:
        response = api.call("POST", f"/conversations/{conversation_id}/messages", json=says("m0"))
    finally:
        for name in away:
            stack.parts.change(name, "running")
    safety = response.json()["safety"]
    assert safety["level"] == "emergency"
    (told, *_) = eventually(lambda: raised_in(hook, conversation_id), "the webhook")
    assert told.webhook_id == f"msg_safety_{safety['notice_job_id']}"
    assert {each.webhook_id for each in raised_in(hook, conversation_id)} == {told.webhook_id}

    def archived() -> bool:
        return api.call("GET", f"/jobs/{safety['notice_job_id']}").status_code == 200

    eventually(archived, "the notice's job")
    hook.stops()
