"""What Postgres keeps while a human answers. Each function runs in an open transaction, under the row lock."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from message_handler.archive import parking
from message_handler.archive.postgres_jobs import end_values, key_values, numbered, settled_in
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
    values = key_values(key) | {"bot_id": bot_id}
    sales = [turn for turn in said if turn.role == "sale"]
    wanted = {"turn_ids": [turn.message_id for turn in sales]}
    archived = execute(connection, values | wanted, "lock_conversation", "noted_sales")
    new = parking.exchanges(said, parking.noted_among(archived))
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
    """Settle the messages under a new job that ends as cancelled: a human has answered them."""
    settled = _settled(connection, key, messages)
    open_, found = parking.answered(parked_messages(connection, key), settled, messages)
    if not open_:
        return
    job_id = key.new_job_id()
    job = Job(job_id, key, JobStatus.CANCELLED, open_, bot_id, created_at=time.time())
    execute(connection, numbered([end_values(job, settled=settled)]), "end_jobs")
    for parked in found:
        if parked.job_id:
            execute(connection, key_values(key) | {"job_id": parked.job_id, "successor_id": job_id}, "supersede_job")
    were_parked = [parked.message.message_id for parked in found]
    execute(connection, key_values(key) | {"message_ids": were_parked}, "drop_parked")
    others = [message for message in open_ if message.message_id not in were_parked]
    _store(connection, key, [ParkedMessage(message, answered_by=job_id) for message in others])


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
    if for_a_human is not None:
        if decision.new.isdisjoint(for_a_human):
            return None
        execute(connection, key_values(key), "hand_off")
    _store(connection, key, decision.kept)
    for message, answered in decision.answered:
        assert answered.answered_by is not None
        end = Settled(answered.answered_by, "cancelled", message.words_digest, message.accepted_at)
        execute(connection, key_values(key) | {"ids": list(message.ids)} | end._asdict(), "settle_also")
    done = [answered.message.message_id for _, answered in decision.answered]
    execute(connection, key_values(key) | {"message_ids": done}, "drop_parked")
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
    for promised in dict.fromkeys(each.job_id for each in back.parked if each.job_id):
        execute(connection, key_values(key) | {"job_id": promised, "successor_id": job_id}, "supersede_job")
    ids = [each.message.message_id for each in back.parked]
    execute(connection, key_values(key) | {"message_ids": ids}, "drop_parked")


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


def _store(connection: Connection, key: ConversationKey, parked: Sequence[ParkedMessage]) -> None:
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
    if rows:
        execute(connection, key_values(key) | {"messages": as_text(rows)}, "park_messages")


def _settled(connection: Connection, key: ConversationKey, messages: Sequence[Message]) -> dict[str, Settled]:
    ids = [id_ for message in messages for id_ in message.possible_ids]
    return settled_in(execute(connection, key_values(key) | {"ids": ids}, "settled_of"))
