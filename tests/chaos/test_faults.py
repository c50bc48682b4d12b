"""Real processes that are killed, stopped, cut off and emptied: every promise is kept.

All tests share one deployment, and each has its own conversations. The long form is `make test-chaos`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import pytest

from local.errors import StoreUnavailableError
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.messages import Request, new_message
from message_handler.domain.records import Record
from message_handler.queue.codec import encode
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from message_handler.tiers.redis import SAVE
from tests.chaos.checker import check, story
from tests.chaos.clients import new_name
from tests.chaos.deployment import QUICK, Deployment
from tests.chaos.faults import KINDS, Kind, both_stores_away, is_commit
from tests.chaos.history import AFTERMATH_SECONDS, Asked, History, Posted, Seen, text_of
from tests.chaos.watch import Watch

#: The longest time until messages of a fault are answered: a stale heartbeat, a sweep and a few tries.
PATIENCE_SECONDS = 60
#: A function does without a store for this long after its failure.
BREAKER_SECONDS = float(QUICK["STORE_RETRY_AFTER"]) + 0.2


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    yield from _running(Deployment())


@pytest.fixture
def without_sweeps() -> Iterator[Deployment]:
    """A deployment in which only the queue brings records back: the sweep is a minute away."""
    yield from _running(Deployment(settings=QUICK | {"SIMULATED_AI_DELAY_MS": "1500"}, sweep_every=0, visibility=None))


def _running(deployment: Deployment) -> Iterator[Deployment]:
    try:
        with deployment as running:
            yield running
    except StoreUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def verify(history: History) -> None:
    violations = check(history)
    assert not violations, "\n\n".join(story(history, violation) for violation in violations[:3])


def settled(deployment: Deployment, prefix: str) -> History:
    """The history of these conversations, once all their accepted messages are settled."""
    waiting = deployment.await_settled(PATIENCE_SECONDS, prefix)
    assert not waiting, f"never settled: {waiting}"
    return deployment.collect(deployment.history.rest).only(prefix)


def replies(history: History) -> list[list[str]]:
    """The messages that each reply answers."""
    return [turn.quotes for turn in history.turns if turn.role == "assistant"]


# ── Redis forgets between two steps ──────────────────────────────────────────────────────────────


#: Bytes that tell this step's save from those of all other steps.
STEPS = {
    "accept": rb'"status":"pending"',
    "claim": rb'"status":"processing".*\r\nholder\r\n',
    "adopt": rb"\r\nversion [0-9a-f-]{36} - ",  # it compares the version, and changes nothing
    "seal": rb'"sealed":true',
    "finish": rb'"status":"completed"',
}


def is_step(step: str, conversation: str) -> Callable[[bytes], bool]:
    """Whether a chunk has this step of the conversation, alone or together with others."""
    pattern = re.compile(STEPS[step], re.DOTALL)
    return lambda chunk: SAVE.sha.encode() in chunk and conversation.encode() in chunk and bool(pattern.search(chunk))


def losing(deployment: Deployment, loss: str) -> Callable[[], None]:
    """An action after which Redis loses what it learns."""
    valkey = deployment.valkey
    before = valkey.snapshot()

    def kill() -> None:
        valkey.kill()
        valkey.restart()

    return {"killed": kill, "flushed": valkey.flush, "rolled back": lambda: valkey.roll_back(before)}[loss]


@pytest.mark.parametrize("loss", ["killed", "flushed", "rolled back"])
def test_redis_lost_between_any_two_steps_costs_no_message_and_doubles_none(deployment: Deployment, loss: str) -> None:
    prefix = new_name("steps")
    for step in STEPS:
        conversation = f"{prefix}-{step}"
        lose = losing(deployment, loss)
        trigger = deployment.valkey.proxy.when("up", is_step(step, conversation), lose)
        with deployment.fault("redis", f"{loss} before {step}"):
            assert deployment.platform.hand_in(conversation, new_name("m"), "[slow:0.2]").accepted
            assert trigger.fired.wait(PATIENCE_SECONDS), f"no {step} came"
        if loss == "killed":
            time.sleep(BREAKER_SECONDS)  # or Postgres would coordinate the next one
    history = settled(deployment, prefix)
    assert len(replies(history)) == 5
    verify(history)


# ── Both stores away ─────────────────────────────────────────────────────────────────────────────


def test_with_both_stores_away_messages_are_accepted_degraded_and_archived_once_afterwards(
    deployment: Deployment,
) -> None:
    prefix = new_name("both")
    with both_stores_away(deployment), ThreadPoolExecutor(4) as platform:
        posts = [
            platform.submit(deployment.platform.hand_in, f"{prefix}-{number}", new_name("m"), "[slow:0.2]")
            for number in range(4)
        ]
        assert [post.result().degraded for post in posts] == [True] * 4
        asked = {event.job_id for event in await_calls(deployment, {post.result().job_id for post in posts})}
    history = settled(deployment, prefix)
    assert len(asked) == 4, "each is answered while both are away"
    assert len(replies(history)) == 4
    verify(history)


def await_calls(deployment: Deployment, jobs: set[str | None]) -> list[Asked]:
    """The AI calls for these jobs, as soon as there is one for each."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        calls = deployment.calls(jobs)
        if {call.job_id for call in calls} >= jobs or time.monotonic() > deadline:
            return calls
        time.sleep(0.2)


# ── Stores that are half there ──


HALF_THERE = {
    "redis: a replica, and back": ("redis", "read-only"),
    "redis: full": ("redis", "out of memory"),
    "postgres: read-only, and back": ("postgres", "read-only"),
    "postgres: another one promoted": ("postgres", "read-only"),
}


@pytest.mark.parametrize("name", HALF_THERE)
def test_with_a_store_that_refuses_writes_messages_are_answered_and_the_status_says_so(
    deployment: Deployment, name: str
) -> None:
    prefix, (store, reason) = new_name("half"), HALF_THERE[name]
    (kind,) = (kind for kind in KINDS if str(kind) == name)
    await_status(deployment, lambda status: status["status"] == "healthy")
    with kind.broken(deployment):
        posts = [deployment.platform.hand_in(f"{prefix}-{number}", new_name("m"), "[slow:0.2]") for number in range(4)]
        jobs = [await_told(deployment, post) for post in posts]
        await_status(deployment, lambda status: status["tiers"][store] == "read_only")
        await_status(deployment, lambda status: reason in status["reasons"].get(store, ""))
    assert [seen.status for seen in jobs] == ["completed"] * 4
    await_status(deployment, lambda status: status["status"] == "healthy")
    history = settled(deployment, prefix)
    assert sorted(replies(history)) == sorted([post.message_id] for post in posts)
    verify(history)


def await_told(deployment: Deployment, post: Posted) -> Seen:
    """What a client of this message sees as soon as the message has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen = deployment.platform.job(post.conversation, post.job_id or "", wait=2, message_id=post.message_id)
        if seen and seen.says(post.message_id):
            return seen
        assert time.monotonic() < deadline, f"{post.job_id} never told of its message"
        time.sleep(0.1)


def await_status(deployment: Deployment, check: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        code, status = deployment.platform.call("GET", "/admin/status")
        if code == 200 and check(status):
            return
        assert time.monotonic() < deadline, f"the status is {status}"
        time.sleep(0.2)


# ── Workers that die or pause ────────────────────────────────────────────────────────────────────


def test_a_worker_killed_in_the_middle_of_an_ai_run_is_replaced_and_answers_once(deployment: Deployment) -> None:
    conversation = new_name("killed")
    posted = deployment.platform.hand_in(conversation, new_name("m"), "[slow:3]")
    process = deployment.working_on(conversation)
    assert await_calls(deployment, {posted.job_id})
    with deployment.fault("worker", "killed"):
        process.kill()
    history = settled(deployment, conversation)
    assert len(history.asked) >= 2
    assert len(replies(history)) == 1
    verify(history)


def test_a_worker_stopped_beyond_its_lease_and_resumed_commits_nothing(deployment: Deployment) -> None:
    conversation = new_name("stopped")
    posted = deployment.platform.hand_in(conversation, new_name("m"), "[slow:3]")
    process = deployment.working_on(conversation)
    assert await_calls(deployment, {posted.job_id})
    with deployment.fault("worker", "stopped"):
        process.send_signal(signal.SIGSTOP)
        try:
            settled(deployment, conversation)
        finally:
            process.send_signal(signal.SIGCONT)
    await_idle(deployment, conversation)
    history = settled(deployment, conversation)
    fences = [call.fence for call in history.asked]
    assert fences[0] == 1
    assert [job.fence for job in history.jobs.values()] == [fences[-1]]
    assert len(fences) >= 2
    assert len(replies(history)) == 1
    verify(history)


def test_a_worker_stopped_in_front_of_its_commit_and_resumed_is_fenced_out(deployment: Deployment) -> None:
    conversation = new_name("fenced")
    stopped, answered = threading.Event(), threading.Event()

    def stop() -> None:
        deployment.working_on(conversation).send_signal(signal.SIGSTOP)
        stopped.set()
        answered.wait(PATIENCE_SECONDS)

    trigger = deployment.postgres.proxy.when(
        "up", lambda chunk: is_commit(chunk) and conversation.encode() in chunk, stop
    )
    deployment.platform.hand_in(conversation, new_name("m"), "[slow:0.2]")
    assert stopped.wait(PATIENCE_SECONDS)
    (process,) = deployment.processes("WorkerFunction", conversation)[:1]
    with deployment.fault("worker", "stopped in front of its commit"):
        try:
            settled(deployment, conversation)
        finally:
            answered.set()
            trigger.fired.wait(5)
            for each in deployment.processes("WorkerFunction", conversation):
                each.send_signal(signal.SIGCONT)
    await_idle(deployment, conversation)
    history = settled(deployment, conversation)
    assert process.event is None or conversation.encode() not in process.event
    assert history.fenced_out
    assert len(replies(history)) == 1
    verify(history)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_record_of_a_worker_that_is_dead_or_frozen_comes_back_by_itself(
    without_sweeps: Deployment, frozen: bool
) -> None:
    deployment, conversation = without_sweeps, new_name("back")
    posted = deployment.platform.hand_in(conversation, new_name("m"), "[slow:3]")
    process = deployment.working_on(conversation)
    assert await_calls(deployment, {posted.job_id})
    with deployment.fault("worker", "stopped" if frozen else "killed"):
        process.send_signal(signal.SIGSTOP if frozen else signal.SIGKILL)
        try:
            settled(deployment, conversation)
        finally:
            process.send_signal(signal.SIGCONT)
    await_idle(deployment, conversation)
    history = settled(deployment, conversation)
    assert list(deployment.receives.values()) == [2]
    fences = [call.fence for call in history.asked]
    assert fences == [1, 2]
    assert [job.fence for job in history.jobs.values()] == [2]
    assert len(replies(history)) == 1
    verify(history)


def await_idle(deployment: Deployment, conversation: str) -> None:
    """Wait until no worker works on the conversation."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while deployment.processes("WorkerFunction", conversation):
        assert time.monotonic() < deadline, "a worker never stopped working on it"
        time.sleep(0.05)


# ── Poison ───────────────────────────────────────────────────────────────────────────────────────


def test_a_poison_record_is_dead_after_exactly_so_many_deliveries_and_its_mates_succeed_once(
    deployment: Deployment,
) -> None:
    prefix = new_name("mates")
    records = [good_record(f"{prefix}-{number}") for number in range(3)]
    queue = deployment.stack.queue_url("JobQueue")
    bodies = [encode(records[0]), json.dumps({"poison": prefix}), *map(encode, records[1:])]
    sent = deployment.stack.sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": str(n), "MessageBody": body, "MessageGroupId": "default"} for n, body in enumerate(bodies)],
    )["Successful"]
    poison = next(entry["MessageId"] for entry in sent if entry["Id"] == "1")
    dead = deployment.count("DeadLetterQueue")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while deployment.count("DeadLetterQueue") == dead:
        assert time.monotonic() < deadline, "it never came to the dead letters"
        time.sleep(0.5)
        deployment.hurry()
    deployment.poison += 1

    def crashes() -> int:
        return sum(poison in line for line in deployment.stack.log_file.read_text().splitlines())

    while crashes() < MAX_RECEIVE_COUNT and time.monotonic() < deadline:
        time.sleep(0.1)  # it was shown early: a worker may still have the last delivery
    for record in records:
        deployment.history.posted.append(accepted_as(record))
    history = settled(deployment, prefix)
    assert crashes() == MAX_RECEIVE_COUNT
    assert sorted(replies(history)) == sorted([record.message_id] for record in records)
    assert len(history.asked) >= 3
    verify(history)


def test_a_record_that_kills_its_workers_leaves_the_nine_others_of_its_batch_answered_once(
    without_sweeps: Deployment,
) -> None:
    deployment, prefix = without_sweeps, new_name("batch")
    records = [good_record(f"{prefix}-{number}") for number in range(10)]
    killer, *mates = records
    entries = [{"Id": str(n), "MessageBody": encode(record)} for n, record in enumerate(records)]
    deployment.stack.sqs.send_message_batch(QueueUrl=deployment.stack.queue_url("JobQueue"), Entries=entries)
    deployment.history.posted.extend(map(accepted_as, records))
    kills, deadline = 0, time.monotonic() + 2 * PATIENCE_SECONDS
    with deployment.fault("worker", "killed"):
        while not {mate.message_id for mate in mates} <= set(deployment.settled()):
            assert time.monotonic() < deadline, "they were never all answered"
            if len(deployment.calls({killer.job_id})) <= kills:
                time.sleep(0.05)
                continue
            deployment.working_on(killer.request.key.conversation_id).kill()
            kills += 1
            time.sleep(float(QUICK["HEARTBEAT_STALE"]))
            deployment.hurry()
    assert kills >= 2
    deployment.hurry()
    history = settled(deployment, prefix)
    assert sorted(replies(history)) == sorted([record.message_id] for record in records)
    assert deployment.count("DeadLetterQueue") == 0
    verify(history)


def good_record(conversation: str) -> Record:
    key, message_id = ConversationKey("default", conversation), new_name("m")
    message = new_message(text_of(message_id), message_id)
    return Record(key.new_job_id(), message_id, Request(key, (message,), (), "default"))


def accepted_as(record: Record) -> Posted:
    now = time.time()
    return Posted(now, now, record.request.key.conversation_id, record.message_id, 202, record.job_id)


# ── Each kind of fault, each phase of a message's life ───────────────────────────────────────────


def meets_each_phase(deployment: Deployment, kind: Kind, prefix: str) -> None:
    """Break a part at the moment when one message commits, one is with the AI, and one is being accepted.

    A fourth message comes while it is broken.
    """
    reached, broken = threading.Event(), threading.Event()
    committing = f"{prefix}-committing"

    def hold() -> None:
        reached.set()
        broken.wait(2)

    if kind.part == "redis":
        trigger = deployment.valkey.proxy.when("up", is_step("seal", committing), hold)
    else:
        postgres = deployment.postgres.proxy
        trigger = postgres.when("up", lambda chunk: is_commit(chunk) and committing.encode() in chunk, hold)
    with ThreadPoolExecutor(4) as platform:

        def say(conversation: str, words: str) -> None:
            platform.submit(deployment.platform.hand_in, conversation, new_name("m"), words)

        say(f"{prefix}-running", "[slow:1.5]")
        # While a function's breaker probes with one call, another call uses the other store: then try again.
        for attempt in range(10):
            say(f"{committing}-{attempt}", "[slow:0.2]")
            if reached.wait(2):
                break
        assert reached.is_set(), "it never came to its commit"
        say(f"{prefix}-accepting", "[slow:0.2]")
        with kind.broken(deployment):
            broken.set()
            trigger.fired.wait(2)
            time.sleep(kind.shortest / 2)
            say(f"{prefix}-before", "[slow:0.2]")
            time.sleep(kind.shortest / 2)


PREFIXES = {str(kind): f"kind{number}" for number, kind in enumerate(KINDS)}


@pytest.fixture(scope="module")
def endured(deployment: Deployment) -> History:
    """The history of all kinds of faults, one after the other. A client polls each promised job."""
    watch = Watch(deployment)
    for _, kinds in groupby(KINDS, key=lambda kind: kind.part):
        for kind in kinds:
            time.sleep(BREAKER_SECONDS)
            meets_each_phase(deployment, kind, f"{PREFIXES[str(kind)]}-")
        # The next fault waits until the messages of this one are answered and all processes know its end. Before that
        # the two would be a pair.
        deployment.await_settled(PATIENCE_SECONDS)
        time.sleep(AFTERMATH_SECONDS)
    rest = deployment.await_rest(PATIENCE_SECONDS)
    watch.finish()
    deployment.look_at_jobs()
    return deployment.collect(rest)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_fault_at_any_phase_of_a_messages_life_loses_and_doubles_nothing(endured: History, kind: Kind) -> None:
    history = endured.only(f"{PREFIXES[str(kind)]}-")
    accepted = [[event.message_id] for event in history.posted if event.accepted]
    assert len(accepted) >= 4
    assert {event.job_id for event in history.posted if event.accepted} <= history.polled
    assert sorted(replies(history)) == sorted(accepted)
    verify(history)


def test_nothing_is_left_behind_and_no_patients_words_are_in_the_logs(endured: History) -> None:
    assert (endured.rest.locked, endured.rest.queued, endured.rest.dead_letters) == ([], 0, 0)
    verify(endured)
