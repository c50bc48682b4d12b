"""The burst: many messages at the same time, one job, one reply that answers each of them once."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.conftest import CANARY, Api

Body = dict[str, Any]


def quotes(reply: str) -> list[str]:
    return [line.removeprefix("> ") for line in reply.splitlines() if line.startswith("> ")]


def at_once(api: Api, posts: list[tuple[str, Body]]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(len(posts)) as pool:
        return list(pool.map(lambda post: api.post(post[0], **post[1]), posts))


@pytest.fixture(scope="module", autouse=True)
def warm(api: Api) -> None:
    """As many intake processes as will be used, so that the burst measures no cold start."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: api.call("GET", "/jobs/none"), range(64)))


def test_fifty_messages_at_once_are_one_job_and_one_reply(api: Api) -> None:
    conversation_id = f"burst_{uuid.uuid4().hex}"
    texts = [f"question {number} {CANARY}" for number in range(50)]
    posts = [
        (conversation_id, {"history": f"<USER>{text}</USER><br>", "message_id": f"m-{text.split()[1]}"})
        for text in texts
    ]
    # One in ten comes twice, with the others.
    duplicates = random.Random(50).sample(posts, 5)
    answers = at_once(api, [*posts, *duplicates])

    actions = [answer["action"] for answer in answers]
    assert (actions.count("lock_acquired"), actions.count("lock_exists")) == (1, 54)
    assert len([answer for answer in answers if answer.get("duplicate")]) == 5
    (job_id,) = {answer["ai_job_id"] for answer in answers}
    job = api.ended(job_id)
    assert (job["status"], job["consolidated_messages"], job["superseded_by"]) == ("completed", 50, None)
    assert sorted(quotes(job["reply"]["content"])) == sorted(texts)
    replies = [turn for turn in api.turns(conversation_id) if turn["role"] == "assistant"]
    assert [reply["content"] for reply in replies] == [job["reply"]["content"]]

    again = api.post(conversation_id, **posts[7][1])
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
    api: Api, shape: Callable[[list[str], str], list[Body]], with_turns: bool
) -> None:
    """Three conversations at a time in each of the eight shapes: 24 bursts of 20."""
    shuffle = random.Random(f"{shape.__name__} {with_turns}").shuffle
    bursts: dict[str, list[str]] = {}
    posts: list[tuple[str, Body]] = []
    earlier: dict[str, str] = {}
    for _ in range(3):
        conversation_id = f"burst_{uuid.uuid4().hex}"
        bursts[conversation_id] = [f"{number} of twenty [slow:2.5] {CANARY}" for number in range(20)]
        earlier[conversation_id] = ""
    if with_turns:
        first = f"<USER>[slow:0.1] before {CANARY}</USER><br>"
        jobs = {id_: api.post(id_, history=first, message_id="id-before")["ai_job_id"] for id_ in bursts}
        for conversation_id, job_id in jobs.items():
            reply = api.ended(job_id)["reply"]["content"]
            earlier[conversation_id] = f"{first}<BOT>{reply}</BOT><br>"
    for conversation_id, texts in bursts.items():
        posts += [(conversation_id, body) for body in shape(texts, earlier[conversation_id])]
    shuffle(posts)
    answers = at_once(api, posts)

    for conversation_id, texts in bursts.items():
        mine = [answer for (id_, _), answer in zip(posts, answers, strict=True) if id_ == conversation_id]
        (job_id,) = {answer["ai_job_id"] for answer in mine}
        assert [answer["action"] for answer in mine].count("lock_acquired") == 1
        job = api.ended(job_id)
        found = quotes(job["reply"]["content"])
        assert sorted(found) == sorted(texts)
        if shape in (whole_histories, whole_histories_with_ids):
            assert found == texts, "whole histories say in which order the messages stand"
        said = [turn["content"] for turn in api.turns(conversation_id) if turn["role"] == "user"]
        assert sorted(said[-20:]) == sorted(texts)
        assert len(said) == 20 + with_turns
