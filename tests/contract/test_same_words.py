"""The same words in another dress are the same words, over each store. Each is kept as it was sent."""

from __future__ import annotations

import pytest

from message_handler.domain.conversations import Turn
from message_handler.ports.archive import Archive
from message_handler.protocol.results import Claim
from tests.contract.chat import BOT, Chat
from tests.contract.conversation import KEY
from tests.contract.test_handoff import asked, hands_back, hands_off, sends
from tests.contract.world import World
from tests.dresses import DRESSES

pytestmark = pytest.mark.parametrize(("one", "other"), DRESSES.values(), ids=DRESSES)


def test_they_are_a_duplicate_until_they_are_answered(chat: Chat, one: str, other: str) -> None:
    first = chat.says("before", other)
    again = chat.says("before", one)
    assert again.duplicate
    assert (again.job_id, again.message_id) == (first.job_id, first.message_id)
    claim = chat.claim()
    assert isinstance(claim, Claim)
    assert chat.words(claim.job) == ["before", other]
    chat.sealed_and_ended("Rest.")
    late = chat.says("before", one, "more")
    assert chat.words(late.job_id) == ["more"]


def test_both_are_kept_as_they_were_sent(chat: Chat, one: str, other: str) -> None:
    chat.says(one)
    accepted = chat.says(one, other)
    assert [message.content for message in accepted.pending] == [one, other]
    assert chat.words(chat.claimed()) == [one, other]


def test_a_parked_message_is_known(world: World, one: str, other: str) -> None:
    world.posts("m0")
    world.settles()
    hands_off(world)
    sends(world, ("user", other))
    assert sends(world, ("user", one)).get("duplicate") is True
    hands_back(world)
    world.settles()
    assert asked(world)[-1] == [other]


def test_a_humans_turn_is_noted_once(archive: Archive, one: str, other: str) -> None:
    assert archive.note_sale(KEY, BOT, [Turn("sale", other)]) == "new"
    assert archive.note_sale(KEY, BOT, [Turn("sale", one)]) == "known"
    assert archive.note_sale(KEY, BOT, [Turn("sale", one, "s-1")]) == "known"
    found = archive.conversation(KEY)
    assert found is not None
    assert [turn.content for turn, *_ in found.turns] == [other]


def test_so_is_one_that_had_an_id_before(archive: Archive, one: str, other: str) -> None:
    assert archive.note_sale(KEY, BOT, [Turn("sale", other, "s-1")]) == "new"
    assert archive.note_sale(KEY, BOT, [Turn("sale", one)]) == "known"
