"""What a request leaves behind in the tier and the queue, over each pair of stores, in virtual time."""

from __future__ import annotations

from typing import Any

from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.domain.records import Record
from message_handler.intake.requests import parse_request
from tests.contract.stories import (
    dies,
    is_away,
    on,
    told,
)
from tests.contract.world import (
    World,
)


class TestIntake:
    def test_a_refused_record_leaves_nothing_behind(self, world: World) -> None:
        on(world, "before", "queue.send", is_away)
        assert world.posts("m0", tries=1) is None
        with world.steps.silently():
            assert world.tier.lock(world.key) is None
            assert world.archive.conversation(world.key) is None
        assert world.queue.sent == []

    def test_a_refused_newcomer_leaves_the_others(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "queue.send", is_away)
        assert world.posts("m1", tries=1) is None
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_late_beginning_of_what_was_answered_is_not_answered_again(self, world: World) -> None:
        """The messages have no ids. The record stands for the answered message, not for a new one."""

        def posts(*contents: str) -> dict[str, Any]:
            turns = [{"role": "user", "content": content} for content in contents]
            return world.intake.handle(world.key, parse_request({"messages": turns}))

        first = posts("a", "b", "c")
        world.settles()
        late = posts("a", "b")
        assert (late["ai_job_id"], late["duplicate"]) == (first["ai_job_id"], True)
        assert len(world.queue.waiting) == 1
        world.settles()
        assert world.replies() == [["a", "b", "c"]]
        world.checked()

    def test_each_record_alone_can_redo_the_work(self, world: World) -> None:
        for number in range(4):
            world.posts(f"m{number}")
        for record, _ in world.queue.sent:
            pending = [message.message_id for message in record.request.messages]
            assert pending == [f"m{n}" for n in range(int(record.message_id[1:]) + 1)]

    def test_a_newcomer_that_is_undone_under_the_workers_hands_is_not_answered(self, world: World) -> None:
        """J0{m0} was committed and its worker died. m1 joins, the next worker fences, and m1's record is refused."""
        on(world, "after", "archive.commit", dies)
        world.posts("m0")
        world.delivers()
        world.lock_is_free()

        def joins() -> None:
            with world.steps.silently():
                again = world.queue.sent[0][0]
                assert isinstance(again, Record)
                world.tier.accept_again(again.request, job_id=again.job_id, spare_id=world.key.new_job_id())
                request = Request(world.key, (Message("m1", "text of m1", given=True),), (), "default")
                world.tier.accept(request, job_id=world.key.new_job_id(), lock_id="m1")

        on(world, "before", "tier.claim", joins)
        on(world, "after", "archive.fence", lambda: world.tier.undo(world.key, ["m1"]))
        world.contents["m1"] = "text of m1"
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        end = world.chain(told(world, "m0"))[-1]
        assert (end.status, end.messages) == (JobStatus.CANCELLED, ())
        world.checked()
