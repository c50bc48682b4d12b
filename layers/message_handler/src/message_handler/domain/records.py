"""What a queue keeps: records, each of which wakes a conversation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Request


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
class Outcome:
    """What became of a record. `retry_in`: None to delete it, else the seconds until it should be seen again."""

    retry_in: float | None
    ended: tuple[Job, ...] = ()
