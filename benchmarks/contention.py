"""One busy conversation: many processes change it at the same moment, and many messages wait in it.

Each process is a thread here with its own tier and connection, so that no two steps share a round trip.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.figure import Figure, Round, Target, alternating
from benchmarks.filling import request
from benchmarks.stores import Stores
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.identifiers import new_id
from message_handler.domain.messages import Message, Request, new_message
from message_handler.drivers.redis import connect
from message_handler.protocol.accepting import accept
from message_handler.protocol.line import Line
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier

FEW, MANY = 50, 1_000
#: All threads share this machine's cores and one interpreter. A thread that waits for its turn must not look like a
#: server that is away or a host that was frozen. So the timeouts are long and the clock stands still.
PATIENCE_MS, NOW = 60_000, time.time()


@contextmanager
def processes(stores: Stores, count: int) -> Iterator[list[RedisTier]]:
    settings = stores.settings().model_copy(update={"redis_timeout_ms": PATIENCE_MS})
    tiers = [RedisTier(connect(settings), settings, lambda: NOW) for _ in range(count)]
    for tier in tiers:
        tier.cached("each has a connection")
    yield tiers
    for tier in tiers:
        tier.close()


def at_once(tiers: list[RedisTier], asked: Callable[[int], Request]) -> float:
    """Seconds until the last of all messages is accepted."""
    begin, requests = threading.Barrier(len(tiers) + 1), [asked(number) for number in range(len(tiers))]
    failed: list[Exception] = []

    def accept(number: int) -> None:
        begin.wait()
        try:
            accepted = requests[number]
            tiers[number].accept(accepted, job_id=accepted.key.new_job_id(), lock_id=new_id())
        except Exception as error:  # noqa: BLE001  any error makes the figure void
            failed.append(error)

    threads = [threading.Thread(target=accept, args=(number,)) for number in range(len(tiers))]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    assert not failed, failed[:3]
    return time.perf_counter() - start


def into_one(name: str) -> Callable[[int], Request]:
    key = ConversationKey("default", name)
    return lambda number: Request(key, (new_message("Hello.", f"m{number}", time.time()),), (), "default")


def bursts(stores: Stores) -> Iterator[Round]:
    with processes(stores, FEW) as tiers:
        for number in itertools.count():
            together = at_once(tiers, into_one(f"burst-{number}"))
            alone = at_once(tiers, lambda n, number=number: request(f"burst-{number}-{n}")[0])  # type: ignore[misc]
            yield Round(1e3 * together, 1e3 * alone)


def scripts(stores: Stores) -> Iterator[Round]:
    with processes(stores, MANY // 10 if stores.quick else MANY) as tiers:
        client = tiers[0].store.client  # type: ignore[attr-defined]
        for number in itertools.count():
            client.config_resetstat()
            seconds = at_once(tiers, into_one(f"crowd-{number}"))
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            yield Round(calls, note=f"{len(tiers):,} messages; the last is accepted after {seconds:.1f} s")


def equal_texts(_: Stores) -> Iterator[Round]:
    """A patient types the same word again and again. The platform sends no message ids."""
    lines = {}
    for count in (1_000, 10_000):
        lines[count] = Line(ConversationKey("default", "patient"))
        words = tuple(new_message("Hello.", None) for _ in range(count))
        _accept(lines[count], words)
    while True:
        more = {count: tuple(new_message("Hello.", None) for _ in range(count)) for count in lines}
        yield alternating(
            lambda more=more: _accept(lines[10_000].copy(), more[10_000]),  # type: ignore[misc]
            lambda more=more: _accept(lines[1_000].copy(), more[1_000]),  # type: ignore[misc]
            3,
            scale=1e3,
        )


def _accept(line: Line, messages: tuple[Message, ...]) -> None:
    request = Request(line.key, messages, (), "default")
    accept(line, request, job_id="job", lock_id="lock", now=0.0, settings=Settings())


FIGURES = (
    Figure(
        "contention",
        f"{FEW} messages at once into one conversation / into {FEW}",
        "until the last is accepted, each by a process of its own",
        "the same messages, each into a conversation of its own",
        None,
        bursts,
        "ms",
        rounds=15,
    ),
    Figure(
        "contention-scripts",
        f"{MANY:,} messages at once into one conversation",
        "calls of the script until all are accepted, each by a process of its own",
        "",
        Target("<", 20_000),
        scripts,
        "calls",
        rounds=3,
        seconds=60,
    ),
    Figure(
        "equal-texts",
        "10,000 equal texts that wait / 1,000",
        "accepting as many again, each of which is matched with one that waits",
        "the same with a tenth of them",
        Target("≤", 12),
        equal_texts,
        "ms",
        seconds=5,
    ),
)
