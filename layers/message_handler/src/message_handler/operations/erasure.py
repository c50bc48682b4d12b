"""A patient's conversation is erased: from the archive first, then from each tier.

Postgres voids what was accepted until then, in the transaction that deletes the rows. A queue, a running worker or a
tier that is away may still have some of it. None of them brings it back, because Postgres decides what is written:

    erase   Postgres: void, rows deleted ── tiers: line and jobs deleted
    worker  fence ── AI ── … ── commit: its job is gone, refused
    record                      … ── taken in ── fence: void ── the tier forgets it again, the record is deleted
"""

from __future__ import annotations

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import TRANSIENT, NotFound
from message_handler.ports.archive import Archive
from message_handler.ports.audit import AuditEntry
from message_handler.tiers.failover import Failover


def erase(tiers: Failover, archive: Archive, key: ConversationKey, entry: AuditEntry | None = None) -> None:
    """Erase a conversation everywhere. What its patient says from then on begins a new conversation.

    `entry` tells the audit who asked. Raises NotFound if nothing was stored. Raises Unavailable while Postgres is away;
    then nothing was erased. Raises Unavailable or Contended if a tier could not follow. That tier keeps its share. The
    share is never archived, and is erased when the request is sent again.
    """
    erased = archive.erase(key, entry)
    found = erased.found
    away: Exception | None = None
    for tier in tiers.tiers:
        try:
            found = tier.erase(key, erased.job_ids) or found
        except TRANSIENT as error:
            away = error
    if away:
        raise away
    if not found:
        raise NotFound("there is no such conversation", field="conversation_id")
