"""What a worker does with a record: take it in, run the head of its conversation's line, and look whether it is done.

A record wakes its conversation, not its job, and is deleted only when its own message is settled.
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
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import PASSING, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.records import AnyRecord, ArchiveRecord, DeliveryRecord, Outcome, Record
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.ports.archive import ERASURE_MARGIN, Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Again, Claim, Refused
from message_handler.queue.timing import MAX_RECEIVE_COUNT, PATIENCE_SECONDS, hand_on
from message_handler.queue.wake import wake
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.worker.rescue import Rescue
from message_handler.worker.run import Ended, Run

_log = logging.getLogger(__name__)
#: A follow-up is run at once if this many seconds are left, else it gets a record of its own.
FOLLOW_UP_SECONDS = 60.0
#: The longest that a record waits for a store that is away.
MAX_BACK_OFF_SECONDS = 720.0
#: From this delivery on however long it takes: looking once more would use up the record's few deliveries.
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
        self.rescue = Rescue(self.tiers, self.archive, self.queue, self.clock, self.meter)

    def process(self, record: AnyRecord, deadline: float, receive_count: int = 1) -> Outcome:
        """Work on the record's conversation until `deadline` (Unix seconds) at the latest.

        `receive_count`: how often the queue has delivered the record, this time included. What it raises is
        unexpected; at the record's last delivery its job has then been failed visibly.
        """
        ended: list[Job] = []
        if isinstance(record, DeliveryRecord):
            if self.deliveries:
                self.deliveries.deliver(record.key, deadline)
            return Outcome(None)
        try:
            if isinstance(record, ArchiveRecord):
                return Outcome(None if self.rescue.take(record, deadline) else self._back_off(receive_count))
            self.rescue.push_if_due(deadline)
            retry = hand_on(receive_count)
            last = receive_count >= MAX_RECEIVE_COUNT
            patience = PATIENCE_SECONDS if receive_count < PATIENT_FROM else math.inf
            back = self._work(record, deadline, retry, ended, self.ai, patience=patience, give_up=last)
            return Outcome(back, tuple(ended))
        except PASSING as error:
            # The breaker has warned; one line a record would flood the log of an outage.
            back, reason = hand_on(receive_count), "others change its conversation"
            if isinstance(error, Unavailable):
                back, reason = self._back_off(receive_count), error.what
            _log.info("a record waits", extra={"ai_job_id": record.job_id, "reason": reason})
            return Outcome(back, tuple(ended))

    def _back_off(self, receive_count: int) -> float:
        """Seconds that a record waits for a store: an outage may last longer than the record's few deliveries."""
        return min(self.settings.store_back_off * 4.0 ** (receive_count - 1), MAX_BACK_OFF_SECONDS)

    def give_up(self, record: Record | ArchiveRecord, deadline: float) -> bool:
        """Fail a record's job visibly, without asking the AI. False if the record must be kept: try again later.

        Raises Unavailable.
        """
        if isinstance(record, ArchiveRecord):
            self.rescue.archived(record.job)
            return True
        own = {id_ for message in record.request.messages for id_ in message.ids}
        found = self.tiers.find(lambda tier: tier.waiting(record.request.key))
        if found and any(own.isdisjoint(message.ids) for message in found[1].messages):
            # Others wait with it that were not tried so often; whoever runs them settles it, or they end here too.
            return self.is_settled(record)
        return self._work(record, deadline, 0.0, [], None, patience=math.inf, give_up=False) is None

    def is_settled(self, record: Record) -> bool:
        """Whether nothing waits for the record any more; then what it was promised leads to what it got.

        Nor does anything if a human answers and Postgres keeps the message, or if it was erased. Raises Unavailable.
        """
        key = record.request.key
        settled_by = self.archive.settled_by(key, record.message_id)
        if settled_by is None:
            return self.archive.is_held(key, record.message_id) or self._is_erased(record)
        if settled_by != record.job_id:
            self.archive.supersede(_promised(record, self.clock()), settled_by)
        return True

    def _is_erased(self, record: Record) -> bool:
        """Whether the record's own message is void. One that came with the erasure, or right after it, ends visibly."""
        key = record.request.key
        until = self.archive.erased(key, record.accepted_at)
        if until is not None and record.accepted_at > until - ERASURE_MARGIN:
            self.archive.cancel(_promised(record, self.clock()))
        return until is not None

    def _work(
        self,
        record: Record,
        deadline: float,
        retry: float,
        ended: list[Job],
        ai: Callable[[dict[str, Any]], AI] | None,
        *,
        patience: float,
        give_up: bool,
    ) -> float | None:
        """Run what waits in the record's conversation; None if the record's own message is settled then.

        A patient who may still be typing is waited for if that takes no longer than `patience` (seconds).
        Without an `ai`, and at an unexpected error if it is time to `give_up`, what waits is failed.
        """
        key = record.request.key
        again = Again(record.request, record.job_id, key.new_job_id())
        tier, claim = self.tiers.first(lambda tier: self._claim(tier, key, deadline, patience, again))
        self.meter.add("Tier", TIER_VALUES[tier.name])
        settled = False
        while isinstance(claim, Claim):
            try:
                end = self._run(tier, claim, deadline, ai).to_its_end(claim.job)
            except PASSING:
                raise
            except Exception:
                if give_up:
                    _log.error("a record is given up", extra={"ai_job_id": record.job_id})
                    self.meter.add("RecordsPoisoned")
                    self._ended(self._run(tier, claim, deadline, None).to_its_end(claim.job), ended, deadline)
                raise
            if end.erased_until is not None:
                # The tier has what Postgres was to forget, from a record or from before. Each message that was accepted
                # since then has a record of its own, and comes back with that.
                # (A line without any of it is a new one already, under another worker.)
                if any(job.accepted_at <= end.erased_until for job in tier.jobs(key)):
                    tier.erase(key)
                live = record.accepted_after(end.erased_until)
                if live is None:
                    self._is_erased(record)
                    return None
                return self._work(live, deadline, retry, ended, ai, patience=patience, give_up=give_up)
            self._ended(end, ended, deadline)
            # What Postgres has just said need not be asked: the record's own message is settled, and by the very job
            # that it was promised, so that there is nothing to link either. All else is asked, as before.
            settled = settled or end.settles(record.job_id, record.message_id)
            if not end.waiting:
                break
            if deadline - self.clock() < FOLLOW_UP_SECONDS:
                if head := tier.waiting(key):
                    wake(self.queue, head)
                break
            claim = self._claim(tier, key, deadline, patience)
            if isinstance(claim, Refused) and not claim.held and (head := tier.waiting(key)):
                # Its messages' own records come late, for they joined; and this record is settled by now.
                wake(self.queue, head, delay=math.ceil(claim.wait))
        return None if settled else self._check(tier, record, claim.wait if isinstance(claim, Refused) else retry)

    def _claim(
        self, tier: Tier, key: ConversationKey, deadline: float, patience: float, again: Again | None = None
    ) -> Claim | Refused | None:
        while True:
            claim, again = tier.claim(key, str(uuid.uuid4()), again), None
            if not isinstance(claim, Refused):
                return claim
            # A holder that is overdue has probably died: its own record comes back just before its claim is stale.
            wait, limit = (claim.overdue, math.inf) if claim.held else (claim.wait, patience)
            if wait is None or wait > limit or self.clock() + wait + FOLLOW_UP_SECONDS > deadline:
                return claim
            self.sleep(wait)

    def _run(self, tier: Tier, claim: Claim, deadline: float, ai: Callable[[dict[str, Any]], AI] | None) -> Run:
        return Run(
            tier,
            self.archive,
            self.queue,
            self.bots,
            ai,
            self.settings,
            self.clock,
            self.meter,
            claim.lock_id,
            deadline,
            self.sleep,
        )

    def _ended(self, end: Ended, ended: list[Job], deadline: float) -> None:
        job = end.job
        if job is None:
            return
        ended.append(job)
        self.rescue.due |= job.unarchived
        self.meter.add(f"Jobs{job.status.value.capitalize()}")
        if job.finished_at and job.status is JobStatus.COMPLETED:
            self.meter.add("TimeToReply", 1000 * (job.finished_at - job.created_at))
            # Each claim asked the AI once, and each restart once more.
            if (saved := len(job.messages) - job.attempts - job.restarts) > 0:
                self.meter.add("AICallsSaved", saved)
        if job.usage:
            self.meter.add("InputTokens", job.usage.input_tokens)
            self.meter.add("OutputTokens", job.usage.output_tokens)
        if self.deliveries and (end.committed is None or end.committed.told is not False):
            self.deliveries.ended(job, deadline)

    def _check(self, tier: Tier, record: Record, wait: float) -> float | None:
        """None if the record's own message is settled, else the seconds after which it should come back.

            A: not settled, says Postgres ── …                                        ── forgets the end in the tier
            B:                                archives or commits just that, finishes

        So what the tier remembers is read before Postgres is asked for the last time, and nothing newer is forgotten.
        """
        key = record.request.key
        if self.archive.name == "none":
            # Without Postgres the tier's memory of an hour is all there is.
            return None if tier.ended_by(key, record.message_id) else wait
        if self.is_settled(record):
            return None
        ended_by = tier.ended_by(key, record.message_id)
        if ended_by is None:
            return wait
        ended = tier.job(ended_by)
        if ended and ended.unarchived:
            # Its archive record may be on its way, or have been lost with its sender.
            self.rescue.archived(ended)
        if self.is_settled(record):
            return None
        tier.forget(key, record.message_id)
        return wait


def _promised(record: Record, now: float) -> Job:
    """The job that a record's message was promised, should Postgres never have heard of it."""
    request = record.request
    messages = tuple(m for m in request.messages if record.message_id in m.ids)
    return Job(record.job_id, request.key, JobStatus.PENDING, messages, request.bot_id, created_at=now)
