"""A run's second step: ask the AI, look for news meanwhile, and show how far the answer is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from message_handler.ai.port import AI, Completion, Prompt, Watch
from message_handler.ai.providers import provider_of
from message_handler.bot_config import BotConfigService
from message_handler.domain import history
from message_handler.domain.conversations import Turn
from message_handler.domain.edits import newest_versions
from message_handler.domain.errors import TRANSIENT, AIError, Contended, MessageHandlerError, RequestError
from message_handler.domain.jobs import Job, JobError, JobStatus, Progress, Provenance, Usage
from message_handler.domain.messages import shown_id
from message_handler.domain.notices import failure_notice
from message_handler.metrics import Meter
from message_handler.ports.archive import Fence
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.worker.replies import Danger, is_refused, silent_reply, with_disclosure, with_notice

_log = logging.getLogger(__name__)

#: The shortest time between two looks for news in the tier. An AI calls its watch every quarter of a second: a run
#: notices news within half a second.
LOOK_SECONDS = 0.15
#: How often the progress of an answer is shown.
PROGRESS_SECONDS = 1.0
#: The time that a run keeps for its steps after the AI has answered.
COMMIT_SECONDS = 5.0


class Stopped(Exception):
    """The run's reply would be worth nothing: its lease is lost, or its job is being cancelled."""


class Joined(Exception):
    """Messages came that the run has not seen. It starts again with them, and `needs` these seconds for that."""

    def __init__(self, needs: float) -> None:
        super().__init__()
        self.needs = needs


@dataclass(frozen=True, slots=True)
class Answer:
    """The job with its reply or its error. `needs`: the seconds that one more run may take."""

    job: Job
    needs: float


@dataclass(slots=True)
class Asking:
    """Asks the AI for one claimed job, as often as the run starts again."""

    tier: Tier
    bots: BotConfigService
    #: None: the job fails without being tried.
    ai: Callable[[dict[str, Any]], AI] | None
    settings: Settings
    clock: Callable[[], float]
    meter: Meter
    lock_id: str
    #: Unix seconds.
    deadline: float
    #: When the tier was last asked for news, and when it was last told that this worker lives.
    _looked_at: float = field(init=False)
    _beaten_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self._beaten_at = self.clock()

    def ask(self, job: Job, fence: Fence | None) -> Answer:
        """Run the AI. Raises Stopped or Joined."""
        began = self.clock()
        reply, usage, failure, provenance, read = None, None, None, None, None
        config, limit = self.bots.default, self.settings.ai_timeout
        try:
            config = self._configuration(job, fence)
            danger = read = Danger.of(job, fence, config)
            if self.ai is None:
                raise AIError("processing_failed", "The message could not be processed.")
            limit = _limit(config, self.settings.ai_timeout)
            timeout = min(limit, self.deadline - began - COMMIT_SECONDS)
            if timeout <= 0:
                raise AIError("deadline_exceeded", "The answer took longer than one run may take.")
            prompt, reply = prompt_of(job, fence, config, timeout), silent_reply(danger, config)
            if reply is None:
                shows_text = config["meta_data"].get("show_partial_reply", False)
                may_show = (lambda text: not is_refused(text, prompt, danger)) if shows_text else None
                watch = self._watch(job, limit + COMMIT_SECONDS, may_show)
                watch("")  # a slow store may have used up the lease, or messages may have joined meanwhile
                _log_asking(job, fence)
                provenance = _provenance(config, config["core_ai"], danger)
                completion = self._complete(config["core_ai"], prompt, watch)
                usage = completion.usage
                if completion.by_fallback:
                    provenance = _provenance(config, config["core_ai"]["fallback"], danger)
                self._check(completion.text, prompt, danger)
                reply = with_notice(completion.text, danger, config)
            reply = with_disclosure(reply, _known(job, fence), config, self.clock())
        except AIError as failed:
            if failed.code == "ai_not_configured":
                self.meter.add("AINotConfigured")
            failure = failed.code, str(failed)
        except Contended:
            raise
        except RequestError as refused:
            # The bot was deactivated or deleted after the message was accepted.
            failure = "bot_unavailable", refused.detail
        danger = read or Danger.of(job, fence, config)
        error = JobError(*failure, with_notice(failure_notice(config), danger, config)) if failure else None
        now = self.clock()
        if provenance:
            self.meter.add("AITime", 1000 * (now - began))
        ended = _ended(job, reply, usage, error, provenance, now)
        return Answer(replace(ended, findings=danger.findings), limit + COMMIT_SECONDS)

    def _configuration(self, job: Job, fence: Fence | None) -> dict[str, Any]:
        if fence and fence.bot_id:
            self.bots.belongs_to(job.key, fence.bot_id)
        return self.bots.config_of_job(job)

    def _complete(self, core_ai: dict[str, Any], prompt: Prompt, watch: Watch) -> Completion:
        """The AI's reply. An adapter that breaks fails its job visibly: nothing must be stuck behind it."""
        assert self.ai is not None
        try:
            return self.ai(core_ai).complete(prompt, watch)
        except (MessageHandlerError, Stopped, Joined):
            raise
        except Exception as error:  # noqa: BLE001  a provider's client may raise anything
            # Only the error's type: the text of a foreign error may quote the prompt.
            _log.error("an AI provider broke", extra=prompt.log_fields | {"error": type(error).__name__})
            raise AIError("ai_failed", "The AI failed unexpectedly.") from None

    def _check(self, reply: str, prompt: Prompt, danger: Danger) -> None:
        """Raises AIError for a reply that the patient must not read. No other AI is asked: the failure is visible."""
        if is_refused(reply, prompt, danger):
            self.meter.add("RepliesRefused")
            _log.warning("a reply is refused", extra=prompt.log_fields)
            raise AIError("reply_refused", "The AI's reply claims to be a doctor's, or advises against getting help.")

    def _watch(self, job: Job, needs: float, may_show: Callable[[str], bool] | None) -> Watch:
        """What the AI calls while it works: it looks for news, and tells the tier how far the answer is.

        `needs`: seconds that a run with newer messages may take. If fewer are left, newer messages wait for the next
        job. `may_show`: whether the patient may read a text now, if the bot shows parts. Raises Stopped or Joined.
        """
        shown, seen = 0, len(job.messages)

        def watch(text: str) -> None:
            nonlocal shown
            now = self.clock()
            if now - self._looked_at < LOOK_SECONDS:
                return
            self._looked_at = now
            # A restart here loses no finished reply. So half of a run's time is enough for it, even if `needs` is more.
            enough = min(needs, self.settings.run_seconds / 2)
            restartable = job.restarts < self.settings.max_restarts and self.deadline - now >= enough
            # A tier that is away for a moment costs no answer: the next look asks again, and the seal decides.
            with suppress(*TRANSIENT):
                every = PROGRESS_SECONDS if len(text) != shown else self.settings.heartbeat_every
                if now - self._beaten_at >= every:
                    is_shown = may_show is not None and may_show(text)
                    progress = Progress(len(text), _without_unstorable(text) if is_shown else None)
                    lease = self.tier.heartbeat(job.key, self.lock_id, progress, seen=seen)
                    # Only a heartbeat that got through counts: after a lost one the next look sends another.
                    self._beaten_at, shown = now, len(text)
                else:
                    lease = self.tier.look(job.key, self.lock_id, seen=seen)
                if lease == "newer" and restartable:
                    raise Joined(enough)
                if lease in ("lost", "cancelling"):
                    raise Stopped

        return watch


def prompt_of(job: Job, fence: Fence | None, config: dict[str, Any], timeout: float) -> Prompt:
    """What the AI is asked: the job's messages, after as much of the conversation as the bot's limits allow."""
    limits = config["meta_data"]
    messages = tuple(newest_versions(job.messages))
    pending = [Turn("user", message.content, shown_id(message.message_id)) for message in messages]
    known = _known(job, fence)
    turns = history.trim(
        [turn for turn in known if not turn.unsent],
        pending,
        max_messages=int(limits.get("max_context_messages", 20)),
        max_characters=int(limits.get("max_context_characters", 10_000)),
    )
    context = turns[: len(turns) - len(pending)]
    request_id = f"{job.job_id}:{fence.number if fence else 'unfenced'}"
    return Prompt(
        config["name"],
        context,
        messages,
        timeout,
        job.resources,
        request_id,
        job.key.platform_id,
        job.correlation_id,
    )


def _known(job: Job, fence: Fence | None) -> tuple[Turn, ...]:
    """The conversation before the job's messages, as Postgres and the platform know it."""
    return history.merge(fence.turns if fence else (), job.context)


def _without_unstorable(text: str) -> str:
    """The text without what Postgres and UTF-8 can't hold: U+0000 and lone surrogates."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def _limit(config: dict[str, Any], default: float) -> float:
    """The seconds that the AI core and its fallback may take together."""
    core_ai = config["core_ai"]
    return sum(float(core["timeout_seconds"] or default) for core in (core_ai, core_ai.get("fallback")) if core)


def _provenance(config: dict[str, Any], core_ai: dict[str, Any], danger: Danger) -> Provenance:
    """What is about to be asked. A configuration that an earlier release has shared in Redis has no revision."""
    provider = provider_of(core_ai)
    return Provenance(
        config["bot_id"],
        config.get("revision"),
        core_ai["core_ai_id"],
        core_ai.get("revision"),
        provider.model(core_ai),
        simulated=provider.simulated,
        rules_version=danger.rules_version,
    )


def _ended(
    job: Job,
    reply: str | None,
    usage: Usage | None,
    error: JobError | None,
    provenance: Provenance | None,
    now: float,
) -> Job:
    return replace(
        job,
        status=JobStatus.FAILED if error else JobStatus.COMPLETED,
        reply=None if reply is None else _without_unstorable(reply),
        usage=usage,
        error=error,
        provenance=provenance,
        finished_at=now,
        # An ended job waits for no patient, and no record of an end holds these.
        ready_at=0.0,
        typing_at=0.0,
    )


def _log_asking(job: Job, fence: Fence | None) -> None:
    asked = {"fence": fence.number if fence else None, "messages": job.consolidated_messages}
    _log.info("asking the AI", extra={**job.log_fields, **asked})
