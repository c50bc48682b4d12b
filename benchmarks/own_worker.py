"""The worker function beside its peers, asked like them (peers/work.py), in the product's own environment.

Its jobs are accepted before the clock runs: locks and jobs are in Redis. The records are on hand as invocations with
the template's `BatchSize`. AWS' event source mapping polls SQS outside of the function's process. A peer spends time on
fetching a job from Redis; our worker spends it on accepting the record again and claiming it there.

The clock covers all that the process then does. It reads the event. For each record the handler accepts again, claims,
takes the fence, asks the simulated AI (no delay), seals, commits, finishes, and checks whether to delete the record.
Batches follow one another, as in one Lambda environment. Neither side logs.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import ModuleType
from typing import Any

from benchmarks.functions import ROOT, Context, batch, warm
from benchmarks.peers.work import CONTENT, Order, Report, receive
from local.template import TemplateSource
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.messages import Request, new_message
from message_handler.domain.records import AnyRecord
from message_handler.queue.codec import encode

CONTEXT = Context("WorkerFunction")


class _Kept:
    """A queue that keeps what is sent and delivers nothing."""

    name = "kept"
    in_process = False

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        self.bodies.append(encode(record))


def main() -> None:
    order, report = receive("redis", "pg8000")
    with warm(_environment(order), "worker") as app:
        bodies = accept(app, order)
        size = batch_size()
        batches = [json.dumps(batch(bodies[first : first + size])) for first in range(0, len(bodies), size)]
        work(app, batches, report)
        report.tell()


def _environment(order: Order) -> dict[str, str]:
    return {
        "REDIS_URL": order.redis_url,
        "DATABASE_URL": order.database_url,
        # So that a loaded machine does not look like a dead store.
        "REDIS_TIMEOUT_MS": "10000",
        "DATABASE_TIMEOUT": "30",
        "SIMULATED_AI_DELAY_MS": "0",
        "POWERTOOLS_SERVICE_NAME": "worker",
        "POWERTOOLS_METRICS_NAMESPACE": "MessageHandler/benchmarks",
    }


def batch_size() -> int:
    """The number of job records in one invocation, from the template."""
    events = TemplateSource(ROOT / "template.yaml").own_resources["WorkerFunction"]["Properties"]["Events"]
    (mapping,) = (event["Properties"] for event in events.values() if "JobQueue" in str(event["Properties"]["Queue"]))
    return int(mapping["BatchSize"])


def accept(app: ModuleType, order: Order) -> list[str]:
    """Accept a message in each job's conversation, as intake does. Returns the bodies of its records."""
    parts, queue = app.parts(), _Kept()
    intake = replace(parts.intake, queue=queue)
    for conversation_id, _, message_id in order.jobs:
        message = new_message(CONTENT, message_id, time.time())
        key, bot_id = ConversationKey("default", conversation_id), parts.bots.default["bot_id"]
        intake.accept(Request(key, (message,), (), bot_id))
    return queue.bodies


def work(app: Any, batches: list[str], report: Report) -> None:
    """Answer each record at once. Raises RuntimeError if one is sent back."""
    for text in batches:
        event = json.loads(text)
        failures = app.handler(event, CONTEXT)["batchItemFailures"]
        if failures:
            raise RuntimeError(f"{len(failures)} records of a batch were sent back")
        for _ in event["Records"]:
            report.ended()


if __name__ == "__main__":
    main()
