"""The worker function beside its peers: it is asked and tells as they do (peers/work.py), in the product's environment.

The jobs were accepted before the clock runs: their locks and jobs are in Redis, their records on hand as the body of
invocations, ten in each. (SQS is polled by AWS' event source mapping, outside of the function's process; what a peer
spends on fetching a job from Redis, ours spends on accepting its record again and claiming it there.) What is timed is
all that the process then does: reading the event, the handler with its threads, and in it for each job accept again,
claim, fence, the simulated AI without delay, seal, commit, finish, and the look whether its record may be deleted. One
batch after the other, as one Lambda environment has them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.work import CONTENT, Order, Report, receive

WORKER = Path(__file__).parents[1] / "functions/worker/app.py"
QUEUE_ARN = "arn:aws:sqs:eu-central-1:123456789012:jobs"


@dataclass
class Context:
    """As the runtime gives it; the time that is left is the function's."""

    function_name: str = "worker"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:worker"
    aws_request_id: str = "benchmark"

    def get_remaining_time_in_millis(self) -> int:
        return 115_000


def main() -> None:
    order, report = receive("redis", "pg8000")
    app = load(order)
    batches = invocations(accepted(app, order))
    work(app, batches, report)
    report.tell()


def load(order: Order) -> Any:
    """The function's module, over the order's stores."""
    os.environ |= {
        "REDIS_URL": order.redis_url,
        "DATABASE_URL": order.database_url,
        # A loaded machine must not look like a dead store.
        "REDIS_TIMEOUT_MS": "10000",
        "DATABASE_TIMEOUT": "30",
        "SIMULATED_AI_DELAY_MS": "0",
        "POWERTOOLS_SERVICE_NAME": "worker",
        "POWERTOOLS_METRICS_NAMESPACE": "benchmark",
    }
    spec = importlib.util.spec_from_file_location("worker_app", WORKER)
    assert spec and spec.loader
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


def accepted(app: Any, order: Order) -> list[str]:
    """Accept a message for each job, as intake does; the bodies of the records that it sends."""
    from message_handler.models import ConversationKey, Request, new_message
    from message_handler.queues import encode

    sent: list[str] = []

    class Sent:
        name, in_process = "sent", False

        def send(self, record: Any, *, delay: int = 0) -> None:
            sent.append(encode(record))

    intake = replace(app.parts().intake, queue=Sent())
    bot_id = app.parts().bots.default["bot_id"]
    for conversation_id, _, message_id in order.jobs:
        message = new_message(CONTENT, message_id, time.time())
        intake.accept(Request(ConversationKey("default", conversation_id), (message,), (), bot_id))
    return sent


def invocations(bodies: list[str]) -> list[str]:
    """What the runtime would hand over: events as JSON, ten records in each."""
    records = [
        {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "receipt",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(time.time() * 1000))},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": QUEUE_ARN,
            "awsRegion": "eu-central-1",
        }
        for body in bodies
    ]
    return [json.dumps({"Records": records[first : first + 10]}) for first in range(0, len(records), 10)]


def work(app: Any, batches: list[str], report: Report) -> None:
    """Every record must be answered at once: one that is sent back is an error."""
    context = Context()
    for batch in batches:
        event = json.loads(batch)
        failures = app.handler(event, context)["batchItemFailures"]
        if failures:
            raise RuntimeError(f"{len(failures)} records of a batch were not answered")
        for _ in event["Records"]:
            report.ended()


if __name__ == "__main__":
    main()
