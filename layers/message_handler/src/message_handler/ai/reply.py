"""A reply in the making, and when it is too much or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion
from message_handler.domain.jobs import Usage

#: Of everything that a provider sends for one answer.
_MAX_BYTES = 4 * 1024 * 1024
#: More tokens than any answer costs, and as many as every store can count.
_MAX_TOKENS = 2**31 - 1


def usage_of(input_tokens: object, output_tokens: object) -> Usage | None:
    """What an answer cost, if the provider counted in numbers that can be: a good reply is not lost over its price."""
    counts = [count for count in (input_tokens, output_tokens) if type(count) is int and 0 <= count <= _MAX_TOKENS]
    return Usage(*counts) if len(counts) == 2 else None


@dataclass(slots=True)
class Reply:
    """Text that is added to. Raises ProviderFailure ai_too_long as soon as it is: nobody waits for the rest."""

    max_characters: int
    text: str = ""
    _bytes: int = 0
    #: The first half of a character that the provider sent in two pieces.
    _half: str = ""

    @classmethod
    def limited(cls, meta_data: dict[str, Any]) -> Self:
        """An empty one within `max_reply_characters` (20,000)."""
        return cls(int(meta_data.get("max_reply_characters", 20_000)))

    def count(self, received: int) -> None:
        """Bytes that came, whatever is in them."""
        self._bytes += received
        if self._bytes > _MAX_BYTES:
            raise ProviderFailure("ai_too_long")

    def add(self, text: str) -> str:
        """What is added: without U+0000 and halves of characters, which no store holds."""
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text.removesuffix(self._half) if self._half else text
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")
        self.text += text
        if len(self.text) > self.max_characters:
            raise ProviderFailure("ai_too_long")
        return text

    def whole(self, usage: Usage | None) -> Completion:
        """The completion, once the provider said that this is all. Raises ProviderFailure ai_empty."""
        if not self.text.strip():
            raise ProviderFailure("ai_empty", again=True)
        return Completion(self.text, usage)
