"""The rules for the records of bots, AI cores and platforms.

`parse_record` refuses a wrong record when an operator writes it, before a patient needs it. Records that were written
into a table past the API are used as far as possible: see `usable`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from message_handler.ai.providers import MODEL, check_core_ai
from message_handler.configuration.redaction import REDACTED
from message_handler.domain.conversations import DEFAULT_LANGUAGE
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.errors import InvalidRequest
from message_handler.domain.identifiers import is_arn
from message_handler.domain.text import is_wordless
from message_handler.domain.validation import MAX_DEBOUNCE_MS, Identifier, Strict, check_json, field_name, validated
from message_handler.ports.configuration import RecordKind

_WEBHOOK_SECRET = "whsec_"  # noqa: S105  the beginning of Standard Webhooks' secrets

_LANGUAGE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
_TOKEN = r"^[!-~]{1,4096}$"  # noqa: S105  a pattern
#: Of all partitions: eu-central-1, us-gov-west-1, us-iso-east-1, cn-north-1, eusc-de-east-1.
_REGION = r"^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$"
_FIELD = r"^[a-z][a-z0-9_]{0,63}$"
_TAG = r"^[A-Za-z][A-Za-z0-9_:.-]{0,39}$"
_GUARDRAIL = r"^([a-z0-9]{1,64}|arn:aws[a-z-]*:bedrock:[a-z0-9-]+:[0-9]{12}:guardrail/[a-z0-9]{1,64})$"
_COUNTRY = r"^[A-Z]{2}$"
_DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
_NUMBER = r"^[+*#() -]*[0-9][0-9+*#() -]*$"
_GUARDRAIL_VERSION = r"^([1-9][0-9]{0,7}|DRAFT)$"
_MAX_EXTRA_BODY_BYTES = 16 * 1024
#: The characters of a path and a query in RFC 3986. A path that begins with `//` would name another host.
_PATH = r"^/([A-Za-z0-9._~!$&'()*+,;=:@%-][A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,1000})?$"
#: What to correct in a `ReviewDay`.
DAY_ADVICE = {_DAY: "must be a day, such as 2026-11-30"}
_ADVICE = DAY_ADVICE | {
    _LANGUAGE: "must be a language, such as vi or pt-BR",
    _TOKEN: "must be 1 to 4096 printable ASCII characters without spaces, or a Secrets Manager ARN",
    MODEL: "must be 1 to 512 printable ASCII characters without spaces",
    _REGION: "must be an AWS region, such as eu-central-1",
    _PATH: "must be a path that starts with one /, such as /webhooks/messages",
    _FIELD: "must be a field's name, such as stream_options",
    _TAG: "must be a tag's name without its brackets, such as think",
    _COUNTRY: "must be a country's code, such as VN (ISO 3166)",
    _NUMBER: "must be a telephone number, such as 115",
    _GUARDRAIL: "must be a guardrail's id or ARN",
    _GUARDRAIL_VERSION: "must be a version's number, or DRAFT",
}

Name = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=2_000)]
Characters = Annotated[int, Field(ge=0, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Number = Annotated[str, Field(pattern=_NUMBER, min_length=2, max_length=40)]


def wrong(advice: str) -> PydanticCustomError:
    """What a validator raises. The message is the advice alone: no value is formatted into it."""
    return PydanticCustomError("wrong", "{advice}", {"advice": advice})


def shows_words(value: str) -> str:
    """Patients would see an empty bubble, and no person is named by blanks."""
    if is_wordless(value):
        raise wrong("must have words")
    return value


def _has_come(value: str) -> str:
    """A review in the future would never become old. Somewhere on earth it may be tomorrow already."""
    try:
        has_come = date.fromisoformat(value) <= datetime.now(UTC).date() + timedelta(days=1)
    except ValueError:
        has_come = False
    if not has_come:
        raise wrong("must be a day of the calendar, and not in the future")
    return value


Notice = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(shows_words)]
ReviewDay = Annotated[str, Field(pattern=_DAY), AfterValidator(_has_come)]


class BotMetaData(Strict):
    """How a bot answers. A field that is left out, or null, has its default."""

    double_texting: DoubleTexting | None = None
    debounce_ms: Annotated[int, Field(ge=0, le=MAX_DEBOUNCE_MS)] | None = None
    debounce_max_ms: Annotated[int, Field(ge=0, le=30_000)] | None = None
    max_context_messages: Annotated[int, Field(ge=0, le=1_000)] | None = None
    max_context_characters: Characters | None = None
    show_partial_reply: bool | None = None
    country: Annotated[str, Field(pattern=_COUNTRY)] | None = None
    after_danger: Literal["answer", "silent", "human"] | None = None
    failure_message: Any = None
    disclosure: Any = None
    disclosure_every: Annotated[int, Field(ge=1, le=1_000)] | None = None
    disclosure_hours: Annotated[int, Field(ge=1, le=8_760)] | None = None

    @field_validator("debounce_max_ms")
    @classmethod
    def _bounds_the_debounce(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < (info.data.get("debounce_ms") or 0):
            raise wrong("must not be less than debounce_ms")
        return value

    @field_validator("failure_message", "disclosure")
    @classmethod
    def _is_text_in_languages(cls, value: Any) -> Any:
        texts = list(value.values()) if isinstance(value, dict) else [value]
        languages = value if isinstance(value, dict) else ()
        if value is not None and not (
            texts
            and all(isinstance(text, str) and not is_wordless(text) and len(text) <= 2_000 for text in texts)
            and all(re.fullmatch(_LANGUAGE, language) for language in languages)
        ):
            raise wrong("must be a text of 1 to 2000 characters, or an object with such a text for each language")
        return value


class Guardrail(Strict):
    """A guardrail of Amazon Bedrock, which checks what a model is asked and what it answers."""

    id: Annotated[str, Field(pattern=_GUARDRAIL)]
    version: Annotated[str, Field(pattern=_GUARDRAIL_VERSION)]


class CoreAIMetaData(Strict):
    """How an AI provider is asked."""

    model: Annotated[str, Field(pattern=MODEL)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    system_prompt: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    max_reply_characters: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_resources_characters: Characters | None = None
    auth_header: Literal["authorization", "api-key"] | None = None
    omit: Annotated[list[Annotated[str, Field(pattern=_FIELD)]], Field(max_length=20)] | None = None
    extra_body: dict[str, Any] | None = None
    system_role: Literal["system", "developer", "user"] | None = None
    reasoning_tags: Annotated[list[Annotated[str, Field(pattern=_TAG)]], Field(max_length=8)] | None = None
    reasoning_starts_open: bool | None = None
    region: Annotated[str, Field(pattern=_REGION)] | None = None
    guardrail: Guardrail | None = None
    fallback_core_ai_id: Identifier | None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _is_the_only_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") is not None:
            raise wrong("must be left out, because max_tokens is given: providers accept only one of the two")
        return value

    @field_validator("omit")
    @classmethod
    def _keeps_the_messages(cls, value: list[str] | None) -> list[str] | None:
        if value and "messages" in value:
            raise wrong("must not have messages: without them there is nothing to answer")
        return value

    @field_validator("extra_body")
    @classmethod
    def _is_small_and_leaves_the_messages(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and "messages" in value:
            raise wrong("must not have messages: they are the conversation's")
        if value and len(json.dumps(value).encode()) > _MAX_EXTRA_BODY_BYTES:
            raise wrong(f"must not be larger than {_MAX_EXTRA_BODY_BYTES // 1024} KiB")
        return value


class NoticeTexts(Strict):
    """The texts of the safety notices in one language. A level without a text has the product's own."""

    emergency: Notice | None = None
    crisis: Notice | None = None
    urgent: Notice | None = None


class EmergencyContacts(Strict):
    """How patients in one country get help: telephone numbers and texts, and the person who has reviewed both."""

    country: Annotated[str, Field(pattern=_COUNTRY)]
    emergency: Number
    crisis: Number | None = None
    texts: dict[Annotated[str, Field(pattern=_LANGUAGE)], NoticeTexts] = Field(default_factory=dict)
    reviewed_by: Annotated[Name, AfterValidator(shows_words)]
    reviewed_at: ReviewDay


class PlatformMetaData(Strict):
    """How a platform is told of replies, how many messages it may send, and how its patients get help."""

    rate_limit_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    webhook_path: Annotated[str, Field(pattern=_PATH)] | None = None
    webhook_secrets: Annotated[list[str], Field(min_length=1, max_length=2)] | None = None
    emergency_contacts: Annotated[list[EmergencyContacts], Field(min_length=1, max_length=250)] | None = None

    @field_validator("emergency_contacts")
    @classmethod
    def _are_one_for_each_country(cls, values: list[EmergencyContacts] | None) -> list[EmergencyContacts] | None:
        if len({each.country for each in values or ()}) < len(values or ()):
            raise wrong("must not have a country twice")
        return values

    @field_validator("webhook_secrets")
    @classmethod
    def _are_secrets(cls, values: list[str] | None) -> list[str] | None:
        if not all(value == REDACTED or is_arn(value) or _is_webhook_secret(value) for value in values or ()):
            raise wrong(
                "must each be whsec_ with the base64 of 24 to 64 bytes, or the whole ARN of a secret in Secrets Manager"
            )
        return values


class Bot(Strict):
    """A bot's record, without its ids."""

    name: Name
    description: Description = ""
    language: Annotated[str, Field(pattern=_LANGUAGE)] = DEFAULT_LANGUAGE
    is_active: bool = True
    core_ai_id: Identifier | None = None
    meta_data: BotMetaData = BotMetaData()


class CoreAI(Strict):
    """An AI core's record, without its id. `auth_required` is True by default if there is a token."""

    name: Name
    api_endpoint: Annotated[str, Field(min_length=1, max_length=2_000)]
    auth_required: bool | None = None
    auth_token: Annotated[str, Field(pattern=_TOKEN)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=100)] = 30
    meta_data: CoreAIMetaData = CoreAIMetaData()

    @field_validator("auth_token")
    @classmethod
    def _is_no_half_arn(cls, value: str | None) -> str | None:
        if value and value.startswith("arn:") and not is_arn(value):
            raise wrong("is not the whole ARN of a secret in Secrets Manager")
        return value


class Platform(Strict):
    """A platform's record, without its id."""

    name: Name
    description: Description = ""
    base_url: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    auth_required: bool = False
    meta_data: PlatformMetaData = PlatformMetaData()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record: the field with its id, the word for it in texts, and the fields of a record."""

    id_field: str
    noun: str
    record: type[Strict]
    meta_data: type[Strict]


KINDS: dict[RecordKind, Kind] = {
    "bots": Kind("bot_id", "bot", Bot, BotMetaData),
    "core_ai": Kind("core_ai_id", "AI core", CoreAI, CoreAIMetaData),
    "platforms": Kind("platform_id", "platform", Platform, PlatformMetaData),
}


def parse_record(kind: RecordKind, body: Any, ids: dict[str, str]) -> dict[str, Any]:
    """Read the body of a write as a whole record. `ids` are those in the address; the body may only repeat them.

    Raises InvalidRequest.
    """
    body = dict(check_json(body))
    for name, id_ in ids.items():
        if body.pop(name, id_) != id_:
            raise InvalidRequest("must be the one in the address, or be left out", field=name)
    checked = validated(KINDS[kind].record, body, _ADVICE)
    record = checked.model_dump() | checked.model_dump(include={"meta_data"}, exclude_none=True)
    if kind == "core_ai":
        if record["auth_required"] is None:
            record["auth_required"] = record["auth_token"] is not None
        check_core_ai(record)
    if kind == "platforms" and record["base_url"] is not None:
        _check_base_url(record["base_url"])
    return record | ids


def _check_base_url(url: str) -> None:
    try:
        goes_on = urlsplit(url).query or urlsplit(url).fragment or url.endswith(("?", "#"))
    except ValueError:
        raise InvalidRequest("is not a URL", field="base_url") from None
    if goes_on:
        raise InvalidRequest("must have no query and no fragment: webhook_path is added to it", field="base_url")


def usable(kind: RecordKind, meta_data: Any) -> tuple[dict[str, Any], list[str]]:
    """The usable part of an unchecked `meta_data`, and the names of the keys that can't be used.

    A wrong value counts as not set, because the bot must go on answering.
    """
    values = meta_data if isinstance(meta_data, dict) else {}
    values = {name: value for name, value in values.items() if value is not None}
    left_out: list[str] = [] if isinstance(meta_data, dict) else ["meta_data"]
    while True:
        try:
            KINDS[kind].meta_data.model_validate(values)
        except ValidationError as error:
            names = {str(one["loc"][0]) for one in error.errors(include_url=False, include_input=False)}
            left_out += sorted(field_name([name]) for name in names)
            values = {name: value for name, value in values.items() if name not in names}
        else:
            return values, left_out


def _is_webhook_secret(value: str) -> bool:
    if not value.startswith(_WEBHOOK_SECRET):
        return False
    try:
        key = base64.b64decode(value.removeprefix(_WEBHOOK_SECRET), validate=True)
    except (binascii.Error, ValueError):
        return False
    return 24 <= len(key) <= 64
