"""A tenant's own safety rules: what an operator may write, and what a patient's message is checked with then."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from message_handler.bot_config import BotConfigService
from message_handler.configuration.safety_rules import shipped_rules
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.safety.rules import shipped
from tests.safety.test_own import BOMBS
from tests.unit.service import CANARY, Answer, Service, says
from tests.unit.test_configuration_routes import put as put_record
from tests.unit.test_danger import EMERGENCY, safety_in

OWN: dict[str, Any] = {
    "language": "en",
    "words": {"pump": ["insulin pump"]},
    "rules": [{"id": "clinic-pump", "level": "urgent", "about": "A broken pump", "phrases": ["<pump> stopped"]}],
}
BROKEN = "my insulin pump stopped"
WHY = "The ward line answers these patients."
TODAY = datetime.now(UTC).date()
#: The rule that finds EMERGENCY.
BREATHING = next(finding.rule for finding in shipped().find(EMERGENCY))
BREATHING_RULES = [rule["id"] for rule in shipped_rules() if rule["id"] in {f.rule for f in shipped().find(EMERGENCY)}]


@pytest.fixture
def configured(configured: Service) -> Service:
    """Intake keeps what it finds in Postgres too."""
    configured.use(intake=replace(configured.parts.intake, archive=configured.parts.archive))
    return configured


def put(service: Service, body: Any, **headers: str) -> Answer:
    event = service.event("admin-put-safety", body=body if isinstance(body, str | None) else json.dumps(body))
    event["headers"] |= headers
    event["multiValueHeaders"] |= {name: [value] for name, value in headers.items()}
    return service.http("admin", event)


def get(service: Service) -> Answer:
    return service.http("admin", service.event("admin-get-safety"))


def in_force(service: Service) -> dict[str, Any]:
    shown: dict[str, Any] = service.http("admin", service.event("admin-status")).body["safety"]["rules"]
    assert shown == get(service).body["in_force"]
    return shown


def etag_of(answer: Answer) -> str:
    return str(answer.headers["ETag"])


def rule_of(answer: Answer) -> str | None:
    return answer.body["safety"]["rule"] if "safety" in answer.body else None


class TestShowing:
    def test_without_any_own_words_the_shipped_rules_count(self, configured: Service) -> None:
        answer = get(configured)
        assert (answer.status, etag_of(answer)) == (200, '"0"')
        assert answer.body["settings"] == {"languages": None, "rules": [], "not_applicable": {}, "review": None}
        assert answer.body["in_force"] == {
            "rules_version": shipped().version,
            "languages": ["en", "vi"],
            "review": "missing",
            "not_applicable": [],
            "refused": [],
        }
        rules = answer.body["shipped"]["rules"]
        assert [rule["id"] for rule in rules] == [rule["id"] for rule in shipped_rules()]
        assert all(rule["reviewed_by"] is None for rule in rules), "no clinician is invented"
        assert rules[0]["source"].startswith("NHS")

    def test_what_was_written_is_shown_by_the_status_too(self, configured: Service) -> None:
        written = put(configured, {"rules": [OWN], "not_applicable": {"en-seizure": WHY}})
        assert written.status == 200
        assert get(configured).body == written.body
        assert written.body["settings"]["rules"] == [OWN]
        shown = in_force(configured)
        assert shown["not_applicable"] == ["en-seizure"]
        assert shown["rules_version"] not in ("", shipped().version)
        reasons = {rule["id"]: rule["not_applicable"] for rule in written.body["shipped"]["rules"]}
        assert {id_: reason for id_, reason in reasons.items() if reason} == {"en-seizure": WHY}

    def test_the_version_is_that_of_the_rules_alone(self, configured: Service) -> None:
        first = put(configured, {"rules": [OWN]}).body["in_force"]["rules_version"]
        review = {"reviewed_by": "Dr Lan", "reviewed_at": TODAY.isoformat(), "rules_version": first}
        assert put(configured, {"rules": [OWN], "review": review}).body["in_force"]["rules_version"] == first
        assert put(configured, {}).body["in_force"]["rules_version"] == shipped().version


class TestWriting:
    def test_is_refused_if_it_was_changed_meanwhile(self, configured: Service) -> None:
        first = put(configured, {"rules": [OWN]}, **{"If-Match": '"0"'})
        assert first.status == 200
        refused = put(configured, {}, **{"If-Match": '"0"'})
        assert refused.status == 412
        assert get(configured).body["settings"]["rules"] == [OWN]
        assert put(configured, {}, **{"If-Match": etag_of(first)}).status == 200
        refused = put(configured, {"rules": [OWN]}, **{"If-Match": etag_of(first)})
        assert refused.status == 412
        assert get(configured).body["settings"]["rules"] == []

    def test_may_ask_that_it_is_new_or_there(self, configured: Service) -> None:
        assert put(configured, {}, **{"If-Match": "*"}).status == 412
        assert put(configured, {}, **{"If-None-Match": "*"}).status == 200
        assert put(configured, {}, **{"If-None-Match": "*"}).status == 412
        assert put(configured, {}, **{"If-Match": "*"}).status == 200

    def test_is_audited(self, configured: Service) -> None:
        put(configured, {"not_applicable": {"en-seizure": WHY}})
        put(configured, {})
        query = {"kind": "safety_rules"}
        event = configured.event(
            "admin-list-audit",
            queryStringParameters=query,
            multiValueQueryStringParameters={"kind": ["safety_rules"]},
        )
        entries = configured.http("admin", event).body["entries"]
        assert len(entries) == 2
        last, first = entries
        assert (first["action"], first["record_id"], first["before"]) == ("put", "default", None)
        assert first["after"]["not_applicable"] == {"en-seizure": WHY}
        assert (last["before"], last["after"]["not_applicable"]) == (first["after"], {})

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"not_applicable": {"en-nothing": WHY}}, "not_applicable.en-nothing"),
            ({"not_applicable": {f"{CANARY} 1": WHY}}, "not_applicable.?"),
            ({"not_applicable": {"clinic-pump": WHY}, "rules": [OWN]}, "not_applicable.clinic-pump"),
            ({"not_applicable": {"en-seizure": CANARY * 100}}, "not_applicable.en-seizure"),
            ({"not_applicable": ["en-seizure"]}, "not_applicable"),
            ({"languages": [CANARY]}, "languages"),
            ({"languages": "en"}, "languages"),
            ({"colour": CANARY}, "colour"),
            ({"review": {"reviewed_by": "Dr Lan", "reviewed_at": "2026-02-30", "rules_version": "0" * 16}}, None),
            ({"review": {"reviewed_by": "Dr Lan", "reviewed_at": "2999-01-01", "rules_version": "0" * 16}}, None),
            ({"review": {"reviewed_by": "Dr Lan", "reviewed_at": "2026-01-01", "rules_version": CANARY}}, None),
            ({"review": {"reviewed_by": "", "reviewed_at": "2026-01-01", "rules_version": "0" * 16}}, None),
            ({"rules": [OWN, OWN]}, "rules"),
            ({"rules": [OWN | {"language": CANARY}]}, "rules.0.language"),
            ({"rules": [OWN | {"rules": [{"id": CANARY}]}]}, "rules.0.rules.0"),
            ({"rules": [OWN | {"words": {"pump": [{"x": CANARY}]}}]}, "rules.0.words"),
            ({"rules": [OWN | {"words": {"pump": f"{CANARY}"}}]}, "rules.0.words"),
            ({"rules": [OWN | {CANARY: []}]}, "rules.0"),
            ({"rules": [OWN | {"spellings": {"breathe": CANARY}}]}, "rules.0.spellings"),
            ({"rules": [OWN | {"rules": [OWN["rules"][0] | {"id": "vi-x", "phrases": [f"<{CANARY}>"]}]}]}, None),
            ({"rules": [OWN | {"rules": [OWN["rules"][0] | {"id": "en-seizure"}]}]}, "rules.0.rules.0"),
            ({"rules": [OWN, {"language": "de", "rules": OWN["rules"]}]}, "rules.1.rules.0"),
            ({"rules": [OWN | {"idioms": [CANARY] * 10_000}]}, "rules"),
            ({"rules": [OWN | {"spellings": {"qq": "w " * 20_000}}]}, "rules.0.spellings"),
            ({"rules": [OWN | {"rules": [OWN["rules"][0] | {"gap": "1" * 5000}]}]}, "rules.0.rules.0"),
            ({"rules": [OWN | {"rules": [OWN["rules"][0] | {"id": "drill"}]}]}, "rules.0.rules.0"),
            ({"rules": [BOMBS["windows"]]}, "rules.0.rules.1"),
            ({"rules": [{}]}, "rules.0.language"),
            ({"rules": [None]}, "rules.0"),
            ([], None),
            ("", None),
            ("null", None),
        ],
    )
    def test_what_is_wrong_is_refused_by_its_name_and_nothing_is_stored(
        self, configured: Service, body: Any, field: str | None
    ) -> None:
        """At its end the `output` fixture checks that no log and no error has the canary."""
        before = get(configured)
        answer = put(configured, body)
        assert answer.status == 400
        assert field is None or answer.body["field"] == field
        assert CANARY not in answer.body["detail"]
        assert get(configured) == before

    @pytest.mark.parametrize("reason", ["", " \n", "\u3164", "\u200b\ufe0f"])
    def test_no_rule_is_left_out_without_a_reason(self, configured: Service, reason: str) -> None:
        answer = put(configured, {"not_applicable": {BREATHING: reason}})
        assert (answer.status, answer.body.get("field")) == (400, f"not_applicable.{BREATHING}")
        assert rule_of(configured.post(says(EMERGENCY))) == BREATHING

    @pytest.mark.parametrize("name", ["", " ", "\u3164", "\u200b\ufe0f"])
    def test_no_review_without_a_name(self, configured: Service, name: str) -> None:
        review = {"reviewed_by": name, "reviewed_at": TODAY.isoformat(), "rules_version": shipped().version}
        answer = put(configured, {"review": review})
        assert (answer.status, answer.body.get("field")) == (400, "review.reviewed_by")

    def test_a_rule_of_another_shipped_language_keeps_its_id(self, configured: Service) -> None:
        other = next(rule["id"] for rule in shipped_rules() if rule["language"] == "vi")
        answer = put(configured, {"rules": [OWN | {"rules": [OWN["rules"][0] | {"id": other}]}]})
        assert (answer.status, answer.body.get("field")) == (400, "rules.0.rules.0")


class TestFinding:
    def test_an_own_rule_finds_danger(self, configured: Service) -> None:
        assert rule_of(configured.post(says(BROKEN))) is None
        version = put(configured, {"rules": [OWN]}).body["in_force"]["rules_version"]
        assert rule_of(configured.post(says(BROKEN))) == "clinic-pump"
        configured.post(says(EMERGENCY))
        event = configured.event("admin-list-raised")
        assert configured.http("admin", event).body["raised"][0]["rules_version"] == version

    def test_a_rule_that_does_not_apply_finds_nothing(self, configured: Service) -> None:
        put(configured, {"not_applicable": dict.fromkeys(BREATHING_RULES, WHY)})
        assert rule_of(configured.post(says(EMERGENCY))) is None
        assert rule_of(configured.post(says("chest pain"))) is not None
        put(configured, {})
        assert rule_of(configured.post(says(EMERGENCY))) == BREATHING

    def test_own_rules_switch_no_shipped_rule_off(self, configured: Service) -> None:
        """Their idioms void their own matches alone."""
        put(configured, {"rules": [OWN | {"idioms": [EMERGENCY, "breathe"], "unlike": ["breathe"]}]})
        assert rule_of(configured.post(says(EMERGENCY))) == BREATHING

    @pytest.mark.parametrize("languages", [["vi"], []])
    def test_english_and_the_bots_languages_are_always_tried(self, configured: Service, languages: list[str]) -> None:
        assert put(configured, {"languages": languages}).body["in_force"]["languages"] == ["en", "vi"]
        put_record(configured, "admin-put-core-ai")
        put_record(configured, "admin-put-bot", language="en-GB")
        put_record(configured, "admin-put-bot", bot_id="pharmacy")
        event = configured.event("admin-put-bot", pathParameters={"bot_id": "default"})
        configured.http("admin", event | {"body": json.dumps({"name": "Default", "language": "en"})})
        shown = in_force(configured)
        assert shown["languages"] == (["en", "vi"] if languages else ["en"])
        words = "tôi bị đau ngực dữ dội"
        assert (rule_of(configured.post(says(words))) is None) == (not languages)
        put_record(configured, "admin-put-bot", language="vi")
        assert in_force(configured)["languages"] == ["en", "vi"]
        configured.parts.bots.refresh("default", ["default"])
        assert rule_of(configured.post(says(words))) is not None

    def test_the_reply_of_a_worker_knows_them_and_their_version(self, configured: Service) -> None:
        version = put(configured, {"rules": [OWN]}).body["in_force"]["rules_version"]
        answer = configured.post(says(BROKEN))
        configured.deliver()
        job = configured.http(
            "status", configured.event("status-get-job", pathParameters={"job_id": answer.body["ai_job_id"]})
        ).body
        assert job["reply"]["content"].endswith(safety_in(answer.body)["notice"])
        assert configured.parts.archive.job("default", answer.body["ai_job_id"]).provenance.rules_version == version  # type: ignore[union-attr]


class TestWithoutStores:
    def test_the_last_known_rules_of_the_process_count(
        self, configured: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(configured, {"rules": [OWN]})
        assert rule_of(configured.post(says(BROKEN))) == "clinic-pump"
        self.forget_and_break(configured, monkeypatch)
        for bot_id in (None, "a bot that it has not read yet"):
            assert configured.parts.bots.rules_of(self.key("new"), bot_id).find(BROKEN), bot_id
        assert rule_of(configured.post(says(BROKEN))) == "clinic-pump"

    def test_a_process_that_knows_none_has_all_shipped_ones(
        self, configured: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(configured, {"languages": ["en"], "not_applicable": dict.fromkeys(BREATHING_RULES, WHY)})
        parts = configured.parts
        fresh = BotConfigService(parts.tiers, parts.archive, parts.settings)
        monkeypatch.setattr(parts.tiers.tiers[0], "cached", lambda name: None)
        self.forget_and_break(configured, monkeypatch)
        assert fresh.rules_of(self.key("new"), None) is shipped()

    def test_danger_is_found_although_the_rules_can_not_be_read(
        self, configured: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> Any:
            raise RuntimeError(CANARY)

        monkeypatch.setattr(configured.parts.bots, "rules_of", broken)
        assert rule_of(configured.post(says(EMERGENCY))) == BREATHING

    @staticmethod
    def key(conversation_id: str) -> ConversationKey:
        return ConversationKey("default", conversation_id)

    @staticmethod
    def forget_and_break(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        """Postgres is away, and every copy of the configuration is too old."""

        def away(*_: Any) -> Any:
            raise Unavailable("Postgres")

        monkeypatch.setattr(type(service.parts.archive), "configuration", away)
        monkeypatch.setattr(type(service.parts.archive), "bot_of", away)
        later = service.parts.bots._clock() + 3600
        monkeypatch.setattr(service.parts.bots, "_clock", lambda: later)


class TestReviews:
    @pytest.mark.parametrize(
        ("days", "version", "state"),
        [(0, None, "valid"), (365, None, "valid"), (366, None, "old"), (0, "0" * 16, "other_version")],
    )
    def test_status_says_how_the_rules_were_reviewed(
        self, configured: Service, days: int, version: str | None, state: str
    ) -> None:
        day = (TODAY - timedelta(days=days)).isoformat()
        review = {"reviewed_by": "Dr Lan", "reviewed_at": day, "rules_version": version or shipped().version}
        assert put(configured, {"review": review}).body["in_force"]["review"] == state
        assert in_force(configured)["review"] == state
        configured.invoke("admin", {"action": "sweep"})
        assert configured.output.metrics["SafetyReviewOld"] == [int(days > 365)]

    def test_a_review_is_of_another_version_once_the_rules_change(self, configured: Service) -> None:
        review = {"reviewed_by": "Dr Lan", "reviewed_at": TODAY.isoformat(), "rules_version": shipped().version}
        put(configured, {"review": review})
        changed = {"review": review, "not_applicable": {"en-seizure": WHY}}
        assert put(configured, changed).body["in_force"]["review"] == "other_version"


class TestReleases:
    """Own rules that another release has compiled."""

    @pytest.fixture
    def outdated(self, configured: Service) -> Service:
        put(configured, {"rules": [OWN]})
        self.write(configured, "compiled = '[\"of another form\"]', compiled_for = 'another'")
        return configured

    @staticmethod
    def write(service: Service, changes: str) -> None:
        database = service.parts.archive._database  # type: ignore[attr-defined]
        database.run(lambda connection: connection.run(f"update safety_rules set {changes}"))
        service.parts.bots.refresh("default", ["default"])

    def test_are_compiled_by_no_patients_request(self, outdated: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "message_handler.safety.compiling", None)
        monkeypatch.setitem(sys.modules, "message_handler.safety.own", None)
        assert rule_of(outdated.post(says(BROKEN))) is None
        assert rule_of(outdated.post(says(EMERGENCY))) == BREATHING
        assert in_force(outdated)["refused"] == ["en"]

    def test_do_not_count_in_their_old_form(self, configured: Service) -> None:
        put(configured, {"rules": [OWN]})
        self.write(configured, "compiled_for = 'another'")
        assert rule_of(configured.post(says(BROKEN))) is None

    @pytest.mark.parametrize("action", ["sweep", "migrate"])
    def test_are_compiled_by_the_sweep_and_by_the_deployment(
        self, outdated: Service, monkeypatch: pytest.MonkeyPatch, action: str
    ) -> None:
        before = get(outdated)
        outdated.invoke("admin", {"action": action})
        after = get(outdated)
        assert after.headers == before.headers, "no operator has changed anything: not even the revision"
        assert after.body["settings"] == before.body["settings"]
        assert after.body["in_force"]["refused"] == []
        outdated.parts.bots.refresh("default", ["default"])
        monkeypatch.setitem(sys.modules, "message_handler.safety.compiling", None)
        assert rule_of(outdated.post(says(BROKEN))) == "clinic-pump", "intake needs no compiler"

    def test_that_break_the_compiler_stop_no_sweep(self, outdated: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any) -> Any:
            raise RuntimeError(CANARY)

        monkeypatch.setattr("message_handler.safety.own.own_language", broken)
        outdated.invoke("admin", {"action": "sweep"})
        assert in_force(outdated)["refused"] == ["en"]
        assert rule_of(outdated.post(says(EMERGENCY))) == BREATHING
        assert outdated.parts.bots.get_bot_config("conversation-1", platform_id="default")

    def test_that_this_one_refuses_are_named(self, outdated: Service) -> None:
        gone = OWN | {"rules": [OWN["rules"][0] | {"phrases": ["<a group of that release>"]}]}
        text = json.dumps([gone]).replace("'", "''")
        self.write(outdated, f"document = jsonb_set(document, '{{rules}}', '{text}'), compiled_for = 'another'")
        for _ in range(2):
            assert in_force(outdated)["refused"] == ["en"]
            assert rule_of(outdated.post(says(BROKEN))) is None
            assert rule_of(outdated.post(says(EMERGENCY))) == BREATHING
            outdated.invoke("admin", {"action": "sweep"})

    @pytest.mark.parametrize("document", ["[]", '{"languages": 5}', '{"rules": [7]}', "null"])
    def test_what_was_written_past_the_api_changes_no_rule(self, configured: Service, document: str) -> None:
        put(configured, {"languages": ["en"]})
        self.write(configured, f"document = '{document}'")
        assert get(configured).status == 200
        assert in_force(configured)["rules_version"] == shipped().version
        assert rule_of(configured.post(says(EMERGENCY))) == BREATHING
