"""A sweep over many conversations. If it fails for one, or a store goes away, the others get their records."""

from __future__ import annotations

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.tiers.line_tier import sweep_each

KEYS = [ConversationKey("default", name) for name in ("one", "two", "three")]


def sweeping(broken: ConversationKey, error: Exception) -> list[str]:
    """The conversations that get a record although `broken` raises."""

    def sweep_one(key: ConversationKey) -> Job:
        if key == broken:
            raise error
        return Job(key.new_job_id(), key, JobStatus.PENDING, (), "default")

    return [job.key.conversation_id for job in sweep_each(KEYS, sweep_one)]


def test_a_conversation_that_can_not_be_swept_keeps_no_other_asleep() -> None:
    assert sweeping(KEYS[1], ValueError("a broken document")) == ["one", "three"]


def test_what_was_put_back_is_woken_although_the_store_goes_away() -> None:
    assert sweeping(KEYS[2], Unavailable("Redis")) == ["one", "two"]


def test_a_store_that_is_away_from_the_start_is_said() -> None:
    with pytest.raises(Unavailable):
        sweeping(KEYS[0], Unavailable("Redis"))
