"""No request costs more round trips to a store for more messages, turns or jobs (invariant 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
from pg8000 import native

from message_handler.archive.postgres import PostgresArchive
from message_handler.intake.requests import parse_request
from message_handler.operations import erasure
from tests.contract.chat import named
from tests.contract.conversation import KEY
from tests.contract.test_handoff import FOR_A_HUMAN, REQUEST, hands_back, hands_off, view
from tests.contract.world import World

FEW, MANY = 3, 40


class Trips:
    """How often a process has asked a store, and waited for its answer."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[list[int]]:
        before, counts = self.count, []
        yield counts
        counts.append(self.count - before)

    def count_calls(self, patch: pytest.MonkeyPatch, owner: type, *names: str) -> None:
        for name in names:
            patch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            self.count += 1
            return function(*args, **options)

        return counting


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    trips = Trips()
    trips.count_calls(monkeypatch, native.Connection, "execute_named", "execute_unnamed", "execute_simple")
    trips.count_calls(monkeypatch, redis.Connection, "send_packed_command")
    return trips


def texts(count: int, word: str = "text") -> list[dict[str, Any]]:
    """Messages, each with an id."""
    return [{"role": "user", "content": f"{word} {n}", "message_id": f"{word}-{n}"} for n in range(count)]


def sends(world: World, turns: list[dict[str, Any]]) -> dict[str, Any]:
    return world.intake.handle(world.key, parse_request({"messages": turns}))


def exchanges(count: int) -> list[dict[str, Any]]:
    """As many exchanges of a patient with a human."""
    return [turn for message in texts(count) for turn in (message, {"role": "sale", "content": f"to {message}"})]


def accepts(world: World, count: int) -> Callable[[], Any]:
    return lambda: sends(world, texts(count))


def accepts_again(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(count))
    return lambda: sends(world, texts(count))


def accepts_one_more(world: World, count: int) -> Callable[[], Any]:
    sends(world, [{"role": "user", "content": "yes"}] * count)
    return lambda: sends(world, [{"role": "user", "content": "yes"}] * (count + 1))


def notes_what_a_human_said(world: World, count: int) -> Callable[[], Any]:
    return lambda: sends(world, exchanges(count))


def notes_what_a_human_said_to_parked_messages(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(1))
    hands_off(world)
    sends(world, texts(count))
    return lambda: sends(world, exchanges(count))


def parks(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(1))
    hands_off(world)
    return lambda: sends(world, texts(count))


def keeps_what_has_no_words(world: World, count: int) -> Callable[[], Any]:
    turns = [{"role": "user", "content": "", "message_id": f"photo-{n}"} for n in range(count)]
    return lambda: sends(world, turns)


def unsends(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(count))
    return lambda: world.unsends("text-0")


def cancels(world: World, count: int) -> Callable[[], Any]:
    job_id = sends(world, texts(count))["ai_job_id"]
    return lambda: world.cancels(job_id)


def hands_the_conversation_off(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(count))
    return lambda: hands_off(world)


def resumes(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(1))
    hands_off(world)
    sends(world, texts(count))
    return lambda: hands_back(world)


def shows(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(count))
    return lambda: view(world)


def shows_the_job(world: World, count: int) -> Callable[[], Any]:
    job_id = sends(world, texts(count))["ai_job_id"]
    return lambda: world.jobs.wait_for(job_id, 0)


def erases(world: World, count: int) -> Callable[[], Any]:
    sends(world, texts(count))
    return lambda: erasure.erase(world.tiers, world.archive, world.key)


@pytest.mark.parametrize(
    "request_of",
    [
        accepts,
        accepts_again,
        accepts_one_more,
        notes_what_a_human_said,
        notes_what_a_human_said_to_parked_messages,
        parks,
        keeps_what_has_no_words,
        unsends,
        cancels,
        hands_the_conversation_off,
        resumes,
        shows,
        shows_the_job,
        erases,
    ],
)
@pytest.mark.parametrize("new_world", ["redis and postgres", "postgres alone"], indirect=True)
def test_more_messages_cost_no_further_round_trip(
    new_world: Callable[[], World], trips: Trips, request_of: Callable[[World, int], Callable[[], Any]]
) -> None:
    counts = []
    for size in (FEW, MANY):
        send = request_of(new_world(), size)
        with trips.counted() as counted:
            send()
        counts += counted
    few, many = counts
    assert 0 < many <= few


def test_only_what_a_human_is_to_answer_may_have_made_a_conversation_that_has_to_go(
    postgres_archive: PostgresArchive, trips: Trips
) -> None:
    """A message of before an erasure. Only for a human the conversation is made first, and dropped behind that."""
    postgres_archive.erase(KEY)
    void = [replace(named("m0"), accepted_at=1.0)]
    counts = []
    for request in (REQUEST, FOR_A_HUMAN, REQUEST, FOR_A_HUMAN):
        with trips.counted() as counted:
            assert postgres_archive.park(request, void) is None
        counts += counted
    *_, for_the_bot, for_a_human = counts
    assert for_a_human - for_the_bot == 2
