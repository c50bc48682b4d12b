"""The sweep, on every tier: silent workers lose their claims, and waiting jobs are woken."""

from __future__ import annotations

from dataclasses import replace

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import JobStatus
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from tests.contract.chat import DAY, Chat, Clock


class TestSweep:
    def test_a_stale_holders_job_is_put_back_and_wants_a_record(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        job = chat.claimed()
        chat.seal(["minted-0"], fenced=True)
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.tier.sweep(older_than=DAY) == []
        clock.advance(1)
        put_back = replace(job, status=JobStatus.PENDING, maybe_committed=True)
        assert chat.tier.sweep(older_than=DAY) == [put_back]
        assert chat.head == put_back
        assert chat.heartbeat() == "lost"

    def test_a_live_holder_is_left_alone(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        chat.claimed()
        for _ in range(10):
            clock.advance(settings.heartbeat_stale / 2)
            chat.heartbeat()
            assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat() == "valid"

    def test_an_unheld_job_is_woken_ever_less_often(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        """No job is stranded, and the sweep does not feed a backlog."""
        chat.says("a")
        for wait in (1, 1, 2, 4, 8, 16, 32, 64, 64):
            clock.advance(wait * settings.wake_after - 1)
            assert chat.tier.sweep(older_than=30 * DAY) == []
            clock.advance(1)
            assert chat.words(chat.tier.sweep(older_than=30 * DAY)[0]) == ["a"]

    def test_the_lock_of_an_unheld_job_stays_its_takers_until_it_is_woken(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after - 1)
        chat.tier.sweep(older_than=DAY)
        assert chat.tier.owner(chat.key, "lock-1")

    def test_a_job_that_moved_up_is_woken_if_no_worker_comes(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.claimed()
        sealed = chat.seal(["minted-0"])
        second = chat.says("b")
        assert sealed.job is not None
        chat.finish("worker", chat.end(sealed.job))
        clock.advance(settings.wake_after)
        assert [job.job_id for job in chat.tier.sweep(older_than=DAY)] == [second.job_id]

    def test_after_a_crash_waiting_starts_anew(self, chat: Chat, clock: Clock, settings: Settings) -> None:
        chat.says("a")
        for wait in (1, 1, 2, 4):
            clock.advance(wait * settings.wake_after)
            assert len(chat.tier.sweep(older_than=DAY)) == 1
        chat.claimed()
        clock.advance(settings.heartbeat_stale)
        assert len(chat.tier.sweep(older_than=DAY)) == 1
        clock.advance(settings.wake_after)
        assert len(chat.tier.sweep(older_than=DAY)) == 1

    def test_an_old_job_without_a_holder_is_still_woken_ever_less_often(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(2 * DAY)
        assert len(chat.tier.sweep(older_than=DAY)) == 1
        assert chat.tier.sweep(older_than=DAY) == []

    def test_an_old_lock_is_put_back_even_if_its_holder_lives(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(3599)
        chat.claimed()
        assert chat.tier.sweep(older_than=3600) == []
        clock.advance(1)
        assert chat.heartbeat() == "valid"
        assert len(chat.tier.sweep(older_than=3600)) == 1
        assert chat.heartbeat() == "lost"

    def test_all_conversations_are_swept(self, tier: Tier, clock: Clock, settings: Settings) -> None:
        chats = [Chat(tier, clock, ConversationKey(f"p{n % 3}", f"c{n}")) for n in range(20)]
        for chat in chats:
            chat.says("a")
        chats[0].claimed()
        chats[1].answered()
        clock.advance(settings.wake_after)
        chats[2].says("b")
        swept = tier.sweep(older_than=DAY)
        assert {job.key for job in swept} == {chat.key for chat in chats} - {chats[1].key}
        assert len(swept) == 19

    def test_a_tenants_own_sweep_leaves_the_others_alone(self, tier: Tier, clock: Clock, settings: Settings) -> None:
        ours, theirs = (Chat(tier, clock, ConversationKey(platform, "c")) for platform in ("clinic", "lab"))
        for chat in (ours, theirs):
            chat.says("a")
            chat.claimed()
        assert [job.key for job in tier.sweep(older_than=0, platform_id="clinic")] == [ours.key]
        assert (ours.heartbeat(), theirs.heartbeat()) == ("lost", "valid")
        clock.advance(2 * settings.wake_after)
        assert [job.key for job in tier.sweep(older_than=DAY, platform_id="lab")] == [theirs.key]

    def test_nothing_is_older_than_for_ever(self, chat: Chat) -> None:
        chat.says("a")
        assert chat.tier.sweep(older_than=float("inf")) == []
