"""Another job answers a failed job's messages once, whatever goes wrong, and no message is stranded.

Postgres: not settled, parked ── tiers forget the end ── accept, send ── linked, no longer parked
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, Unavailable
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.records import ArchiveRecord
from message_handler.operations import handoff, interventions
from message_handler.ports.archive import Archive
from message_handler.ports.audit import AuditEntry
from tests.contract.stories import dies, on, told
from tests.contract.threads import at_once
from tests.contract.world import Crash, World

ENTRY = AuditEntry("user:1", "retry", "jobs", "job")


def fails(world: World, *message_ids: str) -> str:
    """The job of these messages fails. Returns the job."""
    for message_id in message_ids:
        world.contents[message_id] = f"[fail] {message_id}"
    world.posts(*message_ids)
    world.settles()
    job_id = told(world, message_ids[-1])
    assert world.job(job_id).status is JobStatus.FAILED
    return job_id


def is_mended(world: World) -> None:
    """From now on the AI answers the messages that it failed at."""
    world.ai.fails = False


def retries(world: World, job_id: str) -> str | None:
    return interventions.retry(world.tiers, world.archive, world.intake.accept, world.job(job_id), ENTRY)


def sweeps(world: World) -> None:
    """Do what the schedule does, including resumes that were broken off."""
    world.sweeps()
    handoff.unpark_the_rest(world.tiers, world.archive, world.intake.accept)


def test_a_failed_jobs_messages_are_answered_by_one_job_that_it_leads_to(world: World) -> None:
    job_id = fails(world, "m0", "m1")
    failed = world.job(job_id)
    is_mended(world)
    successor = retries(world, job_id)
    world.settles()
    assert world.answered("m0 m1")
    assert world.end_of("m0").job_id == world.end_of("m1").job_id == successor
    assert world.job(job_id) == replace(failed, superseded_by=successor)
    world.checked()


def test_retried_messages_are_answered_together_with_those_in_the_run(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    running = world.posts("m1")
    assert running
    assert retries(world, job_id) == running["ai_job_id"]
    world.orderly = False
    world.settles()
    assert sorted(content for reply in world.replies() for content in reply) == sorted(world.contents.values())
    world.checked()


def test_newer_messages_keep_their_reply_and_the_old_ones_get_theirs_after_it(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    world.posts("m1")
    world.settles()
    retries(world, job_id)
    world.orderly = False
    world.settles()
    assert world.answered("m1", "m0")
    found = world.archive.conversation(world.key)
    assert found
    assert [turn.role for turn, *_ in found.turns] == ["user", "assistant", "user", "assistant"]
    world.checked()


@pytest.mark.parametrize("repeated", [False, True], ids=["then the sweep", "then once more"])
@pytest.mark.parametrize(
    "moment",
    [
        ("after", "archive.reopen"),
        ("before", "tier.forget"),
        ("after", "tier.forget"),
        ("before", "tier.accept"),
        ("after", "tier.accept"),
        ("before", "queue.send"),
        ("after", "queue.send"),
        ("before", "archive.unparked"),
        ("after", "archive.unparked"),
    ],
    ids=" ".join,
)
def test_a_process_that_dies_during_a_retry_strands_nothing(
    world: World, moment: tuple[str, str], repeated: bool
) -> None:
    job_id = fails(world, "m0", "m1")
    is_mended(world)
    on(world, moment[0], moment[1], dies)
    with pytest.raises(Crash):
        retries(world, job_id)
    if repeated:
        retries(world, job_id)
    else:
        sweeps(world)
    world.settles()
    sweeps(world)
    world.settles()
    assert world.answered("m0 m1")
    assert world.chain(job_id)[-1].status is JobStatus.COMPLETED
    world.checked()


def test_a_job_that_two_operators_retry_at_once_is_answered_once(new_world: Callable[[], World]) -> None:
    for _ in range(5):
        world = new_world()
        job_id = fails(world, "m0")
        is_mended(world)
        named = at_once(*[partial(retries, world, job_id)] * 2)
        world.settles()
        assert world.answered("m0")
        ends = {chain[-1].job_id for chain in (world.chain(name) for name in named)}
        assert len(ends) == 1 or all(job.reply for job in map(world.job, ends))
        world.checked()


def test_a_second_retry_after_the_answer_does_nothing(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    successor = retries(world, job_id)
    world.settles()
    assert retries(world, job_id) == successor
    assert world.queue.waiting == []
    assert world.answered("m0")


def test_a_platform_that_sends_a_retried_message_again_gets_one_answer(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    on(world, "after", "archive.reopen", lambda: world.posts("m0"))
    retries(world, job_id)
    world.settles()
    assert world.answered("m0")
    world.checked()


def test_a_failed_job_that_is_answered_meanwhile_leads_to_that_answer(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)

    def sent_again() -> None:
        world.tier_lost()  # otherwise it would be a duplicate, whose record leads from the failed job to the answer
        world.posts("m0")
        world.settles()

    on(world, "after", "archive.reopen", sent_again)
    successor = retries(world, job_id)
    assert successor == world.end_of("m0").job_id
    assert world.job(job_id).superseded_by == successor
    assert world.answered("m0")
    world.checked()


def test_a_late_copy_of_a_failed_jobs_record_starts_nothing(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    (record, _), *_ = world.queue.sent
    successor = retries(world, job_id)
    world.queue.send(record)
    world.settles()
    world.queue.send(record)
    world.settles()
    assert world.answered("m0")
    assert world.end_of("m0").job_id == successor
    world.checked()


def test_a_late_copy_of_the_archive_record_does_not_fail_the_job_again(world: World) -> None:
    """The job ended while Postgres was away. SQS delivers the archive record a second time."""
    world.contents["m0"] = "[fail] m0"
    world.posts("m0")
    on(world, "before", "archive.fence", lambda: world.postgres(away=True))
    world.delivers()
    world.postgres(away=False)
    copies = [record for record, _ in world.queue.sent if isinstance(record, ArchiveRecord)]
    assert copies
    world.settles()
    job_id = told(world, "m0")
    is_mended(world)
    retries(world, job_id)
    world.queue.send(copies[0])
    world.delivers(world.queue.waiting[-1])
    world.settles()
    assert world.answered("m0")
    world.checked()


def test_a_retry_survives_a_tier_that_forgets_everything(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    retries(world, job_id)
    world.tier_lost()
    world.settles()
    assert world.answered("m0")
    world.checked()


def test_a_retry_of_an_unarchived_job_is_refused_without_an_outage(world: World) -> None:
    world.posts("m0")
    with pytest.raises(Conflict, match="not in Postgres"):
        interventions.retry(world.tiers, world.archive, world.intake.accept, _failed(world, told(world, "m0")), ENTRY)
    assert not world.archive.away
    world.settles()
    assert world.answered("m0")
    world.checked()


def test_a_retry_without_postgres_can_be_repeated_later(world: World) -> None:
    job_id = fails(world, "m0")
    is_mended(world)
    world.postgres(away=True)
    with pytest.raises(Unavailable):
        interventions.retry(world.tiers, world.archive, world.intake.accept, _failed(world, job_id), ENTRY)
    world.postgres(away=False)
    retries(world, job_id)
    world.settles()
    assert world.answered("m0")


def _failed(world: World, job_id: str) -> Job:
    return Job(job_id, world.key, JobStatus.FAILED, (Message("m0", ""),), "default")


def test_a_message_that_was_answered_is_not_retried(world: World) -> None:
    world.posts("m0")
    world.settles()
    with pytest.raises(Conflict):
        retries(world, told(world, "m0"))
    with pytest.raises(Conflict):
        world.archive.reopen(world.job(told(world, "m0")), ENTRY)
    world.checked()


class TestTheArchive:
    def failed(self, archive: Archive, key: ConversationKey, job_id: str, *, alias: str = "") -> Job:
        aliases = (alias,) if alias else ()
        messages = (Message("m0", f"{key.platform_id} 0", True), Message("m1", f"{key.platform_id} 1", True, aliases))
        job = Job(job_id, key, JobStatus.PROCESSING, messages, "default", created_at=1.0)
        fence = archive.fence(job, successor_id=key.new_job_id(), turns=0)
        assert fence.number is not None
        end = replace(job, status=JobStatus.FAILED, error=JobError("ai_failed", "It failed."), finished_at=2.0)
        assert archive.commit(end, fence.number)
        return end

    def test_it_opens_every_id_and_keeps_what_was_said(self, archive: Archive) -> None:
        key = ConversationKey("clinic", "patient")
        job = self.failed(archive, key, key.new_job_id(), alias="m1-again")
        assert archive.reopen(job, ENTRY) is True
        assert archive.reopen(job, ENTRY) is False
        assert [archive.settled_by(key, id_) for id_ in ("m0", "m1", "m1-again")] == [None] * 3
        back = archive.parked(key)
        assert back
        held = [(kept.message.message_id, kept.message.content, kept.job_id) for kept in back.parked]
        assert held == [("m0", "clinic 0", job.job_id), ("m1", "clinic 1", job.job_id)]
        assert back.parked[1].message == Message("m1", "clinic 1", True, ("m1-again",))
        conversation = archive.conversation(key)
        assert conversation
        assert list(conversation.turns) == []

    def reopens(self, archive: Archive, job: Job) -> bool | str:
        try:
            return archive.reopen(job, ENTRY)
        except Conflict as refused:
            return str(refused)

    def test_tenants_with_the_same_ids_are_reopened_apart(self, archive: Archive) -> None:
        name = ConversationKey("clinic", "patient").new_job_id()
        mine, theirs = (
            self.failed(archive, ConversationKey(platform_id, "patient"), name) for platform_id in ("clinic", "other")
        )
        assert self.reopens(archive, mine) is True
        assert self.reopens(archive, mine) is False
        assert archive.settled_by(theirs.key, "m0") == name
        conversation = archive.conversation(theirs.key)
        assert conversation
        assert [turn.content for turn, *_ in conversation.turns] == ["other 0", "other 1"]
        assert archive.parked(theirs.key).parked == ()  # type: ignore[union-attr]
        assert self.reopens(archive, theirs) is True
        third = self.failed(archive, ConversationKey("third", "patient"), name)
        late = replace(third, messages=(*third.messages, Message("m2", "third 2")))
        assert archive.archive(late) is True

    def test_tenants_list_their_own(self, archive: Archive) -> None:
        jobs = {
            platform_id: self.failed(archive, key := ConversationKey(platform_id, "patient"), key.new_job_id())
            for platform_id in ("clinic", "other")
        }
        for platform_id, job in jobs.items():
            for query in ({"status": "failed"}, {"conversation_id": "patient"}, {}):
                filters = {"status": None, "conversation_id": None} | query
                found = archive.jobs(platform_id, behind=None, most=9, **filters)
                assert [listed.job_id for listed in found] == [job.job_id]
        assert archive.last_end("clinic") == 2.0
        assert archive.last_end("nobody") is None
