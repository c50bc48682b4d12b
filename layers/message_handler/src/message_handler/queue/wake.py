"""Waking a conversation: one record that stands for all messages of a job."""

from __future__ import annotations

import logging

from message_handler.domain.errors import PayloadTooLarge
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Request, dated
from message_handler.domain.records import Record
from message_handler.ports.queue import Queue

_log = logging.getLogger(__name__)


def wake(queue: Queue, job: Job, *, delay: int = 0) -> None:
    """Send one record that stands for all messages of a job; its own is the last. Raises Unavailable."""
    messages = dated(job.promised_messages, job.created_at)
    request = Request(job.key, messages, job.context, job.bot_id, job.resources, job.correlation_id)
    if not job.messages:
        return  # all of it has been undone
    try:
        queue.send(Record(job.job_id, job.messages[-1].message_id, request), delay=delay)
    except PayloadTooLarge:
        # The messages have records of their own: without this one they are late.
        _log.error("too large to wake", extra={"ai_job_id": job.job_id})
