"""A change that keeps a message's sense never lowers its level: letters, blanks, marks, disguise, politeness, order.

Each change is made to explicit sentences of the development half. What is chosen at random is the same in each run.
"""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Callable
from functools import cache

import pytest

from message_handler.domain.safety import Level
from message_handler.safety.rules import Rules, shipped
from message_handler.safety.screening import screen
from tests.safety.corpus_files import sentences
from tests.safety.samples import RULES

#: With these the tests also run while the corpus is empty.
SAMPLES = (
    "I can't breathe",
    "My chest feels very tight, please help",
    "I cannot really breathe and I want to die",
    "no fever but chest pain!",
    "Con đau quá ngực",
    "tôi muốn tự tử",
    "Không sốt nhưng đau ngực",
)
LOOK_ALIKES = str.maketrans({"a": "а", "c": "с", "e": "е", "i": "і", "o": "о", "p": "р", "s": "ѕ", "x": "х", "y": "у"})
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(ord("a"), ord("z") + 1)})
POLITE = {
    "en": (("Hello doctor,", "Good morning.", "Please help:"), ("Thank you.", "Thanks so much", "please")),
    "vi": (("Dạ", "Chào bác sĩ,", "Cho em hỏi."), ("ạ", "Em cảm ơn.", "giúp em với")),
}

#: The sentences of each language that are changed: SENTENCES=10000 changes all.
MOST = int(os.environ.get("SENTENCES", "300"))

type Change = Callable[[str, random.Random], str]


def without_marks(text: str) -> str:
    plain = unicodedata.normalize("NFD", text.replace("đ", "d").replace("Đ", "D"))
    return "".join(character for character in plain if not unicodedata.combining(character))


def with_hidden_characters(text: str, choose: random.Random) -> str:
    return "".join(
        character + choose.choice(["", "", "\u200b", "\u200d", "\u00ad", "\ufeff"])
        if character.isalpha()
        else character
        for character in text
    )


def with_look_alikes(text: str, choose: random.Random) -> str:
    return "".join(letter.translate(LOOK_ALIKES) if choose.random() < 0.5 else letter for letter in text)


def with_random_case(text: str, choose: random.Random) -> str:
    return "".join(choose.choice([letter.lower(), letter.upper()]) for letter in text)


def with_more_blanks(text: str, choose: random.Random) -> str:
    return "".join(choose.choice([" ", "  ", "\t", "\n", "\u00a0"]) if letter == " " else letter for letter in text)


def with_longer_ends(text: str, choose: random.Random) -> str:
    return " ".join(
        word + word[-1] * 2 if word.isalpha() and choose.random() < 0.5 else word for word in text.split(" ")
    )


def with_the_other_hook(text: str) -> str:
    """Hỏi for ngã and ngã for hỏi, as many people mix them up."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).translate({0x303: 0x309, 0x309: 0x303}))


CHANGES: dict[str, Change] = {
    "lower case": lambda text, _: text.lower(),
    "capitals": lambda text, _: text.upper(),
    "random case": with_random_case,
    "more blanks": with_more_blanks,
    "hidden characters": with_hidden_characters,
    "look-alikes": with_look_alikes,
    "full-width letters": lambda text, _: text.translate(FULL_WIDTH),
    "decomposed marks": lambda text, _: unicodedata.normalize("NFD", text),
    "the other hook": lambda text, _: with_the_other_hook(text),
    "curly apostrophes": lambda text, _: text.replace("'", "\u2019"),
    "longer ends": with_longer_ends,
}


@cache
def explicit() -> tuple[tuple[Rules, str, str, Level], ...]:
    """Sentences whose danger is found: rules, language, text and level.

    A test that fails shows its sentence, so none is of the test half.
    """
    known = [each for each in sentences() if (each.category, each.half) == ("explicit", "development")]
    random.Random(0).shuffle(known)
    chosen = (each for code in POLITE for each in [each for each in known if each.language == code][:MOST])
    corpus = [(shipped(), each.language, each.texts[0]) for each in chosen]
    samples = [(RULES, "en" if text.isascii() else "vi", text) for text in SAMPLES]
    return tuple(
        (rules, language, text, screened.level)
        for rules, language, text in (*samples, *corpus)
        if (screened := screen(rules, [text])) is not None
    )


def strength(rules: Rules, texts: list[str]) -> int:
    screened = screen(rules, texts)
    return screened.level.rank if screened else 0


def lowered(kind: str, change: Callable[[str, str, random.Random], list[str]]) -> list[list[str]]:
    """The changed texts whose level is less than the sentence's."""
    changes = (
        (rules, level, change(text, language, random.Random(f"{kind} {text}")))
        for rules, language, text, level in explicit()
    )
    return [texts for rules, level, texts in changes if strength(rules, texts) < level.rank]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_words_written_otherwise(change: str) -> None:
    assert lowered(change, lambda text, _, choose: [CHANGES[change](text, choose)]) == []


def test_words_without_their_marks() -> None:
    """What the rules list as everyday talk without its marks ("tu van": tư vấn as much as tự vẫn) may count for
    nothing. Nothing else lowers the level."""
    for rules, _, text, level in explicit():
        bare = without_marks(text)
        if strength(rules, [bare]) < level.rank:
            found = {finding.rule for finding in rules.find(text) if finding.level >= level}
            assert found <= everyday(rules, bare), bare


def everyday(rules: Rules, text: str) -> set[str]:
    """The rules with a match that idioms alone void."""
    return {match.rule for match in rules.explain(text) if {kind for kind, _ in match.lowered} == {"idiom"}}


def test_polite_words_around() -> None:
    def politely(text: str, language: str, choose: random.Random) -> list[str]:
        starts, ends = POLITE.get(language, POLITE["en"])
        return [f"{choose.choice(starts)} {text} {choose.choice(ends)}"]

    assert lowered("polite", politely) == []


@pytest.mark.parametrize("count", [2, 3])
def test_one_message_split_into_several_in_any_order(count: int) -> None:
    def split(text: str, _: str, choose: random.Random) -> list[str]:
        words = text.split(" ")
        cuts = sorted(choose.choices(range(len(words) + 1), k=count - 1))
        parts = [" ".join(words[a:b]) for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
        if len(text) <= 390:
            choose.shuffle(parts)
        return parts

    assert lowered(f"split {count}", split) == []


def test_other_messages_beside_it() -> None:
    texts = [text for _, _, text, _ in explicit()]

    def beside(text: str, _: str, choose: random.Random) -> list[str]:
        return [choose.choice(texts), text, choose.choice(texts)]

    assert lowered("beside", beside) == []
