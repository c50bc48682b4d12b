"""Several messages, one answer: which messages are the same utterance, and in which order they stand.

A platform may send each message alone, or the whole history each time. It may send ids, no ids, or an id for the
last message only. Requests may arrive in any order. Three rules keep every message exactly once:

1. Two messages that both have an id from the platform are the same if their ids are the same.
2. A message without an id is compared by its words (`words_of`). It is the same as the first waiting message with these
   words that no other message of the request has matched. So ``yes, yes`` in one history are two messages, and a
   request that is repeated while its job lives is a duplicate.
3. A platform may make a request without ids before it sees the last reply. Then the request repeats messages that the
   last job has answered, and these are not answered again. Two requests are taken for such a repetition:

   - one that begins with all messages of the last job, and has more after them, or a message without words that has an
     id;
   - one of two or more messages, all of them the first messages of the last job, which had more. (Its last message may
     have an id.)

   Any other repetition of an answered message is new: a person may say the same again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from message_handler.domain.messages import Message, is_derived


def match(waiting: Sequence[Message], incoming: Sequence[Message]) -> list[int | None]:
    """For each incoming message: the index of the waiting message that is the same utterance, or None.

    Takes linear time: each waiting message enters a queue for its words once, and leaves it once.
    """
    if not waiting:
        return [None] * len(incoming)
    by_id = {message_id: index for index, message in enumerate(waiting) for message_id in message.ids}
    found = [next((by_id[id_] for id_ in message.ids if id_ in by_id), None) for message in incoming]
    taken = {index for index in found if index is not None}
    # By its words, and by whether the incoming message has the platform's id. Two messages with different ids of the
    # platform are never the same. So an incoming message with such an id is compared only with messages without one.
    same_words: dict[tuple[str, bool], deque[int]] = {}
    for index, message in enumerate(waiting):
        if index not in taken:
            same_words.setdefault((message.words_digest, False), deque()).append(index)
            if not message.given:
                same_words.setdefault((message.words_digest, True), deque()).append(index)
    for position, message in enumerate(incoming):
        for digest in message.words_digests:
            candidates = same_words.get((digest, message.given))
            while candidates and found[position] is None:
                index = candidates.popleft()
                if index not in taken:
                    found[position] = index
                    taken.add(index)
    return found


def answered_before(last: Sequence[str], incoming: Sequence[Message]) -> int:
    """How many of the first incoming messages the last job has answered already (rule 3 above).

    `last` are the `words_digest` of that job's messages, in order. The result is 0, or the length of the shorter one.
    """
    compared = min(len(last), len(incoming))
    if compared == 0 or (len(incoming) < len(last) and compared < 2):
        return 0
    if len(last) == len(incoming) and not is_derived(incoming[-1].message_id):
        return 0
    if any(message.given for message in incoming[: compared - (len(incoming) < len(last))]):
        return 0
    same = all(digest in message.words_digests for digest, message in zip(last, incoming, strict=False))
    return compared if same else 0


def fold(
    waiting: Sequence[Message], incoming: Sequence[Message], found: Sequence[int | None], new: Sequence[bool]
) -> tuple[Message, ...]:
    """The waiting messages, with the new messages of the request inserted where the request has them.

    `found` has for each incoming message its index in `waiting`, or None. `new` says which incoming messages to insert.
    A run of new messages goes before the waiting message that follows the run in the request. A run with no waiting
    message after it goes to the end.
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
    """The known message, which from now on is also found by the ids of the incoming one."""
    aliases = dict.fromkeys(id_ for id_ in (*message.aliases, *incoming.ids) if id_ != message.message_id)
    return replace(message, given=message.given or incoming.given, aliases=tuple(aliases))
