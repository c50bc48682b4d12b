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

#: The most tries at the first AI core, whose time ends them too. Its fallback gets one.
_TRIES = 10
_BACKOFF_SECONDS = 0.5
#: With less time than this, no try is begun.
_LAST_TRY_SECONDS = 1.0

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
            failure = error
            _log_failure(core, prompt, error)
        if failure.code == "ai_context_too_long" and prompt.context:
            return _completion_with_half_the_context(core, prompt, watch, end - time.monotonic(), failure)
        pause = _pause(failure, number, end - time.monotonic())
        if pause is None or number == tries - 1:
            raise failure
        _wait(pause, watch)
    raise AssertionError("unreachable")


def _completion_with_half_the_context(
    core: AICore, prompt: Prompt, watch: _CheckedWatch, left: float, failure: AIError
) -> Completion:
    """The reply of one more try, without the older half of the context. Raises `failure` if no time is left for it."""
    if left < _LAST_TRY_SECONDS:
        raise failure
    newer = prompt.context[(len(prompt.context) + 1) // 2 :]
    return _completion(core, replace(prompt, context=newer, timeout=left), watch, Limits.of(left, left))


def _log_failure(core: AICore, prompt: Prompt, error: AIError) -> None:
    extra = {
        "code": error.code,
        "status": getattr(error, "status", None),
        "error": getattr(error, "name", None),
        "core_ai_id": core.core_ai_id,
    }
    known = {name: value for name, value in extra.items() if value is not None}
    _log.warning("an AI gave no answer", extra={**prompt.log_fields, **known})


def _pause(failure: AIError, number: int, left: float) -> float | None:
    """The seconds until the next try. None: no other try may help, or no time is left for it.

    A provider's own `Retry-After` is obeyed. Otherwise each pause is twice the one before, and at most half of the time
    that is left. So there is a try left for a provider that was overloaded for half a minute.
    """
    if not (isinstance(failure, ProviderFailure) and failure.again):
        return None
    if failure.retry_after is not None:
        return failure.retry_after if failure.retry_after < left else None
    if left < _LAST_TRY_SECONDS:
        return None
    if failure.resets_in is not None and failure.resets_in < left:
        return failure.resets_in
    # Jitter: calls that failed together must not come back together.
    jitter = random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311  # no secret
    return min(_BACKOFF_SECONDS * 2.0**number * jitter, left / 2)


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
        about = {"core_ai_id": core.core_ai_id, "error": type(error).__name__, "where": where}
        _log.error("an AI provider broke", extra={**prompt.log_fields, **about})
        raise ProviderFailure("ai_failed") from None


def _wait(seconds: float, watch: Watch) -> None:
    """Sleep. The watch gets an empty text, because the failed try's text no longer counts."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch("")
        time.sleep(min(TICK_SECONDS, left))
