"""The compiled form of a language. Its parts are strings, each decoded when a text needs it: a start decodes none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from message_handler.safety.text import plain_forms

#: What a spelling stands for: how the rules write it, and each word in plain form and as written.
type Spelling = tuple[str, Sequence[tuple[str, str]]]


class Pattern(NamedTuple):
    """Groups of terms that make a match of a rule: in their order with at most `limit` words between two of them, or
    in any order within `limit` words."""

    rule: int
    ordered: bool
    limit: int
    slots: tuple[int, ...]


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
