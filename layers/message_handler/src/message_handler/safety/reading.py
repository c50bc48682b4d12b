"""A text as one language reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress, count
from typing import Final, NamedTuple

from message_handler.safety.coding import Spelling
from message_handler.safety.misspelt import SHORTEST
from message_handler.safety.text import NO_MARKS, Marks, Text, lacks_marks, marks_in_rules, marks_of, plain_form


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
        words = self.text.raw
        marked = {word for word in set(words) if not word.isascii() and marks_of(word) != NO_MARKS}
        return 2 * sum(map(marked.__contains__, words)) >= len(words)

    def spell(
        self, spellings: Container[str], spelled_out: Callable[[str, Marks], Sequence[tuple[str, str]] | None]
    ) -> None:
        """Write out each word that is a spelling of others."""
        words: list[str] = []
        owners: list[int] = []
        known: dict[str, Sequence[tuple[str, str]] | None] = {}
        done = 0
        for place in compress(count(), map(spellings.__contains__, self.words)):
            raw = self.text.raw[place]
            if raw not in known:
                known[raw] = spelled_out(self.words[place], self.text.marks(place))
            meant = known[raw]
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
