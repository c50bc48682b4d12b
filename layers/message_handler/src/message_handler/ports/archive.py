"""The port of the archive, which knows which messages are settled, and keeps conversations and jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request
from message_handler.domain.raised import Raised
from message_handler.ports.audit import AuditEntry


@dataclass(frozen=True, slots=True)
class Minute:
    """How many of a tenant's jobs were created, and how many ended, in the minute that begins `at` (Unix seconds).

    `median_seconds` and `p95_seconds`: how long the jobs completed in that minute took, from creation to end.
    """

    at: int
    created: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    median_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A job's end was committed. `delivers`: whether the outbox has a delivery of it; None if that is not known."""

    delivers: bool | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Postgres' permission to run a job: the number that the commit is compared with, and what is left to answer.

    `number` is None if the job may not run: see `Archive.fence` for the cases. Then `ended` is the job as archived
    (None after an erasure). `successor_id` names the job under which the rest runs, if there is a rest.
    `settled`: the ids of the job's messages that need no answer any more, each with the job that settled it.
    `edits`: the ids of its messages that are edits of settled ones, each with its id as an edit.
    `turns`: the archived turns, oldest first, also those that were unsent.
    `waiting`: the open messages that wait in the Postgres tier and are not the job's.
    `parked`: a human answers the conversation, and the job's open messages are parked now.
    """

    number: int | None
    settled: dict[str, str]
    turns: tuple[Turn, ...] = ()
    ended: Job | None = None
    successor_id: str | None = None
    waiting: tuple[Message, ...] = ()
    parked: bool = False
    #: Set if a message of the job is void, because the conversation was erased. Messages accepted until this time (Unix
    #: seconds) are void, and the fence has noted nothing.
    erased_until: float | None = None
    #: The bot that the conversation belongs to, if the archive knows it.
    bot_id: str | None = None
    #: The worst level at which the conversation is raised and not closed. A drill does not count.
    raised: str | None = None
    edits: dict[str, str] = field(default_factory=dict)


class Settled(NamedTuple):
    """How a message ended: the job that settled it, and whether as `answered`, `failed` or `cancelled`.

    `words` (a digest) and `accepted_at` (Unix seconds) are those of the newest version if the id is the platform's (see
    `edits.py`). An earlier release kept neither.
    """

    job_id: str
    kind: str
    words: str = ""
    accepted_at: float = 0.0


class ArchivedTurn(NamedTuple):
    """A turn as it is archived, with the job that archived it. Times are Unix seconds; None if it never happened."""

    turn: Turn
    created_at: float
    job_id: str | None = None
    edited_at: float | None = None
    unsent_at: float | None = None
    #: The texts that edits replaced, oldest first. The archive of a process alone fills it in; Postgres exports it.
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Postgres' answer to a cancel: the job as it ended, and whether any of its messages was cancelled."""

    job: Job
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Unsent:
    """What became of a message that its patient has taken back.

    `unsent`: no reply answers it. `answered`: it was answered or failed before, so only later contexts omit it.
    `unknown`: the archive knows no such message. `job_id`: the job that settled what was open, under the ids
    `message_ids`; None if nothing was open. `is_told`: a webhook delivery waits.
    """

    outcome: Literal["unsent", "answered", "unknown"]
    job_id: str | None = None
    message_ids: tuple[str, ...] = ()
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure found in the archive: whether there was anything, and the ids of the conversation's jobs."""

    found: bool
    job_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The archived side of a conversation.

    `turns` are the oldest first. `handed_off`: a human answers it. `parked` are the ids of the messages that wait until
    the bot answers again.
    """

    key: ConversationKey
    bot_id: str
    turns: Sequence[ArchivedTurn]
    handed_off: bool = False
    parked: tuple[str, ...] = ()


#: The clocks of hosts differ by less than this (seconds). What is accepted within it after an erasure is void too.
ERASURE_MARGIN = 5.0
#: What the archive knew of a human's turn. `new`: nothing, and the bot is silent from now on. `known`: the turn, and
#: the human still answers. `resumed`: the turn, but by now the bot answers again.
Noted = Literal["new", "known", "resumed"]


class Archive(Protocol):
    """Decides which messages are settled, and keeps conversations, jobs and configuration.

    Each method raises Unavailable if the archive is away.
    """

    #: "none": no Postgres is configured. Then nothing is archived, and runs have no fence.
    name: Literal["postgres", "memory", "none"]

    @property
    def away(self) -> bool:
        """Whether the archive did not answer its last caller."""

    def ping(self) -> None: ...

    def migrate(self) -> list[str]:
        """Bring the schema up to date. Returns the names of the migrations that were applied."""

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        """Permit a run: raise the fence and note the job's messages. See step *fence* in docs/protocol.md.

        The other jobs that its messages were promised lead to this job from now on (see `supersede`).

        No run is permitted, and the fence stays, in three cases:

        - The job has ended, or some of its messages are settled. Then the job ends, as cancelled unless it has ended.
          If open messages are left, the end of its chain of successors is linked to `successor_id`, and the caller asks
          again for that job. (A successor that was linked before and never ran is used first.) If none is left, the
          chain is linked to the job that settled the last one.
        - A human answers. Then the job ends, and its open messages and those that were drained are parked.
        - A message of the job was erased. Then nothing is noted, and `erased_until` is set.

        `turns`: how many of the newest archived turns to return. `drain`: also return the open messages that wait for
        this conversation in the Postgres tier (counterexample 8).
        """

    def commit(self, job: Job, fence: int) -> Committed | None:
        """Settle the job's messages and archive its end, in one transaction. `job` has its status, reply or error.

        Returns None, and nothing has changed, unless `fence` is the newest, all messages are unsettled and the job has
        not ended (invariants 2 and 3). The same end may be committed again under the same fence: that succeeds.
        """

    def archive(self, job: Job) -> bool:
        """Archive a job's end that was decided while Postgres was away, and raise the fence, so that no run commits.

        Its open messages are settled. If the job has ended already, or some of its messages are settled, the first
        answer stays: the open messages are settled under a successor, which has this job's end. False, and nothing
        changed: no message is open, the job was retried, or the messages were erased.
        """

    def interrupt(self, job: Job) -> None:
        """End an interrupted job as cancelled, and link it to the job that took its messages, its `superseded_by`.

        No message is settled. A job that has ended already stays as it is.
        """

    def cancel(self, job: Job) -> Verdict:
        """Settle the job's open messages as cancelled, and raise the fence, so that its run commits nothing.

        The job ends as cancelled, or keeps the end that came first (invariant 10). Repeating it changes nothing.
        """

    def unsend(self, key: ConversationKey, message_id: str, waiting: Sequence[Job], *, at: float) -> Unsent:
        """Settle the open versions of a message as cancelled, and raise the fence, so that no run with it commits.

        `message_id` is the platform's. `waiting`: the jobs in which tiers have the message. One that has no other
        message ends as cancelled. Versions that were accepted before `at` (Unix seconds) and turn up later count as
        replaced. The message's turns are marked: no later context has them. Repeating it changes nothing.
        """

    def raise_fence(self, key: ConversationKey) -> None:
        """Raise the fence, so that the current run of the conversation commits nothing."""

    def supersede(self, job: Job, successor_id: str) -> None:
        """Link the end of the job's chain of successors to `successor_id`, which settled a message promised to `job`.

        A link never changes once it is written. A link that would close a circle is not written: the chain then ends
        with a copy of the successor, which shows the same end under a name of its own. Jobs of the chain without open
        messages end as cancelled. A run for other messages goes on.
        """

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        """The id of the job that settled a message; None while the message is open."""

    def settled(self, key: ConversationKey, message_ids: Iterable[str]) -> dict[str, Settled]:
        """How each of these messages ended, by its id. Open messages are left out."""

    def settle_also(self, key: ConversationKey, message_ids: Sequence[str], end: Settled) -> None:
        """Note further ids of a settled message, which ended as `end` says. Ids that are settled stay as they are."""

    def unfinished(self, *, most: int) -> list[Job]:
        """Up to `most` jobs of all tenants that have not ended, although none of their messages is open."""

    def job(self, platform_id: str, job_id: str) -> Job | None: ...

    def jobs(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        """Up to `most` of a tenant's jobs without their replies, newest first.

        `status` and `conversation_id` select, unless they are None. `behind`: only jobs that follow the one with this
        `created` and id in that order.
        """

    def last_end(self, platform_id: str) -> float | None:
        """When the tenant's newest completed or failed job ended (Unix seconds); None if there is none."""

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        """The numbers of the tenant's jobs in each minute between two times (Unix seconds), oldest first.

        Minutes without a job are left out. The archive knows a job from its first run on, so waiting jobs do not count.
        """

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        """Open a failed job's messages again and park them for another job. False if that was done before.

        It is one transaction with `entry` in the audit. The messages' turns leave the archive and come back with the
        answer. The job itself stays as it ended; later it leads to the job that answers. Raises Conflict if it has not
        failed, or if the text of its messages is not kept any more.
        """

    def conversation(self, key: ConversationKey) -> Conversation | None: ...

    def bot_of(self, key: ConversationKey) -> str | None:
        """The bot that a conversation belongs to; None if nothing is archived for it."""

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        """Let a human answer. No run is permitted from now on, and the current run commits nothing."""

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        """Hand the conversation off if a human has said something new.

        `said` are the request's turns after the bot's last turn, up to the human's newest. If that newest turn is known
        (by its id, or without one by its words), nothing changes. Else the new turns of `said` are archived, and the
        patient's messages among them are settled, because a human has answered them.
        """

    def park(self, request: Request, messages: Sequence[Message]) -> ParkResult | None:
        """Keep each of these messages of a request, oldest first, until the bot answers again.

        If one of them is new and is `for_a_human`, the bot is silenced in the same step. None if the bot answers.

        A message is left out if it was accepted before an erasure, however the hosts' clocks differ. A message within
        the erasure's margin is kept, because a request brings it now. It counts as accepted after the erasure.
        """

    def keep_wordless(self, key: ConversationKey, bot_id: str, messages: Sequence[Message]) -> None:
        """Archive messages without words as turns, each once. No message is settled, and the fence stays.

        A message that is void, or known already (`archive/wordless.py`), is left out.
        """

    def note_raised(self, raised: Raised) -> bool:
        """Archive danger that was found in a conversation, with its notice as an ended job, and have the platform told.

        The job has the conversation's own bot. No message is settled, and the fence stays. False, and nothing is
        written, if the job is known, or if the conversation was erased since.
        """

    def parked_under(self, key: ConversationKey, message_ids: Iterable[str]) -> tuple[Message, ...]:
        """The messages with these ids that are parked here while a human answers. Then they need no record."""

    def resume(self, key: ConversationKey) -> bool:
        """Let the bot answer again. False if the archive does not know the conversation."""

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        """The messages that wait for the bot; None while a human answers."""

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        """Remove parked messages, because a record now brings them to the job `job_id`. Their promised jobs lead there.

        If the conversation was handed off again meanwhile, they stay. A worker may have deleted that record because its
        message was parked.
        """

    def to_unpark(self) -> list[ConversationKey]:
        """The conversations that the bot answers again, but that still have parked messages."""

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        """Delete all of a conversation, and void every message accepted for it until now, in every store and record.

        `entry` tells the audit who asked. No current run commits from now on. A fence, a cancel, a park, a link or an
        archived end of a void message changes nothing and leaves no trace. (One exception: the cancel of a message that
        was accepted within the margin is noted, without its text, because a client may ask for that job.)
        """

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        """The time until which messages of the conversation are void; None if one accepted at `accepted_at` is not.

        Both are Unix seconds.
        """

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """The bot's record, with its `core_ai` and `platform` records inside; None if there is no such bot.

        `core_ai` has the record of its `fallback` inside, or None. If the default bot is asked for, and only its
        platform has a record, the result has that record, and a `bot_id` of None.
        """

    def close(self) -> None: ...
