"""Danger that the rules have found in a patient's messages, and the notice that the patient gets for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobStatus


@dataclass(frozen=True, slots=True)
class Raised:
    """A rule has found danger in messages of a conversation. `job_id` names the job of its notice.

    `rule` is the rule of `rules_version` that matched. `message_ids` are the platform's own. `drill`: the platform is
    only testing what it does.
    """

    key: ConversationKey
    job_id: str
    bot_id: str
    level: str
    rule: str
    rules_version: str
    #: The text that the patient gets.
    notice: str
    message_ids: tuple[str, ...]
    #: In Unix seconds.
    raised_at: float
    correlation_id: str = ""
    drill: bool = False
    #: How often the platform was told before, because no person takes the conversation.
    reminder: int = 0

    @property
    def webhook_id(self) -> str:
        """The `webhook-id` under which the platform is first told. (A reminder's has its number behind it.)"""
        return f"msg_safety_{self.job_id}"

    @property
    def job(self) -> Job:
        """The notice as a job. It has no messages: it settles none."""
        return Job(
            self.job_id,
            self.key,
            JobStatus.COMPLETED,
            (),
            self.bot_id,
            kind="notice",
            created_at=self.raised_at,
            started_at=self.raised_at,
            finished_at=self.raised_at,
            reply=self.notice,
            drill=self.drill,
            correlation_id=self.correlation_id,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"message_ids": list(self.message_ids)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Raised:
        """See `to_json`. Raises KeyError or TypeError if `value` is nothing raised. Unknown fields are ignored."""
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        changed = {"key": ConversationKey(**value["key"]), "message_ids": tuple(value["message_ids"])}
        return cls(**known | changed)


#: What people do about found danger: it is `raised`, then a person has `taken` it, then it is `closed`.
RaisedState = Literal["raised", "taken", "closed"]
#: The rule of danger that an operator has raised for a drill.
DRILL_RULE = "drill"


@dataclass(frozen=True, slots=True)
class RaisedConversation:
    """Found danger, and who cares for its patient. It has no text of the patient. Times are in Unix seconds.

    `delivered_at`: when its platform first answered the webhook. `closed_why` is the operator's own word.
    """

    job_id: str
    conversation_id: str
    level: str
    rule: str
    rules_version: str
    raised_at: float
    drill: bool
    delivered_at: float | None = None
    taken_by: str | None = None
    taken_at: float | None = None
    closed_by: str | None = None
    closed_at: float | None = None
    closed_why: str | None = None
    reminders: int = 0

    @classmethod
    def of(cls, raised: Raised) -> RaisedConversation:
        """What a store keeps of danger that was just found."""
        return cls(
            raised.job_id,
            raised.key.conversation_id,
            raised.level,
            raised.rule,
            raised.rules_version,
            round(raised.raised_at, 6),
            raised.drill,
        )

    @property
    def state(self) -> RaisedState:
        if self.closed_by is not None:
            return "closed"
        return "raised" if self.taken_by is None else "taken"

    @property
    def raised(self) -> int:
        """`raised_at` in whole microseconds, which is Postgres' precision."""
        return round(self.raised_at * 1_000_000)
