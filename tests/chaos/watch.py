"""A client for each promised job. It asks each second until the job has told the end of each of its messages."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.checker import TOLD_LIMIT_SECONDS
from tests.chaos.deployment import Deployment
from tests.chaos.history import Seen

_EVERY_SECONDS = 1.0
_CLIENTS = 12


class Watch:
    """Polls from its creation until `finish`. The history has each answer."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stopping = threading.Event()
        self._taken = len(deployment.history.posted)  # earlier promises are not watched
        self._waiting: dict[str, _Promised] = {}  # by their jobs
        self._clients = ThreadPoolExecutor(_CLIENTS, thread_name_prefix="watch")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Returns when clients have heard of each answer, or it is too late."""
        deadline = time.monotonic() + TOLD_LIMIT_SECONDS + 2 * _EVERY_SECONDS
        while self._take() and time.monotonic() < deadline:
            time.sleep(_EVERY_SECONDS / 4)
        self._stopping.set()
        self._thread.join()
        self._clients.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_SECONDS / 20):
            self._take()
            for job_id, promised in tuple(self._waiting.items()):
                if not promised.asking and promised.due <= time.monotonic():
                    promised.asking = True
                    self._clients.submit(self._look, job_id, promised)

    def _take(self) -> int:
        """Take over the promises since the last time. Returns the number of jobs that still have to tell an end."""
        with self._deployment.history.mutex:
            posted = self._deployment.history.posted[self._taken :]
            self._taken += len(posted)
            for event in posted:
                if event.accepted and event.job_id:
                    self._deployment.history.polled.add(event.job_id)
                    promised = self._waiting.setdefault(event.job_id, _Promised(event.conversation))
                    promised.messages[event.message_id] = event.until
            return len(self._waiting)

    def _look(self, job_id: str, promised: _Promised) -> None:
        asked_at = time.time()
        seen = self._deployment.platform.job(promised.conversation, job_id)
        with self._deployment.history.mutex:
            promised.note(seen, asked_at)
            if not promised.messages:
                self._waiting.pop(job_id, None)


class _Promised:
    """The messages whose ends a job has not told yet, each with the time since when it was promised the job."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        self.messages: dict[str, float] = {}
        self.asking = False
        self.due = 0.0

    def note(self, seen: Seen | None, asked_at: float) -> None:
        # What was asked before an edit was accepted tells nothing of the edit.
        ended = [id_ for id_, since in self.messages.items() if seen and since <= asked_at and seen.says(id_)]
        for message_id in ended:
            del self.messages[message_id]
        self.due = time.monotonic() + _EVERY_SECONDS
        self.asking = False
