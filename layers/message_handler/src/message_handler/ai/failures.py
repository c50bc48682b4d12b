"""What can go wrong with an AI provider: one set of codes for all providers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from message_handler.domain.errors import AIError

_MESSAGES = {
    "ai_timeout": "The AI did not answer in time.",
    "ai_unreachable": "The AI could not be reached, or its answer broke off.",
    "ai_rate_limited": "The AI accepts no more requests at the moment.",
    "ai_unavailable": "The AI is not available at the moment.",
    "ai_refused_request": "The AI refused the request: check the AI core's endpoint, model and parameters.",
    "ai_unauthorized": "The AI refused the credentials: check the AI core's token and its permissions.",
    "ai_protocol": "The AI's answer does not follow its protocol: check the AI core's endpoint.",
    "ai_empty": "The AI's answer was empty.",
    "ai_too_long": "The AI's answer was too long: raise the AI core's max_reply_characters, or ask for less.",
    "ai_failed": "The AI failed unexpectedly.",
    "ai_truncated": "The AI's answer was cut at its token limit: raise the AI core's max_tokens.",
    "ai_refused": "The AI, or a filter of its provider, refused to answer.",
    "ai_context_too_long": "The conversation is longer than the model reads: lower the bot's max_context_characters.",
    "ai_not_paid": "The AI's provider wants to be paid: check the account that the AI core's token belongs to.",
    "ai_credentials_missing": "The AI's credentials are missing, or may not be used there: check the AI core's token.",
    "ai_unsupported": "The scheme of the AI core's endpoint has no provider: write the endpoint again.",
    "ai_not_configured": "No AI is configured for this bot, or its configuration could not be read.",
    "ai_address_refused": "The AI's address is not allowed: check EGRESS_ALLOWED_HOSTS.",
}

#: How providers say why they refuse, in a `code` or `type`.
_NAMED = {
    **dict.fromkeys(("content_filter", "content_filtered", "content_policy_violation"), "ai_refused"),
    **dict.fromkeys(("responsibleaipolicyviolation", "data_inspection_failed", "sensitive"), "ai_refused"),
    **dict.fromkeys(("context_length_exceeded", "context_window_exceeded"), "ai_context_too_long"),
    **dict.fromkeys(("exceed_context_size_error", "prompt_too_long", "request_too_large"), "ai_context_too_long"),
    **dict.fromkeys(("insufficient_quota", "insufficient_balance", "billing_not_active"), "ai_not_paid"),
    **dict.fromkeys(("billing_hard_limit_reached", "payment_required"), "ai_not_paid"),
}
#: How they say it in a message only, in small letters.
_SAID = (
    (re.compile(r"content management policy|content_filter"), "ai_refused"),
    (
        re.compile(
            r"(context|sequence|prompt|input) (length|window|size)|context limit|max_model_len|max_new_tokens"
            r"|(prompt|input|request) is too long|too many (input )?tokens|reduce the length"
            r"|maximum number of (input )?tokens"
        ),
        "ai_context_too_long",
    ),
)
#: It speaks of requests over time, not of this one's length.
_BUSY = re.compile(r"rate.?limit|per (second|minute|day)|please wait|try again|overloaded")
#: Statuses with which a request is refused for what is in it.
_REFUSED_REQUESTS = (400, 413, 422)
#: A field that some servers don't know, although the protocol has it.
_OPTIONAL_FIELDS = ("stream_options",)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (3600, 60, 1, 0.001)


class ProviderFailure(AIError):
    """One try that gave no answer. `again`: another try may. `retry_after`: seconds to wait before it.

    `resets_in`: the seconds until the provider's limit starts again. A try may succeed before that. `unknown_fields`:
    the request's fields that the provider does not know. `name`: the provider's own name for the failure.
    """

    def __init__(
        self,
        code: str,
        *,
        again: bool = False,
        status: int | None = None,
        retry_after: float | None = None,
        resets_in: float | None = None,
        unknown_fields: tuple[str, ...] = (),
        name: str | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(code, message or _MESSAGES[code])
        self.again = again
        self.status = status
        self.retry_after = retry_after
        self.resets_in = resets_in
        self.unknown_fields = unknown_fields
        self.name = name


def of_response(status: int, headers: Mapping[str, str], body: bytes = b"") -> ProviderFailure:
    """What an HTTP response without an answer means. The names of `headers` are in small letters."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    error = document.get("error", document) if isinstance(document, dict) else document
    code = _named(error, status)
    if code == "ai_not_paid" or status == 402:
        return ProviderFailure("ai_not_paid", status=status)
    if status in (401, 403):
        return ProviderFailure("ai_unauthorized", status=status)
    # 424: Bedrock's model failed.
    if status in (408, 409, 424, 429) or status >= 500:
        return ProviderFailure(
            "ai_rate_limited" if status == 429 else "ai_unavailable",
            again=True,
            status=status,
            retry_after=_retry_after(headers),
            resets_in=_resets_in(headers, status),
        )
    if status in _REFUSED_REQUESTS and code:
        return ProviderFailure(code, status=status)
    unknown = tuple(name for name in _OPTIONAL_FIELDS if status in _REFUSED_REQUESTS and name in _words(error))
    return ProviderFailure(
        "ai_refused_request" if status >= 400 else "ai_protocol", status=status, unknown_fields=unknown
    )


def of_error(error: Any) -> ProviderFailure:
    """What an error within a stream means. The provider began with 200, so it may be tried again."""
    number = str(error.get("code")) if isinstance(error, dict) else ""
    if number == "429":
        return ProviderFailure("ai_rate_limited", again=True, status=200)
    code = None if number.startswith("5") else _named(error, 400)
    return ProviderFailure(code or "ai_unavailable", again=code is None, status=200)


def _named(error: Any, status: int) -> str | None:
    """The code for what an error's own words say."""
    fields = error if isinstance(error, dict) else {}
    inner = fields.get("innererror")
    names = [fields.get("code"), fields.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    for name in names:
        if isinstance(name, str) and (code := _NAMED.get(name.lower())):
            return code
    if status not in _REFUSED_REQUESTS:
        return None
    words = _words(error)
    if _BUSY.search(words):
        return None
    said = (code for pattern, code in _SAID if pattern.search(words))
    return next(said, "ai_context_too_long" if status == 413 else None)


def _words(error: Any) -> str:
    """What an error says in words, in small letters. It may quote the prompt: nothing but a code comes of it."""
    fields = error if isinstance(error, dict) else {"message": error}
    words = [fields.get(name) for name in ("message", "param", "detail", "msg")]
    for fault in _items_of(fields.get("detail")):
        if isinstance(fault, dict):
            words += [fault.get("msg"), *_items_of(fault.get("loc"))]
    return " ".join(word for word in words if isinstance(word, str))[:10_000].lower()


def _items_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a provider asks to wait: in `retry-after-ms`, or in `Retry-After` as a number or a date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after")
    seconds = _number(stated)
    return seconds if seconds is not None else _until(stated)


def _resets_in(headers: Mapping[str, str], status: int) -> float | None:
    """Seconds until the limits that are used up start again, by `x-ratelimit-reset-*`; None if none is.

    A limit whose `x-ratelimit-remaining-*` is missing counts as used up for a 429.
    """
    unknown = "0" if status == 429 else ""
    waits: dict[str, float] = {}
    for name, value in headers.items():
        if name.startswith("x-ratelimit-reset") and (seconds := _reset(value)) is not None:
            waits[name.replace("reset", "remaining", 1)] = seconds
    used_up = [seconds for name, seconds in waits.items() if headers.get(name, unknown).strip() == "0"]
    return max(used_up, default=None)


def _reset(value: str) -> float | None:
    """Seconds of "1m30s", "250ms", "12", a Unix time in seconds or milliseconds, or a date."""
    number = _number(value)
    if number is not None:
        at = number / 1000 if number > 1e11 else number
        return max(0.0, at - datetime.now(UTC).timestamp()) if at > 1e9 else at
    if value.strip() and (match := _DURATION.fullmatch(value.strip())):
        return sum(float(count) * unit for count, unit in zip(match.groups(), _UNITS, strict=True) if count)
    return _until(value)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(value: str | None) -> float | None:
    """The seconds until a date of RFC 9110 or RFC 3339."""
    for parsed in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parsed(value or "")
            return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError, OverflowError):
            continue
    return None
