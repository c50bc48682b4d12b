"""The long form: random faults under continuous load. Then every part is mended, and the whole record is checked."""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tests.chaos.checker import REPAIR_SECONDS, Violation, check, p99, story, tellings
from tests.chaos.deployment import Deployment
from tests.chaos.faults import KINDS, Kind, Pair
from tests.chaos.history import AFTERMATH_SECONDS, History, Part, Rest
from tests.chaos.patients import LONGEST_PAUSE_SECONDS, Patients
from tests.chaos.watch import Watch

_PROGRESS_SECONDS = 10
#: Longer than a record may be hidden: its visibility, or a few tries in an outage.
_REST_SECONDS = 300
_STORIES = 10


class Campaign:
    """`minutes` of faults drawn by `seed` from `kinds`."""

    def __init__(
        self,
        *,
        minutes: float,
        seed: int,
        patients: int,
        kinds: tuple[Kind | Pair, ...],
        template: Path,
        log_file: Path | None,
    ) -> None:
        self._seconds = minutes * 60
        self._rng = random.Random(seed)
        self._seed = seed
        self._patients = patients
        self._kinds = kinds
        self._template = template
        self._log_file = log_file
        self._redis_forgot = False
        self._postgres_back = -math.inf
        self._began = time.monotonic()
        self._told = -math.inf

    def run(self) -> int:
        """Returns the exit code: 0 if every promise was kept."""
        with Deployment(template=self._template, visibility=60, log_file=self._log_file) as deployment:
            print(f"{len(self._kinds)} kinds of faults, {self._patients} patients, seed {self._seed}", flush=True)
            self._began = time.monotonic()
            watch, patients = Watch(deployment), Patients(deployment, self._patients, self._seed)
            while time.monotonic() < self._began + self._seconds:
                self._inject(deployment, patients)
            print("All parts are mended; waiting until the remaining work is done", flush=True)
            patients.stop()
            rest = deployment.await_rest(_REST_SECONDS, self._tell_rest)
            watch.finish()
            deployment.look_at_jobs()
            history = deployment.collect(rest)
        violations = check(history)
        tell(history, violations)
        print("\n" + by_fault(history, violations))
        print("\n" + table(history, violations), flush=True)
        return 1 if violations else 0

    def _inject(self, deployment: Deployment, patients: Patients) -> None:
        drawn = self._rng.choice(self._kinds)
        if isinstance(drawn, Kind):
            self._break(deployment, patients, drawn)
        else:
            parts: list[Part] = self._rng.sample(["redis", "postgres"], 2)
            first, second = (self._rng.choice([kind for kind in KINDS if kind.part == part]) for part in parts)
            self._prepare(deployment, patients, first)
            with deployment.fault("pair", drawn.name):
                if drawn.gap:
                    self._break(deployment, patients, first)
                    gap = self._rng.uniform(*drawn.gap)
                    if second.part == "postgres":
                        patients.begin_new_conversations()
                        self._redis_forgot = False
                    self._wait(deployment, gap - AFTERMATH_SECONDS, "nothing")
                    self._break(deployment, patients, second)
                else:
                    self._overlap(deployment, first, second)

    def _break(self, deployment: Deployment, patients: Patients, kind: Kind) -> None:
        self._prepare(deployment, patients, kind)
        with kind.broken(deployment):
            self._wait(deployment, self._rng.uniform(kind.shortest, kind.longest), str(kind))
        self._mended(kind)
        # The next fault begins when the functions know that the last one has ended. Before that the two are a pair.
        self._wait(deployment, AFTERMATH_SECONDS, "nothing")

    def _overlap(self, deployment: Deployment, first: Kind, second: Kind) -> None:
        """Mend either of the two first. The other follows soon: a store that is left alone may have forgotten."""
        with ExitStack() as one, ExitStack() as other:
            one.enter_context(first.broken(deployment))
            self._wait(deployment, self._rng.uniform(0.2, 3), str(first))
            other.enter_context(second.broken(deployment))
            self._wait(deployment, self._rng.uniform(0.5, 4), f"{first} + {second}")
            mended_first, still, stack = self._rng.choice([(first, second, one), (second, first, other)])
            stack.close()
            self._mended(mended_first)
            self._wait(deployment, self._rng.uniform(0, 2), str(still))
        self._mended(still)
        self._wait(deployment, AFTERMATH_SECONDS, "nothing")

    def _prepare(self, deployment: Deployment, patients: Patients, kind: Kind) -> None:
        """Wait until no earlier fault makes this one a pair."""
        if kind.part == "redis":
            # Redis alone keeps what was answered without Postgres, until Postgres has it.
            self._wait(deployment, self._postgres_back + REPAIR_SECONDS - time.monotonic(), "nothing")
        elif kind.part == "postgres" and self._redis_forgot:
            # Redis has forgotten its answers. With Postgres away too, a duplicate of them would not be recognised.
            patients.begin_new_conversations()
            self._wait(deployment, LONGEST_PAUSE_SECONDS + AFTERMATH_SECONDS, "nothing")
            self._redis_forgot = False

    def _mended(self, kind: Kind) -> None:
        self._redis_forgot |= kind.part == "redis"
        if kind.part == "postgres":
            self._postgres_back = time.monotonic()

    def _tell_rest(self, rest: Rest, waiting: int) -> None:
        if self._due():
            locked, queued = len(rest.locked), rest.queued
            print(
                f"{self._told - self._began:5.0f} s  {waiting} message(s) wait, {locked} conversation(s) locked,"
                f" {queued} record(s) queued, {rest.dead_letters} dead",
                flush=True,
            )

    def _due(self) -> bool:
        """Whether to print a line of progress now."""
        if time.monotonic() - self._told < _PROGRESS_SECONDS:
            return False
        self._told = time.monotonic()
        return True

    def _wait(self, deployment: Deployment, seconds: float, broken: str) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1))
            if self._due():
                posted = tuple(deployment.history.posted)
                accepted = {event.message_id for event in posted if event.accepted}
                print(
                    f"{self._told - self._began:5.0f} of {self._seconds:.0f} s"
                    f"  faults {len(deployment.history.faults)}  posts {len(posted)}  accepted {len(accepted)}"
                    f"  broken: {broken}",
                    flush=True,
                )


def tell(history: History, violations: list[Violation]) -> None:
    """Print the stories of some violations: one of each promise in each conversation."""
    distinct = {(violation.promise, violation.conversation): violation for violation in reversed(violations)}
    for violation in list(reversed(distinct.values()))[:_STORIES]:
        print("\n" + story(history, violation))


def table(history: History, violations: list[Violation]) -> str:
    """The results of the run, as a table."""
    accepted = {event.message_id: event.until for event in reversed(history.posted) if event.accepted}
    times = [row.at - accepted[row.inner_id] for row in history.settled if row.inner_id in accepted]
    found = Counter(violation.promise for violation in violations)
    told = [telling.seconds for telling in tellings(history) if telling.seconds is not None]
    kinds = Counter(row.kind for row in history.settled)
    danger = [event for event in history.posted if event.danger and event.status]
    figures: list[tuple[str, object]] = [
        ("faults", sum(fault.part != "pair" for fault in history.faults)),
        ("stores given up without a fault", _given_up_without_a_fault(history)),
        ("posts", _listed(str(event.status or "no answer") for event in history.posted)),
        ("messages accepted", len(accepted)),
        ("… told degraded", len({event.message_id for event in history.posted if event.degraded})),
        ("duplicates told", sum(event.duplicate for event in history.posted)),
        ("edits told", sum(event.edited for event in history.posted)),
        ("messages unsent", _listed(str(event.status or "no answer") for event in history.unsent)),
        ("answers to danger (with a notice)", f"{len(danger)} ({sum(bool(event.notice) for event in danger)})"),
        ("messages answered, failed, cancelled", " ".join(str(kinds[k]) for k in ("answered", "failed", "cancelled"))),
        ("replies committed", sum(turn.role == "assistant" for turn in history.turns)),
        ("AI calls (unfenced)", f"{len(history.asked)} ({sum(call.fence is None for call in history.asked)})"),
        ("lost", found.pop("1 lost", 0)),
        ("doubled", found.pop("2 doubled", 0)),
        ("stranded", found.pop("7 stranded", 0)),
        *sorted(found.items()),
        ("stale commits refused", len(history.fenced_out)),
        ("promises told to who polled", len(told)),
        ("… p99 after the answer", f"{p99(told):.1f} s"),
        ("… longest", f"{max(told, default=0):.1f} s"),
        ("longest time to reply", f"{max(times, default=0):.1f} s"),
        ("median time to reply", f"{sorted(times)[len(times) // 2] if times else 0:.1f} s"),
    ]
    width = max(len(name) for name, _ in figures)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in figures)


def _listed(statuses: Iterable[str]) -> str:
    """How often each status was told."""
    return ", ".join(f"{status}: {count}" for status, count in sorted(Counter(statuses).items()))


_COLUMNS = ("times", "messages", "lost", "doubled", "stranded", "told", "told p99", "longest")
_NO_FAULT = "none"


def by_fault(history: History, violations: list[Violation]) -> str:
    """The results by fault. A message counts for each fault during its life: for several, or for none."""
    life: dict[str, tuple[float, float]] = {}
    promised: dict[str, set[str]] = defaultdict(set)
    ends = {row.message_id: row.at for row in sorted(history.settled, key=lambda row: row.at)}
    for event in history.posted:
        if event.accepted and event.version not in life:
            life[event.version] = (event.at, ends.get(event.message_id, math.inf))
        if event.job_id:
            promised[event.job_id].add(event.version)
    told = [(telling.message, telling.seconds) for telling in tellings(history)]
    met: dict[str, set[str]] = defaultdict(set)
    for fault in history.faults:
        name = f"{fault.part}: {fault.name}"
        met[name] |= {message for message, (at, end) in life.items() if fault.at <= end and fault.until >= at}
    rows = [(name, met[name]) for name in sorted(met)]
    rows.append((_NO_FAULT, life.keys() - set().union(*met.values())))
    times = Counter(f"{fault.part}: {fault.name}" for fault in history.faults)
    lines = ["".join([f"{'fault':<46}", *(f"{column:>10}" for column in _COLUMNS)])]
    for name, messages in rows:
        broken = Counter(
            violation.promise
            for violation in violations
            if messages & {*violation.messages, *chain.from_iterable(promised[job] for job in violation.jobs)}
        )
        seconds = [took for message, took in told if message in messages and took is not None]
        cells = (
            *(times[name], len(messages), broken["1 lost"], broken["2 doubled"], broken["7 stranded"]),
            *(len(seconds), f"{p99(seconds):.1f} s", f"{max(seconds, default=0):.1f} s"),
        )
        lines.append("".join([f"{name:<46}", *(f"{cell:>10}" for cell in cells)]))
    return "\n".join(lines)


def _given_up_without_a_fault(history: History) -> int:
    """How often functions lost a store without a fault: the machine was too slow for the timeouts."""
    return sum(
        not any(
            fault.at <= away.until and fault.until >= away.at and fault.part in (away.part, "both")
            for fault in history.faults
        )
        for away in history.away
    )
