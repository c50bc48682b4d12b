"""The worker function: works on the records of a batch in parallel, and so answers their conversations."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from message_handler.domain.errors import SettingsError
from message_handler.domain.jobs import Job
from message_handler.domain.records import DeliveryRecord, Outcome
from message_handler.http.rest import log_crash
from message_handler.metrics import Meter
from message_handler.queue.codec import decode, is_delivery
from message_handler.queue.hiding import Hiding
from message_handler.queue.sqs import SqsQueue, sent_at
from message_handler.queue.timing import ALONE_FROM, MAX_RECEIVE_COUNT, retry_delay
from message_handler.wiring import Parts, build
from message_handler.worker.worker import FOLLOW_UP_SECONDS

logger = Logger()
metrics = Metrics()
meter = Meter()
copy_config_to_registered_loggers(logger, include={"message_handler"})
warnings.filterwarnings("ignore", "No application metrics to publish")  # most calls have none

#: Seconds of the function's time that are kept to report the batch's outcome.
REPORT_SECONDS = 3.0


@cache
def parts() -> Parts:
    return build(deployed=True, meter=meter)


@cache
def threads() -> ThreadPoolExecutor:
    """A thread for each record of a full batch: they mostly wait for an AI."""
    return ThreadPoolExecutor(10, thread_name_prefix="record")


@logger.inject_lambda_context(log_event=False)  # even if the environment asks for it: events hold patients' words
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    logger.set_correlation_id(context.aws_request_id)  # of lines that belong to no single record
    deadline = time.time() + context.get_remaining_time_in_millis() / 1000 - REPORT_SECONDS
    records = event["Records"]
    try:
        queue = hiding_queue(records)  # builds the parts before the threads start: each of them would build its own
    except SettingsError as error:
        log_crash(error)
        raise
    if queue:
        with Hiding(queue, {record["receiptHandle"]: receive_count(record) for record in records}) as hiding:
            outcomes = work(records, deadline, hiding)
    else:
        outcomes = work(records, deadline, None)
    for outcome in outcomes.values():
        for job in outcome.ended if outcome else ():
            report(job)
    meter.publish(metrics.add_metric)
    failed = [id_ for id_, outcome in outcomes.items() if outcome is None or outcome.retry_in is not None]
    return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in failed]}


def hiding_queue(records: list[dict[str, Any]]) -> SqsQueue | None:
    """The queue that hides the batch's records, so that one whose worker dies comes back after seconds.

    None: the queue is in this process, or the records only wake deliveries. The sweep replaces lost ones, and each call
    would cost as much as the record itself.
    """
    built = parts()
    name = (built.settings.delivery_queue_url or "/").rpartition("/")[2]
    if not any(name and record["eventSourceARN"].rpartition(":")[2] == name for record in records):
        return built.single_try_queue
    return None if all(is_delivery(record["body"]) for record in records) else built.delivery_queue


def id_of(record: dict[str, Any]) -> str:
    return str(record["messageId"])


def receive_count(record: dict[str, Any]) -> int:
    return int(record["attributes"]["ApproximateReceiveCount"])


def work(records: list[dict[str, Any]], deadline: float, hiding: Hiding | None) -> dict[str, Outcome | None]:
    """The outcome of each record, by its id; None for a record that failed."""

    def work_on(record: dict[str, Any]) -> Outcome | None:
        try:
            outcome = process(record, deadline)
            seconds = outcome.retry_in if outcome else retry_delay(receive_count(record))
            if hiding and seconds is not None:
                hiding.return_after(record["receiptHandle"], seconds)
            return outcome
        finally:
            logger.thread_safe_clear_keys()

    together = [record for record in records if receive_count(record) < ALONE_FROM]
    outcomes = dict(zip(map(id_of, together), threads().map(work_on, together), strict=True))
    for record in alone(records):
        if time.time() + FOLLOW_UP_SECONDS <= deadline:
            outcomes[id_of(record)] = work_on(record)
        else:
            outcomes[id_of(record)] = None
            if hiding:
                hiding.return_after(record["receiptHandle"], retry_delay(receive_count(record)))
    return outcomes


def alone(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records to work on after all others, one by one, in this order: one of them may kill the process.

        third receive:   a  b  poison ── dies        a and b are answered
        fourth:          d  c  poison ── dies        so are c and d

    A record that is received for the last time goes first. Otherwise one that kills the process would make it a dead
    letter.
    """
    suspects = [record for record in records if receive_count(record) >= ALONE_FROM]
    backwards = max(map(receive_count, suspects), default=0) % 2 == 0
    suspects.sort(key=id_of, reverse=backwards)
    return sorted(suspects, key=lambda record: receive_count(record) < MAX_RECEIVE_COUNT)


def process(record: dict[str, Any], deadline: float) -> Outcome | None:
    """Work on a record. None if it failed unexpectedly: after its last receive it becomes a dead letter."""
    decoded = None
    try:
        decoded = decode(record["body"], sent_at(record["attributes"]))
        if decoded.correlation_id:
            logger.thread_safe_append_keys(correlation_id=decoded.correlation_id)
        return parts().worker.process(decoded, deadline, receive_count(record))
    except Exception as error:  # noqa: BLE001  the other records of the batch go on
        log_crash(error, sqs_message_id=record["messageId"])
        # The sweep wakes a delivery's conversation again.
        return Outcome(None) if isinstance(decoded, DeliveryRecord) else None


def report(job: Job) -> None:
    logger.info(
        "ended",
        extra={
            **job.log_fields,
            "status": job.status.value,
            "consolidated_messages": len(job.messages),
            "restarts": job.restarts,
            "error_code": job.error.code if job.error else None,
        },
    )
