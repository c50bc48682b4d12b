"""What a tier shows of its locks and jobs, and to which tenant."""

from __future__ import annotations

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Lock
from message_handler.settings import Settings
from tests.contract.chat import Chat, Clock, named


class TestLock:
    def test_a_lock_shows_its_times_and_job_and_nothing_private(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        accepted = chat.says("secret", "words")
        acquired = clock.now
        clock.advance(1)
        expected = Lock(
            chat.key,
            accepted.job_id,
            acquired_at=acquired,
            heartbeat_at=None,
            expires_at=acquired + settings.lock_ttl,
            consolidated_messages=2,
            tier=chat.tier.name,
        )
        assert chat.lock == expected
        assert chat.tier.locks("clinic") == [expected]
        chat.claimed("worker-lock")
        assert chat.lock is not None
        assert (chat.lock.acquired_at, chat.lock.heartbeat_at) == (acquired, clock.now)
        assert chat.lock.expires_at == clock.now + settings.lock_ttl
        for private in ("secret", "lock-1", "worker-lock"):
            assert private not in repr(chat.lock)

    def test_all_locks_of_a_tenant_are_listed_oldest_first(self, tier: Tier, clock: Clock) -> None:
        for number in (3, 1, 2):
            Chat(tier, clock, ConversationKey("clinic", f"c{number}")).says("a")
            Chat(tier, clock, ConversationKey("another", f"c{number}")).says("a")
            clock.advance(1)
        assert [lock.key.conversation_id for lock in tier.locks("clinic")] == ["c3", "c1", "c2"]
        assert {lock.key.platform_id for lock in tier.locks("clinic")} == {"clinic"}
        assert tier.locks("unknown") == []

    def test_no_lock_of_an_idle_conversation(self, chat: Chat) -> None:
        assert chat.lock is None
        chat.says("a")
        chat.answered()
        assert chat.lock is None


class TestIsolation:
    @pytest.mark.parametrize(
        "other", [ConversationKey("clinic-2", "patient-1"), ConversationKey("clinic", "patient-2")]
    )
    def test_conversations_never_see_each_other(self, tier: Tier, clock: Clock, other: ConversationKey) -> None:
        """In another tenant or conversation the same ids name other messages and other locks."""
        ours, theirs = Chat(tier, clock), Chat(tier, clock, other)
        first = ours.says(named("m1"), resources={"user": 1})
        ours.claimed()
        before = ours.snapshot(first.job_id)
        assert theirs.snapshot() == [None, None]
        assert theirs.claim() is None
        assert theirs.heartbeat() == "lost"
        assert theirs.adopt("worker", []) is None
        assert theirs.seal(["m1"]).verdict == "lost"
        assert not theirs.finish("worker", ours.end(before[2])).done
        assert not theirs.finish(None, ours.end(before[2])).done
        assert theirs.cancel(first.job_id) is None
        assert theirs.tier.owner(other, "worker") is None
        assert theirs.tier.force_release(other) is None
        theirs.undo(first)
        theirs.tier.forget(other, ["m1"])
        assert ours.snapshot(first.job_id) == before

        second = theirs.says(named("m1"), bot="another")
        assert second.lock_id
        assert not second.duplicate
        ours.sealed_and_ended("Rest.")
        assert theirs.words(theirs.head) == ["text of m1"]
        theirs.answered()
        assert theirs.says(named("m1"), bot="another").job_id == second.job_id
        assert ours.says(named("m1")).job_id == first.job_id

    def test_names_that_look_alike_are_two(self, tier: Tier, clock: Clock) -> None:
        one = Chat(tier, clock, ConversationKey("a:b", "c"))
        two = Chat(tier, clock, ConversationKey("a", "b:c"))
        one.says("x")
        assert two.says("x").lock_id
        assert [lock.key for lock in tier.locks("a")] == [two.key]


def test_an_unknown_or_foreign_job_id_leads_nowhere(chat: Chat) -> None:
    for job_id in (chat.job_id(1), "", "not-a-job", "6f1f7a4e-1d3c-4f5e-9a39-6c1f8f7f3e11"):
        assert chat.tier.job(job_id) is None


def test_a_tier_that_is_there_answers(tier: Tier) -> None:
    tier.ping()
