"""The long form: random faults under continuous load, then everything is healed and the whole record is checked."""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tests.chaos.checker import Violation, check, p99, story, tellings
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Kind
from tests.chaos.history import AFTERMATH_SECONDS, History, Rest
from tests.chaos.patients import LONGEST_PAUSE_SECONDS, Patients
from tests.chaos.watch import Watch

_PROGRESS_SECONDS = 10
#: Longer than the longest that a record may hide: its visibility, or a few tries in an outage.
_REST_SECONDS = 300
_STORIES = 10


class Campaign:
    """`minutes` of faults drawn by `seed` from `kinds`; with `pairs`, sometimes two parts fail together."""

    def __init__(
        self,
        *,
        minutes: float,
        seed: int,
        patients: int,
        pairs: bool,
        kinds: tuple[Kind, ...],
        template: Path,
        log_file: Path | None,
    ) -> None:
        self._seconds = minutes * 60
        self._rng = random.Random(seed)
        self._seed = seed
        self._patients = patients
        self._pairs = pairs
        self._kinds = kinds
        self._template = template
        self._log_file = log_file
        self._injected: Counter[str] = Counter()
        self._redis_forgot = False
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
            print("All is healed; waiting for what is left to do", flush=True)
            patients.stop()
            rest = deployment.await_rest(_REST_SECONDS, self._tell_rest)
            watch.finish()
            deployment.look_at_jobs()
            history = deployment.collect(rest)
        violations = check(history)
        tell(history, violations)
        print("\n" + by_fault(history, violations))
        print("\n" + table(history, self._injected, violations), flush=True)
        return 1 if violations else 0

    def _inject(self, deployment: Deployment, patients: Patients) -> None:
        kinds = [self._rng.choice(self._kinds)]
        others = [kind for kind in self._kinds if kind.part != kinds[0].part]
        if self._pairs and others and self._rng.random() < 0.4:
            kinds.append(self._rng.choice(others))
        elif not self._pairs and kinds[0].part == "postgres" and self._redis_forgot:
            # Redis forgot what it had answered, and with Postgres away nobody would know a duplicate of that. Both
            # lost in the life of one message is a pair, too.
            patients.begin_new_conversations()
            self._wait(deployment, LONGEST_PAUSE_SECONDS + AFTERMATH_SECONDS, "nothing")
            self._redis_forgot = False
        self._redis_forgot |= any(kind.part == "redis" for kind in kinds)
        with ExitStack() as broken:
            for kind in kinds:
                broken.enter_context(kind.broken(deployment))
                self._injected[str(kind)] += 1
            self._wait(deployment, self._rng.uniform(kinds[0].shortest, kinds[0].longest), " + ".join(map(str, kinds)))
        # The next fault meets functions that know of the last one's end: what comes sooner is a pair.
        self._wait(deployment, AFTERMATH_SECONDS + self._rng.uniform(0, 3), "nothing")

    def _tell_rest(self, rest: Rest, waiting: int) -> None:
        if self._due():
            locked, queued = len(rest.locked), rest.queued
            print(
                f"{self._told - self._began:5.0f} s  {waiting} message(s) wait, {locked} conversation(s) locked,"
                f" {queued} record(s) queued, {rest.dead_letters} dead",
                flush=True,
            )

    def _due(self) -> bool:
        """Whether it is time for a line of progress."""
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
                    f"  faults {sum(self._injected.values())}  posts {len(posted)}  accepted {len(accepted)}"
                    f"  broken: {broken}",
                    flush=True,
                )


def tell(history: History, violations: list[Violation]) -> None:
    """Print the story of one violation of each promise in each conversation, up to so many."""
    distinct = {(violation.promise, violation.conversation): violation for violation in reversed(violations)}
    for violation in list(reversed(distinct.values()))[:_STORIES]:
        print("\n" + story(history, violation))


def table(history: History, injected: Counter[str], violations: list[Violation]) -> str:
    """What the run came to, for people."""
    accepted = {event.message_id: event.until for event in reversed(history.posted) if event.accepted}
    times = [row.at - accepted[row.message_id] for row in history.settled if row.message_id in accepted]
    posts = Counter(str(event.status or "no answer") for event in history.posted)
    found = Counter(violation.promise for violation in violations)
    told = [telling.seconds for telling in tellings(history) if telling.seconds is not None]
    kinds = Counter(row.kind for row in history.settled)
    figures: list[tuple[str, object]] = [
        ("faults in all", sum(injected.values())),
        ("stores given up without a fault", _given_up_without_a_fault(history)),
        ("posts", ", ".join(f"{status}: {count}" for status, count in sorted(posts.items()))),
        ("messages accepted", len(accepted)),
        ("… told degraded", len({event.message_id for event in history.posted if event.degraded})),
        ("duplicates told", sum(event.duplicate for event in history.posted)),
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


_COLUMNS = ("times", "messages", "lost", "doubled", "stranded", "told p99", "longest")
_NO_FAULT = "none"


def by_fault(history: History, violations: list[Violation]) -> str:
    """The promises of the messages in whose life each fault was; one message may have met several, or none."""
    life: dict[str, tuple[float, float]] = {}
    promised: dict[str, set[str]] = defaultdict(set)
    ends = {row.message_id: row.at for row in history.settled}
    for event in history.posted:
        if event.accepted and event.message_id not in life:
            life[event.message_id] = (event.at, ends.get(event.message_id, math.inf))
        if event.job_id:
            promised[event.job_id].add(event.message_id)
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
            *(f"{p99(seconds):.1f} s", f"{max(seconds, default=0):.1f} s"),
        )
        lines.append("".join([f"{name:<46}", *(f"{cell:>10}" for cell in cells)]))
    return "\n".join(lines)


def _given_up_without_a_fault(history: History) -> int:
    """How often functions lost a store that nobody broke: the machine was too slow for the timeouts."""
    return sum(
        not any(
            fault.at <= away.until and fault.until >= away.at and fault.part in (away.part, "both")
            for fault in history.faults
        )
        for away in history.away
    )
