"""`python -m benchmarks.queue_check`: one real run of the product beside the simulation of the same traffic.

Patients type in bursts for a minute. Intake, worker threads, Valkey and Postgres are real. Only the AI's seconds are
random. A thread takes one record at a time, so the simulation has batches of one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from statistics import mean, median

from benchmarks.queue_model import Seen, Simulation, World
from benchmarks.queueing import percentile, steady
from benchmarks.stores import Stores
from message_handler.ai.simulated import SimulatedAI
from message_handler.domain.conversations import ConversationKey
from message_handler.intake.requests import parse_request
from message_handler.queue.threads import ThreadQueue
from message_handler.wiring import build

SIMULATED = 20


def typed(world: World, seconds: float, chance: Random) -> list[tuple[float, ConversationKey, str]]:
    """The messages, each with its time in seconds from the beginning."""
    posts: list[tuple[float, ConversationKey, str]] = []
    at = 0.0
    for burst in itertools.count():
        at += chance.expovariate(world.most_bursts)
        if at > seconds:
            return sorted(posts, key=lambda post: post[0])
        then = at
        for number in range(chance.choices(range(1, len(world.sizes) + 1), world.sizes)[0]):
            posts.append((then, ConversationKey("default", f"burst-{burst}"), f"m-{number}"))
            then += world.typing(chance)
    raise AssertionError("unreachable")


def really(stores: Stores, world: World, seconds: float, seed: int) -> Seen:
    """What is seen of the product from outside under this traffic."""
    parts, seen, drawn, mutex = build(stores.settings()), Seen(), Random(f"{seed} answers"), threading.Lock()
    queue = ThreadQueue(
        lambda record, count: worker.process(record, time.time() + world.run_seconds, count),
        threads=world.concurrency,
    )

    def ai(_: object) -> SimulatedAI:
        with mutex:
            seen.calls += 1
            return SimulatedAI(str(int(1000 * world.ai(drawn))))

    worker, intake = replace(parts.worker, queue=queue, ai=ai), replace(parts.intake, queue=queue)
    posts = typed(world, seconds, Random(f"{seed} arrivals"))
    accepted, began = {}, time.time()
    for at, key, message_id in posts:
        time.sleep(max(0.0, began + at - time.time()))
        message = {"role": "user", "content": f"Question {message_id}", "message_id": message_id}
        accepted[key, message_id] = time.time()
        intake.handle(key, parse_request({"messages": [message]}))
    ends: dict[str, float] = {}
    for (key, message_id), at in accepted.items():
        while (job_id := parts.archive.settled_by(key, message_id)) is None:
            time.sleep(0.2)
        job = parts.archive.job(key.platform_id, job_id)
        assert job
        assert job.finished_at
        ends[job_id] = job.finished_at
        seen.answered.append(job.finished_at - at)
    seen.messages, seen.jobs = len(accepted), len(ends)
    queue.close()
    parts.close()
    return seen


def rows(product: Seen, simulated: list[Seen]) -> Iterator[tuple[str, str, str]]:
    """A row for each quantity: the product's, and the median and bounds of the simulations'."""
    reads: dict[str, Callable[[Seen], float]] = {
        "messages": lambda seen: seen.messages,
        "AI calls a message": lambda seen: seen.calls / seen.messages,
        "replies a message": lambda seen: seen.jobs / seen.messages,
        "mean time to reply, s": lambda seen: mean(seen.answered),
        "p50, s": lambda seen: percentile(seen.answered, 50),
        "p90, s": lambda seen: percentile(seen.answered, 90),
    }
    for what, read in reads.items():
        values = [read(seen) for seen in simulated]
        yield what, f"{read(product):.2f}", f"{median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_check", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of typing (default 90)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    world = steady(3.0, concurrency=10, pollers=10, batch=1, error_rate=0.0)
    with Stores() as stores:
        product = really(stores, world, options.seconds, options.seed)
    simulated = [Simulation(world, seed).run(options.seconds) for seed in range(SIMULATED)]
    print(f"| | the product | {SIMULATED} simulations: median (least … most) |\n|---|---:|---:|")
    for row in rows(product, simulated):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
