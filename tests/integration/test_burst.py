"""The burst: many messages at the same time, one job, one reply that answers each of them once.

A run restarts for new messages at most three times. On a slow machine a burst could take longer than that. So the
worker is stopped during the burst:

    first message ── worker: asks the AI ── stopped ──────────────── restarts, with all of them ── one reply
    the others                                  all at once
"""

from __future__ import annotations

import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from local.stack import LocalStack
from tests.ai.server import PATIENCE_SECONDS, Exchange, Server, says
from tests.integration.conftest import CANARY, Api
from tests.integration.test_conversation import put

Body = dict[str, Any]


class Provider(Server):
    """A provider that waits until it may answer, then quotes each message of the request."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()
        self.scripts = [self._quote]

    def _quote(self, exchange: Exchange) -> None:
        self.may_answer.wait(PATIENCE_SECONDS)
        asked: str = exchange.call.body["messages"][-1]["content"]
        says("\n".join(f"> {text}" for text in asked.split("\n\n")))(exchange)

    def await_calls(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.calls) < number:
            assert time.monotonic() < deadline, f"{len(self.calls)} of {number} calls came"
            time.sleep(0.01)


def quotes(reply: str) -> list[str]:
    return [line.removeprefix("> ") for line in reply.splitlines() if line.startswith("> ")]


@contextmanager
def standing_still(stack: LocalStack, function: str) -> Iterator[None]:
    environments = stack.environments(function)
    for environment in environments:
        environment.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for environment in environments:
            environment.send_signal(signal.SIGCONT)


def at_once(api: Api, stack: LocalStack, provider: Provider, posts: list[tuple[str, Body]]) -> list[dict[str, Any]]:
    """Post all messages, and return the answers. All but each conversation's first come while the AI works."""
    provider.may_answer.clear()
    asked, first = len(provider.calls), dict[str, int]()
    for number, (conversation_id, _) in enumerate(posts):
        first.setdefault(conversation_id, number)
    answers: dict[int, dict[str, Any]] = {}

    def post(number: int) -> None:
        conversation_id, body = posts[number]
        answers[number] = api.post(conversation_id, **body, bot_id="burst")

    with ThreadPoolExecutor(len(posts)) as pool:
        list(pool.map(post, first.values()))
        provider.await_calls(asked + len(first))
        with standing_still(stack, "WorkerFunction"):
            list(pool.map(post, [number for number in range(len(posts)) if number not in first.values()]))
    provider.may_answer.set()
    return [answers[number] for number in range(len(posts))]


@pytest.fixture(scope="module")
def provider(api: Api) -> Iterator[Provider]:
    """The provider of the bot `burst`."""
    provider = Provider()
    put(api, "core-ai/burst", name="P", api_endpoint=provider.url, timeout_seconds=60, meta_data={"model": "small"})
    put(api, "bots/burst", name="Nurse", core_ai_id="burst")
    yield provider
    provider.stop()


@pytest.fixture(scope="module", autouse=True)
def warm(api: Api) -> None:
    """Start all intake processes that the burst will use."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: api.call("GET", "/jobs/none"), range(64)))


def test_fifty_messages_at_once_are_one_job_and_one_reply(api: Api, stack: LocalStack, provider: Provider) -> None:
    conversation_id = f"burst_{uuid.uuid4().hex}"
    texts = [f"question {number} {CANARY}" for number in range(50)]
    posts = [
        (conversation_id, {"history": f"<USER>{text}</USER><br>", "message_id": f"m-{text.split()[1]}"})
        for text in texts
    ]
    # One in ten comes twice, at the same time.
    duplicates = random.Random(50).sample(posts, 5)
    answers = at_once(api, stack, provider, [*posts, *duplicates])

    actions = [answer["action"] for answer in answers]
    assert (actions.count("lock_acquired"), actions.count("lock_exists")) == (1, 54)
    assert len([answer for answer in answers if answer.get("duplicate")]) == 5
    (job_id,) = {answer["ai_job_id"] for answer in answers}
    job = api.ended(job_id)
    assert (job["status"], job["consolidated_messages"], job["superseded_by"]) == ("completed", 50, None)
    assert 1 <= job["restarts"] <= 3
    assert sorted(quotes(job["reply"]["content"])) == sorted(texts)
    replies = [turn for turn in api.turns(conversation_id) if turn["role"] == "assistant"]
    assert [reply["content"] for reply in replies] == [job["reply"]["content"]]

    again = api.post(conversation_id, **posts[7][1], bot_id="burst")
    assert (again["ai_job_id"], again["duplicate"]) == (job_id, True)


def increments(texts: list[str], before: str) -> list[Body]:
    return [{"history": f"<USER>{text}</USER><br>"} for text in texts]


def increments_with_ids(texts: list[str], before: str) -> list[Body]:
    return [{"history": f"<USER>{text}</USER><br>", "message_id": f"id-{text.split()[0]}"} for text in texts]


def whole_histories(texts: list[str], before: str) -> list[Body]:
    said = [f"<USER>{text}</USER><br>" for text in texts]
    return [{"history": before + "".join(said[: number + 1])} for number in range(len(said))]


def whole_histories_with_ids(texts: list[str], before: str) -> list[Body]:
    bodies = whole_histories(texts, before)
    return [body | {"message_id": f"id-{text.split()[0]}"} for body, text in zip(bodies, texts, strict=True)]


@pytest.mark.parametrize("with_turns", [False, True], ids=["fresh", "with turns"])
@pytest.mark.parametrize(
    "shape", [increments, increments_with_ids, whole_histories, whole_histories_with_ids], ids=lambda f: f.__name__
)
def test_twenty_messages_in_shuffled_order_are_each_answered_once(
    api: Api, stack: LocalStack, provider: Provider, shape: Callable[[list[str], str], list[Body]], with_turns: bool
) -> None:
    """Three conversations at a time in each of the eight shapes: 24 bursts of 20."""
    shuffle = random.Random(f"{shape.__name__} {with_turns}").shuffle
    bursts: dict[str, list[str]] = {}
    posts: list[tuple[str, Body]] = []
    earlier: dict[str, str] = {}
    for _ in range(3):
        conversation_id = f"burst_{uuid.uuid4().hex}"
        bursts[conversation_id] = [f"{number} of twenty {CANARY}" for number in range(20)]
        earlier[conversation_id] = ""
    if with_turns:
        first = f"<USER>before {CANARY}</USER><br>"
        before = at_once(api, stack, provider, [(id_, {"history": first, "message_id": "id-before"}) for id_ in bursts])
        for conversation_id, answer in zip(bursts, before, strict=True):
            reply = api.ended(answer["ai_job_id"])["reply"]["content"]
            earlier[conversation_id] = f"{first}<BOT>{reply}</BOT><br>"
    for conversation_id, texts in bursts.items():
        posts += [(conversation_id, body) for body in shape(texts, earlier[conversation_id])]
    shuffle(posts)
    answers = at_once(api, stack, provider, posts)

    for conversation_id, texts in bursts.items():
        mine = [answer for (id_, _), answer in zip(posts, answers, strict=True) if id_ == conversation_id]
        (job_id,) = {answer["ai_job_id"] for answer in mine}
        assert [answer["action"] for answer in mine].count("lock_acquired") == 1
        job = api.ended(job_id)
        found = quotes(job["reply"]["content"])
        assert sorted(found) == sorted(texts)
        if shape in (whole_histories, whole_histories_with_ids):
            assert found == texts, "whole histories give the order of the messages"
        said = [turn["content"] for turn in api.turns(conversation_id) if turn["role"] == "user"]
        assert sorted(said[-20:]) == sorted(texts)
        assert len(said) == 20 + with_turns
