"""Each guard of the safety case is removed, and a test that its control names fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from local import hazards
from tests.guards.__main__ import GUARDS
from tests.guards.guard import REPOSITORY, Guard
from tests.guards.scratch import Scratch

NAMED = {name for control in hazards.read().controls for name in control.guards}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    with closing(Scratch(REPOSITORY, tmp_path_factory.mktemp("scratch"))) as scratch:
        assert scratch.is_used
        yield scratch


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="git lists what is copied")
@pytest.mark.parametrize(
    "guard",
    [guard for guard in GUARDS if guard.name in NAMED],
    ids=lambda guard: f"{guard.name} ({guard.files})",
)
def test_a_test_fails_without_it(guard: Guard, scratch: Scratch) -> None:
    with scratch.without(guard):
        outcome = scratch.run(guard.chosen, "-x")
    assert outcome.caught, outcome.why
