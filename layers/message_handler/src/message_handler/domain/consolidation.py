"""Several messages, one answer: which utterances are the same, and in which order they stand.

A platform may send each message alone, or the whole history each time; with ids, without, or with an id
for the last message only; and all of it in any order. These rules keep every message once:

* Two messages with the platform's ids are the same if the ids are.
* A message without an id is the same as the first waiting message with the same content that no other
  message of the request stands for; so ``yes, yes`` sent as one history are two messages, and an identical
  request while its job lives is a duplicate.
* A request without ids that begins with everything the last answered job answered, and goes on, was made
  before that reply was seen: what was answered is not answered again. So was one of two or more messages
  that is a true beginning of it. Anything else, once answered, is new: a person may say the same again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from message_handler.domain.messages import Message


def match(waiting: Sequence[Message], incoming: Sequence[Message]) -> list[int | None]:
    """For each incoming message the index of the waiting one that is the same utterance, or None.

    Linear: each waiting message enters a queue of its content's once, and leaves it once.
    """
    if not waiting:
        return [None] * len(incoming)
    by_id = {message_id: index for index, message in enumerate(waiting) for message_id in message.ids}
    found = [next((by_id[id_] for id_ in message.ids if id_ in by_id), None) for message in incoming]
    taken = {index for index in found if index is not None}
    # One that the platform named is never the same as another that it named: such a one looks at the unnamed alone.
    same_content: dict[tuple[str, bool], deque[int]] = {}
    for index, message in enumerate(waiting):
        if index not in taken:
            same_content.setdefault((message.digest, False), deque()).append(index)
            if not message.given:
                same_content.setdefault((message.digest, True), deque()).append(index)
    for position, message in enumerate(incoming):
        candidates = same_content.get((message.digest, message.given))
        while candidates and found[position] is None:
            index = candidates.popleft()
            if index not in taken:
                found[position] = index
                taken.add(index)
    return found


def answered_before(last: Sequence[str], incoming: Sequence[Message]) -> int:
    """How many of the incoming messages the last answered job has answered; `last` are its contents' digests.

    See the third rule above: 0 or all of `last`, or all of a shorter request.
    """
    compared = min(len(last), len(incoming))
    if compared == 0 or len(last) == len(incoming) or (len(incoming) < len(last) and compared < 2):
        return 0
    if any(message.given for message in incoming[: compared - (len(incoming) < len(last))]):
        return 0
    same = all(digest == message.digest for digest, message in zip(last, incoming, strict=False))
    return compared if same else 0


def fold(
    waiting: Sequence[Message], incoming: Sequence[Message], found: Sequence[int | None], new: Sequence[bool]
) -> tuple[Message, ...]:
    """The waiting messages with the new ones among `incoming` put where the request has them.

    A run of new messages goes before the waiting message that follows it in the request; the last run goes
    to the end, as it came. `found` are indexes into `waiting` (None: not among them).
    """
    before: dict[int, list[Message]] = {}
    run: list[Message] = []
    for message, index, is_new in zip(incoming, found, new, strict=True):
        if index is not None:
            before.setdefault(index, []).extend(run)
            run = []
        elif is_new:
            run.append(message)
    result: list[Message] = []
    for index, message in enumerate(waiting):
        result.extend(before.get(index, ()))
        result.append(message)
    return (*result, *run)


def with_alias(message: Message, incoming: Message) -> Message:
    """Let a known utterance answer to the incoming one's ids too."""
    aliases = dict.fromkeys(id_ for id_ in (*message.aliases, *incoming.ids) if id_ != message.message_id)
    return replace(message, given=message.given or incoming.given, aliases=tuple(aliases))
