"""The ports behind which the stores stand.

Each method of a `Tier` is one atomic step of the conversation's protocol; each method of an `Archive`
or an `Outbox` is one transaction. An adapter that can't reach its store raises `Unavailable` and has then either done
the whole step or nothing of it; which of the two, the caller can't know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from message_handler.models import (
    Accepted,
    AuditEntry,
    Claim,
    Committed,
    Conversation,
    ConversationKey,
    DeadDelivery,
    Delivery,
    Erased,
    Fence,
    HandedBack,
    Holding,
    Job,
    Lock,
    Message,
    Minute,
    Progress,
    Refused,
    Request,
    Settled,
    Turn,
    Verdict,
)

#: The clocks of hosts differ by less (seconds): what is accepted so soon after an erasure is void with it.
ERASURE_MARGIN = 5.0

#: The clocks of a process and of its store may differ by so much (seconds): far less than any deadline.
CLOCK_MARGIN = 0.25
#: Work in progress is kept as long as SQS keeps its records (seconds).
LIVE_TTL_SECONDS = 14 * 24 * 3600
#: What of a conversation's ended messages is remembered: beyond it a duplicate costs a record, not an AI call.
MOST_REMEMBERED = 2_000

TierName = Literal["redis", "postgres", "memory"]

#: What a worker learns when it looks at its own claim: still its own, somebody else's, being cancelled, or joined by
#: messages that it has not seen.
Held = Literal["held", "lost", "cancelling", "newer"]


#: A human's turn as the archive knows it: new, so that the bot is silent from now on; or known already, and the human
#: still answers, or has handed back.
Noted = Literal["new", "known", "handed back"]


@dataclass(frozen=True, slots=True)
class Again:
    """What a record says, for a tier that may have forgotten it: the arguments of `accept_again`."""

    request: Request
    job_id: str
    spare_id: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The answer to a seal.

    `sealed`: what comes from now on waits for the next job. `again`: run again, `job` has all messages, the newer ones
    too. `cancelling` and `lost`: stop, this run's reply is worth nothing.
    """

    verdict: Literal["sealed", "again", "cancelling", "lost"]
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """`done` is False if the lock was lost (nothing changed); `waiting` tells that a next job moved up."""

    done: bool
    waiting: bool = False


class Tier(Protocol):
    """Coordinates the work in progress of conversations; may forget everything at any time."""

    name: TierName

    def ping(self) -> None:
        """Raises Unavailable if the store is away."""

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        """Intake's step: suppress what is known, take or join the lock, create or extend the job.

        `job_id` and `lock_id` are used if a job or a lock is created. Raises OtherBot if the
        conversation belongs to another bot than the request's, HandedOff if a human answers it, Rejected where its
        policy is to reject.
        """

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        """A worker's step: accept what a record says, in case the tier forgot. Compares ids only, can't be undone.

        `job_id` is the job that the record was promised; `spare_id` names the job where that one has ended.
        """

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        """Take back an accept whose record was refused; messages that others posted too stay."""

    def claim(self, key: ConversationKey, lock_id: str, again: Again | None = None) -> Claim | Refused | None:
        """Take the head of the line under a lock id of one's own; None if nothing waits.

        With `again`, what that record says is accepted again before, as by `accept_again`, in the same step. (That is
        one of the orders in which the two steps could be taken by themselves: nothing comes in between.)

        A claimed job may be `cancelling`: its claimer then helps the cancel to its end instead of running it. A job
        that was not run yet is refused while the patient may still be typing.
        """

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        """Run what the fence left open: messages that are settled leave the job; None if the lock was lost.

        Those that joined since the fence looked stay.

        With `ended`, the job as the archive ended it, the rest runs under the name that supersedes it.
        """

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> Held:
        """Extend one's own claim, and show how far its run is; else as `look`."""

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> Held:
        """Look at one's own claim, whose run has `seen` so many messages; changes nothing."""

    def seal(
        self,
        key: ConversationKey,
        lock_id: str,
        answered: Iterable[str],
        *,
        next_id: str,
        fenced: bool,
        may_restart: bool = True,
        may_seal: bool = True,
    ) -> Sealed:
        """Close the job for newcomers, or learn of those that came.

        At the limit of restarts, and unless it `may_restart`, they move to the next job, `next_id`. Without a reply in
        the hand it may not seal: should the newcomers be gone again, it runs again with what is left.
        """

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        """End `job` as it says. `lock_id` None: Postgres has decided already, no owner is compared.

        A job that is `unarchived` is kept with its messages' text, and indexed, until `archived` is called.
        """

    def give_back(self, key: ConversationKey, lock_id: str) -> bool:
        """End the job of one's own lock as cancelled, with all of its messages; what waits behind it moves up.

        False, and nothing changed, if the lock is not one's own.
        """

    def archived(self, key: ConversationKey, job_id: str) -> None:
        """Postgres has the end of an `unarchived` job: its messages' text need not be kept any more.

        From then on `unarchived` does not name it, even if its end is gone.
        """

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        """Jobs whose ends Postgres may lack, those of one conversation as they ended; not all, if there are many."""

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        """The job that ended with a message not long ago; a cache, Postgres' `settled_by` is the truth."""

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        """Mark a pending or running job as `cancelling` and return it; None if it is sealed, ended or unknown."""

    def forget(self, key: ConversationKey, message_id: str) -> None:
        """Drop the duplicate entry of a message whose job ended without settling it."""

    def job(self, job_id: str) -> Job | None:
        """A job by its id, live or ended within the last hour."""

    def waiting(self, key: ConversationKey) -> Job | None:
        """The head of the conversation's line, if it has one."""

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        """All of the conversation's line, its head first."""

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        """The job of the conversation's lock if `lock_id` is the lock's."""

    def lock(self, key: ConversationKey) -> Lock | None: ...

    def locks(self, platform_id: str) -> list[Lock]:
        """All locks of a tenant, oldest first."""

    def release(self, key: ConversationKey) -> Job | None:
        """An operator's step: empty the holder, put its job back to `pending`, return it; None without a lock."""

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        """Note that a human answers the conversation, or the bot again: while one does, `accept` raises HandedOff.

        A cache like everything here: the archive's fence decides whether the bot answers. Workers take records in.
        """

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        """Forget all of a conversation, its ended jobs too; whether there was anything.

        `job_ids`: those of its jobs that the archive had, should the tier have forgotten whose they are.
        """

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        """Put back jobs of stale holders and of locks older than `older_than` seconds; return what wants a record.

        Of all tenants, or with `platform_id` of that one alone.
        """

    def cached(self, name: str) -> str | None:
        """A text that some process kept under `name` not long ago."""

    def cache(self, name: str, text: str, seconds: float) -> None:
        """Keep a text for other processes; it may be gone at any time, and holds no secret."""

    def admit(self, platform_id: str, per_minute: int) -> float:
        """Take one of the messages that the tenant may send; 0, or the seconds until there is one to take.

        Redis counts for all processes, the other tiers each for its own. A name that is no tenant's has its own count.
        """

    def close(self) -> None: ...


@dataclass(slots=True)
class Save:
    """What one save compares, what it writes if that is as it was seen, and what it brings.

    It compares the field `compared` with `seen` ("" where it was absent), `heartbeat_at` where a step has looked at it,
    and the time that the step was computed with. It also compares that nothing is remembered of the messages `ids`, but
    of the last `known` of them, and that no job of the names `names` has ended, but of the last `taken` of them.
    """

    key: ConversationKey
    seen: str
    now: float
    compared: Literal["version", "holder"] = "version"
    #: None: whatever it is.
    heartbeat_at: str | None = None
    #: Messages that the steps look up, and names of jobs.
    ids: Sequence[str] = ()
    known: int = 0
    names: Sequence[str] = ()
    taken: int = 0

    #: By name; None for one that goes. The new version is among them, unless nothing else changes.
    fields: dict[str, str | None] = field(default_factory=dict)
    #: When the sweep should look at the line (Unix seconds); None where no job waits, "as it is" where that stays.
    due_at: float | Literal["as it is"] | None = None
    #: The line is forgotten after so many seconds; None: when it would have been.
    ttl: float | None = None
    #: What is remembered of messages, by their ids, for `remembered_ttl` seconds; None for what is forgotten.
    remembered: dict[str, str | None] = field(default_factory=dict)
    remembered_ttl: float = 0.0
    #: Documents of jobs that ended, each for so many seconds; None for one that is in the line now.
    jobs: dict[str, tuple[str, float] | None] = field(default_factory=dict)
    #: Those of `jobs` whose ends Postgres lacks: they are indexed.
    unarchived: Collection[str] = ()
    #: The messages that wait, by their ids, and the line's jobs: for a store whose statements look for them.
    waiting: tuple[str, ...] = ()
    line_jobs: tuple[str, ...] = ()
    #: Forget the line, all that is remembered of it, and `jobs`.
    erases: bool = False

    #: The fields that are wanted once it is saved.
    wanted: Sequence[str] = ()

    def is_repeated(self, fields: dict[str, str]) -> bool:
        """Whether it was saved before, and its answer was lost."""
        return "version" in self.fields and fields.get("version") == self.fields["version"]

    def is_allowed(
        self, fields: dict[str, str], remembered: Collection[str], taken: Collection[str], now: float
    ) -> bool:
        """What a store compares: the line's fields, and what was looked up."""
        return (
            fields.get(self.compared, "") == self.seen  # guard: one atomic step, version and holder
            and self.heartbeat_at in (None, fields.get("heartbeat_at", ""))  # guard: one atomic step, heartbeat
            and abs(now - self.now) <= CLOCK_MARGIN  # guard: one atomic step, clock
            and set(remembered).isdisjoint(self.ids[: len(self.ids) - self.known])  # guard: one atomic step, ended
            and set(taken).isdisjoint(self.names[: len(self.names) - self.taken])  # guard: one atomic step, names
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """The fields that were wanted."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A line as it is at the server's time `now` (Unix seconds), where a save met another than it had seen.

    `fields` are its structure; `remembered` and `taken` what there is of the save's `ids` and `names`.
    """

    fields: dict[str, str]
    now: float
    remembered: dict[str, str]
    taken: frozenset[str]


class LineStore(Protocol):
    """Keeps lines for a `LineTier`, whose they are: hashes of opaque texts, compared and set."""

    name: TierName

    def ping(self) -> None:
        """Raises Unavailable if the store is away."""

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        """Take each save alone: all of it, or nothing where it met another line than it had seen.

        Raises Unavailable where nobody knows of any of them; what went wrong with one is its answer.
        """

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        """The named fields of each line that are there, in one round trip; None for all of them."""

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        """What is remembered of a message, or of all of the conversation's."""

    def find(self, job_id: str) -> ConversationKey | str | None:
        """The conversation in whose line a job may be, or the document of how it ended."""

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        """Take a job out of the index of unarchived ends. With a `document`, replace its own, if it is still there."""

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        """What that index has, those of one conversation as they ended. Of many, a bounded part."""

    def live(self, platform_id: str) -> list[ConversationKey]:
        """The tenant's conversations in which a job waits."""

    def due(self, older_than: float) -> list[ConversationKey]:
        """The conversations at which the sweep should look, and those whose lock is older than so many seconds."""

    def cached(self, name: str) -> str | None: ...

    def cache(self, name: str, text: str, seconds: float) -> None: ...

    def admit(self, platform_id: str, per_minute: int) -> float: ...

    def close(self) -> None: ...


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

    def hold(
        self, key: ConversationKey, messages: Sequence[Message], context: Sequence[Turn], resources: dict[str, Any]
    ) -> Holding | None:
        """Keep messages, oldest first, until the bot answers again, each once; None if the bot does answer.

        Of what comes with an erasure, or right after it, all that no clock tells to be from before: a request brings it
        now. It counts as accepted later.
        """

    def is_held(self, key: ConversationKey, message_id: str) -> bool:
        """Whether a message is kept here while a human answers: then no record need stand for it."""

    def hand_back(self, key: ConversationKey) -> bool:
        """Let the bot answer again; False if nothing is known of the conversation."""

    def held(self, key: ConversationKey) -> HandedBack | None:
        """What waits for the bot; None while a human answers."""

    def given_back(self, key: ConversationKey, back: HandedBack, job_id: str) -> None:
        """Keep what was handed back no longer, for a record brings it to this job; what it was promised leads there.

        Unless it was handed off again meanwhile: then it stays, for that record may have gone because it was held.
        """

    def to_give_back(self) -> list[ConversationKey]:
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


#: What is configured, by the names of its tables.
RecordKind = Literal["bots", "core_ai", "platforms"]


class Records(Protocol):
    """One tenant's configuration, within one transaction. Secrets are in it as they were written.

    Each record has a `revision`, a number that goes up with each write.
    """

    def all(self, kind: RecordKind) -> list[dict[str, Any]]:
        """Ordered by their ids."""

    def get(self, kind: RecordKind, id_: str) -> dict[str, Any] | None: ...

    def put(self, kind: RecordKind, record: dict[str, Any]) -> bool:
        """Write a whole record; whether it is a new one."""

    def delete(self, kind: RecordKind, id_: str) -> None: ...

    def note(self, entry: AuditEntry) -> None:
        """Put into the audit what is done in this transaction."""


class ConfigurationStore(Protocol):
    """Keeps what tenants configured. Raises Unavailable where it is away."""

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T: ...

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        """Take a step alone with the tenant's configuration; one that raises has changed nothing.

        It may be taken twice, where a connection turns out to be dead.
        """


class Audit(Protocol):
    """What was done in each tenant, by whom. Nothing is ever changed in it."""

    def note(self, platform_id: str, entry: AuditEntry) -> None:
        """Keep what is about to be done. Raises Unavailable: then it may not be done."""

    def entries(self, platform_id: str, *, kind: str | None, before_id: int | None, most: int) -> list[AuditEntry]:
        """The newest first; of one kind, if it is named, and from before an entry on."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that is stored of a conversation, as JSON with a `kind`, and its place in the order of all that is."""

    section: int
    key: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Idle:
    """A conversation in which nothing has happened since `updated_at` (as Postgres writes it); it has so many turns."""

    key: ConversationKey
    turns: int
    updated_at: str


class Retention(Protocol):
    """What Postgres keeps of patients. Times are Unix seconds; each call deletes a bounded number of rows."""

    def kept(self, key: ConversationKey, after: tuple[int, str], *, most: int, most_bytes: int) -> list[Kept]:
        """What is stored of a conversation behind a place (section, key), in order.

        Not more than `most` records and `most_bytes` of JSON, but one if there is any.
        """

    def idle(self, *, before: float, after: str, most: int) -> list[Idle]:
        """Conversations in which nothing has happened since `before` and nothing is under way, the longest idle first.

        From behind `after` on, an `updated_at`.
        """

    def purge_conversations(self, keys: Sequence[ConversationKey], *, before: float) -> int:
        """Delete those in which nothing has happened since `before`, unless somebody is at work on them; how many."""

    def purge_deliveries(self, *, delivered_before: float, dead_before: float, most: int) -> int: ...

    def purge_erasures(self, *, before: float, most: int) -> int: ...

    def purge_audit(self, *, before: float, most: int) -> int: ...


class Outbox(Protocol):
    """What platforms are still to be told. An archive's commits fill it, in the same transactions."""

    def webhook(self, platform_id: str) -> tuple[str, dict[str, Any]] | None:
        """A platform's `base_url` and `meta_data`, secrets included; None if it has no webhook."""

    def claim(
        self, key: ConversationKey, claim_id: str, *, now: float, until: float, most: int, busy_until: float
    ) -> Delivery | float | None:
        """The conversation's oldest delivery for one try, if it is due and nobody has it; never one behind it.

        Whoever has not reported by `until` may have lost it to another. Of a platform that fails nothing is handed
        out until it may be tried again, and then one delivery; of any other no more than `most` at the same time. What
        is due but not handed out may be asked for again at the moment that is returned: `busy_until` if it is `most`.
        """

    def delivered(self, delivery: Delivery, *, now: float) -> bool:
        """It has arrived; its platform is back, if it had failed. False, and nothing changed: the claim was lost."""

    def undelivered(
        self,
        delivery: Delivery,
        code: str,
        *,
        next_attempt_at: float,
        dead: bool,
        retry_at: float | None,
        certain: bool,
    ) -> bool:
        """The try has failed: once more at `next_attempt_at`, or never if `dead`. False if the claim was lost.

        With `retry_at` the platform itself has failed, and nothing is sent to it before: if that is `certain`, if it
        failed before, or if this is the second conversation in a row that failed.
        """

    def due(self, platform_id: str | None = None, *, now: float, most: int) -> list[ConversationKey]:
        """Conversations with something to deliver now, in turn one of each platform; of one that fails a single one.

        Those of one platform alone if it is named; first those that were never tried.
        """

    def expire(self, *, now: float, overdue: float) -> list[str]:
        """Give up deliveries whose time had ended by `overdue`; returns their jobs."""

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        """The tenant's deliveries that were given up, oldest first."""

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        """Let the tenant's deliveries that were given up be tried for another day; a conversation for each."""
