"""A platform is late with words that an edit has replaced, while the tier that knows the edit is away."""

from __future__ import annotations

from tests.contract.world import World


def test_the_edit_is_answered_when_redis_is_back(world: World) -> None:
    world.posts("m0")
    world.posts("m0~1")
    world.redis(away=True)
    world.clock.advance(1)
    world.posts("m0")
    world.delivers()
    world.redis(away=False)
    world.settles().checked()
    assert "text of m0~1" in [content for reply in world.replies() for content in reply]
