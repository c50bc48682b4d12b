"""The port behind which AI providers stand, and how one is chosen: by its `api_endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from message_handler.models import Message, Turn


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the AI is asked: the turns before, and the patient's messages that want an answer, oldest first.

    `timeout` is what is left for the whole call, in seconds.
    """

    bot_name: str
    context: tuple[Turn, ...]
    messages: tuple[Message, ...]
    timeout: float
    resources: dict[str, Any] = field(default_factory=dict)


class AI(Protocol):
    """Answers a prompt."""

    def complete(self, prompt: Prompt, checkpoint: Callable[[], None]) -> str:
        """The whole reply. Raises AIError if there is none within the prompt's timeout.

        `checkpoint` is called at least twice a second while the answer is awaited; it raises to
        stop the call, and that exception passes through.
        """
