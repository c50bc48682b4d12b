"""Rules of a handoff: which of a patient's messages a human's turn answers, and which wait for the bot.

Both archives use these functions, each under its own lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

from message_handler.archive.versions import SaidTurn, turns_of
from message_handler.domain.consolidation import match, with_alias
from message_handler.domain.conversations import Turn
from message_handler.domain.edits import named
from message_handler.domain.errors import Conflict
from message_handler.domain.handoff import ParkedMessage
from message_handler.domain.messages import Message, base_id, is_edit, new_message
from message_handler.domain.text import is_wordless, words_of
from message_handler.ports.archive import Settled


@dataclass(frozen=True, slots=True)
class Exchange:
    """A patient's messages, and the human's turn (role `sale`) that answers them."""

    messages: tuple[Message, ...]
    sale: Turn


def noted_among(archived: Iterable[tuple[str | None, str]]) -> Callable[[Turn], bool]:
    """Tells of a SALE turn whether it is among the archived ones, each (id, content).

    Compared by id; by words if one of the two has no id.
    """
    # A caller asks about many turns, so each text is brought into its form once.
    by_words: dict[str, bool] = {}
    ids: set[str | None] = set()
    for id_, content in archived:
        words = words_of(content)
        by_words[words] = by_words.get(words, False) or not id_
        ids.add(id_)

    def is_noted(sale: Turn) -> bool:
        if sale.message_id and sale.message_id in ids:
            return True
        without_id = by_words.get(words_of(sale.content))
        return without_id is True or (without_id is False and not sale.message_id)

    return is_noted


def exchanges(said: Sequence[Turn], noted: Callable[[Turn], bool]) -> list[Exchange]:
    """The new exchanges in a request's turns: those after the last SALE turn that was `noted` before.

    Turns after the newest SALE turn are left out, and so are messages whose id an earlier one of them has. Messages
    without an id get one.
    """
    last_noted = next((n for n in range(len(said) - 1, -1, -1) if said[n].role == "sale" and noted(said[n])), -1)
    new: list[Exchange] = []
    messages: list[Message] = []
    ids: set[str] = set()
    for turn in said[last_noted + 1 :]:
        if turn.role == "sale":
            new.append(Exchange(tuple(messages), turn))
            messages = []
        elif not is_wordless(turn.content) and turn.message_id not in ids:
            message = new_message(turn.content, turn.message_id)
            messages.append(message)
            ids.add(message.message_id)
    return new


class Answered(NamedTuple):
    """What a human has answered.

    `messages`: the patient's messages that were open, with all their ids, and all versions of them. `parked`: those of
    them that were parked. `said`: the new turns of both, oldest first.
    """

    messages: tuple[Message, ...]
    parked: tuple[ParkedMessage, ...]
    said: tuple[SaidTurn, ...]


def answered(parked: Sequence[ParkedMessage], settled: Collection[str], new: Sequence[Exchange]) -> Answered:
    """What a human has answered in these exchanges, given what is parked and settled."""
    waiting = [each for each in parked if not each.answered_by]
    said = [(message, number) for number, exchange in enumerate(new) for message in exchange.messages]
    found = match([each.message for each in waiting], [message for message, _ in said])
    open_: list[list[Message]] = [[] for _ in new]
    exchange_of: dict[str, int] = {}
    for (message, number), index in zip(said, found, strict=True):
        if index is not None:
            message = with_alias(waiting[index].message, message)
        elif message.message_id in settled:
            continue
        open_[number].append(message)
        exchange_of |= dict.fromkeys(message.ids, number)
    were_parked = {index for index in found if index is not None}
    for index, message in enumerate(each.message for each in waiting):
        base = base_id(message.message_id)
        if index not in were_parked and base in exchange_of:
            were_parked.add(index)
            open_[exchange_of[base]].append(message)
    return Answered(
        tuple(chain.from_iterable(open_)),
        tuple(waiting[index] for index in sorted(were_parked)),
        tuple(
            turn for own, exchange in zip(open_, new, strict=True) for turn in (*turns_of(own), SaidTurn(exchange.sale))
        ),
    )


def to_park(
    messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any], job_id: str | None = None
) -> list[ParkedMessage]:
    """Messages to be parked. The last one carries the context and resources that a job for them needs."""
    parked = [ParkedMessage(message, job_id=job_id) for message in messages]
    return [*parked[:-1], *(replace(last, context=tuple(context), resources=resources) for last in parked[-1:])]


def check_reopen(status: str, copy_of: str | None) -> None:
    """Raise Conflict unless an archived job with this status may be retried."""
    if status == "processing":
        # The job ended while Postgres was away, and a record will bring its end. Or the conversation was erased.
        raise Conflict("its end is not in Postgres yet: try again in a minute", field="job_id")
    if status != "failed":
        raise Conflict("the job has not failed", field="job_id")
    if copy_of:
        raise Conflict(f"it is a copy of job {copy_of}: retry that one", field="job_id")


def reopened(
    message_ids: Sequence[str],
    contents: Sequence[str],
    given_ids: Sequence[str | None],
    earlier: Sequence[Sequence[str] | None],
    ids: Collection[str],
    at: float,
) -> tuple[Message, ...]:
    """A failed job's messages, in order, from what is archived of them. `ids` are all the ids that it settled.

    They count as accepted `at` this time (Unix seconds), so that no earlier version of them counts as newer.

    `contents`, `given_ids` and `earlier` are those of its turns. A turn with `earlier` texts is a message with several
    versions. An id that is no message's own is an alias. The archive does not say of which message, so the last one
    gets them all: the messages stay together in one job. Raises Conflict if the texts were deleted meanwhile.
    """
    texts = [(*(replaced or ()), content) for content, replaced in zip(contents, earlier, strict=True)]
    if not message_ids or len(message_ids) != sum(map(len, texts)):
        raise Conflict("the patient's messages were deleted meanwhile", field="job_id")
    versions: dict[str, list[str]] = {}
    for id_ in message_ids:
        versions.setdefault(base_id(id_), []).append(id_)
    content_of = {
        id_: (content, given is not None)
        for ids_of_turn, texts_of_turn, given in zip(versions.values(), texts, given_ids, strict=True)
        for id_, content in zip(ids_of_turn, texts_of_turn, strict=True)
    }
    aliases = tuple(sorted(set(ids) - set(message_ids)))
    messages = [Message(id_, *content_of[id_], accepted_at=at) for id_ in message_ids]
    return (*messages[:-1], replace(messages[-1], aliases=aliases))


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to messages that are to be parked.

    `kept`: to be stored, either as new, or in place of a parked message that gets further ids or a job. `new`: the ids
    under which the new ones came. `answered`: a human has answered these under another id; each comes with the parked
    message that says so. `duplicate`: the last message was known before. `edited`: it is a new version of a known
    message.
    """

    kept: tuple[ParkedMessage, ...]
    new: frozenset[str]
    answered: tuple[tuple[Message, ParkedMessage], ...]
    duplicate: bool
    edited: bool

    def ends(self) -> Iterator[tuple[str, Settled]]:
        """All ids of the messages that a human has answered, each with its end."""
        for message, answered in self.answered:
            assert answered.answered_by is not None
            end = Settled(answered.answered_by, "cancelled", message.words_digest, message.accepted_at)
            yield from ((id_, end) for id_ in message.ids)


def decide(
    parked: Sequence[ParkedMessage],
    settled: Mapping[str, Settled],
    messages: Sequence[ParkedMessage],
    *,
    moved: bool,
) -> Decision:
    """Decide what happens to messages that are to be parked, given those that are parked already.

    `moved`: they come from a tier. There a message may wait under another id than the one that a human answered.
    """
    known = [each for each in parked if moved or not each.answered_by]
    came_as = [each.message.message_id for each in messages]
    names = named([new.message for new in messages], [each.message for each in known], settled, again=moved)
    messages = [replace(new, message=name) for new, name in zip(messages, names, strict=True)]
    came = zip(came_as, messages, strict=True)
    opened = [(id_, new) for id_, new in came if settled.keys().isdisjoint(new.message.ids)]
    found = match([each.message for each in known], [new.message for _, new in opened])
    kept, answered, new_ids = [], [], set[str]()
    for (id_, new), index in zip(opened, found, strict=True):
        before = known[index] if index is not None else None
        if before is None:
            kept.append(new)
            new_ids.add(id_)
        elif before.answered_by:
            answered.append((new.message, before))
        else:
            message = with_alias(before.message, new.message)
            kept.append(replace(before, message=message, job_id=before.job_id or new.job_id))
    is_new = not messages or (bool(opened) and opened[-1][1] is messages[-1] and found[-1] is None)
    edited = is_new and bool(messages) and is_edit(messages[-1].message.message_id)
    return Decision(tuple(kept), frozenset(new_ids), tuple(answered), duplicate=not is_new, edited=edited)
