"""Where the terms of a text stand, and which patterns they may make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from message_handler.safety.coding import Pattern
from message_handler.safety.reading import Hit, Reading
from message_handler.safety.terms import Term

#: Fewer bits than these are set one by one. For many bits that would take a time that is quadratic.
_FEW: Final = 8


class Hits:
    """The terms in a text by their groups, and the patterns that may be there.

    Most texts have many terms and few patterns. So hits are made, and marks compared, for the groups of those alone.
    """

    def __init__(
        self,
        marked: bool,
        reading: Reading,
        found: Mapping[Term, Sequence[int]],
        possible: Mapping[int, Sequence[Pattern]],
        lowering: frozenset[int],
    ) -> None:
        self._marked: Final = marked
        self._reading: Final = reading
        self._found: Final = found
        #: For each group that counts its terms in the order of the text.
        self._terms: Final[dict[int, list[Term]]] = defaultdict(list)
        self._possible: Final = possible
        self._hits: Final[dict[Term, Sequence[tuple[Sequence[int], Sequence[Hit]]]]] = {}
        self._made: Final[dict[int, Sequence[Hit]]] = {}
        if possible:
            slots = [pattern.slots for patterns in possible.values() for pattern in patterns]
            wanted = lowering.union(*slots)
            for term in found:
                for group in term.groups:
                    if group in wanted:
                        self._terms[group].append(term)

    def number(self) -> int:
        """How many hits there are at most. None is made for this."""
        return sum(len(self._found[term]) for terms in self._terms.values() for term in terms)

    @cached_property
    def patterns(self) -> Sequence[Pattern]:
        """The patterns whose terms stand close enough together, in the order of the text."""
        places = _Places(self._found, self._terms)
        close = {group: list(filter(places.are_close, patterns)) for group, patterns in self._possible.items()}
        groups = [group for group in self._terms if close.get(group) and self.of(group)]
        groups.sort(key=lambda group: self.of(group)[0][:2])
        return [pattern for group in groups for pattern in close[group]]

    def of(self, group: int | None) -> Sequence[Hit]:
        """The hits of a group in the order of their first words."""
        if group is None or group not in self._terms:
            return ()
        made = self._made.get(group)
        if made is None:
            standings = (standing for term in self._terms[group] for standing in self._hits_of(term))
            made = sorted(hit for groups, hits in standings if group in groups for hit in hits)
            self._made[group] = made
        return made

    def _hits_of(self, term: Term) -> Sequence[tuple[Sequence[int], Sequence[Hit]]]:
        hits = self._hits.get(term)
        if hits is None:
            hits = self._hits[term] = list(self._standings(term))
        return hits

    def _standings(self, term: Term) -> Iterator[tuple[Sequence[int], Sequence[Hit]]]:
        """How a term stands in the text. A word of the text must have no mark that the term lacks."""
        reading, length = self._reading, term.length
        starts: dict[str, list[int]] = {}
        for start in self._found[term]:
            written = reading.shown[start] if length == 1 else " ".join(reading.shown[start : start + length])
            starts.setdefault(written, []).append(start)
        for shown, places in starts.items():
            words = range(places[0], places[0] + length)
            corrected = not reading.corrected_words.isdisjoint(words)
            has_marks = not shown.isascii()
            if not self._marked and has_marks and any(map(reading.is_foreign, words)):
                continue
            for written, groups in term.forms or ():
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

    def __init__(self, found: Mapping[Term, Sequence[int]], terms: Mapping[int, Sequence[Term]]) -> None:
        self._found: Final = found
        self._terms: Final = terms
        self._bits: Final[dict[Term, int]] = {}
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
        for term in self._terms[group]:
            starts |= self._bits.get(term) or self._bits_of(term)
        self._starts[group] = starts
        return starts

    def _bits_of(self, term: Term) -> int:
        bits, starts = 0, self._found[term]
        if len(starts) < _FEW:
            for start in starts:
                bits |= 1 << start
        else:
            octets = bytearray(starts[-1] // 8 + 1)
            for start in starts:
                octets[start >> 3] |= 1 << (start & 7)
            bits = int.from_bytes(octets, "little")
        self._bits[term] = bits
        return bits

    def _end(self, group: int, gap: int) -> int:
        """The words behind the group's terms."""
        ends = 0
        for term in self._terms[group]:
            ends |= (self._bits.get(term) or self._bits_of(term)) << term.length
        behind = self._behind[gap][group] = _widened(ends, gap)
        return behind

    def _widen(self, group: int, within: int) -> int:
        """The words that are close behind the start of a term."""
        around = self._around[within][group] = _widened(self._starts.get(group) or self._start(group), within - 1)
        return around


def _widened(bits: int, by: int) -> int:
    """Each bit, and this number of bits above it."""
    step = 1
    while step <= by:
        bits |= bits << step
        by -= step
        step *= 2
    return bits | bits << by
