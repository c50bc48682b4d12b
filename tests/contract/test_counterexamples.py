"""The protocol's counterexamples, by their numbers, over each pair of stores, in virtual time.

Number 8 is in outages/test_redis_away.py. Numbers 9 and 10 are in outages/test_postgres_away.py.
"""

from __future__ import annotations

import pytest

from message_handler.domain.jobs import JobStatus
from tests.contract.stories import (
    dies,
    is_away,
    on,
    told,
)
from tests.contract.world import (
    World,
)


class TestCounterexamples:
    def test_1_a_duplicate_sends_the_record_again(self, world: World) -> None:
        """Intake accepts and dies before the send. The platform tries again and gets `202`."""
        on(world, "after", "tier.accept", dies)
        assert world.posts("m0", tries=1) is None
        assert world.queue.sent == []
        answer = world.posts("m0")
        assert answer is not None
        assert answer["duplicate"] is True
        assert [record.message_id for record, _ in world.queue.sent] == ["m0"]
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_2_what_joined_an_answered_job_is_answered_by_its_successor(self, world: World) -> None:
        """A worker commits J0{m0} and dies before the finish. m1 joins J0."""
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.lock_is_free()
        world.posts("m1")
        assert told(world, "m1") == told(world, "m0")
        world.settles()
        assert world.answered("m0", "m1")
        first = world.job(told(world, "m0"))
        assert (first.status, first.reply) == (JobStatus.COMPLETED, '["text of m0"]')
        assert first.superseded_by == world.end_of("m1").job_id
        assert [len(prompt.messages) for prompt in world.ai.prompts] == [1, 1]
        world.checked()

    def test_2_what_joins_before_the_sweep_is_answered_too(self, world: World) -> None:
        on(world, "after", "archive.commit", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_2_what_joins_between_the_fence_and_the_finish_is_answered_too(self, world: World) -> None:
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        on(world, "after", "archive.fence", lambda: world.posts("m1"))
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.answered("m0", "m1")
        world.settles().checked()

    @pytest.mark.parametrize("woken_by", ["m0", "m1"])
    def test_3_any_record_wakes_the_head_of_the_line(self, world: World, woken_by: str) -> None:
        """J0 was committed, m1 waits in J1, and a release drops the lock. Either record alone moves both jobs on."""
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.releases()
        record = next(d for d in world.queue.waiting if d.record.message_id == woken_by)
        world.queue.waiting = [record]
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.retry_in is None
        assert world.answered("m0", "m1")
        world.checked()

    def test_3_the_head_is_run_first_whatever_record_wakes(self, world: World) -> None:
        on(world, "after", "tier.seal", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        record = next(d for d in world.queue.waiting if d.record.message_id == "m1")
        world.queue.waiting = [record]
        world.delivers()
        assert world.answered("m0", "m1")
        world.checked()

    @pytest.mark.parametrize("step", ["tier.cancel", "archive.cancel", "tier.finish"])
    def test_4_a_cancelled_message_is_never_answered(self, world: World, step: str) -> None:
        """The job is cancelled, the tier is lost, and the record comes back."""
        world.posts("m0")
        on(world, "after", step, world.tier_lost)
        cancelled = world.cancels(told(world, "m0"))
        assert cancelled is not None
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert world.ai.prompts == []
        assert world.end_of("m0").job_id == cancelled.job_id
        world.checked()

    def test_5_a_job_that_the_tier_forgot_leads_to_the_answer(self, world: World) -> None:
        """m1 joins J0, and the tier forgets J0. m1 is sent again, and another job is promised and answers it."""
        world.posts("m0")
        world.posts("m1")
        promised = told(world, "m1")
        world.tier_lost()
        world.posts("m1")
        assert told(world, "m1") != promised
        records = {d.record.job_id: d for d in world.queue.waiting}
        world.delivers(records[told(world, "m1")])
        world.settles()
        assert world.end_of("m1").job_id == told(world, "m1") != promised
        assert [job.job_id for job in world.chain(promised)][-1] == told(world, "m1")
        world.checked()

    def test_5_a_job_whose_accept_was_applied_but_unheard_leads_to_the_answer(self, world: World) -> None:
        on(world, "after", "tier.accept", is_away)
        world.posts("m0")
        world.tier_lost()
        world.settles()
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_6_a_later_record_brings_the_earlier_messages_along(self, world: World) -> None:
        """The tier is lost, and m1's record comes first."""
        world.posts("m0")
        world.posts("m1")
        world.tier_lost()
        latest = next(d for d in world.queue.waiting if d.record.message_id == "m1")
        world.delivers(latest)
        assert world.answered("m0 m1")
        world.settles()
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_7_no_message_overtakes_one_that_waits_for_the_next_job(self, world: World) -> None:
        """J0 is sealed and m1 waits in J1. The worker dies, the sweep reopens J0, and m2 comes."""
        on(world, "after", "tier.seal", lambda: world.posts("m1"), dies)
        world.posts("m0")
        world.delivers()
        world.clock.advance(world.settings.heartbeat_stale)
        world.sweeps()
        world.posts("m2")
        assert told(world, "m2") == told(world, "m1") != told(world, "m0")
        world.settles()
        assert world.answered("m0", "m1 m2")
        world.checked()

    def test_11_an_undo_leaves_what_another_request_was_promised(self, world: World) -> None:
        """The duplicate gets `202` before the first request's send is refused."""
        on(world, "before", "queue.send", lambda: world.posts("m0"), is_away)
        assert world.posts("m0", tries=1) is None
        job = world.job(told(world, "m0"))
        assert (job.status, len(job.messages)) == (JobStatus.PENDING, 1)
        world.settles()
        assert world.answered("m0")
        world.checked()
