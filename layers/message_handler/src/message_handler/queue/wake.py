"""Wakes a conversation by one record that carries all messages of a job."""

from __future__ import annotations

import logging

from message_handler.domain.errors import PayloadTooLarge
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Request, dated
from message_handler.domain.records import Record
from message_handler.ports.queue import Queue

_log = logging.getLogger(__name__)


def wake(queue: Queue, job: Job, *, delay: int = 0) -> None:
    """Send one record with all messages of a job, the last of them as its own. Raises Unavailable.

    `delay`: seconds until a worker receives it.
    """
    if not job.messages:
        return  # all its messages were undone
    messages = dated(job.promised_messages, job.created_at)
    request = Request(job.key, messages, job.context, job.bot_id, job.resources, job.correlation_id)
    try:
        queue.send(Record(job.job_id, job.messages[-1].message_id, request), delay=delay)
    except PayloadTooLarge:
        # The messages also have records of their own. Without this one, they are only answered later.
        _log.error("a job is too large for one record; its messages' own records answer it", extra=job.log_fields)
