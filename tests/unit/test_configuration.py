"""The fields of a configuration record and their bounds. No refusal repeats a value."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from message_handler.configuration.records import KINDS, parse_record, usable
from message_handler.configuration.redaction import REDACTED, is_complete, redacted, shareable, unredacted
from message_handler.domain.double_texting import POLICIES
from message_handler.domain.errors import InvalidRequest
from message_handler.ports.configuration import RecordKind
from tests.unit.service import CANARY

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:chat/webhook+2-AbCdE1"
BOT: dict[str, Any] = {"name": "Nurse"}
CORE: dict[str, Any] = {"name": "GPT", "api_endpoint": "https://ai.example/v1", "meta_data": {"model": "gpt"}}
PLATFORM: dict[str, Any] = {"name": "Clinic"}
BODIES: dict[RecordKind, dict[str, Any]] = {"bots": BOT, "core_ai": CORE, "platforms": PLATFORM}


def secret(length: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * length).decode()


def parse(kind: RecordKind, body: Any) -> dict[str, Any]:
    return parse_record(kind, body, {KINDS[kind].id_field: "it"})


def with_meta_data(kind: RecordKind, **meta_data: Any) -> dict[str, Any]:
    body = BODIES[kind]
    if "guardrail" in meta_data:  # only Bedrock has them
        body = body | {"api_endpoint": "bedrock://model"}
    return body | {"meta_data": body.get("meta_data", {}) | meta_data}


def refusal(kind: RecordKind, body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse(kind, body)
    assert CANARY not in str(refused.value)
    assert refused.value.detail
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return refused.value


class TestRecords:
    def test_a_bots_record_gets_its_defaults(self) -> None:
        assert parse("bots", BOT) == {
            "bot_id": "it",
            "name": "Nurse",
            "description": "",
            "language": "vi",
            "is_active": True,
            "core_ai_id": None,
            "meta_data": {},
        }

    def test_an_ai_cores_record_gets_its_defaults(self) -> None:
        assert parse("core_ai", CORE) == {
            "core_ai_id": "it",
            "name": "GPT",
            "api_endpoint": "https://ai.example/v1",
            "auth_required": False,
            "auth_token": None,
            "timeout_seconds": 30,
            "meta_data": {"model": "gpt"},
        }

    def test_a_platforms_record_gets_its_defaults(self) -> None:
        assert parse("platforms", PLATFORM) == {
            "platform_id": "it",
            "name": "Clinic",
            "description": "",
            "base_url": None,
            "auth_required": False,
            "meta_data": {},
        }

    def test_ids_are_those_of_the_address_and_may_be_repeated(self) -> None:
        ids = {"bot_id": "nurse", "platform_id": "default"}
        assert parse_record("bots", BOT | ids, ids) == parse_record("bots", BOT, ids)
        for name in ids:
            with pytest.raises(InvalidRequest, match="must be the one in the address") as refused:
                parse_record("bots", BOT | {name: CANARY}, ids)
            assert refused.value.field == name
            assert CANARY not in str(refused.value)

    @pytest.mark.parametrize("body", [None, [], "text", 1])
    def test_a_record_is_an_object(self, body: Any) -> None:
        assert refusal("bots", body).field is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_can_not_be_kept_is_refused(self, kind: RecordKind) -> None:
        assert refusal(kind, BODIES[kind] | {"name": f"{CANARY}\x00"}).field == "name"
        assert refusal(kind, BODIES[kind] | {"name": f"{CANARY}\ud800"}).field == "name"


CONTACTS = {
    "country": "VN",
    "emergency": "115",
    "texts": {"vi": {"emergency": "Gọi 115 ngay.", "crisis": "x" * 2_000}},
    "reviewed_by": "Dr. A",
    "reviewed_at": "2026-01-15",
}
GOOD: dict[RecordKind, dict[str, list[Any]]] = {
    "bots": {
        "double_texting": list(POLICIES),
        "debounce_ms": [0, 10_000],
        "debounce_max_ms": [0, 30_000],
        "max_context_messages": [0, 1_000],
        "max_context_characters": [0, 1_000_000],
        "show_partial_reply": [True, False],
        "country": ["VN", "GB"],
        "failure_message": ["Xin lỗi", "x" * 2_000, {"vi": "Xin lỗi", "pt-BR": "Desculpe"}],
        "after_danger": ["answer", "silent", "human"],
        "disclosure": ["This is an AI.", "x" * 2_000, {"vi": "Đây là AI.", "en": "This is an AI."}],
        "disclosure_every": [1, 1_000],
        "disclosure_hours": [1, 8_760],
    },
    "core_ai": {
        "model": ["m", "anthropic.claude-3:0", "x" * 512],
        "temperature": [0, 0.7, 2, 2.0],
        "top_p": [0.001, 1],
        "max_tokens": [1, 1_000_000],
        "max_completion_tokens": [1, 1_000_000],
        "system_prompt": ["You are a nurse.", "x" * 100_000],
        "max_reply_characters": [1, 1_000_000],
        "max_resources_characters": [0, 1_000_000],
        "auth_header": ["authorization", "api-key"],
        "omit": [[], ["stream_options", "temperature"], ["a" * 64] * 20],
        "extra_body": [{}, {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}, {"x": "y" * 16_000}],
        "system_role": ["system", "developer", "user"],
        "reasoning_tags": [[], ["think", "scratch-pad", "seed:think"], ["x" * 40] * 8],
        "reasoning_starts_open": [True, False],
        "region": ["eu-central-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "cn-north-1", "eusc-de-east-1"],
        "guardrail": [
            {"id": "gr1abc", "version": "DRAFT"},
            {"id": "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:guardrail/gr1abc", "version": "12"},
        ],
        "fallback_core_ai_id": ["other", "x" * 255],
    },
    "platforms": {
        "rate_limit_per_minute": [1, 1_000_000],
        "webhook_path": ["/", "/webhooks/messages", "/hook?tenant=1&x=%20"],
        "webhook_secrets": [[secret(24)], [secret(64), ARN], [REDACTED, secret(32)]],
        "emergency_contacts": [[CONTACTS], [CONTACTS, CONTACTS | {"country": "GB", "crisis": "116 123", "texts": {}}]],
    },
}
NUMBERS = ["1", True, [], {}]
BAD: dict[RecordKind, dict[str, list[Any]]] = {
    "bots": {
        "double_texting": [CANARY, "Reject", "", 1, ["reject"]],
        "debounce_ms": [-1, 10_001, 0.5, *NUMBERS],
        "debounce_max_ms": [-1, 30_001, 0.5, *NUMBERS],
        "max_context_messages": [-1, 1_001, 0.5, *NUMBERS],
        "max_context_characters": [-1, 1_000_001, 0.5, *NUMBERS],
        "show_partial_reply": [CANARY, "true", 1, 0],
        "country": ["", "vn", "VNM", CANARY, 84],
        "failure_message": [
            "",
            " \u200b",
            "x" * 2_001,
            1,
            True,
            [CANARY],
            {},
            {"vi": ""},
            {CANARY: "x"},
            {"vi": [CANARY]},
        ],
        "after_danger": ["nobody", "", True, CANARY],
        "disclosure": ["", " ", "x" * 2_001, 1, True, [CANARY], {}, {"vi": "\u200b"}, {CANARY: "x"}, {"vi": [1]}],
        "disclosure_every": [0, 1_001, 1.5, True, CANARY],
        "disclosure_hours": [0, 8_761, 1.5, True, CANARY],
    },
    "core_ai": {
        "model": ["", f"{CANARY} 1", f"{CANARY}\n", "mô", "x" * 513, 1],
        "temperature": [-0.1, 2.1, *NUMBERS],
        "top_p": [0, -1, 1.1, *NUMBERS],
        "max_tokens": [0, 1_000_001, 0.5, *NUMBERS],
        "max_completion_tokens": [0, 1_000_001, 0.5, *NUMBERS],
        "system_prompt": ["", "x" * 100_001, [CANARY], 1],
        "max_reply_characters": [0, 1_000_001, 0.5, *NUMBERS],
        "max_resources_characters": [-1, 1_000_001, 0.5, *NUMBERS],
        "auth_header": [CANARY, "Authorization", "", 1],
        "omit": [CANARY, [f"{CANARY} "], ["messages"], ["Stream"], ["a" * 65], ["a"] * 21, [1]],
        "extra_body": [CANARY, [], {"messages": []}, {"x": CANARY * 4_000}, 1],
        "system_role": [CANARY, "assistant", "", 1],
        "reasoning_tags": [CANARY, [f"<{CANARY}>"], [""], ["x" * 41], ["x"] * 9, [1]],
        "reasoning_starts_open": [CANARY, "true", 1],
        "region": [CANARY, "eu", "eu-central-1.evil.example", 1],
        "guardrail": [CANARY, {}, {"id": "gr1"}, {"id": f"{CANARY}!", "version": "1"}, {"id": "gr1", "version": "0"}],
        "fallback_core_ai_id": ["", f"{CANARY}/1", "x" * 256, 1],
    },
    "platforms": {
        "rate_limit_per_minute": [0, -1, 1_000_001, 0.5, *NUMBERS],
        "webhook_path": ["", CANARY, f"//{CANARY}", f"/\\{CANARY}", f"/ {CANARY}", f"/#{CANARY}", "/\n", "/é", 1],
        "webhook_secrets": [
            [],
            [secret(23)],
            [secret(65)],
            [secret(32).removeprefix("whsec_")],
            [f"whsec_{CANARY}!"],
            [secret(32), CANARY],
            [secret(32)] * 3,
            secret(32),
            [1],
            [f"arn:aws:s3:::{CANARY}"],
            [f"{ARN}\n{CANARY}"],
        ],
        "emergency_contacts": [
            CANARY,
            [],
            [CONTACTS, CONTACTS],
            [{}],
            [CONTACTS | {"country": CANARY}],
            [CONTACTS | {"emergency": CANARY}],
            [CONTACTS | {"texts": {f"{CANARY}!": {}}}],
            [CONTACTS | {"emergency": "+ -"}],
            [CONTACTS | {"texts": {"vi": {"urgent": ""}}}],
            [CONTACTS | {"texts": {"vi": {"urgent": " \u200b\n"}}}],
            [CONTACTS | {"texts": {"vi": {f"{CANARY}!": "x"}}}],
            [CONTACTS | {"reviewed_by": ""}],
            [CONTACTS | {"reviewed_by": " "}],
            [CONTACTS | {"reviewed_at": "2026-13-01"}],
            [CONTACTS | {"reviewed_at": "2026-02-30"}],
            [CONTACTS | {"reviewed_at": "2999-01-01"}],
        ],
    },
}


def cases(values: dict[RecordKind, dict[str, list[Any]]]) -> list[Any]:
    return [
        pytest.param(kind, key, value, id=f"{key}-{str(value)[:20]!a}")
        for kind, keys in values.items()
        for key, found in keys.items()
        for value in found
    ]


class TestMetaData:
    def test_every_key_is_tried_here(self) -> None:
        for kind, names in KINDS.items():
            assert set(names.meta_data.model_fields) == set(GOOD[kind]) == set(BAD[kind])

    @pytest.mark.parametrize(("kind", "key", "value"), cases(GOOD))
    def test_what_is_in_bounds_is_kept_as_it_is(self, kind: RecordKind, key: str, value: Any) -> None:
        assert parse(kind, with_meta_data(kind, **{key: value}))["meta_data"][key] == value
        assert usable(kind, {key: value}) == ({key: value}, [])

    @pytest.mark.parametrize(("kind", "key", "value"), cases(BAD))
    def test_what_is_not_is_refused_by_its_name(self, kind: RecordKind, key: str, value: Any) -> None:
        refused = refusal(kind, with_meta_data(kind, **{key: value}))
        assert refused.field
        assert refused.field.startswith(f"meta_data.{key}")
        assert usable(kind, {key: value}) == ({}, [key])

    @pytest.mark.parametrize("kind", KINDS)
    def test_null_is_not_set(self, kind: RecordKind) -> None:
        keys = dict.fromkeys(GOOD[kind])
        assert parse(kind, BODIES[kind] | {"meta_data": keys | CORE["meta_data"] if kind == "core_ai" else keys})[
            "meta_data"
        ] == (CORE["meta_data"] if kind == "core_ai" else {})
        assert usable(kind, keys) == ({}, [])

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_unknown_key_is_refused(self, kind: RecordKind) -> None:
        assert refusal(kind, with_meta_data(kind, colour=CANARY)).field == "meta_data.colour"
        assert refusal(kind, with_meta_data(kind, **{f"I feel {CANARY}": 1})).field == "meta_data.?"
        for other in set(KINDS) - {kind}:
            for key, values in GOOD[other].items():
                assert refusal(kind, with_meta_data(kind, **{key: values[0]})).field == f"meta_data.{key}"

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("meta_data", [None, [], CANARY])
    def test_metadata_is_an_object(self, kind: RecordKind, meta_data: Any) -> None:
        assert refusal(kind, BODIES[kind] | {"meta_data": meta_data}).field == "meta_data"
        assert usable(kind, meta_data) == ({}, ["meta_data"])

    def test_a_debounce_ends_before_its_maximum(self) -> None:
        parse("bots", with_meta_data("bots", debounce_ms=500, debounce_max_ms=500))
        parse("bots", with_meta_data("bots", debounce_ms=10_000))
        refused = refusal("bots", with_meta_data("bots", debounce_ms=501, debounce_max_ms=500))
        assert refused.field == "meta_data.debounce_max_ms"
        assert "debounce_ms" in refused.detail

    def test_tokens_are_limited_under_one_name(self) -> None:
        both = with_meta_data("core_ai", max_tokens=10, max_completion_tokens=10)
        assert refusal("core_ai", both).field == "meta_data.max_completion_tokens"

    def test_everything_that_is_wrong_is_left_out_at_once(self) -> None:
        found = usable("bots", {"debounce_ms": "x", "colour": 1, f"I {CANARY}": 1, "double_texting": "reject"})
        assert found == ({"double_texting": "reject"}, ["?", "colour", "debounce_ms"])


class TestFields:
    @pytest.mark.parametrize(
        ("kind", "field", "values"),
        [
            ("bots", "name", ["", "x" * 201, 1, None]),
            ("bots", "description", ["x" * 2_001, 1, None]),
            ("bots", "language", ["", CANARY + "x" * 9, "vi_VN", 1]),
            ("bots", "is_active", ["true", 1, None]),
            ("bots", "core_ai_id", ["", f"{CANARY}/1", 1]),
            ("core_ai", "name", ["", "x" * 201]),
            (
                "core_ai",
                "api_endpoint",
                [
                    "",
                    None,
                    CANARY,
                    f"ftp://{CANARY}",
                    f"file:///{CANARY}",
                    "https:ai.example",
                    "bedrock://",
                    f"bedrock://{CANARY} 1",
                    f"https://ai.example/v1?key={CANARY}",
                    f"https://ai.example/v1#key={CANARY}",
                    f"https://ai.example/v1?api-version=1&key={CANARY}",
                ],
            ),
            ("core_ai", "auth_required", ["yes", 1]),
            ("core_ai", "auth_token", ["", f"{CANARY} x", f"{CANARY}\n", "é", "x" * 4_097, 1, f"arn:aws:{CANARY}"]),
            ("core_ai", "timeout_seconds", [0, 101, 1.5, "30", True, None]),
            ("platforms", "name", ["", "x" * 201]),
            ("platforms", "base_url", ["", 1, f"https://a.example?{CANARY}", "https://a.example/#x", "https://[a"]),
            ("platforms", "auth_required", ["yes", None]),
        ],
    )
    def test_a_wrong_one_is_refused_by_its_name(self, kind: RecordKind, field: str, values: list[Any]) -> None:
        for value in values:
            assert refusal(kind, BODIES[kind] | {field: value}).field == field

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_unknown_one_is_refused(self, kind: RecordKind) -> None:
        assert refusal(kind, BODIES[kind] | {"colour": CANARY}).field == "colour"

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_name_is_needed(self, kind: RecordKind) -> None:
        assert refusal(kind, {key: value for key, value in BODIES[kind].items() if key != "name"}).field == "name"

    def test_an_ai_core_says_where_it_is(self) -> None:
        assert refusal("core_ai", {"name": "GPT"}).field == "api_endpoint"

    @pytest.mark.parametrize("seconds", [1, 100])
    def test_a_timeout_fits_into_a_run(self, seconds: int) -> None:
        assert parse("core_ai", CORE | {"timeout_seconds": seconds})["timeout_seconds"] == seconds


class TestEndpoints:
    @pytest.mark.parametrize(
        "endpoint", ["https://ai.example/v1", "http://127.0.0.1:9/v1", "https://ai.example/deployment/x"]
    )
    def test_a_model_is_needed(self, endpoint: str) -> None:
        body = CORE | {"api_endpoint": endpoint}
        parse("core_ai", body)
        assert refusal("core_ai", body | {"meta_data": {}}).field == "meta_data.model"

    @pytest.mark.parametrize(
        "endpoint",
        [
            "simulated://",
            "https://a.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1",
            "bedrock://anthropic.claude-3:0",
        ],
    )
    def test_no_model_is_needed_if_the_address_names_it_or_none_is_asked(self, endpoint: str) -> None:
        parse("core_ai", CORE | {"api_endpoint": endpoint, "meta_data": {}})

    @pytest.mark.parametrize(
        ("field", "value", "model"),
        [
            ("temperature", 1.1, "m"),
            ("system_prompt", " \n", "m"),
            ("system_role", "developer", "m"),
            ("omit", ["stream_options"], "m"),
            ("extra_body", {"top_k": 1}, "m"),
            ("region", "eu-west-1", "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/m"),
            ("region", "eu-west-1", "arn:aws-eusc:bedrock:eusc-de-east-1:123456789012:inference-profile/m"),
        ],
    )
    def test_what_bedrock_would_refuse_is_refused_when_it_is_written(self, field: str, value: Any, model: str) -> None:
        body = CORE | {"api_endpoint": f"bedrock://{model}", "meta_data": {field: value}}
        assert refusal("core_ai", body).field == f"meta_data.{field}"

    @pytest.mark.parametrize(
        "meta_data",
        [
            {"temperature": 1, "system_role": "user"},
            {"region": "eu-central-1"},
        ],
    )
    def test_what_bedrock_knows_is_taken(self, meta_data: dict[str, Any]) -> None:
        model = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/m"
        parse("core_ai", CORE | {"api_endpoint": f"bedrock://{model}", "meta_data": meta_data})

    def test_a_guardrail_is_bedrocks_alone(self) -> None:
        body = with_meta_data("core_ai", guardrail={"id": "gr1abc", "version": "1"})
        parse("core_ai", body)
        body["api_endpoint"] = CORE["api_endpoint"]
        assert refusal("core_ai", body).field == "meta_data.guardrail"

    def test_a_token_is_required_unless_it_says_otherwise(self) -> None:
        for token in (f"sk-{CANARY}", ARN, REDACTED):
            assert parse("core_ai", CORE | {"auth_token": token})["auth_required"] is True
        assert parse("core_ai", CORE | {"auth_token": ARN, "auth_required": False})["auth_required"] is False

    def test_where_one_is_required_it_is_given(self) -> None:
        assert refusal("core_ai", CORE | {"auth_required": True}).field == "auth_token"

    @pytest.mark.parametrize("endpoint", ["simulated://", "bedrock://model"])
    def test_where_none_is_sent_none_is_kept(self, endpoint: str) -> None:
        parse("core_ai", CORE | {"api_endpoint": endpoint, "auth_required": True})
        assert refusal("core_ai", CORE | {"api_endpoint": endpoint, "auth_token": CANARY}).field == "auth_token"


class TestSecrets:
    CORE = CORE | {"auth_token": f"sk-{CANARY}", "meta_data": {}}
    PLATFORM = PLATFORM | {"meta_data": {"webhook_secrets": [f"whsec_{CANARY}", ARN]}}

    def configuration(self) -> dict[str, Any]:
        core_ai = self.CORE | {"fallback": self.CORE}
        return BOT | {"meta_data": {}, "core_ai": core_ai, "platform": self.PLATFORM}

    def test_no_secret_is_shown(self) -> None:
        shown = redacted(self.configuration())
        assert CANARY not in json.dumps(shown)
        assert ARN not in json.dumps(shown)
        assert shown["core_ai"]["auth_token"] == shown["core_ai"]["fallback"]["auth_token"] == REDACTED
        assert redacted(self.CORE)["auth_token"] == REDACTED
        assert redacted(self.PLATFORM)["meta_data"]["webhook_secrets"] == [REDACTED] * 2

    def test_only_the_address_of_a_secret_is_shared(self) -> None:
        shared = shareable(self.configuration())
        assert CANARY not in json.dumps(shared)
        assert shared["platform"]["meta_data"]["webhook_secrets"] == [REDACTED, ARN]

    def test_a_copy_without_its_secrets_is_known_to_be_incomplete(self) -> None:
        whole = self.configuration()
        assert is_complete(whole)
        assert not is_complete(shareable(whole))
        claimed = unredacted(shareable(whole))
        assert REDACTED not in json.dumps(claimed)
        assert claimed["core_ai"]["auth_required"] is claimed["core_ai"]["fallback"]["auth_required"] is True
        assert claimed["platform"]["meta_data"]["webhook_secrets"] == [ARN]

    def test_what_has_none_stays_as_it_is(self) -> None:
        plain = BOT | {"meta_data": {}, "core_ai": None, "platform": PLATFORM | {"meta_data": {}}}
        assert redacted(plain) == shareable(plain) == unredacted(plain) == plain
        assert is_complete(plain)
