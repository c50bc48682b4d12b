"""Any event happens at any step of any story. No message is lost, and none is answered twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.stories import (
    Event,
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
    told,
)
from tests.contract.world import (
    World,
)

EVENTS: dict[str, Event] = {
    "the process dies": lambda world: dies(),
    "the store is away": lambda world: is_away(),
    "the tier is lost": World.tier_lost,
    "the worker pauses": World.worker_pauses,
    "a message comes": lambda world: world.posts("new"),
    "a duplicate comes": lambda world: world.posts("m0"),
    "the job is cancelled": lambda world: "m0" in world.told and world.cancels(told(world, "m0")),
    "the lock is released": World.releases,
    "the sweep comes": World.sweeps,
}


class TestWhateverHappens:
    """No accepted message is lost, and each is answered once, whatever happens between any two steps."""

    @pytest.mark.parametrize(
        "event", ["the process dies", "the store is away", "the tier is lost", "the worker pauses"]
    )
    def test_once_in_the_straight_path(self, new_world: Callable[[], World], event: str) -> None:
        steps = len(happens(new_world, EVENTS, straight).steps.names)
        for moment in moments_of(steps, event):
            happens(new_world, EVENTS, straight, moment)

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("story", [straight, joining, following, failing, cancelling])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_once_in_any_story(self, new_world: Callable[[], World], story: Story, event: str) -> None:
        steps = len(happens(new_world, EVENTS, story).steps.names)
        for moment in moments_of(steps, event):
            happens(new_world, EVENTS, story, moment)

    @pytest.mark.parametrize("second", ["the process dies", "the tier is lost", "the worker pauses"])
    @pytest.mark.parametrize("first", ["the process dies", "the store is away", "a message comes"])
    @pytest.mark.parametrize("new_world", ["memory"], indirect=True)
    def test_twice_in_the_straight_path(self, new_world: Callable[[], World], first: str, second: str) -> None:
        steps = len(happens(new_world, EVENTS, straight).steps.names)
        for moment in moments_of(steps, first):
            longer = len(happens(new_world, EVENTS, straight, moment).steps.names)
            for other in moments_of(longer, second):
                if other[1] > moment[1]:
                    happens(new_world, EVENTS, straight, moment, other)
