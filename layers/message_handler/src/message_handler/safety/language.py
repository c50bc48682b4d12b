"""The compiled rules of one language, and a text as this language reads it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, NamedTuple

from message_handler.domain.safety import Level
from message_handler.safety.grammar import GRAMMARS, Grammar
from message_handler.safety.text import (
    NO_MARKS,
    Marks,
    Text,
    lacks_marks,
    marks_in_rules,
    plain_form,
    squeezed_form,
    squeezed_forms,
    undrawn,
)

#: The lengths of words that a typing error is looked for in. Shorter words are too close to each other.
SHORTEST, LONGEST = 5, 24
#: The most letters of a word in which a doubled letter makes another word: odd is not OD, and feel is not fel.
SHORT: Final = 4
_RUN_OF_THREE: Final = re.compile(r"(.)\1\1")
_ANY_RUN: Final = re.compile(r"(.)\1*")
_LONG_END: Final = re.compile(r"([aeiouy])\1$")
#: A word that could be a Vietnamese syllable is read as it stands, because each syllable is near to several others.
_SYLLABLE: Final = re.compile(
    r"(ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdghklmnpqrstvx])?"
    r"(uye|uya|uyu|ieu|yeu|uoi|uou|oai|oao|oay|oeo|uay|uao|[aeiouy]{1,2})(ch|nh|ng|[cmnpt])?"
)
_AS_THEY_STAND: Final = {"vi": _SYLLABLE}


#: For each word in plain form: how the rules write it, and what it stands for, each word in plain form and as written.
type Spellings = Mapping[str, Sequence[tuple[str, Sequence[tuple[str, str]]]]]


#: How a term stands in a text: `corrected` and `bare` of its hits, and its groups.
type Standing = tuple[bool, bool, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule without its patterns. `exceptions` is the group of its own idioms."""

    id: str
    level: Level
    about: str
    exceptions: int | None
    lowered_by: Mapping[str, Level | None]
    typing_errors: bool


class Pattern(NamedTuple):
    """Groups of terms that make a match of a rule: in their order with at most `limit` words between two of them, or
    in any order within `limit` words."""

    rule: int
    ordered: bool
    limit: int
    slots: tuple[int, ...]


# Parts of the compiled form are strings. Each is decoded when a text needs it, so that a start decodes none.


def encoded_forms(forms: Mapping[str, Sequence[int]]) -> str:
    """A term's written forms, and the groups that each of them is in."""
    return "|".join(f"{written}:{','.join(map(str, groups))}" for written, groups in forms.items())


def decoded_forms(coded: str) -> dict[str, list[int]]:
    pairs = (form.split(":") for form in coded.split("|") if form)
    return {written: list(map(int, groups.split(","))) for written, groups in pairs}


def encoded_terms(terms: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    """All terms, and their forms in the same order. Two long strings are read in half the time of a dict."""
    return ["/".join(terms), "/".join(map(encoded_forms, terms.values()))]


def decoded_terms(coded: Sequence[str]) -> dict[str, str]:
    terms, forms = (part.split("/") for part in coded)
    return dict(zip(terms, forms, strict=True))


def encoded_patterns(patterns: Iterable[Pattern]) -> str:
    return ";".join(
        f"{pattern.rule},{pattern.ordered:d},{pattern.limit},{','.join(map(str, pattern.slots))}"
        for pattern in patterns
    )


def decoded_patterns(coded: str) -> list[Pattern]:
    numbers = (tuple(map(int, pattern.split(","))) for pattern in coded.split(";") if pattern)
    return [Pattern(rule, bool(ordered), limit, tuple(slots)) for rule, ordered, limit, *slots in numbers]


class Hit(NamedTuple):
    """A term in a text: its first word, and the word after its last one.

    `corrected`: a typing error was put right. `bare`: the text lacks some of the term's marks.
    """

    start: int
    end: int
    corrected: bool
    bare: bool

    def overlaps(self, other: Hit) -> bool:
        return self.start < other.end and other.start < self.end


class Language:
    """The compiled rules of one language."""

    def __init__(self, compiled: Mapping[str, Any], without: Collection[str] = ()) -> None:
        self.compiled: Final = compiled
        self.code: Final[str] = compiled["language"]
        self.cues: Final[Mapping[str, int]] = compiled["cues"]
        self._marked: Final[bool] = compiled["marked"]
        self._terms: Final = decoded_terms(compiled["terms"])
        self._decoded: Final[dict[str, Sequence[tuple[str, Sequence[int]]]]] = {}
        self._patterns: Final[dict[int, Sequence[tuple[Pattern, frozenset[int]]]]] = {}
        self._spellings: Final[Spellings] = compiled["spellings"]
        self._unlike: Final = frozenset(compiled["unlike"])
        self._squeezed: Final[Mapping[str, Sequence[str]]] = compiled["squeezed"]
        self._known: Final = frozenset(compiled["known"])
        self._stays: Final = _AS_THEY_STAND.get(self.code)
        self._contractions: Final = GRAMMARS.get(self.code, Grammar()).contractions
        self._misspelt: Final = _Misspelt(compiled["corrigible"])
        self.rules: Final = [
            Rule(
                rule["id"],
                Level(rule["level"]),
                rule["about"],
                rule["except"],
                {kind: Level(level) if level else None for kind, level in rule["lowered_by"].items()},
                rule["typing_errors"],
            )
            for rule in compiled["rules"]
        ]
        self._without: Final = {number for number, rule in enumerate(self.rules) if rule.id in without}

    def patterns(self, group: int) -> Sequence[tuple[Pattern, frozenset[int]]]:
        """The patterns that start with a group, each with all its groups."""
        known = self._patterns.get(group)
        if known is None:
            decoded = decoded_patterns(self.compiled["patterns"].get(str(group), ""))
            kept = [pattern for pattern in decoded if pattern.rule not in self._without]
            known = self._patterns[group] = [(pattern, frozenset(pattern.slots)) for pattern in kept]
        return known

    def _forms(self, term: str) -> Sequence[tuple[str, Sequence[int]]]:
        """The written forms of a term with their groups."""
        known = self._decoded.get(term)
        if known is None:
            known = self._decoded[term] = list(decoded_forms(self._terms[term]).items())
        return known

    def read(self, text: Text) -> Reading:
        """The text with its words as this language spells them."""
        forms = dict(zip(text.squeezed, text.squeezed, strict=True))
        others = {}
        for word, ways in self._ways(text):
            known = [way for way in ways if way in self._known]
            forms[word] = known[0] if known else ways[-1]
            if len(known) > 1:
                others[word] = known[1:]
        corrected = set()
        for word in forms.keys() - self._known - self._unlike:
            form = forms[word]
            if form in self._known:
                continue
            squeezed = text.squeezed[word] if form == word else squeezed_form(form)
            same = None
            if squeezed in self._squeezed or (squeezed != form and squeezed in self._known):
                same = self._without_repeats(form, squeezed)
            if same is None and word in text.readings:
                same = next(filter(None, map(self._as_known, text.readings[word])), None)
            if same is None and self._may_be_misspelt(squeezed):
                same = self._misspelt.meant(squeezed)
                if same:
                    corrected.add(word)
            if same:
                forms[word] = same
        reading = Reading(text, forms, others, frozenset(corrected))
        if not self._spellings.keys().isdisjoint(forms.values()):
            reading.spell(self._spellings)
        return reading

    def _ways(self, text: Text) -> Iterator[tuple[str, Sequence[str]]]:
        """The words that may be another one with an end or with letters drawn out, each with all its forms."""
        contracted = {
            word: base
            for word, (base, end) in text.contracted.items()
            if end in self._contractions and word not in self._spellings
        }
        for word in dict.fromkeys((*contracted, *text.drawn)):
            ways = undrawn(word)
            yield word, (*ways, *undrawn(contracted[word])) if word in contracted else ways

    def _as_known(self, word: str) -> str | None:
        return word if word in self._known else self._without_repeats(word, squeezed_form(word))

    def _without_repeats(self, word: str, squeezed: str) -> str | None:
        """The word of the rules with the same letters, if each run of a letter counts once: "passed" for "pased"."""
        candidates = list(self._squeezed.get(squeezed, ()))
        if squeezed != word and squeezed in self._known:
            candidates.append(squeezed)
        if not candidates:
            return None
        if len(word) <= SHORT and squeezed in candidates and _is_a_word_of_its_own(word):
            candidates.remove(squeezed)
        runs = _runs(word)
        return min(candidates, key=lambda candidate: (_difference(runs, _runs(candidate)), candidate), default=None)

    def _may_be_misspelt(self, word: str) -> bool:
        return SHORTEST <= len(word) <= LONGEST and not (self._stays and self._stays.fullmatch(word))

    def hits(self, reading: Reading) -> dict[int, list[Hit]]:
        """All terms in a text, by their groups and in the order of their first words."""
        found: defaultdict[int, list[Hit]] = defaultdict(list)
        shown, known = reading.shown, reading.known_terms
        for start, end, term in self._terms_of_ways(reading) if reading.ways else self._terms_of(reading):
            key = term, shown[start] if end == start + 1 else " ".join(shown[start:end])
            groups = known.get(key)
            if groups is None:
                groups = known[key] = self._groups(reading, start, end, term)
            for corrected, bare, of in groups:
                hit = Hit(start, end, corrected, bare)
                for group in of:
                    found[group].append(hit)
        return dict(found)

    def _terms_of(self, reading: Reading) -> Iterator[tuple[int, int, str]]:
        """The first word of each term, the word after its last one, and the term."""
        words, terms = reading.words, self._terms
        last = len(words)
        for start in [place for place, word in enumerate(words) if word in terms]:
            end, term = start + 1, words[start]
            while True:
                # A longer term's start has an empty entry, so most searches end with the second word.
                if terms[term]:
                    yield start, end, term
                if end == last:
                    break
                term = f"{term} {words[end]}"
                if term not in terms:
                    break
                end += 1

    def _terms_of_ways(self, reading: Reading) -> Iterator[tuple[int, int, str]]:
        """The same for a text in which some words have several forms."""
        words, ways, terms = reading.words, reading.ways, self._terms
        for start in range(len(words)):
            begun = [form for form in (words[start], *ways.get(start, ())) if form in terms]
            end = start + 1
            while begun:
                yield from ((start, end, term) for term in begun if terms[term])
                if end == len(words):
                    break
                forms = (words[end], *ways.get(end, ()))
                longer = (f"{term} {form}" for term in begun for form in forms)
                begun = [term for term in longer if term in terms]
                end += 1

    def _groups(self, reading: Reading, start: int, end: int, term: str) -> list[Standing]:
        """The groups of a term that stands here. A word of the text must have no mark that the term lacks."""
        corrected = bool(reading.corrected) and any(map(reading.is_corrected, range(start, end)))
        if not self._marked:
            if reading.marked and any(self._is_foreign(reading, word) for word in range(start, end)):
                return []
            return [(corrected, False, groups) for _, groups in self._forms(term)]
        lacking = ((reading.lacks_marks(start, end, written), groups) for written, groups in self._forms(term))
        return [(corrected, bare, groups) for bare, groups in lacking if bare is not None]

    @staticmethod
    def _is_foreign(reading: Reading, word: int) -> bool:
        """Whether a word with Vietnamese marks is no word of a language without: bé is not be. Long words are no
        Vietnamese syllables, so marks disguise them."""
        if reading.marks(word) == NO_MARKS:
            return False
        return len(reading.words[word]) < SHORTEST or reading.is_corrected(word)


class Reading:
    """A text's words as a language spells them. One word of the text may be several here."""

    def __init__(
        self, text: Text, forms: Mapping[str, str], others: Mapping[str, Sequence[str]], corrected: frozenset[str]
    ) -> None:
        self.text: Final = text
        self._others: Final = others
        self.corrected: Final = corrected
        self.marked: Final = not text.original.isascii()
        self.words: list[str] = [forms[word] for word in text.words]
        self._owners: list[int] | None = None
        self._written: dict[int, str] = {}
        #: What `Language.hits` knows of terms that stand in this text more than once.
        self.known_terms: Final[dict[tuple[str, str], list[Standing]]] = {}

    def spell(self, spellings: Spellings) -> None:
        """Write out each word that is a spelling of others."""
        words: list[str] = []
        owners: list[int] = []
        done = 0
        for place in [place for place, word in enumerate(self.words) if word in spellings]:
            meant = spelled_out(spellings[self.words[place]], self.text.marks(place))
            if meant is None:
                continue
            words += self.words[done:place]
            owners += range(done, place)
            for form, written in meant:
                self._written[len(words)] = written
                words.append(form)
                owners.append(place)
            done = place + 1
        if done:
            owners += range(done, len(self.words))
            self.words = words + self.words[done:]
            self._owners = owners

    @cached_property
    def ways(self) -> Mapping[int, Sequence[str]]:
        """The other forms of the words that have several."""
        if not self._others:
            return {}
        owned = ((word, self.text.words[self.owner(word)]) for word in range(len(self.words)))
        return {
            word: self._others[plain] for word, plain in owned if plain in self._others and word not in self._written
        }

    @cached_property
    def unsure(self) -> frozenset[int]:
        """The words with letters drawn out that have several forms: "offf" is off as much as of."""
        return frozenset(word for word in self.ways if self.text.words[self.owner(word)] in self.text.drawn)

    def is_sure(self, hit: Hit) -> bool:
        return not self.unsure or self.unsure.isdisjoint(range(hit.start, hit.end))

    def owner(self, word: int) -> int:
        """The number of the text's word that this word comes from."""
        return word if self._owners is None else self._owners[word]

    def is_corrected(self, word: int) -> bool:
        return word not in self._written and self.text.words[self.owner(word)] in self.corrected

    def marks(self, word: int) -> Marks:
        written = self._written.get(word)
        return self.text.marks(self.owner(word)) if written is None else marks_in_rules(written)

    def lacks_marks(self, start: int, end: int, term: str) -> bool | None:
        """Whether these words lack a mark of the term. None if they have one that the term lacks."""
        bare = False
        for word, written in zip(range(start, end), term.split(" "), strict=True):
            if self.corrected and self.is_corrected(word):
                lacks = self._differs(word, written)
            else:
                lacks = lacks_marks(self.shown[word], written)
            if lacks is None:
                return None
            bare = bare or lacks
        return bare

    def _differs(self, word: int, written: str) -> bool | None:
        """`lacks_marks` of a corrected word: its letters stand elsewhere, so only its tone can be compared."""
        own, marks = self.marks(word), marks_in_rules(written)
        return own != marks if own.tone in ("", marks.tone) else None

    @cached_property
    def shown(self) -> list[str]:
        """Each word with its marks."""
        if self._owners is None:
            return self.text.raw
        shown = [self.text.raw[owner] for owner in self._owners]
        for word, written in self._written.items():
            shown[word] = written
        return shown

    def place(self, hits: Iterable[Hit]) -> tuple[tuple[int, int], ...]:
        """Where the words of these hits stand in the original text."""
        owners = {self.owner(word) for hit in hits for word in range(hit.start, hit.end)}
        return tuple(self.text.spans[owner] for owner in sorted(owners))

    @cached_property
    def sentences(self) -> list[int]:
        """The first words of the sentences, but for the first one."""
        return self._first_words(self.text.breaks[0])

    @cached_property
    def parts(self) -> list[int]:
        """The first words of all parts that a comma or the end of a sentence separates."""
        return self._first_words(self.text.breaks[1])

    def _first_words(self, owners: list[int]) -> list[int]:
        return owners if self._owners is None else [bisect_left(self._owners, owner) for owner in owners]


def spelled_out(
    spellings: Sequence[tuple[str, Sequence[tuple[str, str]]]], marks: Marks
) -> Sequence[tuple[str, str]] | None:
    """What a word with these marks stands for. A spelling with just these marks comes first.

    If the word lacks marks of the spelling, what it stands for has no marks either, and must have other letters.
    """
    for written, meant in spellings:
        if marks_in_rules(written) == marks:
            return meant
    for written, meant in spellings:
        plain = [form for form, _ in meant]
        if marks_in_rules(written).allow(marks) and plain != [plain_form(written)]:
            return [(form, form) for form in plain]
    return None


class _Misspelt:
    """Words that are one typing error away from a word of the rules.

    Two words are that near only if they become the same when each loses at most one letter. So each word of the rules
    is kept under all forms with one letter less.
    """

    def __init__(self, words: Sequence[str]) -> None:
        squeezed = dict(zip(squeezed_forms(words).values(), words, strict=True))
        cuts = [(word[:cut] + word[cut + 1 :], word) for word in squeezed for cut in range(len(word))]
        near = dict(cuts)
        several: dict[str, list[str]] = {}
        for form, word in cuts:
            if near[form] is not word:
                several.setdefault(form, []).append(word)
        self._words: Final = squeezed
        self._near: Final = near
        self._several: Final = several

    def meant(self, word: str) -> str | None:
        """The word of the rules that is misspelt here, whose letters are not repeated. Of several, one with the same
        first letter comes first, then one of the same length."""
        candidates = set()
        for cut in range(len(word)):
            form = word[:cut] + word[cut + 1 :]
            if form in self._words:
                candidates.add(form)
            if form in self._near:
                candidates.update((self._near[form], *self._several.get(form, ())))
        if word in self._near:
            candidates.update((self._near[word], *self._several.get(word, ())))
        meant = [candidate for candidate in candidates if is_one_error(word, candidate)]
        nearest = min(meant, key=lambda one: (one[0] != word[0], len(one) != len(word), one), default=None)
        return nearest and self._words[nearest]


def _is_a_word_of_its_own(word: str) -> bool:
    """Whether the doubled letters of a short word belong to it. Three in a row do not, and a vowel at its end may be
    drawn out: diee."""
    return not _RUN_OF_THREE.search(word) and not _LONG_END.search(word)


def _runs(word: str) -> list[int]:
    """How often each letter stands in a row."""
    return [len(found[0]) for found in _ANY_RUN.finditer(word)]


def _difference(some: Sequence[int], others: Sequence[int]) -> int:
    return sum(abs(one - other) for one, other in zip(some, others, strict=False))


def is_one_error(word: str, meant: str) -> bool:
    """Whether one letter is missing, extra or wrong, or two neighbours are swapped."""
    if len(word) != len(meant):
        longer, shorter = (word, meant) if len(word) > len(meant) else (meant, word)
        return len(longer) == len(shorter) + 1 and any(
            longer[:cut] + longer[cut + 1 :] == shorter for cut in range(len(longer))
        )
    wrong = [place for place, (a, b) in enumerate(zip(word, meant, strict=True)) if a != b]
    if len(wrong) == 1:
        return True
    return any(
        len(wrong) == 2 and second == first + 1 and word[first] == meant[second] and word[second] == meant[first]
        for first, second in pairwise(wrong)
    )
