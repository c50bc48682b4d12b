"""A human takes a conversation over and the bot resumes it, whatever goes wrong: over each pair of stores."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from message_handler.archive import parking
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_jobs import key_values
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.double_texting import POLICIES, DoubleTexting
from message_handler.domain.errors import HandedOff, InvalidRequest, NotFound, PayloadTooLarge, Unavailable
from message_handler.domain.handoff import ParkResult
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message, Request
from message_handler.drivers.postgres import Database
from message_handler.http.conversation import conversation_view
from message_handler.intake.requests import parse_request
from message_handler.operations import handoff, sweeping
from message_handler.ports.archive import Archive
from tests.contract.chat import BOT, Chat, Clock, job_id_of, named
from tests.contract.stories import dies, is_away, on, told
from tests.contract.world import AI_SECONDS, Crash, World

KEY = ConversationKey("clinic", "patient-1")
REQUEST = Request(KEY, (), (), BOT)
FOR_A_HUMAN = replace(REQUEST, for_a_human=frozenset({"m0"}))
BEFORE_THE_COMMIT = ["tier.claim", "archive.fence", "tier.adopt", "ai.complete", "tier.heartbeat", "tier.seal"]


def hands_off(world: World) -> dict[str, Any]:
    with world.steps.silently():
        return handoff.hand_off(world.tiers, world.archive, world.sender, world.key)


def hands_back(world: World) -> dict[str, Any]:
    return handoff.resume(world.tiers, world.archive, world.intake.accept, world.key)


def sweeps(world: World) -> None:
    """Do what the schedule does."""
    world.clock.advance(60)
    sweeping.sweep(world.tiers, world.sender)
    handoff.unpark_the_rest(world.tiers, world.archive, world.intake.accept)


def view(world: World) -> dict[str, Any]:
    return conversation_view(world.tiers, world.archive, world.key)


def sends(world: World, *turns: tuple[str, ...]) -> dict[str, Any]:
    """The platform sends turns. Each is (role, content) or (role, content, id)."""
    messages = [dict(zip(("role", "content", "message_id"), turn, strict=False)) for turn in turns]
    return world.intake.handle(world.key, parse_request({"messages": messages}))


def asked(world: World) -> list[list[str]]:
    """The messages of each AI call."""
    return [[message.content for message in prompt.messages] for prompt in world.ai.prompts]


class TestHandingOff:
    @pytest.mark.parametrize("step", BEFORE_THE_COMMIT)
    def test_the_job_is_cancelled_and_its_message_waits(self, world: World, step: str) -> None:
        world.posts("m0")
        on(world, "before", step, lambda: hands_off(world))
        world.delivers(world.queue.next())
        world.settles()
        assert world.replies() == []
        assert world.job(told(world, "m0")).status is JobStatus.CANCELLED
        assert view(world)["status"] == "handed_off"
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        assert not world.queue.waiting

    def test_the_ai_call_is_ended(self, world: World) -> None:
        world.posts("m0")
        on(world, "before", "ai.complete", lambda: hands_off(world))
        began = world.clock()
        world.delivers(world.queue.next())
        assert "tier.seal" not in world.steps.names
        assert world.clock() - began < AI_SECONDS

    def test_a_reply_that_is_sealed_but_not_committed_is_held_back(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "tier.seal", lambda: hands_off(world))
        world.delivers(world.queue.next())
        world.settles()
        assert world.replies() == []
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}

    def test_a_reply_that_is_committed_goes_out(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "archive.commit", lambda: hands_off(world))
        world.delivers(world.queue.next())
        world.settles()
        assert world.answered("m0")
        assert view(world)["status"] == "handed_off"
        assert view(world)["pending"] is None

    def test_a_message_after_a_handoff_is_stored_and_nothing_runs(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        assert hands_off(world) == {
            "conversation_id": world.key.conversation_id,
            "status": "handed_off",
            "ai_job_id": None,
        }
        sent = len(world.queue.sent)
        first, second = world.posts("m1"), world.posts("m2")
        assert first is not None
        assert second is not None
        assert {name: first[name] for name in ("success", "status", "action", "ai_job_id")} == {
            "success": True,
            "status": "handed_off",
            "action": "stored",
            "ai_job_id": None,
        }
        assert (first["consolidated_messages"], second["consolidated_messages"]) == (1, 2)
        assert "duplicate" not in first
        assert len(world.queue.sent) == sent
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 2}
        assert world.answered("m0")

    def test_messages_that_are_still_to_be_moved_are_counted_too(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        stored = world.posts("m1")
        assert stored is not None
        assert stored["consolidated_messages"] == 2
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 2}

    def test_twice_is_once(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        hands_off(world)
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        hands_back(world)
        world.settles()
        assert world.answered("m0")

    def test_an_unknown_conversation_can_not_be_handed_off_or_back(self, world: World) -> None:
        with pytest.raises(NotFound):
            hands_off(world)
        with pytest.raises(NotFound):
            hands_back(world)

    def test_the_worker_parks_a_message_that_came_between_the_two_flags(self, world: World) -> None:
        """Postgres is silent already, and the tier does not know it yet."""
        world.posts("m0")
        world.settles()
        on(world, "after", "archive.hand_off", lambda: world.posts("m1"))
        handoff.hand_off(world.tiers, world.archive, world.sender, world.key)
        assert told(world, "m1") is not None
        world.settles()
        assert world.answered("m0")
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}

    def test_a_process_that_dies_between_the_two_flags_has_silenced_the_bot(self, world: World) -> None:
        world.posts("m0")
        on(world, "after", "archive.hand_off", dies)
        with pytest.raises(Crash):
            handoff.hand_off(world.tiers, world.archive, world.sender, world.key)
        world.settles()
        assert world.ai.prompts == []
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}

    def test_a_tier_that_forgot_is_told_by_the_worker(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        world.tier_lost()
        accepted = world.posts("m1")
        assert accepted is not None
        assert accepted["action"] == "lock_acquired"
        world.settles()
        stored = world.posts("m2")
        assert stored is not None
        assert (stored["action"], stored["consolidated_messages"]) == ("stored", 3)
        assert world.ai.prompts == []

    @pytest.mark.parametrize("step", ["archive.fence", "tier.finish", "tier.hand_off", "archive.parked_under"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_worker_that_dies_while_it_parks_loses_and_doubles_nothing(
        self, world: World, side: Any, step: str
    ) -> None:
        world.posts("m0", "m1")
        hands_off(world)
        on(world, side, step, dies)
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 2}
        hands_back(world)
        world.settles()
        assert world.answered("m0 m1")
        assert len(world.ai.prompts) == 1

    def test_without_postgres_nothing_is_handed_off_or_stored(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        world.kept.away = True
        for act in (hands_off, hands_back):
            with pytest.raises(Unavailable):
                act(world)
        with pytest.raises(Unavailable):
            sends(world, ("user", "text of m1", "m1"))
        world.kept.away = False
        assert view(world)["pending"] is None

    def test_without_postgres_what_was_running_waits_for_it(self, world: World) -> None:
        """Only Postgres knows whether the bot may answer again."""
        world.posts("m0")
        hands_off(world)
        world.kept.away = True
        outcome = world.delivers(world.queue.next())
        assert outcome is not None
        assert outcome.retry_in is not None
        assert world.ai.prompts == []
        world.kept.away = False
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}

    def test_the_flag_stays_for_days(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        for _ in range(13 * 24):
            world.clock.advance(3600)
            world.tier.sweep(older_than=1e9)
        stored = world.posts("m1")
        assert stored is not None
        assert stored["action"] == "stored"


class TestDuplicates:
    def test_a_duplicate_of_a_parked_message_is_told_so(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        world.posts("m1")
        again = world.posts("m1")
        assert again is not None
        assert (again.get("duplicate"), again["consolidated_messages"]) == (True, 1)

    def test_a_duplicate_without_an_id_of_a_parked_message_is_told_so(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        sends(world, ("user", "hello"))
        again = sends(world, ("user", "hello"))
        assert (again.get("duplicate"), again["consolidated_messages"]) == (True, 1)
        hands_back(world)
        world.settles()
        assert asked(world)[1:] == [["hello"]]

    def test_a_duplicate_of_an_answered_message_is_told_so(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        again = world.posts("m0")
        assert again is not None
        assert (again.get("duplicate"), again["consolidated_messages"]) == (True, 0)

    def test_an_older_history_of_answered_messages_is_a_duplicate(self, world: World) -> None:
        """The history has no ids. It begins with what the last reply answered, which is not parked again."""
        sends(world, ("user", "one"), ("user", "two"))
        world.settles()
        hands_off(world)
        stored = sends(world, ("user", "one"), ("user", "two"), ("user", "three"))
        assert stored["consolidated_messages"] == 1
        hands_back(world)
        world.settles()
        assert asked(world) == [["one", "two"], ["three"]]

    def test_a_duplicate_of_a_message_that_is_to_be_moved_is_parked_once(self, world: World) -> None:
        sends(world, ("user", "hello"))
        hands_off(world)
        sends(world, ("user", "hello"))
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        hands_back(world)
        world.settles()
        assert asked(world) == [["hello"]]

    def test_after_a_resume_a_duplicate_starts_nothing(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        hands_back(world)
        world.settles()
        world.posts("m0")
        world.tier_lost()
        world.posts("m0")
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1


class TestHandingBack:
    def test_one_job_answers_all_that_waited_in_order(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        world.posts("m1")
        world.posts("m2")
        back = hands_back(world)
        assert back == {
            "conversation_id": world.key.conversation_id,
            "status": "active",
            "ai_job_id": back["ai_job_id"],
        }
        assert view(world)["status"] == "active"
        assert view(world)["pending"] == {"job_id": back["ai_job_id"], "consolidated_messages": 3}
        world.settles()
        assert world.answered("m0 m1 m2")
        assert world.job(back["ai_job_id"]).status is JobStatus.COMPLETED
        assert world.chain(told(world, "m0"))[-1].job_id == back["ai_job_id"]
        assert world.archive.to_unpark() == []

    def test_with_nothing_waiting_nothing_starts(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        assert hands_back(world)["ai_job_id"] is None
        assert hands_back(world)["ai_job_id"] is None
        assert not world.queue.waiting
        world.posts("m1")
        world.settles()
        assert world.answered("m0", "m1")

    def test_the_ai_knows_resources_and_context(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        body = {
            "messages": [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "there?"}],
            "resources": {"n": [1]},
        }
        world.intake.handle(world.key, parse_request(body))
        hands_back(world)
        world.settles()
        assert world.ai.prompts[-1].resources == {"n": [1]}
        assert "Hi." in [turn.content for turn in world.ai.prompts[-1].context]

    STEPS = ("archive.resume", "tier.hand_off", "archive.parked", "tier.accept", "queue.send", "archive.unparked")

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_process_that_dies_strands_nothing(self, world: World, side: Any, step: str) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        world.posts("m1")
        on(world, side, step, dies)
        with pytest.raises(Crash):
            hands_back(world)
        if (side, step) == ("before", "archive.resume"):
            hands_back(world)
        sweeps(world)
        world.settles()
        assert world.answered("m0 m1")
        assert len(world.ai.prompts) == 1
        assert world.chain(told(world, "m0"))[-1].status is JobStatus.COMPLETED
        assert world.archive.to_unpark() == []

    def test_a_queue_that_is_away_strands_nothing(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        on(world, "before", "queue.send", is_away)
        with pytest.raises(Unavailable):
            hands_back(world)
        sweeps(world)
        world.settles()
        assert world.answered("m0")

    def test_a_tier_that_forgets_strands_nothing(self, world: World) -> None:
        world.posts("m0", "m1")
        hands_off(world)
        world.settles()
        on(world, "after", "queue.send", lambda: world.tier_lost())
        hands_back(world)
        world.settles()
        assert world.answered("m0 m1")

    def test_a_message_stays_parked_if_it_is_handed_off_again_meanwhile(self, world: World) -> None:
        """A record may be deleted while its message is parked. So the record must not unpark the message."""
        world.posts("m0")
        hands_off(world)
        world.settles()

        def again() -> None:
            hands_off(world)
            with world.steps.silently():
                world.delivers_all_due()

        on(world, "before", "archive.unparked", again)
        hands_back(world)
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        hands_back(world)
        world.settles()
        assert world.answered("m0")

    def test_a_message_stays_parked_until_a_second_resume_sends_it(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()

        def again() -> None:
            hands_off(world)
            with world.steps.silently():
                world.delivers_all_due()
                world.archive.resume(world.key)

        on(world, "before", "archive.unparked", again)
        hands_back(world)
        sweeps(world)
        world.settles()
        assert world.answered("m0")

    def test_a_human_who_takes_it_again_before_it_is_accepted_keeps_it(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        on(world, "before", "tier.accept", lambda: hands_off(world))
        assert hands_back(world)["ai_job_id"] is None
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        assert world.ai.prompts == []

    def test_a_resume_while_the_worker_still_holds_the_old_job(self, world: World) -> None:
        """The worker has moved the messages. Its finish comes after the conversation was resumed already."""
        world.posts("m0", "m1")
        hands_off(world)
        on(world, "before", "tier.finish", lambda: hands_back(world))
        world.delivers(world.queue.next())
        world.settles()
        assert world.answered("m0 m1")
        assert world.chain(told(world, "m1"))[-1].status is JobStatus.COMPLETED

    def test_a_resume_before_a_worker_came_lets_the_job_go_on(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        hands_back(world)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_tier_that_still_believes_in_the_handoff_rejects_no_message(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        with world.steps.silently():
            world.archive.resume(world.key)
        accepted = world.posts("m1")
        assert accepted is not None
        assert accepted["action"] == "lock_acquired"
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_a_message_that_no_record_carries_stays_parked(self, world: World) -> None:
        """The resume was broken off, and a duplicate of m1 is being answered. m2 must not ride on its record."""
        world.posts("m0")
        world.settles()
        hands_off(world)
        for message_id in ("m1", "m2"):
            world.posts(message_id)
        on(world, "before", "tier.accept", dies)
        with pytest.raises(Crash):
            hands_back(world)
        world.posts("m2")

        def sweep() -> None:
            with world.steps.silently():
                handoff.unpark_the_rest(world.tiers, world.archive, world.intake.accept)

        on(world, "after", "tier.seal", sweep)
        world.delivers(world.queue.next())
        assert world.answered("m0", "m2")
        sweeps(world)
        world.settles()
        assert world.answered("m0", "m2", "m1")

    def test_too_many_messages_for_one_record_come_in_turn(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handoff, "MAX_UNPARKED_MESSAGES", 2)
        world.posts("m0")
        world.settles()
        hands_off(world)
        for number in range(1, 4):
            world.posts(f"m{number}")
        hands_back(world)
        world.settles()
        sweeps(world)
        world.settles()
        assert world.answered("m0", "m1 m2", "m3")

    def test_a_message_that_fits_into_no_record_stays_parked_and_is_logged_without_words(
        self, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("message_handler"), "propagate", True)
        world.posts("m0")
        world.settles()
        hands_off(world)
        world.posts("m1")
        world.archive.resume(world.key)

        def too_large(*_: Any) -> Any:
            raise PayloadTooLarge("too much")

        assert handoff.unpark_the_rest(world.tiers, world.archive, too_large) == 0
        assert [record.getMessage() for record in caplog.records] == [
            "parked messages are too large to be accepted now"
        ]
        assert world.contents["m1"] not in str([vars(record) for record in caplog.records])
        sweeps(world)
        world.settles()
        assert world.answered("m0", "m1")


class TestAHumanSpeaks:
    def test_a_human_turn_after_the_bots_silences_the_bot(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        stored = sends(world, ("user", "text of m0", "m0"), ("assistant", "…"), ("sale", "I am here."), ("user", "oh"))
        assert (stored["action"], stored["consolidated_messages"]) == ("stored", 1)
        turns = [(turn["role"], turn["content"]) for turn in view(world)["turns"]]
        assert turns[-1] == ("sale", "I am here.")
        assert view(world)["status"] == "handed_off"
        hands_back(world)
        world.settles()
        assert asked(world)[1:] == [["oh"]]
        assert Turn("sale", "I am here.") in world.ai.prompts[-1].context

    def test_a_tier_that_has_forgotten_it_takes_nothing_in(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        history = (("user", "text of m0", "m0"), ("assistant", "…"), ("sale", "I am here."))
        sends(world, *history)
        world.tier_lost()
        assert sends(world, *history, ("user", "oh"))["status"] == "handed_off"

    def test_a_human_turn_before_the_bots_does_not_silence_the_bot(self, world: World) -> None:
        accepted = sends(world, ("user", "a"), ("sale", "b"), ("assistant", "c"), ("user", "d"))
        assert accepted["action"] == "lock_acquired"
        assert "archive.note_sale" not in world.steps.names

    def test_a_request_that_ends_with_it_is_its_notification(self, world: World) -> None:
        world.posts("m0")
        stored = sends(world, ("sale", "I am here."))
        assert (stored["action"], stored["status"]) == ("stored", "handed_off")
        world.settles()
        assert world.ai.prompts == []

    def test_what_the_human_answered_is_not_answered_by_the_bot(self, world: World) -> None:
        """So it is although the tier knows the message under an id that the history lacks."""
        world.posts("m0")
        sends(world, ("user", "text of m0"), ("sale", "I am here."), ("user", "thanks"))
        world.settles()
        assert view(world)["pending"] == {"job_id": None, "consolidated_messages": 1}
        hands_back(world)
        world.settles()
        assert asked(world) == [["thanks"]]
        said = [turn["content"] for turn in view(world)["turns"]]
        assert said[:3] == ["text of m0", "I am here.", "thanks"]
        end = world.end_of("m0")
        assert end.status is JobStatus.CANCELLED
        assert world.chain(told(world, "m0"))[-1].job_id == end.job_id

    def test_a_parked_message_that_the_human_answered_is_not_answered_by_the_bot(self, world: World) -> None:
        world.posts("m0")
        hands_off(world)
        world.settles()
        world.posts("m1")
        stored = sends(world, ("user", "text of m0"), ("user", "text of m1"), ("sale", "Both."), ("user", "ok", "m2"))
        assert stored["consolidated_messages"] == 1
        hands_back(world)
        world.settles()
        assert asked(world) == [["ok"]]
        assert world.end_of("m0").job_id == world.end_of("m1").job_id
        assert world.chain(told(world, "m0"))[-1].job_id == world.end_of("m0").job_id

    def test_a_late_duplicate_of_what_the_human_answered_is_not_answered(self, world: World) -> None:
        sends(world, ("user", "text of m0", "m0"), ("sale", "I am here."))
        assert world.posts("m0")["duplicate"] is True  # type: ignore[index]
        hands_back(world)
        world.posts("m0")
        world.settles()
        assert world.ai.prompts == []

    def test_the_same_words_again_are_new(self, world: World) -> None:
        """The human answered one `yes`. Another `yes` waits."""
        sends(world, ("user", "yes"), ("sale", "Fine."))
        stored = sends(world, ("user", "yes"))
        assert stored["consolidated_messages"] == 1
        assert "duplicate" not in stored

    def test_a_second_human_turn_answers_the_messages_since_the_first(self, world: World) -> None:
        history = [("user", "one"), ("sale", "First."), ("user", "two")]
        sends(world, *history)
        stored = sends(world, *history, ("sale", "Second."), ("user", "three"))
        assert stored["consolidated_messages"] == 1
        said = [turn["content"] for turn in view(world)["turns"]]
        assert said == ["one", "First.", "two", "Second."]
        hands_back(world)
        world.settles()
        assert asked(world) == [["three"]]

    @pytest.mark.parametrize("ids", [("s1",), ()], ids=["with an id", "without"])
    def test_the_same_history_after_a_resume_does_not_silence_the_bot_again(
        self, world: World, ids: tuple[str, ...]
    ) -> None:
        history = [("user", "one"), ("sale", "First.", *ids), ("user", "two")]
        sends(world, *history)
        hands_back(world)
        again = sends(world, *history)
        assert again["status"] == "locked"
        world.settles()
        assert asked(world) == [["two"]]
        assert view(world)["status"] == "active"

    def test_a_human_turns_notification_sent_again_after_a_resume_is_refused(self, world: World) -> None:
        sends(world, ("sale", "First.", "s1"))
        assert sends(world, ("sale", "First.", "s1"))["action"] == "stored"
        hands_back(world)
        with pytest.raises(InvalidRequest):
            sends(world, ("sale", "First.", "s1"))

    def test_a_human_turn_that_comes_twice_at_once_is_noted_once(self, world: World) -> None:
        on(world, "before", "archive.note_sale", lambda: sends(world, ("user", "one"), ("sale", "First.")))
        sends(world, ("user", "one"), ("sale", "First."))
        assert [turn["content"] for turn in view(world)["turns"]] == ["one", "First."]

    @pytest.mark.parametrize("step", ["archive.note_sale", "tier.hand_off", "tier.force_release", "archive.park"])
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_a_process_that_dies_before_its_202_is_asked_again(self, world: World, side: Any, step: str) -> None:
        request = [("user", "text of m0", "m0"), ("sale", "I am here.", "s1"), ("user", "text of m1", "m1")]
        world.posts("m0")
        on(world, side, step, dies)
        with pytest.raises(Crash):
            sends(world, *request)
        assert sends(world, *request)["action"] == "stored"
        world.settles()
        hands_back(world)
        world.settles()
        assert asked(world) == [["text of m1"]]

    def test_without_postgres_it_is_refused_and_nothing_is_stored(self, world: World) -> None:
        world.kept.away = True
        with pytest.raises(Unavailable):
            sends(world, ("user", "one"), ("sale", "First."), ("user", "two"))
        world.kept.away = False
        assert not world.queue.sent
        with pytest.raises(NotFound):
            view(world)


class TestTheTier:
    def test_a_handed_off_line_accepts_nothing_and_does_not_change(self, chat: Chat) -> None:
        chat.says(named("m0"))
        chat.tier.hand_off(chat.key, human=True)
        before = chat.head
        with pytest.raises(HandedOff) as silent:
            chat.says(named("m1"))
        assert silent.value.waiting == ("m0",)
        assert chat.head == before

    @pytest.mark.parametrize("policy", POLICIES)
    def test_whatever_the_bots_policy_is(self, chat: Chat, policy: DoubleTexting) -> None:
        chat.says(named("m0"))
        running = chat.claimed()
        chat.tier.hand_off(chat.key, human=True)
        with pytest.raises(HandedOff):
            chat.accept(replace(chat.request(named("m1")), double_texting=policy))
        assert chat.head == running

    def test_a_rejected_request_teaches_the_tier_no_bot(self, chat: Chat) -> None:
        chat.tier.hand_off(chat.key, human=True)
        with pytest.raises(HandedOff):
            chat.says(named("m0"), bot="another")
        chat.tier.hand_off(chat.key, human=False)
        assert chat.says(named("m0")).lock_id

    def test_a_worker_still_takes_its_record_in(self, chat: Chat) -> None:
        chat.tier.hand_off(chat.key, human=True)
        chat.record_arrives(chat.job_id(1), named("m0"))
        assert chat.words(chat.head) == ["text of m0"]

    def test_what_is_claimed_meanwhile_waits_for_postgres(self, chat: Chat) -> None:
        chat.says(named("m0"))
        chat.tier.hand_off(chat.key, human=True)
        assert chat.claimed().maybe_committed

    def test_it_stays_silent_whatever_ends(self, chat: Chat) -> None:
        first = chat.says(named("m0"))
        chat.tier.hand_off(chat.key, human=True)
        chat.answered()
        chat.undo(first)
        with pytest.raises(HandedOff):
            chat.says(named("m1"))

    def test_it_stays_silent_without_a_job_for_longer_than_an_hour(self, chat: Chat, clock: Clock) -> None:
        chat.tier.hand_off(chat.key, human=True)
        for _ in range(30):
            clock.advance(3500)
            chat.tier.sweep(older_than=1e9)
        with pytest.raises(HandedOff):
            chat.says(named("m1"))

    def test_a_resumed_line_accepts_again_and_forgets_after_an_hour(self, chat: Chat, clock: Clock) -> None:
        chat.says(named("m0"))
        chat.answered()
        chat.tier.hand_off(chat.key, human=True)
        chat.tier.hand_off(chat.key, human=False)
        assert chat.says(named("m0")).duplicate
        clock.advance(3601)
        assert not chat.says(named("m0"), bot="other").duplicate

    def test_a_job_that_ended_because_its_messages_are_parked_is_not_remembered(self, chat: Chat) -> None:
        chat.says(named("m0"), named("m1"))
        job = chat.claimed()
        assert chat.finish("worker", replace(chat.end(job, JobStatus.CANCELLED), parked=True)).done
        assert chat.tier.ended_by(chat.key, "m0") is None
        again = chat.says(named("m0"), named("m1"))
        assert (again.duplicate, again.consolidated_messages) == (False, 2)

    def test_parked_messages_do_not_pass_for_the_bots_last_answer(self, chat: Chat) -> None:
        chat.says("hello")
        chat.answered()
        chat.tier.hand_off(chat.key, human=True)
        chat.tier.hand_off(chat.key, human=False)
        assert chat.says("hello", "there").consolidated_messages == 2


def job(number: int, *messages: Message) -> Job:
    job_id = job_id_of(KEY, number)
    return Job(job_id, KEY, JobStatus.PROCESSING, messages, BOT, created_at=1_790_000_000, started_at=1_790_000_000)


class TestTheArchive:
    def fence(self, archive: Archive, job: Job) -> Any:
        return archive.fence(job, successor_id=job.key.new_job_id(), turns=10)

    def held_ids(self, archive: Archive) -> list[str]:
        conversation = archive.conversation(KEY)
        assert conversation is not None
        return sorted(conversation.parked)

    def test_a_handed_off_conversation_permits_no_run_and_parks_open_messages(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        fence = self.fence(archive, job(1, named("m0"), named("m1")))
        assert (fence.number, fence.successor_id, fence.parked) == (None, None, True)
        assert fence.ended.status is JobStatus.CANCELLED
        assert self.held_ids(archive) == ["m0", "m1"]
        assert archive.settled_by(KEY, "m0") is None
        assert self.fence(archive, job(1, named("m0"), named("m1"))).parked
        assert self.held_ids(archive) == ["m0", "m1"]

    def test_a_settled_message_is_not_parked(self, archive: Archive) -> None:
        first = job(1, named("m0"))
        number = self.fence(archive, first).number
        assert archive.commit(replace(first, status=JobStatus.COMPLETED, reply="Rest.", finished_at=1.0), number)
        archive.hand_off(KEY, BOT)
        fence = self.fence(archive, job(1, named("m0"), named("m1")))
        assert fence.ended.status is JobStatus.COMPLETED
        assert self.held_ids(archive) == ["m1"]
        fence = self.fence(archive, job(2, named("m0")))
        assert not fence.parked
        assert fence.ended.superseded_by == first.job_id

    def test_the_run_that_goes_on_is_shut_out(self, archive: Archive) -> None:
        running = job(1, named("m0"))
        number = self.fence(archive, running).number
        archive.hand_off(KEY, BOT)
        archive.resume(KEY)
        assert not archive.commit(replace(running, status=JobStatus.COMPLETED, reply="…", finished_at=1.0), number)

    def test_an_empty_job_ends(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        fence = self.fence(archive, job(1))
        assert (fence.number, fence.parked, fence.ended.status) == (None, False, JobStatus.CANCELLED)

    def test_a_message_counts_as_parked_under_all_its_ids_while_a_human_answers(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        archive.park(REQUEST, [Message("m0", "text", True, ("alias",))])
        assert archive.parked_under(KEY, ["m0"])
        assert archive.parked_under(KEY, ["alias"])
        assert not archive.parked_under(KEY, ["m1"])
        archive.resume(KEY)
        assert not archive.parked_under(KEY, ["m0"])

    def test_nothing_is_parked_where_the_bot_answers(self, archive: Archive) -> None:
        assert archive.park(REQUEST, [named("m0")]) is None
        archive.hand_off(KEY, BOT)
        archive.resume(KEY)
        assert archive.park(REQUEST, [named("m0")]) is None
        assert archive.to_unpark() == []

    @pytest.mark.parametrize("known", [False, True])
    def test_a_message_for_a_human_is_parked_and_silences_the_bot_in_one_step(
        self, archive: Archive, known: bool
    ) -> None:
        """A run that began before commits nothing. The message needs no tier."""
        fence = self.fence(archive, running := job(1)) if known else None
        parked = archive.park(FOR_A_HUMAN, [named("m0")])
        assert parked == ParkResult((named("m0"),), duplicate=False)
        assert archive.conversation(KEY).handed_off  # type: ignore[union-attr]
        if fence:
            assert fence.number is not None
            ended = replace(running, status=JobStatus.COMPLETED, reply="…", finished_at=1.0)
            assert archive.commit(ended, fence.number) is None
        again = archive.park(FOR_A_HUMAN, [named("m0")])
        assert again == ParkResult((named("m0"),), duplicate=True)

    def test_a_message_for_a_human_that_was_parked_or_settled_before_silences_nothing(self, archive: Archive) -> None:
        archive.park(FOR_A_HUMAN, [named("m0")])
        archive.resume(KEY)
        assert archive.park(FOR_A_HUMAN, [named("m0")]) is None, "it comes again before the bot has answered it"
        archive.unparked(KEY, archive.parked(KEY), job_id_of(KEY, 1))  # type: ignore[arg-type]
        archive.archive(
            replace(job(1), messages=(named("m0"),), status=JobStatus.COMPLETED, reply="…", finished_at=1.0)
        )
        assert archive.park(FOR_A_HUMAN, [named("m0"), named("m1")]) is None, "the new one is for the bot"
        assert not archive.conversation(KEY).handed_off  # type: ignore[union-attr]

    def test_a_message_for_a_human_that_was_erased_leaves_no_conversation_behind(self, archive: Archive) -> None:
        archive.erase(KEY)
        assert archive.park(FOR_A_HUMAN, [replace(named("m0"), accepted_at=1.0)]) is None
        assert archive.conversation(KEY) is None

    def test_texts_come_back_as_they_were(self, archive: Archive) -> None:
        texts = ['{"a": [1]}', "it's \\ 💊 <b> 100%", '{},"NULL"', "  "]
        messages = [Message(f"m{n}", text, n % 2 == 0, (f"a{n},{{}}",)) for n, text in enumerate(texts)]
        context, resources = (Turn("sale", texts[0], "s"), Turn("user", texts[1])), {"n": [1, None, texts[2]]}
        archive.hand_off(KEY, BOT)
        archive.park(replace(REQUEST, context=context, resources=resources), messages)
        assert archive.parked(KEY) is None
        archive.resume(KEY)
        back = archive.parked(KEY)
        assert back is not None
        assert [kept.message for kept in back.parked] == messages
        assert (back.bot_id, back.parked[-1].context, back.parked[-1].resources) == (BOT, context, resources)

    def test_another_tenants_conversation_is_another(self, archive: Archive) -> None:
        other = ConversationKey("other", KEY.conversation_id)
        archive.hand_off(KEY, BOT)
        archive.park(REQUEST, [named("m0")])
        assert archive.park(replace(REQUEST, key=other), [named("m0")]) is None
        assert not archive.parked_under(other, ["m0"])
        assert not archive.resume(other)
        assert self.fence(archive, replace(job(1, named("m0")), key=other)).number is not None

    def test_tenants_with_the_same_ids_hand_off_and_park_apart(self, archive: Archive) -> None:
        other, third = (ConversationKey(name, KEY.conversation_id) for name in ("other", "third"))
        assert self.fence(archive, replace(job(9, named("m9")), key=third)).number is not None
        said = (Turn("user", "one"), Turn("sale", "I am here."))
        for key in (other, KEY):
            # The other conversation's bot did not know what this human and this patient said.
            assert archive.note_sale(key, BOT, said) == "new"
            holding = archive.park(replace(REQUEST, key=key), [named("m0", f"to {key.platform_id}")])
            assert holding is not None
            assert (holding.message_ids, holding.duplicate) == (("m0",), False)
        before = archive.conversation(other)
        archive.hand_off(KEY, BOT)
        assert archive.resume(KEY)
        back = archive.parked(KEY)
        assert back is not None
        assert [kept.message.content for kept in back.parked] == [f"to {KEY.platform_id}"]
        archive.unparked(KEY, back, job_id_of(KEY, 1))
        ours, theirs, uninvolved = (archive.conversation(key) for key in (KEY, other, third))
        assert ours is not None
        assert uninvolved is not None
        assert (ours.handed_off, ours.parked) == (False, ())
        assert theirs == before
        assert archive.parked_under(other, ["m0"])
        assert not uninvolved.handed_off

    def test_one_of_two_requests_at_once_notes_the_human_turn(self, archive: Archive) -> None:
        said = (Turn("user", "one"), Turn("sale", "First."))
        together = threading.Barrier(4)

        def note(_: int) -> str:
            together.wait()
            return archive.note_sale(KEY, BOT, said)

        with ThreadPoolExecutor(4) as pool:
            noted = sorted(pool.map(note, range(4)))
        assert noted == ["known", "known", "known", "new"]
        conversation = archive.conversation(KEY)
        assert conversation is not None
        assert [(turn.role, turn.content) for turn, *_ in conversation.turns] == [("user", "one"), ("sale", "First.")]

    def test_messages_that_come_at_once_are_each_parked_once(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        together = threading.Barrier(6)

        def hold(number: int) -> bool:
            together.wait()
            text = f"text {number % 2} of round {number // 6}"
            holding = archive.park(REQUEST, [Message(f"minted-{number}", text)])
            assert holding is not None
            return holding.duplicate

        with ThreadPoolExecutor(6) as pool:
            duplicates = list(pool.map(hold, range(60)))
        assert sum(duplicates) == 40
        assert len(self.held_ids(archive)) == 20


class TestSeveralExchanges:
    def test_they_are_archived_in_order_and_the_patients_messages_have_one_job(self, archive: Archive) -> None:
        said = [
            Turn("user", "one", "m1"),
            Turn("user", "two"),
            Turn("sale", "First.", "s1"),
            Turn("sale", "Second."),
            Turn("user", "three"),
            Turn("sale", "Third."),
        ]
        assert archive.note_sale(KEY, BOT, said) == "new"
        found = archive.conversation(KEY)
        assert found is not None
        assert [turn.turn for turn in found.turns] == said
        (job_id,) = {turn.job_id for turn in found.turns if turn.turn.role == "user"}
        assert {turn.job_id for turn in found.turns if turn.turn.role == "sale"} == {None}
        job = archive.job(KEY.platform_id, str(job_id))
        assert job is not None
        assert job.status is JobStatus.CANCELLED
        assert job.consolidated_messages == 3
        assert archive.settled_by(KEY, "m1") == job_id

    def test_what_a_human_alone_said_needs_no_job(self, archive: Archive) -> None:
        said = [Turn("sale", "First."), Turn("sale", "Second.")]
        assert archive.note_sale(KEY, BOT, said) == "new"
        found = archive.conversation(KEY)
        assert found is not None
        assert [(turn.turn, turn.job_id) for turn in found.turns] == [(turn, None) for turn in said]
        assert archive.jobs(KEY.platform_id, status=None, conversation_id=None, behind=None, most=10) == []

    def test_an_id_that_comes_again_in_a_later_exchange_is_the_same_message(self, archive: Archive) -> None:
        said = [Turn("user", "one", "m1"), Turn("sale", "First."), Turn("user", "other", "m1"), Turn("sale", "Second.")]
        assert archive.note_sale(KEY, BOT, said) == "new"
        found = archive.conversation(KEY)
        assert found is not None
        assert [turn.turn.content for turn in found.turns] == ["one", "First.", "Second."]

    def test_each_parked_message_is_answered_in_its_own_exchange(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        archive.park(REQUEST, [named("m1"), named("m2"), named("m3")])
        said = [
            Turn("user", "text of m2"),
            Turn("sale", "First."),
            Turn("user", "text of m1", "m1"),
            Turn("sale", "Second."),
        ]
        assert archive.note_sale(KEY, BOT, said) == "new"
        found = archive.conversation(KEY)
        assert found is not None
        assert [(turn.turn.content, turn.turn.message_id) for turn in found.turns] == [
            ("text of m2", "m2"),
            ("First.", None),
            ("text of m1", "m1"),
            ("Second.", None),
        ]
        assert archive.parked_under(KEY, ["m1", "m2", "m3"]) == (named("m3"),)


class TestManyHumanTurns:
    def test_the_newest_are_compared_and_those_with_the_same_id(self, archive: Archive) -> None:
        said = [Turn("sale", f"text {number}", f"s-{number}" if number < 3 else None) for number in range(150)]
        assert archive.note_sale(KEY, BOT, said) == "new"
        assert archive.note_sale(KEY, BOT, said) == "known"
        assert archive.note_sale(KEY, BOT, [Turn("sale", "text 60")]) == "known"
        assert archive.note_sale(KEY, BOT, [Turn("sale", "another text", "s-1")]) == "known"
        assert archive.note_sale(KEY, BOT, [Turn("sale", "text 149", "s-149")]) == "known"

    @pytest.mark.parametrize("turn_ids", [["s-1"], [None]], ids=["with an id", "without one"])
    def test_no_more_are_read(
        self, postgres_archive: PostgresArchive, postgres_database: Database, turn_ids: list[str | None]
    ) -> None:
        said = [Turn("sale", f"text {number}", f"s-{number}" if number < 3 else None) for number in range(150)]
        postgres_archive.note_sale(KEY, BOT, said)
        values = key_values(KEY) | {"turn_ids": turn_ids}
        read = postgres_database.execute(values, "noted_sales")
        assert len(read) == 101
        assert (("s-1", "text 1") in map(tuple, read)) is ("s-1" in turn_ids)

    def test_each_text_is_brought_into_its_form_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        formed: list[str] = []

        def counted(text: str) -> str:
            formed.append(text)
            return text

        monkeypatch.setattr(parking, "words_of", counted)
        noted = parking.noted_among([(None, f"old {number}") for number in range(10)])
        assert len(parking.exchanges([Turn("sale", f"new {number}") for number in range(10)], noted)) == 10
        assert len(formed) == len(set(formed)) == 20
