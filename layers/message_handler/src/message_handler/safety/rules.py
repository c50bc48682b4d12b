"""The safety rules: loading them, adding a tenant's own ones, and finding what they match in a text."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from message_handler.domain.safety import Finding, Level
from message_handler.safety.language import Language
from message_handler.safety.matching import Match, Matcher, Work
from message_handler.safety.text import Text

#: Written by `make safety-rules` from the files in `rules/`.
FILE: Final = Path(__file__).with_name("rules.json")
#: Own rules read the first characters of a text, and take at most this many steps for all texts of one check.
MOST_OWN_CHARACTERS: Final = 8_000
MOST_OWN_STEPS: Final = 300_000

_log = logging.getLogger(__name__)


class Explanation(NamedTuple):
    """A match, for people who write rules. `lowered` has the kinds of cues and the words that lowered `rule_level`."""

    rule: str
    language: str
    rule_level: Level
    level: Level | None
    words: str
    place: tuple[tuple[int, int], ...]
    lowered: tuple[tuple[str, str], ...]


class Rules:
    """A set of rules, of one or several languages. It never changes. `own`: the languages of a tenant's own rules."""

    def __init__(
        self,
        languages: Sequence[Language],
        version: str,
        without: Collection[str] = (),
        own: Sequence[Language] = (),
    ) -> None:
        #: A digest of the rules: texts that the same version has checked need no second check.
        self.version: Final = version
        self._languages: Final = tuple(languages)
        self._own: Final = tuple(own)
        #: The ids of rules that do not apply.
        self._without: Final = frozenset(without)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(language.code for language in (*self._languages, *self._own)))

    @property
    def compiled(self) -> tuple[Mapping[str, Any], ...]:
        """The compiled form of each shipped language."""
        return tuple(language.compiled for language in self._languages)

    def find(self, text: str, work: Work | None = None) -> tuple[Finding, ...]:
        """Each rule's strongest match in a text, the strongest rule first. What counts for nothing is left out.

        `work`: the steps that own rules may take. They are tried last, so the shipped rules count even if they fail.
        """
        strongest: dict[str, Finding] = {}
        read = Text(text)
        for language in self._languages:
            self._find(language, Matcher(language, language.read(read)), strongest)
        try:
            self._find_own(read, work or Work(MOST_OWN_STEPS), strongest)
        except Exception as error:  # noqa: BLE001  a defect of own rules keeps no shipped rule back
            _log.error("a tenant's own safety rules can't read a text", extra={"error": type(error).__name__})
        return tuple(sorted(strongest.values(), key=lambda finding: (-finding.level.rank, finding.place)))

    def _find_own(self, read: Text, work: Work, strongest: dict[str, Finding]) -> None:
        if self._own and len(read.original) > MOST_OWN_CHARACTERS:
            read = Text(read.original[:MOST_OWN_CHARACTERS])
        for language in self._own:
            self._find(language, matcher_of_own(language, read, work), strongest)

    def _find(self, language: Language, matcher: Matcher, strongest: dict[str, Finding]) -> None:
        for match in matcher.matches():
            if match.level is None or match.rule.id in self._without:
                continue
            known = strongest.get(match.rule.id)
            if known is None or known.level < match.level:
                place = matcher.reading.place(match.hits)
                strongest[match.rule.id] = Finding(match.level, match.rule.id, language.code, place)

    def explain(self, text: str) -> tuple[Explanation, ...]:
        """All matches in a text, also those that count for nothing, the strongest first."""
        explained = [
            _explained(language, matcher, match)
            for language, matcher in self._matchers(text)
            for match in matcher.all_matches()
            if match.rule.id not in self._without
        ]
        return tuple(sorted(explained, key=lambda match: (-(match.level.rank if match.level else 0), match.place)))

    def narrowed(self, languages: Collection[str] | None = None, without: Collection[str] = ()) -> Rules:
        """These rules in some languages only, and without the rules of these ids."""
        kept = [language for language in self._languages if languages is None or language.code in languages]
        without = self._without.union(without)
        return Rules(kept, _digest([self.version, [language.code for language in kept], sorted(without)]), without)

    def extended(self, own: Sequence[Mapping[str, Any]]) -> Rules:
        """These rules and a tenant's own ones, which `own.own_language` has compiled.

        Own rules are languages of their own: their idioms and cues can't lower what these rules find.
        """
        languages = [*self._own, *map(Language, own)]
        return Rules(self._languages, _digest([self.version, list(own)]), self._without, languages)

    def _matchers(self, text: str) -> Iterator[tuple[Language, Matcher]]:
        read = Text(text)
        for language in (*self._languages, *self._own):
            yield language, Matcher(language, language.read(read))


def matcher_of_own(language: Language, text: Text, work: Work) -> Matcher:
    """A matcher of own rules. Raises TooMuchWork."""
    # A text may become twelve times as long by its spellings.
    work.take(len(text.original) // 4)
    reading = language.read(text)
    work.take(len(reading.words))
    return Matcher(language, reading, work)


@cache
def shipped() -> Rules:
    """The rules of this package."""
    return loaded(FILE.read_text(encoding="utf-8"))


def loaded(compiled: str) -> Rules:
    """The rules of a compiled file."""
    content = json.loads(compiled)
    return Rules([Language(language) for language in content["languages"]], content["version"])


def compiled_text(languages: Sequence[Mapping[str, Any]]) -> str:
    """The text of a compiled file."""
    body = ",\n".join(json.dumps(language, ensure_ascii=False, separators=(",", ":")) for language in languages)
    return f'{{"version":"{_digest(languages)}",\n"languages":[\n{body}\n]}}\n'


def _digest(content: Any) -> str:
    import hashlib

    written = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()[:16]


def _explained(language: Language, matcher: Matcher, match: Match) -> Explanation:
    def words(place: tuple[tuple[int, int], ...]) -> str:
        return " ".join(matcher.reading.text.original[start:end] for start, end in place)

    place = matcher.reading.place(match.hits)
    return Explanation(
        match.rule.id,
        language.code,
        match.rule.level,
        match.level,
        words(place),
        place,
        tuple((lowering.kind, words(matcher.reading.place([lowering.cue]))) for lowering in match.lowered),
    )
