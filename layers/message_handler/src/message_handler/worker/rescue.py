"""Brings Postgres the ends of jobs that were decided while it was away, soon after it is back.

Until then only a tier has them. A tier may forget everything, and then their messages would be answered again.

    job ends in the tier, which indexes it ──┬─ the process that finds Postgres back pushes what the tiers have
                                             ├─ so does each sweep
                                             └─ its archive record comes back every 5 s, should the tier be lost
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from message_handler.delivery.deliveries import Deliveries
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.edits import end_of, named
from message_handler.domain.errors import TRANSIENT, Contended, PayloadTooLarge, Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.records import ArchivedRecord, ArchiveRecord, NoticeRecord, WordlessRecord, key_of
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)

#: Seconds after which an archive record comes back while Postgres is away, for up to `RECORDS_PER_MINUTE` records of a
#: tenant. Its other records come back after `LATER_SECONDS`, so that an outage does not fill the queue.
RECORD_SECONDS, RECORDS_PER_MINUTE, LATER_SECONDS = 5, 600, 720
#: A notice's record comes back after as long as it has waited already: `RECORD_SECONDS` at least, and this at most.
NOTICE_SECONDS = 30
#: The shortest time between two looks of a process whether Postgres is back. Its breaker may require more.
LOOK_SECONDS = 2.0
#: The longest time that a worker pushes ends before it goes on with its record.
PUSH_SECONDS = 2.0
#: The most ends that are pushed at once. The next record, or the next sweep, goes on.
MOST_PUSHED = 5_000


@dataclass(slots=True)
class Rescue:
    """One process's part in the rescue. Safe to call from several threads."""

    tiers: Failover
    archive: Archive
    queue: Queue
    clock: Callable[[], float]
    meter: Meter
    #: None: there is no Postgres to deliver from.
    deliveries: Deliveries | None = None
    #: Whether ends may be waiting, as far as this process knows.
    due: bool = False
    _next_look: float = 0.0
    #: Reentrant, because tests run another worker's steps within a step of ours.
    _looking: threading.RLock = field(default_factory=threading.RLock)
    _pushing: threading.Lock = field(default_factory=threading.Lock)

    def push_if_due(self, deadline: float) -> None:
        """If Postgres was away and is back, push the ends that it lacks, for `PUSH_SECONDS` at most."""
        self.due = self.due or self.archive.away
        if not self.due:
            return
        with self._looking:
            # The breaker lets one call through, and refuses all others meanwhile. The other records of a batch would
            # go on without Postgres. Here they wait for that call.
            now = self.clock()
            if now < self._next_look:
                return
            self._next_look = now + LOOK_SECONDS
            with suppress(Unavailable):
                self.archive.ping()
        if not self.archive.away:
            with suppress(*TRANSIENT):
                self.push(min(deadline, now + PUSH_SECONDS))

    def push(self, until: float) -> int:
        """Archive the ends that the tiers have, until `until` (Unix seconds) at the latest. Returns how many.

        Raises Unavailable while Postgres is away; then no tier was asked.
        """
        if not self._pushing.acquire(blocking=False):
            return 0
        count = 0
        try:
            self.archive.ping()
            # A job that ends unarchived from here on makes it due again.
            self.due = False
            for tier, key, job_id in self._in_turn():
                if count >= MOST_PUSHED or self.clock() >= until:
                    self.due = True
                    break
                try:
                    count += self._push(tier, key, job_id)
                except Contended:
                    self.due = True
                except Unavailable:
                    if self.archive.away:
                        raise
                    self.due = True  # the tier is away, or this end took too long: go on with the others
                except Exception as error:  # noqa: BLE001  one bad end must not stop the others
                    _log.error("an end can't be archived", extra={"ai_job_id": job_id, "error": type(error).__name__})
        except Unavailable:
            self.due = True
            raise
        finally:
            self._pushing.release()
        if count:
            _log.info("archived ends that Postgres lacked", extra={"jobs": count})
        return count

    def _in_turn(self) -> Iterator[tuple[Tier, ConversationKey, str]]:
        """The ends that the tiers have: one of each tenant in turn, and those of a conversation in their order.

        Conversations come in random order, so that processes that begin at the same moment begin with different ones.
        """
        tenants: dict[str, dict[ConversationKey, list[tuple[Tier, ConversationKey, str]]]] = defaultdict(dict)
        for tier in self.tiers.tiers:
            try:
                found = tier.unarchived()
            except TRANSIENT:
                self.due = True
                continue
            for key, job_id in found:
                tenants[key.platform_id].setdefault(key, []).append((tier, key, job_id))
        waiting = []
        for conversations in tenants.values():
            drawn = list(conversations.values())
            random.shuffle(drawn)  # nosec B311  # no secret
            waiting.append(iter([end for ends in drawn for end in ends]))
        while waiting:
            for ends in tuple(waiting):
                end = next(ends, None)
                if end is None:
                    waiting.remove(ends)
                else:
                    yield end

    def _push(self, tier: Tier, key: ConversationKey, job_id: str) -> bool:
        ended = tier.job(job_id)
        if ended is None or not ended.unarchived:
            # Its end is gone, or another process has archived it.
            tier.archived(key, job_id)
            return False
        self.archive_end(ended)
        return True

    def archive_end(self, job: Job) -> None:
        """Give Postgres a job's end that was decided while it was away. Raises Unavailable."""
        if not self.archive.archive(job):
            if self.archive.erased(job.key, job.accepted_at):
                # A tier without this job may have a line that began after the erasure. That line stays.
                self.tiers.each(lambda tier: tier.job(job.job_id) and tier.erase(job.key, [job.job_id]))
                return
            settled = self.archive.settled(job.key, [id_ for m in job.messages for id_ in m.possible_ids])
            ends = [end_of(name, settled) for name in named(job.messages, (), settled, again=True)]
            if any(end is None or end.job_id != job.job_id for end in ends):
                _log.info("an end came too late: another job has settled its messages", extra=job.log_fields)
                self.meter.add("RepliesInConflict")
        # A tier that can't be told forgets the end by itself in time.
        with suppress(*TRANSIENT):
            self.tiers.each(lambda tier: tier.archived(job.key, job.job_id))

    def take(self, record: ArchivedRecord, deadline: float) -> bool:
        """Archive what a record brings, after the other ends that wait. False: the record must be kept.

        Then Postgres is away, and so is the queue.
        """
        self.due |= isinstance(record, ArchiveRecord)
        self.push_if_due(deadline)
        try:
            self.bring(record)
        except TRANSIENT:
            if self.deliveries and isinstance(record, NoticeRecord):
                self.deliveries.raised(record.raised, deadline)
            return self._send_again(record)
        return True

    def bring(self, record: ArchivedRecord) -> None:
        """Give Postgres what a record brings. Raises Unavailable."""
        match record:
            case ArchiveRecord():
                self.archive_end(record.job)
            case WordlessRecord():
                self.archive.keep_wordless(record.key, record.bot_id, record.messages)
            case NoticeRecord():
                self.archive.note_raised(record.raised)
                if self.deliveries:
                    self.deliveries.wake(record.key)

    def _send_again(self, record: ArchivedRecord) -> bool:
        """Send the record as a new one: SQS delivers a record only a few times, and an outage may last longer.

        Returns whether it was sent.
        """
        queue, kind, wait = self.queue, "archive", RECORD_SECONDS
        if isinstance(record, NoticeRecord):
            # Many jobs and many ends must not delay a notice: it waits among the deliveries, and is counted apart.
            queue, kind = self.deliveries.queue if self.deliveries else queue, "notice"
            waited = math.ceil(self.clock() - record.raised.raised_at)
            wait = min(max(waited, RECORD_SECONDS), NOTICE_SECONDS)
        name = f"{kind} records of {key_of(record).platform_id}"
        try:
            _, refused = self.tiers.first(lambda tier: tier.admit(name, RECORDS_PER_MINUTE))
            queue.send(record, delay=LATER_SECONDS if refused else wait)
        except (Unavailable, PayloadTooLarge):
            return False
        return True
