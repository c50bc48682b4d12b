"""A person takes a raised conversation, and closes it with a word why. A drill raises one.

raised ──take──▶ taken ──close──▶ closed
  two people take at the same moment: the store lets one of them do so, and the other one gets a Conflict
"""

from __future__ import annotations

import logging
from typing import Any

from message_handler.bot_config import BotConfigService
from message_handler.delivery.deliveries import Deliveries
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, InvalidRequest, MessageHandlerError, NotFound, Unavailable
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.raised import DRILL_RULE, Raised, RaisedConversation
from message_handler.domain.text import storable
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive
from message_handler.ports.audit import Audit, AuditEntry
from message_handler.ports.raised import RaisedStore, Reminder
from message_handler.safety.notices import drill_notice_of
from message_handler.safety.tenants import rules_of

_log = logging.getLogger(__name__)
#: The longest word why a raised conversation is closed.
MOST_WHY = 200
#: The most reminders of one conversation, and the most that one sweep makes.
MOST_REMINDERS = 3
_MOST_REMINDED = 500


def find(store: RaisedStore, platform_id: str, job_id: str) -> RaisedConversation:
    """A raised conversation of the tenant. Raises NotFound or Unavailable."""
    found = store.find(platform_id, job_id) if shard_of_job(job_id) is not None else None
    if found is None:
        raise NotFound("there is no such raised conversation", field="job_id")
    return found


def take(store: RaisedStore, platform_id: str, job_id: str, actor: str, *, now: float) -> RaisedConversation:
    """Let a person take a raised conversation. Raises NotFound, Unavailable, or Conflict if it is taken or closed."""
    find(store, platform_id, job_id)
    entry = AuditEntry(actor, "take", "raised", job_id, {"state": "raised"}, {"state": "taken"})
    if not store.take(platform_id, job_id, entry, now=now):
        raise Conflict("it is taken or closed already")
    return find(store, platform_id, job_id)


def close(store: RaisedStore, platform_id: str, job_id: str, actor: str, *, why: str, now: float) -> RaisedConversation:
    """Let a person close a taken conversation. Raises NotFound, Unavailable, or Conflict if it is not taken.

    The audit does not have the word why: it must go with the conversation when that is erased.
    """
    find(store, platform_id, job_id)
    entry = AuditEntry(actor, "close", "raised", job_id, {"state": "taken"}, {"state": "closed"})
    if not store.close(platform_id, job_id, entry, why=why, now=now):
        raise Conflict("only a conversation that is taken can be closed, once")
    return find(store, platform_id, job_id)


def checked_why(value: object) -> str:
    """The word why, without blanks around it. Raises InvalidRequest."""
    why = storable(value).strip() if isinstance(value, str) else ""
    if not 1 <= len(why) <= MOST_WHY:
        raise InvalidRequest(f"must be a text of 1 to {MOST_WHY} characters", field="why")
    return why


def remind(store: RaisedStore, meter: Meter, *, minutes: int, now: float) -> list[Reminder]:
    """Have the platforms told again of conversations that no person takes, and measure how many were told of.

    A conversation is overdue after `minutes`; 0: never. It gets at most `MOST_REMINDERS`, one every `minutes`. So the
    alarm rings with each of them, and ends. While the store is away, the next sweep does it. The sweep of the
    deliveries wakes the reminders.
    """
    if not minutes:
        return []
    try:
        reminded = store.remind(now=now, seconds=60.0 * minutes, reminders=MOST_REMINDERS, most=_MOST_REMINDED)
    except MessageHandlerError as error:
        _log.info("reminders wait", extra={"reason": type(error).__name__})
        return []
    meter.add("SafetyUntaken", len(reminded))
    for each in reminded:
        about = {"ai_job_id": each.job_id, "danger": each.level, "drill": each.drill, "reminder": each.number}
        _log.warning("no person has taken a raised conversation", extra=about)
    return reminded


def drill(
    key: ConversationKey,
    actor: str,
    *,
    archive: Archive,
    audit: Audit,
    deliveries: Deliveries | None,
    bots: BotConfigService,
    correlation_id: str,
    now: float,
) -> RaisedConversation:
    """Raise a conversation for practice. Its list, job, webhook and notice say that it is a drill.

    Each drill has a job of its own, so it never takes the place of a notice for real danger. Raises NotFound or
    Conflict for a bot that may not answer, Conflict if the conversation was erased a moment ago, or Unavailable.
    """
    config: dict[str, Any] = bots.get_bot_config(key.conversation_id, platform_id=key.platform_id)
    raised = Raised(
        key,
        key.new_job_id(),
        config["bot_id"],
        "emergency",
        DRILL_RULE,
        rules_of(config["platform"]).version,
        drill_notice_of(config, "emergency"),
        (),
        now,
        correlation_id,
        drill=True,
    )
    audit.note(key.platform_id, AuditEntry(actor, "drill", "raised", raised.job_id))
    if not archive.note_raised(raised):
        if archive.name == "none":
            raise Unavailable("Postgres")
        raise Conflict("the conversation was erased a moment ago", field="conversation_id")
    _log.warning("a drill", extra={"ai_job_id": raised.job_id, "drill": True})
    if deliveries:
        deliveries.wake(key)
    return RaisedConversation.of(raised)
