"""A2. Unsent messages over HTTP."""

from __future__ import annotations

import pytest

from message_handler.domain.records import DeliveryRecord
from message_handler.queue.codec import decode
from tests.unit.service import CANARY, Answer, Service


def said(message_id: str, content: str = "Hello") -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"{CANARY} {content}", "message_id": message_id}]}


def unsend(service: Service, message_id: str = "m-1") -> Answer:
    parameters = {"conversation_id": "conv_123", "message_id": message_id}
    return service.http("intake", service.event("intake-delete-message", pathParameters=parameters))


def test_a_waiting_message_is_taken_back(service: Service) -> None:
    service.post(said("m-1"))
    for _ in range(2):
        answer = unsend(service)
        assert answer.status == 200
        assert answer.body == {"conversation_id": "conv_123", "message_id": "m-1", "status": "unsent"}
    service.deliver()
    conversation = service.http("intake", service.event("intake-get-conversation")).body
    (turn,) = conversation["turns"]
    assert (turn["message_id"], conversation["pending"]) == ("m-1", None)
    assert turn["unsent_at"] is not None


def test_an_answered_message_stays_answered(service: Service) -> None:
    service.post(said("m-1"))
    service.deliver()
    answer = unsend(service)
    assert (answer.status, answer.body["field"]) == (409, "message_id")
    assert "reply stands" in answer.body["detail"]


def test_an_unknown_message_is_not_found(service: Service) -> None:
    service.post(said("m-1"))
    answer = unsend(service, "m-2")
    assert (answer.status, answer.body["field"]) == (404, "message_id")


@pytest.mark.parametrize("message_id", ["", "a b", "ä", "m" * 256, "m-1 edit 12"])
def test_an_id_that_no_platform_gives_is_refused(service: Service, message_id: str) -> None:
    answer = unsend(service, message_id)
    assert (answer.status, answer.body["field"]) == (400, "message_id")


def test_an_id_may_have_any_printable_character(service: Service) -> None:
    for message_id in ("wamid.HBgL=", "19:x@y/1", "$1!*'()"):
        service.post(said(message_id))
        assert unsend(service, message_id).status == 200


def test_what_waits_with_it_is_woken(service: Service) -> None:
    service.post(said("m-1"))
    service.post(said("m-2", "Thanks"))
    unsend(service)
    records = [decode(body) for body, _ in service.queue.sent]
    assert not any(isinstance(record, DeliveryRecord) for record in records)
    assert [m.message_id for m in records[-1].request.messages] == ["m-2"]
    service.deliver()
    turns = service.http("intake", service.event("intake-get-conversation")).body["turns"]
    assert [(turn["role"], turn["message_id"]) for turn in turns] == [
        ("user", "m-1"),
        ("user", "m-2"),
        ("assistant", None),
    ]
