"""One conversation, and all that work on it at the same time: a platform, intakes, workers, operators and the sweep.

They are the service's own classes. Their calls go through a `Port`. Each call is a step at which another actor may go
on, and at which a fault may happen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.errors import Conflict, NotFound, Rejected, Unavailable
from message_handler.domain.jobs import Job
from message_handler.intake import unsending
from message_handler.intake.requests import parse_request
from message_handler.operations import dead_letters, interventions, sweeping
from tests.contract.world import FUNCTION_SECONDS, SWEEP_SECONDS, Crash
from tests.simulation.fate import Fate
from tests.simulation.processes import KEY, Process
from tests.simulation.sqs import Delivery
from tests.simulation.world import World
from tests.versions import edit_of, message_of, version_of


@dataclass(frozen=True)
class Unsending:
    """A request to unsend a message, with its answer.

    `told`: the versions that had got their `202` before it. `sent`: those that were sent before its answer. `commits`
    and `steps`: the numbers of commits and of the trace's steps until the answer.
    """

    message_id: str
    status: Literal[200, 404, 409]
    told: frozenset[str]
    sent: frozenset[str]
    commits: int
    steps: int


class Simulation(World):
    """Add actors (`platform_posts`, …), then `run`. `looks`: calls of `watch` by the AI. `intakes`: processes."""

    def __init__(self, fate: Fate, *, looks: int = 3, intakes: int = 2) -> None:
        super().__init__(fate, looks=looks)
        self._intakes = [Process(self, f"intake-{number}") for number in range(intakes)]
        self._visitors = 0
        #: The jobs that the platform was promised, by version, and the jobs that workers showed.
        self.told: dict[str, list[str]] = {}
        #: For each version: the versions that had got their `202` before it was sent first.
        self.told_before: dict[str, set[str]] = {}
        #: For each version: the step of the trace at which it was sent first, and at which it got its last answer.
        self.sent_first: dict[str, int] = {}
        self.answered_last: dict[str, int] = {}
        self.policies: set[DoubleTexting] = set()
        self.unsendings: list[Unsending] = []
        self._handed_in: set[str] = set()
        self.cancelled: set[str] = set()
        self.interrupters: set[str] = set()
        self.shown: list[Job] = []

    def run(self) -> Simulation:
        """Run until all is settled. Raises Violation."""
        self.scheduler.run()
        return self

    def platform_posts(
        self,
        *versions: str,
        at: float = 0.0,
        after: Callable[[], float] | None = None,
        text: str = "",
        tries: int = 3,
        policy: DoubleTexting = "consolidate",
    ) -> None:
        """The platform posts versions of messages in one request, and tries again until the answer is `202` or `409`.

        It begins at `at` (seconds), or at the moment that `after` returns, if that is earlier. An edit comes when the
        version before it has been handed in.
        """
        own = versions[-1]
        for version in versions:
            self.contents.setdefault(version, text or f"text of {version}")
        turns = [{"role": "user", "content": self.contents[v], "message_id": message_of(v)} for v in versions]
        request = parse_request({"messages": turns, "double_texting": policy})
        self.policies.add(policy)

        def post() -> None:
            self.told_before.setdefault(own, set(self.told))
            hand_in()
            self._handed_in.add(own)

        def hand_in() -> None:
            for _ in range(tries):
                self.sent_first = dict.fromkeys(versions, len(self.trace)) | self.sent_first
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
                    self.note("is told 202", answer["ai_job_id"], own)
                    # The response is about the request's own message, its last. If that is a duplicate, the others came
                    # with it before, or were rejected. An earlier turn with other words edits only what still waits.
                    for version in versions[:-1] if not answer.get("duplicate") else ():
                        if not self.others_of(version):
                            self.told.setdefault(version, [])
                    self.told.setdefault(own, []).append(answer["ai_job_id"])
                    return
                finally:
                    self.answered_last |= dict.fromkeys(versions, len(self.trace))
                self.scheduler.sleep(1)

        before = version_of(message_of(own), edit_of(own) - 1) if edit_of(own) else None
        self._visit(
            f"platform {' '.join(versions)}",
            at,
            post,
            after,
            lambda: before is None or before in self._handed_in or before not in self.contents,
        )

    def others_of(self, version: str) -> list[str]:
        """The other versions of its message, the oldest first."""
        others = (other for other in self.contents if message_of(other) == message_of(version) and other != version)
        return sorted(others, key=edit_of)

    def platform_unsends(self, message_id: str, at: float, after: Callable[[], float] | None = None) -> None:
        """The platform unsends a message, and tries again until there is an answer."""

        def unsend() -> None:
            def of_the_message(versions: Iterable[str]) -> frozenset[str]:
                return frozenset(version for version in versions if message_of(version) == message_id)

            for _ in range(3):
                status: Literal[200, 404, 409]
                told = of_the_message(self.told)
                process = Process(self, "unsender")
                try:
                    unsending.unsend(
                        process.tiers, process.archive, process.queue, KEY, message_id, self.scheduler.clock
                    )
                    status = 200
                except Conflict:
                    status = 409
                except NotFound:
                    status = 404
                except (Unavailable, Crash):
                    self.scheduler.sleep(1)
                    continue
                self.note(f"is told {status}", message_id)
                self.unsendings.append(
                    Unsending(
                        message_id,
                        status,
                        told,
                        of_the_message(self.sent_first),
                        len(self.archive.commits),
                        len(self.trace),
                    )
                )
                return

        self._visit(f"unsender {message_id}", at, unsend, after)

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

    def _visit(
        self,
        name: str,
        at: float,
        work: Callable[[], None],
        after: Callable[[], float] | None = None,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        """Add an actor that does its work once."""
        self._visitors += 1

        def visit() -> None:
            work()
            self._visitors -= 1

        def ready() -> float:
            return min(self.began + at, after() if after else math.inf) if may_begin() else math.inf

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
