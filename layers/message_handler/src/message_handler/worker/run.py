"""One claimed job on its way to its end: take a fence, ask the AI, seal, commit, finish.

Every step may fail, and every process may die between two steps: the record or the sweep finds what is left. While
Postgres is away the run goes on without a fence, guarded by the tier alone:

    fence ── Postgres away ── ask ── seal ─┬─ Postgres back: take a fence now, commit under it
                                           └─ still away: end the job in the tier, send its end to the archive
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from message_handler.ai.port import AI
from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import TRANSIENT
from message_handler.domain.jobs import Job, JobStatus
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive, Fence
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Sealed
from message_handler.settings import Settings
from message_handler.worker.asking import LOOK_SECONDS, Answer, Asking, Joined, Stopped
from message_handler.worker.ending import Ending, RunResult
from message_handler.worker.fencing import AlreadyEnded, Fencing, Void


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
        """Bring the claimed job to its end, or stop if another worker has it. Raises Unavailable."""
        fencing = Fencing(self.tier, self.archive, self.lock_id)
        ending = Ending(self.tier, self.archive, self.queue, self.meter, self.lock_id)
        if job.status is JobStatus.CANCELLING:
            return ending.cancel(job)
        self._measure_start(job)
        asking = self._asking()
        while True:
            permission = fencing.permit(job)
            if permission is None:
                return RunResult()
            if isinstance(permission, Void):
                return RunResult(erased_until=permission.until)
            job = permission.job
            if isinstance(permission, AlreadyEnded):
                return ending.park(job) if job.parked else ending.finish(job)
            if not job.messages:
                # The patient has undone the only message that was left.
                return ending.cancel(job)
            try:
                answer, sealed = self._ask_and_seal(job, permission.fence, asking, ending)
                if sealed.verdict == "again" and sealed.job:
                    job = sealed.job
                    job = self._until_quiet(job, self.deadline - answer.needs)
                    continue
            except Stopped:
                return ending.stop(job)
            if sealed.verdict == "cancelling" and sealed.job:
                return ending.cancel(sealed.job)
            if sealed.verdict == "lost":
                return ending.fenced_out(job)
            return ending.commit(_as_sealed(answer.job, sealed.job), permission.fence)

    def _measure_start(self, job: Job) -> None:
        if job.attempts == 1 and job.started_at:
            # The time in which the patient may still be typing is no waiting in a queue.
            self.meter.add("QueueWait", 1000 * max(0.0, job.started_at - max(job.created_at, job.ready_at)))
        elif job.attempts > 1:
            self.meter.add("JobsRecovered")

    def _asking(self) -> Asking:
        return Asking(
            self.tier,
            self.bots,
            self.ai,
            self.settings,
            self.clock,
            self.meter,
            self.lock_id,
            self.deadline,
        )

    def _ask_and_seal(self, job: Job, fence: Fence | None, asking: Asking, ending: Ending) -> tuple[Answer, Sealed]:
        """Ask the AI, then seal. If new messages interrupt the AI, seal without a reply. Raises Stopped."""
        try:
            answer = asking.ask(job, fence)
        except Joined as joined:
            return Answer(job, joined.needs), ending.seal(job, fence, may_seal=False)
        # A finished reply is not given up for a run that could not end in time.
        return answer, ending.seal(job, fence, may_restart=self.deadline - self.clock() >= answer.needs)

    def _until_quiet(self, job: Job, latest: float) -> Job:
        """Wait until the patient stops typing, but not past `latest`. Returns the job with what came meanwhile.

            m1 stops the run ── waits ── m2 joins ── waits ── quiet: asks with m0, m1, m2

        Raises Stopped.
        """
        began = job.typing_at
        while (
            job.typing_at == began  # guard: debounce_max_ms, of one burst
            and (wait := min(job.ready_at, latest) - self.clock()) > 0
        ):
            self.sleep(min(wait, LOOK_SECONDS))
            # A tier that is away for a moment changes nothing: the fence and the seal see what came.
            with suppress(*TRANSIENT):
                lease = self.tier.heartbeat(job.key, self.lock_id, seen=len(job.messages))
                if lease in ("lost", "cancelling"):  # guard: step cancel, a run that waits for the patient
                    raise Stopped
                head = self.tier.waiting(job.key) if lease == "newer" else None
                job = head if head and head.job_id == job.job_id else job
        return job


def _as_sealed(answered: Job, sealed: Job | None) -> Job:
    """The answered job with what the tier knows of it: restarts, and its messages with all their ids."""
    return replace(answered, messages=sealed.messages, restarts=sealed.restarts) if sealed else answered
