"""How rules match a text, and what lowers a match."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, count
from typing import Final, NamedTuple

from message_handler.domain.safety import Level
from message_handler.safety.coding import Pattern
from message_handler.safety.grammar import GRAMMARS, Grammar
from message_handler.safety.hits import Hits
from message_handler.safety.language import ANYWHERE, Language, Rule
from message_handler.safety.reading import Hit, Reading

#: The distance in words within which a cue of negation counts.
_NEAR: Final = 4
#: The most words of an item in a list ("no fever, cough or chest pain"), and of the whole list.
_ITEM, _LIST = 5, 40
#: In `together`, the number of a group's last hits that a later hit is combined with.
_RECENT: Final = 4

IDIOM: Final = "idiom"
#: The steps that making one hit takes, and judging one match without its words. A step takes about a microsecond.
_STEPS_OF_A_HIT, _STEPS_OF_A_MATCH = 2, 20


class TooMuchWork(Exception):
    """Rules need more steps than they may take. `rule`: the number of the rule that took the last one."""

    rule: int | None = None


class Work:
    """The steps that rules may still take: the same number for the same rules and texts, however fast a machine is."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork


class Lowering(NamedTuple):
    """Why a match counts for less: the kind of the cue, and where it stands."""

    kind: str
    cue: Hit


class Match(NamedTuple):
    """A rule's pattern in a text. `level` is what counts after lowering; None counts for nothing."""

    rule: Rule
    level: Level | None
    hits: tuple[Hit, ...]
    lowered: tuple[Lowering, ...] = ()

    @property
    def start(self) -> int:
        return min(hit.start for hit in self.hits)

    @property
    def end(self) -> int:
        return max(hit.end for hit in self.hits)


class Matcher:
    """Finds the matches of one language's rules in one text. `work`: the steps that it may take; None: all."""

    def __init__(self, language: Language, reading: Reading, work: Work | None = None) -> None:
        self._language: Final = language
        self._work: Final = work
        self._all: Final = language.hits(reading)
        self.reading: Final = reading
        self._questions: Final = GRAMMARS.get(language.code, Grammar()).questions
        self._counted: Final[dict[int, Sequence[Hit]]] = {}
        if work:
            work.take(_STEPS_OF_A_HIT * self._all.number())

    def matches(self) -> Iterator[Match]:
        """Each rule's matches, up to the first one that is not lowered."""
        settled = set()
        for pattern in self._all.patterns:
            if pattern.rule in settled:
                continue
            for match in self._judged(pattern, self._chains(pattern, self._counting)):
                yield match
                if match.level is match.rule.level:
                    settled.add(pattern.rule)
                    break

    def all_matches(self) -> Iterator[Match]:
        """All matches, also those that an idiom voids."""
        counted = set()
        for pattern in self._all.patterns:
            for match in self._judged(pattern, self._chains(pattern, self._counting)):
                counted.add((pattern.rule, match.hits))
                yield match
        for pattern in self._all.patterns:
            rule = self._language.rules[pattern.rule]
            for hits in self._allowed(pattern, self._chains(pattern, self._all.of, exceptions=False)):
                if (pattern.rule, hits) not in counted:
                    yield Match(rule, None, hits, tuple(Lowering(IDIOM, cue) for cue in self._idioms(rule, hits)))

    def _chains(
        self, pattern: Pattern, hits: Callable[[int], Sequence[Hit]], exceptions: bool = True
    ) -> Iterator[tuple[Hit, ...]]:
        rule = self._language.rules[pattern.rule]
        slots = [hits(slot) for slot in pattern.slots]
        own = self._all.of(rule.exceptions) if exceptions else ()
        if self._work:
            self._take(pattern.rule, len(own) + _steps_of(pattern, slots))
        if own:
            idioms = _Idioms(own, self.reading)
            slots = [[hit for hit in slot if not idioms.void(hit)] for slot in slots]
        if len(slots) == 1:
            return ((hit,) for hit in slots[0])
        return _in_order(slots, pattern.limit) if pattern.ordered else _in_any_order(slots, pattern.limit)

    def _judged(self, pattern: Pattern, chains: Iterator[tuple[Hit, ...]]) -> Iterator[Match]:
        rule = self._language.rules[pattern.rule]
        for hits in self._allowed(pattern, chains):
            match = Match(rule, rule.level, hits)
            if self._work:
                self._take(pattern.rule, _STEPS_OF_A_MATCH + match.end - match.start)
            lowered = tuple(self._cues.lower(match))
            levels = [rule.lowered_by[lowering.kind] for lowering in lowered]
            yield Match(rule, _lowest([rule.level, *levels]), hits, lowered)

    def _take(self, rule: int, steps: int) -> None:
        assert self._work
        try:
            self._work.take(steps)
        except TooMuchWork as error:
            error.rule = rule
            raise

    def _allowed(self, pattern: Pattern, chains: Iterator[tuple[Hit, ...]]) -> Iterator[tuple[Hit, ...]]:
        typing_errors = self._language.rules[pattern.rule].typing_errors
        for hits in chains:
            if not typing_errors and any(hit.corrected for hit in hits):
                continue
            if not pattern.ordered and self._meet_by_chance(hits):
                continue
            if self._questions and self._goes_on_behind_a_question(pattern, hits):
                continue
            yield hits

    def _goes_on_behind_a_question(self, pattern: Pattern, hits: tuple[Hit, ...]) -> bool:
        """Whether the match runs on behind a question's last word: "có đau không, tỉnh dậy" is not "không tỉnh"."""
        reading, end = self.reading, max(hit.end for hit in hits)
        commas = set(reading.parts).difference(reading.sentences)
        return any(
            word + 1 in commas and reading.words[word] in self._questions
            for hit in hits
            for word in range(hit.start, min(hit.end, (end if pattern.ordered else hit.end) - 1))
        )

    def _meet_by_chance(self, hits: tuple[Hit, ...]) -> bool:
        """Whether syllables without marks prove nothing, because each may be many words: "can" is cắn, cần and cân.
        If the text has marks, one such syllable is another word ("do", because, is not đỏ)."""
        if not any(hit.bare for hit in hits):
            return False
        plain = [hit.end == hit.start + 1 and self.reading.shown[hit.start].isascii() for hit in hits]
        if self.reading.mostly_marked:
            return any(hit.bare and is_plain for hit, is_plain in zip(hits, plain, strict=True))
        return all(plain)

    def _counting(self, group: int) -> Sequence[Hit]:
        """The hits of a group that no idiom voids."""
        if self._voiding is None:
            return self._all.of(group)
        if group not in self._counted:
            self._counted[group] = [hit for hit in self._all.of(group) if not self._voiding.void(hit)]
        return self._counted[group]

    def _idioms(self, rule: Rule, hits: Iterable[Hit]) -> Iterator[Hit]:
        for group in (self._language.cues["idioms"], rule.exceptions):
            for idiom in self._all.of(group):
                if any(idiom.overlaps(hit) for hit in hits):
                    yield idiom

    @cached_property
    def _voiding(self) -> _Idioms | None:
        idioms = self._all.of(self._language.cues["idioms"])
        return _Idioms(idioms, self.reading) if idioms else None

    @cached_property
    def _cues(self) -> _Cues:
        return _Cues(self._language, self.reading, self._all)


class _Idioms:
    """The words of idioms in a text. An idiom with an unsure word holds nothing back."""

    def __init__(self, idioms: Iterable[Hit], reading: Reading) -> None:
        self._sure: set[int] = set()
        self._bare: set[int] = set()
        self._spans: set[tuple[int, int]] = set()
        for idiom in filter(reading.is_sure, idioms):
            (self._bare if idiom.bare else self._sure).update(range(idiom.start, idiom.end))
            if idiom.bare:
                self._spans.add((idiom.start, idiom.end))

    def void(self, hit: Hit) -> bool:
        """Whether an idiom overlaps the hit. An idiom without its marks, of just the same words, proves nothing:
        "tu tu" is as much "tự tử" as "từ từ"."""
        words = range(hit.start, hit.end)
        if not self._sure.isdisjoint(words):
            return True
        return not self._bare.isdisjoint(words) and (hit.start, hit.end) not in self._spans


class _Cues:
    """The cues in a text, and what each of them lowers."""

    def __init__(self, language: Language, reading: Reading, hits: Hits) -> None:
        self._words: Final = reading.words
        self._reading: Final = reading
        self._grammar: Final = GRAMMARS.get(language.code, Grammar())
        void = {word for hit in hits.of(language.cues["not_negation"]) for word in range(hit.start, hit.end)}
        self._before = [
            cue
            for cue in hits.of(language.cues["negation_before"])
            if void.isdisjoint(range(cue.start, cue.end)) and reading.is_sure(cue) and not cue.corrected
        ]
        self._after = [
            cue
            for cue in hits.of(language.cues["negation_after"])
            if void.isdisjoint(range(cue.start, cue.end)) and reading.is_sure(cue) and not cue.corrected
        ]
        self._anywhere = {
            kind: [cue for cue in hits.of(language.cues[kind]) if reading.is_sure(cue) and not cue.corrected]
            for kind in ANYWHERE
        }

    def lower(self, match: Match) -> Iterator[Lowering]:
        """What lowers a match: at most one cue of each kind."""
        negation = next(self._negations(match), None)
        if negation is not None:
            yield Lowering("negation", negation)
        for kind, sentences in self._by_sentence.items():
            cue = self._in_sentences(match, sentences)
            if cue is not None:
                yield Lowering(kind, cue)

    def _negations(self, match: Match) -> Iterator[Hit]:
        if self._before:
            yield from self._negations_before(match)
            yield from self._negations_inside(match)
            yield from self._negations_of_a_list(match)
        if self._after:
            yield from self._negations_after(match)

    def _negations_before(self, match: Match) -> Iterator[Hit]:
        start, clauses = match.start, self._clauses
        for end in range(start, max(start - _NEAR, 0), -1):
            if _number(clauses, end - 1) != _number(clauses, start):
                return
            yield from self._ending.get(end, ())

    def _negations_inside(self, match: Match) -> Iterator[Hit]:
        for start in range(match.start, match.end):
            for cue in self._starting.get(start, ()):
                if cue.end < match.end and not _is_part(cue, match) and self._same_clause(start, cue.end):
                    yield cue

    def _negations_after(self, match: Match) -> Iterator[Hit]:
        end, sentence = match.end, _number(self._reading.sentences, match.end - 1)
        for start in range(end, min(end + _NEAR, len(self._words))):
            if _number(self._reading.sentences, start) != sentence:
                return
            if self._same_clause(end - 1, start) or self._speaks_of_the_same(end, start):
                yield from self._starting_after.get(start, ())

    def _speaks_of_the_same(self, start: int, end: int) -> bool:
        """Whether these words only lead to a cue: "chest pain, but now it is gone", unlike "but the fever is gone"."""
        return self._grammar.leading.issuperset(self._words[start:end])

    def _negations_of_a_list(self, match: Match) -> Iterator[Hit]:
        """The cue before the first item of a list with "or": it negates all items."""
        words, clauses, stretches = self._words, self._clauses, self._stretches
        start, items, length, alternative = match.start, 0, 0, False
        for word in range(start - 1, max(start - _LIST, -1), -1):
            if _number(stretches, word) != _number(stretches, start):
                return
            if _number(clauses, word) != _number(clauses, word + 1) or words[word] in self._grammar.alternatives:
                if words[word + 1] in self._grammar.subjects:
                    return
                items, length = items + 1, 0
            if words[word] in self._grammar.alternatives:
                alternative = True
                continue
            length += 1
            cues = self._ending.get(word + 1, ())
            if cues and items and (alternative or self._goes_on_with_an_alternative(match.end)):
                yield from cues
                return
            if length > _ITEM:
                return

    def _same_clause(self, word: int, other: int) -> bool:
        return _number(self._clauses, word) == _number(self._clauses, other)

    def _goes_on_with_an_alternative(self, end: int) -> bool:
        length = 0
        for word in range(end, min(end + _LIST, len(self._words))):
            if _number(self._stretches, word) != _number(self._stretches, end - 1) or length > _ITEM:
                return False
            if self._words[word] in self._grammar.alternatives:
                return True
            if not self._same_clause(word - 1, word):
                if self._words[word] in self._grammar.subjects:
                    return False
                length = 0
            length += 1
        return False

    def _in_sentences(self, match: Match, cues: Mapping[int, Sequence[Hit]]) -> Hit | None:
        if not cues:
            return None
        sentences = self._reading.sentences
        for sentence in range(_number(sentences, match.start), _number(sentences, match.end - 1) + 1):
            for cue in cues.get(sentence, ()):
                if not _is_part(cue, match):
                    return cue
        return None

    @cached_property
    def _by_sentence(self) -> Mapping[str, Mapping[int, Sequence[Hit]]]:
        return {
            kind: _grouped((_number(self._reading.sentences, cue.start), cue) for cue in cues) if cues else {}
            for kind, cues in self._anywhere.items()
        }

    @cached_property
    def _ending(self) -> Mapping[int, Sequence[Hit]]:
        return _grouped((cue.end, cue) for cue in self._before)

    @cached_property
    def _starting(self) -> Mapping[int, Sequence[Hit]]:
        return _grouped((cue.start, cue) for cue in self._before)

    @cached_property
    def _starting_after(self) -> Mapping[int, Sequence[Hit]]:
        return _grouped((cue.start, cue) for cue in self._after)

    @cached_property
    def _contrasted(self) -> list[int]:
        return list(compress(count(), map(self._grammar.contrasts.__contains__, self._words)))

    @cached_property
    def _stretches(self) -> list[int]:
        """The first words of the stretches: a sentence, or a part of it that starts with a contrast."""
        return sorted((*self._reading.sentences, *self._contrasted))

    @cached_property
    def _clauses(self) -> list[int]:
        """The first words of the clauses, which also start after a comma."""
        return sorted((*self._reading.parts, *self._contrasted))


def _steps_of(pattern: Pattern, slots: Sequence[Sequence[Hit]]) -> int:
    """The most hits that are looked at for a pattern: each is combined with those of the other slots before it."""
    hits = sum(map(len, slots))
    return hits * (pattern.limit + 1 if pattern.ordered else len(slots) ** 2)


def _number(starts: Sequence[int], word: int) -> int:
    """The number of the part that a word is in, by the parts' first words."""
    return bisect_right(starts, word)


def _grouped(pairs: Iterable[tuple[int, Hit]]) -> dict[int, list[Hit]]:
    groups: dict[int, list[Hit]] = {}
    for key, hit in pairs:
        groups.setdefault(key, []).append(hit)
    return groups


def _is_part(cue: Hit, match: Match) -> bool:
    return any(cue.overlaps(hit) for hit in match.hits)


def _lowest(levels: Iterable[Level | None]) -> Level | None:
    lowest: Level | None = Level.EMERGENCY
    for level in levels:
        if level is None:
            return None
        assert lowest is not None
        lowest = min(lowest, level)
    return lowest


def _in_order(slots: Sequence[Sequence[Hit]], gap: int) -> Iterator[tuple[Hit, ...]]:
    """The chains of one hit of each slot. For each last hit it is the chain that starts last, so the number of chains
    is at most the number of last hits."""
    chains: list[tuple[Hit, ...]] = [(hit,) for hit in slots[0]]
    for slot in slots[1:]:
        ending: dict[int, tuple[Hit, ...]] = {}
        for chain in chains:
            known = ending.get(chain[-1].end)
            if known is None or known[0].start <= chain[0].start:
                ending[chain[-1].end] = chain
        chains = []
        for hit in slot:
            before = [ending[end] for end in range(hit.start, hit.start - gap - 1, -1) if end in ending]
            if before:
                chains.append((*max(before, key=lambda chain: chain[0].start), hit))
    return iter(chains)


def _in_any_order(slots: Sequence[Sequence[Hit]], within: int) -> Iterator[tuple[Hit, ...]]:
    """For each hit the nearest hits of the other slots before it, if all stand within `within` words."""
    hits = sorted((hit.start, hit.end, number, hit) for number, slot in enumerate(slots) for hit in slot)
    recent: list[deque[Hit]] = [deque(maxlen=_RECENT) for _ in slots]
    for _, _, own, hit in hits:
        chosen = [hit]
        for number, candidates in enumerate(recent):
            if number == own:
                continue
            fitting = (hit for hit in reversed(candidates) if not any(hit.overlaps(other) for other in chosen))
            nearest = next(fitting, None)
            if nearest is None:
                break
            chosen.append(nearest)
        recent[own].append(hit)
        complete = len(chosen) == len(slots)
        if complete and max(h.end for h in chosen) - min(h.start for h in chosen) <= within:
            yield tuple(sorted(chosen))
