"""How fast a history is parsed and merged, and whether the time grows in proportion to the size.

Processor time, without the garbage collector. Only plain `re` passes that find the same turns in the same text compete.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median

from benchmarks.figure import Figure, Round, Target, uncollected
from benchmarks.stores import Stores
from message_handler.domain.conversations import Role, Turn
from message_handler.domain.history import merge, parse, render

PLAIN = {
    "lazy": re.compile(r"<(USER|BOT|SALE)>(.*?)</\1>", re.DOTALL),
    "no <": re.compile(r"<(USER|BOT|SALE)>([^<]*)</\1>"),
    "no <, any end": re.compile(r"<(USER|BOT|SALE)>([^<]*)</"),
}
#: Each text is repeated up to the size. Tags that open without an end would make a search for the end quadratic.
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
# fmt: off
WORDS = ["dạ", "bác", "sĩ", "ơi", "tôi", "bị", "đau", "đầu", "từ", "hôm", "qua", "uống", "thuốc", "này", "mấy", "lần",
         "có", "không"]
# fmt: on


def conversation(count: int, seed: int = 0) -> list[Turn]:
    """Turns as people write them: short questions, longer answers, and `&` or `<` in one of fifty."""
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


def typical(size: int) -> str:
    """A conversation's history of `size` characters."""
    turns = render(conversation(2000))
    turns *= size // len(turns) + 1
    return turns[: turns.rindex("<br>", 0, size - 4) + 4].ljust(size)


def soups(size: int) -> Iterator[tuple[str, str]]:
    """Hostile texts, each with its name."""
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


def parsing(_stores: Stores) -> Iterator[Round]:
    text = typical(1_000_000)
    rivals = {name: pattern for name, pattern in PLAIN.items() if same_turns(pattern, text)}
    if not rivals:
        raise RuntimeError("no plain pass finds the same turns")
    megabytes = len(text.encode()) / 1e6
    while True:
        with uncollected():
            taken = {name: median(seconds(pattern.findall, text) for _ in range(3)) for name, pattern in rivals.items()}
            ours = median(seconds(parse, text) for _ in range(3))
        best = min(taken, key=lambda name: taken[name])
        yield Round(megabytes / ours, megabytes / taken[best], f"the fastest plain pass is {PLAIN[best].pattern!r}")


#: Both sides of a figure about growth: seconds of processor time.
Pair = tuple[float, float]
WORST_ROUNDS = 3


def growth(stores: Stores) -> Iterator[Round]:
    large = 1_000_000 if stores.quick else 10_000_000
    texts = zip(soups(large // 10), soups(large), strict=True)
    kinds = {name: partial(_parses, tenth, whole) for (name, tenth), (_, whole) in texts}
    return worst(kinds)


def merging(_stores: Stores) -> Iterator[Round]:
    cases = zip(_merges(1_000), _merges(10_000), strict=True)
    kinds = {name: partial(_merged, few, many) for (name, *few), (_, *many) in cases}
    return worst(kinds)


def worst(kinds: Mapping[str, Callable[[], Pair]]) -> Iterator[Round]:
    """The rounds, in milliseconds, of the kind whose median grows most. The worst of each round would be chance."""
    measured: dict[str, list[Pair]] = {name: [] for name in kinds}
    for _ in range(WORST_ROUNDS):
        for name, measure in kinds.items():
            measured[name].append(measure())
    found = max(measured, key=lambda name: median(map(_ratio, measured[name])))
    for ours, against in measured[found]:
        yield Round(ours * 1e3, against * 1e3, f"the worst is {found!r}")


def _ratio(pair: Pair) -> float:
    return pair[0] / pair[1]


def _parses(tenth: str, whole: str) -> Pair:
    """Times of the whole text and of a tenth. The tenth is parsed ten times, so that both use the caches alike."""
    tenths = [f"{tenth[:-1]}{number}" for number in range(10)]
    with uncollected():
        times = max(1, int(0.005 / seconds(parse, tenth)))
        ours = seconds(parse, whole, times=times)
        return ours, seconds(lambda: [len(parse(text)) for text in tenths], times=times) / len(tenths)


def _merged(few: list[list[Turn]], many: list[list[Turn]]) -> Pair:
    with uncollected():
        return seconds(merge, *many), seconds(merge, *few, times=10)


def _merges(count: int) -> Iterator[tuple[str, list[Turn], list[Turn]]]:
    whole = conversation(count)
    edited = [Turn(turn.role, turn.content.upper()) if turn.role == "assistant" else turn for turn in whole]
    same = [Turn("user", "dạ")] * count
    yield "the same history", whole, whole
    yield "every reply edited", whole, edited
    yield "backwards", whole, whole[::-1]
    yield "nothing in common", whole, conversation(count, seed=1)
    yield "one text, over and over", same, same


FIGURES = (
    Figure(
        "history",
        "history parsing / a plain re pass",
        "a conversation's history of 1 MB, parsed",
        "the fastest plain re pass that captures the same turns",
        Target("≥", 0.5),
        parsing,
        unit="MB/s",
        seconds=8,
    ),
    Figure(
        "history-adversarial",
        "10 MB of adversarial tags / 1 MB",
        "10 MB of adversarial tags, the worst kind of 18",
        "1 MB of the same",
        Target("≤", 11),
        growth,
        unit="ms",
    ),
    Figure(
        "history-merge",
        "merging 10,000 turns / 1,000",
        "10,000 turns merged into as many archived ones, the worst kind of 5",
        "1,000 of the same",
        None,
        merging,
        unit="ms",
    ),
)
