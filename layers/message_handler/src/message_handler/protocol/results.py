"""The answers that the steps of the protocol give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to an accept: the job that will answer the request's own (last) message, or has answered it.

    `message_id`: the id under which the own message is known.
    `lock_id`: the lock's id if this request took the lock, else None.
    `duplicate`: whether the own message was known before. `edited`: whether it is a new version of a known message.
    `consolidated_messages`: the number of messages in the job.
    `pending`: all messages that waited when this one was accepted, itself included, oldest first. With them the record
    alone can redo the work (counterexample 6). Empty if the job has ended.
    `posted`: the ids of the messages to take back if the record can't be sent.
    `interrupted`: the job that was running and gave its messages to this one, as it ended.
    `recognised`: False if the own message has ended, but one of its ids is unknown. Then the request is another one.
    """

    job_id: str
    message_id: str
    lock_id: str | None
    duplicate: bool
    consolidated_messages: int
    pending: tuple[Message, ...]
    posted: tuple[str, ...] = ()
    interrupted: Job | None = None
    recognised: bool = True
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the worker now has the lease, under `lock_id`, and runs `job`, the head of the line."""

    job: Job
    lock_id: str


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The answer to a claim that came too early: the head can't be claimed for the next `wait` seconds.

    `leased`: another worker has the lease, and `wait` ends at its deadline. If False, the patient may still be typing.
    `overdue`: the other worker has missed heartbeats. Its lease is stale in this many seconds, unless one comes.
    """

    wait: float
    leased: bool = True
    overdue: float | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """A conversation's lock as people may see it, without text and without its `lock_id`. Times are Unix seconds."""

    key: ConversationKey
    job_id: str
    acquired_at: float
    heartbeat_at: float | None
    expires_at: float
    consolidated_messages: int
    tier: str


TierName = Literal["redis", "postgres", "memory"]
#: What a worker learns about its lease. `valid`: go on. `lost`: another owner has the line. `cancelling`: the job is
#: being cancelled. `newer`: the job's messages are others than those that the run has seen.
LeaseState = Literal["valid", "lost", "cancelling", "newer"]


@dataclass(frozen=True, slots=True)
class AcceptAgain:
    """What a record says, for a tier that may have forgotten it. See `accept_again` for the fields."""

    request: Request
    job_id: str
    spare_id: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The answer to a seal.

    `sealed`: commit. Messages that come from now on wait for the next job.
    `again`: run again. `job` has all messages, also the newer ones, and none that is gone.
    `cancelling` or `lost`: stop. This run's reply must not be used.
    """

    verdict: Literal["sealed", "again", "cancelling", "lost"]
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to a finish. `done`: False if the lock was lost and nothing changed. `waiting`: a job moved up."""

    done: bool
    waiting: bool = False
