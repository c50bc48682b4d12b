"""After an emergency or a crisis a human answers, if the bot is configured so."""

from __future__ import annotations

import pytest

from message_handler.domain.errors import Unavailable
from tests.unit.service import CANARY, Service, says
from tests.unit.test_danger import CRISIS, EMERGENCY, URGENT, configured, read


def resume(service: Service) -> None:
    event = service.event("intake-handoff", body='{"to": "bot"}')
    assert service.http("intake", event).status == 200


@pytest.fixture
def handing(service: Service) -> Service:
    configured(service, after_danger="human")
    return service


@pytest.mark.parametrize("words", [EMERGENCY, CRISIS])
def test_the_message_waits_for_a_human(handing: Service, words: str) -> None:
    answer = handing.post(says(words, "m0"))
    assert (answer.status, answer.body["status"]) == (202, "handed_off")
    assert answer.body["safety"]["notice"]
    handing.deliver()
    again = handing.post(says("hello?", "m1"))
    assert again.body["status"] == "handed_off"


def test_after_a_resume_the_bot_answers_it(handing: Service) -> None:
    handing.post(says(EMERGENCY, "m0"))
    resume(handing)
    handing.deliver()
    answered = handing.post(says(EMERGENCY, "m0")).body
    assert (answered["status"], answered["duplicate"]) == ("locked", True), "it is a duplicate, and not handed off"
    assert read(handing, answered["ai_job_id"])["status"] == "completed"
    assert handing.post(says("thanks", "m1")).body["status"] == "ai_processing_started"


@pytest.mark.parametrize("last", ["breathe", f"breathe and {URGENT}"])
def test_a_phrase_over_several_requests_is_handed_off_when_it_is_whole(handing: Service, last: str) -> None:
    for words in ("I can't", last):
        handing.post({"messages": [{"role": "user", "content": words}]})
    handing.deliver()
    assert handing.post(says("hello?", "m1")).body["status"] == "handed_off"


@pytest.mark.parametrize("words", [URGENT, "when do you open?"])
def test_anything_else_is_answered(handing: Service, words: str) -> None:
    assert handing.post(says(words, "m0")).body["status"] == "ai_processing_started"


def test_by_default_the_bot_answers(service: Service) -> None:
    assert service.post(says(EMERGENCY, "m0")).body["status"] == "ai_processing_started"


def test_without_postgres_the_bot_answers(handing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("Postgres")

    monkeypatch.setattr(handing.parts.archive, "hand_off", away)
    answer = handing.post(says(EMERGENCY, "m0"))
    assert (answer.body["status"], answer.body["safety"]["level"]) == ("ai_processing_started", "emergency")
    handing.deliver()
    assert read(handing, answer.body["ai_job_id"])["reply"]["content"].startswith(f"{CANARY} {EMERGENCY}")
