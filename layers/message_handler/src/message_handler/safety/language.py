"""The compiled rules of one language, and a text as this language reads it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, KeysView, Mapping, Sequence
from functools import cache, cached_property
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
    plain_forms,
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
_SYLLABLE: Final = (
    r"(ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdghklmnpqrstvx])?"
    r"(uye|uya|uyu|ieu|yeu|uoi|uou|oai|oao|oay|oeo|uay|uao|[aeiouy]{1,2})(ch|nh|ng|[cmnpt])?"
)
_LANGUAGES_OF_SYLLABLES: Final = ("vi",)


#: What a spelling stands for: how the rules write it, and each word in plain form and as written.
type Spelling = tuple[str, Sequence[tuple[str, str]]]


class Rule(NamedTuple):
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


def encoded_terms(terms: Mapping[str, Mapping[str, Sequence[int]]]) -> Mapping[str, str]:
    """For each first word of a term a string of all its terms, each with its groups.

    A term without marks is there without its first word, because the string belongs to it. A term with marks is there
    as it is written: its plain form can be had from that.
    """
    blocks: dict[str, list[str]] = {}
    for term, forms in sorted(terms.items()):
        first, _, rest = term.partition(" ")
        for written, groups in forms.items():
            shown = f">{written}" if written else rest
            blocks.setdefault(first, []).append(f"{shown}:{','.join(map(str, groups))}")
    return {first: "|".join(block) for first, block in blocks.items()}


def decoded_terms(first: str, coded: str) -> Iterator[tuple[Sequence[str], str, Sequence[int]]]:
    """The terms with this first word: their words in plain form, how they are written if that has marks, and their
    groups."""
    for term in coded.split("|"):
        shown, _, groups = term.rpartition(":")
        is_marked = shown.startswith(">")
        words = plain_forms(shown[1:].split(" ")) if is_marked else [first, *shown.split()]
        yield words, shown[1:] if is_marked else "", list(map(int, groups.split(",")))


def terms_of(compiled: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """All terms of a compiled language in plain form, with their written forms and groups."""
    terms: dict[str, dict[str, list[int]]] = {}
    first, _, _ = decoded_words(compiled["words"])
    for word, coded in zip(first, compiled["terms"].split("/") if first else (), strict=True):
        for words, written, groups in decoded_terms(word, coded):
            terms.setdefault(" ".join(words), {})[written] = list(groups)
    return terms


def encoded_patterns(patterns: Iterable[Pattern]) -> Mapping[str, str]:
    """The patterns by the one of their groups that the fewest patterns have. Only with it they are looked at."""
    kept = list(patterns)
    uses = Counter(slot for pattern in kept for slot in set(pattern.slots))
    by_group: dict[int, list[str]] = {}
    for rule, ordered, limit, slots in kept:
        rarest = min(slots, key=lambda slot: (uses[slot], -slot))
        by_group.setdefault(rarest, []).append(",".join(map(str, (rule, int(ordered), limit, *slots))))
    return {str(group): ";".join(coded) for group, coded in sorted(by_group.items())}


def decoded_patterns(coded: str) -> list[Pattern]:
    numbers = (tuple(map(int, pattern.split(","))) for pattern in coded.split(";") if pattern)
    return [Pattern(rule, bool(ordered), limit, tuple(slots)) for rule, ordered, limit, *slots in numbers]


def encoded_spellings(spellings: Mapping[str, Sequence[Spelling]]) -> Mapping[str, str]:
    return {
        word: "|".join(f"{written}>{' '.join(raw for _, raw in meant)}" for written, meant in several)
        for word, several in spellings.items()
    }


def decoded_spellings(coded: str) -> list[Spelling]:
    decoded: list[Spelling] = []
    for spelling in coded.split("|"):
        written, _, meant = spelling.partition(">")
        raw = meant.split(" ")
        decoded.append((written, list(zip(plain_forms(raw), raw, strict=True))))
    return decoded


def encoded_words(known: Iterable[str], first: Container[str], corrigible: Container[str]) -> list[str]:
    """All words of a language: first words of terms that are corrigible, other first words, other corrigible words,
    and the rest."""
    parts: list[list[str]] = [[], [], [], []]
    for word in sorted(known):
        parts[2 * (word not in first) + (word not in corrigible)].append(word)
    return [" ".join(part) for part in parts]


def decoded_words(parts: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The first words of terms, the corrigible words, and all words."""
    both, first, corrigible, rest = (part.split() for part in parts)
    return both + first, both + corrigible, both + first + corrigible + rest


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

    def __init__(self, compiled: Mapping[str, Any]) -> None:
        self.compiled: Final = compiled
        self.code: Final[str] = compiled["language"]
        self.cues: Final[Mapping[str, int]] = compiled["cues"]
        self._marked: Final[bool] = compiled["marked"]
        first, self._corrigible, known = decoded_words(compiled["words"])
        self._known: Final = frozenset(known)
        self._coded: Final = dict(zip(first, compiled["terms"].split("/"), strict=True)) if first else {}
        self._nodes: Final[dict[str, _Node]] = {}
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

    def patterns(self, group: int) -> Sequence[tuple[Pattern, frozenset[int]]]:
        """The patterns whose rarest group this is, each with all its groups."""
        known = self._patterns.get(group)
        if known is None:
            decoded = decoded_patterns(self.compiled["patterns"].get(str(group), ""))
            known = self._patterns[group] = [(pattern, frozenset(pattern.slots)) for pattern in decoded]
        return known

    def spelled_out(self, word: str, marks: Marks) -> Sequence[tuple[str, str]] | None:
        """What a word with these marks stands for."""
        if word not in self._decoded_spellings:
            self._decoded_spellings[word] = decoded_spellings(self._spellings[word])
        return spelled_out(self._decoded_spellings[word], marks)

    def _node(self, word: str) -> _Node | None:
        """The terms that start with a word."""
        node = self._nodes.get(word)
        if node is None and word in self._coded:
            node = self._nodes[word] = _Node()
            for words, written, groups in decoded_terms(word, self._coded[word]):
                node.add(words[1:], written, groups)
        return node

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

    def _may_be_misspelt(self, word: str) -> bool:
        if not SHORTEST <= len(word) <= LONGEST:
            return False
        return self.code not in _LANGUAGES_OF_SYLLABLES or not _syllable().fullmatch(word)

    def hits(self, reading: Reading) -> Hits:
        """All terms in a text, by their groups."""
        hits = Hits()
        shown = reading.shown
        known: dict[_Node | tuple[_Node, str], Sequence[_Standing]] = {}
        alike = not self._marked and not reading.marked and not reading.corrected
        for start, end, node in self._terms_of_ways(reading) if reading.ways else self._terms_of(reading):
            written = shown[start] if end == start + 1 else " ".join(shown[start:end])
            key = node if alike else (node, written)
            standings = known.get(key)
            if standings is None:
                standings = known[key] = list(self._standings(reading, start, end, node, written))
                for standing in standings:
                    hits.add(standing)
            for standing in standings:
                standing.starts.append(start)
        return hits

    def _terms_of(self, reading: Reading) -> Iterator[tuple[int, int, _Node]]:
        """The first word of each term, the word after its last one, and the term."""
        nodes = {word: self._node(word) for word in set(reading.words)}
        # No term has the empty word at the end.
        words = [*reading.words, ""]
        for start, first in enumerate(map(nodes.__getitem__, reading.words)):
            node, end = first, start + 1
            while node:
                if node.forms:
                    yield start, end, node
                if not node.longer:
                    break
                node = node.longer.get(words[end])
                end += 1

    def _terms_of_ways(self, reading: Reading) -> Iterator[tuple[int, int, _Node]]:
        """The same for a text in which some words have several forms."""
        words, ways = reading.words, reading.ways
        for start in range(len(words)):
            found = map(self._node, (words[start], *ways.get(start, ())))
            nodes, end = [node for node in found if node], start + 1
            while nodes:
                yield from ((start, end, node) for node in nodes if node.forms)
                if end == len(words):
                    break
                forms = (words[end], *ways.get(end, ()))
                longer = (node.longer.get(form) for node in nodes for form in forms)
                nodes = [node for node in longer if node]
                end += 1

    def _standings(self, reading: Reading, start: int, end: int, term: _Node, shown: str) -> Iterator[_Standing]:
        """How a term stands here. A word of the text must have no mark that the term lacks."""
        corrected = bool(reading.corrected) and any(map(reading.is_corrected, range(start, end)))
        has_marks = not shown.isascii()
        if not self._marked and has_marks and any(self._is_foreign(reading, word) for word in range(start, end)):
            return
        for written, groups in term.forms:
            bare: bool | None = False
            # Most terms stand in the text just as the rules write them.
            if self._marked and written != shown and (written or has_marks):
                bare = reading.lacks_marks(start, end, written)
            if bare is not None:
                yield _Standing(end - start, corrected, bare, groups)

    @staticmethod
    def _is_foreign(reading: Reading, word: int) -> bool:
        """Whether a word with Vietnamese marks is no word of a language without: bé is not be. Long words are no
        Vietnamese syllables, so marks disguise them."""
        if reading.marks(word) == NO_MARKS:
            return False
        return len(reading.words[word]) < SHORTEST or reading.is_corrected(word)


class _Node:
    """A term, or the start of longer ones. `forms` are its written forms with their groups."""

    __slots__ = ("forms", "longer")

    def __init__(self) -> None:
        self.forms: list[tuple[str, Sequence[int]]] = []
        self.longer: dict[str, _Node] = {}

    def add(self, rest: Sequence[str], written: str, groups: Sequence[int]) -> None:
        node = self
        for word in rest:
            node = node.longer.setdefault(word, _Node())
        node.forms.append((written, groups))


class _Standing:
    """A term as it stands in a text, one or several times."""

    __slots__ = ("bare", "corrected", "groups", "length", "starts")

    def __init__(self, length: int, corrected: bool, bare: bool, groups: Sequence[int]) -> None:
        self.length: Final = length
        self.corrected: Final = corrected
        self.bare: Final = bare
        self.groups: Final = groups
        self.starts: Final[list[int]] = []

    def hits(self) -> Iterator[Hit]:
        return (Hit(start, start + self.length, self.corrected, self.bare) for start in self.starts)


class Hits:
    """The terms in a text by their groups. Hits are made for the groups that a pattern or a cue asks for."""

    def __init__(self) -> None:
        self._standings: Final[dict[int, list[_Standing]]] = {}
        self._made: Final[dict[int, Sequence[Hit]]] = {}

    def add(self, standing: _Standing) -> None:
        for group in standing.groups:
            self._standings.setdefault(group, []).append(standing)

    @property
    def groups(self) -> KeysView[int]:
        return self._standings.keys()

    def of(self, group: int | None) -> Sequence[Hit]:
        """The hits of a group in the order of their first words."""
        if group is None or group not in self._standings:
            return ()
        made = self._made.get(group)
        if made is None:
            made = sorted(hit for standing in self._standings[group] for hit in standing.hits())
            self._made[group] = made
        return made


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

    def spell(
        self, spellings: Container[str], spelled_out: Callable[[str, Marks], Sequence[tuple[str, str]] | None]
    ) -> None:
        """Write out each word that is a spelling of others."""
        words: list[str] = []
        owners: list[int] = []
        done = 0
        for place in [place for place, word in enumerate(self.words) if word in spellings]:
            meant = spelled_out(self.words[place], self.text.marks(place))
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
        words = range(start, end)
        # A term without marks is not written here.
        for word, written in zip(words, term.split(" ") if term else [""] * len(words), strict=True):
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


def spelled_out(spellings: Sequence[Spelling], marks: Marks) -> Sequence[tuple[str, str]] | None:
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


class Misspelt:
    """Words that are one typing error away from a word of the rules.

    An error concerns one letter or two neighbours, so it leaves the start or the end of a word as it is. Mostly it also
    leaves the first and the last letter. `words` has each word by its form without repeated letters.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words: Final = words
        #: By the first half and the last letter, and by the first letter and the last half.
        self._inside: Final = defaultdict[str, list[str]](list)
        #: By all letters but the first one, and by all but the last one.
        self._behind: Final = defaultdict[str, list[str]](list)
        self._before: Final = defaultdict[str, list[str]](list)
        for word in words:
            half = len(word) // 2
            self._inside[f"{word[:half]} {word[-1]}"].append(word)
            self._inside[f"{word[0]}  {word[half + 1 - len(word) :]}"].append(word)
            self._behind[word[1:]].append(word)
            self._before[word[:-1]].append(word)

    def meant(self, word: str) -> str | None:
        """The word of the rules that is misspelt here, whose letters are not repeated. Of several, one with the same
        first letter comes first, then one of the same length."""
        meant = {candidate for candidate in self._candidates(word) if is_one_error(word, candidate)}
        nearest = min(meant, key=lambda one: (one[0] != word[0], len(one) != len(word), one), default=None)
        return nearest and self._words[nearest]

    def _candidates(self, word: str) -> Iterator[str]:
        for length in (len(word) - 1, len(word), len(word) + 1):
            half = length // 2
            yield from self._inside.get(f"{word[:half]} {word[-1]}", ())
            yield from self._inside.get(f"{word[0]}  {word[half + 1 - length :]}", ())
        for behind in (word, word[1:]):
            yield from self._behind.get(behind, ())
        for before in (word, word[:-1]):
            yield from self._before.get(before, ())
        shorter_or_swapped = (word[1:], word[:-1], word[1] + word[0] + word[2:], word[:-2] + word[-1] + word[-2])
        yield from (form for form in shorter_or_swapped if form in self._words)


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


def is_one_error(word: str, meant: str) -> bool:
    """Whether one letter is missing, extra or wrong, or two neighbours are swapped."""
    shorter = min(len(word), len(meant))
    first = 0
    for one, other in zip(word, meant, strict=False):
        if one != other:
            break
        first += 1
    if len(word) == len(meant):
        swapped = word[first : first + 2] == meant[first : first + 2][::-1] and word[first + 2 :] == meant[first + 2 :]
        return first < shorter and (swapped or word[first + 1 :] == meant[first + 1 :])
    if len(word) > len(meant):
        return word[first + 1 :] == meant[first:]
    return word[first:] == meant[first + 1 :]
