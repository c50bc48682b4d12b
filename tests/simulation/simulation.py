"""One conversation, and all that work on it at the same time: a platform, intakes, workers, operators and the sweep.

They are the service's own classes. Their calls go through a `Port`. Each call is a step at which another actor may go
on, and at which a fault may happen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.errors import Conflict, NotFound, Rejected, Unavailable
from message_handler.domain.jobs import Job
from message_handler.intake.requests import parse_request
from message_handler.operations import dead_letters, interventions, sweeping
from tests.contract.world import FUNCTION_SECONDS, SWEEP_SECONDS, Crash
from tests.simulation.fate import Fate
from tests.simulation.processes import KEY, Process
from tests.simulation.sqs import Delivery
from tests.simulation.world import World


class Simulation(World):
    """Add actors (`platform_posts`, …), then `run`. `looks`: calls of `watch` by the AI. `intakes`: processes."""

    def __init__(self, fate: Fate, *, looks: int = 3, intakes: int = 2) -> None:
        super().__init__(fate, looks=looks)
        self._intakes = [Process(self, f"intake-{number}") for number in range(intakes)]
        self._visitors = 0
        #: The jobs that the platform was promised, and the jobs that workers showed.
        self.told: dict[str, list[str]] = {}
        self.cancelled: set[str] = set()
        self.interrupters: set[str] = set()
        self.shown: list[Job] = []

    def run(self) -> Simulation:
        """Run until all is settled. Raises Violation."""
        self.scheduler.run()
        return self

    def platform_posts(
        self,
        *message_ids: str,
        at: float = 0.0,
        after: Callable[[], float] | None = None,
        text: str = "",
        tries: int = 3,
        policy: DoubleTexting = "consolidate",
    ) -> None:
        """The platform posts messages in one request, and tries again until the answer is `202` or `409`.

        It begins at `at` (seconds), or at the moment that `after` returns, if that is earlier.
        """
        for message_id in message_ids:
            self.contents.setdefault(message_id, text or f"text of {message_id}")
        turns = [{"role": "user", "content": self.contents[id_], "message_id": id_} for id_ in message_ids]
        request = parse_request({"messages": turns, "double_texting": policy})

        def post() -> None:
            for _ in range(tries):
                number = self.fate.pick(len(self._intakes))
                process = self._intakes[number]
                try:
                    answer = process.intake.handle(KEY, request)
                except Unavailable:
                    self.note("is told 503")
                except Crash:
                    if process is self._intakes[number]:
                        self._intakes[number] = Process(self, process.name)
                except Rejected as rejected:
                    self.note("is told 409", rejected.job_id)
                    return
                else:
                    if answer["action"] == "interrupted":
                        self.interrupters.add(answer["ai_job_id"])
                    self.note("is told 202", answer["ai_job_id"])
                    # The response is about the request's own message, its last. If that is a duplicate, the others came
                    # with it before, or were rejected.
                    for message_id in message_ids[:-1] if not answer.get("duplicate") else ():
                        self.told.setdefault(message_id, [])
                    self.told.setdefault(message_ids[-1], [])
                    self.told[message_ids[-1]].append(answer["ai_job_id"])
                    return
                self.scheduler.sleep(1)

        self._visit(f"platform {' '.join(message_ids)}", at, post, after)

    def platform_cancels(self, at: float) -> None:
        """The platform cancels one of the jobs that it was promised."""

        def cancel() -> None:
            jobs = [job_id for told in self.told.values() for job_id in told]
            if not jobs:
                return
            job_id = jobs[self.fate.pick(len(jobs))]
            try:
                Process(self, "canceller").jobs.cancel(job_id)
            except (Conflict, NotFound, Unavailable, Crash):
                return
            self.note("is told 200", job_id)
            self.cancelled.add(job_id)

        self._visit("canceller", at, cancel)

    def after_step(self, number: int) -> Callable[[], float]:
        """The moment after `number` steps."""
        return lambda: 0.0 if self.scheduler.steps >= number else math.inf

    def after_fault(self, number: int, seconds: float) -> Callable[[], float]:
        """The moment `seconds` after the n-th fault."""
        return lambda: self.faults_at[number] + seconds if len(self.faults_at) > number else math.inf

    def after_recovery(self, seconds: float) -> Callable[[], float]:
        """The moment `seconds` after the conversation was first taken from its worker."""
        return lambda: self.freed_at[0] + seconds if self.freed_at else math.inf

    def operator_releases(self, at: float) -> None:
        def release() -> None:
            process = Process(self, "operator")
            try:
                interventions.force_release(process.tiers, process.archive, process.queue, KEY)
            except (Unavailable, Crash):
                return

        self._visit("operator", at, release)

    def worker(self, name: str) -> None:
        """A worker function. It takes one record after the other, and starts anew when its process dies."""

        def work() -> None:
            while True:
                process = Process(self, name)
                try:
                    while True:
                        self._take_a_record(process)
                        self.scheduler.pause(self.queue.next_at)
                except Crash:
                    self.scheduler.sleep(1)

        self.scheduler.add(name, work, self.queue.next_at)

    def sweeper(self) -> None:
        """The schedule runs the sweep every minute, as long as anything is under way."""

        def next_at() -> Callable[[], float]:
            due = self.began + SWEEP_SECONDS * (1 + (self.clock() - self.began) // SWEEP_SECONDS)
            return lambda: math.inf if self.at_rest() else due

        def sweep() -> None:
            process = Process(self, "sweep")
            while True:
                try:
                    sweeping.rescue(process.worker)
                    if self.postgres_was_away and not process.worker.rescue.due:
                        self.postgres_caught_up()
                    with suppress(Unavailable):  # the function fails, and the next sweep comes a minute later
                        sweeping.sweep(process.tiers, process.queue)
                        dead_letters.redrive(process.worker, process.queue)
                except Crash:
                    process = Process(self, "sweep")
                self.scheduler.pause(next_at())

        self.scheduler.add("sweep", sweep, next_at())

    def at_rest(self) -> bool:
        if self._visitors or self.queue.waiting or self.queue.dead:
            return False
        return not self.redis.locked() and not self.postgres.locked()

    def _visit(self, name: str, at: float, work: Callable[[], None], after: Callable[[], float] | None = None) -> None:
        """Add an actor that does its work once."""
        self._visitors += 1

        def visit() -> None:
            work()
            self._visitors -= 1

        def ready() -> float:
            return min(self.began + at, after() if after else math.inf)

        self.scheduler.add(name, visit, ready)

    def _take_a_record(self, process: Process) -> None:
        visible = self.queue.visible()
        if not visible:
            return
        delivery = process.delivery = visible[self.fate.pick(len(visible))]
        twice = self._goes_wrong("queue.receive", process, ("delivered twice",)) == "delivered twice"
        self.queue.receive(delivery, hidden=not twice)
        self.note("takes a record", delivery.record)
        deadline = self.clock() + FUNCTION_SECONDS
        outcome = process.worker.process(delivery.record, deadline, delivery.receives)
        self.shown.extend(outcome.ended)
        self._returns(process, delivery, outcome.retry_in)

    def _returns(self, process: Process, delivery: Delivery, back: float | None) -> None:
        """The worker function deletes or hides its record. If that call is lost, the record comes back by itself."""
        self.queue.let_go(delivery)
        process.delivery = None
        try:
            if back is None:
                self.step(process, "queue", "delete", None, lambda: self.queue.delete(delivery), ())
            else:
                self.step(process, "queue", "hide", None, lambda: self.queue.hide(delivery, back), (back,))
        except Unavailable:
            return
