"""One answer within one deadline: a few tries at the AI core, then one at its fallback. Only this module retries."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.watched import TICK_SECONDS, Limits
from message_handler.domain.errors import AIError

_log = logging.getLogger(__name__)

#: Tries at the first AI core. Its fallback gets one.
_TRIES = 3
_BACKOFF_SECONDS = 0.5

#: One try at an AI core. Raises AIError. A ProviderFailure says whether another try may help.
type Ask = Callable[[Prompt, Watch, Limits], Completion]


@dataclass(frozen=True, slots=True)
class AICore:
    """An AI core, ready to be asked. `timeout`: the seconds that all its tries together may take."""

    core_ai_id: str | None
    timeout: float
    ask: Ask


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers from the first AI core, or from the next one if the first gives no answer."""

    cores: Sequence[AICore]

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        """The whole reply. Raises the first core's AIError if no core gives a reply."""
        end = time.monotonic() + prompt.timeout
        watch = _CheckedWatch(watch)
        first: AIError | None = None
        for number, core in enumerate(self.cores):
            total = min(core.timeout, end - time.monotonic())
            if total <= 0:
                break
            try:
                completion = _completion_in_tries(core, prompt, watch, total, tries=1 if number else _TRIES)
                return replace(completion, by_fallback=number > 0)
            except AIError as error:
                if watch.stopped:
                    raise
                first = first or error
        raise first or ProviderFailure("ai_timeout")


@dataclass(slots=True)
class _CheckedWatch:
    """A watch that remembers whether it raised. If it did, an exception comes from it and not from a provider."""

    watch: Watch
    stopped: bool = False

    def __call__(self, text: str) -> None:
        try:
            self.watch(text)
        except BaseException:
            self.stopped = True
            raise


def _completion_in_tries(core: AICore, prompt: Prompt, watch: _CheckedWatch, total: float, tries: int) -> Completion:
    """The core's reply, from one of its tries within `total` seconds. Raises the last try's AIError."""
    end = time.monotonic() + total
    for number in range(tries):
        left = end - time.monotonic()
        try:
            return _completion(core, replace(prompt, timeout=left), watch, Limits.of(total, left))
        except AIError as error:
            if watch.stopped:
                raise
            again = isinstance(error, ProviderFailure) and error.again
            retry_after = getattr(error, "retry_after", None)
            _log.warning(
                "an AI gave no answer",
                extra={
                    "code": error.code,
                    "status": getattr(error, "status", None),
                    "core_ai_id": core.core_ai_id,
                    "correlation_id": prompt.correlation_id,
                },
            )
            # Jitter: calls that failed together must not come back together.
            jitter = random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311  # no secret
            pause = retry_after if retry_after is not None else _BACKOFF_SECONDS * 2**number * jitter
            if not again or number == tries - 1 or time.monotonic() + pause >= end:
                raise
        _wait(pause, watch)
    raise AssertionError("unreachable")


def _completion(core: AICore, prompt: Prompt, watch: _CheckedWatch, limits: Limits) -> Completion:
    """The reply of one try. A provider that breaks raises ProviderFailure too, so that the fallback is asked.

    An exception of `watch` passes through.
    """
    try:
        return core.ask(prompt, watch, limits)
    except Exception as error:
        if watch.stopped or isinstance(error, AIError):
            raise
        # Only the error's type and place: the text of a foreign error may quote the prompt.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno} {place.name}"
        extra = {"error": type(error).__name__, "where": where, "core_ai_id": core.core_ai_id}
        _log.error("an AI provider broke", extra=extra)
        raise ProviderFailure("ai_failed") from None


def _wait(seconds: float, watch: Watch) -> None:
    """Sleep. The watch hears an empty text: what the failed try had said is taken back."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch("")
        time.sleep(min(TICK_SECONDS, left))
