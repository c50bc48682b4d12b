"""All that is stored about a patient's conversation, as JSON, a page at a time."""

from __future__ import annotations

from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import defaults, timestamp, turns_to_json
from message_handler.domain.errors import InvalidRequest, NotFound
from message_handler.domain.jobs import Job
from message_handler.domain.messages import shown_id
from message_handler.ports.retention import Retention
from message_handler.tiers.failover import Failover

#: Lambda answers with at most 6 MB, and escaping may turn one byte into five.
MOST_RECORDS = 1_000
MOST_BYTES = 1024 * 1024

#: The kinds of archived records, in the order of an export. A page may begin within each of them.
_SECTIONS = ("conversation", "turn", "job", "settled", "held", "delivery", "raised", "finding")


def export(
    retention: Retention,
    tiers: Failover,
    key: ConversationKey,
    *,
    after: str | None = None,
    most: int = MOST_RECORDS,
    most_bytes: int = MOST_BYTES,
) -> dict[str, Any]:
    """The page of `GET /admin/conversations/{conversation_id}/export` that begins behind `after`.

    `records` are objects with a `kind`: `conversation`, `turn`, `job`, `settled`, `held`, `delivery`, `raised`,
    `finding`, and last `waiting`, a job as a tier has it. `next` is the `after` of the following page, and None on the
    last page. Raises NotFound if nothing is stored, or InvalidRequest. Raises Unavailable while a store is away,
    because an export must be complete.
    """
    kept = retention.kept(key, _position(after), most=most, most_bytes=most_bytes)
    # A field that a job's record lacks is empty in Postgres. The export shows its default value.
    absent = defaults("export")
    records = [
        _with_shown_ids(absent | stored.record if stored.record["kind"] == "job" else stored.record) for stored in kept
    ]
    if kept:
        return {
            "conversation_id": key.conversation_id,
            "records": records,
            "next": f"{kept[-1].section}.{kept[-1].key}",
        }
    for tier in tiers.tiers:
        records += [_waiting(tier.name, job) for job in tier.jobs(key)]
    if not records and after is None:
        raise NotFound("there is no such conversation", field="conversation_id")
    return {"conversation_id": key.conversation_id, "records": records, "next": None}


def begins_in(after: str) -> str:
    """The `kind` of the record behind which a page begins, for the audit. Raises InvalidRequest."""
    return _SECTIONS[_position(after)[0]]


def _position(after: str | None) -> tuple[int, str]:
    if after is None:
        return -1, ""
    section, dot, last = after.partition(".")
    if not dot or section not in map(str, range(len(_SECTIONS))) or not last.isascii() or "\x00" in last:
        raise InvalidRequest("must be the `next` of an earlier page", field="after")
    return int(section), last


def _with_shown_ids(record: dict[str, Any]) -> dict[str, Any]:
    """The record, with ids of messages as clients see them."""
    lists = {name: record[name] for name in ("message_ids", "aliases") if name in record}
    shown: dict[str, Any] = {name: [*dict.fromkeys(map(shown_id, ids))] for name, ids in lists.items()}
    if own_id := record.get("message_id"):
        shown["message_id"] = shown_id(own_id)
    return record | shown


def _waiting(tier: str, job: Job) -> dict[str, Any]:
    return {
        "kind": "waiting",
        "tier": tier,
        "job_id": job.job_id,
        "bot_id": job.bot_id,
        "status": job.status.value,
        "messages": [
            {
                "message_id": shown_id(message.message_id),
                "content": message.content,
                "aliases": [*dict.fromkeys(map(shown_id, message.aliases))],
                "accepted_at": timestamp(message.accepted_at),
            }
            for message in job.messages
        ],
        "context": turns_to_json(job.context),
        "resources": job.resources,
        "created_at": timestamp(job.created_at),
    }
