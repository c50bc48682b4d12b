"""`python -m benchmarks.queueing`: the waiting times in docs/scale.md, from a simulation of the product's queueing."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

from benchmarks.queue_model import BURST_SIZES, Outage, Seen, Simulation, World, lognormal
from benchmarks.queue_picture import Line, Panel, svg

_DESCRIPTION = """Simulate how messages wait: bursts of typing, one job a conversation, batches of SQS records,
a limit of workers at the same time, an AI that takes seconds or is down. Each run prints the same tables."""

MESSAGES = sum(number * share for number, share in enumerate(BURST_SIZES, 1))
#: A million messages a day: a second's mean, and the factor of the busiest hour.
MEAN, PEAK = 1e6 / 86_400, 3.0
WARM_UP = 200.0
#: The shape of the compressed day: at the peak, exp(k cos) is three times its mean.
_SHARPNESS, _SCALE = 1.75, 1.925

type Rows = Iterator[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: Callable[[float, int], Rows]


def steady(messages_per_second: float, **changed: Any) -> World:
    rate = messages_per_second / (MESSAGES if changed.get("sizes", BURST_SIZES) == BURST_SIZES else 1)
    return World(bursts=lambda _: rate, most_bursts=rate, **changed)


def day(messages_per_second: float, seconds: float, **changed: Any) -> World:
    """A day with its peak, compressed into `seconds`. Queues settle within seconds, so a short hour is enough."""
    rate = messages_per_second / MESSAGES

    def bursts(at: float) -> float:
        return rate / _SCALE * math.exp(_SHARPNESS * math.cos(2 * math.pi * (at / seconds - 0.5)))

    return World(bursts=bursts, most_bursts=rate * PEAK, **changed)


def simulate(world: World, seconds: float, seed: int) -> Seen:
    return Simulation(world, seed, warm_up=WARM_UP).run(WARM_UP + seconds)


def percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


def duration(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def waits(seen: Seen) -> tuple[str, ...]:
    """The p50 and p99 of the time until the AI is asked, and of the time until the reply."""
    return tuple(duration(percentile(values, p)) for values in (seen.waited, seen.answered) for p in (50, 99))


WAITS = ("AI asked after p50", "p99", "reply after p50", "p99")

# Where there is a theory.


def erlang_c(servers: int, load: float) -> float:
    """The probability that an arrival must wait. `load` is rate x mean service."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait_of_many(rate: float, service: float, servers: int) -> float:
    """The mean wait of M/M/c."""
    return erlang_c(servers, rate * service) * service / (servers - rate * service)


def mean_wait_of_one(rate: float, service: float, squared: float) -> float:
    """The mean wait of M/G/1 (Pollaczek and Khinchine). `squared` is the mean of the service time's square."""
    return rate * squared / (2 * (1 - rate * service))


def bare(rate: float, servers: int, ai: Callable[..., float], batch: int = 1) -> World:
    """A world as simple as the theory's: one message a burst, no failures, and only the AI takes time."""
    return steady(
        rate,
        sizes=(1.0,),
        ai=ai,
        error_rate=0.0,
        look=0.0,
        run=0.0,
        concurrency=servers,
        pollers=servers,
        batch=batch,
        ai_timeout=math.inf,
        wake_after=math.inf,
    )


def theory(seconds: float, seed: int) -> Rows:
    """Compare with theory, at the drawn rate and mean service: waiting magnifies their smallest noise."""
    arrivals, service = 100.0 * seconds, 0.02

    def theirs(rate: float, servers: int, ai: Callable[..., float]) -> tuple[Seen, float, float]:
        """The results, the drawn rate and the drawn mean service."""
        seen = Simulation(bare(rate, servers, ai), seed, warm_up=1.0).run(1.0 + arrivals / rate)
        return seen, seen.messages * rate / arrivals, seen.billed / seen.invocations

    for servers, load in ((1, 0.5), (4, 0.6), (10, 0.7)):
        seen, rate, mean_service = theirs(servers * load / service, servers, lambda c: c.expovariate(1 / service))
        expected = mean_wait_of_many(rate, mean_service, servers)
        yield _held_against(f"M/M/{servers}, {load:.0%} busy: mean wait", seen.waited, expected)
    seen, rate, mean_service = theirs(0.5 / service, 1, lognormal(service * math.exp(-(0.7**2) / 2), 0.7))
    expected = mean_wait_of_one(rate, mean_service, mean_service**2 * math.exp(0.7**2))
    yield _held_against("M/G/1, lognormal, 50% busy: mean wait", seen.waited, expected)
    seen = simulate(bare(30.0, 5, lambda c: c.expovariate(0.5), batch=10), 3 * seconds, seed)
    slowest = 2.0 * sum(1 / number for number in range(1, 11))
    lasted = seen.billed / seen.invocations
    yield _held_against("ten at once last as long as their slowest: mean", [lasted], slowest)


def _held_against(what: str, measured: Sequence[float], expected: float) -> tuple[object, ...]:
    return what, f"{mean(measured):.5f}", f"{expected:.5f}", f"{mean(measured) / expected - 1:+.1%}"


# The product.


def waiting(seconds: float, seed: int) -> Rows:
    for batch in (1, 5, 10):
        for concurrency in (10, 15, 20, 30, 50, 100):
            seen = simulate(steady(MEAN * PEAK, concurrency=concurrency, batch=batch), seconds, seed)
            records = f"{seen.records / seen.invocations:.1f}"
            yield batch, concurrency, *waits(seen), records, f"{seen.billed / seen.messages:.2f}"


def capacity(seconds: float, seed: int) -> Rows:
    """The largest load at which 99 of 100 jobs reach the AI within five seconds, by bisection."""
    for batch in (1, 5, 10, 20):
        for concurrency in (10, 20, 30):
            low, high = 0.0, concurrency * min(batch, 5) / 1.5
            for _ in range(7):
                rate = (low + high) / 2
                seen = simulate(steady(rate, concurrency=concurrency, batch=batch), seconds / 2, seed)
                low, high = (rate, high) if percentile(seen.waited, 99) < 5.0 else (low, rate)
            yield batch, concurrency, f"{low:.1f}", f"{low / PEAK * 86_400 / 1e6:.2f}"


def consolidation(seconds: float, seed: int) -> Rows:
    settings: tuple[tuple[str, dict[str, Any]], ...] = (
        ("each message by itself", {"consolidates": False}),
        ("consolidate, debounce_ms 0", {}),
        *((f"debounce_ms {1000 * pause:.0f}", {"debounce": pause}) for pause in (0.5, 1.0, 2.0, 4.0, 6.0)),
    )
    for name, changed in settings:
        seen = simulate(steady(MEAN * PEAK, concurrency=100, **changed), seconds, seed)
        replies = f"{seen.jobs / seen.messages:.2f}"
        yield name, f"{seen.calls / seen.messages:.2f}", f"{seen.dropped / seen.calls:.0%}", replies, *waits(seen)[2:]


def outages(seconds: float, seed: int) -> Rows:
    worlds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("the AI hangs", "hangs", {}),
        ("the AI refuses", "refuses", {}),
        ("no worker runs", "stopped", {}),
        ("no worker runs, and the sweep is off", "stopped", {"wake_after": math.inf}),
    )
    for what, kind, changed in worlds:
        for concurrency in (30, 50, 100):
            seen = outage(kind, concurrency, seconds, seed, **changed)
            most = max(waiting for _, waiting in seen.backlog)
            over = max((at for at, waiting in seen.backlog if at > OUTAGE_END and waiting > 100), default=OUTAGE_END)
            drained = f"{over - OUTAGE_END:.0f}" if over < OUTAGE_END + 2 * seconds - 1 else "not in time"
            yield what, concurrency, most, drained, f"{seen.failed / seen.messages:.0%}", waits(seen)[3], seen.woken


OUTAGE_START, OUTAGE_END = 300.0, 900.0


def outage(kind: Any, concurrency: int, seconds: float, seed: int, **changed: Any) -> Seen:
    """An outage of ten minutes, simulated until twice `seconds` after its end."""
    world = steady(MEAN * PEAK, concurrency=concurrency, outage=Outage(OUTAGE_START, OUTAGE_END, kind), **changed)
    return Simulation(world, seed, warm_up=WARM_UP).run(OUTAGE_END + 2 * seconds)


def deaths(seconds: float, seed: int) -> Rows:
    for rate in (0.0, 0.001, 0.01):
        seen = simulate(steady(MEAN * PEAK, concurrency=50, death_rate=rate), 3 * seconds, seed)
        late = sum(1 for answered in seen.answered if answered > 30.0) / len(seen.answered)
        yield f"{rate:.1%}", seen.deaths, *waits(seen)[2:], f"{max(seen.answered):.0f}", f"{late:.2%}"


def batches(seconds: float, seed: int) -> Rows:
    """The same number of records at the same time, in few large batches or in many small ones."""
    for sigma, tail in ((0.0, "always 2 s"), (0.7, "as above"), (1.0, "p99 of 20 s")):
        for batch in (1, 2, 5, 10, 20):
            world = steady(MEAN * PEAK, concurrency=200 // batch, batch=batch, ai=lognormal(2.0, sigma))
            seen = simulate(world, seconds, seed)
            yield tail, batch, 200 // batch, *waits(seen), f"{seen.billed / seen.messages:.2f}"


def windows(seconds: float, seed: int) -> Rows:
    for window in (0.0, 0.5, 1.0, 2.0):
        seen = simulate(steady(MEAN, concurrency=50, window=window), seconds, seed)
        records = f"{seen.records / seen.invocations:.1f}"
        yield f"{window:g}", *waits(seen), records, f"{seen.billed / seen.messages:.2f}"


def days(seconds: float, seed: int) -> Rows:
    for millions, concurrency in ((0.1, 10), (0.3, 10), (1.0, 10), (1.0, 30), (1.0, 50), (3.0, 100)):
        seen = simulate(day(MEAN * millions, 3 * seconds, concurrency=concurrency), 3 * seconds, seed)
        per_message = seen.billed / seen.messages
        busy = f"{seen.billed / (3 * seconds):.1f}"
        records, calls = f"{seen.records / seen.messages:.2f}", f"{seen.calls / seen.messages:.2f}"
        invocations = f"{seen.invocations / seen.messages:.2f}"
        yield f"{millions:g}", concurrency, *waits(seen), busy, calls, records, invocations, f"{per_message:.2f}"


TABLES = {
    "theory": Table("Against theory (seconds)", ("what", "simulated", "theory", "off by"), theory),
    "waiting": Table(
        "At the peak of a million messages a day (35 a second), by BatchSize and WorkerMaximumConcurrency",
        ("BatchSize", "concurrency", *WAITS, "records a batch", "billed s a message"),
        waiting,
    ),
    "capacity": Table(
        "The most messages with which the AI is asked within 5 s (p99)",
        ("BatchSize", "concurrency", "messages a second", "million a day, peak x 3"),
        capacity,
    ),
    "consolidation": Table(
        "What consolidation saves (100 workers, so that none waits for another)",
        ("policy", "AI calls a message", "of them dropped", "replies a message", *WAITS[2:]),
        consolidation,
    ),
    "outage": Table(
        "An outage of ten minutes at the peak of a million a day, and twenty minutes after it",
        ("what", "concurrency", "most records waiting", "drained after s", "failed", WAITS[3], "woken by the sweep"),
        outages,
    ),
    "deaths": Table(
        "Workers that die (50 at the same time)",
        ("of invocations", "died", *WAITS[2:], "longest", "later than 30 s"),
        deaths,
    ),
    "batch": Table(
        "Batches against the tail of the AI: 200 records at the same time, however they are cut",
        ("AI", "BatchSize", "concurrency", *WAITS, "billed s a message"),
        batches,
    ),
    "window": Table(
        "MaximumBatchingWindowInSeconds at a million a day's mean (12 a second, 50 workers)",
        ("window s", *WAITS, "records a batch", "billed s a message"),
        windows,
    ),
    "day": Table(
        "A whole day with its peak",
        ("million", "concurrency", *WAITS, "workers in the mean", "AI calls", "records", "invocations", "billed s"),
        days,
    ),
}


def picture(seconds: float, seed: int) -> str:
    curves = []
    for batch in (1, 10):
        points = [
            (concurrency, simulate(steady(MEAN * PEAK, concurrency=concurrency, batch=batch), seconds, seed).waited)
            for concurrency in ((40, 50, 60, 80, 100) if batch == 1 else (10, 15, 20, 25, 30, 40, 50, 60, 80, 100))
        ]
        for percent in (50, 99):
            line = [(float(concurrency), percentile(waited, percent)) for concurrency, waited in points]
            curves.append(Line(f"BatchSize {batch}, p{percent}", line, dashed=percent == 99))
    after = [
        Line(name, [(at / 60, float(left)) for at, left in outage(kind, 50, seconds, seed).backlog[:1800:20]])
        for kind, name in (("hangs", "AI hangs"), ("stopped", "no worker runs"))
    ]
    return svg(
        [
            Panel(
                "Until the AI is asked, at 35 messages a second",
                "WorkerMaximumConcurrency",
                "seconds",
                curves,
                (0.01, 1000.0),
            ),
            Panel("An outage of ten minutes, 50 workers", "minutes", "records waiting", after, (0.0, 50_000.0)),
        ]
    )


def markdown(table: Table, seconds: float, seed: int) -> str:
    rows = [table.columns, *([str(cell) for cell in row] for row in table.rows(seconds, seed))]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**", "", lines[0], "|" + "---|" * len(table.columns), *lines[1:], ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queueing", description=_DESCRIPTION)
    parser.add_argument(
        "tables", nargs="*", metavar="table", help=f"of {', '.join(TABLES)} (default: all, which takes two minutes)"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="simulated, after a warm-up (default 600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=Path, help="write the picture there too")
    options = parser.parse_args(arguments)
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"no table is called {', '.join(sorted(unknown))}")
    for name in options.tables or TABLES:
        print(markdown(TABLES[name], options.seconds, options.seed), flush=True)
    if options.svg:
        options.svg.write_text(picture(options.seconds, options.seed))
        print(f"written to {options.svg}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
