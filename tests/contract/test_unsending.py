"""A2. Unsent messages: no reply answers them, and the others are answered, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message
from message_handler.http.conversation import conversation_view
from message_handler.ports.archive import Archive
from tests.contract.conversation import KEY, STARTED, Conversation
from tests.contract.stories import Story, happens, moments_of, on, told
from tests.contract.test_handoff import asked, hands_back, hands_off, sends
from tests.contract.test_whatever_happens import EVENTS
from tests.contract.world import World


def waiting(world: World) -> None:
    world.posts("m0")
    world.posts("m1")
    world.unsends("m0")
    world.settles()


def the_only_one(world: World) -> None:
    world.posts("m0")
    world.unsends("m0")
    world.settles()


def before_the_first_byte(world: World) -> None:
    on(world, "before", "ai.complete", lambda: world.unsends("m0"))
    world.posts("m0")
    world.posts("m1")
    world.settles()


def in_the_middle(world: World) -> None:
    on(world, "before", "tier.heartbeat", lambda: world.unsends("m0"))
    world.posts("m0")
    world.posts("m1")
    world.settles()


def between_seal_and_commit(world: World) -> None:
    on(world, "after", "tier.seal", lambda: world.unsends("m0"))
    world.posts("m0")
    world.posts("m1")
    world.settles()


def after_the_commit(world: World) -> None:
    on(world, "before", "tier.finish", lambda: world.unsends("m0"))
    world.posts("m0")
    world.posts("m1")
    world.settles()


def edited(world: World) -> None:
    on(world, "before", "ai.complete", lambda: world.posts("m0~1"), lambda: world.unsends("m0"))
    world.posts("m0")
    world.posts("m1")
    world.settles()


STORIES: tuple[Story, ...] = (
    waiting,
    the_only_one,
    before_the_first_byte,
    in_the_middle,
    between_seal_and_commit,
    after_the_commit,
    edited,
)


class TestWhateverHappens:
    @pytest.mark.parametrize("story", STORIES)
    def test_the_others_are_answered_once_and_it_is_not(self, world: World, story: Story) -> None:
        story(world)
        world.checked()
        assert bool(world.unsent) == (story is not after_the_commit)

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_at_any_step(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, EVENTS, story).steps.names)
        for moment in moments_of(steps, event):
            happens(new_world, EVENTS, story, moment)


def view(world: World) -> list[tuple[str, bool]]:
    """The patient's turns: content, and whether it was unsent."""
    turns = conversation_view(world.tiers, world.archive, world.key)["turns"]
    return [(turn["content"], turn["unsent_at"] is not None) for turn in turns if turn["role"] == "user"]


class TestOutcomes:
    def test_unsent_again_is_the_same(self, world: World) -> None:
        world.posts("m0")
        assert [world.unsends("m0") for _ in range(2)] == ["unsent"] * 2
        world.settles().checked()
        assert world.ai.prompts == []
        assert view(world) == [(world.contents["m0"], True)]

    def test_its_job_ends_as_cancelled(self, world: World) -> None:
        world.posts("m0")
        world.unsends("m0")
        job = world.job(told(world, "m0"))
        assert job.status is JobStatus.CANCELLED
        shown = world.jobs.get_job_status(job.job_id)
        assert shown is not None
        assert [(m["message_id"], m["status"]) for m in shown["messages"]] == [("m0", "cancelled")]

    def test_the_job_goes_on_without_it(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        assert world.unsends("m0") == "unsent"
        world.settles()
        job = world.job(told(world, "m1"))
        assert (job.status, asked(world)) == (JobStatus.COMPLETED, [[world.contents["m1"]]])

    def test_a_duplicate_of_it_starts_nothing(self, world: World) -> None:
        world.posts("m0")
        world.unsends("m0")
        again = world.posts("m0")
        assert again is not None
        assert again["duplicate"]
        world.settles()
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert world.ai.prompts == []

    def test_a_record_that_carries_it_along_does_not_bring_it_back(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1")
        world.unsends("m0")
        world.tier_lost()
        world.settles()
        assert world.answered("m1")

    def test_an_answered_one_stays_answered_and_leaves_later_contexts(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        assert [world.unsends("m0") for _ in range(2)] == ["answered"] * 2
        world.posts("m1")
        world.settles()
        assert world.answered("m0", "m1")
        contexts = [[turn.content for turn in prompt.context] for prompt in world.ai.prompts]
        assert world.contents["m0"] not in contexts[1]
        assert view(world) == [(world.contents["m0"], True), (world.contents["m1"], False)]

    def test_a_history_does_not_bring_it_back_into_the_context(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.unsends("m0")
        reply = world.replies()[0]
        sends(world, ("user", world.contents["m0"], "m0"), ("assistant", str(reply)), ("user", "text of m1", "m1"))
        world.settles()
        assert world.contents["m0"] not in [turn.content for turn in world.ai.prompts[-1].context]

    def test_a_message_that_got_its_id_later_leaves_later_contexts(self, world: World) -> None:
        for turn in (("user", "text of m0"), ("user", "text of m0", "m0")):
            sends(world, turn)
        world.settles()
        assert world.unsends("m0") == "answered"
        assert view(world) == [("text of m0", True)]

    def test_an_unknown_one_is_not_found(self, world: World) -> None:
        assert world.unsends("m0") == "unknown"
        assert world.archive.conversation(world.key) is None
        world.posts("m1")
        world.settles()
        assert world.unsends("m0") == "unknown"

    def test_a_photo_may_be_taken_back_too(self, world: World) -> None:
        sends(world, ("user", "", "photo-1"))
        world.settles()
        assert world.unsends("photo-1") == "unsent"
        assert view(world) == [("", True)]

    def test_an_edit_that_waits_is_taken_back_and_the_answered_version_leaves_the_context(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.posts("m0~1")
        assert world.unsends("m0") == "unsent"
        world.settles()
        assert world.answered("m0")
        assert [unsent for _, unsent in view(world)] == [True, True]

    def test_while_a_human_answers_it_waits_no_longer(self, world: World) -> None:
        world.posts("m1")
        world.settles()
        hands_off(world)
        world.posts("m0")
        world.posts("m0~1")
        assert world.unsends("m0") == "unsent"
        hands_back(world)
        world.settles()
        assert world.answered("m1")

    def test_the_job_of_a_parked_message_has_the_conversations_bot(self, world: World) -> None:
        world.posts("m1")
        hands_off(world)
        world.posts("m0")
        world.unsends("m0")
        end = world.archive.settled(world.key, ["m0"])["m0"]
        job = world.archive.job(world.key.platform_id, end.job_id)
        assert job is not None
        assert job.bot_id == world.archive.bot_of(world.key)

    def test_without_postgres_nothing_is_decided(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        assert world.unsends("m0") is None
        assert world.tier.waiting(world.key), "it is not dropped"
        world.postgres(away=False)
        world.settles().checked()
        assert world.answered("m0")

    def test_an_edit_that_the_tier_took_for_a_new_message_is_dropped(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        world.tier_lost()
        world.posts("m0~1")
        assert world.unsends("m0") == "unsent"
        assert world.tier.waiting(world.key) is None
        world.settles().checked()
        assert world.answered("m0")

    def test_a_tier_that_is_away_may_have_it(self, world: World) -> None:
        world.posts("m0")
        world.redis(away=True)
        assert world.unsends("m0") is None, "neither unknown nor unsent"
        world.redis(away=False)
        assert world.unsends("m0") == "unsent"

    def test_an_answer_that_postgres_does_not_have_yet_is_waited_for(self, world: World) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        assert world.unsends("m0") is None, "neither unknown nor unsent"
        world.settles().checked()
        assert world.unsends("m0") == "answered"

    def test_a_run_that_nothing_can_restart_commits_nothing_of_it(self, world: World) -> None:
        """The tier could not be told: the fence tells the run."""

        def unsends() -> None:
            on(world, "before", "tier.unsend", lambda: world.redis(away=True))
            world.unsends("m0")
            world.redis(away=False)

        world.posts("m0")
        world.posts("m1")
        on(world, "before", "tier.seal", unsends)
        world.settles().checked()
        assert world.answered("m1")


class TestTheArchive:
    def test_two_tiers_may_have_it(self, archive: Archive) -> None:
        talk = Conversation(archive)
        waiting = [talk.job(1, "m0"), talk.job(2, "m0", "m1")]
        unsent = archive.unsend(KEY, "m0", waiting, at=STARTED + 60)
        assert (unsent.outcome, unsent.message_ids) == ("unsent", ("m0",))
        assert talk.end(1)[::3] == (JobStatus.CANCELLED, unsent.job_id)
        assert talk.fence(talk.job(2, "m0", "m1"), successor=50).settled == {"m0": unsent.job_id}

    def test_a_run_that_had_its_fence_commits_nothing(self, archive: Archive) -> None:
        talk = Conversation(archive)
        job = talk.job(1, "m0", "m1")
        fence = talk.number(job)
        archive.unsend(KEY, "m0", [job], at=STARTED + 60)
        assert archive.commit(talk.completed(job), fence) is None
        assert archive.commit(talk.completed(replace(job, messages=job.messages[1:])), fence) is None

    def test_another_tenants_message_of_the_same_id_stays(self, archive: Archive) -> None:
        theirs = Conversation(archive, ConversationKey("another", KEY.conversation_id))
        theirs.answer(1, "m0")
        assert archive.unsend(KEY, "m0", [], at=STARTED + 60).outcome == "unknown"
        found = archive.conversation(theirs.key)
        assert found is not None
        assert [turn.unsent_at for turn in found.turns] == [None, None]

    def test_an_id_that_begins_the_same_is_another_message(self, archive: Archive) -> None:
        talk = Conversation(archive)
        talk.answer(1, "m0", "m00")
        assert archive.unsend(KEY, "m0", [], at=STARTED + 60).outcome == "answered"
        found = archive.conversation(KEY)
        assert found is not None
        assert [turn.unsent_at is not None for turn in found.turns] == [True, False, False]

    def test_an_edit_that_was_answered_is_found(self, archive: Archive) -> None:
        talk, edit = Conversation(archive), Message("m0", "b", given=True, accepted_at=STARTED)
        assert archive.cancel(talk.job(2, "m0")).cancelled
        talk.answer(1, replace(edit, message_id=edit.edit_ids[0]))
        assert archive.unsend(KEY, "m0", [], at=STARTED + 60).outcome == "answered"

    def test_what_was_erased_is_unknown(self, archive: Archive) -> None:
        talk = Conversation(archive)
        archive.erase(KEY)
        assert archive.unsend(KEY, "m0", [talk.job(1, "m0")], at=STARTED + 60).outcome == "unknown"
        assert archive.conversation(KEY) is None

    def test_a_version_that_turns_up_later_is_settled(self, archive: Archive) -> None:
        """A tier that was away, or a record, still has the first version and an edit."""
        talk, first = Conversation(archive), Message("m0", "a", given=True, accepted_at=STARTED)
        edit = replace(first, content="b", accepted_at=STARTED + 1)
        unsent = archive.unsend(KEY, "m0", [talk.job(1, first)], at=STARTED + 60)
        edit = replace(edit, message_id=edit.edit_ids[0])
        fence = talk.fence(talk.job(2, first, edit))
        assert fence.settled == {"m0": unsent.job_id, edit.message_id: unsent.job_id}
        late = Message("m0", "a", given=True, accepted_at=STARTED + 90)
        assert talk.fence(talk.job(3, late)).settled == {"m0": unsent.job_id}

    def test_all_of_its_ids_are_settled(self, archive: Archive) -> None:
        talk = Conversation(archive)
        message = Message("minted", "yes", given=True, aliases=("m0",), accepted_at=STARTED)
        assert archive.unsend(KEY, "m0", [talk.job(1, message)], at=STARTED + 60).outcome == "unsent"
        assert talk.settled("minted", "m0") != [None, None]
