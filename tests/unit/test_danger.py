"""Danger in a patient's message: each answer has the notice, whatever else becomes of the request."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import MessageHandlerError, Unavailable, safety_of
from message_handler.domain.messages import Request
from message_handler.domain.raised import Raised
from message_handler.domain.records import NoticeRecord
from message_handler.drivers import combiner
from message_handler.drivers.combiner import Combiner
from message_handler.intake.intake import Intake
from message_handler.intake.requests import MAX_HISTORY_BYTES, request_of
from message_handler.protocol.results import Accepted
from message_handler.queue.codec import decode
from message_handler.safety import reader
from message_handler.safety.notices import notice_of
from message_handler.safety.rules import shipped
from message_handler.safety.screening import screen
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import CANARY, KEY, Answer, ConfiguredArchive, Service, bot, load_event, says
from tests.unit.test_combiner import Store

EMERGENCY, CRISIS, URGENT = "I can't breathe", "I want to kill myself", "there is blood in my urine"
LEVELS = {EMERGENCY: "emergency", CRISIS: "crisis", URGENT: "urgent"}
PLATFORM = bot("default")["platform"]


def configured(service: Service, *, platform: dict[str, Any] | None = None, **meta_data: Any) -> None:
    """Give the default bot this configuration."""
    of_platform = PLATFORM | {"meta_data": platform or {}}
    bots_ = {id_: bot(id_, language="en", platform=of_platform, meta_data=meta_data) for id_ in ("default", "nurse")}
    archive = ConfiguredArchive(**bots_)
    bots = BotConfigService(service.parts.tiers, archive, service.parts.settings)
    service.use(archive=archive, bots=bots, intake=replace(service.parts.intake, archive=archive, bots=bots))
    service.parts.worker.archive, service.parts.worker.bots = archive, bots


def read(service: Service, job_id: str) -> dict[str, Any]:
    event = service.event("status-get-job", pathParameters={"job_id": job_id}, queryStringParameters=None)
    answer = service.http("status", event)
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


def safety_in(body: dict[str, Any]) -> dict[str, Any]:
    assert "safety" in body
    found: dict[str, Any] = body["safety"]
    return found


class TestEachAnswer:
    @pytest.mark.parametrize("words", [EMERGENCY, CRISIS])
    def test_names_the_notice_which_is_a_job_of_its_own(self, service: Service, words: str) -> None:
        answer = service.post(says(words, "m0"))
        safety = safety_in(answer.body)
        assert (answer.status, safety["level"]) == (202, LEVELS[words])
        notice = read(service, safety["notice_job_id"])
        assert (notice["kind"], notice["status"], notice["messages"]) == ("notice", "completed", [])
        assert notice["reply"]["content"] == safety["notice"]
        assert read(service, answer.body["ai_job_id"])["status"] == "pending", "the notice settles no message"

    def test_is_logged_by_its_danger(self, service: Service) -> None:
        service.post(says(EMERGENCY))
        (log,) = [log for log in service.output.logs if log["message"] == "danger"]
        assert (log["level"], log["danger"]) == ("WARNING", "emergency")

    @pytest.mark.parametrize("after_danger", ["answer", "human"])
    def test_reads_the_messages_once(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, after_danger: str
    ) -> None:
        configured(service, after_danger=after_danger)
        read = []

        def counts(rules: Any, texts: Any, **kwargs: Any) -> Any:
            read.append(texts)
            return screen(rules, texts, **kwargs)

        monkeypatch.setattr(reader, "screen", counts)
        service.post(says(EMERGENCY, "m0"))
        assert read == [[f"{CANARY} {EMERGENCY}"]]

    def test_to_everyday_talk_has_none(self, service: Service) -> None:
        assert "safety" not in service.post(says("thank you, see you on Monday")).body

    def test_names_one_notice_for_a_level_and_an_hour(self, service: Service) -> None:
        now = 1_796_000_000.0
        ids = []
        for words, seconds in ((EMERGENCY, 0), ("my chest hurts, I can't breathe", 1), (CRISIS, 2), (EMERGENCY, 3600)):
            intake = service.parts.intake
            service.use(intake=replace(intake, clock=lambda seconds=seconds: now + seconds))
            ids.append(safety_in(service.post(says(words)).body)["notice_job_id"])
        assert ids[0] == ids[1]
        assert len(set(ids)) == 3

    def test_speaks_of_what_the_patient_has_split_over_several_messages(self, service: Service) -> None:
        assert "safety" not in service.post({"messages": [{"role": "user", "content": "I can't"}]}).body
        safety = safety_in(service.post({"messages": [{"role": "user", "content": "breathe"}]}).body)
        assert safety["level"] == "emergency"

    def test_speaks_of_what_is_split_behind_an_emergency_that_waits(self, service: Service) -> None:
        levels = []
        for words in (EMERGENCY, "I am thinking about", "suicide"):
            answer = service.post({"messages": [{"role": "user", "content": words}]})
            levels.append(answer.body.get("safety", {}).get("level"))
        assert levels == ["emergency", None, "crisis"]

    def test_reads_each_message_of_a_burst_alone_once(self, service: Service, monkeypatch: Any) -> None:
        """When it comes. Later it is only read joined with others."""
        read = []

        def counts(rules: Any, texts: Any, **kwargs: Any) -> Any:
            read.append(0 if kwargs.get("only_joined") else len(texts))
            return screen(rules, texts, **kwargs)

        monkeypatch.setattr(reader, "screen", counts)
        for number in range(12):
            service.post(says(f"question {number}", f"m{number}"))
        assert sum(read) == 12

    def test_speaks_of_what_the_patient_has_split_while_a_human_answers(self, service: Service) -> None:
        with_a_human(service)
        assert "safety" not in service.post({"messages": [{"role": "user", "content": "I can't"}]}).body
        answer = service.post({"messages": [{"role": "user", "content": "breathe"}]}).body
        assert (answer["status"], safety_in(answer)["level"]) == ("handed_off", "emergency")

    def test_speaks_of_an_edit(self, service: Service) -> None:
        assert "safety" not in service.post(says("I can breathe", "m0")).body
        edited = service.post(says(EMERGENCY, "m0")).body
        assert (edited["edited"], safety_in(edited)["level"]) == (True, "emergency")


def rejecting(service: Service) -> int:
    configured(service, double_texting="reject")
    assert service.post(says("hello", "m0")).status == 202
    return 409


def limited(service: Service) -> int:
    configured(service, platform={"rate_limit_per_minute": 1})
    assert service.post(says("hello", "m0")).status == 202
    return 429


def without_queue(service: Service) -> int:
    service.queue.error = Unavailable("SQS")
    return 503


def with_a_human(service: Service) -> int:
    assert service.post(says("hello", "m0")).status == 202
    event = service.event("intake-handoff", body='{"to": "human"}')
    assert service.http("intake", event).status == 200
    return 202


def with_a_defect(service: Service) -> int:
    service.queue.error = RuntimeError(CANARY)  # type: ignore[assignment]
    return 500


def invalid(*_: Any) -> None:
    TypeAdapter(int).validate_python("no number")


def undecodable(*_: Any) -> None:
    b"\xff".decode()


def uncopyable(*_: Any) -> None:
    class OddError(Exception):
        def __init__(self, *, size: int) -> None:
            super().__init__(f"the size is {size}")

    raise OddError(size=3)


class TestWhateverBecomesOfTheRequest:
    @pytest.mark.parametrize("state", [rejecting, limited, without_queue, with_a_human, with_a_defect])
    @pytest.mark.parametrize("words", LEVELS)
    def test_its_answer_has_the_notice(self, service: Service, state: Callable[[Service], int], words: str) -> None:
        status = state(service)
        event = load_event("intake-post-message") | {"body": json.dumps(says(words, "m1"))}
        answer = service.invoke("intake", event)
        safety = safety_in(json.loads(answer["body"]))
        assert answer["statusCode"] == status
        assert safety["level"] == LEVELS[words]
        assert safety["notice"]

    def test_another_request_that_fails_with_the_same_error_has_no_notice(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store whose answers are combined raises one error in the threads of several requests."""
        monkeypatch.setattr(combiner, "COMPANY_SECONDS", 20)
        store = Store()
        store.raises_at = (2, Unavailable("Redis"))
        asked = Combiner(store.run)
        both_know, errors = threading.Barrier(2, timeout=20), list[Exception]()

        class Shared(MemoryTier):
            def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
                try:
                    asked.ask(2)
                except Unavailable as error:
                    errors.append(error)
                    both_know.wait()
                    if request.messages[0].content != EMERGENCY:
                        assert told.wait(20)
                    raise
                raise AssertionError

        told = threading.Event()
        tiers = Failover(Shared(Settings()))
        intake = replace(service.parts.intake, tiers=tiers)

        def post(words: str) -> Exception:
            with pytest.raises(Unavailable) as refused:
                intake.handle(KEY, request_of([words]))
            if words == EMERGENCY:
                told.set()
            return refused.value

        with ThreadPoolExecutor(3) as threads:
            threads.submit(asked.ask, 1)
            assert store.reached.wait(20)
            answers = [threads.submit(post, words) for words in (EMERGENCY, "hello")]
            while asked.waiting < 2 and not any(answer.done() for answer in answers):
                time.sleep(0.001)
            store.let_go.set()
            in_danger, other = (answer.result() for answer in answers)
        assert errors[0] is errors[1]
        assert safety_of(other) is None
        assert (safety_of(in_danger) or {})["level"] == "emergency"
        assert (str(in_danger), vars(in_danger)["retry_after"]) == (str(other), vars(other)["retry_after"])

    @pytest.mark.parametrize("breaks", [invalid, undecodable, uncopyable])
    def test_an_error_of_any_type_has_the_notice(
        self, service: Service, breaks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Intake, "_handle", breaks)
        answer = service.post(says(EMERGENCY))
        assert (answer.status, safety_in(answer.body)["level"]) == (500, "emergency")

    @pytest.mark.parametrize("breaks", [invalid, undecodable, uncopyable])
    def test_an_error_keeps_its_text_or_its_type_and_its_cause(
        self, service: Service, breaks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken: list[Exception] = []

        def caused(*_: Any) -> None:
            try:
                breaks()
            except Exception as error:
                broken.append(error)
                raise error from KeyError("cause")

        monkeypatch.setattr(Intake, "_handle", caused)
        with pytest.raises((ValidationError, UnicodeDecodeError, MessageHandlerError)) as told:
            service.parts.intake.handle(KEY, request_of([EMERGENCY]))
        (own,) = broken
        assert safety_of(own) is None
        assert (safety_of(told.value) or {})["level"] == "emergency"
        assert str(told.value) in (str(own), type(own).__name__)
        assert type(told.value) is type(own) or breaks is uncopyable
        assert isinstance(told.value.__cause__, KeyError)
        assert breaks.__name__ in [frame.name for frame in traceback.extract_tb(told.value.__traceback__)]

    def test_a_bot_that_does_not_exist_keeps_no_notice_back_and_gets_no_conversation(self, service: Service) -> None:
        answer = service.post(says(EMERGENCY, bot_id="unknown"))
        assert (answer.status, safety_in(answer.body)["level"]) == (404, "emergency")
        assert safety_in(answer.body)["notice_job_id"] is None
        assert service.parts.archive.bot_of(KEY) is None

    def test_a_refused_message_leaves_the_conversation_to_the_bot_that_has_it(self, service: Service) -> None:
        """The first message, of the bot nurse, waits in the tier: Postgres does not know the conversation yet."""
        configured(service, platform={"rate_limit_per_minute": 1})
        assert service.post(says("hello", "m0", bot_id="nurse")).status == 202
        assert service.post(says(EMERGENCY, "m1")).status == 429
        service.deliver()
        assert service.parts.archive.bot_of(KEY) == "nurse"

    def test_a_refused_request_binds_its_conversation_to_no_bot(self, service: Service) -> None:
        limit = {"rate_limit_per_minute": 1}
        configured(service, platform=limit)
        assert service.post(says("hello", "m0"), "another").status == 202
        refused = service.post(says(EMERGENCY, "m1", bot_id="nurse"))
        assert refused.status == 429
        assert read(service, safety_in(refused.body)["notice_job_id"])["kind"] == "notice"
        limit.clear()
        bots = BotConfigService(service.parts.tiers, service.parts.archive, service.parts.settings)
        service.use(bots=bots, intake=replace(service.parts.intake, bots=bots))
        assert service.post(says(EMERGENCY, "m1")).status == 202
        service.deliver()
        assert service.parts.archive.bot_of(KEY) == "default"

    def test_a_bot_that_may_not_answer_gives_its_own_notice(self, service: Service) -> None:
        """Its conversation is raised all the same. A new conversation is not bound to it."""
        configured(service, platform={"emergency_contacts": [CONTACTS]})
        assert service.post(says("hello", "m0", bot_id="nurse")).status == 202
        service.deliver()
        service.parts.archive.bots["nurse"]["is_active"] = False  # type: ignore[attr-defined]
        bots = BotConfigService(service.parts.tiers, service.parts.archive, service.parts.settings)
        service.use(bots=bots, intake=replace(service.parts.intake, bots=bots))
        for conversation_id, bound in ((KEY.conversation_id, True), ("conv-new", False)):
            answer = service.post(says(EMERGENCY, "m1", bot_id="nurse"), conversation_id)
            assert answer.status == 409
            assert "115" in safety_in(answer.body)["notice"]
            assert (safety_in(answer.body)["notice_job_id"] is not None) == bound

    def test_a_text_that_breaks_the_rules_engine_is_answered(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaks(*_: Any) -> None:
            raise RuntimeError(CANARY)

        monkeypatch.setattr(reader, "screen", breaks)
        assert service.post(says(EMERGENCY, "m0")).status == 202

    def test_a_text_that_is_too_long_is_looked_at_where_it_ends(self, service: Service) -> None:
        answer = service.post(says("word " * 60_000 + EMERGENCY))
        assert (answer.status, safety_in(answer.body)["level"]) == (413, "emergency")

    def test_a_request_with_too_much_beside_the_text_is_read_as_far_as_another(self, service: Service) -> None:
        too_much = {"resources": {"record": "x" * 20_000}}
        answer = service.post(says(EMERGENCY + " word" * 10_000, **too_much))
        assert (answer.status, safety_in(answer.body)["level"]) == (413, "emergency")
        answered = f"<USER>{EMERGENCY}</USER><br><BOT>Help is on its way.</BOT><br><USER>Thank you</USER><br>"
        answer = service.post({"history": answered, **too_much})
        assert answer.status == 413
        assert "safety" not in answer.body

    def test_a_text_with_long_characters_is_read_as_far_as_another(self, service: Service) -> None:
        """The limit counts bytes, and each of these characters has three."""
        long = {"role": "user", "content": "ờ" * (MAX_HISTORY_BYTES // 3 + 1)}
        for early in (True, False):
            said = {"role": "user", "content": EMERGENCY}
            answer = service.post({"messages": [said, long] if early else [long, said]})
            assert (answer.status, "safety" in answer.body) == (413, not early)


class TestWithoutPostgres:
    def test_the_notice_is_given_and_a_record_brings_it_later(self, service: Service) -> None:
        class Away(ConfiguredArchive):
            def note_raised(self, raised: Raised) -> bool:
                raise Unavailable("Postgres")

        service.use(intake=replace(service.parts.intake, archive=Away()))
        safety = safety_in(service.post(says(EMERGENCY, "m0")).body)
        records = [found for body, _ in service.queue.sent if isinstance(found := decode(body), NoticeRecord)]
        assert len(records) == 1
        (record,) = records
        assert record.raised.job_id == safety["notice_job_id"]
        assert record.raised.notice == safety["notice"]
        assert record.raised.message_ids == ("m0",)
        assert record.raised.rules_version == shipped().version


class TestHistory:
    def test_a_bots_turn_that_repeats_a_notice_answers_nothing(self, service: Service) -> None:
        configured(service)
        first = service.post(says(EMERGENCY, "m0")).body
        turns = [
            {"role": "user", "content": f"{CANARY} {EMERGENCY}", "message_id": "m0"},
            {"role": "assistant", "content": f" {safety_in(first)['notice']}\n"},
        ]
        again = service.post({"messages": turns})
        assert again.status == 202
        assert (again.body["duplicate"], again.body["ai_job_id"]) == (True, first["ai_job_id"])

    def test_one_of_before_the_deployment_gave_a_number_answers_nothing(self, service: Service) -> None:
        configured(service, platform={"emergency_contacts": [CONTACTS]})
        turns = [
            {"role": "user", "content": f"{CANARY} {EMERGENCY}", "message_id": "m0"},
            {"role": "assistant", "content": notice_of(bot("default"), "emergency")},
        ]
        assert service.post({"messages": turns}).status == 202

    def test_any_other_turn_of_the_bot_does(self, service: Service) -> None:
        turns = [{"role": "user", "content": f"{CANARY} {EMERGENCY}"}, {"role": "assistant", "content": "Call 115."}]
        assert service.post({"messages": turns}).status == 400


class TestReplies:
    @pytest.mark.parametrize("words", LEVELS)
    def test_a_reply_to_danger_carries_the_notice(self, service: Service, words: str) -> None:
        answer: Answer = service.post(says(words, "m0"))
        service.deliver()
        reply = read(service, answer.body["ai_job_id"])["reply"]["content"]
        assert reply == f"{CANARY} {words}\n\n{answer.body['safety']['notice']}"

    def test_an_urgent_match_has_no_job_of_its_own(self, service: Service) -> None:
        assert safety_in(service.post(says(URGENT)).body)["notice_job_id"] is None


CONTACTS = {
    "country": "VN",
    "emergency": "115",
    "crisis": "1900 0000",
    "texts": {"vi": {"emergency": "Gọi 115 ngay."}},
    "reviewed_by": "A",
    "reviewed_at": "2026-11-30",
}


class TestWords:
    def test_are_the_deployments_own(self) -> None:
        config = bot("default", platform=PLATFORM | {"meta_data": {"emergency_contacts": [CONTACTS]}})
        assert notice_of(config, "emergency") == "Gọi 115 ngay."
        assert "1900 0000" in notice_of(config, "crisis")
        assert "115" in notice_of(config, "urgent")
        assert "115" in notice_of(config | {"language": "en-GB"}, "emergency")

    def test_are_those_of_the_bots_country(self) -> None:
        contacts = [CONTACTS, CONTACTS | {"country": "GB", "emergency": "999", "texts": {}}]
        platform = PLATFORM | {"meta_data": {"emergency_contacts": contacts}}
        config = bot("default", platform=platform, language="en", meta_data={"country": "GB"})
        assert "999" in notice_of(config, "emergency")

    @pytest.mark.parametrize("level", ["emergency", "crisis", "urgent"])
    @pytest.mark.parametrize("language", ["vi", "en", "fr"])
    def test_name_no_number_that_the_deployment_has_not_given(self, language: str, level: str) -> None:
        assert not any(map(str.isdigit, notice_of(bot("default", language=language), level)))
