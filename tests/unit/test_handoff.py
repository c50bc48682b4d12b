"""A human takes a conversation over, and gives it back to the bot."""

import json
from typing import Any

import pytest

from message_handler.archive.none import NoArchive
from message_handler.domain.errors import Conflict
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import MessageLockManager
from message_handler.queue.codec import decode
from tests.unit.service import (
    CANARY,
    JOINED,
    KEY,
    Answer,
    Service,
    says,
)


@pytest.fixture
def taken(service: Service) -> Service:
    """The service with a conversation that a human took over while its first message waited."""
    service.http("intake", service.event("intake-post-message"))
    answer = service.http("intake", service.event("intake-handoff"))
    assert answer.status == 200
    assert answer.body == {"conversation_id": KEY.conversation_id, "status": "handed_off", "ai_job_id": None}
    return service


def hand(service: Service, body: Any, conversation_id: str = KEY.conversation_id) -> Answer:
    event = service.event("intake-handoff", pathParameters={"conversation_id": conversation_id})
    return service.http("intake", event | {"body": body if isinstance(body, str | None) else json.dumps(body)})


def test_what_comes_is_stored_and_the_bot_does_not_answer_it(taken: Service) -> None:
    taken.deliver()
    stored = taken.post(says("more", "m-2"))
    assert stored.status == 202
    assert set(stored.body) == JOINED
    assert stored.body["success"] is True
    assert (stored.body["status"], stored.body["action"]) == ("handed_off", "stored")
    assert stored.body["ai_job_id"] is None
    assert stored.body["consolidated_messages"] == 2
    assert taken.post(says("more", "m-2")).body == stored.body | {"duplicate": True}
    assert taken.queue.sent == []
    shown = taken.http("intake", taken.event("intake-get-conversation")).body
    assert (shown["status"], shown["turns"]) == ("handed_off", [])
    assert shown["pending"] == {"job_id": None, "consolidated_messages": 2}


def test_handed_back_one_job_answers_what_waited(taken: Service) -> None:
    taken.deliver()
    taken.post(says("more", "m-2"))
    back = hand(taken, {"to": "bot"})
    assert [decode(body).request.correlation_id for body, _ in taken.queue.sent] == [back.headers["X-Correlation-ID"]]
    assert (back.status, back.body["status"]) == (200, "active")
    assert taken.deliver() == {"batchItemFailures": []}
    shown = taken.http("intake", taken.event("intake-get-conversation")).body
    assert [turn["role"] for turn in shown["turns"]] == ["user", "user", "assistant"]
    assert {turn["job_id"] for turn in shown["turns"]} == {back.body["ai_job_id"]}
    assert (shown["status"], shown["pending"]) == ("active", None)
    assert hand(taken, {"to": "bot"}).body["ai_job_id"] is None


def test_the_sweep_hands_back_what_a_process_left_behind(taken: Service) -> None:
    taken.deliver()
    taken.parts.archive.resume(KEY)
    assert taken.invoke("admin", taken.event("admin-schedule")) == {"swept": 1}
    taken.deliver()
    shown = taken.http("intake", taken.event("intake-get-conversation")).body
    assert [turn["role"] for turn in shown["turns"]] == ["user", "assistant"]
    assert taken.invoke("admin", taken.event("admin-schedule")) == {"swept": 0}


def test_a_history_with_a_humans_turn_hands_off(service: Service) -> None:
    human = f"<SALE>{CANARY} I take over</SALE><br>"
    stored = service.post({"history": f"<USER>{CANARY}</USER><br>{human}<USER>{CANARY} thanks</USER><br>"})
    assert (stored.body["action"], stored.body["consolidated_messages"]) == ("stored", 1)
    answer = service.post({"history": human})
    assert (answer.status, answer.body["action"]) == (202, "stored")
    shown = service.http("intake", service.event("intake-get-conversation")).body
    assert [turn["role"] for turn in shown["turns"]] == ["user", "sale"]
    assert shown["turns"][1] | {"created_at": None} == {
        "role": "sale",
        "content": f"{CANARY} I take over",
        "message_id": None,
        "created_at": None,
        "edited_at": None,
        "unsent_at": None,
        "job_id": None,
    }


@pytest.mark.parametrize("to", ["bot", "human"])
def test_an_unknown_conversation_is_not_found(service: Service, to: str) -> None:
    answer = hand(service, {"to": to}, "conv_unknown")
    assert (answer.status, answer.body["field"]) == (404, "conversation_id")


@pytest.mark.parametrize(
    "body", [{}, {"to": None}, {"to": ["bot"]}, {"to": CANARY}, {"to": "Human"}, {"to": "bot", CANARY: 1}]
)
def test_a_bad_body_is_refused_by_the_fields_name(taken: Service, body: dict[str, Any]) -> None:
    answer = hand(taken, body)
    assert (answer.status, answer.body["field"]) == (400, "to")


@pytest.mark.parametrize("body", [None, "", "[]", f'"{CANARY}"', "{"])
def test_a_body_that_is_no_object_is_refused(taken: Service, body: str | None) -> None:
    assert hand(taken, body).status == 400


@pytest.mark.parametrize("to", ["bot", "human"])
def test_without_postgres_it_is_unavailable(service: Service, to: str) -> None:
    service.use(archive=NoArchive())
    service.http("intake", service.event("intake-post-message"))
    answer = hand(service, {"to": to})
    assert answer.status == 503
    assert answer.headers["Retry-After"]


def test_the_other_parts_of_the_library_say_that_a_human_answers(taken: Service) -> None:
    parts = taken.parts
    jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
    with pytest.raises(Conflict, match="human"):
        jobs.create_ai_processing_job(KEY.conversation_id, [CANARY])
    with pytest.raises(Conflict, match="human"):
        MessageLockManager(parts.tiers).check_and_acquire_lock(KEY.conversation_id, [CANARY])
