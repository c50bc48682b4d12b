"""Checks a request's body, and reads it as turns and messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, Field, WithJsonSchema

from message_handler.domain import history
from message_handler.domain.conversations import Turn
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.errors import InvalidRequest, OddCharacter, PayloadTooLarge
from message_handler.domain.identifiers import is_identifier
from message_handler.domain.text import all_storable, is_wordless
from message_handler.domain.validation import MAX_DEBOUNCE_MS, Identifier, Strict, check_json, validated

MAX_HISTORY_BYTES = 256 * 1024
MAX_RESOURCES_BYTES = 16 * 1024
MAX_UNANSWERED = 1_000
MESSAGE_ID = r"^[!-~]{1,255}$"
MESSAGE_ID_RULE = "must be 1 to 255 printable ASCII characters without spaces"
#: The platform's own ids: anything printable without spaces.
MessageId = Annotated[str, Field(pattern=MESSAGE_ID)]
_TIME_RULE = "must be a time with its zone, such as 2026-11-30T09:00:00Z, or Unix seconds"
_NO_TIME = ("datetime_parsing", "datetime_from_date_parsing", "datetime_type", "timezone_aware")
_ADVICE = {MESSAGE_ID: MESSAGE_ID_RULE} | dict.fromkeys(_NO_TIME, _TIME_RULE)
#: When a message was edited: RFC 3339 or Unix seconds. The bounds keep its year within 1 to 9999 in any zone.
EditedAt = Annotated[
    AwareDatetime,
    Field(strict=False, ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC)),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number", "minimum": 0}]}),
]
_OTHER_ID = "must be the message_id of the last message, or be left out"


class MessageBody(Strict):
    """One turn of a JSON history. `edited_at`: when it was edited (RFC 3339 with a zone, or Unix seconds)."""

    role: Literal["user", "assistant", "sale"]
    content: str
    message_id: MessageId | None = None
    edited_at: EditedAt | None = None


class MessageRequest(Strict):
    """The body of a request. The history is a text or a list of messages: the whole history, or only what is new.

    `double_texting` and `debounce_ms` replace the bot's own for this request.
    """

    history: str | None = None
    messages: list[MessageBody] | None = None
    resources: dict[str, Any] = Field(default_factory=dict)
    bot_id: Identifier | None = None
    message_id: MessageId | None = None
    edited_at: EditedAt | None = None
    double_texting: DoubleTexting | None = None
    debounce_ms: Annotated[int, Field(ge=0, le=MAX_DEBOUNCE_MS)] | None = None


def parse_request(value: Any, *, newest: int | None = None) -> MessageRequest:
    """Check a request's shape. Raises InvalidRequest with the field's name, never its value.

    `newest`: how many of its messages are looked at. Older ones were archived before. A character that can't be stored
    becomes U+FFFD. (Ids with U+FFFD are refused.)
    """
    messages = value.get("messages") if isinstance(value, dict) else None
    older = 0
    if newest and isinstance(messages, list) and len(messages) > newest:
        older = len(messages) - newest
        value = value | {"messages": messages[older:]}
    try:
        body = check_json(value)
    except OddCharacter:
        body = check_json({name: all_storable(item) for name, item in value.items()})
    given = {name: item for name, item in body.items() if name != "resources" or item is not None}
    try:
        request = validated(MessageRequest, given, _ADVICE)
    except InvalidRequest as error:
        # The field counts from the first message that the caller has sent.
        named = re.sub(r"(?<=^messages\.)\d+", lambda place: str(int(place[0]) + older), error.field or "")
        raise InvalidRequest(error.detail, field=named) from None
    if (request.history is None) == (request.messages is None):
        raise InvalidRequest("give either history or messages", field="history")
    return request


def request_of(messages: Sequence[str], bot_id: str | None = None) -> MessageRequest:
    """What a patient said, as a request. Texts without words are left out.

    Raises InvalidRequest, also if no text is left.
    """
    if isinstance(messages, str):
        raise InvalidRequest("must be a list of texts", field="messages")
    turns = [{"role": "user", "content": content} for content in messages if not _is_wordless_text(content)]
    if not turns:
        raise InvalidRequest("has no message with words", field="messages")
    return parse_request({"messages": turns, "bot_id": bot_id})


def _is_wordless_text(content: object) -> bool:
    return isinstance(content, str) and is_wordless(content)


def texts_of(messages: Sequence[str], bot_id: str | None = None) -> tuple[Turn, ...]:
    """What a patient said, as turns: the same as `read_turns(request_of(…))`, in a fifth of the time.

    Texts that are plainly right become turns at once. Others are read as a request, which says what is wrong. Raises
    RequestError.
    """
    if _are_plain(messages) and (bot_id is None or is_identifier(bot_id)):
        return tuple([Turn("user", text) for text in messages])
    return read_turns(request_of(messages, bot_id)).messages


def _are_plain(messages: Sequence[str]) -> bool:
    """Whether all are texts with words, which JSON, Postgres, UTF-8 and a request can hold."""
    if type(messages) is not list or not 0 < len(messages) <= MAX_UNANSWERED:
        return False
    size = 0
    try:
        for text in messages:
            if type(text) is not str or "\x00" in text or is_wordless(text):
                return False
            size += len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_HISTORY_BYTES


class Said(NamedTuple):
    """What a request says: the turns before the patient's unanswered messages, and these messages.

    `messages` have words, `wordless` are the others. `ends_wordless`: the request's own (last) message has no words.
    A request that ends with a human's turn has no messages of either kind.
    """

    context: tuple[Turn, ...]
    messages: tuple[Turn, ...]
    wordless: tuple[Turn, ...] = ()
    ends_wordless: bool = False


def read_turns(
    request: MessageRequest, is_notice: Callable[[str], bool] = lambda _: False, *, newest: int | None = None
) -> Said:
    """What a request says. `newest`: how many of its turns are looked at. Raises RequestError."""
    if request.history is not None:
        field, contents = "history", [request.history]
    else:
        field, contents = "messages", [message.content for message in request.messages or ()]
    if sum(map(len, map(str.encode, contents))) > MAX_HISTORY_BYTES:
        raise PayloadTooLarge(f"must not be longer than {MAX_HISTORY_BYTES // 1024} KiB", field=field)
    if request.resources and len(json.dumps(request.resources, ensure_ascii=False).encode()) > MAX_RESOURCES_BYTES:
        raise PayloadTooLarge(f"must not be larger than {MAX_RESOURCES_BYTES // 1024} KiB", field="resources")
    turns = turns_of(request, is_notice)
    turns = turns[-newest:] if newest else turns
    context, messages = history.split(turns)
    if not messages and turns and turns[-1].role == "sale":
        return Said(_human_turn_with_own_id(context, request.message_id), ())
    if not messages:
        ended = "ends with a reply: there is nothing to answer"
        raise InvalidRequest(ended if turns else "has no message of a patient", field=field)
    if len(messages) > MAX_UNANSWERED:
        raise PayloadTooLarge(f"must not have more than {MAX_UNANSWERED} unanswered messages", field=field)
    messages = _with_own_id(messages, request)
    wordless = tuple(message for message in messages if is_wordless(message.content))
    if not wordless:
        return Said(context, messages)
    spoken = tuple(message for message in messages if not is_wordless(message.content))
    return Said(context, spoken, wordless, messages[-1] is wordless[-1])


def turns_of(request: MessageRequest, is_notice: Callable[[str], bool]) -> tuple[Turn, ...]:
    """The turns of a request. A bot's turn that repeats a safety notice answers nothing: it is left out."""
    if request.history is not None:
        turns = history.parse(request.history)
    else:
        turns = tuple(Turn(m.role, m.content, m.message_id, _seconds(m.edited_at)) for m in request.messages or ())
    return tuple(turn for turn in turns if turn.role != "assistant" or not is_notice(turn.content))


def _seconds(time: datetime | None) -> float:
    """Unix seconds; 0 for None."""
    return time.timestamp() if time else 0.0


def _human_turn_with_own_id(context: tuple[Turn, ...], message_id: str | None) -> tuple[Turn, ...]:
    """As `_with_own_id`, for a history that ends with a human's turn."""
    sale = context[-1]
    if message_id and sale.message_id not in (None, message_id):
        raise InvalidRequest(_OTHER_ID, field="message_id")
    return (*context[:-1], Turn("sale", sale.content, message_id or sale.message_id))


def _with_own_id(messages: tuple[Turn, ...], request: MessageRequest) -> tuple[Turn, ...]:
    """The messages, the last one with the request's `message_id` and `edited_at`. Raises InvalidRequest."""
    own, message_id, edited_at = messages[-1], request.message_id, _seconds(request.edited_at)
    if message_id and own.message_id not in (None, message_id):
        raise InvalidRequest(_OTHER_ID, field="message_id")
    if edited_at and own.edited_at not in (0.0, edited_at):
        raise InvalidRequest("must be the edited_at of the last message, or be left out", field="edited_at")
    if message_id or edited_at:
        own = Turn(own.role, own.content, message_id or own.message_id, edited_at or own.edited_at)
        messages = (*messages[:-1], own)
    if any(message.edited_at and message.message_id is None for message in messages):
        raise InvalidRequest("needs the message_id of the message that was edited", field="edited_at")
    ids = [message.message_id for message in messages if message.message_id]
    if len(set(ids)) < len(ids):
        raise InvalidRequest("is the same for two messages", field="message_id")
    return messages
