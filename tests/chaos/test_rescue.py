"""Postgres freezes during a reply and comes back, then Redis is killed: the message is still answered once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from local.errors import StoreUnavailableError
from message_handler.settings import Settings
from tests.chaos.checker import check, story
from tests.chaos.clients import new_name
from tests.chaos.deployment import Deployment
from tests.chaos.history import History

#: The product's own times, except the AI's: this test is about them.
SETTINGS = {"SIMULATED_AI_DELAY_MS": "100", "REDIS_TIMEOUT_MS": "500"}
FROZEN_SECONDS = 5.0
#: In an earlier version, which did not index ends, a reply was still not archived after this time.
UNTIL_REDIS_DIES_SECONDS = 11.0
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    try:
        with Deployment(settings=SETTINGS, sweep_every=0) as running:
            yield running
    except StoreUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def is_asked(deployment: Deployment, job_id: str | None) -> bool:
    seen = History()
    seen.read_log(deployment.stack.log_file)
    return any(call.job_id == job_id for call in seen.asked)


def waits(what: str) -> Iterator[None]:
    """Loop until the caller breaks off. Fails after a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    pytest.fail(what)


@pytest.mark.parametrize("traffic", [True, False])
def test_a_reply_given_without_postgres_survives_the_loss_of_redis(deployment: Deployment, traffic: bool) -> None:
    prefix = new_name("rescue")
    ids = {f"{prefix}-{number}": new_name("m") for number in range(6)}
    posts = [deployment.platform.hand_in(conversation, id_, "[slow:2]") for conversation, id_ in ids.items()]
    for _ in waits("no worker asks the AI"):
        if all(is_asked(deployment, post.job_id) for post in posts):
            break
    with deployment.fault("postgres", "frozen"):
        deployment.postgres.freeze()
        try:
            time.sleep(FROZEN_SECONDS)
        finally:
            deployment.postgres.thaw()
    back, others, archived = time.monotonic(), 0, 0.0
    while time.monotonic() < back + UNTIL_REDIS_DIES_SECONDS:
        if not archived and deployment.settled().keys() >= set(ids.values()):
            archived = time.monotonic() - back
        if traffic:
            others += 1
            deployment.platform.hand_in(f"{prefix}-other-{others}", new_name("m"), "[slow:0.2]")
        time.sleep(0.2)
    print(f"\n{'with' if traffic else 'without'} traffic: archived {archived:.1f} s after Postgres was back")
    with deployment.fault("redis", "killed"):
        deployment.valkey.kill()
        deployment.valkey.restart()
    # After this pause, no process does without Redis because of an earlier outage.
    time.sleep(Settings().store_retry_after + 0.2)
    deployment.hurry()
    waiting = deployment.await_settled(PATIENCE_SECONDS, prefix)
    assert not waiting, f"never settled: {waiting}"
    history = deployment.collect(deployment.history.rest).only(prefix)
    violations = check(history)
    assert not violations, "\n\n".join(story(history, violation) for violation in violations[:3])
    calls = [call.job_id for call in history.asked]
    assert [calls.count(post.job_id or "") for post in posts] == [1] * len(posts), "answered again"
