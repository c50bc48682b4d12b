"""The compiled rules of one language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache, cached_property
from typing import Any, Final, NamedTuple

from message_handler.domain.safety import Level
from message_handler.safety.coding import Pattern, Spelling, decoded_patterns, decoded_spellings, decoded_words
from message_handler.safety.grammar import GRAMMARS, Grammar
from message_handler.safety.hits import Hits
from message_handler.safety.misspelt import LONGEST, SHORTEST, Misspelt
from message_handler.safety.reading import Reading, spelled_out
from message_handler.safety.terms import Terms
from message_handler.safety.text import Marks, Text, squeezed_form, squeezed_forms, undrawn

#: The most letters of a word in which a doubled letter makes another word: odd is not OD, and feel is not fel.
SHORT: Final = 4
_RUN_OF_THREE: Final = re.compile(r"(.)\1\1")
_ANY_RUN: Final = re.compile(r"(.)\1*")
_LONG_END: Final = re.compile(r"([aeiouy])\1$")
#: A word that could be a Vietnamese syllable is read as it stands, because each syllable is near to several others.
_SYLLABLE: Final = (
    r"(ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdghklmnpqrstvx])?"
    r"(uye|uya|uyu|ieu|yeu|uoi|uou|oai|oao|oay|oeo|uay|uao|[aeiouy]{1,2})(ch|nh|ng|[cmnpt])?"
)
_LANGUAGES_OF_SYLLABLES: Final = ("vi",)
#: The kinds of cues that count wherever they stand in a match's sentence.
ANYWHERE: Final = ("past", "other", "information", "routine")


class Rule(NamedTuple):
    """A rule without its patterns. `exceptions` is the group of its own idioms."""

    id: str
    level: Level
    about: str
    exceptions: int | None
    lowered_by: Mapping[str, Level | None]
    typing_errors: bool


class Language:
    """The compiled rules of one language."""

    def __init__(self, compiled: Mapping[str, Any]) -> None:
        self.compiled: Final = compiled
        self.code: Final[str] = compiled["language"]
        self.cues: Final[Mapping[str, int]] = compiled["cues"]
        self._marked: Final[bool] = compiled["marked"]
        first, self._corrigible, known = decoded_words(compiled["words"])
        self._known: Final = frozenset(known)
        self._terms: Final = Terms(dict(zip(first, compiled["terms"].split("/"), strict=True)) if first else {})
        self._patterns: Final[dict[int, Sequence[tuple[Pattern, frozenset[int]]]]] = {}
        self._spellings: Final[Mapping[str, str]] = compiled["spellings"]
        self._decoded_spellings: Final[dict[str, Sequence[Spelling]]] = {}
        self._contractions: Final = GRAMMARS.get(self.code, Grammar()).contractions

    @cached_property
    def rules(self) -> Sequence[Rule]:
        return [
            Rule(
                rule["id"],
                Level(rule["level"]),
                rule["about"],
                rule["except"],
                {kind: Level(level) if level else None for kind, level in rule["lowered_by"].items()},
                rule["typing_errors"],
            )
            for rule in self.compiled["rules"]
        ]

    @cached_property
    def _unlike(self) -> frozenset[str]:
        return frozenset(self.compiled["unlike"].split())

    @cached_property
    def _squeezed(self) -> Mapping[str, Sequence[str]]:
        """The words that have a repeated letter, by their form without."""
        squeezed: dict[str, list[str]] = {}
        for word, form in squeezed_forms(self.compiled["repeated"].split()).items():
            squeezed.setdefault(form, []).append(word)
        return squeezed

    @cached_property
    def _misspelt(self) -> Misspelt:
        squeezed = {word: form for form, words in self._squeezed.items() for word in words}
        return Misspelt({squeezed.get(word, word): word for word in self._corrigible})

    def _possible(self, groups: AbstractSet[int]) -> Mapping[int, Sequence[Pattern]]:
        """The patterns whose groups are all among these, by their rarest group."""
        possible = {}
        for group in groups & self._rarest:
            if group not in self._patterns:
                decoded = decoded_patterns(self.compiled["patterns"][str(group)])
                self._patterns[group] = [(pattern, frozenset(pattern.slots)) for pattern in decoded]
            complete = [pattern for pattern, needed in self._patterns[group] if needed <= groups]
            if complete:
                possible[group] = complete
        return possible

    @cached_property
    def _rarest(self) -> frozenset[int]:
        """The groups by which the patterns are kept."""
        return frozenset(map(int, self.compiled["patterns"]))

    @cached_property
    def _lowering(self) -> frozenset[int]:
        """The groups whose words lower a match or void it: cues and exceptions."""
        exceptions = [rule.exceptions for rule in self.rules if rule.exceptions is not None]
        return frozenset([*self.cues.values(), *exceptions])

    def spelled_out(self, word: str, marks: Marks) -> Sequence[tuple[str, str]] | None:
        """What a word with these marks stands for."""
        if word not in self._decoded_spellings:
            self._decoded_spellings[word] = decoded_spellings(self._spellings[word])
        return spelled_out(self._decoded_spellings[word], marks)

    def read(self, text: Text) -> Reading:
        """The text with its words as this language spells them."""
        forms: dict[str, str] = {}
        others = {}
        for word, ways in self._ways(text):
            known = [way for way in ways if way in self._known]
            forms[word] = known[0] if known else ways[-1]
            if len(known) > 1:
                others[word] = known[1:]
        corrected = set()
        for word in text.squeezed.keys() - self._known - self._unlike:
            form, squeezed = word, text.squeezed[word]
            if word in forms:
                form = forms[word]
                if form in self._known:
                    continue
                squeezed = squeezed_form(form)
            same = None
            if squeezed in self._squeezed or (squeezed != form and squeezed in self._known):
                same = self._without_repeats(form, squeezed)
            if same is None and word in text.readings:
                same = next(filter(None, map(self._as_known, text.readings[word])), None)
            if same is None and SHORTEST <= len(squeezed) <= LONGEST and not self._is_syllable(squeezed):
                same = self._misspelt.meant(squeezed)
                if same:
                    corrected.add(word)
            if same:
                forms[word] = same
        reading = Reading(text, forms, others, frozenset(corrected))
        if not self._spellings.keys().isdisjoint((*text.squeezed, *forms.values())):
            reading.spell(self._spellings.keys(), self.spelled_out)
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

    def _is_syllable(self, word: str) -> bool:
        """Whether this language has such syllables. Each is near to several others, so it is read as it stands."""
        return self.code in _LANGUAGES_OF_SYLLABLES and bool(_syllable().fullmatch(word))

    def hits(self, reading: Reading) -> Hits:
        """All terms in a text, by their groups."""
        found = self._terms.found(reading)
        groups = frozenset[int]().union(*[term.groups for term in found])
        possible = self._possible(groups)
        return Hits(self._marked, reading, found, possible, self._lowering if possible else frozenset())


@cache
def _syllable() -> re.Pattern[str]:
    """Compiled at the first use, because that takes longer than to load all rules."""
    return re.compile(_SYLLABLE)


def _is_a_word_of_its_own(word: str) -> bool:
    """Whether the doubled letters of a short word belong to it. Three in a row do not, and a vowel at its end may be
    drawn out: diee."""
    return not _RUN_OF_THREE.search(word) and not _LONG_END.search(word)


def _runs(word: str) -> list[int]:
    """How often each letter stands in a row."""
    return [len(found[0]) for found in _ANY_RUN.finditer(word)]


def _difference(some: Sequence[int], others: Sequence[int]) -> int:
    return sum(abs(one - other) for one, other in zip(some, others, strict=False))
