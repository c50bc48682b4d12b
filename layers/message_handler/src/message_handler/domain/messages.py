"""A patient's message, and the request that brings messages."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.identifiers import digest_of
from message_handler.domain.text import words_of

#: Separate the parts of ids that were derived from the platform's, and of edits' ids. The platform's have no blanks.
_SEPARATOR = " "
_EDIT = " edit "
#: An id that intake has made.
_MINTED = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Message:
    """A patient's utterance that needs an answer.

    `given`: whether the id came from the platform; otherwise intake minted it. `aliases` are further ids of the same
    utterance: a platform that sends whole histories may give an id to the last message only. So the same words may come
    once with an id and once without.
    """

    message_id: str
    content: str
    given: bool = False
    aliases: tuple[str, ...] = ()
    #: When intake received it, in Unix seconds. An erasure voids what was accepted before it. 0: an earlier release
    #: accepted it and did not note the time (see `dated`). It counts as accepted long ago.
    accepted_at: float = field(default=0.0, compare=False)
    #: The digest of the content, if it is known. In a line the content lies beside the line, under this digest.
    known_digest: str = field(default="", compare=False)
    #: The ids of further jobs that responses named for this message. Each of them leads to its answer (invariant 2).
    promised: tuple[str, ...] = field(default=(), compare=False)
    #: The digest of the content's words, where the content is not in the message and that digest is another one.
    known_words_digest: str = field(default="", compare=False)
    #: When it was edited (Unix seconds), if the platform says so; else 0.
    edited_at: float = field(default=0.0, compare=False)
    #: It came first as an earlier turn of a request. Such a turn edits no message that was answered.
    earlier: bool = field(default=False, compare=False)

    @property
    def digest(self) -> str:
        """Stands for the content exactly as it was sent: 32 hexadecimal digits."""
        return self.known_digest or digest_of(self.content)

    @property
    def words_digest(self) -> str:
        """Stands for the content where contents are compared. For most texts it equals the `digest`.

        A line of the previous release has only the `digest`. Its messages equal those with exactly the same content.
        """
        if self.known_words_digest:
            return self.known_words_digest
        words = words_of(self.content)
        return self.digest if words == self.content else digest_of(words)

    @property
    def words_digests(self) -> tuple[str, ...]:
        """The digests under which the same words may be known, the best first."""
        words, digest = self.words_digest, self.digest
        return (words,) if words == digest else (words, digest)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids under which the message is known."""
        return (self.message_id, *self.aliases)

    @property
    def turn_id(self) -> str | None:
        """The id of its turn in a conversation: the platform's, or None.

        A message may have come without an id first. Then the id that intake minted stands before the platform's.
        """
        ids = [shown_id(id_) for id_ in self.ids if not is_derived(id_)] if self.given else []
        return next((id_ for id_ in ids if not _MINTED.fullmatch(id_)), next(iter(ids), None))

    @property
    def edit_ids(self) -> tuple[str, ...]:
        """The ids that its words have as an edit: by the words alone, and by the words with `edited_at` if it has one.

        The second id is for words that the message had before.
        """
        if not self.given or is_derived(self.message_id):
            return ()
        base, words = base_id(self.message_id), self.words_digest
        digests = (words, digest_of(f"{words} {self.edited_at}")) if self.edited_at else (words,)
        return tuple(edit_id(base, digest) for digest in digests)

    @property
    def possible_ids(self) -> tuple[str, ...]:
        """All ids under which a store may know it, or another version of it."""
        return (*self.ids, *self.edit_ids, *((base_id(self.message_id),) if is_edit(self.message_id) else ()))

    def with_promises(self, *job_ids: str) -> Message:
        """The message, with these jobs among those that it was promised."""
        new = [job_id for job_id in job_ids if job_id not in self.promised]
        return replace(self, promised=(*self.promised, *new)) if new else self

    def to_json(self) -> dict[str, Any]:
        """The message as records and a job's end have it. Fields that have their default are left out."""
        value: dict[str, Any] = {"message_id": self.message_id, "content": self.content}
        if self.given:
            value["given"] = True
        if self.aliases:
            value["aliases"] = self.aliases
        if self.accepted_at:
            value["accepted_at"] = self.accepted_at
        if self.promised:
            value["promised"] = self.promised
        if self.edited_at:
            value["edited_at"] = self.edited_at
        if self.earlier:
            value["earlier"] = True
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> Message:
        """See `to_json`. Raises KeyError or TypeError if `value` is not a message."""
        return Message(
            value["message_id"],
            value["content"],
            value.get("given", False),
            tuple(value.get("aliases", ())),
            value.get("accepted_at", 0.0),
            promised=tuple(value.get("promised", ())),
            edited_at=value.get("edited_at", 0.0),
            earlier=value.get("earlier", False),
        )


def dated(messages: Iterable[Message], at: float) -> tuple[Message, ...]:
    """The messages; any without a time of acceptance, from an earlier release, gets the time `at` (Unix seconds)."""
    return tuple(message if message.accepted_at else replace(message, accepted_at=at) for message in messages)


def new_message(
    content: str, message_id: str | None, accepted_at: float = 0.0, *, edited_at: float = 0.0, earlier: bool = False
) -> Message:
    """A message with the platform's id, or with a minted id if `message_id` is None.

    With `edited_at` it has a second id, by which a late retry of it is known after its words were replaced.
    """
    id_, given = message_id or os.urandom(16).hex(), message_id is not None
    message = Message(
        id_,
        content,
        given,
        accepted_at=accepted_at,
        known_digest=digest_of(content),
        edited_at=edited_at,
        earlier=earlier and given,
    )
    return replace(message, aliases=message.edit_ids[1:])


def known_by(messages: Sequence[Message], own_id: str) -> tuple[Message, ...]:
    """The messages of a request that ends with a message without words, whose id is `own_id`.

    The platform gave its id to a message that nothing answers. So those with words are known by ids derived from it:
    the same request again has the same ids. Words that come later under `own_id` itself are a message of their own.
    The last message also gets such an id if it has one from the platform.
    """
    times: Counter[str] = Counter()
    result: list[Message] = []
    for message in messages:
        words = message.words_digest
        times[words] += 1
        derived = f"{own_id}{_SEPARATOR}{words}" + (f"{_SEPARATOR}{times[words]}" if times[words] > 1 else "")
        if not message.given:
            message = replace(message, message_id=derived)
        elif len(result) + 1 == len(messages):
            message = replace(message, aliases=(*message.aliases, derived))
        result.append(message)
    return tuple(result)


def is_derived(message_id: str) -> bool:
    """Whether the id was derived from the id of a message without words (see `known_by`)."""
    return _SEPARATOR in message_id and not is_edit(message_id)


def is_edit(message_id: str) -> bool:
    """Whether the id is an edit's: the platform's id, and the digest of the edit's words (see `edits.py`)."""
    return _EDIT in message_id


def edit_id(base: str, digest: str) -> str:
    """The id of an edit of the message with the id `base`. `digest` stands for its words."""
    return f"{base}{_EDIT}{digest}"


def base_id(message_id: str) -> str:
    """The id of the message that an edit is a version of. Any other id stays as it is."""
    return message_id.partition(_EDIT)[0]


def shown_id(message_id: str) -> str:
    """The id as clients see it. In place of a derived id or an edit's, it is the id that the platform gave."""
    return message_id.partition(_SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class Request:
    """What intake accepts: the patient's unanswered messages, oldest first, and the turns before them.

    `debounce`: for how many seconds the patient must be quiet before the AI is asked. `debounce_max`: the most seconds
    that a run waits for one burst.
    """

    key: ConversationKey
    messages: tuple[Message, ...]
    context: tuple[Turn, ...]
    bot_id: str
    resources: dict[str, Any] = field(default_factory=dict)
    correlation_id: str = ""
    double_texting: DoubleTexting = "consolidate"
    # The next four count at the first accept only: no record carries them.
    debounce: float = field(default=0.0, compare=False)
    debounce_max: float = field(default=10.0, compare=False)
    #: Whether the request is refused if too many messages wait. Messages that were accepted before are never refused.
    bounded: bool = field(default=False, compare=False)
    #: The ids of the messages with danger after which a human answers: the first accept hands the conversation off.
    for_a_human: frozenset[str] = field(default=frozenset(), compare=False)
