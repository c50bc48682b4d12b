"""Hides a batch's records from other workers while their worker lives."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from message_handler.domain.errors import Unavailable
from message_handler.queue.sqs import SqsQueue
from message_handler.queue.timing import ALONE_FROM, EXTEND_SECONDS, HIDING_SECONDS, retry_delay


class Hiding:
    """Hides a batch's records from other workers while this process lives and works on the batch (invariant 9).

        worker A: receives ── hides for 10 s ── 2 s ── hides for 10 s ── dies
        worker B:                                                              8 to 10 s later: receives

    The queue's own visibility is 720 s: Lambda asks for six times the function's timeout. With it alone, a dead
    worker's records would come back only after 12 minutes. Finished records stay hidden too, because Lambda deletes
    them only when the whole batch is done. From its third receive on, a record is hidden for its retry delay, which is
    longer: workers that are too slow to renew the hiding time must not make it a dead letter.
    """

    def __init__(self, queue: SqsQueue, receive_counts: Mapping[str, int]) -> None:
        """`receive_counts`: how often each record of the batch was received, by its receipt."""
        self._queue = queue
        self._seconds = {
            receipt: HIDING_SECONDS if count < ALONE_FROM else retry_delay(count)
            for receipt, count in receive_counts.items()
        }
        #: Locked during a call, so that no record is hidden again after `return_after`.
        self._calling = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hiding", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the current call: a process that Lambda freezes now must not go on with it later."""
        self._ended.set()
        self._thread.join()

    def return_after(self, receipt: str, seconds: float) -> None:
        """Let a worker receive a record again in `seconds`. If SQS refuses, it comes back after its hiding time."""
        with self._calling, suppress(Unavailable):
            self._seconds.pop(receipt, None)
            self._queue.hide({receipt: seconds})

    def _run(self) -> None:
        while True:
            with self._calling, suppress(Unavailable):  # the next call may still be in time
                for receipt in self._queue.hide(self._seconds):
                    del self._seconds[receipt]
            if self._ended.wait(EXTEND_SECONDS):
                return
