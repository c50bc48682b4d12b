"""A1. Edits: each version of a message is answered once, or replaced by a later one, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.jobs import JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.http.conversation import conversation_view
from message_handler.ports.archive import Archive
from tests.contract.chat import named
from tests.contract.conversation import STARTED, Conversation
from tests.contract.stories import Story, dies, happens, moments_of, on, told
from tests.contract.test_handoff import hands_back, hands_off, sends
from tests.contract.test_retry import is_mended, retries
from tests.contract.test_whatever_happens import EVENTS
from tests.contract.world import World

OLD, NEW, NEWEST = "m0", "m0~1", "m0~2"


def waiting(world: World) -> None:
    """The edit comes before a worker has claimed the job."""
    world.posts(OLD)
    world.posts(NEW)
    world.settles()


def before_the_first_byte(world: World) -> None:
    on(world, "before", "ai.complete", lambda: world.posts(NEW))
    world.posts(OLD)
    world.settles()


def in_the_middle(world: World) -> None:
    on(world, "before", "tier.heartbeat", lambda: world.posts(NEW))
    world.posts(OLD)
    world.settles()


def between_seal_and_commit(world: World) -> None:
    on(world, "after", "tier.seal", lambda: world.posts(NEW))
    world.posts(OLD)
    world.settles()


def after_the_commit(world: World) -> None:
    on(world, "before", "tier.finish", lambda: world.posts(NEW))
    world.posts(OLD)
    world.settles()


def after_the_end(world: World) -> None:
    world.posts(OLD)
    world.settles()
    world.posts(NEW)
    world.settles()


def twice(world: World) -> None:
    """One edit waits, the other one comes while the AI is asked. The first one is sent again late."""
    on(world, "before", "ai.complete", lambda: world.posts(NEWEST))
    world.posts(OLD)
    world.posts("m1")
    world.posts(NEW)
    world.settles()
    world.posts(NEW)
    world.settles()


def sent_again(world: World) -> None:
    """The platform sends old words again while the newest ones wait, and after their reply."""
    on(world, "before", "ai.complete", lambda: world.posts(NEWEST), lambda: world.posts(OLD))
    world.posts(OLD)
    world.posts(NEW)
    world.posts(OLD)
    world.settles()
    for version in (OLD, NEW, NEWEST):
        world.posts(version)
        world.settles()


@pytest.fixture
def talk(archive: Archive) -> Conversation:
    return Conversation(archive)


STORIES: tuple[Story, ...] = (
    waiting,
    before_the_first_byte,
    in_the_middle,
    between_seal_and_commit,
    after_the_commit,
    after_the_end,
    twice,
    sent_again,
)
#: A tier that has lost a message does not know its old words: they count as an edit if they come again.
LATE = {(sent_again, "the tier is lost")}


class TestWhateverHappens:
    @pytest.mark.parametrize("story", STORIES)
    def test_each_version_is_answered_once_or_replaced(self, world: World, story: Story) -> None:
        story(world)
        world.checked()

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_at_any_step(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, EVENTS, story).steps.names)
        for moment in moments_of(steps, event) if (story, event) not in LATE else ():
            happens(new_world, EVENTS, story, moment)


class TestTheTierHasForgotten:
    def test_an_edit_of_an_answered_message_is_answered(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        world.tier_lost()
        assert "edited" not in posted(world, NEW), "the tier knows nothing that it could be an edit of"
        world.settles().checked()
        assert world.answered(OLD, NEW)

    def test_its_job_shows_that_it_is_open(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        world.tier_lost()
        world.posts(NEW)
        for message_id in (None, "m0"):
            view = world.jobs.wait_for(told(world, NEW), 0, message_id)
            assert [(m["message_id"], m["status"]) for m in view["messages"]] == [("m0", "pending")]
        world.settles().checked()

    def test_a_duplicate_of_an_edit_is_settled(self, world: World) -> None:
        after_the_end(world)
        for version in (OLD, NEW):
            world.tier_lost()
            world.posts(version)
            world.settles().checked()
        assert world.answered(OLD, NEW)

    def test_nor_one_of_a_message_that_came_first_without_its_id(self, world: World) -> None:
        world.contents[OLD] = "text of m0"
        sends(world, ("user", world.contents[OLD], None))
        world.posts(OLD)
        world.posts(NEW)
        world.clock.advance(1)
        world.posts(OLD)
        world.queue.waiting = world.queue.waiting[-1:]
        world.tier_lost()
        world.settles()
        assert world.answered(NEW)

    def test_nor_one_of_an_edit_that_stands_before_its_message(self, world: World) -> None:
        world.posts(OLD)
        (old,) = world.tier.jobs(world.key)[0].messages
        edit = Message("m0", "text of m0~1", given=True, accepted_at=world.clock() + 0.25)
        edit = replace(edit, message_id=edit.edit_ids[0])
        request = Request(world.key, (edit, old), (), world.tier.jobs(world.key)[0].bot_id)
        world.tier.accept_again(request, job_id=told(world, OLD), spare_id=world.key.new_job_id())
        world.clock.advance(1)
        world.posts(NEW)
        world.queue.waiting = world.queue.waiting[-1:]
        world.tier_lost()
        world.settles()
        assert world.answered(NEW)

    def test_a_late_retry_that_says_the_same_time_is_settled(self, world: World) -> None:
        times = {OLD: 1796029200, NEW: 1796029201, NEWEST: 1796029202}
        for version in (*times, OLD, NEW):
            world.tier_lost()
            world.posts(version, edited_at=times[version])
            world.settles().checked()
        assert world.answered(OLD, NEW, NEWEST)

    def test_an_earlier_turn_with_other_words_is_not_answered_again(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        world.tier_lost()
        sends(world, ("user", "other words", "m0"), ("user", "text of m1", "m1"))
        world.settles()
        assert world.replies() == [[world.contents[OLD]], ["text of m1"]]

    def test_a_late_retry_of_old_words_makes_no_version_newer_in_its_record(self, world: World) -> None:
        world.posts(OLD)
        world.posts(NEW)
        world.clock.advance(1)
        world.posts(OLD)
        world.queue.waiting = world.queue.waiting[-1:]
        world.tier_lost()
        world.settles()
        assert world.answered(NEW)


def edited_turns(world: World) -> list[tuple[str, str | None, bool]]:
    """The patient's turns in the conversation: content, id, and whether it was edited."""
    turns = conversation_view(world.tiers, world.archive, world.key)["turns"]
    return [(t["content"], t["message_id"], t["edited_at"] is not None) for t in turns if t["role"] == "user"]


class TestResponses:
    @pytest.mark.parametrize("policy", ["consolidate", "enqueue", "interrupt"])
    def test_says_that_it_is_an_edit(self, world: World, policy: str) -> None:
        assert "edited" not in posted(world, OLD, double_texting=policy)
        first = posted(world, NEW, double_texting=policy)
        assert (first["edited"], "duplicate" in first) == (True, False)
        again = posted(world, NEW, double_texting=policy)
        assert ("edited" in again, again["duplicate"]) == (False, True)
        world.settles().checked()
        assert world.answered(NEW)

    def test_a_bot_that_rejects_refuses_it(self, world: World) -> None:
        posted(world, OLD, double_texting="reject")
        refused = world.posts(NEW, double_texting="reject")
        assert refused is not None
        assert refused["action"] == "rejected"
        world.settles()
        assert world.answered(OLD)

    def test_the_conversation_shows_when_it_was_edited(self, world: World) -> None:
        world.posts(OLD)
        world.posts("m1")
        world.posts(NEW, edited_at="2026-11-30T09:00:00Z")
        world.settles()
        turns = conversation_view(world.tiers, world.archive, world.key)["turns"]
        assert [(t["content"], t["message_id"], t["edited_at"]) for t in turns if t["role"] == "user"] == [
            (world.contents[NEW], "m0", "2026-11-30T09:00:00.000Z"),
            (world.contents["m1"], "m1", None),
        ]

    def test_an_edit_of_an_answered_message_is_a_turn_of_its_own(self, world: World) -> None:
        after_the_end(world)
        assert edited_turns(world) == [(world.contents[OLD], "m0", False), (world.contents[NEW], "m0", True)]

    def test_jobs_show_the_platforms_id_alone(self, world: World) -> None:
        between_seal_and_commit(world)
        first, second = (world.jobs.get_job_status(told(world, version)) for version in (OLD, NEW))
        assert first is not None
        assert second is not None
        assert [m["message_id"] for m in first["messages"]] == ["m0"]
        assert [(m["message_id"], m["job_id"]) for m in second["messages"]] == [("m0", told(world, NEW))]
        assert (first["consolidated_messages"], second["consolidated_messages"]) == (1, 1)

    @pytest.mark.parametrize("message_id", [None, "m0"])
    def test_a_job_shows_an_edited_message_once(self, world: World, message_id: str | None) -> None:
        world.posts(OLD)
        world.posts("m1")
        world.posts(NEW)
        for status in ("pending", "answered"):
            view = world.jobs.wait_for(told(world, OLD), 0, message_id)
            shown = [("m0", status), ("m1", status)]
            assert [(m["message_id"], m["status"]) for m in view["messages"]] == shown[: 1 if message_id else 2]
            world.settles()

    def test_a_job_that_was_promised_an_edit_follows_it(self, world: World) -> None:
        """The edit joins a job that has answered the first version, and leaves it with the next fence."""
        on(world, "after", "archive.commit", dies)
        world.posts(OLD)
        world.delivers()
        world.lock_is_free()
        edit = posted(world, NEW)
        assert edit["ai_job_id"] == told(world, OLD)
        world.settles().checked()
        view = world.jobs.wait_for(edit["ai_job_id"], 0, "m0")
        assert view["messages"][0]["job_id"] == world.end_of(NEW).job_id


def posted(world: World, *versions: str, **options: Any) -> dict[str, Any]:
    response = world.posts(*versions, **options)
    assert response is not None
    return response


class TestWhileAHumanAnswers:
    def test_the_newest_words_wait_and_are_answered(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        hands_off(world)
        world.posts("m1")
        parked = [posted(world, version) for version in ("m1~1", "m1~1", "m1", "m1~2")]
        assert ["edited" in response for response in parked] == [True, False, False, True]
        assert ["duplicate" in response for response in parked] == [False, True, True, False]
        assert [response["consolidated_messages"] for response in parked] == [1] * 4
        hands_back(world)
        world.settles()
        assert world.answered(OLD, "m1~2")

    def test_an_edit_of_what_the_bot_has_answered_waits(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        hands_off(world)
        assert posted(world, NEW).get("edited")
        hands_back(world)
        world.settles()
        assert world.answered(OLD, NEW)

    def test_an_edit_of_a_message_that_a_tier_still_has_replaces_it(self, world: World) -> None:
        world.posts(OLD)
        hands_off(world)
        posted(world, NEW)
        world.settles()
        hands_back(world)
        world.settles()
        assert world.answered(NEW)

    def test_a_humans_turn_answers_all_versions(self, world: World) -> None:
        world.posts("m1")
        world.settles()
        hands_off(world)
        world.posts(OLD)
        world.posts(NEW)
        sends(world, ("user", world.contents[NEW], "m0"), ("sale", "Take two.", "s1"))
        hands_back(world)
        world.settles()
        assert world.answered("m1")


class TestRetried:
    def test_one_reply_answers_the_newest_words(self, world: World) -> None:
        world.posts(OLD, text="[fail]")
        world.posts(NEW, text="[fail] again")
        world.settles()
        job_id = told(world, NEW)
        assert world.job(job_id).status is JobStatus.FAILED
        is_mended(world)
        retries(world, job_id)
        world.settles()
        assert world.answered(NEW)
        assert edited_turns(world) == [(world.contents[NEW], "m0", True)]

    def test_an_edit_alone_is_answered(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        world.posts(NEW, text="[fail]")
        world.settles()
        job_id = told(world, NEW)
        assert world.job(job_id).status is JobStatus.FAILED
        is_mended(world)
        retries(world, job_id)
        world.settles().checked()
        assert world.answered(OLD, NEW)

    def test_an_edit_that_failed_alone_is_answered(self, world: World) -> None:
        world.posts(OLD)
        world.settles()
        world.posts(NEW, text="[fail]")
        world.settles()
        job_id = told(world, NEW)
        assert world.job(job_id).status is JobStatus.FAILED
        is_mended(world)
        assert retries(world, job_id) != job_id
        world.settles()
        assert world.answered(OLD, NEW)


class TestTheFence:
    """Postgres tells an edit from a duplicate if the tier has forgotten the message."""

    OLD, NEW = "2 pills", "20 pills"

    def version(self, words: str, second: int = 0, edited_at: float = 0.0) -> Message:
        return replace(named("m0", words), accepted_at=STARTED + second, edited_at=edited_at)

    def answers_an_edit(self, talk: Conversation) -> Message:
        """Job 1 has answered the first version, job 50 the edit."""
        talk.answer(1, self.version(self.OLD))
        edit = self.version(self.NEW, 1)
        fence = talk.fence(talk.job(2, edit), successor=50)
        assert (fence.number, fence.successor_id, fence.settled) == (None, talk.id(50), {})
        assert fence.edits == {"m0": edit.edit_ids[0]}
        assert talk.end(2) == (JobStatus.CANCELLED, None, None, talk.id(50))
        edit = replace(edit, message_id=fence.edits["m0"])
        talk.answer(50, edit, reply="None.")
        return edit

    def test_an_edit_runs_under_the_next_name(self, talk: Conversation) -> None:
        edit = self.answers_an_edit(talk)
        assert talk.settled("m0", edit.message_id) == [talk.id(1), talk.id(50)]
        assert talk.turns() == [
            ("user", self.OLD),
            ("assistant", "Rest."),
            ("user", self.NEW),
            ("assistant", "None."),
        ]

    @pytest.mark.parametrize(("words", "job"), [(OLD, 1), (f" {OLD}", 1), (NEW, 50)])
    def test_known_words_are_a_duplicate(self, talk: Conversation, words: str, job: int) -> None:
        self.answers_an_edit(talk)
        fence = talk.fence(talk.job(3, self.version(words, 9)))
        assert (fence.number, fence.settled, fence.edits) == (None, {"m0": talk.id(job)}, {})
        assert talk.end(3)[3] == talk.id(job)

    def test_old_words_come_back_if_the_platform_says_when(self, talk: Conversation) -> None:
        self.answers_an_edit(talk)
        back = self.version(self.OLD, 9, edited_at=STARTED)
        assert talk.fence(talk.job(3, back)).edits == {"m0": back.edit_ids[1]}
        assert talk.fence(talk.job(4, self.version(self.NEW, 9, edited_at=STARTED))).edits == {}

    def test_words_that_were_replaced_before_they_came_are_settled(self, talk: Conversation) -> None:
        talk.answer(1, self.version(self.NEW, 1))
        fence = talk.fence(talk.job(2, self.version(self.OLD)))
        assert (fence.number, fence.settled, fence.edits) == (None, {"m0": talk.id(1)}, {})

    def test_words_that_were_replaced_lead_to_the_newest_version(self, talk: Conversation) -> None:
        self.answers_an_edit(talk)
        fence = talk.fence(talk.job(3, self.version("3 pills", 0)))
        assert (fence.number, fence.settled, fence.edits) == (None, {"m0": talk.id(50)}, {})
        assert talk.end(3)[3] == talk.id(50)

    def test_an_earlier_turn_of_a_history_edits_nothing_that_was_answered(self, talk: Conversation) -> None:
        talk.answer(1, self.version(self.OLD))
        earlier = replace(self.version(self.NEW, 1), earlier=True)
        fence = talk.fence(talk.job(2, earlier, "m1"), successor=50)
        assert (fence.settled, fence.edits, fence.successor_id) == ({"m0": talk.id(1)}, {}, talk.id(50))

    def test_both_versions_of_one_job_are_one_turn(self, talk: Conversation) -> None:
        edit = self.version(self.NEW, 1)
        edit = replace(edit, message_id=edit.edit_ids[0])
        talk.answer(1, self.version(self.OLD), "m1", edit)
        assert talk.turns() == [("user", self.NEW), ("user", "text of m1"), ("assistant", "Rest.")]
        found = talk.archive.conversation(talk.key)
        assert found is not None
        assert [turn.edited_at for turn in found.turns] == [STARTED + 1, None, None]
        assert talk.archived(1).consolidated_messages == 2
        for version in (self.version(self.OLD, 9), self.version(self.NEW, 9)):
            assert talk.fence(talk.job(2, version)).settled == {"m0": talk.id(1)}

    def test_an_edit_is_known_even_if_its_message_is_not(self, talk: Conversation) -> None:
        edit = self.version(self.NEW, 1)
        talk.answer(1, replace(edit, message_id=edit.edit_ids[0]))
        fence = talk.fence(talk.job(2, self.version(self.NEW, 9)))
        assert (fence.number, fence.settled) == (None, {"m0": talk.id(1)})

    def test_an_end_that_comes_late_settles_an_edit_as_one(self, talk: Conversation) -> None:
        talk.answer(1, self.version(self.OLD))
        assert talk.archive.archive(talk.completed(talk.job(2, self.version(self.NEW, 1)), "None."))
        assert talk.settled("m0", self.version(self.NEW).edit_ids[0]) == [talk.id(1), talk.id(2)]

    def test_an_end_that_comes_after_that_of_an_edit_is_archived(self, talk: Conversation) -> None:
        """Postgres was away while J1 answered the first words and J2 the edit. J2's end came first."""
        edit = self.version(self.NEW, 1)
        edit = replace(edit, message_id=edit.edit_ids[0])
        assert talk.archive.archive(replace(talk.completed(talk.job(2, edit), "None."), finished_at=STARTED + 9))
        first = self.version(self.OLD)
        assert talk.archive.archive(replace(talk.completed(talk.job(1, first)), finished_at=STARTED + 3))
        assert talk.turns() == [("user", self.OLD), ("assistant", "Rest."), ("user", self.NEW), ("assistant", "None.")]
        assert talk.fence(talk.job(3, self.version(self.OLD, 9))).settled == {"m0": talk.id(1)}
        assert talk.fence(talk.job(4, self.version(self.NEW, 9))).settled == {"m0": talk.id(2)}

    def test_a_cancel_settles_an_edit_as_one(self, talk: Conversation) -> None:
        talk.answer(1, self.version(self.OLD))
        assert talk.archive.cancel(talk.job(2, self.version(self.NEW, 1))).cancelled
        assert talk.settled("m0", self.version(self.NEW).edit_ids[0]) == [talk.id(1), talk.id(2)]
        assert not talk.archive.cancel(talk.job(3, self.version(self.OLD, 9))).cancelled


def test_what_an_earlier_release_settled_is_a_duplicate_whatever_its_words(
    postgres_archive: PostgresArchive, sql: Connection
) -> None:
    talk = Conversation(postgres_archive)
    talk.answer(1, named("m0"))
    sql.run("update settled set words = null, accepted_at = null")
    fence = talk.fence(talk.job(2, replace(named("m0", "other"), accepted_at=STARTED + 1)))
    assert (fence.settled, fence.edits) == ({"m0": talk.id(1)}, {})
