"""A record as JSON, which holds everything that is needed to answer, because every store may forget."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, job_from_json, job_to_json, turns_from_json, turns_to_json
from message_handler.domain.errors import PayloadTooLarge
from message_handler.domain.messages import Message, Request, dated
from message_handler.domain.records import AnyRecord, ArchiveRecord, DeliveryRecord, Record

#: What one record may hold: SQS takes 1 MiB, and needs some of it for attributes.
MAX_RECORD_BYTES = 1_000_000


def encode(record: AnyRecord) -> str:
    """The record as JSON. Raises PayloadTooLarge where a conversation keeps more text waiting than a record holds."""
    if isinstance(record, ArchiveRecord):
        value: dict[str, Any] = {"archive": job_to_json(record.job)}
    elif isinstance(record, DeliveryRecord):
        value = {"deliver": asdict(record.key)}
    else:
        request = record.request
        value = {
            "platform_id": request.key.platform_id,
            "conversation_id": request.key.conversation_id,
            "job_id": record.job_id,
            "message_id": record.message_id,
            "bot_id": request.bot_id,
            "messages": [_message_to_json(record, message) for message in request.messages],
            "context": turns_to_json(request.context),
            "resources": request.resources,
            "correlation_id": request.correlation_id,
            "double_texting": request.double_texting,
        }
    if record.redriven:
        value["redriven"] = record.redriven
    body = as_text(value)
    # All of JSON's text but these two may be in an SQS message; a third of the bytes of escaping everything.
    body = body.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    if len(body.encode()) > MAX_RECORD_BYTES:
        raise PayloadTooLarge("the conversation has too much unanswered text; wait for the reply")
    return body


def _message_to_json(record: Record, message: Message) -> dict[str, Any]:
    """A message of the record; that its own message was promised the record's job goes without saying."""
    if record.message_id in message.ids and message.promised == (record.job_id,):
        message = replace(message, promised=())
    return message.to_json()


def decode(body: str, sent_at: float = 0.0) -> AnyRecord:
    """The record in an SQS message's body. Raises ValueError, KeyError or TypeError for one that is none of ours.

    One of an earlier version does not say when its messages were accepted: then when it was sent (Unix seconds).
    """
    value: dict[str, Any] = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("no record")
    redriven = value.get("redriven", 0)
    if "archive" in value:
        job = job_from_json(value["archive"])
        return ArchiveRecord(replace(job, messages=dated(job.messages, job.created_at)), redriven)
    if "deliver" in value:
        return DeliveryRecord(ConversationKey(**value["deliver"]), redriven)
    record = Record(
        job_id=value["job_id"],
        message_id=value["message_id"],
        request=Request(
            key=ConversationKey(value["platform_id"], value["conversation_id"]),
            messages=tuple(Message.from_json(message) for message in value["messages"]),
            context=turns_from_json(value["context"]),
            bot_id=value["bot_id"],
            resources=value["resources"],
            # Records of an earlier version have neither.
            correlation_id=value.get("correlation_id", ""),
            double_texting=value.get("double_texting", "consolidate"),
        ),
        redriven=redriven,
    )
    # A record of an earlier version says of its own message alone what it was promised.
    told = tuple(m.with_promises(record.job_id) if record.message_id in m.ids else m for m in record.request.messages)
    record = replace(record, request=replace(record.request, messages=told))
    if record.accepted_at:
        # What an earlier version took in before has a record of its own, which says more than this one can.
        return record
    return replace(record, request=replace(record.request, messages=dated(record.request.messages, sent_at)))


def key_of(record: AnyRecord) -> ConversationKey:
    """The conversation that a record belongs to."""
    if isinstance(record, DeliveryRecord):
        return record.key
    return record.job.key if isinstance(record, ArchiveRecord) else record.request.key
