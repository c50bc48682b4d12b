"""What a human's turn changes: which of a patient's messages it answers, and which wait for the bot.

Both archives decide by these functions, under their own lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from message_handler.domain.consolidation import match, with_alias
from message_handler.domain.conversations import Turn
from message_handler.domain.errors import Conflict
from message_handler.domain.handoff import ParkedMessage
from message_handler.domain.messages import Message, new_message


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a patient said, and what a human said to that."""

    messages: tuple[Message, ...]
    sale: Turn


def is_noted(sale: Turn, archived: Iterable[tuple[str | None, str]]) -> bool:
    """Whether a SALE turn is one of those archived, (id, content): by its id, where one has none by its content."""
    return any(
        id_ == sale.message_id if id_ and sale.message_id else content == sale.content for id_, content in archived
    )


def exchanges(said: Sequence[Turn], noted: Callable[[Turn], bool]) -> list[Exchange]:
    """What is new of a request's turns up to its newest SALE turn, under ids; nothing if that one was noted before."""
    begin = next((n + 1 for n in range(len(said) - 1, -1, -1) if said[n].role == "sale" and noted(said[n])), 0)
    new: list[Exchange] = []
    messages: list[Message] = []
    for turn in said[begin:]:
        if turn.role == "sale":
            new.append(Exchange(tuple(messages), turn))
            messages = []
        elif turn.content.strip():
            messages.append(new_message(turn.content, turn.message_id))
    return new


def answered(
    held: Sequence[ParkedMessage], settled: Collection[str], messages: Sequence[Message]
) -> tuple[tuple[Message, ...], tuple[ParkedMessage, ...]]:
    """Those of the messages that a human has answered now, under all their ids; and what was parked of them."""
    waiting = [kept for kept in held if not kept.answered_by]
    open_, found = [], []
    for message, index in zip(messages, match([kept.message for kept in waiting], messages), strict=True):
        if index is not None:
            found.append(waiting[index])
            open_.append(with_alias(waiting[index].message, message))
        elif message.message_id not in settled:
            open_.append(message)
    return tuple(open_), tuple(found)


def to_park(
    messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any], job_id: str | None = None
) -> list[ParkedMessage]:
    """The messages with what a job for them needs, which the last of them carries."""
    held = [ParkedMessage(message, job_id=job_id) for message in messages]
    return [*held[:-1], *(replace(last, context=tuple(context), resources=resources) for last in held[-1:])]


def check_reopen(status: str, copy_of: str | None) -> None:
    """Whether a job that is archived so may be retried. Raises Conflict."""
    if status == "processing":
        # It ended while Postgres was away, and a record brings the news; or the conversation was erased meanwhile.
        raise Conflict("its end is not in Postgres, or not yet: try again in a minute", field="job_id")
    if status != "failed":
        raise Conflict("the job has not failed", field="job_id")
    if copy_of:
        raise Conflict(f"it is a copy of the job {copy_of}: retry that one", field="job_id")


def reopened(
    message_ids: Sequence[str], contents: Sequence[str], given_ids: Sequence[str | None], ids: Collection[str]
) -> tuple[Message, ...]:
    """A failed job's messages out of what is archived of them, in their order; `ids` are all ids that were settled.

    Whose aliases the others are nobody knows any more: all of it goes to one job, so that any will do. Raises Conflict
    if what was said is not kept any more.
    """
    if not message_ids or len(message_ids) != len(contents):
        raise Conflict("what the patient said is not kept any more", field="job_id")
    aliases = tuple(sorted(set(ids) - set(message_ids)))
    pairs = zip(message_ids, contents, given_ids, strict=True)
    messages = [Message(id_, content, given is not None) for id_, content, given in pairs]
    return (*messages[:-1], replace(messages[-1], aliases=aliases))


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of messages that are to be parked.

    `kept` are new ones, and those that are parked already with what is newly known of them; `answered` are those that
    a human has answered under another id, with the job that says so. `duplicate`: the last was known.
    """

    kept: tuple[ParkedMessage, ...]
    answered: tuple[tuple[Message, ParkedMessage], ...]
    duplicate: bool


def decide(
    held: Sequence[ParkedMessage],
    settled: AbstractSet[str],
    messages: Sequence[ParkedMessage],
    *,
    moved: bool,
) -> Decision:
    """`moved`: from a tier, where a message may wait under another id than the one under which a human answered it."""
    known = [kept for kept in held if moved or not kept.answered_by]
    open_ = [new for new in messages if settled.isdisjoint(new.message.ids)]
    found = match([kept.message for kept in known], [new.message for new in open_])
    kept, done = [], []
    for new, index in zip(open_, found, strict=True):
        was = known[index] if index is not None else None
        if was is None:
            kept.append(new)
        elif was.answered_by:
            done.append((new.message, was))
        else:
            kept.append(replace(was, message=with_alias(was.message, new.message), job_id=was.job_id or new.job_id))
    is_new = not messages or (bool(open_) and open_[-1] is messages[-1] and found[-1] is None)
    return Decision(tuple(kept), tuple(done), duplicate=not is_new)
