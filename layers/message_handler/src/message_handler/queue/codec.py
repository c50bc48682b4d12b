"""Records as JSON. A record has everything that is needed to answer, because every store may forget."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, job_from_json, job_to_json, turns_from_json, turns_to_json
from message_handler.domain.errors import PayloadTooLarge
from message_handler.domain.messages import Message, Request, dated
from message_handler.domain.raised import Raised
from message_handler.domain.records import (
    AnyRecord,
    ArchiveRecord,
    DeliveryRecord,
    NoticeRecord,
    Record,
    WordlessRecord,
)

#: The largest record. SQS accepts 1 MiB, of which attributes need a part.
MAX_RECORD_BYTES = 1_000_000


def encode(record: AnyRecord) -> str:
    """The record as JSON. Raises PayloadTooLarge if a conversation keeps more text waiting than a record can hold."""
    if isinstance(record, ArchiveRecord):
        value: dict[str, Any] = {"archive": job_to_json(record.job)}
    elif isinstance(record, WordlessRecord):
        value = {
            "wordless": [message.to_json() for message in record.messages],
            "platform_id": record.key.platform_id,
            "conversation_id": record.key.conversation_id,
            "bot_id": record.bot_id,
            "correlation_id": record.correlation_id,
        }
    elif isinstance(record, NoticeRecord):
        value = {"notice": record.raised.to_json()}
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
    # SQS allows all characters of the JSON but these two. Escaping every character outside ASCII would triple the size.
    body = body.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    if len(body.encode()) > MAX_RECORD_BYTES:
        raise PayloadTooLarge("the conversation has too much unanswered text; send the message again after the reply")
    return body


def is_delivery(body: str) -> bool:
    """Whether a body is that of a DeliveryRecord. The sweep replaces a lost one, and no other record."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return isinstance(value, dict) and "deliver" in value


def _message_to_json(record: Record, message: Message) -> dict[str, Any]:
    """A message of the record. Its own message was promised the record's `job_id`, so that promise is left out."""
    if record.message_id in message.ids and message.promised == (record.job_id,):
        message = replace(message, promised=())
    return message.to_json()


def decode(body: str, sent_at: float = 0.0) -> AnyRecord:
    """The record in an SQS message's body. Raises ValueError, KeyError or TypeError if the body is not a record.

    A record of an earlier release does not say when its messages were accepted. They get the time at which the record
    was sent, `sent_at` (Unix seconds).
    """
    value: dict[str, Any] = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("not a record")
    redriven = value.get("redriven", 0)
    if "archive" in value:
        job = job_from_json(value["archive"])
        return ArchiveRecord(replace(job, messages=dated(job.messages, job.created_at)), redriven)
    if "wordless" in value:
        key = ConversationKey(value["platform_id"], value["conversation_id"])
        messages = tuple(map(Message.from_json, value["wordless"]))
        return WordlessRecord(key, value["bot_id"], messages, value["correlation_id"], redriven)
    if "notice" in value:
        return NoticeRecord(Raised.from_json(value["notice"]), redriven)
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
            # Records of an earlier release have neither.
            correlation_id=value.get("correlation_id", ""),
            double_texting=value.get("double_texting", "consolidate"),
        ),
        redriven=redriven,
    )
    # Its own message was promised its job, see `_message_to_json`.
    promised = tuple(
        message.with_promises(record.job_id) if record.message_id in message.ids else message
        for message in record.request.messages
    )
    record = replace(record, request=replace(record.request, messages=promised))
    if record.accepted_at:
        # Other messages may lack a time, because an earlier release accepted them. Their own records bring it.
        return record
    return replace(record, request=replace(record.request, messages=dated(record.request.messages, sent_at)))
