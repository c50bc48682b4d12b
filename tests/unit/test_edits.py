"""A1. Edits over HTTP: what requests may say, and what clients see of an edited message."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.domain.messages import Message
from message_handler.intake.requests import parse_request, read_turns
from tests.unit.service import CANARY, JOINED, Service

OLD, NEW = f"{CANARY} I took 2 pills", f"{CANARY} I took 20 pills"


def single(content: str, **more: Any) -> dict[str, Any]:
    return {"history": f"<USER>{content}</USER><br>", "message_id": "tg-1"} | more


def listed(content: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, "message_id": "tg-1"} | more]}


def turns(service: Service) -> list[dict[str, Any]]:
    answer = service.http("intake", service.event("intake-get-conversation"))
    assert answer.status == 200
    return [turn for turn in answer.body["turns"] if turn["role"] == "user"]


both_forms = pytest.mark.parametrize("form", [single, listed], ids=["text", "JSON"])


@both_forms
def test_other_words_under_the_same_id_are_an_edit_and_are_answered(service: Service, form: Any) -> None:
    first = service.post(form(OLD)).body
    edit = service.post(form(NEW))
    assert edit.status == 202
    assert edit.body.keys() == JOINED | {"edited", "safety"}, "the new words tell of chest pain"
    assert (edit.body["edited"], edit.body["ai_job_id"]) == (True, first["ai_job_id"])
    assert edit.body["consolidated_messages"] == 1
    service.deliver()
    (turn,) = turns(service)
    assert (turn["content"], turn["message_id"]) == (NEW, "tg-1")
    assert turn["edited_at"] is not None


@both_forms
def test_the_same_words_are_a_duplicate(service: Service, form: Any) -> None:
    service.post(form(OLD))
    again = service.post(form(f" {OLD}\r\n")).body
    assert again.keys() == JOINED | {"duplicate"}


@both_forms
def test_an_answered_message_that_is_edited_gets_a_reply_of_its_own(service: Service, form: Any) -> None:
    first = service.post(form(OLD)).body
    service.deliver()
    edit = service.post(form(NEW)).body
    assert (edit["edited"], edit["status"]) == (True, "ai_processing_started")
    assert edit["ai_job_id"] != first["ai_job_id"]
    service.deliver()
    assert [(turn["content"], turn["edited_at"] is None) for turn in turns(service)] == [(OLD, True), (NEW, False)]


@both_forms
@pytest.mark.parametrize("moment", ["2026-11-30T10:00:00+01:00", "2026-11-30T09:00:00.000Z", 1796029200, 1796029200.0])
def test_the_platform_may_say_when(service: Service, form: Any, moment: Any) -> None:
    service.post(form(OLD))
    service.post(form(NEW, edited_at=moment))
    service.deliver()
    assert [turn["edited_at"] for turn in turns(service)] == ["2026-11-30T09:00:00.000Z"]


@both_forms
@pytest.mark.parametrize("moment", ["yesterday", "2026-11-30T09:00:00", True, [1], {}, 1e300])
def test_a_time_that_is_none_is_refused_by_the_fields_name(service: Service, form: Any, moment: Any) -> None:
    answer = service.post(form(NEW, edited_at=moment))
    assert answer.status == 400
    assert answer.body["field"].endswith("edited_at")
    assert "2026-11-30T09:00:00Z" in answer.body["detail"]


@both_forms
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", -1])
def test_a_time_that_no_answer_can_show_is_refused(service: Service, form: Any, moment: Any) -> None:
    answer = service.post(form(NEW, edited_at=moment))
    assert answer.status == 400
    assert answer.body["field"].endswith("edited_at")
    assert "must be" in answer.body["detail"]


@both_forms
@pytest.mark.parametrize("late", [OLD, NEW], ids=["first", "edit"])
def test_a_late_retry_says_the_same_time_and_is_a_duplicate(service: Service, form: Any, late: str) -> None:
    times = {OLD: 1796029200, NEW: 1796029201, f"{NEW}!": 1796029202}
    for words, time in times.items():
        service.post(form(words, edited_at=time))
        service.deliver()
    assert service.post(form(late, edited_at=times[late])).body.get("duplicate")
    service.deliver()
    assert [turn["content"] for turn in turns(service)] == [*times]


def test_a_time_needs_the_id_of_the_message(service: Service) -> None:
    answer = service.post({"history": f"<USER>{NEW}</USER><br>", "edited_at": 1796029200})
    assert (answer.status, answer.body["field"]) == (400, "edited_at")


def test_two_times_for_one_message_are_refused(service: Service) -> None:
    answer = service.post(listed(NEW, edited_at=1796029200) | {"edited_at": 1796029201})
    assert (answer.status, answer.body["field"]) == (400, "edited_at")


def test_only_the_last_message_of_a_request_edits_what_was_answered() -> None:
    said = [{"role": "user", "content": OLD, "message_id": f"m{n}", "edited_at": 1796029200 + n} for n in range(2)]
    turns = read_turns(parse_request({"messages": said})).messages
    assert [turn.edited_at for turn in turns] == [1796029200, 1796029201]


def test_what_waits_while_a_human_answers_counts_each_message_once(service: Service) -> None:
    service.post(listed(OLD))
    service.deliver()
    service.http("intake", service.event("intake-handoff"))
    told = [service.post(listed(words)).body for words in (NEW, f"{NEW}!")]
    assert [(body["edited"], body["consolidated_messages"]) for body in told] == [(True, 1)] * 2
    answer = service.http("intake", service.event("intake-get-conversation"))
    assert answer.body["pending"]["consolidated_messages"] == 1


def test_a_message_keeps_its_time_and_its_place_in_a_record() -> None:
    message = Message("m1", NEW, True, edited_at=1796029200.5, earlier=True)
    assert Message.from_json(message.to_json()) == message
    again = Message.from_json(message.to_json())
    assert (again.edited_at, again.earlier) == (1796029200.5, True)
