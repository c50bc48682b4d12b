"""What can go wrong with an AI provider: one set of codes for all providers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
    "ai_credentials_missing": "The AI's credentials are missing, or may not be used there: check the AI core's token.",
    "ai_unsupported": "The scheme of the AI core's endpoint has no provider: write the endpoint again.",
    "ai_address_refused": "The AI's address is not allowed: check EGRESS_ALLOWED_HOSTS.",
}


class ProviderFailure(AIError):
    """One try that gave no answer. `again`: another try may. `retry_after`: seconds to wait before it."""

    def __init__(
        self, code: str, *, again: bool = False, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(code, _MESSAGES[code])
        self.again = again
        self.status = status
        self.retry_after = retry_after


def of_status(status: int, retry_after: str | None = None) -> ProviderFailure:
    """The failure that an HTTP status means."""
    if status in (401, 403):
        return ProviderFailure("ai_unauthorized", status=status)
    if status == 429:
        return ProviderFailure("ai_rate_limited", again=True, status=status, retry_after=_seconds(retry_after))
    # Bedrock answers 424 when its model has failed.
    if status in (408, 409, 424) or status >= 500:
        return ProviderFailure("ai_unavailable", again=True, status=status, retry_after=_seconds(retry_after))
    return ProviderFailure("ai_refused_request" if status >= 400 else "ai_protocol", status=status)


def _seconds(retry_after: str | None) -> float | None:
    """The seconds that a Retry-After header asks to wait. It holds seconds or a date (RFC 9110)."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
