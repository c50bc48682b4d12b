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


def test_a_refused_request_silences_nothing(service: Service) -> None:
    configured(service, after_danger="human", platform={"rate_limit_per_minute": 1})
    assert service.post(says("hello", "m0")).status == 202
    refused = service.post(says(EMERGENCY, "m1"))
    assert (refused.status, refused.body["safety"]["level"]) == (429, "emergency")
    configured(service, after_danger="human")
    accepted = service.post(says("hello", "m2")).body
    assert accepted["action"] == "lock_exists", "the bot answers"
    service.deliver()
    assert read(service, accepted["ai_job_id"])["status"] == "completed"


def test_what_a_bot_would_reject_is_parked(service: Service) -> None:
    configured(service, after_danger="human", double_texting="reject")
    assert service.post(says("hello", "m0")).status == 202
    assert service.post(says(EMERGENCY, "m1")).body["status"] == "handed_off"


class TestAPlatformWithoutIds:
    """It sends its whole history again and again, maybe without the bot's replies."""

    def sends(self, service: Service, *contents: str) -> str:
        answer = service.post({"messages": [{"role": "user", "content": content} for content in contents]})
        assert answer.body["safety"]["level"] == "emergency", "the notice comes each time"
        status: str = answer.body["status"]
        return status

    @pytest.mark.parametrize(
        ("answered", "more"),
        [(False, ()), (False, ("thank you",)), (True, ("thank you",)), (True, ("thank you", "bye"))],
    )
    def test_hands_nothing_off_again_after_a_resume(
        self, handing: Service, answered: bool, more: tuple[str, ...]
    ) -> None:
        assert self.sends(handing, EMERGENCY) == "handed_off"
        resume(handing)
        if answered:
            handing.deliver()
        assert self.sends(handing, EMERGENCY, *more) in ("ai_processing_started", "locked")

    @pytest.mark.parametrize("words", [(EMERGENCY, CRISIS), (EMERGENCY,)])
    def test_hands_new_danger_off_again(self, handing: Service, words: tuple[str, ...]) -> None:
        """After the reply the same words are a new message."""
        self.sends(handing, EMERGENCY)
        resume(handing)
        handing.deliver()
        assert self.sends(handing, *words) == "handed_off"


def test_the_same_danger_again_behind_a_resume_is_the_bots(handing: Service) -> None:
    """The platform repeats it, alone or with a new message, before or after the bot's answer."""
    handing.post(says(EMERGENCY, "m0"))
    resume(handing)
    assert handing.post(says(EMERGENCY, "m0")).body["duplicate"] is True
    handing.deliver()
    turns = [{"role": "user", "content": words, "message_id": id_} for id_, words in (("m0", EMERGENCY), ("m1", "ok"))]
    assert handing.post({"messages": turns}).body["status"] == "ai_processing_started"


@pytest.mark.parametrize("last", ["breathe", f"breathe and {URGENT}"])
def test_a_phrase_over_several_requests_is_handed_off_when_it_is_whole(handing: Service, last: str) -> None:
    for words in ("I can't", last):
        handing.post({"messages": [{"role": "user", "content": words}]})
    handing.deliver()
    assert handing.post(says("hello?", "m1")).body["status"] == "handed_off"


def test_a_part_of_a_phrase_that_comes_again_behind_a_resume_hands_nothing_off(handing: Service) -> None:
    for words in ("I can't", "breathe"):
        handing.post({"messages": [{"role": "user", "content": words}]})
    handing.deliver()
    resume(handing)
    again = handing.post({"messages": [{"role": "user", "content": "breathe"}]}).body
    assert (again["duplicate"], again["safety"]["level"]) == (True, "emergency")
    handing.deliver()
    assert read(handing, again["ai_job_id"])["status"] == "completed"


def test_an_urgent_phrase_over_several_requests_is_answered(handing: Service) -> None:
    first, second = (handing.post({"messages": [{"role": "user", "content": words}]}) for words in URGENT.split(" in "))
    assert second.body["safety"]["level"] == "urgent"
    handing.deliver()
    assert read(handing, first.body["ai_job_id"])["status"] == "completed"


@pytest.mark.parametrize("words", [URGENT, "when do you open?"])
def test_anything_else_is_answered(handing: Service, words: str) -> None:
    assert handing.post(says(words, "m0")).body["status"] == "ai_processing_started"


def test_by_default_the_bot_answers(service: Service) -> None:
    assert service.post(says(EMERGENCY, "m0")).body["status"] == "ai_processing_started"


def test_without_postgres_the_bot_answers(handing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("Postgres")

    monkeypatch.setattr(handing.parts.archive, "park", away)
    answer = handing.post(says(EMERGENCY, "m0"))
    assert (answer.body["status"], answer.body["safety"]["level"]) == ("ai_processing_started", "emergency")
    handing.deliver()
    assert read(handing, answer.body["ai_job_id"])["reply"]["content"].startswith(f"{CANARY} {EMERGENCY}")
