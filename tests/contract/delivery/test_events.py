"""What an event tells a platform of a reply or a failure, and what no log may tell."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobError, JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.records import DeliveryRecord
from message_handler.queue.codec import decode, encode
from tests.contract.chat import named
from tests.contract.conversation import ENDED
from tests.contract.delivery.office import CANARY, CLINIC, SECRET, Office


def fails(job: Job, notice: str | None = "Please call us.") -> Job:
    error = JobError("ai_failed", "The AI gave no answer.", notice)
    return replace(job, status=JobStatus.FAILED, error=error, finished_at=ENDED)


class TestEvents:
    def test_a_reply_is_told_with_all_that_names_it(self, office: Office) -> None:
        receiver = office.platform(webhook_path="/replies")
        talk = office.talk()
        said = (Message("minted", "a"), Message("m1", "b", given=True, aliases=("m1-again",)))
        job = replace(talk.job(1, *said), correlation_id="corr-1")
        assert office.archive.commit(talk.completed(job, "Rest. 💊"), talk.number(job))
        office.works(talk.key)
        (told,) = receiver.told
        assert told.path == "/hook/replies"
        assert told.headers["content-type"] == "application/json"
        assert told.headers["x-correlation-id"] == "corr-1"
        assert told.headers["webhook-id"] == f"msg_{job.job_id}"
        assert told.headers["webhook-timestamp"] == str(int(office.clock()))
        assert told.event == {
            "type": "message.replied",
            "timestamp": "2026-09-21T14:13:22.750Z",
            "data": {
                "conversation_id": "patient-1",
                "job_id": job.job_id,
                "bot_id": job.bot_id,
                "message_ids": ["m1", "m1-again"],
                "consolidated_messages": 2,
                "reply": {"role": "assistant", "content": "Rest. 💊"},
                "notice": None,
                "error": None,
                "correlation_id": "corr-1",
                "provenance": None,
            },
        }
        assert office.rows() == [(told.webhook_id, "delivered", 1, None)]

    def test_a_failure_event_has_the_patients_notice_and_not_the_errors_text(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        assert office.archive.commit(fails(job), talk.number(job))
        office.works(talk.key)
        (told,) = receiver.told
        assert told.event["type"] == "message.failed"
        data = told.event["data"]
        assert (data["reply"], data["notice"], data["error"]) == (None, "Please call us.", {"code": "ai_failed"})
        assert "x-correlation-id" not in told.headers
        assert office.states() == ["delivered"]

    def test_the_replies_of_a_conversation_leave_in_the_order_of_their_commits(self, office: Office) -> None:
        receiver = office.platform()
        talk = office.talk()
        for number in range(1, 6):
            talk.answer(number, f"m{number}", reply=str(number))
        office.works(talk.key)
        assert receiver.replies == ["1", "2", "3", "4", "5"]

    def test_successes_failures_and_the_time_to_deliver_are_measured(self, office: Office) -> None:
        receiver = office.platform()
        office.talk().answer(1, "m0")
        receiver.answers(503)
        office.works(office.talk().key)
        assert office.counted() == {"DeliveriesFailed": 1}
        receiver.answers(204)
        office.passes(60)
        delivered = office.counted()
        assert delivered["DeliveriesSucceeded"] == 1
        assert delivered["TimeToDeliver"] == pytest.approx(1000 * (office.clock() - ENDED), abs=61_000)
        assert set(delivered) == {"DeliveriesSucceeded", "TimeToDeliver"}


def test_no_text_secret_or_address_is_in_a_log_or_a_metric(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver = office.platform()
    for status in (200, 302, 410, 429, 500):
        talk = office.talk(f"patient-{status}")
        talk.answer(1, named("m0", CANARY), reply=CANARY)
        receiver.answers(status)
        office.works(talk.key)
        office.passes(30)
    receiver.stops()
    office.talk().answer(1, named("m0", CANARY), reply=CANARY)
    office.clock.advance(3600)
    office.works(office.talk().key)
    receiver.starts()
    logged = "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    for failure in ("http_302", "http_410", "http_429", "http_500", "no_answer"):
        assert failure in logged
    for private in (CANARY, SECRET, SECRET.removeprefix("whsec_"), str(receiver.port)):
        assert private not in logged


def test_a_delivery_record_names_a_conversation_and_nothing_else() -> None:
    record = DeliveryRecord(ConversationKey(CLINIC, "patient-1"))
    assert json.loads(encode(record)) == {"deliver": {"platform_id": CLINIC, "conversation_id": "patient-1"}}
    assert decode(encode(record)) == record
