"""The queue of a process without SQS: its own threads."""

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
    """Records in this process's memory, worked on by its own threads; all of it ends with the process."""

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
        """A process reaches its own threads, until it has closed them."""
        if self._closed:
            raise Unavailable("the queue")

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        encode(record)  # the same bound as SQS, so that nothing works here that fails there
        self._put(record, delay, 1)

    def dead_letters(self) -> list[DeadLetter]:
        """None: what is given up here is gone, and said so."""
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
        """Stop after what is being worked on; what waits is dropped."""
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
            # An idle thread that was notified stays idle until it runs: it must not be counted on twice.
            if len(self._waiting) > self._idle and len(self._threads) < self._limit:
                thread = threading.Thread(target=self._run, name="message-handler-worker", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            receive_count, record = item
            try:
                again = self._work(record, receive_count).retry_in
            except Exception as error:  # noqa: BLE001  the thread must live on for other records
                # A worker function would report the record as failed; the type is all that may be told.
                _log.error("a job failed unexpectedly", extra={"error": type(error).__name__})
                again = 5.0
            if again is not None and receive_count < MAX_RECEIVE_COUNT:
                with suppress(Unavailable):  # closed: what waits is dropped
                    self._put(record, again, receive_count + 1)
            elif again is not None:
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
