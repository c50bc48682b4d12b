"""A reply in the making, and when it is too much or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from message_handler.ai import Completion
from message_handler.ai.failures import Failure
from message_handler.models import Usage

#: Of everything that a provider sends for one answer.
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Reply:
    """Text that is added to. Raises Failure ai_too_long as soon as it is: nobody waits for the rest."""

    max_characters: int
    text: str = ""
    _bytes: int = 0

    @classmethod
    def limited(cls, meta_data: dict[str, Any]) -> Self:
        """An empty one within `max_reply_characters` (20,000)."""
        return cls(int(meta_data.get("max_reply_characters", 20_000)))

    def count(self, received: int) -> None:
        """Bytes that came, whatever is in them."""
        self._bytes += received
        if self._bytes > _MAX_BYTES:
            raise Failure("ai_too_long")

    def add(self, text: str) -> None:
        self.text += text
        if len(self.text) > self.max_characters:
            raise Failure("ai_too_long")

    def whole(self, usage: Usage | None) -> Completion:
        """The completion, once the provider said that this is all. Raises Failure ai_empty."""
        if not self.text.strip():
            raise Failure("ai_empty", again=True)
        return Completion(self.text, usage)
