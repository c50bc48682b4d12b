"""A store goes away at any step of any story. No message is lost, and none is answered twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.stories import (
    Event,
    Moment,
    Story,
    cancelling,
    dies,
    failing,
    following,
    happens,
    is_away,
    joining,
    moments_of,
    straight,
)
from tests.contract.world import World


def away_for_a_while(*stores: str) -> Event:
    """The stores go away now and come back `AWAY_STEPS` steps later."""

    def event(world: World) -> None:
        def set_away(away: bool) -> None:
            for store in stores:
                getattr(world, store)(away=away)

        set_away(True)
        world.steps.plan["before", len(world.steps.names) + AWAY_STEPS] = lambda: set_away(False)

    return event


def split_while_a_message_comes(world: World) -> None:
    """One intake process can't reach Redis. All other processes can."""
    world.redis(away=True)
    world.posts("split")
    world.redis(away=False)
    world.orderly = False


AWAY_STEPS = 7


OUTAGES: dict[str, Event] = {
    "redis is away": away_for_a_while("redis"),
    "postgres is away": away_for_a_while("postgres"),
    "a process is split off": split_while_a_message_comes,
    "the process dies": lambda _: dies(),
    "the answer is lost": lambda _: is_away(),
    "the worker pauses": World.worker_pauses,
    "a message comes": lambda world: world.posts("new"),
}


class TestWhateverGoesAway:
    """A store is away for a while, from any step on. That costs no message and causes no second answer."""

    @pytest.mark.parametrize("event", ["redis is away", "postgres is away", "a process is split off"])
    def test_in_the_straight_path(self, new_world: Callable[[], World], event: str) -> None:
        self.tell_at_every_step(new_world, straight, event)

    @pytest.mark.parametrize("event", ["redis is away", "postgres is away", "a process is split off"])
    @pytest.mark.parametrize("story", [joining, following, failing, cancelling])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_in_any_story(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        self.tell_at_every_step(new_world, story, event)

    @pytest.mark.parametrize(
        "other", ["the process dies", "the answer is lost", "the worker pauses", "a message comes"]
    )
    @pytest.mark.parametrize("event", ["redis is away", "postgres is away"])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_with_another_fault_at_any_step(self, new_world: Callable[[], World], event: str, other: str) -> None:
        steps = len(happens(new_world, OUTAGES, straight).steps.names)
        for moment in moments_of(steps, event):
            longer = len(self.tell(new_world, straight, moment).steps.names)
            for later in moments_of(longer, other):
                if later[1] > moment[1]:
                    self.tell(new_world, straight, moment, later)

    def tell_at_every_step(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, OUTAGES, story).steps.names)
        for moment in moments_of(steps, event):
            self.tell(new_world, story, moment)

    def tell(self, new_world: Callable[[], World], story: Story, *moments: Moment) -> World:
        def unordered() -> World:
            world = new_world()
            # A known limit: a later message on another tier may be answered first.
            world.orderly = False
            return world

        def story_and_recovery(world: World) -> None:
            story(world)
            world.postgres(away=False)  # messages that are committed already do not wait for that

        return happens(unordered, OUTAGES, story_and_recovery, *moments)
