"""The port of AI providers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from message_handler.domain.conversations import Turn
from message_handler.domain.identifiers import DEFAULT_PLATFORM
from message_handler.domain.jobs import Usage
from message_handler.domain.messages import Message

#: Called with the text so far, at least every quarter of a second while an answer is awaited. An exception that it
#: raises stops the call: the provider's connection is closed, and the exception passes through.
Watch = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the AI is asked: the earlier turns, and the patient's unanswered messages, oldest first.

    `timeout`: the seconds that are left for the whole answer with all tries. `request_id`: the same in each try of a
    run; providers that support idempotency keys get it as one.
    """

    bot_name: str
    context: tuple[Turn, ...]
    messages: tuple[Message, ...]
    timeout: float
    resources: dict[str, Any] = field(default_factory=dict)
    request_id: str = ""
    #: The tenant, whose secrets may be used.
    platform_id: str = DEFAULT_PLATFORM
    correlation_id: str = ""

    @property
    def log_fields(self) -> dict[str, str]:
        """What each line of the log says about it. Without an id, the call's own is logged."""
        return {"correlation_id": self.correlation_id} if self.correlation_id else {}


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply, never a part of one that was cut off."""

    text: str
    usage: Usage | None = None
    #: Whether the fallback gave it, because the first AI core gave no answer.
    by_fallback: bool = False


class AI(Protocol):
    """Answers a prompt."""

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        """The whole reply. Raises AIError if there is none within the prompt's timeout."""
