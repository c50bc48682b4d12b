"""A patient types twenty messages: what that costs with the deployed settings and a bot's defaults.

Intake accepts messages at the moments of the burst. Their records go through the stand-in of SQS. Workers receive them
there and answer, delete or hide them, as the worker function does. The AI takes two seconds, and a wrapper counts its
calls. A burst has ended when the job of each message has ended.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from benchmarks.figure import Figure, Round, Target
from benchmarks.functions import variables, warm
from benchmarks.stores import Stores
from message_handler.ai.port import AI, Completion, Prompt, Watch
from message_handler.domain.conversations import ConversationKey
from message_handler.intake.requests import parse_request
from message_handler.jobs import BackgroundJobManager
from message_handler.queue.codec import decode
from message_handler.queue.sqs import SqsQueue
from message_handler.settings import Settings
from message_handler.wiring import Parts
from message_handler.worker.worker import Worker

MESSAGES = 20
#: Conversations with a burst at the same time, in one round.
BURSTS = 3
PAUSE_SECONDS = 0.06
AI_DELAY_MS = "2000"
RUN_SECONDS = 100.0
RECEIVERS = 2


class _Counted:
    """An AI that counts how often it is asked in each conversation."""

    def __init__(self, ai: AI, asked: list[str]) -> None:
        self._ai = ai
        self._asked = asked

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        self._asked.append(prompt.request_id)
        return self._ai.complete(prompt, watch)


class Service:
    """Intake and workers over one queue. `asked` has an entry for each call of the AI."""

    def __init__(self, stores: Stores, parts: Parts) -> None:
        self.asked: list[str] = []
        self._parts = parts
        self._jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
        self._worker = replace(parts.worker, ai=lambda core_ai: _Counted(parts.worker.ai(core_ai), self.asked))
        self._url = stores.queue_url("jobs")
        self._sqs = [stores.sqs_client() for _ in range(RECEIVERS)]
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(10 * RECEIVERS, thread_name_prefix="record")
        self._receivers = [threading.Thread(target=self._receive, args=(client,)) for client in self._sqs]
        for receiver in self._receivers:
            receiver.start()

    def close(self) -> None:
        self._ended.set()
        for receiver in self._receivers:
            receiver.join()
        self._pool.shutdown()

    def _receive(self, client: Any) -> None:
        while not self._ended.is_set():
            answer = client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
            for message in answer.get("Messages", []):
                self._pool.submit(self._work, client, message)

    def _work(self, client: Any, message: dict[str, Any]) -> None:
        receipt, count = message["ReceiptHandle"], int(message["Attributes"]["ApproximateReceiveCount"])
        worker: Worker = self._worker
        outcome = worker.process(decode(message["Body"]), time.time() + RUN_SECONDS, count)
        if outcome.retry_in is None:
            client.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)
        else:
            cast(SqsQueue, self._parts.queue).hide({receipt: outcome.retry_in})

    def post(self, key: ConversationKey, number: int) -> str:
        """The job that the message was promised."""
        message = {
            "role": "user",
            "content": f"Thuốc này uống mấy lần một ngày? ({number})",
            "message_id": f"m{number}",
        }
        told: str = self._parts.intake.handle(key, parse_request({"messages": [message]}))["ai_job_id"]
        return told

    def await_ended(self, key: ConversationKey, jobs: set[str]) -> int:
        """Wait until each of the jobs has ended. Returns the number of replies in the conversation."""
        deadline = time.monotonic() + RUN_SECONDS
        while not all(self._jobs.find(job_id).status.ended for job_id in jobs):
            if time.monotonic() > deadline:
                raise RuntimeError("a burst was not answered")
            time.sleep(0.02)
        found = self._parts.archive.conversation(key)
        return sum(1 for turn, *_ in found.turns if turn.role == "assistant") if found else 0


@contextmanager
def _service(stores: Stores, debounce_ms: int) -> Iterator[Service]:
    environment = variables(stores, "worker", DEBOUNCE_MS=str(debounce_ms), SIMULATED_AI_DELAY_MS=AI_DELAY_MS)
    with warm(environment, "worker") as app:
        service = Service(stores, app.parts())
        try:
            service.await_ended(key := _conversation(), {service.post(key, 0)})  # opens connections
            yield service
        finally:
            service.close()


def _conversation() -> ConversationKey:
    return ConversationKey("default", f"burst-{uuid.uuid4()}")


def _typed(number: int) -> float:
    return number * PAUSE_SECONDS


def _at_once(_number: int) -> float:
    return 0.0


def bursts(at: Callable[[int], float], debounce_ms: int) -> Callable[[Stores], Iterator[Round]]:
    """AI calls or replies for each burst, whichever are more. Message n comes after `at(n)` seconds."""

    def measure(stores: Stores) -> Iterator[Round]:
        with _service(stores, debounce_ms) as service, ThreadPoolExecutor(BURSTS * MESSAGES) as patients:
            while True:
                service.asked.clear()
                keys, began = [_conversation() for _ in range(BURSTS)], time.monotonic() + 0.1

                def post(key: ConversationKey, number: int, began: float = began) -> str:
                    time.sleep(max(0.0, began + at(number) - time.monotonic()))
                    return service.post(key, number)

                posted = [(key, patients.submit(post, key, number)) for key in keys for number in range(MESSAGES)]
                promised: dict[ConversationKey, set[str]] = {key: set() for key in keys}
                for key, job in posted:
                    promised[key].add(job.result())
                replies = sum(service.await_ended(key, jobs) for key, jobs in promised.items()) / BURSTS
                calls = len(service.asked) / BURSTS
                yield Round(max(calls, replies), note=f"{calls:.3g} AI calls, {replies:.3g} replies a burst")

    return measure


def single(stores: Stores) -> Iterator[Round]:
    """Seconds until one message alone is answered. Two of them are the AI's."""
    while True:
        taken: list[float] = []
        for debounce_ms in (DEFAULT_MS, 0):
            with _service(stores, debounce_ms) as service:
                key, start = _conversation(), time.perf_counter()
                service.await_ended(key, {service.post(key, 0)})
                taken.append(time.perf_counter() - start)
        yield Round(taken[0], taken[1])


DEFAULT_MS = Settings().debounce_ms
_TYPED = f"{MESSAGES} messages, {PAUSE_SECONDS:g} s apart, in {BURSTS} conversations at a time; an AI that takes 2 s"
_TOGETHER = f"{MESSAGES} messages at the same moment, in {BURSTS} conversations at a time; an AI that takes 2 s"

FIGURES = (
    Figure(
        "burst-typed",
        "AI calls or replies per burst that is typed",
        _TYPED,
        "nothing: each message, answered alone, is a call and a reply",
        Target("≤", 1.2),
        bursts(_typed, DEFAULT_MS),
        unit="per burst",
        rounds=4,
        seconds=15,
    ),
    Figure(
        "burst-at-once",
        "AI calls or replies per burst that comes at once",
        _TOGETHER,
        "nothing: each message, answered alone, is a call and a reply",
        Target("≤", 1.1),
        bursts(_at_once, DEFAULT_MS),
        unit="per burst",
        rounds=4,
        seconds=15,
    ),
    Figure(
        "burst-typed-0",
        "the same burst, typed, with debounce_ms 0",
        _TYPED,
        "nothing",
        None,
        bursts(_typed, 0),
        unit="per burst",
        rounds=3,
        seconds=15,
    ),
    Figure(
        "burst-single",
        "until one message alone is answered / with debounce_ms 0",
        "a message, an AI that takes 2 s, and the default",
        "the same with debounce_ms 0",
        None,
        single,
        unit="s",
        rounds=3,
        seconds=20,
    ),
)
