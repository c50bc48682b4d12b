"""The job that a message was promised leads to its answer at once: links are written with fences and commits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from message_handler.domain.errors import NotFound, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.records import Record
from message_handler.jobs import BackgroundJobManager
from message_handler.operations import sweeping
from message_handler.ports.archive import Archive
from message_handler.queue.codec import decode, encode
from tests.contract.chat import Chat, named
from tests.contract.conversation import Conversation
from tests.contract.stories import (
    is_away,
    on,
    told,
)
from tests.contract.world import World


@pytest.fixture
def talk(archive: Archive) -> Conversation:
    return Conversation(archive)


def promised(talk: Conversation, message_id: str, *numbers: int) -> Message:
    return named(message_id).with_promises(*(talk.id(number) for number in numbers))


class TestLinks:
    def test_a_fence_leads_a_job_that_never_ran_to_the_run(self, talk: Conversation) -> None:
        talk.number(talk.job(2, promised(talk, "m0", 1)))
        assert talk.end(1) == (JobStatus.PROCESSING, None, None, talk.id(2))
        assert [message.message_id for message in talk.archived(1).messages] == ["m0"]

    def test_a_commit_ends_the_jobs_that_its_messages_were_promised(self, talk: Conversation) -> None:
        job = talk.job(2, promised(talk, "m0", 1))
        assert talk.archive.commit(talk.completed(job), talk.number(job))
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_a_commit_leads_to_itself_what_its_fence_did_not_know(self, talk: Conversation) -> None:
        fence = talk.number(talk.job(2, "m0"))
        assert talk.archive.commit(talk.completed(talk.job(2, promised(talk, "m0", 1))), fence)
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_an_archived_end_ends_the_jobs_that_its_messages_were_promised(self, talk: Conversation) -> None:
        ended = replace(talk.completed(talk.job(2, promised(talk, "m0", 1))), unarchived=True)
        assert talk.archive.archive(ended)
        assert talk.end(1) == (JobStatus.CANCELLED, None, None, talk.id(2))

    def test_a_job_that_answered_another_message_leads_on(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        job = talk.job(2, promised(talk, "m1", 1))
        fence = talk.number(job)
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, talk.id(2))
        assert talk.archive.commit(talk.completed(job), fence)
        assert talk.archived(1).promised == ("m1",)
        assert [message.message_id for message in talk.archived(1).messages] == ["m0"]

    def test_what_is_settled_leads_to_the_job_that_settled_it_though_nothing_runs(self, talk: Conversation) -> None:
        talk.answer(2, "m0")
        assert talk.fence(talk.job(3, promised(talk, "m0", 1))).number is None
        assert talk.end(1)[3] == talk.id(2)

    def test_a_message_that_joined_after_the_first_fence_is_the_jobs_too(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        assert talk.fence(talk.job(2, "m1")).number
        assert talk.fence(talk.job(2, "m1", "m0")).number is None
        found = talk.archived(2)
        assert ([message.message_id for message in found.messages], found.promised) == (["m1"], ("m0",))

    def test_the_check_of_a_record_tells_an_ended_job_of_its_message(self, talk: Conversation) -> None:
        """m0 joined job 1 in a Redis that was lost. Job 1 answered m1 alone, job 2 answered m0."""
        talk.answer(1, "m1")
        talk.answer(2, "m0")
        for _ in range(2):
            talk.archive.supersede(talk.job(1, "m0"), talk.id(2))
            found = talk.archived(1)
            assert (found.superseded_by, found.promised) == (talk.id(2), ("m0",))

    def test_each_of_several_promises_is_kept(self, talk: Conversation) -> None:
        job = talk.job(9, promised(talk, "m0", 1, 2), promised(talk, "m1", 2, 3), "m2")
        assert talk.archive.commit(talk.completed(job), talk.number(job))
        assert [talk.end(number)[0] for number in (1, 2, 3)] == [JobStatus.CANCELLED] * 3
        chains = [talk.archived(number).superseded_by for number in (1, 2, 3)]
        assert set(chains) <= {talk.id(9), *(talk.id(number) for number in (1, 2, 3))}
        assert chains[0] == talk.id(9)

    def test_its_own_name_is_no_promise(self, talk: Conversation) -> None:
        job = talk.job(1, promised(talk, "m0", 1))
        assert talk.archive.commit(talk.completed(job), talk.number(job))
        assert talk.end(1) == (JobStatus.COMPLETED, "Rest.", None, None)

    def test_no_link_closes_a_circle(self, talk: Conversation) -> None:
        first = talk.job(1, promised(talk, "m0", 2))
        assert talk.archive.commit(talk.completed(first), talk.number(first))
        second = talk.job(2, promised(talk, "m1", 1))
        talk.fence(second)
        third = talk.job(3, promised(talk, "m1", 1, 2))
        assert talk.archive.commit(talk.completed(third), talk.number(third))
        seen, job_id = set[str](), talk.id(2)
        while job_id:
            assert job_id not in seen
            seen.add(job_id)
            found = talk.archive.job(talk.key.platform_id, job_id)
            job_id = found.superseded_by or "" if found else ""
        assert talk.id(3) in seen

    def test_how_messages_ended_is_told_together(self, talk: Conversation) -> None:
        talk.answer(1, "m0")
        failed = talk.job(2, "m1")
        assert talk.archive.commit(talk.failed(failed), talk.number(failed))
        assert talk.archive.cancel(talk.job(3, "m2")).cancelled
        ends = talk.archive.settled(talk.key, ["m0", "m1", "m2", "m3"])
        assert {id_: (end.job_id, end.kind) for id_, end in ends.items()} == {
            "m0": (talk.id(1), "answered"),
            "m1": (talk.id(2), "failed"),
            "m2": (talk.id(3), "cancelled"),
        }

    def test_a_job_that_another_answered_is_not_listed_as_cancelled(self, talk: Conversation) -> None:
        job = talk.job(2, promised(talk, "m0", 1))
        assert talk.archive.commit(talk.completed(job), talk.number(job))
        assert talk.archive.cancel(talk.job(3, "m1")).cancelled
        found = talk.archive.jobs(talk.key.platform_id, status="cancelled", conversation_id=None, behind=None, most=9)
        assert [job.job_id for job in found] == [talk.id(3)]


class TestInTheLine:
    """Each message knows the jobs that it was promised, besides the job that it is in, whatever becomes of that job."""

    def promises(self, chat: Chat) -> list[dict[str, list[str]]]:
        return [job.promises for job in chat.tier.jobs(chat.key)]

    def test_a_message_in_its_promised_job_names_no_other(self, chat: Chat) -> None:
        first = chat.says("one")
        chat.says("two")
        assert self.promises(chat) == [{}]
        chat.record_arrives(first.job_id, *first.pending)
        assert self.promises(chat) == [{}]

    def test_a_message_whose_job_is_interrupted_keeps_its_promise(self, chat: Chat) -> None:
        first = chat.says("one")
        chat.claimed()
        second = chat.accept(replace(chat.request("two"), double_texting="interrupt"))
        assert second.job_id != first.job_id
        assert self.promises(chat) == [{first.job_id: [first.message_id]}]

    def test_a_message_that_is_postponed_keeps_its_promise(self, chat: Chat) -> None:
        first = chat.says("one")
        chat.claimed()
        second = chat.says("two")
        ids, next_id = [first.message_id], chat.job_id(70)
        sealed = chat.tier.seal(chat.key, "worker", ids, next_id=next_id, fenced=True, may_restart=False)
        assert sealed.verdict == "sealed"
        assert self.promises(chat) == [{}, {first.job_id: [second.message_id]}]

    def test_a_message_whose_job_is_renamed_at_the_fence_keeps_its_promise(self, chat: Chat) -> None:
        first = chat.says("one")
        job = chat.claimed()
        ended = replace(job, status=JobStatus.CANCELLED, superseded_by=chat.job_id(70))
        chat.adopt("worker", [], ended)
        assert self.promises(chat) == [{first.job_id: [first.message_id]}]

    def test_a_message_that_a_record_brings_under_another_name_keeps_its_promise(self, chat: Chat) -> None:
        chat.says(named("m0", "one"))
        other = named("m0", "one").with_promises(chat.job_id(80))
        chat.record_arrives(chat.job_id(80), other)
        assert self.promises(chat) == [{chat.job_id(80): ["m0"]}]
        chat.record_arrives(chat.job_id(80), other)
        assert self.promises(chat) == [{chat.job_id(80): ["m0"]}]

    def test_a_record_tells_what_each_of_its_messages_was_promised(self, chat: Chat) -> None:
        first = chat.says("one")
        chat.claimed()
        chat.seal([first.message_id])
        second = chat.says("two")
        assert [(m.message_id, m.promised) for m in second.pending] == [
            (first.message_id, (first.job_id,)),
            (second.message_id, (second.job_id,)),
        ]


def asked_last(world: World) -> Request:
    """The request of the last record."""
    record = world.queue.waiting[-1].record
    assert isinstance(record, Record)
    return record.request


class TestClients:
    """What a client sees of the job that it was promised."""

    def test_a_message_that_came_too_late_is_told_where_it_is_answered(self, world: World) -> None:
        """The first job is sealed. m1 waits for the next job, and the answer says so."""
        world.steps.hooks["before", "archive.commit"] = [lambda: world.posts("m1") and None]
        world.posts("m0")
        world.delivers()
        first, second = told(world, "m0"), told(world, "m1")
        shown = world.jobs.get_job_status(first)
        assert shown is not None
        assert shown["messages"] == [{"message_id": "m0", "status": "answered", "job_id": first}]
        assert shown["answered_by"] == first
        shown = world.jobs.get_job_status(second)
        assert shown is not None
        assert shown["messages"] == [{"message_id": "m1", "status": "answered", "job_id": second}]

    def test_a_message_that_was_postponed_leads_from_the_job_that_it_was_promised(self, world: World) -> None:
        """The run may not restart. m1, which joined it, waits for the next job (counterexample 5)."""
        posted = iter(range(1, world.settings.max_restarts + 3))

        def types() -> None:
            if (number := next(posted, None)) is not None:
                world.posts(f"m{number}")

        world.ai.meanwhile = types
        world.posts("m0")
        world.settles()
        world.checked()
        for message_id, (job_id, *_) in world.told.items():
            shown = world.jobs.wait_for(job_id, 0, message_id)
            (message,) = shown["messages"]
            assert message["status"] == "answered"
            assert shown["answered_by"] == message["job_id"]
            assert world.end_of(message_id).job_id == message["job_id"]

    def test_a_message_whose_job_ended_without_it_is_told_where_it_waits(self, world: World) -> None:
        """m1 joins J0, whose run has no time to restart. m1 is postponed, and no fence knows of it yet."""

        def types() -> None:
            world.posts("m1")
            world.clock.advance(95)

        seen: list[dict[str, Any]] = []
        look = lambda: seen.append(world.jobs.wait_for(told(world, "m1"), 0))  # noqa: E731
        world.posts("m0")
        world.ai.meanwhile = types
        world.steps.hooks["before", "archive.commit"] = [look]
        world.steps.hooks["after", "tier.finish"] = [look]
        world.delivers()
        world.ai.meanwhile = lambda: None
        look()
        first = told(world, "m0")
        assert told(world, "m1") == first
        for shown in seen:
            states = {message["message_id"]: (message["status"], message["job_id"]) for message in shown["messages"]}
            assert states["m1"][0] == "pending"
            assert states["m1"][1] != first
            assert shown["answered_by"] is None
        world.settles().checked()
        (message,) = world.jobs.wait_for(first, 0, "m1")["messages"]
        assert (message["status"], message["job_id"]) == ("answered", world.end_of("m1").job_id)
        assert world.end_of("m1").job_id != first

    def test_while_postgres_is_away_a_completed_job_has_answered_its_messages(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        job_id = told(world, "m0")
        world.postgres(away=True)
        shown = world.jobs.wait_for(job_id, 0, "m0")
        assert shown["messages"] == [{"message_id": "m0", "status": "answered", "job_id": job_id}]

    def test_an_end_that_postgres_lacks_has_answered_its_messages(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        job_id = told(world, "m0")
        for _ in range(2):
            shown = world.jobs.wait_for(job_id, 0, "m0")
            assert shown["messages"] == [{"message_id": "m0", "status": "answered", "job_id": job_id}]
            world.postgres(away=False)

    def test_a_record_of_an_earlier_version_promises_its_own_message_alone(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        body = json.loads(encode(world.queue.waiting[-1].record))
        for message in body["messages"]:
            message.pop("promised", None)
        record = decode(json.dumps(body))
        assert isinstance(record, Record)
        promised = [message.promised for message in record.request.messages]
        assert promised == [(), (told(world, "m1"),)]

    def test_an_open_message_says_where_it_waits(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        shown = world.jobs.get_job_status(told(world, "m0"))
        assert shown is not None
        assert [message["status"] for message in shown["messages"]] == ["pending", "pending"]
        assert shown["answered_by"] is None

    def test_a_message_that_is_settled_is_not_open_whatever_an_old_line_says(self, world: World) -> None:
        """Redis comes back as it was before the answer."""
        world.posts("m0")
        before = asked_last(world)
        world.settles()
        with world.steps.silently():
            world.tier.accept_again(before, job_id=told(world, "m0"), spare_id=world.key.new_job_id())
        shown = world.jobs.wait_for(told(world, "m0"), 0, "m0")
        assert shown["messages"][0]["status"] == "answered"

    def test_what_is_shown_while_postgres_is_away_is_marked_for_it_may_have_ended(self, world: World) -> None:
        """Redis comes back as it was before the answer, and then Postgres goes away."""
        world.posts("m0")
        before = asked_last(world)
        world.settles()
        job_id = told(world, "m0")
        world.tier_lost()
        with world.steps.silently():
            world.tier.accept_again(before, job_id=job_id, spare_id=world.key.new_job_id())
        assert "degraded" not in world.jobs.wait_for(job_id, 0)
        world.postgres(away=True)
        shown = world.jobs.wait_for(job_id, 0)
        assert (shown["status"], shown["degraded"]) == ("pending", True)
        world.postgres(away=False)
        shown = world.jobs.wait_for(job_id, 0)
        assert (shown["status"], shown.get("degraded")) == ("completed", None)

    def test_a_reply_that_is_committed_between_two_reads_ends_the_job_that_is_shown(self, world: World) -> None:
        world.posts("m0")
        reply = iter([world.delivers])
        world.steps.hooks["before", "archive.settled"] = [lambda: next(reply, lambda: None)()]
        shown = world.jobs.wait_for(told(world, "m0"), 0, "m0")
        assert shown["messages"][0]["status"] == "answered"
        assert (shown["status"], shown["progress"]["state"]) == ("completed", "completed")

    def test_a_message_that_was_not_promised_it_is_not_found(self, world: World) -> None:
        world.posts("m0")
        with pytest.raises(NotFound, match="message_id"):
            world.jobs.wait_for(told(world, "m0"), 0, "m9")

    @pytest.mark.parametrize("ending", ["reads", "sweeps"])
    def test_what_a_lost_record_would_have_ended_is_ended(self, world: World, ending: str) -> None:
        """No message carries this promise: the record of an earlier release is lost, and the promise with it."""
        talk = Conversation(world.archive, world.key)
        talk.number(talk.job(1, "m0"))
        later = replace(talk.job(2, "m0"), messages=(named("m0"),))
        assert world.archive.archive(replace(talk.completed(later), unarchived=True))
        assert not talk.archived(1).status.ended
        if ending == "sweeps":
            assert sweeping.end_answered(world.archive) == 1
            assert talk.archived(1).status.ended
        shown = world.jobs.get_job_status(talk.id(1))
        assert shown is not None
        assert (shown["status"], shown["superseded_by"], shown["answered_by"]) == (
            "cancelled", talk.id(2), talk.id(2),
        )  # fmt: skip
        assert sweeping.end_answered(world.archive) == 0


def test_a_record_carries_what_its_messages_were_promised(world: World, new_world: Callable[[], World]) -> None:
    """Redis is lost. m1's record alone brings both messages back, each with its promise (counterexample 6)."""
    world.steps.hooks["before", "archive.commit"] = [lambda: world.posts("m1") and None]
    world.posts("m0")
    record = world.queue.waiting[-1].record
    assert [message.promised for message in record.request.messages] == [(told(world, "m0"),)]  # type: ignore[union-attr]


class TestJobs:
    def test_an_ended_job_is_never_seen_running_again(self, world: World) -> None:
        """The tier forgot J0. m1's record, which was promised J0 too, brings the name back."""
        on(world, "after", "archive.commit", lambda: world.posts("m1"))
        world.posts("m0")
        with world.steps.silently():
            head = world.tier.waiting(world.key)
        assert head is not None
        world.settles()
        ended = world.job(head.job_id)
        world.tier_lost()
        with world.steps.silently():
            record = world.queue.sent[0][0]
            again = replace(record.request, messages=(Message("m2", "text of m2", given=True),))
            world.tier.accept_again(again, job_id=head.job_id, spare_id=world.key.new_job_id())
            live = world.tier.job(head.job_id)
            assert live is not None
            assert not live.status.ended
        assert world.job(head.job_id) == ended

    def test_without_postgres_the_tier_still_tells(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "archive.job", is_away)
        assert world.job(told(world, "m0")).status is JobStatus.PENDING

    def test_a_job_that_only_postgres_can_know_is_unknown_without_it(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.tier_lost()
        on(world, "before", "archive.job", is_away)
        with pytest.raises(Unavailable):
            world.job(told(world, "m0"))
        assert world.job(told(world, "m0")).reply == '["text of m0"]'

    def test_another_tenants_job_is_unknown(self, world: World) -> None:
        world.posts("m0")
        job_id = told(world, "m0")
        others = BackgroundJobManager(world.tiers, world.archive, world.queue, world.intake, platform_id="other")
        for _ in range(2):
            with pytest.raises(NotFound):
                others.find(job_id)
            assert others.get_job_status(job_id) is None
            assert not others.cancel_job(job_id)
            world.settles()
        assert world.checked().answered("m0")
