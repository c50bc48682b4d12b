"""Patients send, edit and unsend messages in any order and at any moment of a run, on every tier.

Hypothesis draws what happens: between the runs, and while the AI answers. The world then settles and checks every
promise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count, pairwise

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from message_handler.domain.double_texting import POLICIES
from tests.contract.world import World
from tests.versions import edit_of, message_of, version_of

#: How many conversations are drawn, with how many steps each. EXAMPLES=10 draws ten times as many.
CONVERSATIONS = {"memory": (60, 16), "redis and postgres": (10, 10), "postgres alone": (10, 10)}
MOST_EDITS = 3
TIMES = int(os.environ.get("EXAMPLES", "1"))


class Patient:
    """Takes one drawn step after the other. While the AI answers, at most `interjections` further ones happen."""

    def __init__(self, data: st.DataObject, world: World, interjections: int) -> None:
        self.draw = data.draw
        # Each of them may start another answer. Without an end to them a conversation goes on for hundreds of runs.
        self.interjections = interjections
        self.world = world
        self.numbers = count()
        world.ai.meanwhile = self.meanwhile
        self.steps = {
            "send": self.sends,
            "edit": self.edits,
            "send again": self.sends_again,
            "unsend": self.unsends,
            "cancel": self.cancels,
            "deliver": self.delivers,
            "settle": lambda: self.world.settles(),
        }

    def step(self, *kinds: str) -> None:
        self.steps[self.draw(st.sampled_from(kinds))]()

    def meanwhile(self) -> None:
        """What happens while the AI answers."""
        if self.interjections and self.draw(st.integers(0, 9)) == 0:
            self.interjections -= 1
            with self.world.steps.silently():
                self.step("send", "edit", "edit", "send again", "unsend", "cancel")

    def sends(self) -> None:
        self.posts(f"m{next(self.numbers)}")

    def edits(self) -> None:
        """The patient edits a message that was sent before, and not unsent: then it would be a new message."""
        if names := [name for name in self.names() if name not in self.world.unsent]:
            name = self.draw(st.sampled_from(names))
            newest = max(edit_of(version) for version in self.world.contents if message_of(version) == name)
            self.posts(version_of(name, min(newest + 1, MOST_EDITS)))

    def sends_again(self) -> None:
        """The platform is late with a version that it was told it had sent."""
        if versions := list(self.world.told):
            self.posts(self.draw(st.sampled_from(versions)))

    def unsends(self) -> None:
        if names := self.names():
            self.world.unsends(self.draw(st.sampled_from(names)))

    def names(self) -> list[str]:
        """The messages that the platform was told it had sent."""
        return list(dict.fromkeys(map(message_of, self.world.told)))

    def posts(self, version: str) -> None:
        self.world.posts(version, double_texting=self.draw(st.sampled_from(list(POLICIES))))

    def cancels(self) -> None:
        if jobs := [job_id for jobs in self.world.told.values() for job_id in jobs]:
            self.world.cancels(self.draw(st.sampled_from(jobs)))

    def delivers(self) -> None:
        if self.world.queue.waiting:
            self.world.delivers()


@pytest.mark.parametrize("new_world", CONVERSATIONS, indirect=True)
def test_each_version_is_answered_once_or_replaced_by_a_later_one(
    new_world: Callable[[], World], request: pytest.FixtureRequest
) -> None:
    examples, steps = CONVERSATIONS[request.node.callspec.params["new_world"]]

    @hypothesis.settings(
        max_examples=examples * TIMES,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.data())
    def converse(data: st.DataObject) -> None:
        world = new_world()
        patient = Patient(data, world, interjections=steps)
        patient.sends()
        for _ in range(data.draw(st.integers(steps // 2, steps))):
            patient.step("send", "edit", "edit", "send again", "unsend", "cancel", "deliver", "deliver", "settle")
        world.settles().checked()
        names = {content: version for version, content in world.contents.items()}
        answered = [[names[content] for content in reply] for reply in world.replies()]
        for name in map(message_of, world.told):
            versions = [[version for version in reply if message_of(version) == name] for reply in answered]
            assert all(len(reply) <= 1 for reply in versions), f"both words in one reply: {answered}"
            edits = [edit_of(version) for reply in versions for version in reply]
            assert all(one < other for one, other in pairwise(edits)), f"old words after newer ones: {answered}"

    converse()
