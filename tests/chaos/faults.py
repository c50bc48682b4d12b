"""The catalogue of faults. Each is a context manager that breaks one part, and mends it at the end.

with KINDS[…].broken(deployment): …
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.chaos.deployment import Deployment
from tests.chaos.history import Part

Break = Callable[[Deployment], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """A way to break a part. It lasts from `shortest` to `longest` seconds."""

    part: Part
    name: str
    breaks: Break
    shortest: float = 0.5
    longest: float = 6.0

    def __str__(self) -> str:
        return f"{self.part}: {self.name}"

    @contextmanager
    def broken(self, deployment: Deployment) -> Iterator[None]:
        """Break the part, and record the fault."""
        with deployment.fault(self.part, self.name), self.breaks(deployment):
            yield


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _redis_killed(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.kill()
    try:
        yield
    finally:
        deployment.valkey.restart()


@contextmanager
def _redis_frozen(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.freeze()
    try:
        yield
    finally:
        deployment.valkey.thaw()


@contextmanager
def _redis_flushed(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.flush()
    yield


@contextmanager
def _redis_rolled_back(deployment: Deployment) -> Iterator[None]:
    earlier = deployment.valkey.snapshot()
    try:
        yield
    finally:
        deployment.valkey.roll_back(earlier)


@contextmanager
def _stale_replica_promoted(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.detach_replica()
    try:
        yield
    finally:
        deployment.valkey.promote_replica()


@contextmanager
def _redis_became_a_replica(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.become_replica()
    try:
        yield
    finally:
        deployment.valkey.become_primary()


@contextmanager
def _redis_full(deployment: Deployment) -> Iterator[None]:
    deployment.valkey.fill()
    try:
        yield
    finally:
        deployment.valkey.make_room()


# ── Postgres ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _postgres_killed(deployment: Deployment) -> Iterator[None]:
    deployment.postgres.kill()
    try:
        yield
    finally:
        deployment.postgres.restart()


def is_commit(chunk: bytes) -> bool:
    """Whether a reply is on its way to Postgres."""
    return b"completed" in chunk and b"[Simulated AI]" in chunk


@contextmanager
def _postgres_killed_in_a_commit(deployment: Deployment) -> Iterator[None]:
    proxy = deployment.postgres.proxy
    proxy.when("up", is_commit, deployment.postgres.kill)
    try:
        yield
    finally:
        proxy.heal()
        deployment.postgres.kill()  # if no commit came
        deployment.postgres.restart()


@contextmanager
def _commit_unheard(deployment: Deployment) -> Iterator[None]:
    """The commit reaches Postgres, but neither its answer nor any later one comes back."""
    proxy = deployment.postgres.proxy
    proxy.when("up", is_commit, lambda: proxy.stall("down"))
    try:
        yield
    finally:
        proxy.cut()
        proxy.heal()


@contextmanager
def _postgres_frozen(deployment: Deployment) -> Iterator[None]:
    deployment.postgres.freeze()
    try:
        yield
    finally:
        deployment.postgres.thaw()


@contextmanager
def _postgres_read_only(deployment: Deployment) -> Iterator[None]:
    deployment.postgres.refuse_writes()
    try:
        yield
    finally:
        deployment.postgres.take_writes()


@contextmanager
def _another_postgres_promoted(deployment: Deployment) -> Iterator[None]:
    """As in a planned failover: the primary refuses writes, then its name leads to its former standby."""
    deployment.postgres.attach_standby()
    deployment.postgres.refuse_writes()
    try:
        yield
    finally:
        deployment.postgres.promote_standby()


# ── The network before either ────────────────────────────────────────────────────────────────────


def _network(part: Part, breaking: str, *arguments: object) -> Break:
    @contextmanager
    def broken(deployment: Deployment) -> Iterator[None]:
        proxy = deployment.valkey.proxy if part == "redis" else deployment.postgres.proxy
        getattr(proxy, breaking)(*arguments)
        try:
            yield
        finally:
            proxy.heal()

    return broken


def _network_faults(part: Part) -> tuple[Kind, ...]:
    return (
        Kind(part, "connections cut", _network(part, "cut"), 0.1, 0.5),
        Kind(part, "connections refused", _network(part, "refuse")),
        Kind(part, "one way: not heard", _network(part, "stall", "up")),
        Kind(part, "one way: no answers", _network(part, "stall", "down")),
        Kind(part, "black hole", _network(part, "stall", "up", "down")),
        Kind(part, "slow", _network(part, "delay", 0.05)),
    )


# ── Processes ────────────────────────────────────────────────────────────────────────────────────


def _killed(function: str) -> Break:
    @contextmanager
    def broken(deployment: Deployment) -> Iterator[None]:
        for process in deployment.processes(function):
            process.kill()
        yield

    return broken


def _stopped(function: str) -> Break:
    @contextmanager
    def broken(deployment: Deployment) -> Iterator[None]:
        """Stop the busy processes; if none is busy, all of them."""
        processes = [each for each in deployment.processes(function) if each.event] or deployment.processes(function)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    return broken


KINDS: tuple[Kind, ...] = (
    Kind("redis", "killed, back empty", _redis_killed),
    Kind("redis", "frozen", _redis_frozen),
    Kind("redis", "flushed", _redis_flushed, 0.1, 0.5),
    Kind("redis", "rolled back", _redis_rolled_back),
    Kind("redis", "stale replica promoted", _stale_replica_promoted),
    Kind("redis", "a replica, and back", _redis_became_a_replica),
    Kind("redis", "full", _redis_full),
    *_network_faults("redis"),
    Kind("postgres", "killed, back with its data", _postgres_killed),
    Kind("postgres", "killed in a commit", _postgres_killed_in_a_commit, 1.5),
    Kind("postgres", "commit unheard", _commit_unheard, 1.5),
    Kind("postgres", "frozen", _postgres_frozen),
    Kind("postgres", "read-only, and back", _postgres_read_only),
    Kind("postgres", "another one promoted", _another_postgres_promoted),
    *_network_faults("postgres"),
    Kind("worker", "killed", _killed("WorkerFunction"), 0.1, 0.5),
    Kind("worker", "stopped beyond its lease", _stopped("WorkerFunction"), 4.5, 8.0),
    Kind("worker", "stopped within its lease", _stopped("WorkerFunction"), 0.5, 1.5),
    Kind("intake", "killed", _killed("IntakeFunction"), 0.1, 0.5),
    Kind("intake", "stopped", _stopped("IntakeFunction"), 0.5, 3.0),
)


@dataclass(frozen=True)
class Pair:
    """One fault of each store. The second begins `gap` seconds after the first is mended; None: before that."""

    name: str
    gap: tuple[float, float] | None

    def __str__(self) -> str:
        return f"pair: {self.name}"


PAIRS: tuple[Pair, ...] = (
    Pair("both stores, overlapping", None),
    Pair("the second store 15 to 30 s later", (15.0, 30.0)),
)


@contextmanager
def both_stores_away(deployment: Deployment) -> Iterator[None]:
    """Redis and Postgres refuse connections until the end of the `with` block."""
    with deployment.fault("both", "both stores away"):
        deployment.valkey.proxy.refuse()
        deployment.postgres.proxy.refuse()
        try:
            yield
        finally:
            deployment.valkey.proxy.heal()
            deployment.postgres.proxy.heal()
            time.sleep(0.1)
