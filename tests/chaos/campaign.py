"""The long form: random faults under continuous load, then everything is healed and the whole record is checked."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.checker import Violation, check, story
from tests.chaos.deployment import AFTERMATH_SECONDS, Deployment
from tests.chaos.faults import Kind
from tests.chaos.history import History, Rest
from tests.chaos.patients import LONGEST_PAUSE_SECONDS, Patients

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
            patients = Patients(deployment, self._patients, self._seed)
            while time.monotonic() < self._began + self._seconds:
                self._inject(deployment, patients)
            print("All is healed; waiting for what is left to do", flush=True)
            patients.stop()
            rest = deployment.await_rest(_REST_SECONDS, self._tell_rest)
            deployment.look_at_jobs()
            history = deployment.collect(rest)
        violations = check(history)
        tell(history, violations)
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
    kinds = Counter(row.kind for row in history.settled)
    figures: list[tuple[str, object]] = [
        *((f"fault: {name}", count) for name, count in sorted(injected.items())),
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
        ("longest time to reply", f"{max(times, default=0):.1f} s"),
        ("median time to reply", f"{sorted(times)[len(times) // 2] if times else 0:.1f} s"),
    ]
    width = max(len(name) for name, _ in figures)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in figures)


def _given_up_without_a_fault(history: History) -> int:
    """How often functions lost a store that nobody broke: the machine was too slow for the timeouts."""
    return sum(
        not any(
            fault.at <= away.until and fault.until >= away.at and fault.part in (away.part, "both")
            for fault in history.faults
        )
        for away in history.away
    )
