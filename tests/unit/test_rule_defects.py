"""A defect of the safety rules costs no patient an answer, and one of a tenant's rules hides no danger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from message_handler.domain.errors import AIError
from message_handler.safety import reader, replies
from message_handler.safety.rules import Rules, shipped
from message_handler.safety.screening import Screened, screen
from message_handler.worker import replies as worker_replies
from tests.unit.service import CANARY, Service, says
from tests.unit.test_danger import EMERGENCY, read, safety_in
from tests.unit.test_danger import configured as configure
from tests.unit.test_evidence import ended
from tests.unit.test_safety_rules import OWN, put


def breaks(*_args: Any, **_kwargs: Any) -> None:
    raise ValueError(CANARY)


def fails(*_: Any) -> str:
    raise AIError("ai_failed", "The AI failed.")


def reply_of(service: Service, job_id: str) -> str:
    reply = read(service, job_id)["reply"]
    assert reply
    return str(reply["content"])


def own_rules_break(rules: Rules, texts: Sequence[str], *, only_joined: bool = False) -> Screened | None:
    if rules is not shipped():
        raise ValueError(CANARY)
    return screen(rules, texts, only_joined=only_joined)


class TestOfTheShippedRules:
    @pytest.mark.parametrize("after_danger", ["answer", "silent"])
    def test_a_job_ends_as_without_danger(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, after_danger: str
    ) -> None:
        configure(service, after_danger=after_danger)
        monkeypatch.setattr(reader, "screen", breaks)
        service.ai.script = lambda *_: "Drink water."
        answer = service.post(says(EMERGENCY, "m0"))
        assert answer.status == 202
        job = ended(service)
        assert (job.status, job.findings) == ("completed", ())
        assert reply_of(service, job.job_id) == "Drink water."
        defects = [log for log in service.output.logs if log["message"] == "the safety rules can't read a text"]
        assert {log["error"] for log in defects} == {"ValueError"}
        assert {log.get("ai_job_id") for log in defects} == {None, job.job_id}

    def test_a_job_that_fails_has_its_notice(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(service, failure_message="We are sorry.")
        monkeypatch.setattr(reader, "screen", breaks)
        service.ai.script = fails
        job_id = service.post(says(EMERGENCY, "m0")).body["ai_job_id"]
        service.deliver()
        assert read(service, job_id)["error"]["notice"] == "We are sorry."

    def test_a_reply_is_given_although_the_rules_for_replies_can_not_read_it(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replies, "reply_rules", breaks)
        notice = service.post(says(EMERGENCY, "m0")).body["safety"]["notice"]
        job = ended(service)
        assert notice in reply_of(service, job.job_id)


class TestOfATenantsRules:
    def test_the_shipped_ones_find_danger(self, configured: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        assert put(configured, {"rules": [OWN]}).status == 200
        monkeypatch.setattr(reader, "screen", own_rules_break)
        answer = configured.post(says(EMERGENCY, "m0"))
        assert safety_in(answer.body)["level"] == "emergency"
        configured.deliver()
        assert answer.body["safety"]["notice"] in reply_of(configured, answer.body["ai_job_id"])

    def test_the_worker_reads_by_the_shipped_ones_if_they_can_not_be_had(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker_replies, "rules_of", breaks)
        service.post(says(EMERGENCY, "m0"))
        assert [found.level for found in ended(service).findings] == ["emergency"]


def test_a_run_reads_its_messages_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.post(says(EMERGENCY, "m0"))
    texts: list[Sequence[str]] = []

    def counts(rules: Rules, given: Sequence[str]) -> Screened | None:
        texts.append(given)
        return screen(rules, given)

    monkeypatch.setattr(reader, "screen", lambda rules, given, **_: counts(rules, given))
    ended(service)
    assert texts == [[f"{CANARY} {EMERGENCY}"]]
