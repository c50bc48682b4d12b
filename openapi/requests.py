"""The bodies of requests: the functions' own models, and a model for each body that they check without one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from message_handler.configuration import records, safety_rules
from message_handler.domain.identifiers import CONVERSATION_ID, CONVERSATION_ID_RULE
from message_handler.domain.validation import Identifier, Strict
from message_handler.intake import requests
from message_handler.operations.raised import MOST_WHY
from message_handler.operations.sweeping import MAX_AGE_HOURS

__all__ = ["Bot", "Cleanup", "Close", "CoreAI", "Drill", "Handoff", "MessageRequest", "Platform", "SafetyRules"]


#: An id that stands in the address: the body may omit it.
OwnId = Annotated[Identifier, Field(json_schema_extra=lambda schema: schema.pop("default", None))]


class HistoryRequest(requests.MessageRequest):
    """A message whose history is one text. `message_id` and `edited_at` are those of the last message.

    `double_texting` and `debounce_ms` replace the bot's own values.
    """

    history: Annotated[str, Field(min_length=1)]
    messages: None = None


class MessagesRequest(requests.MessageRequest):
    """A message whose history is a list. `message_id` and `edited_at` are those of the last message.

    `double_texting` and `debounce_ms` replace the bot's own values.
    """

    messages: Annotated[list[requests.MessageBody], Field(min_length=1)]
    history: None = None


class MessageRequest(RootModel[HistoryRequest | MessagesRequest]):
    """A patient's message and the history before it: all of it, or only the new part."""


class Handoff(Strict):
    """Who answers from now on."""

    to: Literal["human", "bot"]


class Cleanup(Strict):
    """Releases the locks that are older than this, and those whose worker is silent."""

    max_age_hours: Annotated[float, Field(ge=0, le=MAX_AGE_HOURS)] = 24


class Close(Strict):
    """Why a raised conversation is closed: the operator's own word. It must never be a patient's text."""

    why: Annotated[str, Field(min_length=1, max_length=MOST_WHY, examples=["The nurse has called the patient."])]


class Drill(Strict):
    """The conversation in which a drill is raised."""

    conversation_id: Annotated[str, Field(pattern=f"^{CONVERSATION_ID}$", description=CONVERSATION_ID_RULE)]


class SafetyRules(safety_rules.SafetyRules):
    """What a tenant writes about the safety rules. An omitted field gets its default.

    `languages`: of the shipped rules that are tried; null for all. English and the languages of the tenant's bots are
    always tried. `rules`: own rules, one entry for each language, in the form of a file of rules; 64 KiB at most.
    `not_applicable`: by the ids of shipped rules, why they do not apply.
    """


class Bot(records.Bot):
    """A bot's record. An omitted field gets its default. An id must equal the one in the address."""

    bot_id: OwnId = ""
    platform_id: OwnId = ""


class CoreAI(records.CoreAI):
    """An AI core's record. `auth_token` is a secret's ARN below the tenant's prefix; `***` keeps the stored one."""

    core_ai_id: OwnId = ""


class Platform(records.Platform):
    """A platform's record. A secret is the ARN of one below the tenant's prefix; `***` keeps the stored one."""

    platform_id: OwnId = ""
