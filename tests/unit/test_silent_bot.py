"""After danger no AI is asked, if the bot is configured so. Each message has one reply all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from message_handler.ai.port import Prompt, Watch
from message_handler.domain.notices import silence
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import CANARY, KEY, Service, bot, quote
from tests.unit.test_danger import CRISIS, EMERGENCY, URGENT, configured
from tests.unit.test_raised import close, take
from tests.unit.test_raised_replies import EVERYDAY, asked, without_postgres

SILENCE = silence(bot("default", language="en"))
DISCLOSURE = "You are talking to an AI."


@pytest.fixture
def prompts() -> list[Prompt]:
    """What the AI was asked."""
    return []


@pytest.fixture
def silent(service: Service, prompts: list[Prompt]) -> Service:
    configured(service, after_danger="silent", disclosure=DISCLOSURE)
    archive = service.parts.archive
    service.use(raised=archive.raised, audit=archive.audit)  # type: ignore[attr-defined]

    def answers(prompt: Prompt, watch: Watch) -> str:
        prompts.append(prompt)
        return quote(prompt, watch)

    service.ai.script = answers
    return service


@pytest.mark.parametrize("words", [EMERGENCY, CRISIS])
def test_no_ai_is_asked_and_the_reply_has_the_notice(silent: Service, prompts: list[Prompt], words: str) -> None:
    job = asked(silent, words)
    assert job["status"] == "completed"
    assert job["reply"]["content"] == f"{DISCLOSURE}\n\n{SILENCE}\n\n{job['safety']['notice']}"
    assert (job["provenance"], job["usage"], prompts) == (None, None, [])
    assert "AITime" not in silent.output.metrics


def test_until_a_person_closes_it(silent: Service, prompts: list[Prompt]) -> None:
    raised = asked(silent, EMERGENCY)["safety"]
    assert asked(silent, EVERYDAY)["reply"]["content"] == f"{SILENCE}\n\n{raised['notice']}"
    take(silent, raised["notice_job_id"])
    close(silent, raised["notice_job_id"])
    assert prompts == []
    assert asked(silent, EVERYDAY)["reply"]["content"] == f"{CANARY} {EVERYDAY}"


@pytest.mark.parametrize("words", [URGENT, EVERYDAY])
def test_anything_else_is_answered(silent: Service, words: str) -> None:
    assert f"{CANARY} {words}" in asked(silent, words)["reply"]["content"]


def test_while_postgres_is_away_it_is_silent_too(
    silent: Service, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(silent, EVERYDAY)
    without_postgres(silent, monkeypatch)
    assert SILENCE in asked(silent, EMERGENCY)["reply"]["content"]
    assert len(prompts) == 1


def test_every_language_has_words_for_it() -> None:
    texts = {silence(bot("default", language=language)) for language in ("vi", "en", "de", "es", "fr")}
    assert len(texts) == 5
    assert silence(bot("default", language="pt")) == SILENCE


#: Which of the bot's turns a platform shows, and sends back: of a request's answer and of the job's reply.
Shown = Callable[[dict[str, Any], str], list[str]]
SHOWN: dict[str, Shown] = {
    "reply": lambda _, reply: [reply],
    "notice and reply": lambda safety, reply: [*safety.values(), reply],
    "notice": lambda safety, _: [*safety.values()],
    "nothing": lambda *_: [],
}
WORDS = (EMERGENCY, "hello?", CRISIS, "thanks")


def forget(service: Service) -> None:
    """The tier loses all that it knows."""
    tiers = Failover(MemoryTier(service.parts.settings))
    service.parts.worker.tiers = tiers
    service.use(tiers=tiers, intake=replace(service.parts.intake, tiers=tiers))


def talk(service: Service, shown: Shown, *, ids: bool, forgets: bool) -> list[tuple[str, str]]:
    """A patient in danger writes again and again; each time the platform sends its whole history.

    Returns the turns that are archived.
    """
    turns: list[dict[str, Any]] = []
    for number, words in enumerate(WORDS):
        message = {"role": "user", "content": f"{CANARY} {words}"}
        turns.append(message | ({"message_id": f"m{number}"} if ids else {}))
        answer = service.post({"messages": turns})
        assert answer.status == 202
        service.deliver()
        found = service.parts.archive.conversation(KEY)
        assert found is not None
        safety = answer.body.get("safety", {})
        texts = shown({name: safety[name] for name in safety if name == "notice"}, found.turns[-1].turn.content)
        turns += [{"role": "assistant", "content": text} for text in texts]
        if forgets:
            forget(service)
    return [(said.turn.role, said.turn.content) for said in found.turns]


def assert_each_has_one_reply(turns: list[tuple[str, str]]) -> None:
    assert [content for role, content in turns if role == "user"] == [f"{CANARY} {words}" for words in WORDS]
    assert [role for role, _ in turns] == ["user", "assistant"] * len(WORDS)
    assert all(SILENCE in content for role, content in turns if role == "assistant")


class TestOneReplyForEachMessage:
    @pytest.mark.parametrize("shown", SHOWN)
    @pytest.mark.parametrize("forgets", [False, True])
    def test_with_the_platforms_ids(self, silent: Service, prompts: list[Prompt], shown: str, forgets: bool) -> None:
        assert_each_has_one_reply(talk(silent, SHOWN[shown], ids=True, forgets=forgets))
        assert prompts == []

    @pytest.mark.parametrize("shown", ["reply", "notice and reply"])
    @pytest.mark.parametrize("forgets", [False, True])
    def test_without_ids_if_the_history_has_the_reply(
        self, silent: Service, prompts: list[Prompt], shown: str, forgets: bool
    ) -> None:
        assert_each_has_one_reply(talk(silent, SHOWN[shown], ids=False, forgets=forgets))
        assert prompts == []

    @pytest.mark.parametrize("shown", ["notice", "nothing"])
    def test_without_ids_and_without_the_reply_older_messages_may_be_answered_again(
        self, silent: Service, prompts: list[Prompt], shown: str
    ) -> None:
        """As with any reply that a platform keeps out of its history. No message is missed, and no AI is asked."""
        turns = talk(silent, SHOWN[shown], ids=False, forgets=False)
        assert {content for role, content in turns if role == "user"} == {f"{CANARY} {words}" for words in WORDS}
        assert prompts == []

    @pytest.mark.parametrize("ids", [True, False])
    @pytest.mark.parametrize("forgets", [False, True])
    def test_a_history_that_ends_with_the_reply_asks_for_nothing(
        self, silent: Service, ids: bool, forgets: bool
    ) -> None:
        job = asked(silent, EMERGENCY, message_id="m0" if ids else None)
        if forgets:
            forget(silent)
        turns = [
            {"role": "user", "content": f"{CANARY} {EMERGENCY}"} | ({"message_id": "m0"} if ids else {}),
            {"role": "assistant", "content": job["safety"]["notice"]},
            {"role": "assistant", "content": job["reply"]["content"]},
        ]
        assert silent.post({"messages": turns}).status == 400

    def test_a_history_that_ends_with_the_notice_is_a_duplicate_by_the_id(self, silent: Service) -> None:
        job = asked(silent, EMERGENCY, message_id="m0")
        turns = [
            {"role": "user", "content": f"{CANARY} {EMERGENCY}", "message_id": "m0"},
            {"role": "assistant", "content": job["safety"]["notice"]},
        ]
        again = silent.post({"messages": turns})
        assert (again.body["duplicate"], again.body["ai_job_id"]) == (True, job["job_id"])
