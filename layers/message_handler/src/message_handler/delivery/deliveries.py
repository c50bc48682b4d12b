"""Telling platforms of replies: each committed end of a job, in the order of its conversation, signed, at least once.

The outbox (in Postgres) knows what is to be delivered; a record in the queue only wakes its conversation, and the
sweep sends what got lost. Nothing is marked before the platform has answered, so it may be told twice, under one
`webhook-id` by which it drops the second:

    worker A: claims, posts ── pauses past its lease     worker B: claims, posts, marks     A: marks nothing
"""

from __future__ import annotations

import logging
import math
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from message_handler.delivery.webhooks import Unsigned, event, signed, signing_key
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import EgressFailed, EgressRefused, SecretRefused, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.records import DeliveryRecord
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from message_handler.metrics import Meter
from message_handler.ports.outbox import DeadDelivery, Delivery, Outbox
from message_handler.ports.queue import Queue

_log = logging.getLogger(__name__)

# Deadlines nest: looking up the address (egress) + connecting < the whole request < what must be left of a worker's
# time to begin one, its claim and report included < a claim's lease. Secrets are revealed before all of it.
CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 10.0
TRY_SECONDS = 15.0
LEASE_SECONDS = 30.0
#: Seconds until the next try after the first, second, … failure, and after each later one.
BACKOFF: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0)
LAST_BACKOFF = 4 * 3600.0
#: So long a platform that failed is left alone at most, unless it says for how long itself: it may be a conversation of
#: its own that fails, and others would wait for so long.
MAX_PAUSE_SECONDS = 60.0
#: A delivery that asked in vain whether its platform is back asks again after that at most: nobody else might.
MAX_ASKING_SECONDS = 300.0
MAX_RETRY_AFTER_SECONDS = 3600.0
#: What failed to be tried for so long after its time is given up: the last try may come a backoff later.
OVERDUE_SECONDS = LAST_BACKOFF * 1.5
#: A wait that is not longer is slept in the queue; the sweep ends the others.
DELAYED_SECONDS = 60.0
#: Deliveries to one platform on their way at the same time: a slow one must not hold all workers.
MOST_AT_ONCE = 4
#: About how long after finding that many the next look is.
BUSY_SECONDS = 2.0
#: A conversation whose platform takes longer for one delivery goes to the queue's end for the next.
SLOW_SECONDS = 1.0
#: Conversations that the worker wakes whose delivery a platform took again: the sweep wakes the others.
MOST_WOKEN_AT_ONCE = 50
#: Records that one sweep sends: some seconds of its minute.
MOST_WOKEN = 500
#: Dead deliveries that are shown.
MOST_SHOWN = 100
#: How long a platform's address is taken for what it is there.
FRESH_SECONDS = 5.0
#: How many keys may sign at once: the new one and the one that is replaced.
MAX_KEYS = 2

Webhook = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """Why a try failed. `final`: it wants no further try.

    `platform`: any other delivery to it would fail too; it may be this one's own fault unless that is `certain`.
    """

    code: str
    platform: bool = True
    certain: bool = True
    final: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a platform is told, and the keys that sign it."""

    url: str
    keys: tuple[bytes, ...]


class _Limit:
    """Ends a connection `TOTAL_SECONDS` after this was made: each byte gives whoever sends them another timeout."""

    def __init__(self) -> None:
        self.exceeded = False
        self._end = time.monotonic() + TOTAL_SECONDS
        self._timer: threading.Timer | None = None
        self._connection: socket.socket | None = None

    def start(self, connection: socket.socket) -> None:
        # A descriptor of its own: TLS takes the other one away from its socket.
        self._connection = connection.dup()
        self._timer = threading.Timer(max(0.0, self._end - time.monotonic()), self._shut_down)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer and self._connection:
            self._timer.cancel()
            self._connection.close()

    def _shut_down(self) -> None:
        assert self._connection
        self.exceeded = True
        with suppress(OSError):  # it has ended by itself
            self._connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The use cases of delivering; the adapters are its ports."""

    outbox: Outbox
    queue: Queue
    egress: Egress
    secrets: Secrets
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)
    _webhooks: dict[str, tuple[float, Webhook | None]] = field(default_factory=dict)

    def ended(self, job: Job, deadline: float) -> None:
        """A run has ended a job: see that its platform is told, if it has a webhook. Raises nothing.

        An end that Postgres doesn't have is posted at once, if there is time until `deadline` and this process knows
        where to: it is delivered again, under the same id, when it has been archived.
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
        target = _target(webhook, self.secrets, job.key.platform_id)
        if deadline - self.clock() >= TRY_SECONDS:
            self._post(target, f"msg_{job.job_id}", job, job.given_ids)

    def wake(self, key: ConversationKey, wait: float = 0.0) -> None:
        """Have the conversation's deliveries looked at after `wait` seconds. What can't be sent, the sweep finds."""
        self._wake([key], wait)

    def _wake(self, keys: Sequence[ConversationKey], wait: float = 0.0) -> None:
        with suppress(Unavailable):  # with one all others: each would wait for a queue that is away
            for key in keys:
                self.queue.send(DeliveryRecord(key), delay=math.ceil(wait))

    def deliver(self, key: ConversationKey, deadline: float) -> None:
        """Deliver what is due in a conversation, oldest first, until one fails, is slow, or `deadline` is near.

        Nothing overtakes one that failed, unless that one was given up. Raises nothing.
        """
        try:
            while True:
                # Not in the claim's time.
                target = _target(self._webhook(key.platform_id), self.secrets, key.platform_id)
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
        """Wake the conversations with something due, a bounded number at a time; give up what had its day.

        Returns how many were woken. Raises nothing: while Postgres is away there is nothing to deliver from.
        """
        woken = 0
        with suppress(Unavailable):
            now = self.clock()
            for job_id in self.outbox.expire(now=now, overdue=now - OVERDUE_SECONDS):
                self._given_up(job_id, "expired")
            for key in self.outbox.due(now=now, most=MOST_WOKEN):
                self.queue.send(DeliveryRecord(key))
                woken += 1
        return woken

    def dead(self, platform_id: str) -> list[DeadDelivery]:
        """The tenant's deliveries that were given up, the oldest of them. Raises Unavailable."""
        return self.outbox.dead(platform_id, most=MOST_SHOWN)

    def redrive(self, platform_id: str) -> int:
        """Let all of the tenant's dead deliveries be tried for another day; returns how many. Raises Unavailable."""
        redriven = self.outbox.redrive(platform_id, now=self.clock())
        self._wake(list(dict.fromkeys(redriven))[:MOST_WOKEN])
        return len(redriven)

    def _claim(self, key: ConversationKey, now: float) -> Delivery | None:
        busy_until = now + BUSY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311  # nosec B311  # no secret
        claimed = self.outbox.claim(
            key, str(uuid.uuid4()), now=now, until=now + LEASE_SECONDS, most=MOST_AT_ONCE, busy_until=busy_until
        )
        if not isinstance(claimed, float):
            return claimed
        self._wake_after(key, claimed - now)
        return None

    def _wake_after(self, key: ConversationKey, wait: float) -> None:
        if wait <= DELAYED_SECONDS:
            self.wake(key, wait)

    def _try(self, delivery: Delivery, target: _Target | DeliveryFailure) -> bool:
        """Post one delivery and report what became of it. Whether the next one of the conversation may follow."""
        key = delivery.job.key
        failure = self._post(target, delivery.webhook_id, delivery.job, delivery.message_ids)
        now = self.clock()
        if failure is None:
            if not self.outbox.delivered(delivery, now=now):
                return self._lost(delivery)
            self.meter.add("TimeToDeliver", 1000 * max(0.0, now - (delivery.job.finished_at or now)))
            if delivery.failures:
                self._wake(self.outbox.due(key.platform_id, now=now, most=MOST_WOKEN_AT_ONCE))
            return True
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
            self._given_up(delivery.job.job_id, failure.code)
            return True
        self._wake_after(key, wait)
        return False

    def _lost(self, delivery: Delivery) -> bool:
        _log.warning("a delivery's claim was lost", extra={"ai_job_id": delivery.job.job_id})
        return False

    def _given_up(self, job_id: str, code: str) -> None:
        _log.error("a delivery was given up", extra={"ai_job_id": job_id, "error": code})
        self.meter.add("DeliveriesDead")

    def _webhook(self, platform_id: str) -> Webhook | None:
        """Where the platform is told; what was last known while Postgres is away. Raises Unavailable.

        That there is nowhere is asked each time, or the first reply to a new webhook would wait for the sweep.
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

    def _post(
        self, target: _Target | DeliveryFailure, webhook_id: str, job: Job, message_ids: Sequence[str]
    ) -> DeliveryFailure | None:
        """One try; None if the platform has taken it."""
        failure = target if isinstance(target, DeliveryFailure) else self._answer(target, webhook_id, job, message_ids)
        about = {"ai_job_id": job.job_id, "correlation_id": job.correlation_id}
        if failure is None:
            _log.info("delivered", extra=about)
            self.meter.add("DeliveriesSucceeded")
        else:
            _log.warning("a delivery failed", extra=about | {"error": failure.code})
            self.meter.add("DeliveriesFailed")
        return failure

    def _answer(self, target: _Target, webhook_id: str, job: Job, message_ids: Sequence[str]) -> DeliveryFailure | None:
        body = event(job, message_ids)
        try:
            headers = {"Content-Type": "application/json"} | signed(target.keys, webhook_id, int(self.clock()), body)
            if job.correlation_id:
                headers["X-Correlation-ID"] = job.correlation_id
            return self._exchange(target.url, headers, body)
        except Unsigned:
            return DeliveryFailure("webhook_unsigned")
        except EgressRefused:
            return DeliveryFailure("address_refused")
        except EgressFailed:
            return DeliveryFailure("no_answer")

    def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> DeliveryFailure | None:
        limit = _Limit()
        timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": TOTAL_SECONDS}
        try:
            with self.egress.request(
                "POST", url, headers=headers, body=body, connected=limit.start, **timeouts
            ) as response:
                if limit.exceeded:
                    raise EgressFailed("the whole answer took too long")
                return _failure(response.status, response.headers.get("Retry-After"))
        finally:
            limit.end()


def _target(webhook: Webhook | None, secrets: Secrets, platform_id: str) -> _Target | DeliveryFailure:
    """What a try needs to know; why there can be none."""
    if webhook is None:
        return DeliveryFailure("webhook_missing")
    base_url, meta_data = webhook
    try:
        keys = tuple(signing_key(secrets.reveal(secret, platform_id)) for secret in _secrets_of(meta_data))
    except SecretRefused:
        return DeliveryFailure("secret_refused")
    except Unavailable:
        return DeliveryFailure("secret_unavailable")
    except Unsigned:
        return DeliveryFailure("webhook_unsigned")
    return _Target(_address(base_url, meta_data), keys)


def _secrets_of(meta_data: dict[str, Any]) -> list[str]:
    """Whoever wrote it by hand may have written anything."""
    secrets = meta_data.get("webhook_secrets")
    if not isinstance(secrets, list) or not all(isinstance(secret, str) for secret in secrets):
        raise Unsigned
    return secrets[:MAX_KEYS]


def _address(base_url: str, meta_data: dict[str, Any]) -> str:
    path = str(meta_data.get("webhook_path") or "").lstrip("/")
    return f"{base_url.rstrip('/')}/{path}" if path else base_url


def _failure(status: int, retry_after: str | None) -> DeliveryFailure | None:
    if 200 <= status < 300:
        return None
    code, busy = f"http_{status}", status == 429 or status >= 500
    if not busy:
        return DeliveryFailure(code, platform=False, final=status == 410)
    # (A date is allowed too, and rare: the backoff will do.)
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    certain = status == 429 or (status == 503 and retry_after is not None)
    return DeliveryFailure(code, certain=certain, retry_after=min(seconds, MAX_RETRY_AFTER_SECONDS))


def _pause(failures: int) -> float:
    """Seconds for which a platform is left alone that had failed so often in a row."""
    return min(BACKOFF[0] * 2.0 ** min(failures, 10), MAX_PAUSE_SECONDS)


def _backoff(attempts: int) -> float:
    """Seconds until the next try, after so many before the one that failed; spread, lest all come back at once."""
    seconds = BACKOFF[attempts] if attempts < len(BACKOFF) else LAST_BACKOFF
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311  # nosec B311  # no secret
