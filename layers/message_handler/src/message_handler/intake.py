"""What intake does with a request: validate, configure, accept, send, answer."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from message_handler import history
from message_handler.bot_config import BotConfigService
from message_handler.errors import (
    PASSING,
    HandedOff,
    InvalidRequest,
    OtherBot,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
)
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.models import (
    DEFAULT_PLATFORM,
    Accepted,
    ConversationKey,
    DoubleTexting,
    Holding,
    Record,
    Request,
    Turn,
    is_identifier,
    new_id,
    new_message,
)
from message_handler.queues import Queue
from message_handler.settings import Settings
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive, Tier
from message_handler.validation import IDENTIFIER_RULE, MAX_DEBOUNCE_MS, Identifier, Strict, check_json, validated

_log = logging.getLogger(__name__)

MAX_HISTORY_BYTES = 256 * 1024
MAX_RESOURCES_BYTES = 16 * 1024
MAX_UNANSWERED = 1_000
#: A patient is waited for no longer than this in all, unless the bot says so.
DEFAULT_DEBOUNCE_MAX_MS = 10_000

_MESSAGE_ID = r"^[!-~]{1,255}$"
#: The platform's own ids: anything printable without spaces.
MessageId = Annotated[str, Field(pattern=_MESSAGE_ID)]

_ADVICE = {_MESSAGE_ID: "must be 1 to 255 printable ASCII characters without spaces"}


class MessageBody(Strict):
    """One turn of a JSON history."""

    role: Literal["user", "assistant", "sale"]
    content: str
    message_id: MessageId | None = None


class MessageRequest(Strict):
    """The body of a request: the history as text, or as a list of messages; the whole or only what is new.

    `double_texting` and `debounce_ms` stand in for the bot's own, for this request.
    """

    history: str | None = None
    messages: list[MessageBody] | None = None
    resources: dict[str, Any] = Field(default_factory=dict)
    bot_id: Identifier | None = None
    message_id: MessageId | None = None
    double_texting: DoubleTexting | None = None
    debounce_ms: Annotated[int, Field(ge=0, le=MAX_DEBOUNCE_MS)] | None = None


def parse_request(value: Any) -> MessageRequest:
    """Check a request's shape. Raises InvalidRequest with the field's name, never its value."""
    body = check_json(value)
    given = {name: item for name, item in body.items() if name != "resources" or item is not None}
    request = validated(MessageRequest, given, _ADVICE)
    if (request.history is None) == (request.messages is None):
        raise InvalidRequest("give either history or messages", field="history")
    return request


def request_of(messages: Sequence[str], bot_id: str | None = None) -> MessageRequest:
    """What a patient said, as a request. Raises InvalidRequest."""
    if isinstance(messages, str):
        raise InvalidRequest("must be a list of texts", field="messages")
    turns = [{"role": "user", "content": content} for content in messages]
    return parse_request({"messages": turns, "bot_id": bot_id})


def texts_of(messages: Sequence[str], bot_id: str | None = None) -> tuple[Turn, ...]:
    """What a patient said, as turns; the same as `read_turns(request_of(…))`, in a fifth of the time.

    What is plainly right is taken; what isn't is read as a request, to say what is wrong. Raises RequestError.
    """
    if _are_plain(messages) and (bot_id is None or is_identifier(bot_id)):
        return tuple([Turn("user", text) for text in messages])
    return read_turns(request_of(messages, bot_id))[1]


def _are_plain(messages: Sequence[str]) -> bool:
    """Whether all are texts that say something, and that JSON, Postgres, UTF-8 and a request can hold."""
    if type(messages) is not list or not 0 < len(messages) <= MAX_UNANSWERED:
        return False
    size = 0
    try:
        for text in messages:
            if type(text) is not str or "\x00" in text or not text.strip():
                return False
            size += len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_HISTORY_BYTES


def conversation_key(conversation_id: str, platform_id: str = DEFAULT_PLATFORM) -> ConversationKey:
    """The key of a conversation. Raises InvalidRequest for an id that can't be one."""
    if not is_identifier(conversation_id):
        raise InvalidRequest(IDENTIFIER_RULE, field="conversation_id")
    return ConversationKey(platform_id, conversation_id)


def read_turns(request: MessageRequest) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The context and the patient's unanswered messages of a request. Raises RequestError.

    No messages only where it ends with a human's turn.
    """
    if request.history is not None:
        field, contents = "history", [request.history]
    else:
        field, contents = "messages", [message.content for message in request.messages or ()]
    if sum(map(len, map(str.encode, contents))) > MAX_HISTORY_BYTES:
        raise PayloadTooLarge(f"more than {MAX_HISTORY_BYTES // 1024} KiB of history", field=field)
    if request.history is not None:
        turns = history.parse(request.history)
    else:
        turns = tuple(Turn(m.role, m.content, m.message_id) for m in request.messages or ())
    if request.resources and len(json.dumps(request.resources, ensure_ascii=False).encode()) > MAX_RESOURCES_BYTES:
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
    if message_id and message_id != own.message_id:
        messages = (*messages[:-1], Turn(own.role, own.content, message_id))
    ids = [message.message_id for message in messages if message.message_id]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("two messages have the same message_id", field="message_id")
    return messages


@dataclass(frozen=True, slots=True)
class Intake:
    """The use case of the intake function."""

    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    settings: Settings
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)

    def handle(self, key: ConversationKey, request: MessageRequest, *, correlation_id: str = "") -> dict[str, Any]:
        """Accept a message: the body of the `202`.

        Raises RequestError (Rejected where the bot's policy is to), or Unavailable; then nothing was accepted.
        """
        context, messages = read_turns(request)
        bot_id, counted, now = request.bot_id, False, self.clock()
        new = tuple(new_message(message.content, message.message_id, now) for message in messages)
        while True:
            config = self.bots.get_bot_config(key.conversation_id, bot_id=bot_id, platform_id=key.platform_id)
            if not counted:
                self._count(key.platform_id, config["platform"]["meta_data"].get("rate_limit_per_minute"))
                counted = True
            limits = config["meta_data"]
            # More than the AI will see need not be kept in Redis and in the record.
            kept = history.trim(
                context,
                (),
                max_messages=int(limits.get("max_context_messages", 20)),
                max_characters=int(limits.get("max_context_characters", 10_000)),
            )
            accepting = Request(
                key,
                new,
                kept,
                config["bot_id"],
                request.resources,
                correlation_id,
                bounded=True,
                **_policy(request, limits, self.settings),
            )
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

    def _count(self, platform_id: str, per_minute: int | None) -> None:
        """Count a request of the tenant, duplicates too: they cost as much. Raises RateLimited."""
        if per_minute is None:
            return
        try:
            _, wait = self.tiers.first(lambda tier: tier.admit(platform_id, per_minute))
        except Exception as error:  # noqa: BLE001  a limit that can't be kept keeps no patient waiting
            _log.warning("the rate limit can't be kept", extra={"error": type(error).__name__})
            return
        if wait > 0:
            self.meter.add("MessagesThrottled")
            raise RateLimited(math.ceil(wait))

    def _human_answers(self, request: Request, context: tuple[Turn, ...]) -> bool:
        """Whether a human has spoken since the bot's last turn and not handed back: the bot is silent then.

        Raises Unavailable, and InvalidRequest for a mere notification of what was noted before it was handed back.
        """
        said = history.since_the_bot(context)
        if not said:
            return False
        noted = self.archive.note_sale(request.key, request.bot_id, said)
        if noted == "new":
            from message_handler.handoff import silence

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
            with suppress(*PASSING):
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
        job_id, lock_id = key.new_job_id(), new_id()
        tier, accepted = self.tiers.first(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        self.meter.add("TimeToLock", 1000 * (self.clock() - began))
        if accepted.interrupted:
            # Whatever becomes of the record. While Postgres is away the tier alone keeps the old run from its commit.
            with suppress(Unavailable):
                self.archive.interrupt(accepted.interrupted)
        # A job that has ended keeps nothing waiting: its record stands for the request's own message alone,
        # under the name that was answered.
        own = request.messages[-1]
        if own.message_id != accepted.message_id:
            own = replace(own, message_id=accepted.message_id)
        # What the platform gives again was accepted now: an erasure since the first time does not void it.
        given, now = set(accepted.posted), own.accepted_at
        pending = [replace(m, accepted_at=now) if m.message_id in given else m for m in accepted.pending]
        messages = tuple(pending) or (own,)
        record = Record(
            accepted.job_id,
            accepted.message_id,
            replace(request, messages=messages),
        )
        # No worker shares this process's memory: a record that waited there for its job would wait in vain.
        alone = tier.name == "memory" and not self.queue.in_process
        # While the patient may still be typing a worker would have to wait: SQS waits for nothing, but counts seconds.
        quiet = int(request.debounce)
        try:
            self.queue.send(record, delay=quiet if accepted.lock_id or alone else self.settings.join_delay)
        except (Unavailable, PayloadTooLarge):
            # What a tier that went away meanwhile keeps is woken by the sweep: answered, though it was refused.
            with suppress(*PASSING):
                tier.undo(key, accepted.posted)
            raise
        if accepted.interrupted:
            self.meter.add("JobsInterrupted")
        self._measure(tier, accepted)
        return tier, accepted

    def _measure(self, tier: Tier, accepted: Accepted) -> None:
        self.meter.add("MessagesAccepted")
        self.meter.add("Tier", TIER_VALUES[tier.name])
        if accepted.duplicate:
            self.meter.add("MessagesDuplicate")
        elif accepted.lock_id is None:
            self.meter.add("MessagesConsolidated")


def _policy(request: MessageRequest, configured: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What becomes of messages that come together: as the request says, else as its bot does, else as usual."""
    policy = request.double_texting or configured.get("double_texting", "consolidate")
    quiet, longest = request.debounce_ms, configured.get("debounce_max_ms", DEFAULT_DEBOUNCE_MAX_MS)
    if quiet is None:
        quiet = configured.get("debounce_ms", settings.debounce_ms)
    if policy == "reject":  # guard: policy reject, no debounce
        # What comes meanwhile would be rejected: there is nothing to wait for.
        quiet = 0
    return {"double_texting": policy, "debounce": min(quiet, longest) / 1000, "debounce_max": longest / 1000}


def rejection(job_id: str) -> dict[str, Any]:
    """The body of the `409`: nothing was stored. `job_id` is the job that is in the way."""
    return {
        "success": False,
        "status": "locked",
        "action": "rejected",
        "message": "Another message is being answered; send this one again after the reply",
        "ai_job_id": job_id,
    }


def response(accepted: Accepted, bot_name: str, *, degraded: bool = False) -> dict[str, Any]:
    """The body of a `202`."""
    extra = {"degraded": True} if degraded else {}
    if accepted.lock_id:
        return {
            "success": True,
            "status": "ai_processing_started",
            "action": "interrupted" if accepted.interrupted else "lock_acquired",
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
