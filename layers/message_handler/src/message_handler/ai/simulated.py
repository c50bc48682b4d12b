"""An AI that quotes what it was asked: for first trials, for tests, and for bots without an AI core."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.domain.errors import AIError
from message_handler.domain.jobs import Usage

_SLOW = re.compile(r"\[slow:(\d{1,4}(?:\.\d{1,3})?)\]")
_TICK_SECONDS = 0.1


class SimulatedAI:
    """Waits `delay_ms`, then quotes each unanswered message on a line of its own.

    `delay_ms` is a number, or a range such as "400-1200" to draw from. A message with ``[fail]`` makes the call fail.
    A message with ``[slow:SECONDS]`` makes it take that long.
    """

    def __init__(
        self,
        delay_ms: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        low, _, high = delay_ms.partition("-")
        self._delay = (int(low) / 1000, int(high or low) / 1000)
        self._sleep = sleep
        self._clock = clock

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        count = len(prompt.messages)
        quotes = "\n".join(f"> {' '.join(message.content.splitlines())}" for message in prompt.messages)
        reply = f"[Simulated AI] {prompt.bot_name} answers {count} message{'s' * (count != 1)}:\n{quotes}"
        slow = [float(found) for message in prompt.messages for found in _SLOW.findall(message.content)]
        wait = max(slow) if slow else random.uniform(*self._delay)  # noqa: S311  # nosec B311  # no secret
        end = self._clock() + min(wait, prompt.timeout)
        while (left := end - self._clock()) > 0:
            # The text grows over time, like that of a model.
            watch(reply[: int(len(reply) * max(0.0, 1 - left / wait))])
            self._sleep(min(_TICK_SECONDS, left))
        if wait > prompt.timeout:
            raise AIError("ai_timeout", "The AI did not answer in time.")
        if any("[fail]" in message.content for message in prompt.messages):
            raise AIError("ai_failed", "The simulated AI was asked to fail.")
        words = sum(len(message.content.split()) for message in prompt.messages)
        return Completion(reply, Usage(words, len(reply.split())))
