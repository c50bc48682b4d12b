"""A patient's messages, and the request that brings them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.identifiers import digest_of


@dataclass(frozen=True, slots=True)
class Message:
    """A patient's utterance that wants an answer.

    `given` tells the platform's own ids from those that intake mints. `aliases` are further ids of the
    same utterance: a platform that sends whole histories names only the last message, so the same words
    may arrive first without an id and then with one.
    """

    message_id: str
    content: str
    given: bool = False
    aliases: tuple[str, ...] = ()
    #: When intake was given it, in Unix seconds: an erasure voids what was accepted before it. 0: an earlier
    #: version took it in, see `dated`; it counts as long ago.
    accepted_at: float = field(default=0.0, compare=False)
    #: The digest of the content, if known; in a line it stands for a content that lies beside it.
    known_digest: str = field(default="", compare=False)
    #: The jobs that its platform was told, beside the one that it is in: each of them leads to its answer.
    promised: tuple[str, ...] = field(default=(), compare=False)

    @property
    def digest(self) -> str:
        """Stands for the content where messages without ids are compared."""
        return self.known_digest or digest_of(self.content)

    @property
    def ids(self) -> tuple[str, ...]:
        return (self.message_id, *self.aliases)

    def with_promises(self, *job_ids: str) -> Message:
        """The message, which was promised these jobs too."""
        new = [job_id for job_id in job_ids if job_id not in self.promised]
        return replace(self, promised=(*self.promised, *new)) if new else self

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"message_id": self.message_id, "content": self.content}
        if self.given:
            value["given"] = True
        if self.aliases:
            value["aliases"] = self.aliases
        if self.accepted_at:
            value["accepted_at"] = self.accepted_at
        if self.promised:
            value["promised"] = self.promised
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> Message:
        return Message(
            value["message_id"],
            value["content"],
            value.get("given", False),
            tuple(value.get("aliases", ())),
            value.get("accepted_at", 0.0),
            promised=tuple(value.get("promised", ())),
        )


def dated(messages: Iterable[Message], at: float) -> tuple[Message, ...]:
    """The messages, those of a version that did not note when they were accepted as of `at` (Unix seconds)."""
    return tuple(message if message.accepted_at else replace(message, accepted_at=at) for message in messages)


def new_message(content: str, message_id: str | None, accepted_at: float = 0.0) -> Message:
    """A message under the platform's id, or under a minted one."""
    id_, given = message_id or os.urandom(16).hex(), message_id is not None
    return Message(id_, content, given, (), accepted_at, digest_of(content))


@dataclass(frozen=True, slots=True)
class Request:
    """What intake accepts: the patient's unanswered messages, oldest first, and the turns before them.

    `debounce`: so many seconds the patient must be quiet before the AI is asked; `debounce_max`: in all, of one burst.
    """

    key: ConversationKey
    messages: tuple[Message, ...]
    context: tuple[Turn, ...]
    bot_id: str
    resources: dict[str, Any] = field(default_factory=dict)
    correlation_id: str = ""
    double_texting: DoubleTexting = "consolidate"
    # For the first accept alone: no record carries them.
    debounce: float = field(default=0.0, compare=False)
    debounce_max: float = field(default=10.0, compare=False)
    #: Whether it is refused where too many messages wait. What was promised once is taken in, however many there are.
    bounded: bool = field(default=False, compare=False)
