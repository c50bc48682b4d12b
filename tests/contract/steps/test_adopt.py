"""A worker adopts what the fence said about its job's messages, on every tier."""

from __future__ import annotations

from dataclasses import replace

from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message
from message_handler.protocol.results import ClaimRefused
from message_handler.settings import Settings
from tests.contract.chat import Chat, Clock, named


class TestAdopt:
    def test_after_a_slow_fence_an_adopt_shows_that_the_worker_lives(
        self, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m1"))
        chat.claimed()
        clock.advance(settings.heartbeat_stale - 1)
        assert chat.adopt("worker", [])
        clock.advance(settings.heartbeat_stale - 1)
        assert isinstance(chat.claim("another"), ClaimRefused)

    def test_with_everything_open_the_run_goes_on(self, chat: Chat, clock: Clock) -> None:
        chat.says(named("m1"), named("m2"))
        chat.claimed()
        chat.seal(["m1", "m2"], fenced=True)
        chat.tier.force_release(chat.key)
        job = chat.claimed()
        assert job.maybe_committed
        adopted = chat.adopt("worker", [])
        assert adopted == replace(job, maybe_committed=False) == chat.head

    def test_the_rest_of_a_settled_job_runs_under_its_successor(self, chat: Chat, clock: Clock) -> None:
        """Counterexample 2: J0{m0} was committed, its worker died, and m1 joined J0."""
        chat.says(named("m0"))
        first = chat.claimed()
        chat.seal(["m0"], fenced=True)
        chat.tier.force_release(chat.key)
        chat.says(named("m1"))
        assert chat.head is not None
        ended = chat.end(first, reply="Rest.", superseded_by=chat.job_id(50))
        chat.claimed("rescuer")
        clock.advance(1)
        successor = chat.adopt("rescuer", ["m0"], ended)
        assert successor is not None
        assert successor == chat.head == chat.tier.job(chat.job_id(50))
        assert successor.job_id == chat.job_id(50)
        assert successor.messages == (named("m1"),)
        assert successor.created_at == clock.now
        assert not successor.maybe_committed
        assert chat.heartbeat("rescuer") == "valid"
        old = chat.tier.job(first.job_id)
        assert old is not None
        assert (old.status, old.superseded_by, old.reply) == (JobStatus.COMPLETED, chat.job_id(50), "Rest.")
        late = chat.says(named("m0"))
        assert late.duplicate
        assert late.job_id == first.job_id
        joined = chat.says(named("m2"))
        assert joined.job_id == chat.job_id(50)

    def test_a_settled_message_is_remembered_by_all_its_ids(self, chat: Chat) -> None:
        chat.says("a", named("m2", "b"))
        chat.says(named("m1", "a"))
        chat.claimed()
        chat.adopt("worker", ["minted-0"])
        assert chat.words(chat.head) == ["b"]
        assert chat.says("a").duplicate is False
        assert chat.says(named("m1", "a")).duplicate

    def test_an_alias_that_was_settled_alone_is_dropped(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.says(named("m1", "a"))
        chat.claimed()
        job = chat.adopt("worker", ["m1"])
        assert job is not None
        assert [message.ids for message in job.messages] == [("minted-0",), ("minted-1",)]

    def test_an_open_alias_stays(self, chat: Chat) -> None:
        chat.says("a", "b")
        chat.says(named("m1", "a"))
        chat.claimed()
        job = chat.adopt("worker", ["minted-1"])
        assert job is not None
        assert job.messages == (Message("minted-0", "a", given=True, aliases=("m1",)),)

    def test_a_message_that_joined_since_the_fence_stays(self, chat: Chat) -> None:
        chat.says(named("m0"))
        ended = chat.end(chat.claimed(), superseded_by=chat.job_id(50))
        chat.says(named("m1"))
        job = chat.adopt("worker", ["m0"], ended)
        assert job is not None
        assert job.messages == (named("m1"),)

    def test_only_the_owner_adopts(self, chat: Chat) -> None:
        accepted = chat.says(named("m1"))
        assert accepted.lock_id
        assert chat.adopt(accepted.lock_id, []) is None
        ended = chat.end(chat.claimed(), superseded_by=chat.job_id(50))
        assert chat.adopt("another", [], ended) is None
        assert chat.words(accepted.job_id) == ["text of m1"]
        assert chat.tier.job(chat.job_id(50)) is None
