"""The words of the domain as frozen values. Nothing here reads a clock, an environment or a store."""

from __future__ import annotations

import hashlib
import math
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, NamedTuple

Role = Literal["user", "assistant", "sale"]

#: What becomes of a message that comes while another is being answered.
DoubleTexting = Literal["consolidate", "enqueue", "interrupt", "reject"]

#: Every key of a shard carries its number as hash tag, so that one conversation stays in one cluster slot.
SHARDS = 1024
DEFAULT_PLATFORM = "default"
_IDENTIFIER = re.compile(r"[A-Za-z0-9._:@-]{1,255}", re.ASCII)


def is_identifier(value: object) -> bool:
    """Whether `value` can name a conversation, platform or bot: 1 to 255 of ``A-Z a-z 0-9 . _ : @ -``."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance in a conversation, as a patient (`user`), the bot or a human agent (`sale`) said it."""

    role: Role
    content: str
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """One patient's conversation with one bot; the unit of isolation, locking and ordering."""

    platform_id: str
    conversation_id: str

    @property
    def shard(self) -> int:
        """0 to 1023. The separator can be in neither id, so two keys never read alike."""
        return _shard_of(f"{self.platform_id}/{self.conversation_id}")

    @property
    def name_hash(self) -> str:
        """Stands for the conversation where its id must not be kept."""
        return hashlib.sha256(f"{self.platform_id}/{self.conversation_id}".encode()).hexdigest()

    def new_job_id(self) -> str:
        """A UUIDv8 (RFC 9562) whose first 10 bits name the shard, so that an id alone finds its keys."""
        bits = os.urandom(16)
        return _uuid((self.shard << 6 | bits[1] & 0x3F).to_bytes(2) + bits[2:], "8")


def new_id() -> str:
    """A UUIDv4, as `uuid.uuid4()` makes it in four times the time.

    From the system's own randomness: a process that was restored from a snapshot, or forked, repeats none.
    """
    return _uuid(os.urandom(16), "4")


def _uuid(bits: bytes, version: str) -> str:
    digits = bits.hex()
    variant = "89ab"[bits[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(1000)  # each step asks for that of its keys
def _shard_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest()) % SHARDS


def shard_of_job(job_id: str) -> int | None:
    """The shard that a job id names, or None where the id is none of ours."""
    try:
        value = uuid.UUID(job_id)
    except (ValueError, TypeError, AttributeError):  # no UUID, no text
        return None
    return value.int >> 118 if value.version == 8 and str(value) == job_id else None


def digest_of(text: str) -> str:
    """Stands for a text: 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class TextRef(NamedTuple):
    """Stands for a long value in a line: the digest of its JSON, which is kept beside the line, and its items."""

    digest: str
    items: int


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
    kept: str = field(default="", compare=False)
    #: The jobs that its platform was told, beside the one that it is in: each of them leads to its answer.
    promised: tuple[str, ...] = field(default=(), compare=False)

    @property
    def digest(self) -> str:
        """Stands for the content where messages without ids are compared."""
        return self.kept or digest_of(self.content)

    @property
    def ids(self) -> tuple[str, ...]:
        return (self.message_id, *self.aliases)

    def told(self, *job_ids: str) -> Message:
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

    A field that `goes_to` places is written and read there by its declaration (`stores/documents.py`). What each place
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
    kept_context: TextRef | None = field(default=None, compare=False)
    kept_resources: TextRef | None = field(default=None, compare=False)
    restarts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    attempts: int = field(default=0, metadata=goes_to("line", "end", "view", "list", "export"))
    sealed: bool = field(default=False, metadata=goes_to("line"))
    maybe_committed: bool = field(default=False, metadata=goes_to("line"))
    #: Ended in the tier while Postgres was away: an `archive` record carries its end there.
    unarchived: bool = field(default=False, metadata=goes_to("end"))
    #: Ended because a human answers: its open messages wait in Postgres, and no tier may take them for ended.
    held: bool = False
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
        return self.kept_context.items if self.kept_context else len(self.context)

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
    def told(self) -> tuple[Message, ...]:
        """Its messages, which were promised this job."""
        return tuple(message.told(self.job_id) for message in self.messages)

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


@dataclass(frozen=True, slots=True)
class Accepted:
    """The tier's answer to an accept.

    `lock_id` is set for whoever took the lock. `message_id` is the id under which the request's own (last)
    message is known, `pending` are all messages that waited when it was accepted, its own among them,
    oldest first (empty where the job has ended): with them a record alone can redo the work. `posted` are
    the ids to take back if the record can't be sent. `interrupted` is the job that was running and gave its messages
    to this one, as it ended.
    """

    job_id: str
    message_id: str
    lock_id: str | None
    duplicate: bool
    consolidated_messages: int
    pending: tuple[Message, ...]
    posted: tuple[str, ...] = ()
    interrupted: Job | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What SQS keeps: everything needed to answer, should every store forget.

    `job_id` is the job that was promised, `message_id` the record's own message: only when that one is
    settled may the record be deleted. `redriven`: how often it came back from the dead letters.
    """

    job_id: str
    message_id: str
    request: Request
    redriven: int = 0

    @property
    def accepted_at(self) -> float:
        """When its own message was accepted (Unix seconds)."""
        own = [message for message in self.request.messages if self.message_id in message.ids]
        return max(message.accepted_at for message in own or self.request.messages)

    def accepted_after(self, moment: float) -> Record | None:
        """The record without what was accepted until then; None if its own message was."""
        if self.accepted_at <= moment:
            return None
        live = tuple(message for message in self.request.messages if message.accepted_at > moment)
        return replace(self, request=replace(self.request, messages=live))


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """A job's end that was decided while Postgres was away, with its messages' text: for Postgres, once it is back."""

    job: Job
    redriven: int = 0

    @property
    def job_id(self) -> str:
        return self.job.job_id


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """Wakes the deliveries of a conversation. What is to be delivered, the outbox knows."""

    key: ConversationKey
    redriven: int = 0


#: All that may be in a queue.
AnyRecord = Record | ArchiveRecord | DeliveryRecord


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job's end on its way to the platform, claimed for one try; `claim_id` is compared when that is reported.

    `message_ids` are the platform's own. From `give_up_at` (Unix seconds) on a failed try is the last one.
    `failures` are the platform's in a row.
    """

    job: Job
    webhook_id: str
    claim_id: str
    message_ids: tuple[str, ...]
    attempts: int
    give_up_at: float
    failures: int


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A delivery that was given up, as people may see it: no text. `created_at` is in Unix seconds."""

    webhook_id: str
    conversation_id: str
    job_id: str
    attempts: int
    created_at: float
    last_error: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody did: `action` to the `record_id` of a `kind`. Records are without their secrets; no text.

    `actor` says who, as its token does (`client:…`, `user:…`). `id` and `at` (Unix seconds) are the store's.
    """

    actor: str
    action: str
    kind: str
    record_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    id: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Minute:
    """What came and went of a tenant's jobs in a minute that begins `at`, in Unix seconds.

    `median_seconds`, `p95_seconds`: from a job's beginning to its end, of those that were completed in it.
    """

    at: int
    created: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    median_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record. `back`: None to delete it, else the seconds until it should be seen again."""

    back: float | None
    ended: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on the head of a conversation's line."""

    job: Job
    lock_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The head can't be claimed before `wait` seconds from now.

    It is `held` by somebody else, whose deadline is then; or nobody holds it, and the patient may still be typing.
    `overdue`: a holder has missed a heartbeat, and its claim is stale in so many seconds unless one comes.
    """

    wait: float
    held: bool = True
    overdue: float | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """A conversation's lock as people may see it: no text, no `lock_id`. Times are Unix seconds."""

    key: ConversationKey
    job_id: str
    acquired_at: float
    heartbeat_at: float | None
    expires_at: float
    consolidated_messages: int
    tier: str


@dataclass(frozen=True, slots=True)
class Committed:
    """That a job's end was committed. `told`: whether there is a delivery of it; None where that isn't known."""

    told: bool | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Postgres' permission to run: the number that the commit is compared with, and what is left to answer.

    `settled` are those of the job's message ids that need no answer any more, with the job that settled each.
    `number` is None if nothing may run under this job: it had ended, or it ends now because some of its
    messages are settled; `ended` is then the job as archived, and `successor_id` names the job under which
    the rest runs, if there is any. `turns` are the archived turns, oldest first. `waiting` are the open messages
    that wait in the Postgres tier and aren't the job's. `held`: a human answers the conversation, and what was open of
    the job waits in Postgres now.
    """

    number: int | None
    settled: dict[str, str]
    turns: tuple[Turn, ...] = ()
    ended: Job | None = None
    successor_id: str | None = None
    waiting: tuple[Message, ...] = ()
    held: bool = False
    #: Set if a message of the job is void: the conversation was erased, and so is what was accepted until then (Unix
    #: seconds). Nothing was noted.
    erased_until: float | None = None
    #: The bot that the conversation belongs to, where the archive says so.
    bot_id: str | None = None


class Settled(NamedTuple):
    """How a message ended: the job that settled it, and whether as `answered`, `failed` or `cancelled`."""

    job_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Postgres' answer to a cancel: the job as it ended, and whether that kept any of its messages unanswered."""

    job: Job
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure found in the archive: whether there was anything, and the ids of the jobs that were there."""

    found: bool
    job_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The archived side of a conversation; `turns` are (turn, created_at, job_id), oldest first.

    `handed_off`: a human answers it. `held` are the ids of the messages that wait until the bot does again.
    """

    key: ConversationKey
    bot_id: str
    turns: Sequence[tuple[Turn, float, str | None]]
    handed_off: bool = False
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """A message that waits in Postgres while a human answers, with what a job for it needs.

    `job_id`: the job that it had been promised, if any. `answered_by` is set for what a human has answered already: it
    waits for nothing, but a tier may have it under another id, and must not bring it back.
    """

    message: Message
    context: tuple[Turn, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """The archive's answer to a hold: all that waits now, and whether the last of the messages was there before."""

    message_ids: tuple[str, ...]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class HandedBack:
    """What waits for the bot, oldest first. `handoffs`: how often the conversation was handed off until now."""

    bot_id: str
    handoffs: int
    held: tuple[HeldMessage, ...]
