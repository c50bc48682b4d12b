"""What Postgres keeps while a human answers: statements on a connection, under the conversation's row lock."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from message_handler.archive import parking
from message_handler.archive.postgres_jobs import end_values, key_values, numbered
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import as_text, turns_from_json, turns_to_json
from message_handler.domain.handoff import ParkedMessage, ParkedMessages, ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.drivers.postgres import execute
from message_handler.ports.archive import Noted

if TYPE_CHECKING:
    from pg8000.native import Connection


def note_sale(connection: Connection, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
    """See the port."""
    values = key_values(key) | {"bot_id": bot_id}
    sales = [turn for turn in said if turn.role == "sale"]
    wanted = {"turn_ids": [turn.message_id for turn in sales], "contents": [turn.content for turn in sales]}
    archived = execute(connection, values | wanted, "lock_conversation", "noted_sales")
    new = parking.exchanges(said, lambda turn: parking.is_noted(turn, archived))
    if not new:
        return "known" if handed_off(connection, key) else "resumed"
    for exchange in new:
        if exchange.messages:
            _answered_by_human(connection, key, bot_id, exchange.messages)
        said_now = {"content": exchange.sale.content, "turn_id": exchange.sale.message_id}
        execute(connection, values | said_now, "note_sale")
    execute(connection, values, "hand_off")
    return "new"


def _answered_by_human(
    connection: Connection, key: ConversationKey, bot_id: str, messages: tuple[Message, ...]
) -> None:
    """Settle them under a job of their own, which ends as cancelled: the bot was not needed."""
    settled = _settled(connection, key, messages)
    open_, found = parking.answered(_held(connection, key), settled, messages)
    if not open_:
        return
    job_id = key.new_job_id()
    job = Job(job_id, key, JobStatus.CANCELLED, open_, bot_id, created_at=time.time())
    execute(connection, numbered([end_values(job, settled=settled)]), "end_jobs")
    for kept in found:
        if kept.job_id:
            execute(connection, key_values(key) | {"job_id": kept.job_id, "successor_id": job_id}, "supersede_job")
    execute(connection, key_values(key) | {"message_ids": [kept.message.message_id for kept in found]}, "drop_parked")
    known = {kept.message.message_id for kept in found}
    elsewhere = [ParkedMessage(message, answered_by=job_id) for message in open_ if message.message_id not in known]
    _keep(connection, key, elsewhere)


def park(
    connection: Connection,
    key: ConversationKey,
    messages: Sequence[Message],
    context: Sequence[Turn],
    resources: dict[str, Any],
    *,
    job_id: str | None = None,
    moved: bool = False,
) -> ParkResult:
    """Keep what is not settled. `moved`: from a tier, with the job that it was promised there."""
    new = parking.to_park(messages, context, resources, job_id)
    was = _held(connection, key)
    decided = parking.decide(was, _settled(connection, key, messages), new, moved=moved)
    _keep(connection, key, decided.kept)
    for message, answered in decided.answered:
        execute(connection, key_values(key) | {"job_id": answered.answered_by, "ids": list(message.ids)}, "settle_also")
    done = [answered.message.message_id for _, answered in decided.answered]
    execute(connection, key_values(key) | {"message_ids": done}, "drop_parked")
    waiting = dict.fromkeys(kept.message.message_id for kept in (*was, *decided.kept) if not kept.answered_by)
    return ParkResult(tuple(waiting), decided.duplicate)


def handed_off(connection: Connection, key: ConversationKey) -> bool:
    """Whether a human answers; takes the row lock."""
    rows = execute(connection, key_values(key), "handoff_state")
    return bool(rows and rows[0][1])


def parked(connection: Connection, key: ConversationKey) -> ParkedMessages | None:
    """See the port."""
    rows = execute(connection, key_values(key), "handoff_state", "drop_settled_parked")
    if not rows or rows[0][1]:
        return None
    waiting = tuple(kept for kept in _held(connection, key) if not kept.answered_by)
    return ParkedMessages(rows[0][0], rows[0][2], waiting)


def unparked(connection: Connection, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
    """See the port."""
    rows = execute(connection, key_values(key), "handoff_state")
    if not rows:
        return  # it was erased
    (_, silent, handoffs), *_ = rows
    if silent or handoffs != back.handoffs:
        return
    for promised in dict.fromkeys(kept.job_id for kept in back.parked if kept.job_id):
        execute(connection, key_values(key) | {"job_id": promised, "successor_id": job_id}, "supersede_job")
    ids = [kept.message.message_id for kept in back.parked]
    execute(connection, key_values(key) | {"message_ids": ids}, "drop_parked")


def _held(connection: Connection, key: ConversationKey) -> list[ParkedMessage]:
    return [
        ParkedMessage(
            Message(message_id, content, given, tuple(aliases), held_at),
            turns_from_json(json.loads(context)),
            json.loads(resources),
            job_id,
            answered_by,
        )
        for message_id, content, given, aliases, context, resources, job_id, answered_by, held_at in execute(
            connection, key_values(key), "parked_messages"
        )
    ]


def _keep(connection: Connection, key: ConversationKey, kept: Sequence[ParkedMessage]) -> None:
    rows = [
        {
            "message_id": it.message.message_id,
            "content": it.message.content,
            "given": it.message.given,
            "aliases": list(it.message.aliases),
            "context": as_text(turns_to_json(it.context)),
            "resources": as_text(it.resources),
            "job_id": it.job_id,
            "answered_by": it.answered_by,
        }
        for it in kept
    ]
    if rows:
        execute(connection, key_values(key) | {"held": as_text(rows)}, "park_messages")


def _settled(connection: Connection, key: ConversationKey, messages: Sequence[Message]) -> set[str]:
    ids = [id_ for message in messages for id_ in message.ids]
    return {row[0] for row in execute(connection, key_values(key) | {"ids": ids}, "settled_of")}
