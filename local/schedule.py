"""EventBridge schedules: invoke a function at a fixed interval."""

from __future__ import annotations

import logging
import threading

from local.pool import Pool
from local.template import Schedule

_log = logging.getLogger(__name__)


class Ticker:
    """Invokes a function with its schedule's input, for the first time after one interval.

    As on AWS, the next run starts in time even if one takes longer than the interval. A failed run is not repeated.
    """

    def __init__(self, schedule: Schedule, pool: Pool) -> None:
        self._schedule = schedule
        self._pool = pool
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="schedule", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._schedule.seconds):
            threading.Thread(target=self._invoke, name="scheduled", daemon=True).start()

    def _invoke(self) -> None:
        outcome = self._pool.submit(self._schedule.input.encode()).result()
        if outcome.failed and not self._stopping.is_set():
            _log.warning("%s failed: %s", self._schedule.name, outcome.describe())
