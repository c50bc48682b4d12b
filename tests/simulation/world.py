"""All that the processes share: time, stores and the queue. Here a step is taken, and its fault happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from message_handler.domain.errors import Unavailable
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.ports.line_store import Saved
from message_handler.protocol.results import Accepted
from tests.contract.chat import Clock
from tests.contract.world import Crash
from tests.simulation.fate import Fate, Fault, possible
from tests.simulation.processes import KEY, SETTINGS, Process, SlowAI
from tests.simulation.scheduler import Scheduler
from tests.simulation.sqs import SimulatedQueue
from tests.simulation.stores import Doing, SharedArchive, SharedLines

#: Methods that only read. They are no steps, because a run would consist of little else.
QUIET = frozenset(
    {"ping", "close", "cached", "cache", "bot_of", "configuration", "lock", "dead_letters", "remove", "admit"}
)
#: Long enough for a claim to go stale, the sweep to come and other workers to do the work.
PAUSES = (90.0, 16.0, 5.0, 400.0)
OUTAGE_SECONDS = (20.0, 0.05, 0.3, 2.0, 90.0, 400.0, 2_000.0)
#: An archive record comes back every 5 s, so an outage of an hour takes thousands of steps.
MAX_STEPS = 60_000
#: The stores of lines. Their calls are parts of a tier's steps.
TIERS = ("redis", "postgres", "memory")


class World:
    """All that surrounds one conversation."""

    def __init__(self, fate: Fate, *, looks: int) -> None:
        self.fate = fate
        self.clock = Clock()
        self.began = self.clock()
        self.scheduler = Scheduler(self.clock, fate.who, MAX_STEPS)
        self.redis = SharedLines("redis", SETTINGS, self.clock)
        self.postgres = SharedLines("postgres", SETTINGS, self.clock)
        self.archive = SharedArchive(self.postgres)
        self.queue = SimulatedQueue(self.clock)
        self.ai = SlowAI(self, looks)
        self.trace: list[tuple[float, str, str, tuple[Any, ...], Any]] = []
        self.counts: Counter[str] = Counter()
        self.catch_ups = 0
        self._doing: dict[str, Doing] = {}
        #: The times of faults, and the times at which a stuck conversation was then taken from its worker.
        self.faults_at: list[float] = []
        self.freed_at: list[float] = []
        #: The contents of the patient's messages, by their versions' names (`tests/versions.py`).
        self.contents: dict[str, str] = {}
        #: The contents that Redis accepted, in order.
        self.accepted: list[str] = []
        #: The contents that waited in Redis after the last save.
        self._waited: set[str] = set()
        self.redis_lost = self.redis_split = self.postgres_was_away = self._was_beyond = False

    @property
    def beyond_the_limits(self) -> bool:
        """Whether two replies may be shown: Postgres was away, and Redis was lost or split before it caught up."""
        return self._was_beyond or (self.postgres_was_away and (self.redis_lost or self.redis_split))

    def postgres_caught_up(self) -> None:
        """Postgres is back and has all ended jobs. From here on Redis may be lost."""
        self._was_beyond = self.beyond_the_limits
        self.postgres_was_away = False
        self.catch_ups += 1

    def step(
        self,
        process: Process,
        label: str,
        name: str,
        breaker: CircuitBreaker | None,
        call: Callable[[], Any],
        arguments: tuple[Any, ...],
    ) -> Any:
        """A call of a port. Raises Crash, Unavailable, and the adapter's errors."""
        if not process.alive:
            raise Crash
        if name in QUIET or (label in TIERS and self.doing.name in QUIET):
            with breaker.guard() if breaker else nullcontext():
                self._reach(process, label)
                return call()
        step = f"{label}.{name}"
        if label in TIERS:
            step, arguments = f"{label}.{self.doing.name}{'' if name == 'save' else f' {name}'}", ()
        self.scheduler.pause()
        if not process.alive:
            raise Crash
        fault = self._goes_wrong(step, process, possible(step))
        outcome: Any = None
        try:
            with breaker.guard() if breaker else nullcontext():
                self._reach(process, label)
                if fault == "fail before":
                    raise Unavailable(label)
                outcome = call()
                if label in TIERS and name == "save":
                    self._watch(label, outcome)
                if fault == "fail after":
                    raise Unavailable(label)
        except BaseException as error:
            outcome = error
            raise
        finally:
            self.trace.append((self.clock(), self._actor, step, arguments, outcome))
        if fault == "crash after":
            self._dies(process)
        if fault == "pause after":
            self._pauses(process)
        return outcome

    @property
    def doing(self) -> Doing:
        """The tier's step that the running actor takes, if any."""
        assert self.scheduler.current is not None
        return self._doing[self.scheduler.current.name]

    def does(self, label: str, name: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        """Take a step of a tier, part by part."""
        actor, outcome = self._actor, None
        if name == "finish" and arguments[2].unarchived:
            self.postgres_was_away = True
        before, doing = self._doing.get(actor), Doing(name, arguments)
        self._doing[actor] = doing
        try:
            outcome = call()
            doing.check(label, outcome)
        except BaseException as error:
            outcome = error
            raise
        finally:
            if before:
                self._doing[actor] = before
            if name not in QUIET:
                self.trace.append((self.clock(), actor, f"{label}.{name}", arguments, outcome))
        if isinstance(outcome, Accepted) and outcome.interrupted and label != "memory":
            store = self.redis if label == "redis" else self.postgres
            store.interrupted[outcome.job_id] = outcome.interrupted
        return outcome

    def note(self, what: str, *details: Any) -> None:
        self.trace.append((self.clock(), self._actor, what, details, None))

    @property
    def _actor(self) -> str:
        return self.scheduler.current.name if self.scheduler.current else "-"

    def _reach(self, process: Process, label: str) -> None:
        if (label == "redis" and (self.redis.away or process.redis_away)) or (
            label in ("postgres", "archive") and self.postgres.away
        ):
            raise Unavailable(label)

    def _watch(self, label: str, answers: list[Any]) -> None:
        """A part of a step was taken. If it is Redis', note the order of the messages, as their requests have it."""
        name, arguments = self.doing.name, self.doing.arguments
        if not isinstance(answers[0], Saved):
            return
        if name in ("sweep", "release") or (name == "claim" and self.faults_at):
            self.freed_at.append(self.clock())
        if label != "redis":
            return
        self.redis.remember()
        waiting = {message.content for message in self.redis.waiting(KEY)}
        gone, self._waited = self._waited - waiting, waiting
        if name == "claim" and arguments[2:] and arguments[2]:
            name, arguments = "accept_again", (arguments[2].request,)
        if name not in ("accept", "accept_again", "undo"):
            return
        if name == "undo":
            self.accepted = [content for content in self.accepted if content not in gone]
            return
        following = len(self.accepted)
        for message in reversed(arguments[0].messages):
            if message.content in self.accepted:
                following = self.accepted.index(message.content)
            elif message.content in waiting:
                self.accepted.insert(following, message.content)

    # Faults.

    def _goes_wrong(self, step: str, process: Process, faults: tuple[Fault, ...]) -> Fault | None:
        fault = self.fate.fault(step, faults)
        if fault is None:
            return None
        self.counts[fault] += 1
        self.faults_at.append(self.clock())
        self.note(f"— {fault.upper()} —", step)
        if fault == "crash before":
            self._dies(process)
        elif fault == "pause before":
            self._pauses(process)
        elif fault in ("fail before", "fail after"):
            self.redis_split |= step.startswith("redis.")
            self.postgres_was_away |= step.startswith(("postgres.", "archive."))
        elif fault in ("redis flushed", "redis rolled back"):
            self.redis_lost = True
            if fault == "redis flushed":
                self.redis.flush()
            else:
                self.redis.roll_back(1 + self.fate.pick(8))
        elif fault in ("redis away", "redis away for one", "postgres away", "both away"):
            self._outage(fault, process)
        return fault

    def _dies(self, process: Process) -> None:
        process.alive = False
        if process.delivery:
            self.queue.let_go(process.delivery)
        raise Crash

    def _pauses(self, process: Process) -> None:
        if delivery := process.delivery:
            receives = delivery.receives
            self.queue.let_go(delivery)
        self.scheduler.sleep(self.fate.seconds(*PAUSES))
        self.note("goes on")
        if delivery:
            self.queue.keep(delivery, receives)
        if not process.alive:
            raise Crash

    def _outage(self, fault: Fault, process: Process) -> None:
        away: list[SharedLines | Process] = []
        if fault in ("redis away", "both away"):
            away.append(self.redis)
        if fault in ("postgres away", "both away"):
            away.append(self.postgres)
        if fault == "redis away for one":
            away.append(process)
        self.redis_split |= fault != "postgres away"
        self.postgres_was_away |= fault in ("postgres away", "both away")

        def switch(value: bool) -> None:
            for part in away:
                if isinstance(part, Process):
                    part.redis_away = value
                else:
                    part.away = value

        def back() -> None:
            switch(False)
            self.trace.append((self.clock(), "-", f"end of: {fault}", (), None))

        switch(True)
        self.scheduler.after(self.fate.seconds(*OUTAGE_SECONDS), back)
