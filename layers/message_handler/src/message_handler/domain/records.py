"""The records that a queue keeps. Each of them wakes a conversation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request
from message_handler.domain.raised import Raised


@dataclass(frozen=True, slots=True)
class Record:
    """A record of an accepted request. It has everything that is needed to answer, even if every store forgets.

    `job_id` is the job that was promised. `message_id` is the record's own message: the record may be deleted only when
    that message is settled. `redriven`: how often the record came back from the dead letters.
    """

    job_id: str
    message_id: str
    request: Request
    redriven: int = 0

    @property
    def correlation_id(self) -> str:
        return self.request.correlation_id

    @property
    def accepted_at(self) -> float:
        """When its own message was accepted (Unix seconds)."""
        return self.own.accepted_at

    @property
    def own(self) -> Message:
        """Its own message: the newest of its messages if none has the id."""
        own = [message for message in self.request.messages if self.message_id in message.ids]
        return max(own or self.request.messages, key=lambda message: message.accepted_at)

    def accepted_after(self, moment: float) -> Record | None:
        """The record without the messages accepted until `moment` (Unix seconds); None if its own is one of them."""
        if self.accepted_at <= moment:
            return None
        live = tuple(message for message in self.request.messages if message.accepted_at > moment)
        return replace(self, request=replace(self.request, messages=live))


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """Brings a job's end to Postgres, with its messages' text. A tier decided the end while Postgres was away."""

    job: Job
    redriven: int = 0

    @property
    def job_id(self) -> str:
        return self.job.job_id

    @property
    def correlation_id(self) -> str:
        return self.job.correlation_id


@dataclass(frozen=True, slots=True)
class WordlessRecord:
    """Brings Postgres a patient's messages without words, which nothing answers."""

    key: ConversationKey
    bot_id: str
    messages: tuple[Message, ...]
    correlation_id: str = ""
    redriven: int = 0
    #: No job has its messages.
    job_id: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class NoticeRecord:
    """Brings Postgres danger that was found while it was away, with the notice that the patient got."""

    raised: Raised
    redriven: int = 0

    @property
    def key(self) -> ConversationKey:
        return self.raised.key

    @property
    def job_id(self) -> str:
        return self.raised.job_id

    @property
    def correlation_id(self) -> str:
        return self.raised.correlation_id


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """Wakes the deliveries of a conversation. The outbox knows what to deliver."""

    key: ConversationKey
    redriven: int = 0
    #: It belongs to no single job.
    correlation_id: ClassVar[str] = ""


#: Every kind of record that a queue may hold.
AnyRecord = Record | ArchiveRecord | WordlessRecord | NoticeRecord | DeliveryRecord
#: Those that bring Postgres what it lacks. None of them is answered.
ArchivedRecord = ArchiveRecord | WordlessRecord | NoticeRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker did with a record.

    `retry_in`: None if the record may be deleted, else the seconds until it should be received again. `ended`: the jobs
    that the worker ended.
    """

    retry_in: float | None
    ended: tuple[Job, ...] = ()


def key_of(record: AnyRecord) -> ConversationKey:
    """The conversation that a record belongs to."""
    match record:
        case Record():
            return record.request.key
        case ArchiveRecord():
            return record.job.key
    return record.key
