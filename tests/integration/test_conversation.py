"""A conversation between a provider and a platform over the whole product: requests of one, deliveries to the other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.ai.server import Exchange, Server, fails, says
from tests.contract.receiver import Receiver
from tests.integration.conftest import CANARY, Api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
TOKEN = f"token-{CANARY}"


@pytest.fixture
def provider() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def receiver(api: Api) -> Iterator[Receiver]:
    """The default platform's webhook."""
    receiver = Receiver()
    put(api, "platforms/default", name="P", base_url=receiver.url, meta_data={"webhook_secrets": [SECRET]})
    yield receiver
    put(api, "platforms/default", name="P", base_url=None)
    receiver.stops()


@pytest.fixture
def bot(api: Api, provider: Server) -> str:
    """A bot that asks the provider. Its name is new in each test, so no process has it cached."""
    name = f"bot-{uuid.uuid4().hex}"
    put(
        api,
        f"core-ai/{name}",
        name="Provider",
        api_endpoint=provider.url,
        auth_token=TOKEN,
        timeout_seconds=20,
        meta_data={"model": "small", "system_prompt": "You are a nurse."},
    )
    meta_data = {"show_partial_reply": True, "failure_message": {"en": "We are sorry.", "vi": "Xin lỗi."}}
    put(api, f"bots/{name}", name="Nurse", language="en", core_ai_id=name, meta_data=meta_data)
    return name


def put(api: Api, path: str, **record: Any) -> None:
    response = api.call("PUT", f"/admin/{path}", json=record)
    assert response.status_code in (200, 201), response.text
    assert CANARY not in response.text


def eventually[T](look: Callable[[], T], what: str) -> T:
    until = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < until, f"this never came: {what}"
        time.sleep(0.05)
    return found


def speaks_and_stalls(exchange: Exchange) -> None:
    exchange.start()
    exchange.text("Drink ")
    exchange.stall()


def asks(bot: str, message_id: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{CANARY} {message_id}", "message_id": message_id}]
    return {"messages": messages, "bot_id": bot} | more


@pytest.mark.parametrize("policy", ["consolidate", "interrupt"])
def test_a_message_that_comes_while_the_model_speaks_is_answered_with_the_first(
    api: Api, provider: Server, receiver: Receiver, bot: str, policy: str
) -> None:
    provider.scripts = [speaks_and_stalls, says("Drink water", ", and rest.", usage=(21, 6))]
    conversation_id = f"conv_{uuid.uuid4().hex}"
    path = f"/conversations/{conversation_id}/messages"
    first = api.call("POST", path, json=asks(bot, "m0"), headers={"X-Correlation-ID": "visit-17"}).json()
    progress = eventually(lambda: shown(api, first["ai_job_id"]), "the partial reply")
    assert (progress["state"], progress["characters"], progress["text"]) == ("processing", 6, "Drink ")
    second = api.post(conversation_id, **asks(bot, "m1", double_texting=policy))
    assert second["action"] == {"consolidate": "lock_exists", "interrupt": "interrupted"}[policy]
    assert provider.calls[0].closed.wait(20), "the provider still generates, which costs money"

    job = api.ended(second["ai_job_id"])
    assert (job["status"], job["restarts"], job["consolidated_messages"]) == ("completed", 1, 2)
    assert job["reply"] == {"role": "assistant", "content": "Drink water, and rest."}
    assert job["usage"] == {"input_tokens": 21, "output_tokens": 6}
    superseded = api.ended(first["ai_job_id"])
    if policy == "interrupt":
        assert (superseded["status"], superseded["superseded_by"]) == ("cancelled", job["job_id"])
    assert [call.headers["idempotency-key"] for call in provider.calls] == [
        f"{first['ai_job_id']}:1",
        f"{job['job_id']}:2",
    ]
    asked = provider.calls[1]
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["x-correlation-id"] == "visit-17"
    assert asked.body["model"] == "small"
    system, said = asked.body["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("You are a nurse.")
    assert said == {"role": "user", "content": f"{CANARY} m0\n\n{CANARY} m1"}

    (delivery,) = eventually(lambda: receiver.told_of(conversation_id), "the webhook")
    assert Webhook(SECRET).verify(delivery.body, delivery.headers) == delivery.event
    assert delivery.reply == "Drink water, and rest."
    assert delivery.event["data"]["message_ids"] == ["m0", "m1"]
    assert delivery.event["data"]["correlation_id"] == delivery.headers["x-correlation-id"] == "visit-17"
    assert [turn["role"] for turn in api.turns(conversation_id)] == ["user", "user", "assistant"]


def shown(api: Api, job_id: str) -> dict[str, Any] | None:
    progress: dict[str, Any] = api.call("GET", f"/jobs/{job_id}").json()["progress"]
    return progress if progress.get("text") else None


def test_a_provider_that_is_down_fails_the_job_with_one_notice_and_frees_the_lock(
    api: Api, provider: Server, receiver: Receiver, bot: str
) -> None:
    put(
        api,
        f"core-ai/{bot}",
        name="Provider",
        api_endpoint=provider.url,
        timeout_seconds=4,
        meta_data={"model": "small"},
    )
    provider.scripts = [fails(500)]
    conversation_id = f"conv_{uuid.uuid4().hex}"
    job = api.ended(api.post(conversation_id, **asks(bot, "m0"))["ai_job_id"])
    assert (job["status"], job["reply"]) == ("failed", None)
    assert (job["error"]["code"], job["error"]["notice"]) == ("ai_unavailable", "We are sorry.")
    assert 1 < len(provider.calls) <= 10
    deliveries = eventually(lambda: receiver.told_of(conversation_id), "the webhook")
    assert [(each.event["type"], each.event["data"]["notice"]) for each in deliveries] == [
        ("message.failed", "We are sorry.")
    ]
    assert api.call("GET", f"/admin/locks/{conversation_id}").status_code == 404


def test_a_provider_that_is_down_is_replaced_by_its_fallback(api: Api, provider: Server, bot: str) -> None:
    other = Server()
    try:
        fallback = f"{bot}-fallback"
        record = {"name": "Other", "api_endpoint": other.url, "meta_data": {"model": "large"}}
        put(api, f"core-ai/{fallback}", **record)
        meta_data = {"model": "small", "fallback_core_ai_id": fallback}
        put(api, f"core-ai/{bot}", name="Provider", api_endpoint=provider.url, timeout_seconds=4, meta_data=meta_data)
        provider.scripts, other.scripts = [fails(503)], [says("Rest.")]
        job = api.ended(api.post(f"conv_{uuid.uuid4().hex}", **asks(bot, "m0"))["ai_job_id"])
        assert job["reply"] == {"role": "assistant", "content": "Rest."}
        assert "authorization" not in other.calls[0].headers
        assert json.loads(other.calls[0].raw)["model"] == "large"
    finally:
        other.stop()


def test_a_cancel_ends_the_call(api: Api, provider: Server, bot: str) -> None:
    provider.scripts = [speaks_and_stalls]
    job_id = api.post(f"conv_{uuid.uuid4().hex}", **asks(bot, "m0"))["ai_job_id"]
    eventually(lambda: provider.calls, "the call")
    assert api.call("DELETE", f"/jobs/{job_id}").status_code == 200
    assert provider.calls[0].closed.wait(20)
    assert api.ended(job_id)["status"] == "cancelled"
