"""The worker function: answers the conversations that its batch of records wakes, all of them at once."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from message_handler.errors import Unavailable
from message_handler.metrics import Meter
from message_handler.models import DeliveryRecord, Job, Outcome
from message_handler.queues import SqsQueue, decode, sent_at
from message_handler.rest import log_crash
from message_handler.wiring import Parts, build

logger = Logger()
metrics = Metrics()
meter = Meter()
copy_config_to_registered_loggers(logger, include={"message_handler"})
warnings.filterwarnings("ignore", "No application metrics to publish")  # most calls have none

#: What is left of the function's time for reporting what became of the batch.
REPORT_SECONDS = 3.0


@cache
def parts() -> Parts:
    return build(deployed=True, meter=meter)


@cache
def threads() -> ThreadPoolExecutor:
    """One thread for each record of a full batch: they mostly wait for an AI."""
    return ThreadPoolExecutor(10, thread_name_prefix="record")


@logger.inject_lambda_context(log_event=False)  # whatever the environment says: events hold patients' words
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    deadline = time.time() + context.get_remaining_time_in_millis() / 1000 - REPORT_SECONDS
    records = event["Records"]
    parts()  # before there are threads: each would build its own
    outcomes = list(threads().map(lambda record: process(record, deadline), records))
    for outcome in outcomes:
        for job in outcome.ended if outcome else ():
            report(job)
    meter.publish(metrics.add_metric)
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, outcome in zip(records, outcomes, strict=True)
            if outcome is None or outcome.back is not None
        ]
    }


def process(record: dict[str, Any], deadline: float) -> Outcome | None:
    """None for a record that can't be worked on: after so many tries it rests in the dead letters."""
    receive_count = int(record["attributes"]["ApproximateReceiveCount"])
    decoded = None
    try:
        decoded = decode(record["body"], sent_at(record["attributes"]))
        outcome = parts().worker.process(decoded, deadline, receive_count)
    except Exception as error:  # noqa: BLE001  the batch's other records go on
        log_crash(error, sqs_message_id=record["messageId"])
        if isinstance(decoded, DeliveryRecord):
            return Outcome(None)  # the sweep wakes its conversation again
        hide(record, parts().worker.retry_after(receive_count))
        return None
    if outcome.back is not None:
        hide(record, outcome.back)
    return outcome


def hide(record: dict[str, Any], seconds: float) -> None:
    queue, deliveries = parts().queue, parts().settings.delivery_queue_url
    if deliveries and record["eventSourceARN"].rpartition(":")[2] == deliveries.rpartition("/")[2]:
        return  # the job queue knows nothing of its receipt: it comes back by itself
    if isinstance(queue, SqsQueue):
        # If SQS refuses, the record comes back after the queue's own visibility timeout.
        with suppress(Unavailable):
            queue.hide(record["receiptHandle"], seconds)


def report(job: Job) -> None:
    logger.info(
        "ended",
        extra={
            "ai_job_id": job.job_id,
            "correlation_id": job.correlation_id,
            "status": job.status.value,
            "consolidated_messages": len(job.messages),
            "restarts": job.restarts,
            "error_code": job.error.code if job.error else None,
        },
    )
