"""What a worker does with a record: claim the conversation's head, run it, seal, commit, finish.

A record wakes its conversation, not its job, and is deleted only when its own message is settled. Every step
may fail in between, and every process may die there: what is left is found again by the record or by the sweep.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from message_handler import history
from message_handler.ai import AI, Prompt
from message_handler.bot_config import BotConfigService
from message_handler.errors import AIError, MessageHandlerError, PayloadTooLarge, RequestError, Unavailable
from message_handler.models import Claim, Fence, Job, JobError, JobStatus, Outcome, Record, Refused, Request, Turn
from message_handler.queues import Queue
from message_handler.settings import Settings
from message_handler.stores.port import Archive, Tier

_log = logging.getLogger(__name__)

#: Archived turns fetched for the context, before the bot's limits trim it.
ARCHIVED_TURNS = 100
#: A follow-up is run at once if this many seconds are left, else it gets a record of its own.
FOLLOW_UP_SECONDS = 60.0
#: A run is not begun with less than this many seconds: what comes after the AI needs some.
COMMIT_SECONDS = 5.0
#: The longest that a record hides before it is tried again: the queue's visibility timeout.
MAX_RETRY_SECONDS = 720.0


class _Stopped(Exception):
    """The run is worth nothing any more: its claim is lost or its job is being cancelled."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The use case of the worker function; the adapters are its ports."""

    tier: Tier
    archive: Archive
    queue: Queue
    bots: BotConfigService
    ai: Callable[[dict[str, Any]], AI]
    settings: Settings
    clock: Callable[[], float] = time.time

    def process(self, record: Record, deadline: float, receive_count: int = 1) -> Outcome:
        """Work on the record's conversation until `deadline` (Unix seconds) at the latest.

        `receive_count`: how often the queue has delivered the record, this time included.
        """
        key = record.request.key
        # A worker that gave up looks again when its own claim has gone stale; then ever later, for an outage may
        # last longer than the record's few deliveries.
        retry = min((self.settings.heartbeat_stale + 1) * 4 ** (receive_count - 1), MAX_RETRY_SECONDS)
        ended: list[Job] = []
        try:
            self.tier.accept_again(record.request, job_id=record.job_id, spare_id=key.new_job_id())
            claim = self.tier.claim(key, str(uuid.uuid4()))
            while isinstance(claim, Claim):
                job, waiting = self._run(claim, deadline)
                if job:
                    ended.append(job)
                if not waiting:
                    break
                if deadline - self.clock() < FOLLOW_UP_SECONDS:
                    if head := self.tier.waiting(key):
                        wake(self.queue, head)
                    break
                claim = self.tier.claim(key, str(uuid.uuid4()))
            wait = claim.wait if isinstance(claim, Refused) else retry
            return Outcome(self._check(record, wait), tuple(ended))
        except Unavailable as error:
            _log.warning("a record waits", extra={"job_id": record.job_id, "away": error.what})
            return Outcome(retry, tuple(ended))

    def _run(self, claim: Claim, deadline: float) -> tuple[Job | None, bool]:
        """Bring the claimed job to its end; returns it if it was ended here, and whether a next one moved up."""
        job = claim.job
        if job.status is JobStatus.CANCELLING:
            return self._help_cancel(job)
        checkpoint = self._heartbeat(job, claim.lock_id)
        while True:
            permitted = self._fence(job, claim.lock_id)
            if permitted is None:
                return None, False
            fence, job = permitted
            if fence.number is None:
                _, waiting = self._finish(claim.lock_id, job)
                return None, waiting
            if not job.messages:
                # The only one that was left has been undone.
                return self._help_cancel(job)
            try:
                run, needs = self._ask(job, fence, checkpoint, deadline)
                sealed = self.tier.seal(
                    job.key,
                    claim.lock_id,
                    [message.message_id for message in job.messages],
                    next_id=job.key.new_job_id(),
                    fenced=True,
                    # A reply in the hand is not given up for a run that could not end in time.
                    may_restart=deadline - self.clock() >= needs,
                )
            except _Stopped:
                return self._stopped(job)
            if sealed.verdict == "again" and sealed.job:
                job = sealed.job
                continue
            if sealed.verdict == "cancelling" and sealed.job:
                return self._help_cancel(sealed.job)
            if sealed.verdict == "lost":
                return None, False
            run = _as_sealed(run, sealed.job)
            if not self.archive.commit(run, fence.number):
                _log.warning("fenced out", extra={"job_id": run.job_id, "fence": fence.number})
                return None, False
            return self._finish(claim.lock_id, run)

    def _fence(self, job: Job, lock_id: str) -> tuple[Fence, Job] | None:
        """Permission to run what is still open of `job`, under its own name or a successor's.

        Returns the job as adopted, or with a `number` of None the ended job to finish; None if the lock is lost.

            worker A: commit J{m0} ── dies     sweep: J pending again     intake: m1 joins J
            worker B: fence J{m0, m1}: m0 is settled, J has ended ── m1 runs as J', J points to J'
        """
        while True:
            fence = self.archive.fence(job, successor_id=job.key.new_job_id(), turns=ARCHIVED_TURNS)
            ended = fence.ended
            if ended and fence.successor_id is None:
                return fence, replace(ended, messages=job.messages)
            # The tier runs the rest under the last name of the chain: those in between have ended.
            renamed = replace(ended, superseded_by=fence.successor_id) if ended else None
            adopted = self.tier.adopt(job.key, lock_id, fence.settled, renamed)
            if adopted is None:
                return None
            asked = {message.message_id for message in job.messages}
            job = adopted
            # Whether what joined since is open, only Postgres knows.
            if fence.number is not None and asked.issuperset(message.message_id for message in job.messages):
                return fence, job

    def _ask(self, job: Job, fence: Fence, checkpoint: Callable[[], None], deadline: float) -> tuple[Job, float]:
        """Run the AI; the job with its reply or its error filled in, and the seconds that one more run may take.

        Raises _Stopped.
        """
        reply, error, limit = None, None, self.settings.ai_timeout
        try:
            config = self.bots.get_bot_config(
                job.key.conversation_id, bot_id=job.bot_id, platform_id=job.key.platform_id
            )
            limit = float(config["core_ai"]["timeout_seconds"] or limit)
            timeout = min(limit, deadline - self.clock() - COMMIT_SECONDS)
            if timeout <= 0:
                raise AIError("deadline_exceeded", "The answer took longer than one run may take.")
            prompt = self._prompt(job, fence, config, timeout)
            checkpoint()  # a slow store may have eaten into the lease
            reply = _storable(self._complete(config["core_ai"], prompt, checkpoint))
        except AIError as failure:
            error = JobError(failure.code, str(failure))
        except RequestError as refused:
            # The bot was deactivated or deleted after the message was accepted.
            error = JobError("bot_unavailable", refused.detail)
        status = JobStatus.FAILED if error else JobStatus.COMPLETED
        run = replace(job, status=status, reply=reply, error=error, finished_at=self.clock())
        return run, limit + COMMIT_SECONDS

    def _complete(self, core_ai: dict[str, Any], prompt: Prompt, checkpoint: Callable[[], None]) -> str:
        """The AI's reply. An adapter that breaks fails its job visibly: nothing must be stuck behind it."""
        try:
            return self.ai(core_ai).complete(prompt, checkpoint)
        except (MessageHandlerError, _Stopped):
            raise
        except Exception as error:  # noqa: BLE001  nobody knows what a provider's client raises
            # Its type alone: the text of a foreign error may quote the prompt.
            _log.error("the AI broke", extra={"error": type(error).__name__})
            raise AIError("ai_failed", "The AI failed unexpectedly.") from None

    def _prompt(self, job: Job, fence: Fence, config: dict[str, Any], timeout: float) -> Prompt:
        limits = config["meta_data"]
        pending = [Turn("user", message.content, message.message_id) for message in job.messages]
        turns = history.trim(
            history.merge(fence.turns, job.context),
            pending,
            max_messages=int(limits.get("max_context_messages", 20)),
            max_characters=int(limits.get("max_context_characters", 10_000)),
        )
        context = turns[: len(turns) - len(pending)]
        return Prompt(config["name"], context, job.messages, timeout, job.resources)

    def _heartbeat(self, job: Job, lock_id: str) -> Callable[[], None]:
        """What the AI calls while it works: says every few seconds that this worker lives. Raises _Stopped."""
        last = self.clock()

        def checkpoint() -> None:
            nonlocal last
            now = self.clock()
            if now - last >= self.settings.heartbeat_every:
                last = now
                if self.tier.heartbeat(job.key, lock_id) != "held":
                    raise _Stopped

        return checkpoint

    def _stopped(self, job: Job) -> tuple[Job | None, bool]:
        head = self.tier.waiting(job.key)
        if head and head.job_id == job.job_id and head.status is JobStatus.CANCELLING:
            return self._help_cancel(head)
        return None, False

    def _help_cancel(self, job: Job) -> tuple[Job | None, bool]:
        """Postgres decides a cancel; whoever finds one begun brings it to its end."""
        job = job.being_cancelled()
        return self._finish(None, replace(self.archive.cancel(job).job, messages=job.messages))

    def _finish(self, lock_id: str | None, job: Job) -> tuple[Job | None, bool]:
        finished = self.tier.finish(job.key, lock_id, job)
        return job, finished.waiting

    def _check(self, record: Record, wait: float) -> float | None:
        """None if the record's own message is settled, else the seconds after which it should come back."""
        key = record.request.key
        settled_by = self.archive.settled_by(key, record.message_id)
        if settled_by is None:
            self.tier.forget(key, record.message_id)
            return wait
        if settled_by != record.job_id:
            self.archive.supersede(_promised(record, self.clock()), settled_by)
        return None


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


def _promised(record: Record, now: float) -> Job:
    """The job that a record's message was promised, should Postgres never have heard of it."""
    request = record.request
    messages = tuple(m for m in request.messages if record.message_id in m.ids)
    return Job(record.job_id, request.key, JobStatus.PENDING, messages, request.bot_id, created_at=now)


def wake(queue: Queue, job: Job) -> None:
    """Send one record that stands for all messages of a job; its own is the last. Raises Unavailable."""
    request = Request(job.key, job.messages, job.context, job.bot_id, job.resources)
    try:
        queue.send(Record(job.job_id, job.messages[-1].message_id, request))
    except PayloadTooLarge:
        # The messages have records of their own: without this one they are late.
        _log.error("too large to wake", extra={"job_id": job.job_id})
