"""Delivers events to their platforms: signed, in the conversation's order, at least once.

The events are the committed ends of jobs, and the messages that were edited or unsent. Danger that was found in
messages is told ahead of them, out of their order.

The outbox (in Postgres) knows what is to be delivered. A record in the queue only wakes its conversation, and the
sweep replaces lost records. A delivery is marked only after the platform has answered. So the platform may hear of it
twice, under one `webhook-id` by which it drops the second:

    worker A: claims, posts ── pauses past its claim     worker B: claims, posts, marks     A: marks nothing
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from message_handler.delivery.posting import DeliveryFailure, Target, Webhook, post, target_of
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.events import DangerRaised, Event, events_of_end
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.raised import Raised
from message_handler.domain.records import DeliveryRecord
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import Meter
from message_handler.ports.outbox import DeadDelivery, Delivery, Outbox
from message_handler.ports.queue import Queue

_log = logging.getLogger(__name__)

# Deadlines nest: the whole request (TOTAL_SECONDS) < a try with its claim and its report < the time for which a claim
# is good. Secrets are revealed before the claim.
TRY_SECONDS = 15.0
CLAIM_SECONDS = 30.0
#: Seconds until the next try after the first, second, … failure.
BACKOFF: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0)
#: Seconds after each later failure.
LAST_BACKOFF = 4 * 3600.0
#: The longest pause after a platform fails, unless it sends `Retry-After`. It is short, because the failure may concern
#: one conversation only, and all others of the platform wait too.
MAX_PAUSE_SECONDS = 60.0
#: The longest wait of a delivery whose platform still fails: maybe no other delivery tries that platform meanwhile.
MAX_ASKING_SECONDS = 300.0
#: A delivery without a try for this long after its time is given up. Its last try may come one backoff late.
OVERDUE_SECONDS = LAST_BACKOFF * 1.5
#: A wait up to this long is spent in the queue. The sweep ends longer waits.
DELAYED_SECONDS = 60.0
#: The most deliveries to one platform at the same time: a slow platform must not occupy all workers.
MOST_AT_ONCE = 4
#: About how long a delivery waits while `MOST_AT_ONCE` others are on their way.
BUSY_SECONDS = 2.0
#: After a delivery that took longer, the conversation's next one goes to the end of the queue.
SLOW_SECONDS = 1.0
#: The most conversations that a worker wakes when their platform accepts deliveries again. The sweep wakes the others.
MOST_WOKEN_AT_ONCE = 50
#: The most records that one sweep sends. They take some seconds of its minute.
MOST_WOKEN = 500
#: The most dead deliveries that are shown.
MOST_SHOWN = 100
#: How long a platform's webhook is used before the outbox is asked for it again.
FRESH_SECONDS = 5.0
#: The most notices of which a process remembers that it has told their platforms.
MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class _Once:
    """Remembers the last names that it was given. Safe to call from several threads."""

    _names: dict[str, None] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def is_new(self, name: str) -> bool:
        with self._mutex:
            is_new = name not in self._names
            self._names[name] = None
            if len(self._names) > MOST_REMEMBERED:
                del self._names[next(iter(self._names))]
            return is_new


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The use cases of delivering. Its fields are ports to the outside."""

    outbox: Outbox
    queue: Queue
    egress: Egress
    secrets: Secrets
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)
    _webhooks: dict[str, tuple[float, Webhook | None]] = field(default_factory=dict)
    _told: _Once = field(default_factory=_Once)

    def ended(self, job: Job, deadline: float) -> None:
        """Have a job's end delivered, if its platform has a webhook. Raises nothing.

        An end that Postgres does not have yet is posted at once, if this process knows the webhook and has the time
        until `deadline`. It is delivered again, under the same id, after it has been archived.
        """
        if job.status not in (JobStatus.COMPLETED, JobStatus.FAILED):
            return
        try:
            webhook = self._webhook(job.key.platform_id)
        except Unavailable:
            return
        if webhook is None:
            return
        if not job.unarchived:
            self.wake(job.key)
            return
        target = target_of(webhook, self.secrets, job.key.platform_id)
        for webhook_id, event in events_of_end(job):
            if deadline - self.clock() < TRY_SECONDS or self._post(target, webhook_id, event):
                return

    def raised(self, raised: Raised, deadline: float) -> None:
        """Tell a platform at once of danger that Postgres does not have yet. Raises nothing.

        This process tries that once for each notice, if it knows the webhook and has the time until `deadline`. The
        platform is told again, under the same id, after Postgres has it.
        """
        if deadline - self.clock() < TRY_SECONDS:
            return
        try:
            webhook = self._webhook(raised.key.platform_id)
        except Unavailable:
            return
        if webhook and self._told.is_new(raised.job_id):
            target = target_of(webhook, self.secrets, raised.key.platform_id)
            self._post(target, raised.webhook_id, DangerRaised(raised))

    def wake(self, key: ConversationKey, wait: float = 0.0) -> None:
        """Send a record that wakes a conversation's deliveries after `wait` seconds. The sweep replaces a lost one."""
        self._wake([key], wait)

    def _wake(self, keys: Sequence[ConversationKey], wait: float = 0.0) -> None:
        with suppress(Unavailable):  # one failure ends the loop: each further call would wait for the queue as well
            for key in keys:
                self.queue.send(DeliveryRecord(key), delay=math.ceil(wait))

    def deliver(self, key: ConversationKey, deadline: float) -> None:
        """Deliver what is due in a conversation, oldest first, until one fails, one is slow, or `deadline` is near.

        No delivery overtakes a failed one until that is given up. Only danger overtakes others, and holds none of them
        back. Raises nothing.
        """
        try:
            while True:
                # Before the claim: reading secrets must not use up its time.
                target = target_of(self._webhook(key.platform_id), self.secrets, key.platform_id)
                now = self.clock()
                if deadline - now < TRY_SECONDS:
                    break
                claimed = self._claim(key, now)
                if claimed is None or not self._try(claimed, target):
                    return
                if self.clock() - now > SLOW_SECONDS:
                    break
            self.wake(key)
        except Unavailable as error:
            _log.info("a delivery waits", extra={"away": error.what})

    def sweep(self) -> int:
        """Give up deliveries whose time is over, and wake up to `MOST_WOKEN` conversations with a delivery due.

        Returns how many were woken. Raises nothing: while Postgres is away, the outbox is away too.
        """
        woken = 0
        with suppress(Unavailable):
            now = self.clock()
            for job_id in self.outbox.expire(now=now, overdue=now - OVERDUE_SECONDS):
                self._given_up({"ai_job_id": job_id}, "expired")
            for key in self.outbox.due(now=now, most=MOST_WOKEN):
                self.queue.send(DeliveryRecord(key))
                woken += 1
        return woken

    def dead(self, platform_id: str) -> list[DeadDelivery]:
        """The tenant's oldest deliveries that were given up. Raises Unavailable."""
        return self.outbox.dead(platform_id, most=MOST_SHOWN)

    def redrive(self, platform_id: str) -> int:
        """Have all of the tenant's dead deliveries tried for another day. Returns how many. Raises Unavailable."""
        redriven = self.outbox.redrive(platform_id, now=self.clock())
        self._wake(list(dict.fromkeys(redriven))[:MOST_WOKEN])
        return len(redriven)

    def _claim(self, key: ConversationKey, now: float) -> Delivery | None:
        busy_until = now + BUSY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311  # no secret
        claimed = self.outbox.claim(
            key, str(uuid.uuid4()), now=now, until=now + CLAIM_SECONDS, most=MOST_AT_ONCE, busy_until=busy_until
        )
        if not isinstance(claimed, float):
            return claimed
        self._wake_after(key, claimed - now)
        return None

    def _wake_after(self, key: ConversationKey, wait: float) -> None:
        if wait <= DELAYED_SECONDS:
            self.wake(key, wait)

    def _try(self, delivery: Delivery, target: Target | DeliveryFailure) -> bool:
        """Post one delivery and note the outcome. Returns whether the conversation's next delivery may follow."""
        failure = self._post(target, delivery.webhook_id, delivery.event)
        now = self.clock()
        return self._note_success(delivery, now) if failure is None else self._note_failure(delivery, failure, now)

    def _note_success(self, delivery: Delivery, now: float) -> bool:
        if not self.outbox.delivered(delivery, now=now):
            return self._lost(delivery)
        self.meter.add("TimeToDeliver", 1000 * max(0.0, now - delivery.event.happened_at))
        if delivery.failures:
            self._wake(self.outbox.due(delivery.event.key.platform_id, now=now, most=MOST_WOKEN_AT_ONCE))
        return True

    def _note_failure(self, delivery: Delivery, failure: DeliveryFailure, now: float) -> bool:
        dead = failure.final or now >= delivery.give_up_at
        pause = max(_pause(delivery.failures), failure.retry_after)
        wait = _backoff(delivery.attempts)
        if failure.platform and delivery.failures:
            wait = min(wait, MAX_ASKING_SECONDS)
        wait = max(wait, failure.retry_after)
        if not self.outbox.undelivered(
            delivery,
            failure.code,
            next_attempt_at=now + wait,
            dead=dead,
            retry_at=now + pause if failure.platform else None,
            certain=failure.certain,
        ):
            return self._lost(delivery)
        if dead:
            self._given_up(delivery.event.log_fields, failure.code)
            return True
        self._wake_after(delivery.event.key, wait)
        return isinstance(delivery.event, DangerRaised)

    def _lost(self, delivery: Delivery) -> bool:
        _log.warning("a delivery's claim was lost", extra=delivery.event.log_fields)
        return False

    def _given_up(self, about: dict[str, str], code: str) -> None:
        _log.error("a delivery was given up", extra=about | {"error": code})
        self.meter.add("DeliveriesDead")

    def _webhook(self, platform_id: str) -> Webhook | None:
        """The platform's webhook; while Postgres is away, the last known one. Raises Unavailable.

        That a platform has no webhook is not remembered: the first reply to a new webhook must not wait for the sweep.
        """
        found = self._webhooks.get(platform_id)
        if found and found[1] and found[0] > self.clock():
            return found[1]
        try:
            webhook = self.outbox.webhook(platform_id)
        except Unavailable:
            if found is None:
                raise
            return found[1]
        self._webhooks[platform_id] = (self.clock() + FRESH_SECONDS, webhook)
        return webhook

    def _post(self, target: Target | DeliveryFailure, webhook_id: str, event: Event) -> DeliveryFailure | None:
        """One try. None: the platform has accepted it."""
        if isinstance(target, DeliveryFailure):
            failure: DeliveryFailure | None = target
        else:
            failure = post(self.egress, target, webhook_id, event, now=self.clock())
        if failure is None:
            _log.info("delivered", extra=event.log_fields)
            self.meter.add("DeliveriesSucceeded")
        else:
            _log.warning("a delivery failed", extra=event.log_fields | {"error": failure.code})
            self.meter.add("DeliveriesFailed")
        return failure


def _pause(failures: int) -> float:
    """Seconds for which no delivery is tried, after `failures` failures of the platform in a row and one more."""
    return min(BACKOFF[0] * 2.0 ** min(failures, 10), MAX_PAUSE_SECONDS)


def _backoff(attempts: int) -> float:
    """Seconds until the next try, after `attempts` earlier tries and a failed one. Spread over some time."""
    seconds = BACKOFF[attempts] if attempts < len(BACKOFF) else LAST_BACKOFF
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311  # nosec B311  # no secret
