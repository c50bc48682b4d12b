"""What a server answers to a chat completion: a stream of chunks, or the whole reply as one object.

The yardstick is what openai's own client for Python reads as a whole reply. tests/ai/test_dialects.py holds this reader
to it, and lists where they differ on purpose.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from functools import lru_cache
from typing import Any, Literal

from message_handler.ai.events import Event, Events
from message_handler.ai.failures import ProviderFailure, of_error
from message_handler.ai.port import Completion
from message_handler.ai.reply import Reply, usage_of
from message_handler.domain.jobs import Usage

_log = logging.getLogger(__name__)

type _End = Literal["stop", "truncated", "refused", "failed", "unknown"]

#: The words in which servers say why an answer ended, in small letters.
_ENDS: dict[str, _End] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end", "end_turn", "stop_sequence", "stop_token"), "stop"),
    **dict.fromkeys(("done", "complete", "completed", "finish", "finished", "success"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "max_length", "model_length"), "truncated"),
    **dict.fromkeys(("token_limit", "context_length", "model_context_window_exceeded"), "truncated"),
    **dict.fromkeys(("content_filter", "content_filtered", "sensitive", "safety", "refusal", "refused"), "refused"),
    **dict.fromkeys(("blocklist", "prohibited_content", "recitation", "spii", "guardrail_intervened"), "refused"),
    **dict.fromkeys(("error", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error"), "failed"),
    **dict.fromkeys(("insufficient_system_resource", "malformed_function_call"), "failed"),
}
_FAILURES = {"truncated": "ai_truncated", "refused": "ai_refused", "failed": "ai_unavailable"}
_TEXT_PARTS = (None, "text", "output_text")


class ChatAnswer:
    """Takes an answer's bytes in any pieces. Each method raises ProviderFailure once no whole reply can come of them.

    The bytes themselves tell a stream from an object: the server's name for them (`Content-Type`) is often wrong.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        #: The stream's own mark of its end has come. What follows is not read.
        self.done = False
        self._events = Events()
        #: The first bytes, until they tell what the answer is.
        self._head: bytes | None = b""
        self._object: list[bytes] | None = None
        self._said_something = False
        self._end: _End | None = None
        self._usage: Usage | None = None
        #: The index of the choice that is read: the first one that came.
        self._index: Any = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.reply.count(len(piece))
        if self._head is not None:
            self._head += piece
            if codecs.BOM_UTF8.startswith(self._head) or not self._head.strip():
                return
            piece, self._head = self._head, None
            if piece.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
                self._object = []
        if self._object is not None:
            self._object.append(piece)
            return
        try:
            for event in self._events.feed(piece):
                self._take_event(event)
                if self.done:
                    return
        except UnicodeDecodeError:
            raise _malformed() from None

    def whole(self) -> Completion | None:
        """The reply, if the server has said that it is whole. A connection that breaks later changes nothing."""
        ended = self.done or self._end not in (None, "unknown")
        return self.reply.whole(self._usage) if ended else None

    def close(self) -> Completion:
        """The reply, now that the body has come to its end."""
        if self._object is not None:
            self._take_object(b"".join(self._object))
        elif self._head is None and not self._said_something:
            raise ProviderFailure("ai_protocol", status=200)
        elif self._end is None and not self.done:
            # A proxy may give a body that was cut a proper end: the end of the body is not the end of the answer.
            raise ProviderFailure("ai_unreachable", again=True, status=200)
        return self.reply.whole(self._usage)

    def _take_event(self, event: Event) -> None:
        self._said_something = True
        data = event.data.strip()
        if data.startswith("[DONE]"):
            self.done = True
            return
        try:
            chunk = _parsed(data)
        except (ValueError, RecursionError):
            # Its text would quote the answer.
            if event.name == "error":
                raise of_error(data) from None
            if not data or event.name not in ("", "message"):
                return
            raise _malformed() from None
        if event.name == "error":
            raise of_error(chunk)
        self._take(chunk, "delta")

    def _take_object(self, document: bytes) -> None:
        try:
            answer = _parsed(document.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            raise ProviderFailure("ai_unreachable", again=True, status=200) from None
        self._take(answer, "message")
        if not isinstance(answer.get("choices"), list):
            raise ProviderFailure("ai_protocol", status=200)

    def _take(self, chunk: Any, part: Literal["delta", "message"]) -> None:
        """Read a chunk, or the object. One that says nothing is passed over."""
        if not isinstance(chunk, dict):
            return
        if error := chunk.get("error"):
            raise of_error(error)
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage_of(usage.get("prompt_tokens"), usage.get("completion_tokens"))
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return
        for choice in choices:
            if isinstance(choice, dict) and self._is_read(choice.get("index")):
                self._take_choice(choice, choice.get(part))

    def _is_read(self, index: Any) -> bool:
        index = index or 0
        if self._index is None:
            self._index = index
        return bool(index == self._index)

    def _take_choice(self, choice: dict[str, Any], said: Any) -> None:
        if isinstance(said, dict):
            if said.get("refusal"):
                raise ProviderFailure("ai_refused", status=200)
            self.reply.add(_text_of(said.get("content")))
        if reason := choice.get("finish_reason"):
            word = reason.strip().lower().replace("-", "_") if isinstance(reason, str) else ""
            self._end = _ENDS.get(word, "unknown")
            if self._end == "unknown":
                _log_once(word)
            if code := _FAILURES.get(self._end):
                raise ProviderFailure(code, again=self._end == "failed", status=200)


def _parsed(document: str) -> Any:
    return json.loads(document, parse_int=_number)


def _number(digits: str) -> int | float:
    # Python refuses to read an integer of some thousand digits, and none is worth a reply.
    return int(digits) if len(digits) < 20 else float(digits)


def _text_of(content: Any) -> str:
    """The words of a delta's or message's content: a text, or a list of parts. Parts with reasoning are left out."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise _malformed()
    return "".join(map(_text_of_part, content))


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else None
    return text if isinstance(text, str) else ""


def _malformed() -> ProviderFailure:
    return ProviderFailure("ai_protocol", again=True, status=200)


@lru_cache(maxsize=64)
def _log_once(word: str) -> None:
    """Log a word that is not known, once in a process: every answer may have it."""
    known_shape = word if re.fullmatch(r"[A-Za-z_-]{1,40}", word) else "(not a word)"
    _log.warning("an AI ended its answer for an unknown reason", extra={"finish_reason": known_shape})
