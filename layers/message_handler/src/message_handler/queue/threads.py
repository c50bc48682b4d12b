"""The queue port in a process without SQS: its own threads are the workers."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from message_handler.domain.errors import Unavailable
from message_handler.domain.records import AnyRecord, DeliveryRecord, Outcome
from message_handler.ports.queue import DeadLetter
from message_handler.queue.codec import encode
from message_handler.queue.timing import MAX_RECEIVE_COUNT

_log = logging.getLogger(__name__)


class ThreadQueue:
    """See the port `Queue`. Records are in memory, and threads of this process work on them. Both end with it."""

    name = "threads"
    in_process = True

    def __init__(self, work: Callable[[AnyRecord, int], Outcome], *, threads: int = 10) -> None:
        self._work = work
        self._limit = threads
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, int, AnyRecord]] = []
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def ping(self) -> None:
        """Raises Unavailable once the queue was closed."""
        if self._closed:
            raise Unavailable("the queue")

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        encode(record)  # raises if the record is too large for SQS, so that both queues accept the same
        self._put(record, delay, 1)

    def dead_letters(self) -> list[DeadLetter]:
        """Always empty: a record that is given up here is lost, and a log line says so."""
        return []

    def count_dead_letters(self) -> int | None:
        """See `dead_letters`."""
        return None

    def depth(self) -> dict[str, int]:
        with self._changed:
            now = time.monotonic()
            due = sum(1 for at, *_ in self._waiting if at <= now)
            busy = len(self._threads) - self._idle
            return {"visible": due, "in_flight": busy, "delayed": len(self._waiting) - due}

    def remove(self, letter: DeadLetter) -> None:
        """See `dead_letters`."""

    def close(self) -> None:
        """Stop once the current records are done. Waiting records are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, record: AnyRecord, delay: float, receive_count: int) -> None:
        with self._changed:
            if self._closed:
                raise Unavailable("the queue")
            item = (time.monotonic() + delay, next(self._numbers), receive_count, record)
            heapq.heappush(self._waiting, item)
            # A notified thread counts as idle until it runs. So compare with the number of waiting records.
            if len(self._waiting) > self._idle and len(self._threads) < self._limit:
                thread = threading.Thread(target=self._run, name="message-handler-worker", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            receive_count, record = item
            try:
                retry_in = self._work(record, receive_count).retry_in
            except Exception as error:  # noqa: BLE001  the thread must go on with other records
                # A Lambda would report the record as failed. Only the error's type may be logged (invariant 11).
                _log.error("a record failed unexpectedly", extra={"error": type(error).__name__})
                retry_in = 5.0
            if retry_in is not None and receive_count < MAX_RECEIVE_COUNT:
                with suppress(Unavailable):  # the queue was closed: waiting records are dropped
                    self._put(record, retry_in, receive_count + 1)
            elif retry_in is not None:
                job_id = None if isinstance(record, DeliveryRecord) else record.job_id
                _log.error("a record was given up", extra={"ai_job_id": job_id})

    def _next(self) -> tuple[int, AnyRecord] | None:
        with self._changed:
            while not self._closed:
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    _, _, receive_count, record = heapq.heappop(self._waiting)
                    return receive_count, record
                self._idle += 1
                self._changed.wait(wait)
                self._idle -= 1
            return None
