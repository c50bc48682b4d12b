"""The terms of a language, and finding them in a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from message_handler.safety.coding import decoded_terms
from message_handler.safety.reading import Reading

#: The most words of a term. More would make a text's check slow.
MOST_WORDS: Final = 12


class Terms:
    """The terms of a language."""

    def __init__(self, coded: Mapping[str, str]) -> None:
        self._coded: Final = coded
        #: By their first word, as far as a text has needed them.
        self._terms: Final[dict[str, Term]] = {}

    def found(self, reading: Reading) -> Mapping[Term, Sequence[int]]:
        """The terms that have a reading's words in the order of the text, each with the places of its first word."""
        self._decode(set(reading.words).union(*reading.ways.values()))
        found: dict[Term, list[int]] = defaultdict(list)
        # No term has the empty word. So a word with several forms ends the search here, and has one of its own.
        words = [*reading.words, ""]
        for place in reading.ways:
            words[place] = ""
        for start, first in enumerate(map(self._terms.get, words)):
            if first is None:
                continue
            term, end = first, start + 1
            while True:
                if term.forms is not None:
                    found[term].append(start)
                if term.longer is None:
                    break
                longer = term.longer.get(words[end])
                if longer is None:
                    break
                term, end = longer, end + 1
        if not reading.ways:
            return found
        for start, place in _reach(reading.ways).items():
            self._find_in_ways(reading, start, place, found)
        places = ((sorted(starts), term) for term, starts in found.items())
        return {term: starts for starts, term in sorted(places, key=lambda found: (found[0][0], found[1].length))}

    def _find_in_ways(self, reading: Reading, start: int, place: int, found: Mapping[Term, list[int]]) -> None:
        """Add the terms that start here and have the word at this place, which has several forms."""
        words, ways, end = reading.words, reading.ways, start
        followers: list[Mapping[str, Term]] = [self._terms]
        while followers and end < len(words):
            forms = (words[end], *ways.get(end, ()))
            terms = [term for longer in followers for form in forms if (term := longer.get(form))]
            end += 1
            if end > place:
                for term in terms:
                    if term.forms:
                        found[term].append(start)
            followers = [term.longer for term in terms if term.longer]

    def _decode(self, words: AbstractSet[str]) -> None:
        """Decode the terms that start with these words."""
        for word in (words & self._coded.keys()) - self._terms.keys():
            term = self._terms[word] = Term(1)
            for rest, written, groups in decoded_terms(word, self._coded[word]):
                term.add(rest[1:], written, groups)


class Term:
    """A term, or the start of longer ones. `forms` are its written forms with their groups, `groups` all of these."""

    __slots__ = ("forms", "groups", "length", "longer")

    def __init__(self, length: int) -> None:
        self.length: Final = length
        # None takes no look at another place of the memory, unlike an empty list.
        self.forms: list[tuple[str, Sequence[int]]] | None = None
        self.longer: dict[str, Term] | None = None
        #: A set in the order of the forms.
        self.groups: Final[dict[int, None]] = {}

    def add(self, rest: Sequence[str], written: str, groups: Sequence[int]) -> None:
        term = self
        for word in rest:
            term.longer = term.longer or {}
            term = term.longer.setdefault(word, Term(term.length + 1))
        term.forms = [*(term.forms or ()), (written, groups)]
        term.groups.update(dict.fromkeys(groups))


def _reach(ways: Iterable[int]) -> Mapping[int, int]:
    """The words from which a term may reach one of these places, each with the first such place."""
    reach: dict[int, int] = {}
    for place in sorted(ways, reverse=True):
        reach.update(dict.fromkeys(range(max(place - MOST_WORDS + 1, 0), place + 1), place))
    return reach
