"""A job: the work on one answer, from the first accepted message to its end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.edits import newest_versions
from message_handler.domain.messages import Message, is_derived, is_edit, shown_id


class TextRef(NamedTuple):
    """Stands for a long value that lies beside its line: the digest of its JSON, and its number of items."""

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
        """Whether the status is terminal. Then status, reply and error never change again (invariant 10).

        Only `superseded_by` may still be added.
        """
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable `code` for programs, and a `message` for people without a patient's words."""

    code: str
    message: str
    #: The notice that the patient gets, in the bot's language.
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost, in the provider's tokens."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What answered a job: the bot and the AI core that were asked, each with the revision that was read.

    An id or revision is None for the default, which no tenant configured, and for an answer of an earlier release.
    `rules_version`: the safety rules that the messages were read with.
    """

    bot_id: str
    bot_revision: int | None
    core_ai_id: str | None
    core_ai_revision: int | None
    model: str | None
    simulated: bool
    rules_version: str | None = None


@dataclass(frozen=True, slots=True)
class MessageFinding:
    """Danger that the rules `rules_version` have found in a message of a job: the strongest match.

    `place` has the start and the end of each matched word in the message's text. It has no text.
    """

    message_id: str
    level: str
    rule: str
    rules_version: str
    place: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the current run is: characters of the reply so far, and its text if the bot's configuration shows it."""

    characters: int
    text: str | None = None


#: What a job gives the patient. A `reply` is the answer to its messages. A `notice` is a safety notice: it has no
#: messages, settles none, and ends as it is made.
JobKind = Literal["reply", "notice"]

#: Where a field of a job goes. While the job lives: its `line`. Afterwards: the document of its `end`. For readers: the
#: answer to a client (`view`), an operator's `list`, the `export` of a conversation, and the `webhook`'s event.
Place = Literal["line", "end", "view", "list", "export", "webhook"]


def goes_to(*places: Place) -> dict[str, frozenset[Place]]:
    """The metadata of a job's field. Documents, rows, answers and their schemas follow from it alone."""
    return {"places": frozenset(places)}


@dataclass(frozen=True, slots=True)
class Job:
    """The work on one answer. Fields that end with `_at` are times in Unix seconds.

    A field that `goes_to` places is written and read there by its declaration (see `documents.py`). Fields without a
    declaration (the key, messages, long texts) are written by each place in its own way.
    """

    job_id: str = field(metadata=goes_to("line", "end", "view", "list", "export", "webhook"))
    key: ConversationKey
    status: JobStatus = field(metadata=goes_to("line", "end", "view", "list", "export"))
    messages: tuple[Message, ...]
    bot_id: str = field(metadata=goes_to("end", "list", "export", "webhook"))
    context: tuple[Turn, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    #: In a line, these stand for context and resources, which lie beside it.
    context_ref: TextRef | None = field(default=None, compare=False)
    resources_ref: TextRef | None = field(default=None, compare=False)
    #: How often it was started again, for newer messages or by an interruption (invariant 8).
    restarts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    #: How often a worker has claimed it.
    attempts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    #: No message may join it any more, because its commit follows.
    sealed: bool = field(default=False, metadata=goes_to("line"))
    #: A worker may have committed it: only Postgres knows (counterexample 10).
    maybe_committed: bool = field(default=False, metadata=goes_to("line"))
    #: The job ended in the tier while Postgres was away. An `archive` record brings its end to Postgres.
    unarchived: bool = field(default=False, metadata=goes_to("end"))
    #: The job ended because a human answers. Its open messages wait in Postgres: no tier may remember them as answered.
    parked: bool = False
    #: (An export shows it as `job_kind`, because each of its records has a `kind`.)
    kind: JobKind = field(default="reply", metadata=goes_to("end", "view", "list"))
    #: A notice that an operator has raised for a drill: no patient is in danger.
    drill: bool = field(default=False, metadata=goes_to("end", "view", "list", "export"))
    #: The ids of the messages that a begun cancel covers. It does not cover messages that come later.
    cancelled: tuple[str, ...] = field(default=(), metadata=goes_to("line"))
    created_at: float = field(default=0.0, metadata=goes_to("line", "end", "view", "list", "export"))
    #: No first run asks the AI before `ready_at`, because the patient may still be typing. `typing_at`: since when.
    ready_at: float = field(default=0.0, metadata=goes_to("line"))
    typing_at: float = field(default=0.0, metadata=goes_to("line"))
    started_at: float | None = field(default=None, metadata=goes_to("line", "end", "view", "list", "export"))
    finished_at: float | None = field(default=None, metadata=goes_to("end", "view", "list", "export"))
    reply: str | None = field(default=None, metadata=goes_to("end", "view", "export", "webhook"))
    error: JobError | None = field(default=None, metadata=goes_to("end", "view"))
    usage: Usage | None = field(default=None, metadata=goes_to("end", "view"))
    #: None until an AI was asked for the job.
    provenance: Provenance | None = field(default=None, metadata=goes_to("end", "view", "export", "webhook"))
    #: Danger in its messages, by the rules.
    findings: tuple[MessageFinding, ...] = field(default=(), metadata=goes_to("end"))
    progress: Progress | None = None
    #: Ids of further messages that were promised this job. Another job runs them or has answered them.
    promised: tuple[str, ...] = field(default=(), metadata=goes_to("end"))
    #: The id of the job that answers what this one did not (invariant 2).
    superseded_by: str | None = field(default=None, metadata=goes_to("end", "view", "list", "export"))
    #: Comes from the request that created the job. Logs, the call to the provider and the webhook carry it.
    correlation_id: str = field(default="", metadata=goes_to("line", "end", "export", "webhook"))

    @property
    def log_fields(self) -> dict[str, str]:
        """What each log line about the job says. Without an id, the call's own is logged."""
        own = {"correlation_id": self.correlation_id} if self.correlation_id else {}
        return {"ai_job_id": self.job_id} | own

    @property
    def created(self) -> int:
        """`created_at` in whole microseconds, which is Postgres' precision."""
        return round(self.created_at * 1_000_000)

    @property
    def context_turns(self) -> int:
        """The number of turns in its context, whether the context was read or not."""
        return self.context_ref.items if self.context_ref else len(self.context)

    @property
    def consolidated_messages(self) -> int:
        """The number of its messages. The versions of one message count once."""
        return len(newest_versions(self.messages))

    @property
    def given_ids(self) -> tuple[str, ...]:
        """The ids of its messages that came from the platform, and those from which ids were derived."""
        given = (id_ for message in self.messages for id_ in message.ids if message.given or is_derived(id_))
        return tuple(dict.fromkeys(map(shown_id, given)))

    @property
    def edited_ids(self) -> tuple[str, ...]:
        """The platform's ids of those messages that are edits."""
        edits = (message.message_id for message in self.messages if is_edit(message.message_id))
        return tuple(dict.fromkeys(map(shown_id, edits)))

    @property
    def accepted_at(self) -> float:
        """When its oldest message was accepted (Unix seconds); infinity without messages."""
        return min((message.accepted_at for message in self.messages), default=math.inf)

    def before_its_end(self) -> Job:
        """The job as it was while it ran, without the fields that only its end has."""
        return replace(
            self,
            status=JobStatus.PROCESSING,
            unarchived=False,
            finished_at=None,
            reply=None,
            error=None,
            usage=None,
            provenance=None,
            findings=(),
        )

    @property
    def promised_messages(self) -> tuple[Message, ...]:
        """Its messages, each with this job among the jobs that it was promised."""
        return tuple(message.with_promises(self.job_id) for message in self.messages)

    @property
    def promises(self) -> dict[str, list[str]]:
        """The ids of the other jobs that its messages were promised, each with the ids of those messages."""
        found: dict[str, list[str]] = {}
        for message in self.messages:
            for job_id in message.promised:
                if job_id != self.job_id:
                    found.setdefault(job_id, []).append(message.message_id)
        return found

    def being_cancelled(self) -> Job:
        """The job with only the messages that its begun cancel covers."""
        return replace(self, messages=tuple(m for m in self.messages if m.message_id in self.cancelled))
