"""What the steps of the protocol answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request


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
class Claim:
    """A worker's hold on the head of a conversation's line."""

    job: Job
    lock_id: str


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The head can't be claimed before `wait` seconds from now.

    It is `leased` to another worker, whose deadline is then; or to none, and the patient may still be typing.
    `overdue`: a holder has missed a heartbeat, and its claim is stale in so many seconds unless one comes.
    """

    wait: float
    leased: bool = True
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


TierName = Literal["redis", "postgres", "memory"]
#: What a worker learns when it looks at its own claim: still its own, somebody else's, being cancelled, or joined by
#: messages that it has not seen.
LeaseState = Literal["valid", "lost", "cancelling", "newer"]


@dataclass(frozen=True, slots=True)
class AcceptAgain:
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
