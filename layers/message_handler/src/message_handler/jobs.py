"""Jobs as callers see them: created, looked up, waited for, and cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from message_handler.domain.conversations import ConversationKey, conversation_key
from message_handler.domain.documents import shown
from message_handler.domain.edits import end_of, named
from message_handler.domain.errors import TRANSIENT, Conflict, NotFound, Unavailable
from message_handler.domain.identifiers import DEFAULT_PLATFORM, shard_of_job
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import base_id, is_edit, shown_id
from message_handler.intake.intake import Intake
from message_handler.intake.requests import request_of
from message_handler.ports.archive import Archive, Settled
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.queue.wake import wake
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)


def end_answered(archive: Archive, job: Job) -> Job:
    """End an archived job that runs nowhere, if other jobs have settled all of its messages. Returns the job as it is.

    A worker does the same when it checks the job's record. This is for a record that is late or lost.
    """
    settled = archive.settled(job.key, [message.message_id for message in job.messages])
    if not job.messages or len(settled) < len(job.messages):
        return job
    archive.supersede(job, settled[job.messages[-1].message_id].job_id)
    return archive.job(job.key.platform_id, job.job_id) or job


@dataclass(frozen=True, slots=True)
class MessageState:
    """The status of a message: `pending`, `processing`, or how it ended, and the job that the status comes from."""

    message_id: str
    status: str
    job_id: str

    @property
    def ended(self) -> bool:
        return self.status not in ("pending", "processing")


def job_view(job: Job, messages: Sequence[MessageState], *, now: float, degraded: bool = False) -> dict[str, Any]:
    """A job as `GET /jobs/{job_id}` shows it, with these messages.

    Times are RFC 3339 in UTC. `progress.seconds` is the age of the run. `answered_by` is the job in which all of the
    messages ended; None while a message is open, or if they ended in several jobs. `degraded`: Postgres could not be
    asked, so the job or a message may have ended without the tier's knowledge.
    """
    ends = {message.job_id if message.ended else None for message in messages}
    status = _shown_status(job)
    return shown(job, "view") | {
        "conversation_id": job.key.conversation_id,
        "status": status.value,
        "consolidated_messages": job.consolidated_messages,
        "messages": [asdict(message) for message in messages],
        "answered_by": ends.pop() if len(ends) == 1 else None,
        "progress": _progress_view(job, status, now),
        "reply": {"role": "assistant", "content": job.reply} if job.reply is not None else None,
        **({"degraded": True} if degraded else {}),
    }


def _shown_status(job: Job) -> JobStatus:
    # Callers see no state for a cancel that has begun: the job ends as cancelled, or as what came first.
    return JobStatus.PROCESSING if job.status is JobStatus.CANCELLING else job.status


def _progress_view(job: Job, status: JobStatus, now: float) -> dict[str, Any]:
    """State, seconds of the run, characters of the reply so far, and its text if the bot shows it early."""
    until, progress = job.finished_at or now, job.progress
    characters = len(job.reply) if job.reply is not None else progress.characters if progress else 0
    view = {
        "state": status.value,
        "seconds": round(max(0.0, until - job.started_at), 3) if job.started_at else 0.0,
        "characters": characters,
    }
    return view | ({"text": progress.text} if progress and progress.text is not None else {})


class BackgroundJobManager:
    """Jobs of one platform."""

    def __init__(
        self,
        tiers: Failover,
        archive: Archive,
        queue: Queue,
        intake: Intake,
        *,
        platform_id: str = DEFAULT_PLATFORM,
    ) -> None:
        self._tiers = tiers
        self._archive = archive
        self._queue = queue
        self._intake = intake
        self._platform_id = platform_id

    def create_ai_processing_job(
        self, conversation_id: str, messages: Sequence[str], *, bot_id: str | None = None
    ) -> str:
        """Queue a patient's messages for an answer. Returns the id of the job that will give it.

        If a job already waits for or answers the conversation, the messages may join it. Raises RequestError or
        Unavailable; then nothing was stored. While a human answers, the messages are parked and Conflict is raised.
        """
        key = conversation_key(conversation_id, self._platform_id)
        job_id: str | None = self._intake.handle(key, request_of(messages, bot_id))["ai_job_id"]
        if job_id is None:
            raise Conflict("a human answers this conversation; the messages wait until the bot is resumed")
        return job_id

    def find(self, job_id: str) -> Job:
        """A job of this platform. Raises NotFound, or Unavailable while the store that may know it is away.

        If the job has ended in Postgres, a tier's view of it does not count. Only Postgres knows its successor, and a
        tier that forgot the job may create it again for a message that was promised it.
        """
        return self._find(job_id)[0]

    def _find(self, job_id: str) -> tuple[Job, bool]:
        """The job, and whether Postgres could not be asked: then it may have ended already. Raises like `find`."""
        if shard_of_job(job_id) is None:
            raise NotFound("there is no such job", field="job_id")
        away = None
        try:
            job = self._live(job_id)
        except Unavailable as error:
            job, away = None, error
        try:
            archived = self._archive.job(self._platform_id, job_id)
        except Unavailable:
            if job is None:
                raise
            return job, True
        found = archived if archived and (archived.status.ended or job is None) else job
        if found and found is archived and not found.status.ended:
            found = end_answered(self._archive, found)
        if found:
            return found, False
        if away:
            raise away
        raise NotFound("there is no such job", field="job_id")

    def _live(self, job_id: str) -> Job | None:
        """The job as a tier knows it. Raises Unavailable if no tier knows it and one is away."""
        found = self._tiers.find(lambda tier: self._of_platform(tier.job(job_id)))
        if found is None:
            return None
        tier, job = found
        if tier.name == "memory" and not job.status.ended and not self._queue.in_process:
            # Another process answers it, and both stores through which this process would hear of it are away.
            raise Unavailable("the job's store")
        return job

    def _of_platform(self, job: Job | None) -> Job | None:
        return job if job and job.key.platform_id == self._platform_id else None

    def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """The job as `GET /jobs/{job_id}` shows it, or None."""
        try:
            return self.wait_for(job_id, 0)
        except NotFound:
            return None

    def wait_for(
        self,
        job_id: str,
        seconds: float,
        message_id: str | None = None,
        *,
        place: AbstractContextManager[bool] | None = None,
    ) -> dict[str, Any]:
        """The job as soon as it has ended, or after `seconds`. Raises NotFound.

        With a `message_id` that was promised the job: as soon as that message has ended, in whichever job. `place` is
        entered if there is something to wait for, and says whether this call may wait.
        """
        clock = self._intake.clock
        until = clock() + seconds
        job, degraded = self._find(job_id)
        if seconds <= 0 or self._is_over(job, message_id):
            return self._view(job, message_id, degraded)
        with place or nullcontext(True) as may_wait:
            pause = 0.05
            while may_wait and (left := until - clock()) > 0:
                time.sleep(min(pause, left))
                pause = min(2 * pause, 0.4)
                # While the tier has the job under way, Postgres need not be asked.
                live = None
                with suppress(Unavailable):
                    live = self._live(job_id)
                if live and not live.status.ended:
                    job = live
                else:
                    job, degraded = self._find(job_id)
                if self._is_over(job, message_id):
                    break
        return self._view(job, message_id, degraded)

    def _is_over(self, job: Job, message_id: str | None) -> bool:
        return job.status.ended if message_id is None else self._messages(job, message_id)[0][0].ended

    def view(self, job: Job) -> dict[str, Any]:
        """The job as callers see it, with all of its messages."""
        return self._view(job, None, degraded=False)

    def _view(self, job: Job, message_id: str | None, degraded: bool) -> dict[str, Any]:
        """With all of its messages or one. Raises NotFound for a message that was not promised the job.

            client: reads the job, processing                          ── reads its messages: answered
            worker:                           commits, and ends the job

        Then the job is read again.
        """
        messages, known = self._messages(job, message_id)
        if messages and not job.status.ended and all(message.ended for message in messages):
            job, degraded = self._find(job.job_id)  # guard: an ended job, after its messages
        return job_view(job, messages, now=self._intake.clock(), degraded=degraded or not known)

    def _messages(self, job: Job, message_id: str | None) -> tuple[list[MessageState], bool]:
        """The state of each message that was promised the job, and whether Postgres could be asked."""
        own = {id_: message.message_id for message in job.messages for id_ in message.ids}
        own = {shown_id(id_): message_id for id_, message_id in own.items()} | own
        # Only the line knows a message that has left the job, until its new job has a fence.
        line = [(other, message) for other in self._line(job) for message in other.messages]
        left = [message.message_id for _, message in line if job.job_id in message.promised]
        ids = list(dict.fromkeys([*own.values(), *job.promised, *left]))
        # Of a message that was edited, its newest version is shown.
        newest = {base_id(id_): id_ for id_ in sorted(ids, key=is_edit)}
        ids = [newest[base] for base in dict.fromkeys(map(base_id, ids))]
        if message_id is not None:
            names = {shown_id(id_): id_ for id_ in ids} | own
            known = names.get(message_id, message_id)
            ids = [newest.get(base_id(known), known)]
        settled: dict[str, Settled] = {}
        asked = False
        with suppress(Unavailable):
            possible = [id_ for message in job.messages for id_ in message.possible_ids]
            settled, asked = self._archive.settled(job.key, [*ids, *possible]), True
        if message_id is not None and ids[0] not in {*own, *job.promised, *left, *settled}:
            raise NotFound("the job was not promised for this message", field="message_id")
        in_line = {
            message.message_id: MessageState(message.message_id, _shown_status(other).value, other.job_id)
            for other, message in reversed(line)
        }
        # A tier that had forgotten a message took an edit of it for a new one: its id is settled, and the edit is open.
        versions = zip(job.messages, named(job.messages, (), settled, again=True), strict=True)
        edits = {message.message_id for message, name in versions if end_of(name, settled) is None}
        in_postgres = {id_: MessageState(id_, end.kind, end.job_id) for id_, end in settled.items() if id_ not in edits}
        # Postgres wins over the line: a tier may have an old line, in which a settled message still waits.
        states = self._ended_with(job, asked=asked) | in_line | in_postgres
        found = [states.get(id_) or MessageState(id_, "pending", job.job_id) for id_ in ids]
        return [replace(state, message_id=shown_id(state.message_id)) for state in found], asked

    def _ended_with(self, job: Job, *, asked: bool) -> dict[str, MessageState]:
        """The states of the job's messages by its own end, if Postgres does not know them."""
        known = asked and not job.unarchived and self._archive.name != "none"
        goes_on = job.status is JobStatus.CANCELLED and job.superseded_by
        if known or not job.status.ended or goes_on:
            return {}
        kind = "answered" if job.status is JobStatus.COMPLETED else job.status.value
        return {message.message_id: MessageState(message.message_id, kind, job.job_id) for message in job.messages}

    def _line(self, job: Job) -> list[Job]:
        """The jobs that wait in the job's conversation, on all tiers. Empty while a tier is away."""
        with suppress(*TRANSIENT):
            return [other for jobs in self._tiers.each(lambda tier: tier.jobs(job.key)) for other in jobs]
        return []

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a job that is not sealed yet. False: it is unknown, sealed or ended."""
        try:
            self.cancel(job_id)
        except (NotFound, Conflict):
            return False
        return True

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. Raises NotFound, Conflict (it is sealed or ended), or Unavailable (it is not decided yet).

        The tier stops the run, Postgres decides, and the tier follows its verdict. So a cancel against a commit has one
        winner.
        """
        job = self.find(job_id)
        if self._archive.name == "none":
            # A cancel that has begun keeps the conversation waiting, and without Postgres nothing could decide it.
            raise Unavailable("Postgres, which decides a cancel,")
        # This also cancels an ended job: messages that joined before the tier heard of its end may still be open.
        found = self._cancelling(job)
        if found is None and not job.status.ended and self._live(job_id) is None:
            # Redis has lost the job, and its record will bring it back: a cancel now would not stop its answer then.
            raise Unavailable("the job")
        if found is None:
            raise Conflict("the job has ended, or its reply is being committed", field="job_id")
        tier, cancelling = found[0], found[1].being_cancelled()
        verdict = self._archive.cancel(cancelling)
        finished = tier.finish(job.key, None, replace(verdict.job, messages=cancelling.messages))
        if finished.waiting:
            self._wake(tier, job.key)
        if not verdict.cancelled:
            raise Conflict("the job's messages have been answered already", field="job_id")
        return verdict.job

    def _cancelling(self, job: Job) -> tuple[Tier, Job] | None:
        """Stop the job on the tier that has it. None: it is sealed or ended there."""
        try:
            return self._tiers.find(lambda tier: tier.cancel(job.key, job.job_id))
        except Unavailable:
            if job.status.ended:
                return None
            raise

    def _wake(self, tier: Tier, key: ConversationKey) -> None:
        """Send a record for the job behind the cancelled one. Its messages' own records would come later."""
        try:
            if head := tier.waiting(key):
                wake(self._queue, head)
        except Unavailable:
            _log.warning("a waiting job was not woken")

    def get_worker_status(self) -> dict[str, Any]:
        """Where jobs wait: `queue` is `sqs` or `threads`."""
        return {"queue": self._queue.name}
