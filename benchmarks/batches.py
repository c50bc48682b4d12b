"""Ten records in one batch: a worker waits for ten AI calls at once and pays for one wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import ModuleType

from benchmarks.figure import Figure, Round, Target
from benchmarks.functions import Context, batch, variables, warm
from benchmarks.stores import Stores
from message_handler.ai.port import Prompt
from message_handler.ai.simulated import SimulatedAI
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.messages import Request, new_message
from message_handler.domain.records import Record
from message_handler.queue.codec import encode

CONTEXT = Context("WorkerFunction")
DELAY_MS = "2000"
RECORDS = 10


def answering(stores: Stores) -> Iterator[Round]:
    prompt = Prompt("Healthcare Assistant", (), (new_message("Hello", None),), timeout=30)
    with warm(variables(stores, "worker", SIMULATED_AI_DELAY_MS=DELAY_MS), "worker") as app:
        _answer(app, 1)  # the first batch opens connections, which is not measured
        while True:
            ours = _answer(app, RECORDS)
            start = time.perf_counter()
            SimulatedAI(DELAY_MS).complete(prompt, lambda _text: None)
            yield Round(ours, time.perf_counter() - start)


def _answer(app: ModuleType, count: int) -> float:
    """Seconds until a batch is answered. Each of its `count` records is of another conversation."""
    event = batch([_record(number) for number in range(count)])
    start = time.perf_counter()
    assert app.handler(event, CONTEXT) == {"batchItemFailures": []}
    return time.perf_counter() - start


def _record(number: int) -> str:
    key = ConversationKey("default", f"batch-{time.perf_counter_ns()}-{number}")
    message = new_message("Thuốc này uống mấy lần một ngày?", f"m-{time.perf_counter_ns()}", time.time())
    return encode(Record(key.new_job_id(), message.message_id, Request(key, (message,), (), "default")))


FIGURES = (
    Figure(
        "batch",
        "ten 2-second AI calls in a batch / one call",
        "the worker function's handler with ten records of ten conversations, each answered and committed",
        "one call of the same AI, alone",
        Target("≤", 1.05),
        answering,
        unit="s",
        rounds=4,
        seconds=20,
    ),
)
