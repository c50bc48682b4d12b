"""A webhook's body and its signature, by Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

from message_handler.domain.documents import shown, timestamp
from message_handler.domain.jobs import Job


class Unsigned(Exception):
    """The webhook can't be signed: it has no key, or no valid one."""


def event(job: Job, message_ids: Sequence[str]) -> bytes:
    """The body that tells a platform of a job's end. It is the same in every try of a delivery, byte for byte."""
    data = shown(job, "webhook") | {
        "conversation_id": job.key.conversation_id,
        "message_ids": list(message_ids),
        "consolidated_messages": len(job.messages),
        "reply": {"role": "assistant", "content": job.reply} if job.reply is not None else None,
        "notice": job.error.notice if job.error else None,
        "error": {"code": job.error.code} if job.error else None,
        "correlation_id": job.correlation_id or None,
    }
    kind = "message.failed" if job.error else "message.replied"
    value = {"type": kind, "timestamp": timestamp(job.finished_at or 0.0), "data": data}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


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
