"""A worker keeps with each message what the rules have found in it, and where: no text."""

from __future__ import annotations

import pytest

from message_handler.archive.memory import MemoryArchive
from message_handler.domain.jobs import Job
from message_handler.safety.rules import shipped
from tests.unit.service import CANARY, KEY, Service, says
from tests.unit.test_danger import EMERGENCY, LEVELS, configured, read


def ended(service: Service) -> Job:
    """The only job that answers messages."""
    service.deliver()
    archive = service.parts.archive
    assert isinstance(archive, MemoryArchive)
    jobs = archive.jobs(KEY.platform_id, status=None, conversation_id=None, behind=None, most=9)
    (job,) = [job for job in jobs if job.kind == "reply"]
    return job


@pytest.mark.parametrize("words", LEVELS)
@pytest.mark.parametrize("after_danger", ["answer", "silent"])
def test_a_message_keeps_its_danger(service: Service, words: str, after_danger: str) -> None:
    configured(service, after_danger=after_danger)
    safety = service.post(says(words, "m0")).body["safety"]
    findings = ended(service).findings
    assert [(found.message_id, found.level, found.rule) for found in findings] == [
        ("m0", LEVELS[words], safety["rule"])
    ]
    (found,) = findings
    assert found.rules_version == shipped().version
    text = f"{CANARY} {words}"
    matched = [text[start:end] for start, end in found.place]
    assert matched
    assert all(word in words.split() for word in matched), "the place is in the message as it was sent"


def test_a_phrase_over_two_messages_is_found_in_both(service: Service) -> None:
    turns = [
        {"role": "user", "content": words, "message_id": id_} for id_, words in (("m0", "I can't"), ("m1", "breathe"))
    ]
    service.output.private |= {"can't", "breathe"}
    service.post({"messages": turns})
    assert [found.message_id for found in ended(service).findings] == ["m0", "m1"]


def test_everyday_talk_keeps_none(service: Service) -> None:
    service.post(says("when do you open?", "m0"))
    assert ended(service).findings == ()


def test_a_failed_job_keeps_them_too(service: Service) -> None:
    service.ai.script = lambda *_: "I am a licensed doctor."
    job_id = service.post(says(EMERGENCY, "m0")).body["ai_job_id"]
    assert [found.level for found in ended(service).findings] == ["emergency"]
    assert read(service, job_id)["status"] == "failed"
