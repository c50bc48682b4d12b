"""A webhook's body and its signature, by Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from message_handler.domain.documents import shown, timestamp
from message_handler.domain.events import DangerRaised, Event, JobEnded
from message_handler.domain.jobs import Job
from message_handler.domain.raised import Raised


class Unsigned(Exception):
    """The webhook can't be signed: it has no key, or no valid one."""


def body_of(event: Event) -> bytes:
    """The body that tells a platform of an event. It is the same in every try of a delivery, byte for byte."""
    if isinstance(event, JobEnded):
        type_ = "message.failed" if event.job.error else "message.replied"
        data = _end_data(event.job, event.message_ids)
    elif isinstance(event, DangerRaised):
        type_ = "safety.raised"
        data = _raised_data(event.raised)
    else:
        type_ = f"message.{event.kind}"
        data = {
            "conversation_id": event.key.conversation_id,
            "message_id": event.message_id,
            "job_id": event.job_id,
            "bot_id": event.bot_id,
            "correlation_id": event.correlation_id or None,
        }
    value = {"type": type_, "timestamp": timestamp(event.happened_at), "data": data}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _end_data(job: Job, message_ids: Sequence[str]) -> dict[str, Any]:
    return shown(job, "webhook") | {
        "conversation_id": job.key.conversation_id,
        "message_ids": list(message_ids),
        "consolidated_messages": job.consolidated_messages,
        "reply": {"role": "assistant", "content": job.reply} if job.reply is not None else None,
        "notice": job.error.notice if job.error else None,
        "error": {"code": job.error.code} if job.error else None,
        "correlation_id": job.correlation_id or None,
    }


def _raised_data(raised: Raised) -> dict[str, Any]:
    return {
        "conversation_id": raised.key.conversation_id,
        "job_id": raised.job_id,
        "level": raised.level,
        "rule": raised.rule,
        "notice": raised.notice,
        "message_ids": list(raised.message_ids),
        "bot_id": raised.bot_id,
        "drill": raised.drill,
        "reminder": raised.reminder,
        "correlation_id": raised.correlation_id or None,
    }


def signing_key(secret: str) -> bytes:
    """The key in a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes. Raises Unsigned."""
    prefix, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Unsigned from None
    if prefix != "whsec" or not 24 <= len(key) <= 64:
        raise Unsigned
    return key


def signed(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove the sender to a receiver: one signature for each key, so that keys can be replaced.

    Raises Unsigned without a key.
    """
    if not keys:
        raise Unsigned
    content = f"{webhook_id}.{timestamp}.".encode() + body
    digests = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }
