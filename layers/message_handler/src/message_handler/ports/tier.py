"""The port of the tiers, which coordinate the work in progress of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Coordinates the work in progress of conversations. It may forget everything at any time.

    Most methods take one step of the protocol atomically (docs/protocol.md). Each raises Unavailable if the store is
    away, and a step raises Contended if other processes keep changing the conversation.
    """

    name: TierName

    def ping(self) -> None:
        """Raises Unavailable if the store is away."""

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        """Accept a request (intake): recognise known messages, and put the new ones into a job of the line.

        `job_id` and `lock_id` are used if a job is created or the lock is taken. Raises OtherBot if the conversation
        belongs to another bot, HandedOff if a human answers it, Rejected if the policy rejects the message, and
        TooManyWaiting if too many messages wait.
        """

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        """Accept what a record says (worker), in case the tier has forgotten it. This can't be undone.

        `job_id` is the job that the record was promised. If that name is in use, a new job is named `spare_id`.
        """

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        """Take messages of an accept out again, because the queue refused its record.

        A message that another request posted too stays (counterexample 11).
        """

    def claim(
        self, key: ConversationKey, lock_id: str, again: AcceptAgain | None = None
    ) -> Claim | ClaimRefused | None:
        """Take the head of the line, whatever job the record names (counterexample 3). None if no job waits.

        `lock_id` is a new id of the worker's own. With `again`, that record is accepted again first, in the same step.

        A claimed job may be `cancelling`: then the worker completes the cancel instead of running the job. The claim is
        refused while another live worker has the lease, or before a first run while the patient may still be typing.
        """

    def adopt(
        self,
        key: ConversationKey,
        lock_id: str,
        settled_ids: Iterable[str],
        ended: Job | None,
        edits: Mapping[str, str] | None = None,
    ) -> Job | None:
        """Remove the messages that the fence found settled. Returns the job to run; None if the lock was lost.

        `edits`: the ids of messages that the fence found to be edits, each with its id as an edit.

        Messages that joined since the fence looked stay. `ended` is the job's end as archived, if the archive ended it.
        Then the rest runs under the successor's name.
        """

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> LeaseState:
        """Renew the worker's own lease, and show how far its run is. Returns the same as `look`."""

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> LeaseState:
        """Learn the state of the worker's own lease. Nothing changes. `seen`: the number of messages in its run."""

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
        """Close the job for new messages, or learn which ones have joined. `answered`: the ids that the run has seen.

        At the limit of restarts, and unless it `may_restart`, newer messages move to the next job, which is named
        `next_id` if it is new. A run that stopped without a reply passes `may_seal=False`: if the newer messages are
        gone again, it runs again with the rest. `fenced`: the commit follows under a fence (counterexample 10).
        """

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        """End a job as `job` says. `lock_id` None: Postgres has decided already, so no owner is compared.

        An `unarchived` job is kept with its messages' text, and listed by `unarchived`, until `archived` is called.
        """

    def release(self, key: ConversationKey, lock_id: str) -> bool:
        """End the job of the caller's own lock as cancelled, with all of its messages. The next job moves up.

        False, and nothing changed, if the lock is another's (invariant 4).
        """

    def archived(self, key: ConversationKey, job_id: str) -> None:
        """Note that Postgres has the end of an `unarchived` job. Its messages' text is not kept any longer.

        From now on, `unarchived` does not list it, even if its end is gone.
        """

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        """The jobs whose ends Postgres may lack, as (conversation, job's id). Not all of them, if there are many.

        Those of one conversation are in the order in which they ended.
        """

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        """The id of the job that ended with a message within the last hour. Only Postgres' `settled_by` is certain."""

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        """Mark a pending or running job as `cancelling`. Returns it, or None if it is sealed, ended or unknown."""

    def unsend(self, key: ConversationKey, message_ids: Iterable[str], job_id: str) -> None:
        """Take out messages that the job `job_id` has settled as cancelled, because the patient has unsent them.

        A job without any other message ends as cancelled. A sealed job is taken from its worker.
        """

    def forget(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        """Forget what ended under these ids of a message, because its job ended without settling it."""

    def job(self, job_id: str) -> Job | None:
        """A job by its id, if it lives or has ended within the last hour; else None."""

    def waiting(self, key: ConversationKey) -> Job | None:
        """The job at the head of the conversation's line; None if no job waits."""

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        """The jobs of the conversation's line, the head first."""

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        """The id of the locked job if `lock_id` is the conversation's lock; else None."""

    def lock(self, key: ConversationKey) -> Lock | None:
        """The conversation's lock; None if no job waits."""

    def locks(self, platform_id: str) -> list[Lock]:
        """All locks of a tenant's conversations, oldest first."""

    def force_release(self, key: ConversationKey) -> Job | None:
        """Take the lock from its owner (operator), and make its job `pending` again. Returns the job; None: no lock."""

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        """Note that a human answers the conversation, or that the bot does again.

        While a human answers, `accept` raises HandedOff. (`accept_again` does not: the archive's fence decides whether
        the bot answers. A tier may have forgotten the handoff.)
        """

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        """Forget all of a conversation, its ended jobs too. Returns whether there was anything.

        `job_ids`: the jobs that the archive had, because the tier may have forgotten to which conversation they belong.
        """

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        """Put back the jobs with a stale lease, or with a lock older than `older_than` seconds.

        Returns the jobs that need a record: these, and the ones that no worker came for in time. `platform_id`: only
        that tenant's.
        """

    def cached(self, name: str) -> str | None:
        """The text that a process cached under `name`; None if it is gone."""

    def cache(self, name: str, text: str, seconds: float) -> None:
        """Cache a text for other processes, for up to `seconds`. It may be gone at any time, and contains no secret."""

    def admit(self, name: str, per_minute: int, count: int = 1) -> float:
        """Count messages against a rate limit, but at most `per_minute`. Returns 0, or the seconds until they may come.

        `name`: the tenant's id, or another name for another kind of request. Redis counts for all processes; the other
        tiers count for one process each.
        """

    def begin_wait(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool:
        """Count a client of the tenant that waits for a job, under a new id. A client that may wait calls `end_wait`.

        False, and nothing is counted: `most` clients of the tenant, or `most_in_all` clients, wait already. A wait that
        never ends, because its process died, counts for `LONGEST_WAIT` seconds.

        Redis counts for all processes; the other tiers count for one process each.
        """

    def end_wait(self, platform_id: str, wait_id: str) -> None:
        """The client waits no longer."""

    def close(self) -> None: ...
