"""A long history costs no more than its newest turns, and none of it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.domain import history
from message_handler.domain.conversations import Turn
from message_handler.domain.errors import InvalidRequest
from message_handler.intake.requests import parse_request, read_turns
from message_handler.settings import Settings
from tests.unit.service import Service

NEWEST = Settings().history_turns


def said(role: str, number: int) -> dict[str, Any]:
    return {"role": role, "content": f"{role} {number}"}


LONG = [said(role, number) for number in range(NEWEST) for role in ("user", "assistant")]


def body_of(form: str) -> dict[str, Any]:
    """A request with more turns than are looked at, and a new message."""
    turns = [*LONG, said("user", NEWEST)]
    if form == "messages":
        return {"messages": turns}
    return {"history": history.render(Turn(turn["role"], turn["content"]) for turn in turns)}


class TestTheNewestTurns:
    @pytest.mark.parametrize("form", ["messages", "history"])
    def test_are_looked_at_and_the_request_is_accepted(self, service: Service, form: str) -> None:
        answer = service.post(body_of(form))
        assert (answer.status, answer.body["consolidated_messages"]) == (202, 1)

    @pytest.mark.parametrize("form", ["messages", "history"])
    def test_no_older_one_is_read(self, form: str) -> None:
        read = read_turns(parse_request(body_of(form), newest=NEWEST), newest=NEWEST)
        assert read.context == tuple(Turn(turn["role"], turn["content"]) for turn in LONG[-NEWEST + 1 :])
        assert len(read.messages) == 1

    def test_an_older_one_that_is_wrong_is_passed_over(self, service: Service) -> None:
        assert service.post({"messages": [{"role": "nobody"}, *LONG, said("user", NEWEST)]}).status == 202

    def test_one_that_is_wrong_is_named_by_its_place_in_the_request(self, service: Service) -> None:
        turns = [*LONG, {"role": "user", "content": 7}]
        assert service.post({"messages": turns}).body["field"] == f"messages.{len(turns) - 1}.content"
        with pytest.raises(InvalidRequest) as refused:
            parse_request({"messages": [{"role": "user", "content": 7}]}, newest=NEWEST)
        assert refused.value.field == "messages.0.content"

    def test_all_unanswered_messages_are_among_them(self, service: Service) -> None:
        assert service.post({"messages": [said("user", number) for number in range(NEWEST + 1)]}).status == 413


class TestTheNewestHumanTurns:
    TURNS = tuple(Turn(role, f"{role} {number}") for number in range(5) for role in ("user", "sale"))

    def test_are_looked_at_with_what_was_said_between_them(self) -> None:
        assert history.since_the_bot((*self.TURNS, Turn("user", "new")), 2) == self.TURNS[-4:]

    def test_are_those_after_the_bot(self) -> None:
        context = (*self.TURNS, Turn("assistant", "reply"), Turn("user", "one"), Turn("sale", "two"))
        assert history.since_the_bot(context, 2) == context[-2:]
        assert history.since_the_bot(context[:-1], 2) == ()
        assert history.since_the_bot(self.TURNS, 5) == self.TURNS
