"""The events that webhooks carry to a platform."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job
from message_handler.domain.raised import Raised

EventKind = Literal["ended", "edited", "unsent", "raised"]


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job ended as completed or failed. `message_ids` are the ids that the platform gave."""

    job: Job
    message_ids: tuple[str, ...]

    @property
    def key(self) -> ConversationKey:
        return self.job.key

    @property
    def correlation_id(self) -> str:
        return self.job.correlation_id

    @property
    def happened_at(self) -> float:
        """In Unix seconds."""
        return self.job.finished_at or 0.0

    @property
    def log_fields(self) -> dict[str, str]:
        return self.job.log_fields


@dataclass(frozen=True, slots=True)
class MessageChanged:
    """A patient has edited or unsent a message. `message_id` is the platform's.

    `job_id` names the job that ended with the edit, or the job that the unsent message belonged to. `happened_at` is in
    Unix seconds: of an edit, it is the end of that job.
    """

    kind: Literal["edited", "unsent"]
    key: ConversationKey
    message_id: str
    job_id: str
    bot_id: str
    correlation_id: str
    happened_at: float

    @property
    def log_fields(self) -> dict[str, str]:
        own = {"correlation_id": self.correlation_id} if self.correlation_id else {}
        return {"ai_job_id": self.job_id} | own


@dataclass(frozen=True, slots=True)
class DangerRaised:
    """The rules have found danger in a patient's messages, and the patient gets a notice."""

    raised: Raised

    @property
    def key(self) -> ConversationKey:
        return self.raised.key

    @property
    def correlation_id(self) -> str:
        return self.raised.correlation_id

    @property
    def happened_at(self) -> float:
        """In Unix seconds."""
        return self.raised.raised_at

    @property
    def log_fields(self) -> dict[str, str]:
        return self.raised.job.log_fields


type Event = JobEnded | MessageChanged | DangerRaised


def events_of_end(job: Job) -> list[tuple[str, Event]]:
    """The events of a job's end, in the order in which they are sent, each with its `webhook-id`.

    The function end_jobs_v1 gives the same ids to them when the end is archived.
    """
    edits: list[tuple[str, Event]] = [
        (
            f"msg_edit_{job.job_id}_{hashlib.sha256(message_id.encode()).hexdigest()[:32]}",
            MessageChanged(
                "edited", job.key, message_id, job.job_id, job.bot_id, job.correlation_id, job.finished_at or 0.0
            ),
        )
        for message_id in job.edited_ids
    ]
    return [*edits, (f"msg_{job.job_id}", JobEnded(job, job.given_ids))]
