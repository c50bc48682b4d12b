"""A reply that grows piece by piece, and its limits."""

from __future__ import annotations

from typing import Any

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion
from message_handler.ai.reasoning import REASONING_TAGS, Reasoning
from message_handler.domain.jobs import Usage

#: The most bytes that a provider may send for one answer: the text, and all that the protocol puts around it.
_MAX_BYTES = 4 * 1024 * 1024
#: The largest number that every store can hold. No answer costs more tokens than this.
_MAX_TOKENS = 2**31 - 1


def usage_of(input_tokens: object, output_tokens: object) -> Usage | None:
    """What an answer cost. None if the provider's counts make no sense: the reply is good without them."""
    counts = [count for count in (input_tokens, output_tokens) if type(count) is int and 0 <= count <= _MAX_TOKENS]
    return Usage(*counts) if len(counts) == 2 else None


class Reply:
    """The text so far, without the model's reasoning. Raises ProviderFailure ai_too_long at once if it is too long."""

    def __init__(self, meta_data: dict[str, Any]) -> None:
        """An empty reply of at most `max_reply_characters` (default: 20,000)."""
        self._max_characters = int(meta_data.get("max_reply_characters", 20_000))
        tags = meta_data.get("reasoning_tags", REASONING_TAGS)
        self._said = Reasoning(tags, starts_open=bool(meta_data.get("reasoning_starts_open")))
        self._bytes = 0
        #: The first half of a character whose second half has not come yet.
        self._half = ""

    @property
    def text(self) -> str:
        """What a patient may read so far."""
        return self._said.text

    def count(self, received: int) -> None:
        """Count bytes that were received, whatever they hold."""
        self._bytes += received
        if self._bytes > _MAX_BYTES:
            raise ProviderFailure("ai_too_long")

    def add(self, text: str) -> None:
        """Add a piece, without U+0000 and half characters, which no store can hold."""
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text.removesuffix(self._half) if self._half else text
        self._said.add(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", ""))
        if len(self.text) > self._max_characters:
            raise ProviderFailure("ai_too_long")

    def whole(self, usage: Usage | None) -> Completion:
        """The completion, once the provider has ended the reply. Raises ProviderFailure ai_empty."""
        text = self._said.whole()
        if text is None:
            raise ProviderFailure("ai_protocol", again=True)
        if not text.strip():
            raise ProviderFailure("ai_empty", again=True)
        return Completion(text, usage)
