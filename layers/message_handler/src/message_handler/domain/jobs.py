"""A job: one answer in the making, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.messages import Message


class TextRef(NamedTuple):
    """Stands for a long value in a line: the digest of its JSON, which is kept beside the line, and its items."""

    digest: str
    items: int


class JobStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Terminal: status, reply and error never change again; only `superseded_by` may be added."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable `code` for programs, a `message` for people; never a patient's words."""

    code: str
    message: str
    #: What the patient is told, in the bot's language.
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost, in the provider's tokens."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What answered a job: the bot and the AI core that were asked, each in the revision that was read for it.

    Without an id or a revision it was the default, which nobody configured, or the copy of an earlier version.
    """

    bot_id: str
    bot_revision: int | None
    core_ai_id: str | None
    core_ai_revision: int | None
    model: str | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run that goes on is: characters of the reply so far, and the text itself where the bot shows it."""

    characters: int
    text: str | None = None


#: Where a field of a job goes: into its line while it lives, into the document of its end, into the answer to a client
#: (`view`), an operator's list, a conversation's export, and the event for the platform.
Place = Literal["line", "end", "view", "list", "export", "webhook"]


def goes_to(*places: Place) -> dict[str, frozenset[Place]]:
    """The metadata of a job's field: documents, rows, answers and their schemas follow from that alone."""
    return {"places": frozenset(places)}


@dataclass(frozen=True, slots=True)
class Job:
    """One answer in the making. What ends with `_at` is a time, in Unix seconds.

    A field that `goes_to` places is written and read there by its declaration (`documents.py`). What each place
    writes in a way of its own (the key, messages and long texts) is declared without.
    """

    job_id: str = field(metadata=goes_to("line", "end", "view", "list", "export", "webhook"))
    key: ConversationKey
    status: JobStatus = field(metadata=goes_to("line", "end", "view", "list", "export"))
    messages: tuple[Message, ...]
    bot_id: str = field(metadata=goes_to("end", "list", "export", "webhook"))
    context: tuple[Turn, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    #: In a line they stand for context and resources, which lie beside it.
    context_ref: TextRef | None = field(default=None, compare=False)
    resources_ref: TextRef | None = field(default=None, compare=False)
    restarts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    attempts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    sealed: bool = field(default=False, metadata=goes_to("line"))
    maybe_committed: bool = field(default=False, metadata=goes_to("line"))
    #: Ended in the tier while Postgres was away: an `archive` record carries its end there.
    unarchived: bool = field(default=False, metadata=goes_to("end"))
    #: Ended because a human answers: its open messages wait in Postgres, and no tier may take them for ended.
    parked: bool = False
    #: The messages that a cancel which has begun covers: what comes later is not cancelled with them.
    cancelled: tuple[str, ...] = field(default=(), metadata=goes_to("line"))
    created_at: float = field(default=0.0, metadata=goes_to("line", "end", "view", "list", "export"))
    #: A run waits for this before it asks the AI: the patient may still be typing, and has been since `typing_at`.
    ready_at: float = field(default=0.0, metadata=goes_to("line"))
    typing_at: float = field(default=0.0, metadata=goes_to("line"))
    started_at: float | None = field(default=None, metadata=goes_to("line", "end", "view", "list", "export"))
    finished_at: float | None = field(default=None, metadata=goes_to("end", "view", "list", "export"))
    reply: str | None = field(default=None, metadata=goes_to("end", "view", "export", "webhook"))
    error: JobError | None = field(default=None, metadata=goes_to("end", "view"))
    usage: Usage | None = field(default=None, metadata=goes_to("end", "view"))
    #: None until an AI was asked.
    provenance: Provenance | None = field(default=None, metadata=goes_to("end", "view", "export", "webhook"))
    progress: Progress | None = None
    #: Messages that were promised this job, beside its own, and that another one runs or has answered.
    promised: tuple[str, ...] = field(default=(), metadata=goes_to("end"))
    superseded_by: str | None = field(default=None, metadata=goes_to("end", "view", "list", "export"))
    #: Of the request that created it: runs through logs, provider call and webhook.
    correlation_id: str = field(default="", metadata=goes_to("line", "end", "export", "webhook"))

    @property
    def created(self) -> int:
        """`created_at` in whole microseconds, as exact as Postgres keeps it."""
        return round(self.created_at * 1_000_000)

    @property
    def context_turns(self) -> int:
        return self.context_ref.items if self.context_ref else len(self.context)

    @property
    def given_ids(self) -> tuple[str, ...]:
        """The ids of those of its messages that the platform named."""
        return tuple(id_ for message in self.messages if message.given for id_ in message.ids)

    @property
    def accepted_at(self) -> float:
        """When the oldest of its messages was accepted (Unix seconds)."""
        return min((message.accepted_at for message in self.messages), default=math.inf)

    def before_its_end(self) -> Job:
        """The job as it runs, without what only its end has."""
        return replace(
            self,
            status=JobStatus.PROCESSING,
            unarchived=False,
            finished_at=None,
            reply=None,
            error=None,
            usage=None,
            provenance=None,
        )

    @property
    def promised_messages(self) -> tuple[Message, ...]:
        """Its messages, which were promised this job."""
        return tuple(message.with_promises(self.job_id) for message in self.messages)

    @property
    def promises(self) -> dict[str, list[str]]:
        """The other jobs that its messages were promised, each with the ids of those messages."""
        found: dict[str, list[str]] = {}
        for message in self.messages:
            for job_id in message.promised:
                if job_id != self.job_id:
                    found.setdefault(job_id, []).append(message.message_id)
        return found

    def being_cancelled(self) -> Job:
        """The job with those messages alone that its cancel covers."""
        return replace(self, messages=tuple(m for m in self.messages if m.message_id in self.cancelled))
