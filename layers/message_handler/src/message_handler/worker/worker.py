"""What a worker does with a record: it claims the head of the conversation's line, runs it, and checks the record.

A record wakes its conversation, not its job. It is deleted only when its own message is settled.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from message_handler.ai.port import AI
from message_handler.bot_config import BotConfigService
from message_handler.delivery.deliveries import Deliveries
from message_handler.domain.edits import end_of, named
from message_handler.domain.errors import TRANSIENT, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import is_edit
from message_handler.domain.records import AnyRecord, ArchivedRecord, DeliveryRecord, Outcome, Record
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.ports.archive import ERASURE_MARGIN, Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import AcceptAgain, Claim, ClaimRefused
from message_handler.queue.timing import MAX_RECEIVE_COUNT, PATIENCE_SECONDS, retry_delay
from message_handler.queue.wake import wake
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.worker.ending import RunResult
from message_handler.worker.rescue import Rescue
from message_handler.worker.run import Run

_log = logging.getLogger(__name__)
#: The next job is run at once if this many seconds are left, else a record of its own wakes it.
FOLLOW_UP_SECONDS = 60.0
#: The longest that a record waits for a store that is away.
MAX_BACK_OFF_SECONDS = 720.0
#: From this receive on, a worker waits as long as it takes for a patient who is typing. A record that comes back later
#: uses up one of its few receives.
PATIENT_FROM = 3


@dataclass(slots=True)
class Worker:
    """The use case of the worker function; the adapters are its ports."""

    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    ai: Callable[[dict[str, Any]], AI]
    settings: Settings
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)
    sleep: Callable[[float], None] = time.sleep
    #: None: there is no Postgres to deliver from.
    deliveries: Deliveries | None = None
    rescue: Rescue = field(init=False)

    def __post_init__(self) -> None:
        self.rescue = Rescue(self.tiers, self.archive, self.queue, self.clock, self.meter, self.deliveries)

    def process(self, record: AnyRecord, deadline: float, receive_count: int = 1) -> Outcome:
        """Work on the record's conversation until `deadline` (Unix seconds) at the latest.

        `receive_count`: how often the record was received, this time included. Each error that this raises is
        unexpected. Before it raises at the record's last receive, it has failed the job visibly.
        """
        if isinstance(record, DeliveryRecord):
            if self.deliveries:
                self.deliveries.deliver(record.key, deadline)
            return Outcome(None)
        attempt = None
        try:
            if isinstance(record, ArchivedRecord):
                return Outcome(None if self.rescue.take(record, deadline) else self._back_off(receive_count))
            self.rescue.push_if_due(deadline)
            patience = PATIENCE_SECONDS if receive_count < PATIENT_FROM else math.inf
            last = receive_count >= MAX_RECEIVE_COUNT
            attempt = Attempt(self, record, deadline, self.ai, retry_delay(receive_count), patience, give_up=last)
            return Outcome(attempt.work(), tuple(attempt.ended))
        except TRANSIENT as error:
            # No warning: the breaker has warned already, and a warning for each record would flood the log.
            back, reason = retry_delay(receive_count), "too many processes change its conversation"
            if isinstance(error, Unavailable):
                back, reason = self._back_off(receive_count), error.what
            _log.info("a record waits", extra={"ai_job_id": record.job_id, "reason": reason})
            return Outcome(back, tuple(attempt.ended) if attempt else ())

    def _back_off(self, receive_count: int) -> float:
        """The seconds that a record waits for a store: so many that its few receives outlast an outage."""
        return min(self.settings.store_back_off * 4.0 ** (receive_count - 1), MAX_BACK_OFF_SECONDS)

    def give_up(self, record: Record | ArchivedRecord, deadline: float) -> bool:
        """Fail a record's job visibly, without asking the AI. False: keep the record and try again later.

        Raises Unavailable.
        """
        if isinstance(record, ArchivedRecord):
            self.rescue.bring(record)
            return True
        own = {id_ for message in record.request.messages for id_ in message.ids}
        found = self.tiers.find(lambda tier: tier.waiting(record.request.key))
        if found and any(own.isdisjoint(message.ids) for message in found[1].messages):
            # Other messages wait with this one, and were not tried as often. The run that answers them settles this one
            # too. If none can, their own records become dead letters as well.
            return self.check(record)
        return Attempt(self, record, deadline, ai=None).work() is None

    def check(self, record: Record) -> bool:
        """Check whether the record may be deleted, because its own message is settled, parked or erased.

        If another job than the promised one has settled the message, the promised job now leads there. Raises
        Unavailable.
        """
        key = record.request.key
        settled = self.archive.settled(key, record.own.possible_ids)
        (own,) = named([record.own], (), settled, again=True)
        end = end_of(own, settled)
        if end is None:
            parked = self.archive.parked_under(key, record.own.possible_ids)
            (name,) = named([record.own], parked, {}, again=True)
            return any(name.message_id in message.ids for message in parked) or self.end_if_erased(record)
        if replaced := [id_ for id_ in own.aliases if is_edit(id_) and id_ not in settled]:
            # No store knew its words when a later version came. A late retry of them must find them settled.
            own_end = end._replace(words=own.words_digest, accepted_at=own.accepted_at)
            self.archive.settle_also(key, replaced, own_end)
        if end.job_id != record.job_id:
            self.archive.supersede(_promised(record, self.clock()), end.job_id)
        return True

    def end_if_erased(self, record: Record) -> bool:
        """Whether the record's own message is void. If it came at about the time of the erasure, its job is cancelled.

        So the job that its client may ask for has a visible end.
        """
        key = record.request.key
        until = self.archive.erased(key, record.accepted_at)
        if until is not None and record.accepted_at > until - ERASURE_MARGIN:
            self.archive.cancel(_promised(record, self.clock()))
        return until is not None


@dataclass(slots=True)
class Attempt:
    """One receive of a record: run the jobs of its conversation until the record's own message is settled."""

    worker: Worker
    record: Record
    deadline: float
    #: None: the jobs fail without being tried.
    ai: Callable[[dict[str, Any]], AI] | None
    #: Seconds until the record comes back if its message is not settled.
    retry_in: float = 0.0
    #: The longest wait, in seconds, for a patient who may still be typing.
    patience: float = math.inf
    #: After an unexpected error, fail the job that raised it.
    give_up: bool = False
    #: The jobs that this attempt has ended, even if `work` raises afterwards.
    ended: list[Job] = field(default_factory=list)

    def work(self) -> float | None:
        """Run the conversation's jobs. None: the record's own message is settled. Else: seconds until the next try."""
        worker, record, key = self.worker, self.record, self.record.request.key
        again = AcceptAgain(record.request, record.job_id, key.new_job_id())
        tier, claim = worker.tiers.first(lambda tier: self._claim(tier, again))
        worker.meter.add("Tier", TIER_VALUES[tier.name])
        settled = False
        while isinstance(claim, Claim):
            end = self._run_or_give_up(tier, claim)
            if end.erased_until is not None:
                return self._work_after_erasure(tier, end.erased_until)
            self._note(end)
            # Postgres has just said that the record's own message is settled by the very job that it was promised:
            # there is nothing to ask and nothing to link. In all other cases `_check` asks.
            settled = settled or end.settles(record.job_id, record.message_id)
            if not end.waiting:
                break
            if self.deadline - worker.clock() < FOLLOW_UP_SECONDS:
                if head := tier.waiting(key):
                    wake(worker.queue, head)
                break
            claim = self._claim(tier)
            if isinstance(claim, ClaimRefused) and not claim.leased and (head := tier.waiting(key)):
                # Its messages have joined, so their own records come late. This record is settled by now.
                wake(worker.queue, head, delay=math.ceil(claim.wait))
        wait = claim.wait if isinstance(claim, ClaimRefused) else self.retry_in
        return None if settled else self._check(tier, wait)

    def _run_or_give_up(self, tier: Tier, claim: Claim) -> RunResult:
        try:
            return self._run(tier, claim, self.ai).to_its_end(claim.job)
        except TRANSIENT:
            raise
        except Exception:
            if self.give_up:
                _log.error("a record is given up", extra={"ai_job_id": self.record.job_id})
                self.worker.meter.add("RecordsPoisoned")
                self._note(self._run(tier, claim, None).to_its_end(claim.job))
            raise

    def _work_after_erasure(self, tier: Tier, until: float) -> float | None:
        """Erase from the tier what Postgres has erased, and go on with what the record holds from after `until`.

        Each message that was accepted since then has a record of its own, and comes back with it.
        """
        key = self.record.request.key
        # (A line without any erased message is a new one already, under another worker.)
        if any(job.accepted_at <= until for job in tier.jobs(key)):
            tier.erase(key)
        live = self.record.accepted_after(until)
        if live is None:
            self.worker.end_if_erased(self.record)
            return None
        self.record = live
        return self.work()

    def _claim(self, tier: Tier, again: AcceptAgain | None = None) -> Claim | ClaimRefused | None:
        while True:
            claim, again = tier.claim(self.record.request.key, str(uuid.uuid4()), again), None
            if not isinstance(claim, ClaimRefused):
                return claim
            # An overdue worker has probably died. Its record comes back just before its claim is stale.
            wait, limit = (claim.overdue, math.inf) if claim.leased else (claim.wait, self.patience)
            if wait is None or wait > limit or self.worker.clock() + wait + FOLLOW_UP_SECONDS > self.deadline:
                return claim
            self.worker.sleep(wait)

    def _run(self, tier: Tier, claim: Claim, ai: Callable[[dict[str, Any]], AI] | None) -> Run:
        worker = self.worker
        return Run(
            tier,
            worker.archive,
            worker.queue,
            worker.bots,
            ai,
            worker.settings,
            worker.clock,
            worker.meter,
            claim.lock_id,
            self.deadline,
            worker.sleep,
        )

    def _note(self, end: RunResult) -> None:
        """Measure a job's end, and have it delivered to its platform."""
        worker, job = self.worker, end.job
        if job is None:
            return
        self.ended.append(job)
        worker.rescue.due |= job.unarchived
        worker.meter.add(f"Jobs{job.status.value.capitalize()}")
        if job.finished_at and job.status is JobStatus.COMPLETED:
            worker.meter.add("TimeToReply", 1000 * (job.finished_at - job.created_at))
            # Each claim asked the AI once, and each restart once more.
            if (saved := job.consolidated_messages - job.attempts - job.restarts) > 0:
                worker.meter.add("AICallsSaved", saved)
        if job.usage:
            worker.meter.add("InputTokens", job.usage.input_tokens)
            worker.meter.add("OutputTokens", job.usage.output_tokens)
        if worker.deliveries and (end.committed is None or end.committed.delivers is not False):
            worker.deliveries.ended(job, self.deadline)

    def _check(self, tier: Tier, wait: float) -> float | None:
        """None if the record's own message is settled, else the seconds after which it should come back.

            A: not settled, says Postgres ── …                                        ── forgets the end in the tier
            B:                                archives or commits just that, finishes

        So this worker reads the tier before it asks Postgres for the last time. It forgets nothing that is newer.
        """
        worker, record, key = self.worker, self.record, self.record.request.key
        if worker.archive.name == "none":
            # Without Postgres, only the tier remembers, for an hour.
            return None if tier.ended_by(key, record.message_id) else wait
        if worker.check(record):
            return None
        ended_by = tier.ended_by(key, record.message_id)
        if ended_by is None:
            return wait
        ended = tier.job(ended_by)
        if ended and ended.unarchived:
            # The end's archive record may be on its way, or may have been lost with its sender.
            worker.rescue.archive_end(ended)
        if worker.check(record):
            return None
        tier.forget(key, record.own.possible_ids)
        return wait


def _promised(record: Record, now: float) -> Job:
    """The job that a record's message was promised, in case Postgres has never heard of it."""
    request = record.request
    messages = tuple(m for m in request.messages if record.message_id in m.ids)
    return Job(record.job_id, request.key, JobStatus.PENDING, messages, request.bot_id, created_at=now)
