"""The port of the tiers, which coordinate the work in progress of conversations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, Progress
from message_handler.domain.messages import Request
from message_handler.protocol.results import (
    AcceptAgain,
    Accepted,
    Claim,
    ClaimRefused,
    Finished,
    LeaseState,
    Lock,
    Sealed,
    TierName,
)


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

    def claim(
        self, key: ConversationKey, lock_id: str, again: AcceptAgain | None = None
    ) -> Claim | ClaimRefused | None:
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
    ) -> LeaseState:
        """Extend one's own claim, and show how far its run is; else as `look`."""

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> LeaseState:
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

    def release(self, key: ConversationKey, lock_id: str) -> bool:
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

    def force_release(self, key: ConversationKey) -> Job | None:
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
