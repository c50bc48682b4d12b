"""Typing errors: the word of the rules that a word of a text was meant to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

#: The lengths of words that a typing error is looked for in. Shorter words are too close to each other.
SHORTEST, LONGEST = 5, 24


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
