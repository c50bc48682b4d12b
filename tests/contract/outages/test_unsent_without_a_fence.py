"""A run that began while Postgres was away has no fence. It has to notice by itself that a message was unsent."""

from __future__ import annotations

import pytest

from tests.contract.world import World


@pytest.mark.parametrize("restarts", [0, 1, 2, 3])
def test_an_unsent_message_is_in_no_reply_however_often_the_run_was_restarted(world: World, restarts: int) -> None:
    joined: list[str] = []

    def meanwhile() -> None:
        with world.steps.silently():
            if len(world.ai.prompts) > len(joined) and len(joined) < restarts:
                joined.append(f"m{len(joined) + 2}")
                world.posts(joined[-1])
            elif not world.unsent and len(world.ai.prompts) > restarts:
                world.postgres(away=False)
                assert world.unsends("m0") == "unsent"

    world.posts("m0")
    world.posts("m1")
    world.ai.meanwhile = meanwhile
    world.postgres(away=True)
    world.settles().checked()
    assert "text of m0" not in [content for reply in world.replies() for content in reply]
