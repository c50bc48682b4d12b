"""Dead letters return to the queue once the store that they waited for is back."""

from __future__ import annotations

import pytest

from message_handler.domain.jobs import JobStatus
from message_handler.operations import dead_letters
from message_handler.ports.queue import DeadLetter
from tests.contract.stories import (
    on,
)
from tests.contract.test_handoff import sends
from tests.contract.world import World


class TestDeadLetters:
    @pytest.fixture
    def letters(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
        """The letters in the dead-letter queue."""
        letters: list[DeadLetter] = []
        shown: list[bool] = []

        def dead_letters() -> list[DeadLetter]:
            shown.append(True)
            return list(letters) if len(shown) % 2 else []

        world.queue.dead_letters = dead_letters  # type: ignore[method-assign]
        world.queue.remove = letters.remove  # type: ignore[method-assign]
        return letters

    def gives_up(self, world: World, letters: list[DeadLetter]) -> None:
        """The queue moves all its records to the dead letters."""
        for delivery in list(world.queue.waiting):
            letters.append(DeadLetter(delivery.record, "receipt"))
            world.queue.delete(delivery)

    def test_a_dead_letter_of_an_outage_is_answered(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        assert dead_letters.redrive(world.worker, world.sender) == 1
        assert letters == []
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_while_postgres_is_away_dead_letters_stay(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        world.postgres(away=True)
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert len(letters) == 1

    def test_a_dead_letter_whose_message_is_settled_is_removed(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        letters.append(DeadLetter(world.queue.waiting[0].record, "receipt"))
        world.settles()
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert letters == []
        assert not world.queue.waiting

    def test_a_dead_letter_without_words_is_kept(self, world: World, letters: list[DeadLetter]) -> None:
        sends(world, ("user", "", "photo-1"))
        self.gives_up(world, letters)
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert letters == []
        found = world.archive.conversation(world.key)
        assert found is not None
        assert [turn.message_id for turn, *_ in found.turns] == ["photo-1"]

    def test_a_dead_letter_that_comes_back_again_fails_visibly(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        dead_letters.redrive(world.worker, world.sender)
        self.gives_up(world, letters)
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert letters == []
        assert world.end_of("m0").status is JobStatus.FAILED
        assert world.ai.prompts == []
        world.checked()

    def test_a_later_message_is_not_failed_with_a_dead_letter(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        self.gives_up(world, letters)
        dead_letters.redrive(world.worker, world.sender)
        self.gives_up(world, letters)
        world.posts("m1")
        dead_letters.redrive(world.worker, world.sender)
        world.settles()
        assert world.answered("m0 m1")
        dead_letters.redrive(world.worker, world.sender)
        assert letters == []
        world.checked()

    def test_a_dead_letter_that_raises_keeps_no_other_from_coming_back(
        self, world: World, letters: list[DeadLetter]
    ) -> None:
        def breaks() -> None:
            raise ZeroDivisionError

        world.posts("m0")
        self.gives_up(world, letters)
        letters.insert(0, letters[0])
        on(world, "before", "archive.settled", breaks)
        assert dead_letters.redrive(world.worker, world.sender) == 1
        world.settles()
        assert world.answered("m0")

    def test_a_dead_archive_record_reaches_postgres_too(self, world: World, letters: list[DeadLetter]) -> None:
        world.posts("m0")
        world.postgres(away=True)
        world.delivers()
        self.gives_up(world, letters)
        world.postgres(away=False)
        dead_letters.redrive(world.worker, world.sender)
        world.settles()
        assert world.answered("m0")
        world.checked()

    def test_a_sweep_looks_at_dead_letters_for_a_bounded_time(self, world: World) -> None:
        looks: list[float] = []

        def found() -> list[DeadLetter]:
            looks.append(world.clock())
            assert len(looks) < 50, "the sweep goes on for ever"
            world.clock.advance(3)
            return [DeadLetter(None, "receipt")]

        world.queue.dead_letters = found  # type: ignore[method-assign]
        dead_letters.redrive(world.worker, world.sender)
        assert looks[-1] - looks[0] < 10

    def test_an_unreadable_dead_letter_stays(self, world: World, letters: list[DeadLetter]) -> None:
        letters.append(DeadLetter(None, "receipt"))
        assert dead_letters.redrive(world.worker, world.sender) == 0
        assert len(letters) == 1
