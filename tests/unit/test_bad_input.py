"""Bad requests are refused by the field's name, and nothing of them is kept or repeated."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import pytest

from message_handler.bot_config import BotConfigService
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.identifiers import CONVERSATION_ID_RULE, DEFAULT_PLATFORM
from message_handler.domain.records import key_of
from message_handler.queue.codec import decode
from tests.channel_ids import CHANNEL_IDS, REFUSED
from tests.unit.service import CANARY, Answer, ConfiguredArchive, Service, bot, load_event

POST, JOB = "/conversations/{conversation_id}/messages", "/jobs/{job_id}"
TURN = f"<USER>{CANARY}</USER><br>"
SAID = {"role": "user", "content": CANARY}
KIB = 1024


@dataclass(frozen=True)
class Row:
    """A request and its refusal. `body` is the text of a POST, and `name` the wrong field (None: no single one)."""

    status: int
    name: str | None
    body: str | None = None
    conversation_id: str = "conv_123"
    more: dict[str, Any] = field(default_factory=dict)


def refused(status: int, name: str | None, body: Any, **more: Any) -> Row:
    return Row(status, name, json.dumps(body), **more)


def history(text: str) -> dict[str, str]:
    return {"history": text}


ROWS = {
    # the body
    "no body": Row(400, None, None),
    "an empty body": Row(400, None, ""),
    "null": Row(400, None, "null"),
    "blanks": Row(400, None, "  \n"),
    "broken JSON": Row(400, None, f'{{"history": "{CANARY}'),
    "text behind the JSON": Row(400, None, f'{{"history": "{TURN}"}} {CANARY}'),
    "a JSON array": refused(400, None, [TURN]),
    "a JSON string": refused(400, None, TURN),
    "a JSON number": Row(400, None, "1"),
    "NaN": Row(400, None, f'{{"history": "{TURN}", "resources": {{"n": NaN}}}}'),
    "-Infinity": Row(400, None, f'{{"history": "{TURN}", "resources": {{"n": -Infinity}}}}'),
    "a number beyond all floats": Row(400, None, f'{{"history": "{TURN}", "resources": {{"n": 1e999}}}}'),
    "an integer of 5,000 digits": Row(400, None, f'{{"history": "{TURN}", "resources": {{"n": {"9" * 5000}}}}}'),
    "an integer of 4,000 digits": Row(400, "resources", f'{{"history": "{TURN}", "resources": {{"n": {"9" * 4000}}}}}'),
    "5,000 nested brackets": Row(400, None, "[" * 5000 + f'"{CANARY}"' + "]" * 5000),
    "100,000 nested brackets": Row(400, None, "[" * 100_000),
    # Each Python's parser reads this depth. Deeper ones are refused before there is a field.
    "500 brackets in the resources": Row(
        400, "resources", f'{{"history": "{TURN}", "resources": {{"n": {"[" * 500}"{CANARY}"{"]" * 500}}}}}'
    ),
    "a field twice": Row(400, "history", f'{{"history": "{TURN}", "history": "<USER>other</USER>"}}'),
    "a field of a message twice": Row(
        400, "content", f'{{"messages": [{{"role": "user", "content": "{CANARY}", "content": "other"}}]}}'
    ),
    "an unknown field": refused(400, "histori", {"history": TURN, "histori": TURN}),
    "an unknown field with a patient's words": refused(400, "?", {"history": TURN, f"I feel {CANARY}": 1}),
    "an unknown field of a message": refused(400, "messages.0.attachments", {"messages": [SAID | {"attachments": []}]}),
    "invalid UTF-8": Row(
        400,
        None,
        base64.b64encode(f'{{"history": "{TURN}'.encode() + b'\xff\xfe"}').decode(),
        more={"isBase64Encoded": True},
    ),
    "UTF-16": Row(
        400,
        None,
        base64.b64encode(json.dumps(history(TURN)).encode("utf-16")).decode(),
        more={"isBase64Encoded": True},
    ),
    "base64 that is none": Row(400, None, f"{{{CANARY}", more={"isBase64Encoded": True}),
    "3 MiB": Row(413, None, json.dumps(history(TURN)) + " " * 3 * KIB * KIB),
    # history or messages
    "both history and messages": refused(400, "history", {"history": TURN, "messages": [SAID]}),
    "neither": refused(400, "history", {"resources": {"note": CANARY}}),
    "both null": refused(400, "history", {"history": None, "messages": None, "resources": {"note": CANARY}}),
    "an empty history": refused(400, "history", history("")),
    "separators alone": refused(400, "history", history("<br> <br/>")),
    "no message": refused(400, "messages", {"messages": []}),
    "no patient's message": refused(400, "history", history(f"<BOT>{CANARY}</BOT><br>")),
    "no patient's message in JSON": refused(400, "messages", {"messages": [SAID | {"role": "assistant"}]}),
    "a history that ends with a bot's turn": refused(400, "history", history(f"{TURN}<BOT>{CANARY}</BOT><br>")),
    "messages that end with a bot's turn": refused(400, "messages", {"messages": [SAID, SAID | {"role": "assistant"}]}),
    "U+0000 in an id": refused(400, "message_id", {"messages": [SAID], "message_id": f"{CANARY}\u0000"}),
    "U+0000 in a turn's id": refused(
        400, "messages.0.message_id", {"messages": [SAID | {"message_id": f"{CANARY}\0"}]}
    ),
    "U+0000 in a bot's id": refused(400, "bot_id", {"messages": [SAID], "bot_id": f"{CANARY}\u0000"}),
    "a lone surrogate in an id": Row(400, "message_id", f'{{"history": "{TURN}", "message_id": "{CANARY}\\ud800"}}'),
    "U+0000 in a role": refused(400, "messages.0.role", {"messages": [SAID | {"role": "user\u0000"}]}),
    "U+0000 in a field's name": refused(400, "body", {"history": TURN, f"{CANARY}\u0000": 1}),
    "a lone surrogate in a field's name": Row(400, "body", f'{{"history": "{TURN}", "{CANARY}\\ud800": 1}}'),
    "an attachment": refused(
        400,
        "messages.0.content",
        {"messages": [{"role": "user", "content": [{"type": "image", "url": f"https://files.example/{CANARY}"}]}]},
    ),
    "content that is null": refused(400, "messages.1.content", {"messages": [SAID, {"role": "user", "content": None}]}),
    "content that is a number": refused(400, "messages.0.content", {"messages": [{"role": "user", "content": 1}]}),
    "no content": refused(400, "messages.0.content", {"messages": [{"role": "user"}]}),
    "a history that is a list": refused(400, "history", {"history": [TURN]}),
    "messages that are text": refused(400, "messages", {"messages": TURN}),
    "a message that is text": refused(400, "messages.0", {"messages": [CANARY]}),
    "an unknown role": refused(400, "messages.0.role", {"messages": [SAID | {"role": CANARY}]}),
    "a system prompt": refused(400, "messages.0.role", {"messages": [SAID | {"role": "system"}, SAID]}),
    "257 KiB of history": refused(413, "history", history(TURN + "x" * 257 * KIB)),
    "257 KiB of history in 3-byte characters": refused(413, "history", history(TURN + "ế" * (257 * KIB // 3))),
    "257 KiB of messages": refused(413, "messages", {"messages": [SAID, SAID | {"content": "x" * 257 * KIB}]}),
    "1,001 unanswered messages": refused(413, "history", history(TURN * 1001)),
    # the other fields
    "resources that are a list": refused(400, "resources", {"history": TURN, "resources": [CANARY]}),
    "17 KiB of resources": refused(413, "resources", {"history": TURN, "resources": {"note": "x" * 17 * KIB}}),
    "an empty message id": refused(400, "message_id", {"history": TURN, "message_id": ""}),
    "a message id with a space": refused(400, "message_id", {"history": TURN, "message_id": f"{CANARY} 1"}),
    "a message id with a line break": refused(400, "message_id", {"history": TURN, "message_id": f"{CANARY}\n"}),
    "a message id of 256": refused(400, "message_id", {"history": TURN, "message_id": CANARY + "x" * 250}),
    "a message id that is a number": refused(400, "message_id", {"history": TURN, "message_id": 1}),
    "a message id of another message": refused(
        400, "message_id", {"messages": [SAID | {"message_id": CANARY}], "message_id": f"{CANARY}-2"}
    ),
    "one id for two messages": refused(
        400, "message_id", {"messages": [SAID | {"message_id": CANARY}, SAID], "message_id": CANARY}
    ),
    "a bot id with a slash": refused(400, "bot_id", {"history": TURN, "bot_id": f"{CANARY}/1"}),
    "a bot id that is a number": refused(400, "bot_id", {"history": TURN, "bot_id": 1}),
    "an unknown bot id": refused(404, "bot_id", {"history": TURN, "bot_id": CANARY}),
    "an inactive bot": refused(409, "bot_id", {"history": TURN, "bot_id": "asleep"}),
    # the conversation's id
    "no conversation id": refused(400, "conversation_id", history(TURN), conversation_id=""),
    "a conversation id of 256": refused(400, "conversation_id", history(TURN), conversation_id=CANARY + "x" * 250),
    "a conversation id with /": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}/1"),
    "a conversation id with %2F": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}%2F1"),
    "a conversation id with {": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}{{"),
    "a conversation id with }": refused(400, "conversation_id", history(TURN), conversation_id=f"}}{CANARY}"),
    "a conversation id with a newline": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}\n"),
    "a conversation id with NUL": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}\x00"),
    "a conversation id with %00": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}%00"),
    "a conversation id with ë": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}ë"),
    "a conversation id with ٣": refused(400, "conversation_id", history(TURN), conversation_id=f"{CANARY}٣"),
}


@pytest.fixture
def configured(service: Service) -> Service:
    """The service with one bot, which isn't active."""
    archive = ConfiguredArchive(asleep=bot("asleep", is_active=False))
    parts = service.parts
    bots = BotConfigService(parts.tiers, archive, parts.settings)
    worker = replace(parts.worker, archive=archive, bots=bots)
    service.use(archive=archive, bots=bots, intake=replace(parts.intake, bots=bots), worker=worker)
    return service


def assert_refused(service: Service, answer: Answer, status: int, name: str | None) -> None:
    """Check the refusal. `Service.http` checks that it has no patient's words."""
    assert (answer.status, answer.body.get("field")) == (status, name)
    assert answer.body["detail"]
    assert service.queue.sent == []
    assert service.parts.tiers.tiers[0].locks(DEFAULT_PLATFORM) == []
    assert "Accepted" not in service.output.printed


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_request_is_refused_and_nothing_is_stored(configured: Service, name: str) -> None:
    row = ROWS[name]
    answer = configured.post(row.body, row.conversation_id, **row.more)
    assert_refused(configured, answer, row.status, row.name)
    key = ConversationKey(DEFAULT_PLATFORM, row.conversation_id)
    assert configured.parts.tiers.tiers[0].waiting(key) is None
    assert configured.parts.archive.conversation(key) is None


def test_another_bot_than_the_conversations_is_refused(configured: Service) -> None:
    archive = configured.parts.archive
    assert isinstance(archive, ConfiguredArchive)
    archive.bots |= {"nurse": bot("nurse"), "doctor": bot("doctor")}
    assert configured.post({"history": TURN, "bot_id": "nurse"}).body["bot_name"] == "Bot nurse"
    refused_in_the_tier = configured.post({"history": f"{TURN}<USER>more</USER>", "bot_id": "doctor"})
    configured.deliver()
    refused_by_the_archive = configured.post({"history": f"{TURN}<USER>more</USER>", "bot_id": "doctor"})
    for answer in (refused_in_the_tier, refused_by_the_archive):
        assert (answer.status, answer.body["field"]) == (409, "bot_id")
    assert configured.queue.sent == []


def call(service: Service, name: str, **changes: Any) -> Answer:
    return service.http(name.partition("-")[0], load_event(name) | changes)


def query(**parameters: list[str]) -> dict[str, Any]:
    return {
        "queryStringParameters": {name: values[-1] for name, values in parameters.items()},
        "multiValueQueryStringParameters": parameters,
    }


@pytest.mark.parametrize(
    "values",
    [
        ["abc"],
        ["999"],
        ["26"],
        ["-1"],
        ["+5"],
        ["1.5"],
        ["1e1"],
        [""],
        [" 5"],
        ["5\n"],
        ["٣"],
        ["0x1"],
        [CANARY],
        ["5", "abc"],
        ["abc", "5"],
        ["5", "5"],
    ],
)
def test_a_wait_that_is_no_number_of_seconds_up_to_25_is_refused(service: Service, values: list[str]) -> None:
    answer = call(service, "status-get-job", **query(wait=values))
    assert_refused(service, answer, 400, "wait")


@pytest.mark.parametrize("values", [["0"], ["25"], ["05"]])
def test_a_wait_from_0_to_25_is_fine(service: Service, values: list[str]) -> None:
    answer = call(service, "status-get-job", **query(wait=values))
    assert_refused(service, answer, 404, "job_id")


@pytest.mark.parametrize("method", ["status-get-job", "intake-delete-job"])
@pytest.mark.parametrize(
    "job_id",
    [
        "3616f6cf-e93b-8007-a95b-25c9aa32bfd2",
        "3616F6CF-E93B-8007-A95B-25C9AA32BFD2",
        "3616f6cfe93b8007a95b25c9aa32bfd2",
        "{3616f6cf-e93b-8007-a95b-25c9aa32bfd2}",
        "f1d0c2e4-6a55-4b0e-9d57-0a1b2c3d4e5f",
        "00000000-0000-0000-0000-000000000000",
        "3616f6cf-e93b-8007-295b-25c9aa32bfd2",
        CANARY,
        "",
        "%00",
        "\x00",
        "é" * 300,
    ],
)
def test_an_unknown_job_id_is_not_found(service: Service, method: str, job_id: str) -> None:
    answer = call(service, method, pathParameters={"job_id": job_id}, **query())
    assert_refused(service, answer, 404, "job_id")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"max_age_hours": -1}', "max_age_hours"),
        ('{"max_age_hours": -0.001}', "max_age_hours"),
        ('{"max_age_hours": "24"}', "max_age_hours"),
        ('{"max_age_hours": true}', "max_age_hours"),
        ('{"max_age_hours": null}', "max_age_hours"),
        ('{"max_age_hours": [24]}', "max_age_hours"),
        ('{"max_age_hours": 1e300}', "max_age_hours"),
        (f'{{"max_age_hours": {"9" * 400}}}', "max_age_hours"),
        ('{"max_age_hours": 1e999}', None),
        ('{"max_age_hours": NaN}', None),
        ('{"max_age_hours": 24, "max_age_hours": 0}', "max_age_hours"),
        (f'{{"max_age_hours": "{CANARY}"}}', "max_age_hours"),
        ('{"max_age": 1}', "max_age"),
        (f'{{"I am {CANARY}": 1}}', "?"),
        ("[]", None),
        ("0", None),
        ('""', None),
        ("false", None),
        (f"{{{CANARY}", None),
    ],
)
def test_a_clean_up_of_no_sensible_age_is_refused(service: Service, body: str, name: str | None) -> None:
    answer = call(service, "admin-cleanup-locks", body=body)
    assert_refused(service, answer, 400, name)


def test_a_clean_up_whose_age_is_in_the_wrong_place_is_refused(service: Service) -> None:
    answer = call(service, "admin-cleanup-locks", body=None, **query(max_age_hours=["-1"]))
    assert_refused(service, answer, 400, "max_age_hours")


@pytest.mark.parametrize("method", ["admin-get-lock", "admin-release-lock"])
@pytest.mark.parametrize("conversation_id", ["", CANARY + "x" * 250, f"{CANARY}/", f"{CANARY}\n", f"{CANARY}\x00"])
def test_a_lock_of_what_can_be_no_conversation_is_refused(service: Service, method: str, conversation_id: str) -> None:
    answer = call(service, method, pathParameters={"conversation_id": conversation_id})
    assert_refused(service, answer, 400, "conversation_id")


@pytest.mark.parametrize("conversation_id", ["", f"{CANARY}/", f"{CANARY}\x00"])
def test_a_look_at_what_can_be_no_conversation_is_refused(service: Service, conversation_id: str) -> None:
    answer = call(service, "intake-get-conversation", pathParameters={"conversation_id": conversation_id})
    assert_refused(service, answer, 400, "conversation_id")


@pytest.mark.parametrize("function", ["intake", "admin"])
@pytest.mark.parametrize(
    "changes",
    [
        {"resource": f"/{CANARY}", "path": f"/{CANARY}"},
        {"resource": None},
        {"httpMethod": "PUT"},
        {"httpMethod": "HEAD"},
        {"httpMethod": "OPTIONS"},
        {"httpMethod": None},
        {"httpMethod": "post"},
    ],
)
def test_an_unknown_route_is_not_found(service: Service, function: str, changes: dict[str, Any]) -> None:
    name = {"intake": "intake-post-message", "admin": "admin-cleanup-locks"}[function]
    answer = call(service, name, **changes)
    assert_refused(service, answer, 404, None)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"history": "<USER>{CANARY} \\ud83d\\ude00</USER>"}}',
        json.dumps(history(f"<USER>{CANARY} 😀</USER>"), ensure_ascii=False),
        json.dumps(history(f"<USER>{CANARY} \ufffe\uffff\u007f\u0001</USER>")),
        json.dumps({"messages": [SAID], "resources": None, "bot_id": None}),
        json.dumps({"messages": [SAID], "message_id": "wamid.HBgLMTU1NQ==:~!"}),
        json.dumps({"history": TURN, "resources": {"a": [{"b": {"c": [1, 1.5, -(2**63), None, True, "d"]}}]}}),
        json.dumps({"history": TURN, "resources": {"note": "ế" * (15 * KIB // 3)}}, ensure_ascii=False),
        json.dumps(history(TURN + "x" * 255 * KIB)),
    ],
    ids=["a surrogate pair", "an emoji", "odd characters", "nulls", "an id", "nesting", "accents", "255 KiB"],
)
def test_what_only_looks_odd_is_accepted(service: Service, body: str) -> None:
    assert service.post(body).status == 202
    assert len(service.queue.sent) == 1


def test_a_body_that_the_gateway_encoded_is_read(service: Service) -> None:
    body = base64.b64encode(json.dumps(history(f"<USER>{CANARY} ế</USER>"), ensure_ascii=False).encode()).decode()
    assert service.post(body, isBase64Encoded=True).status == 202


@pytest.mark.parametrize("conversation_id", ["x", "A-z_0.9:@", "user@clinic", "user%40clinic", "c" * 255])
def test_what_can_be_a_conversation_is_accepted(service: Service, conversation_id: str) -> None:
    assert service.post(history(TURN), conversation_id).status == 202


@pytest.mark.parametrize("conversation_id", CHANNEL_IDS)
@pytest.mark.parametrize("gateway", ["decodes", "passes on"])
def test_an_id_is_decoded_once_whatever_the_gateway_does(service: Service, conversation_id: str, gateway: str) -> None:
    sent = quote(conversation_id, safe="")
    assert post_to(service, sent, conversation_id if gateway == "decodes" else sent).status == 202
    assert key_of(decode(service.queue.sent[0][0])) == ConversationKey("default", conversation_id)


@pytest.mark.parametrize("conversation_id", CHANNEL_IDS)
@pytest.mark.parametrize("gateway", ["decodes", "passes on"])
def test_an_id_that_was_encoded_twice_is_refused(service: Service, conversation_id: str, gateway: str) -> None:
    once = quote(conversation_id, safe="")
    twice = quote(once, safe="")
    if once == twice:
        return  # it has nothing to encode
    answer = post_to(service, twice, once if gateway == "decodes" else twice)
    assert_refused(service, answer, 400, "conversation_id")


@pytest.mark.parametrize("character", REFUSED)
def test_a_conversations_id_may_not_have_this_character(service: Service, character: str) -> None:
    sent = quote(f"{CANARY}{character}1", safe="")
    for parameter in {sent, unquote(sent)}:
        answer = post_to(service, sent, parameter)
        assert_refused(service, answer, 400, "conversation_id")
        assert answer.body["detail"].endswith(CONVERSATION_ID_RULE)


def post_to(service: Service, sent: str, parameter: str) -> Answer:
    """Post a message to a path as it was sent; `parameter` is what the gateway made of the conversation's id."""
    return service.post(history(TURN), parameter, path=f"/conversations/{sent}/messages")
