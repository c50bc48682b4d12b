"""The product's queueing as a discrete-event simulation: what waits for what, in simulated seconds.

It models only what makes messages wait. Patients type in bursts. Each message has a record, and records come in
batches. The number of invocations is limited, and a conversation has one job at a time. Newer messages restart a run.
The AI takes seconds and may be down. Workers die, and the sweep finds what they left.

The rules are those of `worker/`, `protocol/` and `intake/`, the numbers those of settings.py. Each is named where it is
modelled. A conversation here is one burst.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal

type Distribution = Callable[[Random], float]


def lognormal(median: float, sigma: float) -> Distribution:
    return lambda chance: chance.lognormvariate(math.log(median), sigma)


#: One try of the AI: half of the tries take up to two seconds, one of a hundred more than ten. The mean is 2.56.
AI_SECONDS = lognormal(2.0, 0.7)
#: The shares of bursts with one, two, … messages. The mean is 2.05.
BURST_SIZES = (0.45, 0.25, 0.15, 0.10, 0.05)


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage from `start` to `end` (seconds): AI calls hang until their timeout, are refused at once, or no
    invocation begins (`stopped`)."""

    start: float
    end: float
    kind: Literal["hangs", "refuses", "stopped"]

    def holds(self, at: float, *kinds: str) -> bool:
        return self.kind in kinds and self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. Times are seconds; the defaults of the second half are the template's and settings.py's."""

    #: Bursts a second at this time. It is never above `most_bursts`.
    bursts: Callable[[float], float]
    most_bursts: float
    sizes: tuple[float, ...] = BURST_SIZES
    #: Between two messages of a burst.
    typing: Distribution = lambda chance: chance.expovariate(1 / 2.5)
    ai: Distribution = AI_SECONDS
    error_rate: float = 0.01
    outage: Outage | None = None
    death_rate: float = 0.0  # of invocations
    #: The seconds of a record beside the AI's: one look, and a run from claim to finish.
    look: float = 0.005
    run: float = 0.020

    concurrency: int = 10  # WorkerMaximumConcurrency
    batch: int = 10  # BatchSize
    window: float = 0.0  # MaximumBatchingWindowInSeconds
    debounce: float = 0.0
    debounce_max: float = 10.0
    consolidates: bool = True  # False: each message is a conversation of its own, for the comparison
    #: Lambda begins with this many batches at a time, and adds this many a second (300 a minute) while records wait.
    pollers: int = 5
    pollers_per_second: float = 5.0

    ai_timeout: float = 30.0
    run_seconds: float = 117.0  # RUN_SECONDS minus the function's time to report
    max_restarts: int = 3
    join_delay: float = 150.0
    heartbeat_stale: float = 8.0
    hiding: float = 10.0  # HIDING_SECONDS; longer from the third delivery on
    sweep_every: float = 60.0
    wake_after: float = 50.0
    notice: float = 0.3  # until a run sees that a message joined


#: Constants of worker/, ai/answering.py and queue/timing.py.
COMMIT_SECONDS, FOLLOW_UP_SECONDS, PATIENCE_SECONDS, ALONE_FROM = 5.0, 60.0, 5.0, 3
RETRY_SECONDS = (10.0, 20.0, 60.0, 240.0, 720.0)
TRIES, BACKOFF_SECONDS, REFUSAL_SECONDS = 3, 0.5, 0.2


def _retry_delay(record: Record) -> float:
    return RETRY_SECONDS[min(record.received, len(RETRY_SECONDS)) - 1]


@dataclass(slots=True)
class Job:
    created: float
    messages: list[float] = field(default_factory=list)  # when each was accepted
    ready: float = 0.0
    typing: float = 0.0  # since when the patient has typed messages that no run asked about
    restarts: int = 0
    attempts: int = 0
    running: Processing | None = None


@dataclass(slots=True)
class Line:
    """A conversation: its current job and the next one."""

    current: Job | None = None
    next: Job | None = None
    open: set[float] = field(default_factory=set)


@dataclass(slots=True)
class Record:
    """A message's record. `own` is the time at which the message was accepted, and names the message."""

    line: Line
    own: float
    visible: float = 0.0
    received: int = 0


@dataclass(slots=True)
class Invocation:
    began: float
    left: int
    records: list[Record]
    died: float | None = None


@dataclass(slots=True)
class Processing:
    """A record in an invocation. `call` numbers its AI calls: an event of an earlier call is void."""

    record: Record
    invocation: Invocation
    call: int = 0
    called: float = 0.0
    claimed: float = 0.0


@dataclass(slots=True)
class Seen:
    """The results for what was accepted after the warm-up. Times are in seconds."""

    answered: list[float] = field(default_factory=list)  # from accept to reply, each message
    waited: list[float] = field(default_factory=list)  # from accept to the AI's first call, each job
    backlog: list[tuple[float, int]] = field(default_factory=list)  # visible records, each second
    messages: int = 0
    jobs: int = 0
    failed: int = 0
    calls: int = 0
    dropped: int = 0  # calls that a newer message ended
    records: int = 0  # that workers received
    idle_records: int = 0  # of them with nothing left to do
    invocations: int = 0
    billed: float = 0.0
    woken: int = 0  # by the sweep
    deaths: int = 0


class Simulation:
    """Events in a heap. `run` simulates `seconds`, then lets the remaining work end."""

    def __init__(self, world: World, seed: int = 1, warm_up: float = 0.0) -> None:
        self.world, self.warm_up = world, warm_up
        self.now, self.busy, self.allowed = 0.0, 0, float(min(world.pollers, world.concurrency))
        self.seen = Seen()
        # One random stream for each cause: more concurrency must not change when patients type.
        causes = ("arrivals", "answers", "deaths", "gathers")
        self._arrivals, self._answers, self._deaths, self._gathers = (Random(f"{seed} {cause}") for cause in causes)
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()
        # With a window each poller gathers its own records. Without one, one lane stands for all pollers.
        self._lanes: list[deque[Record]] = [deque() for _ in range(world.pollers if world.window else 1)]
        self._growing = False
        self._end = math.inf

    def run(self, seconds: float) -> Seen:
        self._end = seconds
        self._at(self._next_burst(0.0), self._burst)
        self._at(1.0, self._look_at_queue)
        if (outage := self.world.outage) and outage.kind == "stopped":
            self._at(outage.end, self._dispatch)
        while self._events:
            self.now, _, event, arguments = heapq.heappop(self._events)
            event(*arguments)
        return self.seen

    def _at(self, time: float, event: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event, arguments))

    def _after(self, seconds: float, event: Callable[..., None], *arguments: object) -> None:
        self._at(self.now + seconds, event, *arguments)

    @property
    def _counts(self) -> bool:
        return self.warm_up <= self.now < self._end

    # Patients.

    def _next_burst(self, time: float) -> float:
        """Thinning: candidates come at the highest rate, and are kept in proportion to the rate at their time."""
        while True:
            time += self._arrivals.expovariate(self.world.most_bursts)
            if self._arrivals.random() * self.world.most_bursts < self.world.bursts(time):
                return time

    def _burst(self) -> None:
        sizes = self.world.sizes
        line, offset = Line(), 0.0
        for _ in range(self._arrivals.choices(range(1, len(sizes) + 1), sizes)[0]):
            self._after(offset, self._accept, line if self.world.consolidates else Line())
            offset += self.world.typing(self._arrivals)
        if (next_burst := self._next_burst(self.now)) < self._end:
            self._at(next_burst, self._burst)

    def _accept(self, line: Line) -> None:
        """protocol/accepting.py, and the delays of intake/intake.py."""
        world, job, created = self.world, line.current, line.current is None
        if job is None:
            job = line.current = Job(self.now)
            self._sweep(self.now + self.world.wake_after, line, job, None)
        elif line.next or (job.running and job.restarts >= world.max_restarts):
            job = line.next = line.next or Job(self.now)
        job.messages.append(self.now)
        line.open.add(self.now)
        if not job.typing or job is line.next or (job.attempts and job.ready <= self.now):
            job.typing = self.now
        job.ready = min(self.now + world.debounce, job.typing + world.debounce_max)
        self._after(int(world.debounce) if created else world.join_delay, self._show, Record(line, self.now))
        if self._counts:
            self.seen.messages += 1
            self.seen.jobs += created
        if (running := job.running) and job is line.current and running.call:
            self._after(world.notice, self._notice, running, running.call)

    # The queue and its event source mapping.

    def _show(self, record: Record) -> None:
        record.visible = self.now
        self._lanes[self._gathers.randrange(len(self._lanes))].append(record)
        self._dispatch()
        if self.world.window:
            self._after(self.world.window, self._dispatch)

    def _dispatch(self) -> None:
        world = self.world
        if world.outage and world.outage.holds(self.now, "stopped"):
            return
        for lane in self._lanes:
            while lane and self.busy < int(self.allowed):
                if len(lane) < world.batch and self.now < lane[0].visible + world.window:
                    break
                self._invoke([lane.popleft() for _ in range(min(world.batch, len(lane)))])
        if self._waiting and self.allowed < world.concurrency and self.busy >= int(self.allowed) and not self._growing:
            self._growing = True
            self._after(1.0, self._grow)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._lanes))

    def _grow(self) -> None:
        self._growing = False
        self.allowed = min(self.world.concurrency, self.allowed + self.world.pollers_per_second)
        self._dispatch()

    def _look_at_queue(self) -> None:
        self.seen.backlog.append((self.now, self._waiting))
        if self.now < self._end or self._waiting or self.busy:
            self._after(1.0, self._look_at_queue)

    def _sweep(self, at: float, line: Line, job: Job, holder: Processing | None, wakes: int = 0) -> None:
        """Let the first sweep from `at` on see whether the job still waits or still has the same holder."""
        if math.isfinite(at):
            sweep = math.ceil(at / self.world.sweep_every) * self.world.sweep_every
            self._at(sweep, self._swept, line, job, holder, wakes)

    def _swept(self, line: Line, job: Job, holder: Processing | None, wakes: int) -> None:
        """As `sweep` in protocol/steps.py: a job with no worker or a silent one gets one record that wakes it."""
        if line.current is job and job.running is holder:
            job.running = None
            self.seen.woken += self._counts
            self._show(Record(line, job.messages[-1]))
            self._sweep(self.now + self.world.wake_after * 2 ** min(wakes, 6), line, job, None, wakes + 1)

    # An invocation. It works on its records at the same time and lasts as long as the slowest.

    def _invoke(self, records: list[Record]) -> Invocation:
        self.busy += 1
        invocation = Invocation(self.now, len(records), records)
        if self._counts:
            self.seen.invocations += 1
            self.seen.records += len(records)
        if self.world.death_rate and self._deaths.random() < self.world.death_rate:
            self._after(self._deaths.uniform(0.0, 3.0), self._die, invocation)
        for record in records:
            record.received += 1
            self._after(self.world.look, self._claim, Processing(record, invocation))
        return invocation

    def _ended(self, processing: Processing, back: float | None = None) -> None:
        """The end of a record's thread: the record is deleted, or comes back after `back` seconds."""
        if back is not None:
            self._after(math.ceil(back), self._show, processing.record)
        processing.invocation.left -= 1
        if not processing.invocation.left:
            self._closed(processing.invocation)

    def _closed(self, invocation: Invocation) -> None:
        self.busy -= 1
        if self.warm_up <= invocation.began < self._end:
            self.seen.billed += self.now - invocation.began
        self._dispatch()

    def _die(self, invocation: Invocation) -> None:
        if not invocation.left:
            return
        invocation.died = self.now
        self.seen.deaths += self._counts
        for record in invocation.records:
            hidden = self.world.hiding if record.received < ALONE_FROM else _retry_delay(record)
            self._after(hidden - self._deaths.uniform(0.0, 2.0), self._show, record)  # each 2 s it was hidden again
            job = record.line.current
            if job and job.running and job.running.invocation is invocation:
                self._sweep(self.now + self.world.heartbeat_stale, record.line, job, job.running)
        self._closed(invocation)

    # A worker's work on one record: worker/worker.py.

    def _claim(self, processing: Processing) -> None:
        """As `claim` in protocol/steps.py."""
        world, line = self.world, processing.record.line
        job = line.current
        if processing.invocation.died is not None:
            return
        if job is None:
            self.seen.idle_records += self._counts
            self._ended(processing)
            return
        if (holder := job.running) and (died := holder.invocation.died) and died + world.heartbeat_stale <= self.now:
            job.running = None
        if holder := job.running:
            self._checked(processing, holder.claimed + world.run_seconds - self.now)
        elif (wait := job.ready - self.now) > PATIENCE_SECONDS:
            self._checked(processing, wait)
        elif wait > 0:
            self._after(wait, self._claim, processing)  # the worker sleeps
        else:
            job.running, processing.claimed = processing, self.now
            if self.warm_up <= job.created < self._end and not job.attempts:
                self.seen.waited.append(self.now - max(job.created, job.ready))
            job.attempts += 1
            self._ask(processing)

    def _checked(self, processing: Processing, wait: float) -> None:
        """Delete the record if its own message is settled."""
        record = processing.record
        self._ended(processing, wait if record.own in record.line.open else None)

    def _ask(self, processing: Processing) -> None:
        """Ask the AI with all waiting messages. Its result and the time of the result are drawn now."""
        processing.call += 1
        processing.called = self.now
        self.seen.calls += self._counts
        took, answers = self._answer()
        self._after(self.world.run + took, self._answered, processing, processing.call, answers)

    def _answer(self) -> tuple[float, bool]:
        """The seconds of all tries of the AI, and whether it answers: ai/answering.py."""
        world, outage, took = self.world, self.world.outage, 0.0
        for number in range(TRIES):
            if outage and outage.holds(self.now + took, "hangs"):
                return world.ai_timeout, False
            if not (outage and outage.holds(self.now + took, "refuses")) and self._answers.random() >= world.error_rate:
                took += world.ai(self._answers)
                return (took, True) if took < world.ai_timeout else (world.ai_timeout, False)
            took += REFUSAL_SECONDS
            if number < TRIES - 1:
                took += BACKOFF_SECONDS * 2**number * self._answers.uniform(0.5, 1.5)
        return took, False

    def _notice(self, processing: Processing, call: int) -> None:
        """A message joined while the AI worked: ask again with all messages, if there is time."""
        job = processing.record.line.current
        if call != processing.call or processing.invocation.died or job is None or job.running is not processing:
            return
        if processing.called < self.now and self._restartable(processing, job):
            self._restart(processing, job)

    def _restartable(self, processing: Processing, job: Job) -> bool:
        left = processing.claimed + self.world.run_seconds - self.now
        return job.restarts < self.world.max_restarts and left >= self.world.ai_timeout + COMMIT_SECONDS

    def _restart(self, processing: Processing, job: Job) -> None:
        job.restarts += 1
        self.seen.dropped += self._counts
        processing.call += 1
        processing.called = math.inf
        self._quiet(processing, job)

    def _quiet(self, processing: Processing, job: Job) -> None:
        """Wait until the patient stops typing, but leave time for an answer: worker/run.py."""
        if processing.invocation.died or job.running is not processing:
            return
        latest = processing.claimed + self.world.run_seconds - self.world.ai_timeout - COMMIT_SECONDS
        if (wait := min(job.ready, latest) - self.now) > 0:
            self._after(wait, self._quiet, processing, job)
        else:
            self._ask(processing)

    def _answered(self, processing: Processing, call: int, answers: bool) -> None:
        """Seal, commit and finish. If messages wait and there is time, begin the follow-up."""
        line = processing.record.line
        if call != processing.call or processing.invocation.died:
            return
        job = line.current
        assert job and job.running is processing
        covered = [at for at in job.messages if at <= processing.called]
        late = [at for at in job.messages if at > processing.called]
        if late and self._restartable(processing, job):
            self._restart(processing, job)
            return
        if late:
            line.next = line.next or Job(self.now)
            line.next.messages = late + line.next.messages
        line.open -= set(covered)
        for at in covered:
            if self.warm_up <= at < self._end:
                self.seen.answered.append(self.now - at)
                self.seen.failed += not answers
        line.current, line.next = line.next, None
        processing.call += 1
        if line.current:
            self.seen.jobs += self._counts
            self._sweep(self.now + self.world.wake_after, line, line.current, None)
            if self.now + FOLLOW_UP_SECONDS <= processing.invocation.began + self.world.run_seconds:
                self._claim(processing)
                return
            self._show(Record(line, line.current.messages[-1]))
        self._checked(processing, _retry_delay(processing.record))
