"""While a conversation is raised, each of its replies carries the way to a human."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.domain.errors import AIError, Unavailable
from message_handler.worker import asking
from tests.unit.service import CANARY, Service, says
from tests.unit.test_danger import CRISIS, EMERGENCY, URGENT, configured, read
from tests.unit.test_raised import close, drill, take
from tests.unit.test_refused_replies import AGAINST_HELP, EVERYDAY, code


@pytest.fixture
def english(service: Service) -> Service:
    """A bot that speaks English, whose AI gets only what is new."""
    configured(service, max_context_messages=1, failure_message="We are sorry.")
    archive = service.parts.archive
    service.use(raised=archive.raised, audit=archive.audit)  # type: ignore[attr-defined]
    return service


def asked(service: Service, words: str, message_id: str | None = None) -> dict[str, Any]:
    """The job of a message once it is answered, with the `safety` of the answer to the request."""
    answer = service.post(says(words, message_id))
    service.deliver()
    return read(service, answer.body["ai_job_id"]) | {"safety": answer.body.get("safety", {})}


def reply(service: Service, words: str) -> str:
    text: str = asked(service, words)["reply"]["content"]
    return text


def without_postgres(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("Postgres")

    for step in ("fence", "commit", "note_raised"):
        monkeypatch.setattr(service.parts.archive, step, away)


@pytest.mark.parametrize("words", [EMERGENCY, CRISIS])
def test_each_reply_carries_it_until_a_person_closes(english: Service, words: str) -> None:
    raised = asked(english, words)["safety"]
    helped = f"{CANARY} {EVERYDAY}\n\n{raised['notice']}"
    assert reply(english, EVERYDAY) == helped
    take(english, raised["notice_job_id"])
    assert reply(english, EVERYDAY) == helped, "a person has taken it"
    close(english, raised["notice_job_id"])
    assert reply(english, EVERYDAY) == f"{CANARY} {EVERYDAY}"


def test_a_message_with_danger_of_its_own_has_one_notice(english: Service) -> None:
    emergency = asked(english, EMERGENCY)["safety"]["notice"]
    assert reply(english, EMERGENCY) == f"{CANARY} {EMERGENCY}\n\n{emergency}"
    assert reply(english, URGENT) == f"{CANARY} {URGENT}\n\n{emergency}", "the urgent one names no way to a human"
    crisis = asked(english, CRISIS)
    assert crisis["reply"]["content"] == f"{CANARY} {CRISIS}\n\n{crisis['safety']['notice']}"


def test_an_urgent_message_raises_nothing(english: Service) -> None:
    asked(english, URGENT)
    assert reply(english, EVERYDAY) == f"{CANARY} {EVERYDAY}"


def test_a_drill_changes_no_reply(english: Service) -> None:
    assert drill(english, {"conversation_id": "conv_123"}).status == 201
    assert reply(english, EVERYDAY) == f"{CANARY} {EVERYDAY}"


def test_a_failure_notice_carries_it(english: Service) -> None:
    notice = asked(english, EMERGENCY)["safety"]["notice"]

    def fails(_prompt: Prompt, _watch: Watch) -> str:
        raise AIError("ai_failed", "The AI failed.")

    english.ai.script = fails
    assert asked(english, EVERYDAY)["error"]["notice"] == f"We are sorry.\n\n{notice}"


def test_no_reply_advises_against_help_although_the_model_saw_no_danger(english: Service) -> None:
    asked(english, EMERGENCY)
    contexts = []

    def advises(prompt: Prompt, _watch: Watch) -> str:
        contexts.append(prompt.context)
        return AGAINST_HELP

    english.ai.script = advises
    assert code(asked(english, EVERYDAY)) == "reply_refused"
    assert contexts == [()]


def test_nor_does_a_reply_that_is_being_written(english: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(english, EMERGENCY)
    configuration = english.parts.archive.bots["default"]  # type: ignore[attr-defined]
    configuration["meta_data"]["show_partial_reply"] = True
    english.parts.worker.bots = type(english.parts.bots)(
        english.parts.tiers, english.parts.archive, english.parts.settings
    )
    monkeypatch.setattr(asking, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(asking, "PROGRESS_SECONDS", 0.0)
    seen = []

    def writes(_prompt: Prompt, watch: Watch) -> str:
        for text in ("Drink.", AGAINST_HELP):
            watch(text)
            seen.append(read(english, answer.body["ai_job_id"])["progress"].get("text"))
        return "Drink."

    english.ai.script = writes
    answer = english.post(says(EVERYDAY))
    english.deliver()
    assert seen == ["Drink.", None]


class TestWhilePostgresIsAway:
    def test_the_turns_that_the_platform_sends_tell_it(self, english: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        configured(english)
        without_postgres(english, monkeypatch)
        turns = [
            {"role": "user", "content": f"{CANARY} {CRISIS}"},
            {"role": "assistant", "content": "I am here."},
            {"role": "user", "content": f"{CANARY} {EVERYDAY}"},
        ]
        answer = english.post({"messages": turns})
        english.deliver()
        text = read(english, answer.body["ai_job_id"])["reply"]["content"]
        assert text.startswith(f"{CANARY} {EVERYDAY}\n\nYou do not have to face this alone.")

    @pytest.mark.parametrize(("role", "words"), [("user", URGENT), ("assistant", CRISIS)], ids=["urgent", "bot"])
    def test_an_urgent_turn_or_one_of_the_bot_does_not(
        self, english: Service, monkeypatch: pytest.MonkeyPatch, role: str, words: str
    ) -> None:
        configured(english)
        without_postgres(english, monkeypatch)
        turns = [
            {"role": role, "content": f"{CANARY} {words}"},
            {"role": "assistant", "content": "Good day."},
            {"role": "user", "content": f"{CANARY} {EVERYDAY}"},
        ]
        answer = english.post({"messages": turns})
        english.deliver()
        assert read(english, answer.body["ai_job_id"])["reply"]["content"] == f"{CANARY} {EVERYDAY}"
