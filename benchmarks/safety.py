"""How fast a text is checked for danger, whether the time grows in proportion to the length, and what a start costs.

Processor time, without the garbage collector. The shipped rules of all languages are applied. A plain Aho-Corasick pass
competes, which finds all their terms in the same words. It compares no marks, puts no typing error right, and knows
neither patterns nor cues.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from statistics import median

import ahocorasick

from benchmarks.figure import Figure, Round, Target, percentile, uncollected
from benchmarks.history import Pair, seconds, worst
from benchmarks.stores import Stores
from message_handler.safety.coding import terms_of
from message_handler.safety.rules import Rules, shipped
from message_handler.safety.text import plain_forms
from tests.safety.corpus_files import sentences

#: Invented messages of an ordinary day.
MESSAGES = (
    "Good morning, can I book a check-up for my daughter next Tuesday afternoon?",
    "The tablets from last week help, but I sometimes forget the one at noon.",
    "do I need to fast before the blood test tomorrow",
    "My knee still clicks when I climb stairs. It does not hurt much though.",
    "thank you doctor, the rash on his arm is nearly gone",
    "How long does the pharmacy stay open on public holidays?",
    "Dạ cho em hỏi phòng khám mình chủ nhật có làm việc không ạ",
    "Bé nhà em ho nhẹ mấy hôm nay, uống siro được không bác sĩ?",
    "em muốn dời lịch khám sang chiều thứ năm tuần sau",
    "Mẹ tôi bị cao huyết áp lâu năm, thuốc sắp hết thì mua lại ở đâu?",
    "cam on bac si, hom nay em do nhieu roi",
    "Kết quả xét nghiệm của tôi bao giờ có vậy ạ?",
)
#: Each text is repeated up to the size.
SOUPS = {
    "a cue": "not ",
    "a cue in Vietnamese": "không ",
    "negated matches": "no chest pain, ",
    "matches": "chest pain ",
    "matches in Vietnamese": "đau ngực ",
    "parts of a phrase": "want to ",
    "a list": "no cough or ",
    "long word": "a",
    "hidden characters": "k\u200bi\u200bl\u200bl\u200b",
    "digits for letters": "k1ll1ng ",
    "signs": "@",
    "look-alikes": "\u0441h\u0435st \u0440\u0430in ",
    "contractions": "can't ",
    "abbreviations": "ko dc ",
    "letters drawn out": "kiiilll ",
    "terms in any order": "pain left arm sweating jaw ",
}
SMALL, LARGE = 4 * 1024, 256 * 1024
#: The number of texts of which the slowest one of a hundred counts.
FRESH = 300
_START = """
import time
import bisect, json, pathlib, unicodedata
import message_handler.domain.jobs, message_handler.domain.safety
start = time.process_time()
from message_handler.safety.screening import screen
from message_handler.safety.rules import shipped
shipped()
print(1e3 * (time.process_time() - start))
"""


def typical(size: int, seed: int = 0) -> str:
    choose = random.Random(seed)
    text = ""
    while len(text) < size:
        text += choose.choice(MESSAGES) + "\n"
    return text[:size]


def misspelt(size: int) -> str:
    """Words that are all different and all look like typing errors."""
    choose = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = ""
    while len(text) < size:
        word = choose.choice(("breathing", "suicide", "bleeding", "unconscious", "overdose"))
        place = choose.randrange(len(word))
        text += word[:place] + choose.choice(letters) + word[place + 1 :] + choose.choice(letters) + " "
    return text[:size]


def checking(_stores: Stores) -> Iterator[Round]:
    rules = shipped()
    passes = [_plain_pass(terms) for terms in _terms(rules)]
    seed = 0
    while True:
        seed += 1
        text = typical(SMALL, seed)
        words = f" {' '.join(plain_forms(text.split()))} "
        with uncollected():
            ours = median(seconds(rules.find, text) for _ in range(20))
            theirs = median(seconds(_all_passes, passes, words) for _ in range(20))
        yield Round(ours * 1e3, theirs * 1e3)


def slowest(languages: Collection[str], _stores: Stores) -> Iterator[Round]:
    """Texts of everyday messages that the process has not read before, which no cache can help."""
    find = shipped().find
    everyday = [sentence for sentence in sentences() if sentence.category == "everyday"]
    pool = ["\n".join(sentence.texts) for sentence in everyday if sentence.language in languages]
    choose = random.Random(0)
    while True:
        texts = ["\n".join(choose.sample(pool, SMALL // 20))[:SMALL] for _ in range(FRESH)]
        with uncollected():
            taken = [1e3 * seconds(find, text) for text in texts]
        yield Round(percentile(taken, 0.99), note=f"{median(taken):.1f} ms in the median")


def starting(_stores: Stores) -> Iterator[Round]:
    """A fresh process that has what a start imports anyway."""
    while True:
        ended = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, timeout=60, check=True)
        yield Round(float(ended.stdout))


def growth(_stores: Stores) -> Iterator[Round]:
    kinds = {name: partial(_checked, (soup * SMALL)[:SMALL], (soup * LARGE)[:LARGE]) for name, soup in SOUPS.items()}
    kinds["typing errors"] = partial(_checked, misspelt(SMALL), misspelt(LARGE))
    return worst(kinds)


def _checked(small: str, large: str) -> Pair:
    find = shipped().find
    with uncollected():
        return seconds(find, large), seconds(find, small, times=20)


def _terms(rules: Rules) -> Iterator[list[str]]:
    for language in rules.compiled:
        yield list(terms_of(language))


def _plain_pass(terms: list[str]) -> Callable[[str], list[object]]:
    automaton = ahocorasick.Automaton()
    for term in terms:
        automaton.add_word(f" {term} ", term)
    automaton.make_automaton()
    return lambda words: list(automaton.iter(words))


def _all_passes(passes: list[Callable[[str], list[object]]], words: str) -> None:
    for find in passes:
        find(words)


FIGURES = (
    Figure(
        "safety",
        "the check for danger / a plain Aho-Corasick pass",
        "4 KiB of everyday messages checked with the rules of all languages",
        "an Aho-Corasick pass of each language over the same words, which finds the same terms",
        Target("≤", 30),
        checking,
        unit="ms",
        seconds=8,
    ),
    *(
        Figure(
            f"safety-{name}",
            f"the check for danger, {title}, p99",
            f"4 KiB of everyday messages, each of {FRESH} texts read once",
            "",
            Target("≤", 2),
            partial(slowest, languages),
            unit="ms",
            rounds=3,
            seconds=20,
        )
        for name, title, languages in (
            ("english", "English", ("en",)),
            ("vietnamese", "Vietnamese", ("vi",)),
            ("mixed", "both languages", ("en", "vi")),
        )
    ),
    Figure(
        "safety-start",
        "what the safety rules add to a start",
        "the processor's time to import and to load them, in a fresh process",
        "",
        Target("≤", 15),
        starting,
        unit="ms",
        seconds=5,
    ),
    Figure(
        "safety-adversarial",
        "256 KiB of adversarial text checked / 4 KiB",
        "256 KiB of adversarial text, the worst kind of 17",
        "4 KiB of the same",
        Target("≤", 96),
        growth,
        unit="ms",
    ),
)
