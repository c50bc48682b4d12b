"""The compiled rules of one language, and a text as this language reads it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache, cached_property
from itertools import compress, count
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
#: The most words of a term. More would make a text's check slow.
MOST_WORDS: Final = 12
#: Fewer bits than these are set one by one. For many bits that would take a time that is quadratic.
_FEW: Final = 8
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
        """The groups of what lowers or voids a match."""
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
        found = self._found(reading)
        groups = frozenset[int]().union(*[node.groups for node in found])
        possible = self._possible(groups)
        return Hits(self._marked, reading, found, possible, self._lowering if possible else frozenset())

    def _found(self, reading: Reading) -> Mapping[_Node, Sequence[int]]:
        """The terms that have a reading's words in the order of the text, each with the places of its first word."""
        self._decode(set(reading.words).union(*reading.ways.values()))
        found: dict[_Node, list[int]] = defaultdict(list)
        # No term has the empty word. So a word with several forms ends the search here, and has one of its own.
        words = [*reading.words, ""]
        for place in reading.ways:
            words[place] = ""
        for start, first in enumerate(map(self._nodes.get, words)):
            if first is None:
                continue
            node, end = first, start + 1
            while True:
                if node.forms is not None:
                    found[node].append(start)
                if node.longer is None:
                    break
                longer = node.longer.get(words[end])
                if longer is None:
                    break
                node, end = longer, end + 1
        if not reading.ways:
            return found
        for start, place in _reach(reading.ways).items():
            self._find_in_ways(reading, start, place, found)
        places = ((sorted(starts), node) for node, starts in found.items())
        return {node: starts for starts, node in sorted(places, key=lambda term: (term[0][0], term[1].length))}

    def _find_in_ways(self, reading: Reading, start: int, place: int, found: Mapping[_Node, list[int]]) -> None:
        """Add the terms that start here and have the word at this place, which has several forms."""
        words, ways, end = reading.words, reading.ways, start
        followers: list[Mapping[str, _Node]] = [self._nodes]
        while followers and end < len(words):
            forms = (words[end], *ways.get(end, ()))
            nodes = [node for longer in followers for form in forms if (node := longer.get(form))]
            end += 1
            if end > place:
                for node in nodes:
                    if node.forms:
                        found[node].append(start)
            followers = [node.longer for node in nodes if node.longer]

    def _decode(self, words: AbstractSet[str]) -> None:
        """Decode the terms that start with these words."""
        for word in (words & self._coded.keys()) - self._nodes.keys():
            node = self._nodes[word] = _Node(1)
            for rest, written, groups in decoded_terms(word, self._coded[word]):
                node.add(rest[1:], written, groups)


class _Node:
    """A term, or the start of longer ones. `forms` are its written forms with their groups, `groups` all of these."""

    __slots__ = ("forms", "groups", "length", "longer")

    def __init__(self, length: int) -> None:
        self.length: Final = length
        # None takes no look at another place of the memory, unlike an empty list.
        self.forms: list[tuple[str, Sequence[int]]] | None = None
        self.longer: dict[str, _Node] | None = None
        #: A set in the order of the forms.
        self.groups: Final[dict[int, None]] = {}

    def add(self, rest: Sequence[str], written: str, groups: Sequence[int]) -> None:
        node = self
        for word in rest:
            node.longer = node.longer or {}
            node = node.longer.setdefault(word, _Node(node.length + 1))
        node.forms = [*(node.forms or ()), (written, groups)]
        node.groups.update(dict.fromkeys(groups))


class Hits:
    """The terms in a text by their groups, and the patterns that may be there.

    Most texts have many terms and few patterns. So hits are made, and marks compared, for the groups of those alone.
    """

    def __init__(
        self,
        marked: bool,
        reading: Reading,
        found: Mapping[_Node, Sequence[int]],
        possible: Mapping[int, Sequence[Pattern]],
        lowering: frozenset[int],
    ) -> None:
        self._marked: Final = marked
        self._reading: Final = reading
        self._found: Final = found
        #: For each group that counts its nodes in the order of the text.
        self._nodes: Final[dict[int, list[_Node]]] = defaultdict(list)
        self._possible: Final = possible
        self._hits: Final[dict[_Node, Sequence[tuple[Sequence[int], Sequence[Hit]]]]] = {}
        self._made: Final[dict[int, Sequence[Hit]]] = {}
        if possible:
            slots = [pattern.slots for patterns in possible.values() for pattern in patterns]
            wanted = lowering.union(*slots)
            for node in found:
                for group in node.groups:
                    if group in wanted:
                        self._nodes[group].append(node)

    @cached_property
    def patterns(self) -> Sequence[Pattern]:
        """The patterns whose terms stand close enough together, in the order of the text."""
        places = _Places(self._found, self._nodes)
        close = {group: list(filter(places.are_close, patterns)) for group, patterns in self._possible.items()}
        groups = [group for group in self._nodes if close.get(group) and self.of(group)]
        groups.sort(key=lambda group: self.of(group)[0][:2])
        return [pattern for group in groups for pattern in close[group]]

    def of(self, group: int | None) -> Sequence[Hit]:
        """The hits of a group in the order of their first words."""
        if group is None or group not in self._nodes:
            return ()
        made = self._made.get(group)
        if made is None:
            standings = (standing for node in self._nodes[group] for standing in self._hits_of(node))
            made = sorted(hit for groups, hits in standings if group in groups for hit in hits)
            self._made[group] = made
        return made

    def _hits_of(self, node: _Node) -> Sequence[tuple[Sequence[int], Sequence[Hit]]]:
        hits = self._hits.get(node)
        if hits is None:
            hits = self._hits[node] = list(self._standings(node))
        return hits

    def _standings(self, node: _Node) -> Iterator[tuple[Sequence[int], Sequence[Hit]]]:
        """How a term stands in the text. A word of the text must have no mark that the term lacks."""
        reading, length = self._reading, node.length
        starts: dict[str, list[int]] = {}
        for start in self._found[node]:
            written = reading.shown[start] if length == 1 else " ".join(reading.shown[start : start + length])
            starts.setdefault(written, []).append(start)
        for shown, places in starts.items():
            words = range(places[0], places[0] + length)
            corrected = not reading.corrected_words.isdisjoint(words)
            has_marks = not shown.isascii()
            if not self._marked and has_marks and any(map(reading.is_foreign, words)):
                continue
            for written, groups in node.forms or ():
                bare: bool | None = False
                # Most terms stand in the text just as the rules write them.
                if self._marked and written != shown and (written or has_marks):
                    bare = reading.lacks_marks(words, written)
                if bare is not None:
                    yield groups, [Hit(start, start + length, corrected, bare) for start in places]


class _Places:
    """Where the terms of each group stand. Marks and idioms are not looked at.

    The words of a text are the bits of a number here: one shift moves all terms of a group.
    """

    def __init__(self, found: Mapping[_Node, Sequence[int]], nodes: Mapping[int, Sequence[_Node]]) -> None:
        self._found: Final = found
        self._nodes: Final = nodes
        self._bits: Final[dict[_Node, int]] = {}
        self._starts: Final[dict[int, int]] = {}
        #: By the distance and the group.
        self._behind: Final[dict[int, dict[int, int]]] = defaultdict(dict)
        self._around: Final[dict[int, dict[int, int]]] = defaultdict(dict)

    def are_close(self, pattern: Pattern) -> bool:
        """Whether terms of the pattern may stand close enough together."""
        if pattern.ordered:
            behind, limit = -1, pattern.limit
            known = self._behind[limit]
            for group in pattern.slots:
                if not behind & (self._starts.get(group) or self._start(group)):
                    return False
                behind = known.get(group) or self._end(group, limit)
            return True
        near, known = -1, self._around[pattern.limit]
        for group in pattern.slots:
            near &= known.get(group) or self._widen(group, pattern.limit)
            if not near:
                return False
        return True

    def _start(self, group: int) -> int:
        """The first words of the group's terms."""
        starts = 0
        for node in self._nodes[group]:
            starts |= self._bits.get(node) or self._bits_of(node)
        self._starts[group] = starts
        return starts

    def _bits_of(self, node: _Node) -> int:
        bits, starts = 0, self._found[node]
        if len(starts) < _FEW:
            for start in starts:
                bits |= 1 << start
        else:
            octets = bytearray(starts[-1] // 8 + 1)
            for start in starts:
                octets[start >> 3] |= 1 << (start & 7)
            bits = int.from_bytes(octets, "little")
        self._bits[node] = bits
        return bits

    def _end(self, group: int, gap: int) -> int:
        """The words behind the group's terms."""
        ends = 0
        for node in self._nodes[group]:
            ends |= (self._bits.get(node) or self._bits_of(node)) << node.length
        behind = self._behind[gap][group] = _widened(ends, gap)
        return behind

    def _widen(self, group: int, within: int) -> int:
        """The words that are close behind the start of a term."""
        around = self._around[within][group] = _widened(self._starts.get(group) or self._start(group), within - 1)
        return around


def _reach(ways: Iterable[int]) -> Mapping[int, int]:
    """The words from which a term may reach one of these places, each with the first such place."""
    reach: dict[int, int] = {}
    for place in sorted(ways, reverse=True):
        reach.update(dict.fromkeys(range(max(place - MOST_WORDS + 1, 0), place + 1), place))
    return reach


def _widened(bits: int, by: int) -> int:
    """Each bit, and this number of bits above it."""
    step = 1
    while step <= by:
        bits |= bits << step
        by -= step
        step *= 2
    return bits | bits << by


class Reading:
    """A text's words as a language spells them. One word of the text may be several here."""

    def __init__(
        self, text: Text, forms: Mapping[str, str], others: Mapping[str, Sequence[str]], corrected: frozenset[str]
    ) -> None:
        self.text: Final = text
        self._others: Final = others
        self._corrected: Final = corrected
        self.words: list[str] = list(map(forms.get, text.words, text.words)) if forms else text.words
        self._owners: list[int] | None = None
        self._written: dict[int, str] = {}

    @cached_property
    def mostly_marked(self) -> bool:
        """Whether at least half of the text's words have marks."""
        words = range(len(self.text.raw))
        return 2 * sum(self.text.marks(word) != NO_MARKS for word in words) >= len(words)

    def spell(
        self, spellings: Container[str], spelled_out: Callable[[str, Marks], Sequence[tuple[str, str]] | None]
    ) -> None:
        """Write out each word that is a spelling of others."""
        words: list[str] = []
        owners: list[int] = []
        done = 0
        for place in compress(count(), map(spellings.__contains__, self.words)):
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

    @cached_property
    def corrected_words(self) -> frozenset[int]:
        """The words in which a typing error was put right."""
        if not self._corrected:
            return frozenset()
        owned = enumerate(map(self.text.words.__getitem__, self._owners) if self._owners else self.text.words)
        return frozenset(word for word, plain in owned if plain in self._corrected and word not in self._written)

    def marks(self, word: int) -> Marks:
        written = self._written.get(word)
        return self.text.marks(self.owner(word)) if written is None else marks_in_rules(written)

    def is_foreign(self, word: int) -> bool:
        """Whether a word with Vietnamese marks is no word of a language without: bé is not be. Long words are no
        Vietnamese syllables, so marks disguise them."""
        if self.marks(word) == NO_MARKS:
            return False
        return len(self.words[word]) < SHORTEST or word in self.corrected_words

    def lacks_marks(self, words: range, term: str) -> bool | None:
        """Whether these words lack a mark of the term. None if they have one that the term lacks."""
        bare = False
        # A term without marks is not written here.
        for word, written in zip(words, term.split(" ") if term else [""] * len(words), strict=True):
            if word in self.corrected_words:
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
        shown = list(map(self.text.raw.__getitem__, self._owners))
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
        #: By the first letters and the last one, and by the first letter and the last ones.
        self._inside: Final = defaultdict[str, list[str]](list)
        #: By all letters but the first two, and by all but the last two.
        self._behind: Final = defaultdict[str, list[str]](list)
        self._before: Final = defaultdict[str, list[str]](list)
        for word in words:
            length = len(word)
            # An error may make a word longer or shorter by a letter.
            for kept in (_kept(length - 1), _kept(length + 1)):
                self._inside[word[:kept] + word[-1]].append(word)
                self._inside[word[0] + " " + word[-kept:]].append(word)
            self._behind[word[2:]].append(word)
            self._before[word[:-2]].append(word)

    def meant(self, word: str) -> str | None:
        """The word of the rules that is misspelt here, whose letters are not repeated. Of several, one with the same
        first letter comes first, then one of the same length."""
        lengths = range(len(word) - 1, len(word) + 2)
        meant = [one for one in self._candidates(word) if len(one) in lengths and is_one_error(word, one)]
        nearest = min(meant, key=lambda one: (one[0] != word[0], len(one) != len(word), one), default=None)
        return nearest and self._words[nearest]

    def _candidates(self, word: str) -> set[str]:
        kept = _kept(len(word))
        inside, behind, before = self._inside.get, self._behind.get, self._before.get
        lists = (
            inside(word[:kept] + word[-1]),
            inside(word[0] + " " + word[-kept:]),
            *(behind(word[1:]), behind(word[2:]), behind(word[3:])),
            *(before(word[:-1]), before(word[:-2]), before(word[:-3])),
        )
        return set().union(*filter(None, lists))


def _kept(length: int) -> int:
    """How many letters an error inside a word of this length leaves as they are, at its start or at its end."""
    return (length - 1) // 2


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
