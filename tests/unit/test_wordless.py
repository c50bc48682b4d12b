"""A message without words is kept, is answered by nothing, and stops no other message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from message_handler.archive.none import NoArchive
from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import InvalidRequest, Unavailable
from message_handler.domain.records import Record, WordlessRecord
from message_handler.domain.text import is_wordless
from message_handler.intake.requests import parse_request, read_turns
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import MessageLockManager
from message_handler.queue.codec import decode
from tests.unit.service import CANARY, KEY, Answer, ConfiguredArchive, Service
from tests.unit.service import bot as bot_record

NOTHING: dict[str, Any] = {
    "success": True,
    "status": "nothing_to_answer",
    "action": "stored",
    "message": "The message has no words: it is kept, and nothing answers it",
    "ai_job_id": None,
    "consolidated_messages": 0,
}
WORDLESS = ("", " \n\xa0", "\u200b\ufe0f\ufeff")
RASH = f"{CANARY} This is my rash"


def user(content: str, message_id: str | None = None) -> dict[str, str]:
    return {"role": "user", "content": content} | ({"message_id": message_id} if message_id else {})


def bot(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def as_text(*turns: dict[str, str]) -> dict[str, Any]:
    """The turns in the platform's format. The last one's id is the request's."""
    tags = {"user": "USER", "assistant": "BOT", "sale": "SALE"}
    text = "".join("<{0}>{1}</{0}><br>".format(tags[turn["role"]], turn["content"]) for turn in turns)
    return {"history": text, "message_id": turns[-1].get("message_id")}


def as_json(*turns: dict[str, str]) -> dict[str, Any]:
    return {"messages": list(turns)}


def records(service: Service) -> list[Any]:
    return [decode(body) for body, _ in service.queue.sent]


def turns(service: Service) -> list[tuple[str, str, str | None]]:
    found = service.parts.archive.conversation(KEY)
    return [(turn.role, turn.content, turn.message_id) for turn, *_ in found.turns] if found else []


def is_nothing(answer: Answer) -> bool:
    return answer.status == 202 and answer.body == NOTHING


both_forms = pytest.mark.parametrize("form", [as_text, as_json], ids=["text", "JSON"])
any_wordless = pytest.mark.parametrize("empty", WORDLESS, ids=["empty", "blank", "invisible"])


class TestWithWords:
    @both_forms
    @any_wordless
    @pytest.mark.parametrize("place", ["first", "in the middle", "last", "everywhere"])
    def test_an_empty_turn_is_left_out_and_the_rest_is_answered(
        self, service: Service, form: Any, empty: str, place: str
    ) -> None:
        words, hole = [user(RASH), user(f"{CANARY} Help")], user(empty)
        told = {
            "first": [hole, *words],
            "in the middle": [words[0], hole, words[1]],
            "last": [*words, hole],
            "everywhere": [hole, words[0], hole, hole, words[1], hole],
        }[place]
        answer = service.post(form(*told))
        assert (answer.status, answer.body["status"]) == (202, "ai_processing_started")
        assert answer.body["consolidated_messages"] == 2
        (record,) = records(service)
        assert [message.content for message in record.request.messages] == [RASH, f"{CANARY} Help"]
        service.deliver()
        assert [content for role, content, _ in turns(service) if role == "user"] == [RASH, f"{CANARY} Help"]
        job = service.parts.archive.job("default", answer.body["ai_job_id"])
        assert job is not None
        assert job.status == "completed"

    @both_forms
    def test_whole_histories_go_on_behind_one(self, service: Service, form: Any) -> None:
        said = [user(f"{CANARY} Hello"), bot("Yes?"), user("")]
        assert is_nothing(service.post(form(*said)))
        service.deliver()
        said.append(user(RASH))
        assert service.post(form(*said)).body["status"] == "ai_processing_started"
        service.deliver()
        said += [bot("I see"), user(f"{CANARY} Thanks")]
        assert service.post(form(*said)).body["status"] == "ai_processing_started"
        service.deliver()
        assert [content for role, content, _ in turns(service) if role == "user"] == ["", RASH, f"{CANARY} Thanks"]

    @both_forms
    def test_the_response_names_the_job_of_the_words_before_it(self, service: Service, form: Any) -> None:
        answer = service.post(form(user(RASH), user("", "photo-1")))
        assert answer.body["status"] == "ai_processing_started"
        record, kept = records(service)
        assert (type(record), type(kept)) == (Record, WordlessRecord)
        assert record.job_id == answer.body["ai_job_id"]
        assert "photo-1" not in record.request.messages[-1].ids
        service.deliver()
        assert ("user", "", "photo-1") in turns(service)

    @both_forms
    def test_if_the_words_before_it_wait_it_names_their_job(self, service: Service, form: Any) -> None:
        first = service.post(form(user(RASH))).body
        for _ in range(2):
            answer = service.post(form(user(RASH), user("", "photo-1"))).body
            assert (answer["ai_job_id"], answer.get("duplicate")) == (first["ai_job_id"], True)
        service.deliver()
        assert service.post(form(user(RASH), user("", "photo-1"))).body["ai_job_id"] == first["ai_job_id"]
        assert sorted(turn for turn in turns(service) if turn[0] == "user") == [
            ("user", "", "photo-1"),
            ("user", RASH, None),
        ]

    @both_forms
    @pytest.mark.parametrize("message_id", ["m-1", None], ids=["with an id", "without one"])
    def test_if_the_words_before_it_were_answered_there_is_nothing_to_answer(
        self, service: Service, form: Any, message_id: str | None
    ) -> None:
        service.post(form(user(RASH, message_id)))
        service.deliver()
        history = [user(RASH, message_id if form is as_json else None), user("", "photo-1")]
        for _ in range(2):
            assert is_nothing(service.post(form(*history)))
            service.deliver()
        assert [turn for turn in turns(service) if turn[0] == "user"] == [
            ("user", RASH, message_id),
            ("user", "", "photo-1"),
        ]

    @both_forms
    @pytest.mark.parametrize("photo", ["photo-1", None], ids=["with an id", "without one"])
    def test_while_the_job_lives_a_repeated_request_names_it(
        self, service: Service, form: Any, photo: str | None
    ) -> None:
        told = form(user(RASH), user("", photo))
        first = service.post(told).body
        again = service.post(told).body
        assert (again["ai_job_id"], again.get("duplicate")) == (first["ai_job_id"], True)

    @both_forms
    def test_after_the_reply_a_repeated_request_starts_nothing(self, service: Service, form: Any) -> None:
        told = form(user(RASH), user(f"{CANARY} Look"), user(f"{CANARY} Look"), user("", "photo-1"))
        first = service.post(told).body
        service.deliver()
        before = turns(service)
        again = service.post(told).body
        assert (again["ai_job_id"], again.get("duplicate")) == (first["ai_job_id"], True)
        service.deliver()
        assert turns(service) == before
        said = [content for role, content, _ in before if role == "user" and content]
        assert said == [RASH, *2 * [f"{CANARY} Look"]]

    @both_forms
    def test_other_words_before_it_are_answered(self, service: Service, form: Any) -> None:
        service.post(form(user(RASH), user("", "photo-1")))
        service.deliver()
        other = form(user(f"{CANARY} And this"), user("", "photo-1"))
        assert service.post(other).body["status"] == "ai_processing_started"

    @both_forms
    def test_a_caption_that_comes_later_is_answered_once(self, service: Service, form: Any) -> None:
        service.post(form(user(RASH), user("", "photo-1")))
        service.deliver()
        caption = as_json(user(f"{CANARY} My arm", "photo-1"))
        job_id = service.post(caption).body["ai_job_id"]
        service.deliver()
        assert service.post(caption).body["ai_job_id"] == job_id
        service.deliver()
        *first, caption_turn = [turn for turn in turns(service) if turn[0] == "user"]
        # The batch's two records are worked on at once: either turn may be archived first.
        assert sorted(first) == [("user", "", "photo-1"), ("user", RASH, None)]
        assert caption_turn == ("user", f"{CANARY} My arm", "photo-1")

    @both_forms
    @pytest.mark.parametrize("message_id", ["m-1", None], ids=["with an id", "without one"])
    def test_its_id_leads_to_the_job_that_the_response_named(
        self, service: Service, form: Any, message_id: str | None
    ) -> None:
        job_id = service.post(form(user(RASH, message_id), user("", "photo-1"))).body["ai_job_id"]
        parts = service.parts
        jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
        for status in ("pending", "answered"):
            (message,) = jobs.wait_for(job_id, 0, "photo-1")["messages"]
            assert (message["status"], message["job_id"]) == (status, job_id)
            shown = [each["message_id"] for each in jobs.wait_for(job_id, 0)["messages"]]
            assert shown == [message_id if form is as_json and message_id else "photo-1"]
            service.deliver()

    @pytest.mark.parametrize("message_id", ["m-1", None], ids=["with an id", "without one"])
    def test_webhooks_have_its_id(self, service: Service, message_id: str | None) -> None:
        service.post(as_json(user(RASH, message_id), user("", "photo-1")))
        job = service.parts.tiers.tiers[0].waiting(KEY)
        assert job is not None
        assert job.given_ids == (("m-1", "photo-1") if message_id else ("photo-1",))

    def test_a_repeated_request_is_told_the_same_job(self, service: Service) -> None:
        told = as_json(user(RASH, "m-1"), user("", "photo-1"))
        first = service.post(told).body
        service.deliver()
        again = service.post(told).body
        assert (again["ai_job_id"], again.get("duplicate")) == (first["ai_job_id"], True)
        service.deliver()
        assert len([turn for turn in turns(service) if turn[0] == "user"]) == 2

    def test_words_that_come_later_under_its_id_are_answered(self, service: Service) -> None:
        assert is_nothing(service.post(as_json(user("", "photo-1"))))
        service.deliver()
        answer = service.post(as_json(user(RASH, "photo-1")))
        assert answer.body["status"] == "ai_processing_started"
        service.deliver()
        assert turns(service)[-2] == ("user", RASH, "photo-1")


class TestWithoutWords:
    @both_forms
    @any_wordless
    @pytest.mark.parametrize("before", [[], [user(f"{CANARY} Hello"), bot("Yes?")]], ids=["alone", "in a history"])
    def test_alone_it_is_kept_under_its_id_and_has_no_job(
        self, service: Service, form: Any, empty: str, before: list[dict[str, str]]
    ) -> None:
        assert is_nothing(service.post(form(*before, user(empty, "photo-1"))))
        assert service.parts.tiers.tiers[0].locks("default") == []
        assert service.deliver() == {"batchItemFailures": []}
        assert turns(service) == [("user", empty, "photo-1")]
        view = service.http("intake", service.event("intake-get-conversation")).body
        assert [(turn["role"], turn["content"], turn["job_id"]) for turn in view["turns"]] == [("user", empty, None)]
        assert view["pending"] is None

    @pytest.mark.parametrize("message_id", ["photo-1", None], ids=["with an id", "without one"])
    def test_posted_twice_it_is_kept_once(self, service: Service, message_id: str | None) -> None:
        for _ in range(2):
            assert is_nothing(service.post(as_text(user("", message_id))))
        service.deliver()
        assert is_nothing(service.post(as_text(user("", message_id))))
        service.deliver()
        assert turns(service) == [("user", "", message_id)]

    def test_two_with_ids_of_their_own_are_kept_both(self, service: Service) -> None:
        assert is_nothing(service.post(as_json(user("", "photo-1"), user("", "photo-2"))))
        service.deliver()
        assert turns(service) == [("user", "", "photo-1"), ("user", "", "photo-2")]

    def test_without_postgres_the_response_does_not_say_that_it_is_kept(self, service: Service) -> None:
        archive, parts = NoArchive(), service.parts
        service.use(archive=archive, intake=replace(parts.intake, archive=archive))
        answer = service.post(as_json(user("", "photo-1"))).body
        assert answer["status"] == "nothing_to_answer"
        assert answer["message"] == (
            "The message has no words: nothing answers it, and without Postgres it is not kept"
        )

    def test_a_queue_that_refuses_it_is_503(self, service: Service) -> None:
        service.queue.error = Unavailable("the queue")
        assert service.post(as_json(user("", "photo-1"))).status == 503

    @pytest.mark.parametrize("policy", ["consolidate", "enqueue", "interrupt", "reject"])
    def test_it_disturbs_no_job_under_any_policy(self, service: Service, policy: str) -> None:
        first = service.post(as_json(user(RASH, "m-1")) | {"double_texting": policy}).body
        tier = service.parts.tiers.tiers[0]
        before = tier.lock(KEY)
        assert is_nothing(service.post(as_json(user("", "photo-1")) | {"double_texting": policy}))
        assert tier.lock(KEY) == before
        service.deliver()
        job = service.parts.archive.job("default", first["ai_job_id"])
        assert job is not None
        assert job.reply == RASH

    def test_it_belongs_to_the_bot_of_what_waits(self, service: Service) -> None:
        parts, archive = service.parts, ConfiguredArchive(nurse=bot_record("nurse"))
        bots = BotConfigService(parts.tiers, archive, parts.settings)
        service.use(archive=archive, bots=bots, intake=replace(parts.intake, bots=bots))
        service.post(as_json(user(RASH, "m-1")) | {"bot_id": "nurse"})
        assert is_nothing(service.post(as_json(user("", "photo-1"))))
        assert records(service)[-1].bot_id == "nurse"

    def test_while_a_human_answers_it_is_kept_too(self, service: Service) -> None:
        service.post(as_json(user(RASH, "m-1"), {"role": "sale", "content": "I am Ada"}))
        assert is_nothing(service.post(as_json(user("", "photo-1"))))
        service.deliver()
        assert turns(service)[-1] == ("user", "", "photo-1")

    def test_behind_a_humans_turn_the_turn_still_silences_the_bot(self, service: Service) -> None:
        assert is_nothing(service.post(as_json({"role": "sale", "content": "I am Ada"}, user("", "photo-1"))))
        assert service.post(as_json(user(RASH, "m-1"))).body["status"] == "handed_off"

    @pytest.mark.parametrize("texts", [[], [""], ["\u200b", " "]])
    def test_a_program_that_asks_for_a_job_is_told(self, service: Service, texts: list[str]) -> None:
        parts = service.parts
        jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake)
        for call in (jobs.create_ai_processing_job, MessageLockManager(parts.tiers).check_and_acquire_lock):
            with pytest.raises(InvalidRequest, match="words"):
                call("conv_123", texts)
        assert service.queue.sent == []

    def test_its_record_is_read_as_it_was_written(self, service: Service) -> None:
        service.post(as_json(user("\u200b", "photo-1")))
        ((body, delay),) = service.queue.sent
        record = decode(body)
        assert isinstance(record, WordlessRecord)
        assert (record.key, record.bot_id, delay) == (KEY, "default", 0)
        ((said),) = record.messages
        assert (said.message_id, said.content, said.given) == ("photo-1", "\u200b", True)
        assert said.accepted_at > 0
        assert record.correlation_id == json.loads(body)["correlation_id"] != ""


def test_whatever_stands_where_what_has_words_is_what_is_answered() -> None:
    contents = ["", "a", "\u200b", " ", "b", "\ufe0f"]
    said = read_turns(parse_request({"messages": [user(content) for content in contents]}))
    assert [turn.content for turn in said.messages] == ["a", "b"]
    assert [turn.content for turn in said.wordless] == [content for content in contents if is_wordless(content)]
    assert said.ends_wordless
