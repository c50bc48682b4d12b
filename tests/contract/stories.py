"""Stories of a conversation, and events that may happen at any of their steps.

Each call of a port is a step. `happens` runs a story once and checks every promise at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from message_handler.domain.errors import Unavailable
from tests.contract.world import Crash, Side, World


def on(world: World, side: Side, name: str, *actions: Callable[[], Any]) -> None:
    """Do this the next time before or after the step of this name."""
    world.steps.hooks[side, name] = list(actions)


def dies() -> None:
    raise Crash


def is_away() -> None:
    raise Unavailable("the store")


def told(world: World, message_id: str) -> str:
    """The job that the message was promised last."""
    return world.told[message_id][-1]


def straight(world: World) -> None:
    world.posts("m0")
    world.settles()


def joining(world: World) -> None:
    """m1 comes while the AI answers m0."""
    on(world, "before", "ai.complete", lambda: world.posts("m1"))
    world.posts("m0")
    world.settles()


def following(world: World) -> None:
    """m1 and m2 come while m0's reply is being committed."""
    on(world, "after", "tier.seal", lambda: world.posts("m1"), lambda: world.posts("m2"))
    world.posts("m0")
    world.settles()


def failing(world: World) -> None:
    on(world, "after", "tier.seal", lambda: world.posts("m1"))
    world.posts("m0", text="[fail]")
    world.settles()


def cancelling(world: World) -> None:
    def cancel() -> None:
        if "m0" in world.told:
            world.cancels(told(world, "m0"))

    on(world, "before", "tier.heartbeat", cancel, lambda: world.posts("m1"))
    world.posts("m0")
    world.settles()


type Story = Callable[[World], None]
type Event = Callable[[World], Any]
type Moment = tuple[Side, int, str]


def happens(new_world: Callable[[], World], events: Mapping[str, Event], story: Story, *moments: Moment) -> World:
    """Run the story with the events at their moments, and check every promise. Returns the world."""
    world = new_world()
    for side, number, event in moments:
        world.steps.plan[side, number] = lambda event=event: events[event](world)  # type: ignore[misc]
    try:
        story(world)
        return world.checked()
    except Exception as error:
        names = dict(enumerate(world.steps.names, 1))
        error.add_note("; ".join(f"{event} {side} {n}: {names.get(n)}" for side, n, event in moments))
        raise


def moments_of(steps: int, event: str) -> Iterator[Moment]:
    """Every moment at which an event makes a difference."""
    for number in range(1, steps + 1):
        yield "before", number, event
        if event in ("the store is away", "the answer is lost"):
            yield "after", number, event
