"""No patient reads a reply that claims to be a doctor's, and none in danger one that advises against help."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.domain.errors import AIError
from message_handler.domain.jobs import Usage
from message_handler.worker import asking
from tests.unit.service import CANARY, Service, says
from tests.unit.test_danger import EMERGENCY, URGENT, configured, read

CLAIM = f"{CANARY} I am a licensed doctor."
AGAINST_HELP = f"{CANARY} Do not call an ambulance."
EVERYDAY = "when do you open?"


def ended(service: Service, words: str, reply: str, **meta_data: Any) -> dict[str, Any]:
    """The job of a message to which the AI gives this reply."""
    if meta_data:
        configured(service, **meta_data)
    service.ai.script = lambda _prompt, _watch: reply
    answer = service.post(says(words))
    service.deliver()
    return read(service, answer.body["ai_job_id"])


def code(job: dict[str, Any]) -> str | None:
    """Why the job failed."""
    return (job.get("error") or {}).get("code")


class TestRefusing:
    @pytest.mark.parametrize(("words", "reply"), [(EVERYDAY, CLAIM), (EMERGENCY, CLAIM), (EMERGENCY, AGAINST_HELP)])
    def test_the_job_fails_and_the_patient_gets_the_notice(self, service: Service, words: str, reply: str) -> None:
        job = ended(service, words, reply, failure_message="We are sorry.")
        assert (job["status"], code(job)) == ("failed", "reply_refused")
        assert job["error"]["notice"].startswith("We are sorry.")
        assert reply not in str(job)
        metrics = service.output.metrics
        assert (metrics["RepliesRefused"], metrics["JobsFailed"]) == ([1], [1])

    def test_what_is_no_harm_to_a_patient_without_danger_is_given(self, service: Service) -> None:
        job = ended(service, EVERYDAY, AGAINST_HELP)
        assert code(job) is None
        assert job["reply"]["content"] == AGAINST_HELP

    def test_danger_that_was_told_before_counts(self, service: Service) -> None:
        answered = ended(service, URGENT, f"{CANARY} Please see a doctor today.")
        assert answered["status"] == "completed"
        assert code(ended(service, "should I go there?", AGAINST_HELP)) == "reply_refused"

    def test_no_other_ai_is_asked(self, service: Service) -> None:
        asked: list[Prompt] = []

        def claims(prompt: Prompt, _watch: Watch) -> str:
            asked.append(prompt)
            return CLAIM

        service.ai.script = claims
        service.post(says(EVERYDAY))
        service.deliver()
        assert len(asked) == 1

    def test_the_tokens_are_counted(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def complete(_prompt: Prompt, _watch: Watch) -> Completion:
            return Completion(CLAIM, usage=Usage(3, 4))

        monkeypatch.setattr(service.ai, "complete", complete)
        job = ended(service, EVERYDAY, CLAIM)
        assert (code(job), job["usage"]["output_tokens"]) == ("reply_refused", 4)


class TestTheFailureNotice:
    def test_carries_the_way_to_help(self, service: Service) -> None:
        configured(service, failure_message="We are sorry.")

        def fails(_prompt: Prompt, _watch: Watch) -> str:
            raise AIError("ai_failed", "The AI failed.")

        service.ai.script = fails
        answer = service.post(says(EMERGENCY))
        service.deliver()
        error = read(service, answer.body["ai_job_id"])["error"]
        assert error["notice"] == f"We are sorry.\n\n{answer.body['safety']['notice']}"


class TestWhileItIsWritten:
    @pytest.mark.parametrize(("text", "shown"), [(CLAIM, None), ("Drink.", "Drink.")])
    def test_a_patient_reads_nothing_that_is_refused(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, text: str, shown: str | None
    ) -> None:
        monkeypatch.setattr(asking, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(asking, "PROGRESS_SECONDS", 0.0)
        seen = []

        def writes(_prompt: Prompt, watch: Watch) -> str:
            watch(text)
            seen.append(read(service, answer.body["ai_job_id"])["progress"])
            return text

        configured(service, show_partial_reply=True)
        service.ai.script = writes
        answer = service.post(says(EVERYDAY))
        service.deliver()
        (progress,) = seen
        assert progress.get("text") == shown
