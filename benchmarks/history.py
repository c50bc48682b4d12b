"""How fast a history is parsed and merged, and whether time grows with size alone.

Each round measures everything once, in processor time, the plain `re` passes between our own; medians are
printed. The ratio is to the fastest plain pass that finds the same turns in the same text, if one does.

    PYTHONPATH=layers/message_handler/src python benchmarks/history.py
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Iterator
from statistics import median

from message_handler.history import merge, parse, render
from message_handler.models import Role, Turn

PLAIN = {
    "lazy": re.compile(r"<(USER|BOT|SALE)>(.*?)</\1>", re.DOTALL),
    "no <": re.compile(r"<(USER|BOT|SALE)>([^<]*)</\1>"),
    "no <, any end": re.compile(r"<(USER|BOT|SALE)>([^<]*)</"),
}
#: Repeated to size. What they have of openings without an end would make a search for the end quadratic.
SOUPS = {
    "<USER>": "<USER>",
    "</USER>": "</USER>",
    "<USER></BOT>": "<USER></BOT>",
    "<": "<",
    "<USER": "<USER",
    "<br>": "<br>",
    "<br><br ": "<br><br ",
    "blanks": "</USER>" + " " * 1000,
    "&amp;": "&amp;",
}
WORDS = [
    "dạ",
    "bác",
    "sĩ",
    "ơi",
    "tôi",
    "bị",
    "đau",
    "đầu",
    "từ",
    "hôm",
    "qua",
    "uống",
    "thuốc",
    "này",
    "mấy",
    "lần",
    "có",
    "không",
]


def conversation(count: int, seed: int = 0) -> list[Turn]:
    """Turns as people write them: short questions, longer answers, `&` or `<` in one of fifty."""
    choose = random.Random(seed)
    roles: tuple[Role, ...] = ("user", "assistant", "user", "assistant", "user", "sale")
    turns = []
    for number in range(count):
        role = roles[number % len(roles)]
        words = choose.choices(WORDS, k=choose.randint(1, 15) if role == "user" else choose.randint(10, 90))
        if number % 50 == 0:
            words.append("< 38 & khô")
        turns.append(Turn(role, " ".join(words)))
    return turns


def texts(size: int) -> Iterator[tuple[str, str]]:
    turns = render(conversation(2000))
    turns *= size // len(turns) + 1
    yield "normal history", turns[: turns.rindex("<br>", 0, size - 4) + 4].ljust(size)
    short = render([Turn("user", "còn đau không?"), Turn("assistant", "Dạ, còn ạ.")])
    yield "two words a turn", (short * (size // len(short))).ljust(size)
    for name, soup in SOUPS.items():
        yield name, (soup * (size // len(soup) + 1))[:size]
        yield f"<BOT> {name}", ("<BOT>" + soup * (size // len(soup) + 1))[:size]


def seconds(run: Callable[..., object], *arguments: object, times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        run(*arguments)
    return (time.process_time() - start) / times


def same_turns(pattern: re.Pattern[str], text: str) -> bool:
    parsed = parse(text)
    found = pattern.findall(text)
    return len(found) == len(parsed) and all(
        parse(f"<{tag}>{content}</{tag}>") == (turn,) for (tag, content), turn in zip(found, parsed, strict=True)
    )


def measure_parse(sizes: list[int], rounds: int) -> None:
    small = dict(texts(10_000))
    plain = {name: [p for p in PLAIN.values() if same_turns(p, text)] for name, text in small.items()}
    plain = {name: patterns if parse(small[name]) else [] for name, patterns in plain.items()}
    print(f"{'parse':24}{'size':>9}{'turns':>9}{'MB/s':>9}{'plain re':>10}{'ratio':>7}{'× time of a tenth':>19}")
    before: dict[str, float] = {}
    for size in sizes:
        for name, text in texts(size):
            megabytes = len(text.encode()) / 1e6
            repeat = max(1, 200_000 // size)
            ours: list[float] = []
            theirs: list[list[float]] = [[] for _ in plain[name]]
            for _ in range(rounds):
                for pattern, times in zip(plain[name], theirs, strict=True):
                    times.append(seconds(pattern.findall, text, times=repeat))
                ours.append(seconds(parse, text, times=repeat))
            own, best = median(ours), min((median(times) for times in theirs), default=0.0)
            growth = f"{own / before[name]:.1f}" if name in before else ""
            versus = f"{megabytes / best:10.0f}{best / own:7.2f}" if best else " " * 17
            print(f"{name:24}{size:9}{len(parse(text)):9}{megabytes / own:9.0f}{versus}{growth:>19}", flush=True)
            before[name] = own


def measure_merge(rounds: int) -> None:
    print(f"\n{'merge':40}{'turns':>9}{'ms':>9}{'× time of a tenth':>19}")
    before: dict[str, float] = {}
    for count in (100, 1_000, 10_000):
        whole = conversation(count)
        edited = [Turn(t.role, t.content.upper()) if t.role == "assistant" else t for t in whole]
        same = [Turn("user", "dạ")] * count
        strangers = conversation(count, seed=1)
        for name, archived, turns in (
            ("the same history", whole, whole),
            ("its last 20 turns", whole, whole[-20:]),
            ("every reply edited", whole, edited),
            ("backwards", whole, whole[::-1]),
            ("nothing in common", whole, strangers),
            ("one text, over and over", same, same),
        ):
            own = median(seconds(merge, archived, turns) for _ in range(rounds))
            growth = f"{own / before[name]:.1f}" if name in before else ""
            print(f"{name:40}{count:9}{own * 1e3:9.2f}{growth:>19}", flush=True)
            before[name] = own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: %(default)s)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000, 10_000_000],
        help="characters of a text (default: 10 K to 10 M, each ten times the last)",
    )
    arguments = parser.parse_args()
    measure_parse(arguments.sizes, arguments.rounds)
    measure_merge(arguments.rounds)


if __name__ == "__main__":
    main()
