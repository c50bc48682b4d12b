"""The lock on a conversation, for programs that answer messages in their own way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from message_handler.domain.conversations import DEFAULT_BOT, conversation_key
from message_handler.domain.documents import timestamp
from message_handler.domain.identifiers import DEFAULT_PLATFORM, new_id
from message_handler.domain.messages import Request, new_message
from message_handler.intake.requests import texts_of
from message_handler.protocol.results import Lock
from message_handler.tiers.failover import Failover


def lock_view(lock: Lock) -> dict[str, Any]:
    """A lock as it may be shown: without text and without `lock_id`."""
    return {
        "conversation_id": lock.key.conversation_id,
        "ai_job_id": lock.job_id,
        "acquired_at": timestamp(lock.acquired_at),
        "heartbeat_at": timestamp(lock.heartbeat_at),
        "expires_at": timestamp(lock.expires_at),
        "consolidated_messages": lock.consolidated_messages,
        "tier": lock.tier,
    }


class MessageLockManager:
    """Decides which caller may answer a conversation: the one with the `lock_id`.

    A lock only saves work. A caller that was paused past its lease still believes that it has the lock. So only the
    fence, which Postgres compares at the commit, makes a reply exactly-once.
    """

    def __init__(self, tiers: Failover, *, platform_id: str = DEFAULT_PLATFORM) -> None:
        self._tiers = tiers
        self._platform_id = platform_id

    def check_and_acquire_lock(
        self, conversation_id: str, messages: Sequence[str], *, bot_id: str = DEFAULT_BOT
    ) -> dict[str, Any]:
        """Take the lock for a patient's messages, or add them to the job of the lock's owner, in one atomic step.

        Returns `acquired` (bool), `lock_id` (None if not acquired), `ai_job_id`, `duplicate` (bool) and
        `consolidated_messages`. Raises RequestError or Unavailable; then nothing was stored.
        """
        key = conversation_key(conversation_id, self._platform_id)
        turns, now = texts_of(messages, bot_id), time.time()
        new = tuple([new_message(turn.content, None, now) for turn in turns])
        request = Request(key, new, (), bot_id, bounded=True)
        lock_id = new_id()
        job_id = key.new_job_id()
        _, accepted = self._tiers.first(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        return {
            "acquired": accepted.lock_id is not None,
            "lock_id": accepted.lock_id,
            "ai_job_id": accepted.job_id,
            "duplicate": accepted.duplicate,
            "consolidated_messages": accepted.consolidated_messages,
        }

    def release_lock(self, conversation_id: str, lock_id: str | None) -> bool:
        """Release the caller's own lock, with its job: the next job moves up. False: the lock is not the caller's."""
        key = conversation_key(conversation_id, self._platform_id)
        if not (isinstance(lock_id, str) and lock_id.isascii()):
            return False  # it was never given out (a caller without the lock has None), and a store may refuse the text
        return self._tiers.find(lambda tier: tier.release(key, lock_id) or None) is not None

    def get_lock_info(self, conversation_id: str) -> dict[str, Any] | None:
        """The lock as operators see it, with times as RFC 3339 in UTC. None: the conversation is free."""
        key = conversation_key(conversation_id, self._platform_id)
        found = self._tiers.find(lambda tier: tier.lock(key))
        return lock_view(found[1]) if found else None

    def update_lock_with_ai_job(self, conversation_id: str, lock_id: str, job_id: str) -> bool:
        """Whether the lock is the caller's own, and `job_id` is the job that answers under it.

        There is nothing to set, because a lock has its job from its first moment. So a cancel always finds the job.
        """
        key = conversation_key(conversation_id, self._platform_id)
        found = self._tiers.find(lambda tier: tier.owner(key, lock_id))
        return found is not None and found[1] == job_id
