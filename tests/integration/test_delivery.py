"""A reply reaches its platform through all deployed parts: queue, worker, Postgres, HTTP."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from pg8000.native import Connection
from standardwebhooks import Webhook

from local.stack import LocalStack
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.contract.receiver import Answer, Receiver, Told
from tests.integration.conftest import CANARY, Api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@pytest.fixture(scope="module")
def sql(stack: LocalStack) -> Iterator[Connection]:
    """The stack's database, past the product."""
    assert stack.database_url
    connection: Connection = connector(Settings.from_environment({"DATABASE_URL": stack.database_url}))()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def receiver(sql: Connection) -> Iterator[Receiver]:
    """The default platform's webhook, for as long as these tests run."""
    receiver = Receiver()
    sql.run(
        "update platforms set base_url = :url, meta_data = :meta where platform_id = 'default'",
        url=receiver.url,
        meta=json.dumps({"webhook_secrets": [SECRET]}),
    )
    yield receiver
    sql.run("update platforms set base_url = null, meta_data = '{}' where platform_id = 'default'")
    receiver.stops()


def eventually(found: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not found():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.1)


def test_a_reply_is_told_to_its_platform_again_and_again_until_it_is_taken(
    api: Api, stack: LocalStack, receiver: Receiver
) -> None:
    conversation_id, refusals = f"conv_{uuid.uuid4().hex}", iter([503])

    def answer(told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
        return next(refusals, 200) if told.event["data"]["conversation_id"] == conversation_id else 200, {}

    receiver.answer = answer
    content = f"Hello [slow:0.1] {CANARY}"
    messages = [{"role": "user", "content": content, "message_id": "m-1"}]
    job = api.ended(api.post(conversation_id, messages=messages)["ai_job_id"])

    def told_twice() -> bool:
        stack.invoke("AdminFunction", {"action": "sweep"})  # its schedule may be a minute away
        return len(receiver.told_of(conversation_id)) == 2

    eventually(told_twice)
    for told in receiver.told_of(conversation_id):
        assert Webhook(SECRET).verify(told.body, told.headers) == told.event
        assert told.webhook_id == f"msg_{job['job_id']}"
        assert told.event["type"] == "message.replied"
        assert told.event["data"]["conversation_id"] == conversation_id
        assert told.event["data"]["message_ids"] == ["m-1"]
        assert told.event["data"]["reply"] == job["reply"]


def test_what_was_given_up_is_shown_and_redriven(api: Api, receiver: Receiver) -> None:
    conversation_id = f"conv_{uuid.uuid4().hex}"

    def answer(told: Told, _handler: BaseHTTPRequestHandler) -> Answer:
        return 410 if told.event["data"]["conversation_id"] == conversation_id else 200, {}

    receiver.answer = answer
    job = api.ended(api.post(conversation_id, history=f"<USER>[slow:0.1] {CANARY}</USER><br>")["ai_job_id"])
    eventually(lambda: bool(api.call("GET", "/admin/dead-letters").json()["deliveries"]))
    shown = api.call("GET", "/admin/dead-letters").json()
    (dead,) = shown["deliveries"]
    assert (dead["conversation_id"], dead["job_id"]) == (conversation_id, job["job_id"])
    assert (dead["attempts"], dead["last_error"]) == (1, "http_410")
    receiver.answers(200)
    assert api.call("POST", "/admin/dead-letters/redrive").json() == {"redriven": 1}
    eventually(lambda: [told.webhook_id for told in receiver.told].count(dead["webhook_id"]) == 2)
    assert api.call("GET", "/admin/dead-letters").json()["deliveries"] == []
