"""What the API takes: the functions' own models, and what they check without one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from message_handler.configuration import records
from message_handler.domain.validation import Identifier, Strict
from message_handler.intake import requests
from message_handler.operations.sweeping import MAX_AGE_HOURS

__all__ = ["Bot", "Cleanup", "CoreAI", "Handoff", "MessageRequest", "Platform"]


#: An id of the address: the body may leave it out.
OwnId = Annotated[Identifier, Field(json_schema_extra=lambda schema: schema.pop("default", None))]


def _one(given: str, schema: dict[str, Any], left_out: str) -> dict[str, Any]:
    return {"required": [given], "properties": {given: schema, left_out: {"type": "null"}}}


class MessageRequest(requests.MessageRequest):
    """The history as text, or as a list of messages; the whole or only what is new.

    `double_texting` and `debounce_ms` stand in for the bot's own, for this request.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _one("history", {"type": "string", "minLength": 1}, "messages"),
                _one("messages", {"type": "array", "minItems": 1}, "history"),
            ]
        }
    )


class Handoff(Strict):
    """Who shall answer."""

    to: Literal["human", "bot"]


class Cleanup(Strict):
    """Locks that are older than this are freed, beside those whose worker is silent."""

    max_age_hours: Annotated[float, Field(ge=0, le=MAX_AGE_HOURS)] = 24


class Bot(records.Bot):
    """A bot's record. What is left out gets its default; ids may only repeat the address."""

    bot_id: OwnId = ""
    platform_id: OwnId = ""


class CoreAI(records.CoreAI):
    """An AI core's record. `auth_token` is the ARN of a secret below the tenant's prefix, or `***`: as it is stored."""

    core_ai_id: OwnId = ""


class Platform(records.Platform):
    """A platform's record. Secrets are ARNs of secrets below the tenant's prefix, or `***`: as they are stored."""

    platform_id: OwnId = ""
