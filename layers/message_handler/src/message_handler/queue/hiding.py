"""Hiding a batch's records from other workers for as long as their worker lives."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from message_handler.domain.errors import Unavailable
from message_handler.queue.sqs import SqsQueue
from message_handler.queue.timing import ALONE_FROM, EXTEND_SECONDS, HIDING_SECONDS, retry_delay


class Hiding:
    """Hides a batch's records from other workers for as long as this process lives and works on the batch.

        worker A: receives ── hides for 10 s ── 2 s ── hides for 10 s ── dies
        worker B:                                                              8 to 10 s later: receives

    Lambda hides a record for no less than its function may run: six times 120 s here. So the records of a worker that
    died came back after 12 minutes. The records that are finished stay hidden too: Lambda deletes them only when the
    whole batch has ended. One that was received again and again is hidden for longer, as it is handed on: where all
    workers are too slow to say in time that they live, it must not come to the dead letters for that.
    """

    def __init__(self, queue: SqsQueue, receive_counts: Mapping[str, int]) -> None:
        """`receive_counts`: how often each record was received, by its receipt."""
        self._queue = queue
        self._seconds = {
            receipt: HIDING_SECONDS if count < ALONE_FROM else retry_delay(count)
            for receipt, count in receive_counts.items()
        }
        #: Held during a call: no record is hidden anew after it was handed on.
        self._calling = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hiding", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for a call that is under way: a process that Lambda has frozen must not go on with it later."""
        self._ended.set()
        self._thread.join()

    def return_after(self, receipt: str, seconds: float) -> None:
        """Let a record come back after so many seconds. If SQS refuses, it comes back as a dead worker's does."""
        with self._calling, suppress(Unavailable):
            self._seconds.pop(receipt, None)
            self._queue.hide({receipt: seconds})

    def _run(self) -> None:
        while True:
            with self._calling, suppress(Unavailable):  # the next call may get through in time
                for receipt in self._queue.hide(self._seconds):
                    del self._seconds[receipt]
            if self._ended.wait(EXTEND_SECONDS):
                return
