"""What intake does with a request: validate, configure, accept, send, answer."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from message_handler import history
from message_handler.bot_config import BotConfigService
from message_handler.errors import HandedOff, InvalidRequest, OtherBot, PayloadTooLarge, Unavailable
from message_handler.handoff import silence
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.models import (
    DEFAULT_PLATFORM,
    Accepted,
    ConversationKey,
    Holding,
    Record,
    Request,
    Turn,
    is_identifier,
    new_message,
)
from message_handler.queues import Queue
from message_handler.settings import Settings
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive, Tier

MAX_HISTORY_BYTES = 256 * 1024
MAX_RESOURCES_BYTES = 16 * 1024
MAX_UNANSWERED = 1_000
#: Objects and lists within each other. Some JSON parsers behind us give up where Python's does not.
MAX_DEPTH = 32

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)

_IDENTIFIER = r"^[A-Za-z0-9._:@-]{1,255}$"
_MESSAGE_ID = r"^[!-~]{1,255}$"
Identifier = Annotated[str, Field(pattern=_IDENTIFIER)]
#: The platform's own ids: anything printable without spaces.
MessageId = Annotated[str, Field(pattern=_MESSAGE_ID)]

_IDENTIFIER_RULE = "must be 1 to 255 of A-Z a-z 0-9 . _ : @ -"
#: What to mend, by the kind of the error or the pattern that didn't match.
_ADVICE = {
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be user, assistant or sale",
    _IDENTIFIER: _IDENTIFIER_RULE,
    _MESSAGE_ID: "must be 1 to 255 printable ASCII characters without spaces",
}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class MessageBody(_Strict):
    """One turn of a JSON history."""

    role: Literal["user", "assistant", "sale"]
    content: str
    message_id: MessageId | None = None


class MessageRequest(_Strict):
    """The body of a request: the history as text, or as a list of messages; the whole or only what is new."""

    history: str | None = None
    messages: list[MessageBody] | None = None
    resources: dict[str, Any] = Field(default_factory=dict)
    bot_id: Identifier | None = None
    message_id: MessageId | None = None


def parse_request(value: Any) -> MessageRequest:
    """Check a request's shape. Raises InvalidRequest with the field's name, never its value."""
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    _check_json(value)
    try:
        request = MessageRequest.model_validate({k: v for k, v in value.items() if k != "resources" or v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        kind = first.get("ctx", {}).get("pattern", first["type"])
        raise InvalidRequest(_ADVICE.get(kind, first["msg"]), field=field_name(first["loc"])) from None
    if (request.history is None) == (request.messages is None):
        raise InvalidRequest("give either history or messages", field="history")
    return request


def field_name(location: Sequence[str | int]) -> str:
    """`messages.0.content`. An unknown field's name is the caller's own text: told only if it looks like a name."""
    return ".".join(str(part) if _NAME.fullmatch(str(part)) else "?" for part in location)


def _check_json(body: dict[str, Any]) -> None:
    """Refuse what JSON, Postgres or UTF-8 can't hold, wherever it hides. A library's caller may hand in anything."""
    waiting: list[tuple[Any, str, int]] = [(body, "", 0)]
    while waiting:
        value, field, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"is nested more than {MAX_DEPTH} deep", field=field)
        if isinstance(value, str):
            _check_text(value, field)
        elif isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise InvalidRequest("has a key that isn't text", field=field)
            waiting.extend((name, field or "body", depth + 1) for name in value)
            waiting.extend((item, field or field_name([name]), depth + 1) for name, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, field, depth + 1) for item in value)
        elif isinstance(value, int | float):
            if not abs(value) <= sys.float_info.max:  # NaN compares with nothing
                raise InvalidRequest("holds NaN or a number that is too large", field=field)
        elif value is not None:
            raise InvalidRequest("holds something that JSON can't", field=field)


def _check_text(text: str, field: str) -> None:
    if "\x00" in text:
        raise InvalidRequest("holds U+0000", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("holds a lone surrogate", field=field) from None


def request_of(messages: Sequence[str], bot_id: str | None = None) -> MessageRequest:
    """What a patient said, as a request. Raises InvalidRequest."""
    if isinstance(messages, str):
        raise InvalidRequest("must be a list of texts", field="messages")
    turns = [{"role": "user", "content": content} for content in messages]
    return parse_request({"messages": turns, "bot_id": bot_id})


def conversation_key(conversation_id: str, platform_id: str = DEFAULT_PLATFORM) -> ConversationKey:
    """The key of a conversation. Raises InvalidRequest for an id that can't be one."""
    if not is_identifier(conversation_id):
        raise InvalidRequest(_IDENTIFIER_RULE, field="conversation_id")
    return ConversationKey(platform_id, conversation_id)


def read_turns(request: MessageRequest) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The context and the patient's unanswered messages of a request. Raises RequestError.

    No messages only where it ends with a human's turn.
    """
    if request.history is not None:
        field, contents = "history", [request.history]
    else:
        field, contents = "messages", [message.content for message in request.messages or ()]
    if sum(len(content.encode()) for content in contents) > MAX_HISTORY_BYTES:
        raise PayloadTooLarge(f"more than {MAX_HISTORY_BYTES // 1024} KiB of history", field=field)
    if request.history is not None:
        turns = history.parse(request.history)
    else:
        turns = tuple(Turn(m.role, m.content, m.message_id) for m in request.messages or ())
    if len(json.dumps(request.resources, ensure_ascii=False).encode()) > MAX_RESOURCES_BYTES:
        raise PayloadTooLarge(f"more than {MAX_RESOURCES_BYTES // 1024} KiB of resources", field="resources")
    context, messages = history.split(turns)
    if not messages and turns and turns[-1].role == "sale":
        return _human_turn_with_own_id(context, request.message_id), ()
    if not messages:
        ended = "the history ends with a reply: there is nothing to answer"
        raise InvalidRequest(ended if turns else "there is no patient's message", field=field)
    if any(not message.content.strip() for message in messages):
        raise InvalidRequest("a patient's message is blank", field=field)
    if len(messages) > MAX_UNANSWERED:
        raise PayloadTooLarge(f"more than {MAX_UNANSWERED} unanswered messages", field=field)
    return context, _with_own_id(messages, request.message_id)


def _human_turn_with_own_id(context: tuple[Turn, ...], message_id: str | None) -> tuple[Turn, ...]:
    """As `_with_own_id` does, where a human's turn is the last."""
    sale = context[-1]
    if message_id and sale.message_id not in (None, message_id):
        raise InvalidRequest("names another message than the last one's own message_id", field="message_id")
    return (*context[:-1], Turn("sale", sale.content, message_id or sale.message_id))


def _with_own_id(messages: tuple[Turn, ...], message_id: str | None) -> tuple[Turn, ...]:
    """The request's `message_id` names its last message."""
    own = messages[-1]
    if message_id and own.message_id not in (None, message_id):
        raise InvalidRequest("names another message than the last one's own message_id", field="message_id")
    messages = (*messages[:-1], Turn(own.role, own.content, message_id or own.message_id))
    ids = [message.message_id for message in messages if message.message_id]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("two messages have the same message_id", field="message_id")
    return messages


@dataclass(frozen=True, slots=True)
class Intake:
    """The use case of the intake function."""

    tiers: Failover
    queue: Queue
    bots: BotConfigService
    settings: Settings
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)
    archive: Archive = field(kw_only=True)

    def handle(self, key: ConversationKey, request: MessageRequest) -> dict[str, Any]:
        """Accept a message: the body of the `202`. Raises RequestError, or Unavailable with nothing accepted."""
        context, messages = read_turns(request)
        bot_id = request.bot_id
        new = tuple(new_message(message.content, message.message_id) for message in messages)
        while True:
            config = self.bots.get_bot_config(key.conversation_id, bot_id=bot_id, platform_id=key.platform_id)
            limits = config["meta_data"]
            # More than the AI will see need not be kept in Redis and in the record.
            kept = history.trim(
                context,
                (),
                max_messages=int(limits.get("max_context_messages", 20)),
                max_characters=int(limits.get("max_context_characters", 10_000)),
            )
            accepting = Request(key, new, kept, config["bot_id"], request.resources)
            try:
                if self._human_answers(accepting, context):
                    raise HandedOff(0, ())
                tier, accepted = self.accept(accepting)
            except OtherBot as other:
                if bot_id:
                    raise
                # The conversation's first message is still on its way to Postgres: the tier knew better.
                bot_id = other.bot_id
                self.bots.belongs_to(key, bot_id)
                continue
            except HandedOff as silent:
                if told := self._hold(accepting, silent):
                    return told
                continue
            degraded = tier.name != self.tiers.expected or self.bots.degraded
            return response(accepted, config["name"], degraded=degraded)

    def _human_answers(self, request: Request, context: tuple[Turn, ...]) -> bool:
        """Whether a human has spoken since the bot's last turn and not handed back: the bot is silent then.

        Raises Unavailable, and InvalidRequest for a mere notification of what was noted before it was handed back.
        """
        said = history.since_the_bot(context)
        if not said:
            return False
        noted = self.archive.note_sale(request.key, request.bot_id, said)
        if noted == "new":
            silence(self.tiers, self.queue, request.key)
        elif noted == "handed back" and not request.messages:
            raise InvalidRequest("the history ends with a reply: there is nothing to answer", field="history")
        return noted != "handed back"

    def _hold(self, request: Request, silent: HandedOff) -> dict[str, Any] | None:
        """Keep a request's messages while a human answers; None if the bot does, whatever the tier believes.

        Raises Unavailable: nothing is promised that is not durable.
        """
        messages = request.messages[silent.answered :]
        held = self.archive.hold(request.key, messages, request.context, request.resources)
        if held is None:
            with suppress(Unavailable):
                self.tiers.each(lambda tier: tier.hand_off(request.key, human=False))
            return None
        if messages:
            self.meter.add("MessagesAccepted")
        if held.duplicate:
            self.meter.add("MessagesDuplicate")
        return held_response(held, silent.waiting, degraded=self.bots.degraded)

    def accept(self, request: Request) -> tuple[Tier, Accepted]:
        """Take the messages in and send their record, or undo; returns the tier that took them too.

        The record is sent for a duplicate too: whoever accepted it first may have died before it was sent
        (counterexample 1).
        """
        key, began = request.key, self.clock()
        # The same names on every tier: one that did it and could not say so leaves no second job.
        job_id, lock_id = key.new_job_id(), str(uuid.uuid4())
        tier, accepted = self.tiers.first(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        self.meter.add("TimeToLock", 1000 * (self.clock() - began))
        # A job that has ended keeps nothing waiting: its record stands for the request's own message alone,
        # under the name that was answered.
        own = replace(request.messages[-1], message_id=accepted.message_id)
        messages = accepted.pending or (own,)
        record = Record(
            accepted.job_id,
            accepted.message_id,
            Request(key, messages, request.context, request.bot_id, request.resources),
        )
        # No worker shares this process's memory: a record that waited there for its job would wait in vain.
        alone = tier.name == "memory" and not self.queue.in_process
        try:
            self.queue.send(record, delay=0 if accepted.lock_id or alone else self.settings.join_delay)
        except (Unavailable, PayloadTooLarge):
            # What a tier that went away meanwhile keeps is woken by the sweep: answered, though it was refused.
            with suppress(Unavailable):
                tier.undo(key, accepted.posted)
            raise
        self._measure(tier, accepted)
        return tier, accepted

    def _measure(self, tier: Tier, accepted: Accepted) -> None:
        self.meter.add("MessagesAccepted")
        self.meter.add("Tier", TIER_VALUES[tier.name])
        if accepted.duplicate:
            self.meter.add("MessagesDuplicate")
        elif accepted.lock_id is None:
            self.meter.add("MessagesConsolidated")


def response(accepted: Accepted, bot_name: str, *, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202`."""
    extra = {"degraded": True} if degraded else {}
    if accepted.lock_id:
        return {
            "success": True,
            "status": "ai_processing_started",
            "action": "lock_acquired",
            "ai_job_id": accepted.job_id,
            "lock_id": accepted.lock_id,
            "consolidated_messages": accepted.consolidated_messages,
            "bot_name": bot_name,
        } | extra
    body = {
        "success": True,
        "status": "locked",
        "action": "lock_exists",
        "message": "Message being processed by another request",
        "ai_job_id": accepted.job_id,
        "consolidated_messages": accepted.consolidated_messages,
    }
    return body | ({"duplicate": True} if accepted.duplicate else {}) | extra


def held_response(held: Holding, waiting: Sequence[str], *, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202` while a human answers; `waiting` are messages that a tier has still to hand over."""
    body = {
        "success": True,
        "status": "handed_off",
        "action": "stored",
        "message": "A human answers this conversation; the bot answers what waits when it is handed back",
        "ai_job_id": None,
        "consolidated_messages": len({*held.message_ids, *waiting}),
    }
    return body | ({"duplicate": True} if held.duplicate else {}) | ({"degraded": True} if degraded else {})
