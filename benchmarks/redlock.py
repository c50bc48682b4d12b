"""The lock beside Pottery's Redlock over the same Valkey. Redlock runs in its own process and environment."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.figure import Figure, Round
from benchmarks.locks import MESSAGES, manager
from benchmarks.programs import Program
from benchmarks.stores import Stores

#: The calls of one side before the other's turn: each runs alone, and both find the same machine.
CALLS = 20


def cycling(stores: Stores) -> Iterator[Round]:
    turns = 3 if stores.quick else 10
    with manager(stores) as (locks, _), Program(".venv-peer-pottery", "benchmarks.peers.pottery") as redlock:
        names = (f"conversation-{number:07}" for number in itertools.count())
        versions = redlock.ask({"redis_url": stores.redis_url})["versions"]
        note = ", ".join(f"{name} {version}" for name, version in versions.items())

        def cycle() -> float:
            name = next(names)
            start = time.perf_counter()
            lock_id = locks.check_and_acquire_lock(name, MESSAGES)["lock_id"]
            assert lock_id and locks.release_lock(name, lock_id)
            return time.perf_counter() - start

        for _ in range(2):  # the first calls connect and load
            cycle()
            redlock.ask({"times": 1})
        while True:
            ours, theirs = [], []
            for _ in range(turns):
                ours += [cycle() for _ in range(CALLS)]
                theirs += redlock.ask({"times": CALLS})["seconds"]
            yield Round(1e6 * median(ours), 1e6 * median(theirs), note)


FIGURES = (
    Figure(
        "lock-redlock",
        "lock acquire + release / Pottery's Redlock",
        "acquire, with its look for duplicates and its job, and release through MessageLockManager",
        "acquire and release of Redlock with this one master, in a process of its own",
        None,
        cycling,
        rounds=10,
        seconds=6,
    ),
)
