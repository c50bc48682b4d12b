"""Messages without words reach the archive once, whatever happens on the way: over each archive and pair of stores."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from message_handler.domain.messages import Message, Request
from message_handler.domain.records import WordlessRecord
from message_handler.operations import erasure
from message_handler.ports.archive import ERASURE_MARGIN, Archive
from tests.contract.chat import BOT, named
from tests.contract.conversation import KEY, Conversation
from tests.contract.stories import on
from tests.contract.test_handoff import asked, hands_back, hands_off, sends
from tests.contract.world import World


def photo(message_id: str | None = "photo-1", accepted_at: float | None = None, content: str = "") -> Message:
    at = time.time() if accepted_at is None else accepted_at
    return Message(message_id or "minted", content, given=message_id is not None, accepted_at=at)


def turns(archive: Archive) -> list[tuple[str, str, str | None, str | None]]:
    found = archive.conversation(KEY)
    return [(turn.role, turn.content, turn.message_id, job_id) for turn, _, job_id, *_ in found.turns] if found else []


class TestKeeping:
    def test_it_becomes_a_turn_with_its_time_and_no_job(self, archive: Archive) -> None:
        archive.keep_wordless(KEY, BOT, [photo(accepted_at=1_790_000_000.25, content="\u200b")])
        found = archive.conversation(KEY)
        assert found is not None
        assert found.bot_id == BOT
        ((turn, said_at, job_id, *_),) = found.turns
        assert (turn.role, turn.content, turn.message_id) == ("user", "\u200b", "photo-1")
        assert (said_at, job_id) == (1_790_000_000.25, None)
        assert archive.settled_by(KEY, "photo-1") is None

    @pytest.mark.parametrize("message_id", ["photo-1", None])
    def test_the_same_again_is_known(self, archive: Archive, message_id: str | None) -> None:
        for _ in range(3):
            archive.keep_wordless(KEY, BOT, [photo(message_id), photo(message_id, content=" ")][:1])
        assert turns(archive) == [("user", "", message_id, None)]

    def test_others_are_kept_in_their_order_behind_what_was_said(self, archive: Archive) -> None:
        chat = Conversation(archive)
        chat.answer(1, "m0")
        archive.keep_wordless(KEY, BOT, [photo("photo-1"), photo("photo-2")])
        chat.answer(2, "m1")
        assert [(role, id_) for role, _, id_, _ in turns(archive)] == [
            ("user", "m0"),
            ("assistant", None),
            ("user", "photo-1"),
            ("user", "photo-2"),
            ("user", "m1"),
            ("assistant", None),
        ]

    def test_an_id_that_was_answered_is_known(self, archive: Archive) -> None:
        chat = Conversation(archive)
        chat.answer(1, replace(named("m0"), aliases=("m0-again",)))
        before = turns(archive)
        archive.keep_wordless(KEY, BOT, [photo("m0"), photo("m0-again")])
        assert turns(archive) == before

    def test_an_id_that_is_parked_is_known(self, archive: Archive) -> None:
        archive.hand_off(KEY, BOT)
        archive.park(Request(KEY, (), (), BOT), [replace(named("m0"), accepted_at=time.time())])
        archive.keep_wordless(KEY, BOT, [photo("m0")])
        assert turns(archive) == []

    def test_no_run_is_fenced_out(self, archive: Archive) -> None:
        chat = Conversation(archive)
        job = chat.job(1, "m0")
        fence = chat.number(job)
        archive.keep_wordless(KEY, BOT, [photo()])
        assert archive.commit(chat.completed(job), fence)

    def test_words_that_come_later_under_its_id_are_answered(self, archive: Archive) -> None:
        archive.keep_wordless(KEY, BOT, [photo("m0")])
        Conversation(archive).answer(1, "m0")
        assert [content for role, content, _, _ in turns(archive) if role == "user"] == ["", "text of m0"]

    def test_what_was_erased_stays_erased(self, archive: Archive) -> None:
        archive.keep_wordless(KEY, BOT, [photo()])
        archive.erase(KEY)
        archive.keep_wordless(KEY, BOT, [photo()])
        assert archive.conversation(KEY) is None
        archive.keep_wordless(KEY, BOT, [photo(accepted_at=time.time() + 2 * ERASURE_MARGIN)])
        assert turns(archive) == [("user", "", "photo-1", None)]


class TestTheWay:
    def posts_a_photo(self, world: World) -> dict[str, Any]:
        return sends(world, ("user", "", "photo-1"))

    def kept(self, world: World) -> list[str | None]:
        found = world.archive.conversation(world.key)
        return [turn.message_id for turn, *_ in found.turns if not turn.content] if found else []

    def test_it_is_kept_and_nothing_is_asked(self, world: World) -> None:
        assert self.posts_a_photo(world)["status"] == "nothing_to_answer"
        world.settles()
        assert self.kept(world) == ["photo-1"]
        assert world.ai.prompts == []

    @pytest.mark.parametrize(
        "step", ["tier.claim", "archive.fence", "ai.complete", "tier.seal", "archive.commit", "tier.finish"]
    )
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_whenever_it_comes_the_run_goes_on(self, world: World, side: Any, step: str) -> None:
        def happens() -> None:
            self.posts_a_photo(world)
            world.delivers_all_due()

        world.posts("m0")
        on(world, side, step, happens)
        world.settles()
        assert world.answered("m0")
        assert len(world.ai.prompts) == 1
        assert self.kept(world) == ["photo-1"]

    def test_while_postgres_is_away_it_waits_without_losing_a_delivery(self, world: World) -> None:
        self.posts_a_photo(world)
        world.outlasts_an_outage()
        world.settles()
        assert self.kept(world) == ["photo-1"]
        assert world.queue.waiting == []

    def test_delivered_twice_it_is_kept_once(self, world: World) -> None:
        self.posts_a_photo(world)
        (delivery,) = world.queue.waiting
        assert isinstance(delivery.record, WordlessRecord)
        world.queue.send(delivery.record)
        world.settles()
        assert self.kept(world) == ["photo-1"]

    def test_a_record_that_comes_after_an_erasure_brings_nothing_back(self, world: World) -> None:
        world.clock.now = time.time() - 60
        world.posts("m0")
        world.settles()
        self.posts_a_photo(world)
        erasure.erase(world.tiers, world.archive, world.key)
        world.settles()
        assert world.archive.conversation(world.key) is None

    def test_a_handoff_and_a_resume_leave_it_alone(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        self.posts_a_photo(world)
        world.posts("m1")
        world.settles()
        hands_back(world)
        world.settles()
        assert world.answered("m0", "m1")
        assert self.kept(world) == ["photo-1"]

    def test_the_ai_is_not_told_of_it(self, world: World) -> None:
        self.posts_a_photo(world)
        world.settles()
        world.posts("m0")
        world.settles()
        (prompt,) = world.ai.prompts
        assert prompt.context == ()


class TestWordsBeforeIt:
    """A request ends with a photo, and has words before it that have no id of their own."""

    def posts(self, world: World) -> dict[str, Any]:
        return sends(world, ("user", "Look"), ("user", "Here"), ("user", "", "photo-1"))

    def said(self, world: World) -> list[tuple[str, str | None]]:
        found = world.archive.conversation(world.key)
        assert found is not None
        return [(turn.content, turn.message_id) for turn, *_ in found.turns if turn.role == "user"]

    KEPT = (("Look", None), ("Here", None), ("", "photo-1"))

    @pytest.mark.parametrize("away", [False, True], ids=["Postgres there", "Postgres away"])
    @pytest.mark.parametrize("forgets", [False, True], ids=["remembered", "forgotten"])
    def test_are_answered_once_when_the_request_comes_again(self, world: World, forgets: bool, away: bool) -> None:
        first = self.posts(world)
        world.postgres(away=away)
        for _ in range(5):
            world.clock.advance(1)
            world.delivers_all_due()
        if not forgets:
            again = self.posts(world)
            assert (again["ai_job_id"], again.get("duplicate")) == (first["ai_job_id"], True)
        world.postgres(away=False)
        world.settles()
        if forgets:
            world.tier_lost()
            again = self.posts(world)
            world.settles()
            assert world.chain(again["ai_job_id"])[-1].job_id == first["ai_job_id"]
        assert asked(world) == [["Look", "Here"]]
        assert tuple(sorted(self.said(world))) == tuple(sorted(self.KEPT, key=lambda turn: turn[0]))

    @pytest.mark.parametrize(
        "step", ["tier.claim", "archive.fence", "ai.complete", "tier.seal", "archive.commit", "tier.finish"]
    )
    @pytest.mark.parametrize("side", ["before", "after"])
    def test_the_request_may_come_again_at_any_moment(self, world: World, side: Any, step: str) -> None:
        self.posts(world)
        on(world, side, step, lambda: self.posts(world))
        world.settles()
        self.posts(world)
        world.settles()
        assert asked(world) == [["Look", "Here"]]

    def test_a_handoff_keeps_them_once(self, world: World) -> None:
        world.posts("m0")
        world.settles()
        hands_off(world)
        for _ in range(2):
            assert self.posts(world)["status"] == "handed_off"
        hands_back(world)
        world.settles()
        self.posts(world)
        world.settles()
        assert asked(world)[1:] == [["Look", "Here"]]
        hands_off(world)
        assert self.posts(world).get("duplicate") is True

    def test_whole_histories_do_not_ask_again_what_was_answered(self, world: World) -> None:
        sends(world, ("user", "Look"), ("user", "Here"))
        world.settles()
        assert self.posts(world)["status"] == "nothing_to_answer"
        world.settles()
        assert asked(world) == [["Look", "Here"]]

    def test_their_id_is_known_for_words_that_waited_before(self, world: World) -> None:
        sends(world, ("user", "Look"), ("user", "Here"))
        sends(world, ("user", "Before"), ("user", "Look"), ("user", "Here"))
        first = sends(world, ("user", "Here"), ("user", "", "photo-1"))
        world.settles()
        again = sends(world, ("user", "Here"), ("user", "", "photo-1"))
        assert again["ai_job_id"] == first["ai_job_id"]
        world.settles()
        assert len(asked(world)) == 1

    def test_an_id_that_comes_later_is_the_turns(self, world: World) -> None:
        sends(world, ("user", "Look"), ("user", "", "photo-1"))
        sends(world, ("user", "Look", "m0"))
        world.settles()
        assert sorted(self.said(world)) == [("", "photo-1"), ("Look", "m0")]
