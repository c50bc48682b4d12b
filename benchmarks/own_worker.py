"""The worker function beside its peers: asked as they are (peers/work.py), in the product's own environment.

Its jobs were accepted before the clock runs: locks and jobs are in Redis, records on hand as invocations, as many in
each as the template's mapping has (`BatchSize`). AWS' event source mapping polls SQS outside of the function's process;
what a peer spends on fetching a job from Redis, ours spends on accepting its record again and claiming it there.

What is timed is all that the process then does: it reads the event, and the handler with its threads does for each
record all that it always does: accept again, claim, fence, the simulated AI without delay, seal, commit, finish, and
the look whether the record may be deleted. One batch after the other, as one Lambda environment has them. Nothing is
logged, as with the peers.
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
    """A queue that only keeps what is sent."""

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
        # A loaded machine must not look like a dead store.
        "REDIS_TIMEOUT_MS": "10000",
        "DATABASE_TIMEOUT": "30",
        "SIMULATED_AI_DELAY_MS": "0",
        "POWERTOOLS_SERVICE_NAME": "worker",
        "POWERTOOLS_METRICS_NAMESPACE": "MessageHandler/benchmarks",
    }


def batch_size() -> int:
    """How many records of the job queue one invocation gets, by the template."""
    events = TemplateSource(ROOT / "template.yaml").own_resources["WorkerFunction"]["Properties"]["Events"]
    (mapping,) = (event["Properties"] for event in events.values() if "JobQueue" in str(event["Properties"]["Queue"]))
    return int(mapping["BatchSize"])


def accept(app: ModuleType, order: Order) -> list[str]:
    """A message in each job's conversation, as intake accepts it; the bodies of the records that it sends."""
    parts, queue = app.parts(), _Kept()
    intake = replace(parts.intake, queue=queue)
    for conversation_id, _, message_id in order.jobs:
        message = new_message(CONTENT, message_id, time.time())
        key, bot_id = ConversationKey("default", conversation_id), parts.bots.default["bot_id"]
        intake.accept(Request(key, (message,), (), bot_id))
    return queue.bodies


def work(app: Any, batches: list[str], report: Report) -> None:
    """Each record must be answered at once: one that is sent back is an error."""
    for text in batches:
        event = json.loads(text)
        failures = app.handler(event, CONTEXT)["batchItemFailures"]
        if failures:
            raise RuntimeError(f"{len(failures)} records of a batch were sent back")
        for _ in event["Records"]:
            report.ended()


if __name__ == "__main__":
    main()
