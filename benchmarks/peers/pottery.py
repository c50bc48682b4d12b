"""Pottery's Redlock over one Valkey. It gets a number, and answers with the seconds of that many acquires and releases.

    stdin    {"redis_url"}, then {"times"} again and again
    stdout   {"versions": {…}}, then {"seconds": [each]}

Each time it makes, acquires and releases a lock with a new name, as ours does. Its lease is ours, 300 s. It asks its
masters from a pool of threads, even if there is only one.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version

from pottery import Redlock
from redis import Redis


def cycle(redis: Redis, names: Iterator[str]) -> float:
    name = next(names)
    start = time.perf_counter()
    lock = Redlock(key=name, masters={redis}, auto_release_time=300)
    assert lock.acquire(blocking=False)
    lock.release()
    return time.perf_counter() - start


def main() -> None:
    logging.disable(logging.WARNING)
    redis = Redis.from_url(json.loads(sys.stdin.readline())["redis_url"])
    print(json.dumps({"versions": {name: version(name) for name in ("pottery", "redis")}}), flush=True)
    names = (f"conversation-{number:07}" for number in itertools.count())
    for line in sys.stdin:
        print(json.dumps({"seconds": [cycle(redis, names) for _ in range(json.loads(line)["times"])]}), flush=True)


if __name__ == "__main__":
    main()
