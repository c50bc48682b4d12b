"""What Postgres keeps while a human answers. Each function runs in an open transaction, under the row lock."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from message_handler.archive import parking
from message_handler.archive.postgres_jobs import (
    Values,
    end_values,
    key_values,
    numbered,
    settle_values,
    settled_in,
    turn_values,
)
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import as_text, turns_from_json, turns_to_json
from message_handler.domain.handoff import ParkedMessage, ParkedMessages, ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.drivers.postgres import execute
from message_handler.ports.archive import Noted, Settled

if TYPE_CHECKING:
    from pg8000.native import Connection


def note_sale(connection: Connection, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
    """See `Archive.note_sale`."""
    values: Values = key_values(key) | {"bot_id": bot_id}
    sales = [turn for turn in said if turn.role == "sale"]
    wanted = {"turn_ids": [turn.message_id for turn in sales]}
    archived = execute(connection, values | wanted, "lock_conversation", "noted_sales")
    new = parking.exchanges(said, parking.noted_among(archived))
    if not new:
        return "known" if handed_off(connection, key) else "resumed"
    settled = _settled(connection, key, [message for exchange in new for message in exchange.messages])
    answered = parking.answered(parked_messages(connection, key), settled, new)
    job_id = key.new_job_id()
    values |= turn_values(answered.said) | {"job_id": job_id, "times": [None] * len(answered.said)}
    if not answered.messages:
        execute(connection, values, "add_turns", "hand_off")
        return "new"
    # A human has answered the messages: they are settled under a new job that ends as cancelled.
    job = Job(job_id, key, JobStatus.CANCELLED, answered.messages, bot_id, created_at=time.time())
    were_parked = {each.message.message_id: each for each in answered.parked}
    others = [ParkedMessage(m, answered_by=job_id) for m in answered.messages if m.message_id not in were_parked]
    values |= numbered([end_values(job, settled=settled, said=())]) | _parked_values(others)
    values |= {"successor_id": job_id, "job_ids": _promised(answered.parked), "message_ids": list(were_parked)}
    execute(connection, values, "end_jobs", "supersede_jobs", "drop_parked", "park_messages", "add_turns", "hand_off")
    return "new"


def _promised(parked: Sequence[ParkedMessage]) -> list[str]:
    """The jobs that parked messages were promised."""
    return list(dict.fromkeys(each.job_id for each in parked if each.job_id))


def park(
    connection: Connection,
    key: ConversationKey,
    messages: Sequence[Message],
    context: Sequence[Turn],
    resources: dict[str, Any],
    *,
    job_id: str | None = None,
    moved: bool = False,
    for_a_human: Collection[str] | None = None,
) -> ParkResult | None:
    """Park messages that are not settled. `moved`: from a tier, where they were promised the job `job_id`.

    With `for_a_human`, the bot answers the conversation. It is silenced if one of these messages is new. Else nothing
    is parked, and the result is None.
    """
    new = parking.to_park(messages, context, resources, job_id)
    before = parked_messages(connection, key)
    decision = parking.decide(before, _settled(connection, key, messages), new, moved=moved)
    values = key_values(key) | _parked_values(decision.kept) | settle_values(decision.ends())
    values["message_ids"] = [answered.message.message_id for _, answered in decision.answered]
    if for_a_human is not None:
        if decision.new.isdisjoint(for_a_human):
            return None
        execute(connection, values, "hand_off")
    execute(connection, values, *(("park_messages",) if decision.kept else ()), "settle_also", "drop_parked")
    waiting = {each.message.message_id: each.message for each in (*before, *decision.kept) if not each.answered_by}
    return ParkResult(tuple(waiting.values()), decision.duplicate, decision.edited)


def handed_off(connection: Connection, key: ConversationKey) -> bool:
    """Whether a human answers. Takes the row lock."""
    rows = execute(connection, key_values(key), "handoff_state")
    return bool(rows and rows[0][1])


def parked(connection: Connection, key: ConversationKey) -> ParkedMessages | None:
    """See `Archive.parked`."""
    rows = execute(connection, key_values(key), "handoff_state", "drop_settled_parked")
    if not rows or rows[0][1]:
        return None
    waiting = tuple(each for each in parked_messages(connection, key) if not each.answered_by)
    return ParkedMessages(rows[0][0], rows[0][2], waiting)


def unparked(connection: Connection, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
    """See `Archive.unparked`."""
    rows = execute(connection, key_values(key), "handoff_state")
    if not rows:
        return  # the conversation was erased
    (_, human, handoffs), *_ = rows
    if human or handoffs != back.handoffs:
        return
    ids = [each.message.message_id for each in back.parked]
    values = {"job_ids": _promised(back.parked), "successor_id": job_id, "message_ids": ids}
    execute(connection, key_values(key) | values, "supersede_jobs", "drop_parked")


def parked_messages(connection: Connection, key: ConversationKey) -> list[ParkedMessage]:
    """The parked messages that are not settled, oldest first, and those that a human has answered."""
    return [
        ParkedMessage(
            Message(message_id, content, given, tuple(aliases), parked_at),
            turns_from_json(json.loads(context)),
            json.loads(resources),
            job_id,
            answered_by,
        )
        for message_id, content, given, aliases, context, resources, job_id, answered_by, parked_at in execute(
            connection, key_values(key), "parked_messages"
        )
    ]


def _parked_values(parked: Sequence[ParkedMessage]) -> Values:
    """Messages as a parameter of `park_messages`."""
    rows = [
        {
            "message_id": each.message.message_id,
            "content": each.message.content,
            "given": each.message.given,
            "aliases": list(each.message.aliases),
            "context": as_text(turns_to_json(each.context)),
            "resources": as_text(each.resources),
            "job_id": each.job_id,
            "answered_by": each.answered_by,
        }
        for each in parked
    ]
    return {"messages": as_text(rows)}


def _settled(connection: Connection, key: ConversationKey, messages: Sequence[Message]) -> dict[str, Settled]:
    ids = [id_ for message in messages for id_ in message.possible_ids]
    return settled_in(execute(connection, key_values(key) | {"ids": ids}, "settled_of"))
