"""What changes while Postgres is away, and what stays, in virtual time."""

from __future__ import annotations

import json

import pytest

from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.operations import interventions
from tests.contract.stories import (
    dies,
    is_away,
    on,
)
from tests.contract.world import World, archive_records, records


class TestPostgresAway:
    def test_an_end_that_postgres_lacks_without_an_outage_is_archived_with_the_next_record(self, world: World) -> None:
        """The commit and its check took too long, which opens no breaker. The archive record is late."""

        def too_slow() -> None:
            raise Unavailable("Postgres, where a statement takes too long,")

        on(world, "before", "archive.commit", too_slow)
        on(world, "before", "archive.settled", too_slow)
        world.posts("m0")
        world.delivers()
        assert world.archive.settled_by(world.key, "m0") is None
        world.queue.waiting.clear()
        world.posts("m1")
        world.delivers()
        assert world.archive.settled_by(world.key, "m0") == world.told["m0"][0]
        assert len(world.ai.prompts) == 2

    def test_the_reply_is_given_and_archived_once_it_is_back(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        outcome = world.delivers()
        assert outcome is not None
        assert [job.status for job in outcome.ended] == [JobStatus.COMPLETED]
        assert world.job(world.told["m0"][0]).reply == json.dumps([world.contents["m0"]])
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_a_record_stays_until_postgres_is_back(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        assert len(records(world)) == 1
        assert len(archive_records(world)) == 1

    @pytest.mark.parametrize("first", ["the archive record", "the message's record"])
    def test_whichever_record_comes_first_the_end_is_archived_once(self, world: World, first: str) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        (archive_record,), (own,) = archive_records(world), records(world)
        pair = (archive_record, own) if first == "the archive record" else (own, archive_record)
        for delivery in pair:
            outcome = world.delivers(delivery)
            assert outcome is not None
            assert outcome.retry_in is None
        assert world.answered("m0")
        world.settles().checked()

    @pytest.mark.parametrize("step", ["tier.finish", "queue.send"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_worker_that_dies_at_the_commit_point_loses_and_doubles_nothing(
        self, world: World, side: str, step: str
    ) -> None:
        world.posts("m0")
        world.postgres(away=True)
        on(world, side, step, dies)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_an_end_whose_archive_record_was_not_sent_stays_what_it_is(self, world: World) -> None:
        """Clients could read the end already, and a second run might say something else."""
        world.posts("m0")
        world.postgres(away=True)
        on(world, "after", "tier.finish", dies)
        world.delivers()
        assert not archive_records(world)
        world.postgres(away=False)
        world.worker.rescue.due = False  # as in a process that saw no outage
        world.delivers(records(world)[0])
        world.settles()
        assert len(world.ai.prompts) == 1
        assert world.answered("m0")
        world.checked()

    def test_after_hours_without_postgres_the_first_answer_stands(self, world: World) -> None:
        """The tier remembers messages as long as their job's end. m0's record comes before the archive record."""
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        job_id = world.told["m0"][0]
        world.clock.advance(5 * world.settings.job_ttl)
        world.postgres(away=False)
        world.delivers(records(world)[0])
        world.settles()
        assert len(world.ai.prompts) == 1
        assert world.answered("m0")
        assert world.job(job_id).status is JobStatus.COMPLETED
        world.checked()

    def test_the_tier_keeps_a_jobs_text_no_longer_than_needed(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        job_id = world.told["m0"][0]
        assert world.tier.job(job_id).messages[0].content == world.contents["m0"]
        world.postgres(away=False)
        world.settles()
        ended = world.tier.job(job_id)
        assert ended is None or (not ended.unarchived and ended.messages[0].content == "")

    def test_a_job_that_an_earlier_owner_may_have_committed_waits_for_postgres(self, world: World) -> None:
        """Counterexample 10: a worker committed under a fence and died. Without Postgres no worker can know."""
        world.posts("m0")
        on(world, "after", "archive.commit", dies)
        world.delivers()
        world.postgres(away=True)
        world.clock.advance(world.settings.heartbeat_stale + 1)
        for _ in range(2):
            world.sweeps()
            world.delivers(records(world)[0])
        assert len(world.ai.prompts) == 1
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_a_record_whose_end_is_not_archived_yet_is_kept(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        outcome = world.delivers()
        assert outcome is not None
        assert [job.unarchived for job in outcome.ended] == [True]
        assert outcome.retry_in is not None

    def test_a_run_that_began_without_postgres_takes_a_fence_at_its_commit(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        on(world, "after", "ai.complete", lambda: world.postgres(away=False))
        world.delivers()
        assert world.answered("m0")
        assert not archive_records(world)
        assert len(world.ai.prompts) == 1
        world.checked()

    @pytest.mark.parametrize("step", ["tier.seal", "archive.fence"])
    def test_an_unfenced_worker_that_was_replaced_commits_nothing(self, world: World, step: str) -> None:
        """Counterexample 9: a worker seals and pauses. Another worker takes over, takes a fence and commits."""
        world.posts("m0")
        world.postgres(away=True)

        def pauses() -> None:
            world.postgres(away=False)
            with world.steps.silently():
                world.worker_pauses()
                assert world.answered("m0")

        fences = []

        def at_the_commit() -> None:
            fences.append(1)
            if len(fences) == 1:
                on(world, "before", step, at_the_commit)
            else:
                pauses()

        if step == "tier.seal":
            on(world, "after", step, pauses)
        else:
            on(world, "before", step, at_the_commit)
        world.delivers(records(world)[0])
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_an_unfenced_worker_that_lost_its_lock_gives_nothing(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)

        def pauses() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        on(world, "after", "tier.seal", pauses)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert not archive_records(world)

    def test_a_worker_that_lost_its_lock_while_it_took_its_fence_gives_nothing(self, world: World) -> None:
        """Another worker took over and will end its run without Postgres. Clients would see both replies."""
        world.posts("m0")
        world.postgres(away=True)

        def is_replaced() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        def is_back() -> None:
            world.postgres(away=False)
            on(world, "after", "archive.fence", is_replaced)

        on(world, "after", "tier.seal", is_back)
        outcome = world.delivers()
        assert outcome is not None
        assert outcome.ended == ()
        assert world.replies() == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_commit_whose_answer_was_lost_is_one_commit(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "archive.commit", is_away)
        world.delivers()
        assert world.answered("m0")
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        world.checked()

    def test_a_commit_whose_answer_was_lost_in_an_outage_is_one_commit(self, world: World) -> None:
        world.posts("m0")

        def gone() -> None:
            world.postgres(away=True)
            raise Unavailable("Postgres")

        on(world, "after", "archive.commit", gone)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_cancel_and_release_wait(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        assert world.cancels(world.told["m0"][0]) is None
        with pytest.raises(Unavailable):
            interventions.force_release(world.tiers, world.archive, world.sender, world.key)
        world.postgres(away=False)
        world.settles()
        world.cancelled.add(world.told["m0"][0])  # the cancel was begun, so a worker completed it
        world.checked()

    def test_a_failed_run_is_archived_as_failed(self, world: World) -> None:
        world.posts("m0", text="[fail]")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        world.settles()
        assert world.end_of("m0").status is JobStatus.FAILED
        world.checked()

    def test_a_conversation_of_a_bot_is_still_that_bots(self, world: World) -> None:
        """A job was accepted under the default bot. The conversation's own bot answers it."""
        world.posts("m0")
        world.settles()
        assert world.worker.bots.config_of_job(world.end_of("m0"))["bot_id"] == "default"


class TestRecordsThatMeet:
    def test_an_end_that_came_while_postgres_was_asked_is_not_forgotten(self, world: World) -> None:
        """If the tier forgot m0's end and Postgres went away, m0 would be answered again and that reply shown.

        A: m0 is open, says Postgres ──                         ── the tier says that m0 ended: forget it?
        B:                              answers m0, finishes
        """
        world.posts("m0")
        world.posts("m0")
        first, second = records(world)

        def is_replaced() -> None:
            with world.steps.silently():
                world.clock.advance(world.settings.heartbeat_stale + 1)
                world.tier.claim(world.key, "another")

        def is_answered() -> None:
            with world.steps.silently():
                world.delivers(second)
                assert world.answered("m0")

        on(world, "before", "tier.seal", is_replaced)
        on(world, "after", "archive.settled_by", is_answered)
        world.delivers(first)
        world.postgres(away=True)
        for delivery in records(world):
            world.delivers(delivery)
        assert len([job for outcome in world.outcomes for job in outcome.ended]) == 1
        world.postgres(away=False)
        world.settles()
        assert world.answered("m0")
        world.checked()
