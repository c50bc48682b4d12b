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
#: Answers that are of no use, although they cost as much as others.
_PAID_FOR = ("ai_empty", "ai_protocol")
_PAID_TRIES = 3
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
    halved = False
    failure: AIError = ProviderFailure("ai_timeout")
    for number in range(tries):
        left = end - time.monotonic()
        try:
            return _completion(core, replace(prompt, timeout=left), watch, Limits.of(total, left))
        except AIError as error:
            if watch.stopped:
                raise
            failure = error
            _log_failure(core, prompt, error)
        left = end - time.monotonic()
        if failure.code == "ai_context_too_long" and prompt.context and not halved and left >= _LAST_TRY_SECONDS:
            prompt, halved = replace(prompt, context=prompt.context[(len(prompt.context) + 1) // 2 :]), True
            continue
        pause = _pause(failure, number, left)
        if pause is None or number == tries - 1:
            raise failure
        _wait(pause, watch)
    raise failure


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

    Each pause is twice the one before, and at most half of the time that is left. So there is a try left for a provider
    that was overloaded for half a minute. It is longer if the provider asks for that: with `Retry-After`, or by a limit
    that is used up. If a `Retry-After` does not fit into the time, the provider is not asked again.
    """
    if not (isinstance(failure, ProviderFailure) and failure.again) or left < _LAST_TRY_SECONDS:
        return None
    if failure.code in _PAID_FOR and number + 1 >= _PAID_TRIES:
        return None
    # Jitter: calls that failed together must not come back together.
    jitter = random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311  # no secret
    usual = min(_BACKOFF_SECONDS * 2.0**number * jitter, left / 2)
    if failure.retry_after is not None:
        return max(failure.retry_after, min(usual, _BACKOFF_SECONDS)) if failure.retry_after < left else None
    if failure.resets_in is not None and failure.resets_in <= left - _LAST_TRY_SECONDS:
        return max(failure.resets_in, usual)
    return usual


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
