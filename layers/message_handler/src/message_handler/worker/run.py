"""One claimed job on its way to its end: fence, ask the AI, seal, commit, finish.

Every step may fail in between, and every process may die there: what is left is found again by the record or by
the sweep. While Postgres is away the run goes on without a fence, guarded by the tier alone:

    fence ── Postgres away ── ask ── seal ─┬─ Postgres back: take a fence now, commit under it
                                           └─ still away: end the job in the tier, send its end to the archive
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from message_handler.ai.port import AI, Completion, Prompt, Watch
from message_handler.ai.providers import provider_of
from message_handler.bot_config import BotConfigService
from message_handler.domain import history
from message_handler.domain.conversations import Turn
from message_handler.domain.errors import (
    TRANSIENT,
    AIError,
    Contended,
    MessageHandlerError,
    PayloadTooLarge,
    RequestError,
    Unavailable,
)
from message_handler.domain.jobs import Job, JobError, JobStatus, Progress, Provenance
from message_handler.domain.messages import Request
from message_handler.domain.notices import failure_notice
from message_handler.domain.records import ArchiveRecord
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive, Committed, Fence
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Sealed
from message_handler.settings import Settings
from message_handler.worker.rescue import RECORD_SECONDS

_log = logging.getLogger(__name__)

#: Archived turns fetched for the context, before the bot's limits trim it.
ARCHIVED_TURNS = 100
#: While an answer is made, the tier is asked for news at most so often. The AI looks up every quarter of a second: news
#: are noticed within half a second.
LOOK_SECONDS = 0.15
#: How often the progress of an answer is shown.
PROGRESS_SECONDS = 1.0
#: A run is not begun with less than this many seconds: what comes after the AI needs some.
COMMIT_SECONDS = 5.0


class _Stopped(Exception):
    """The run is worth nothing any more: its claim is lost or its job is being cancelled."""


class _Erased(Exception):
    """The conversation was erased after a message of the job was accepted."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until


class _Joined(Exception):
    """Messages came that the run has not seen: it starts again with them, and `needs` so many seconds for that."""

    def __init__(self, needs: float) -> None:
        super().__init__()
        self.needs = needs


@dataclass(slots=True)
class _Pulse:
    """When the tier was asked for news last, and when it was told that this worker lives."""

    looked: float
    beaten: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: the job if it was ended here, and whether a next one moved up.

    `committed`: what Postgres has said when it settled the job's messages. `erased_until`: it didn't run, for what was
    accepted for its conversation until then (Unix seconds) is void.
    """

    job: Job | None = None
    waiting: bool = False
    erased_until: float | None = None
    committed: Committed | None = None

    def settles(self, job_id: str, message_id: str) -> bool:
        """Whether it is known to have settled this message under this job."""
        job = self.job if self.committed else None
        return job is not None and job.job_id == job_id and any(message_id in m.ids for m in job.messages)


@dataclass(frozen=True, slots=True)
class Run:
    """A worker's work on one claim. It stays on the tier of the claim; `deadline` is in Unix seconds."""

    tier: Tier
    archive: Archive
    queue: Queue
    bots: BotConfigService
    #: None: the job is given up, and fails without being tried.
    ai: Callable[[dict[str, Any]], AI] | None
    settings: Settings
    clock: Callable[[], float]
    meter: Meter
    lock_id: str
    deadline: float
    sleep: Callable[[float], None] = time.sleep

    def to_its_end(self, job: Job) -> RunResult:
        """Bring the claimed job to its end, or stop where that is no longer ours. Raises Unavailable."""
        if job.status is JobStatus.CANCELLING:
            return self._help_cancel(job)
        if job.attempts == 1 and job.started_at:
            # Waiting for the patient is no waiting in a queue.
            self.meter.add("QueueWait", 1000 * max(0.0, job.started_at - max(job.created_at, job.ready_at)))
        elif job.attempts > 1:
            self.meter.add("JobsRecovered")
        pulse = _Pulse(self.clock(), self.clock())
        while True:
            try:
                permitted = self._permit(job)
            except _Erased as erased:
                return RunResult(erased_until=erased.until)
            if permitted is None:
                return RunResult()
            fence, job = permitted
            if fence and fence.number is None:
                return self._finish(job) if not job.parked else self._hold(job)
            if not job.messages:
                # The only one that was left has been undone.
                return self._help_cancel(job)
            try:
                run, needs = self._ask(job, fence, pulse)
                # A reply in the hand is not given up for a run that could not end in time.
                sealed = self._seal(job, fence, may_restart=self.deadline - self.clock() >= needs)
            except _Joined as joined:
                run, needs, sealed = job, joined.needs, self._seal(job, fence, may_seal=False)
            except _Stopped:
                return self._stopped(job)
            if sealed.verdict == "again" and sealed.job:
                try:
                    job = self._until_quiet(sealed.job, self.deadline - needs)
                except _Stopped:
                    return self._stopped(sealed.job)
                continue
            if sealed.verdict == "cancelling" and sealed.job:
                return self._help_cancel(sealed.job)
            if sealed.verdict == "lost":
                return self._fenced_out(job)
            return self._end(_as_sealed(run, sealed.job), fence)

    # Permission.

    def _permit(self, job: Job) -> tuple[Fence | None, Job] | None:
        """Permission to run what is still open of `job`, under its own name or a successor's.

        Returns the job as adopted, or with a `number` of None the ended job to finish; None if the lock is lost.
        The fence is None where Postgres is away. Raises _Erased.

            worker A: commit J{m0} ── dies     sweep: J pending again     intake: m1 joins J
            worker B: fence J{m0, m1}: m0 is settled, J has ended ── m1 runs as J', J points to J'
        """
        drained: set[str] = set()
        while True:
            try:
                fence = self.archive.fence(
                    job,
                    successor_id=job.key.new_job_id(),
                    turns=ARCHIVED_TURNS,
                    drain=self.tier.name != "postgres",
                )
            except Unavailable:
                if job.maybe_committed:
                    # A → seal, commit ── dies     Postgres goes away     B: only Postgres knows that A committed
                    raise
                return None, job
            if fence.erased_until is not None:
                raise _Erased(fence.erased_until)
            ended = fence.ended
            if ended and fence.successor_id is None:
                return fence, replace(ended, messages=job.messages, parked=fence.parked)
            # The tier runs the rest under the last name of the chain: those in between have ended.
            renamed = replace(ended, superseded_by=fence.successor_id) if ended else None
            adopted = self.tier.adopt(job.key, self.lock_id, fence.settled, renamed)
            if adopted is None:
                return None
            asked = {message.message_id for message in job.messages}
            job = adopted
            waiting = tuple(message for message in fence.waiting if message.message_id not in drained)
            if fence.number is not None and waiting:
                # Accepted while Redis was away: they are answered with this job, or wait for its next (once asked,
                # lest a job that takes no more be asked for ever).
                drained.update(message.message_id for message in waiting)
                request = Request(job.key, (*waiting, *job.messages), job.context, job.bot_id)
                self.tier.accept_again(request, job_id=job.job_id, spare_id=job.key.new_job_id())
                head = self.tier.waiting(job.key)
                job = head if head and head.job_id == job.job_id else job
            # Whether what joined since is open, only Postgres knows.
            elif fence.number is not None and asked.issuperset(message.message_id for message in job.messages):
                return fence, job

    def _until_quiet(self, job: Job, latest: float) -> Job:
        """Wait until the patient stops typing, but not past `latest`; the job with what came meanwhile.

            m1 stops the run ── waits ── m2 joins ── waits ── quiet: asks with m0, m1, m2

        Raises _Stopped.
        """
        began = job.typing_at
        while (
            job.typing_at == began  # guard: debounce_max_ms, of one burst
            and (wait := min(job.ready_at, latest) - self.clock()) > 0
        ):
            self.sleep(min(wait, LOOK_SECONDS))
            # A tier that is away for a moment changes nothing: the fence and the seal see what came.
            with suppress(*TRANSIENT):
                held = self.tier.heartbeat(job.key, self.lock_id, seen=len(job.messages))
                if held in ("lost", "cancelling"):  # guard: step cancel, a run that waits for the patient
                    raise _Stopped
                head = self.tier.waiting(job.key) if held == "newer" else None
                job = head if head and head.job_id == job.job_id else job
        return job

    # The AI.

    def _ask(self, job: Job, fence: Fence | None, pulse: _Pulse) -> tuple[Job, float]:
        """Run the AI; the job with its reply or its error filled in, and the seconds that one more run may take.

        Raises _Stopped or _Joined.
        """
        done, error, limit, began = None, None, self.settings.ai_timeout, self.clock()
        asked: Provenance | None = None
        config = self.bots.default
        try:
            if fence and fence.bot_id:
                self.bots.belongs_to(job.key, fence.bot_id)
            config = self.bots.config_of_job(job)
            if self.ai is None:
                raise AIError("processing_failed", "The message could not be processed.")
            providers = (config["core_ai"], config["core_ai"].get("fallback"))
            limit = sum(float(core_ai["timeout_seconds"] or limit) for core_ai in providers if core_ai)
            shows = config["meta_data"].get("show_partial_reply", False)
            watch = self._watch(job, pulse, limit + COMMIT_SECONDS, shows=shows)
            timeout = min(limit, self.deadline - began - COMMIT_SECONDS)
            if timeout <= 0:
                raise AIError("deadline_exceeded", "The answer took longer than one run may take.")
            prompt = _prompt(job, fence, config, timeout)
            watch("")  # a slow store may have eaten into the lease, and let others join
            number = fence.number if fence else None
            about: dict[str, object] = {
                "fence": number,
                "messages": len(job.messages),
                "correlation_id": job.correlation_id,
            }
            _log.info("asking the AI", extra={"ai_job_id": job.job_id} | about)
            asked = _provenance(config, config["core_ai"])
            done = self._complete(config["core_ai"], prompt, watch)
            if done.by_fallback:
                asked = _provenance(config, config["core_ai"]["fallback"])
        except AIError as failure:
            error = JobError(failure.code, str(failure), failure_notice(config))
        except Contended:
            raise
        except RequestError as refused:
            # The bot was deactivated or deleted after the message was accepted.
            error = JobError("bot_unavailable", refused.detail, failure_notice(config))
        now = self.clock()
        if self.ai:
            self.meter.add("AITime", 1000 * (now - began))
        status = JobStatus.FAILED if error else JobStatus.COMPLETED
        reply, usage = (_storable(done.text), done.usage) if done else (None, None)
        ended = replace(job, status=status, reply=reply, error=error, usage=usage, provenance=asked, finished_at=now)
        # An end waits for nobody, and no record of one says so.
        ended = replace(ended, ready_at=0.0, typing_at=0.0)
        return ended, limit + COMMIT_SECONDS

    def _complete(self, core_ai: dict[str, Any], prompt: Prompt, watch: Watch) -> Completion:
        """The AI's reply. An adapter that breaks fails its job visibly: nothing must be stuck behind it."""
        assert self.ai is not None
        try:
            return self.ai(core_ai).complete(prompt, watch)
        except (MessageHandlerError, _Stopped, _Joined):
            raise
        except Exception as error:  # noqa: BLE001  nobody knows what a provider's client raises
            # Its type alone: the text of a foreign error may quote the prompt.
            _log.error("the AI broke", extra={"error": type(error).__name__})
            raise AIError("ai_failed", "The AI failed unexpectedly.") from None

    def _watch(self, job: Job, pulse: _Pulse, needs: float, *, shows: bool) -> Watch:
        """What the AI calls while it works: looks for news, and says that this worker lives and how far it is.

        `needs`: seconds that a run with newer messages may take; where fewer are left, they wait for the next job.
        Raises _Stopped or _Joined.
        """
        shown, seen = 0, len(job.messages)

        def watch(text: str) -> None:
            nonlocal shown
            now = self.clock()
            if now - pulse.looked < LOOK_SECONDS:
                return
            pulse.looked = now
            # There is no reply in the hand yet: half of a run's time is enough to ask again, if it must be.
            enough = min(needs, self.settings.run_seconds / 2)
            restartable = job.restarts < self.settings.max_restarts and self.deadline - now >= enough
            # A tier that is away for a moment costs no answer: the next look asks again, and the seal decides.
            with suppress(*TRANSIENT):
                if now - pulse.beaten >= (PROGRESS_SECONDS if len(text) != shown else self.settings.heartbeat_every):
                    progress = Progress(len(text), _storable(text) if shows else None)
                    held = self.tier.heartbeat(job.key, self.lock_id, progress, seen=seen)
                    pulse.beaten, shown = now, len(text)  # one that did not get through is not waited for
                else:
                    held = self.tier.look(job.key, self.lock_id, seen=seen)
                if held == "newer" and restartable:
                    raise _Joined(enough)
                if held in ("lost", "cancelling"):
                    raise _Stopped

        return watch

    def _seal(self, job: Job, fence: Fence | None, *, may_restart: bool = True, may_seal: bool = True) -> Sealed:
        return self.tier.seal(
            job.key,
            self.lock_id,
            [message.message_id for message in job.messages],
            next_id=job.key.new_job_id(),
            fenced=fence is not None,
            may_restart=may_restart,
            may_seal=may_seal,
        )

    # The end.

    def _end(self, run: Job, fence: Fence | None) -> RunResult:
        """Commit a sealed run, or where Postgres is away end it in the tier."""
        number = fence.number if fence else None
        if number is None:
            try:
                late = self.archive.fence(run.before_its_end(), successor_id=run.key.new_job_id(), turns=0)
            except Unavailable:
                return self._end_unarchived(run)
            if late.number is None:
                # Some of it is settled: the next claim runs what is open, under the name that it then has.
                return self._fenced_out(run)
            # worker A (no fence): seal ── pauses     B: takes over, a fence, commits     A: fence, and owns nothing
            again = self._seal(run, late, may_restart=False)
            if again.verdict != "sealed":
                return self._fenced_out(run)
            number = late.number
        try:
            # One whose answer is lost ends in the tier as well, with the same reply: archived twice is archived once.
            committed = self.archive.commit(run, number)
        except Unavailable:
            return self._end_unarchived(run)
        return self._finish(run, committed) if committed else self._fenced_out(run)

    def _fenced_out(self, run: Job) -> RunResult:
        _log.warning("fenced out", extra={"ai_job_id": run.job_id})
        self.meter.add("JobsFencedOut")
        return RunResult()

    def _end_unarchived(self, run: Job) -> RunResult:
        """The commit point while Postgres is away: the tier compares the owner; then the end is sent to the archive.

        Where no Postgres is configured there is nothing to send to.
        """
        kept = self.archive.name != "none"
        run = replace(run, unarchived=kept)
        finished = self.tier.finish(run.key, self.lock_id, run)
        if not finished.done:
            return self._fenced_out(run)
        if kept:
            self.meter.add("RepliesUnarchived")
            try:
                self.queue.send(ArchiveRecord(run), delay=RECORD_SECONDS)
            except (Unavailable, PayloadTooLarge):
                # It is in the tier's index, and the messages' own records come back until they are settled.
                _log.warning("an archive record was not sent", extra={"ai_job_id": run.job_id})
        return RunResult(run, finished.waiting)

    def _finish(self, job: Job, committed: Committed | None = None) -> RunResult:
        try:
            finished = self.tier.finish(job.key, self.lock_id, job)
        except TRANSIENT:
            if not committed:
                raise
            # Answered is answered. The next claimer of what is left in the tier finds it settled.
            return RunResult(job, committed=committed)
        return RunResult(job if committed else None, finished.waiting, committed=committed)

    def _hold(self, job: Job) -> RunResult:
        """A human answers: the job's messages wait in Postgres. So will what comes, if the tier had forgotten that."""
        ended = self._finish(job)
        self.tier.hand_off(job.key, human=True)
        return ended

    def _stopped(self, job: Job) -> RunResult:
        head = self.tier.waiting(job.key)
        if head and head.job_id == job.job_id and head.status is JobStatus.CANCELLING:
            return self._help_cancel(head)
        return RunResult()

    def _help_cancel(self, job: Job) -> RunResult:
        """Postgres decides a cancel; the worker that finds one begun brings it to its end."""
        job = job.being_cancelled()
        ended = replace(self.archive.cancel(job).job, messages=job.messages)
        waiting = self.tier.finish(job.key, None, ended).waiting
        # One that another had completed was that one's to report.
        return RunResult(ended if ended.status is JobStatus.CANCELLED else None, waiting)


def _prompt(job: Job, fence: Fence | None, config: dict[str, Any], timeout: float) -> Prompt:
    limits = config["meta_data"]
    pending = [Turn("user", message.content, message.message_id) for message in job.messages]
    turns = history.trim(
        history.merge(fence.turns if fence else (), job.context),
        pending,
        max_messages=int(limits.get("max_context_messages", 20)),
        max_characters=int(limits.get("max_context_characters", 10_000)),
    )
    context = turns[: len(turns) - len(pending)]
    request_id = f"{job.job_id}:{fence.number if fence else 'unfenced'}"
    return Prompt(
        config["name"],
        context,
        job.messages,
        timeout,
        job.resources,
        request_id,
        job.key.platform_id,
        job.correlation_id,
    )


def _provenance(config: dict[str, Any], core_ai: dict[str, Any]) -> Provenance:
    """What is about to be asked. A configuration that an earlier version shared has no revision."""
    provider = provider_of(core_ai)
    return Provenance(
        config["bot_id"],
        config.get("revision"),
        core_ai["core_ai_id"],
        core_ai.get("revision"),
        provider.model(core_ai),
        simulated=provider.simulated,
    )


def _storable(reply: str) -> str:
    """Without what Postgres and UTF-8 can't hold: U+0000 and lone surrogates."""
    return reply.replace("\x00", "").encode(errors="replace").decode()


def _as_sealed(run: Job, sealed: Job | None) -> Job:
    """The run's job with what the tier learned of it meanwhile: restarts, and further ids of the same messages."""
    if sealed is None:
        return run
    known = {message.message_id: message for message in sealed.messages}
    messages = tuple(known.get(message.message_id, message) for message in run.messages)
    return replace(run, messages=messages, restarts=sealed.restarts)
