"""The port of the archive, which knows what is settled and keeps conversations and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message
from message_handler.ports.audit import AuditEntry


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
class Committed:
    """That a job's end was committed. `delivers`: whether there is a delivery of it; None where that isn't known."""

    delivers: bool | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Postgres' permission to run: the number that the commit is compared with, and what is left to answer.

    `settled` are those of the job's message ids that need no answer any more, with the job that settled each.
    `number` is None if nothing may run under this job: it had ended, or it ends now because some of its
    messages are settled; `ended` is then the job as archived, and `successor_id` names the job under which
    the rest runs, if there is any. `turns` are the archived turns, oldest first. `waiting` are the open messages
    that wait in the Postgres tier and aren't the job's. `parked`: a human answers the conversation, and the job's open
    messages wait in Postgres now.
    """

    number: int | None
    settled: dict[str, str]
    turns: tuple[Turn, ...] = ()
    ended: Job | None = None
    successor_id: str | None = None
    waiting: tuple[Message, ...] = ()
    parked: bool = False
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

    `handed_off`: a human answers it. `parked` are the ids of the messages that wait until the bot does again.
    """

    key: ConversationKey
    bot_id: str
    turns: Sequence[tuple[Turn, float, str | None]]
    handed_off: bool = False
    parked: tuple[str, ...] = ()


#: The clocks of hosts differ by less (seconds): what is accepted so soon after an erasure is void with it.
ERASURE_MARGIN = 5.0
#: A human's turn as the archive knows it: new, so that the bot is silent from now on; or known already, and the human
#: still answers, or has handed back.
Noted = Literal["new", "known", "resumed"]


class Archive(Protocol):
    """Knows which messages are settled: the only truth. Keeps conversations, jobs and configuration."""

    #: "none": no Postgres is configured; then nothing is archived, and nothing can be fenced.
    name: Literal["postgres", "memory", "none"]

    @property
    def away(self) -> bool:
        """Whether it did not answer when it was last asked."""

    def ping(self) -> None: ...

    def migrate(self) -> list[str]:
        """Bring the schema up to date; returns the names of the migrations applied."""

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        """Permit a run: raise the fence and note the job's messages, unless it has ended or some are settled.

        The other jobs that its messages were promised lead to it from now on (see `supersede`).

        Otherwise the fence stays. If the job has not ended it does now, as cancelled. Where messages are
        left, the end of its chain of successors is linked to `successor_id` (a name that was linked before
        but never ran is used first), and the caller asks again for that job with the rest; where none is
        left, to the job that settled the last one. `turns`: how many of the newest archived turns to return.
        `drain`: return the open messages too that wait for this conversation in the Postgres tier.

        While a human answers nothing is permitted: what is open of the job, and what was drained, is held. Nor is a job
        with a message that was erased: nothing is noted then, and `erased_until` is set.
        """

    def commit(self, job: Job, fence: int) -> Committed | None:
        """Settle the job's messages and archive its end (status, reply or error and `finished_at` are filled in).

        One transaction; None, and nothing changed, unless `fence` is the newest, all messages are unsettled
        and the job has not ended. Committing the same end twice under one fence is committed.
        """

    def archive(self, job: Job) -> bool:
        """Archive the end of a job that was decided while Postgres was away, and shut out the run that goes on.

        Settles those of its messages that are open. Where the job has ended already, or some of its messages
        are settled, the first answer stays: what is open is settled under a successor with this job's end. False
        if nothing was open: another answer came first, or this very end was archived before.
        """

    def interrupt(self, job: Job) -> None:
        """End a job that runs as cancelled and link it to the one that took its messages, its `superseded_by`.

        Settles nothing. One that has ended already stays as it is.
        """

    def cancel(self, job: Job) -> Verdict:
        """Settle those of the job's messages that are open as cancelled, and shut out the run that goes on.

        The job ends as cancelled, or keeps the end that came first. Repeating it changes nothing.
        """

    def raise_fence(self, key: ConversationKey) -> None:
        """Shut out whoever runs now."""

    def supersede(self, job: Job, successor_id: str) -> None:
        """Link the end of the job's chain of successors to the job that settled a message promised to `job`.

        A link stays once it is written, and none is written that would lead in a circle: the chain then ends with
        a copy of that job, which shows the same end under a name of its own. Jobs of the chain of which nothing is
        open any more end as cancelled; a run that goes on for other messages is left alone.
        """

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        """The job that settled a message; None while it is open."""

    def settled(self, key: ConversationKey, message_ids: Sequence[str]) -> dict[str, Settled]:
        """How those of these messages ended that are not open."""

    def unfinished(self, *, most: int) -> list[Job]:
        """Jobs of all tenants that have not ended, although none of their messages is open."""

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
        """A tenant's jobs without replies, the newest first: those of a status or a conversation, if one is named.

        From `behind` a job on, which is named by its `created` and its id.
        """

    def last_end(self, platform_id: str) -> float | None:
        """When the newest of the tenant's answered or failed jobs ended, in Unix seconds."""

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        """What came and went of the tenant's jobs between two times, in Unix seconds, oldest minute first.

        None for a minute in which nothing did. A job comes with its first run: what waits for one isn't here yet.
        """

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        """Open the messages of a failed job again, and hold them for another; once: False if they were before.

        One transaction, with `entry` in the audit. What the patient said in them leaves the archive, and comes back
        with the answer. The job itself stays as it ended; what is held leads from it to the job that gets it. Raises
        Conflict if it has not failed, or if what was said is not kept any more.
        """

    def conversation(self, key: ConversationKey) -> Conversation | None: ...

    def bot_of(self, key: ConversationKey) -> str | None:
        """The bot that a conversation belongs to; None while nothing was archived for it."""

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        """Let a human answer: no run is permitted any more, and whoever runs now is shut out."""

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        """Hand off if a human has spoken: `said` are a request's turns after the bot's last, up to a human's newest.

        Nothing is changed if that turn is known (by its id, without one by its content). Else what is new of `said` is
        archived, and the patient's messages in it are settled, for a human has answered them.
        """

    def park(
        self, key: ConversationKey, messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any]
    ) -> ParkResult | None:
        """Keep messages, oldest first, until the bot answers again, each once; None if the bot does answer.

        Of what comes with an erasure, or right after it, all that no clock tells to be from before: a request brings it
        now. It counts as accepted later.
        """

    def is_parked(self, key: ConversationKey, message_id: str) -> bool:
        """Whether a message is kept here while a human answers: then no record need stand for it."""

    def resume(self, key: ConversationKey) -> bool:
        """Let the bot answer again; False if nothing is known of the conversation."""

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        """What waits for the bot; None while a human answers."""

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        """Keep what was handed back no longer, for a record brings it to this job; what it was promised leads there.

        Unless it was handed off again meanwhile: then it stays, for that record may have gone because it was held.
        """

    def to_unpark(self) -> list[ConversationKey]:
        """Conversations that the bot answers again, but of which something is still held."""

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        """Delete all of a conversation, and void what was accepted for it until now, wherever that still is.

        `entry` tells the audit who asked. No run that goes on commits any more; a fence, a cancel, a hold, a link or an
        archived end of what is void does nothing, and leaves nothing. (A cancel of what was accepted within the margin
        is noted, without its text: somebody may ask for that job.)
        """

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        """If what was accepted for a conversation at that time is void: until when it is (both in Unix seconds)."""

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """The bot's record with its `core_ai` and `platform` records inside; None if there is no such bot.

        `core_ai` has the record of its `fallback` inside, or None. For the default bot, where only its platform is
        there, the record has a `bot_id` of None and the platform's record.
        """

    def close(self) -> None: ...
