"""A tenant's own rules of one language: compiles them, and refuses those that would take too long or too much memory.

`Rules.find` bounds the work of own rules again. Here an operator learns of it before a patient needs them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Final

from message_handler.domain.raised import DRILL_RULE
from message_handler.safety.coding import Pattern, decoded_patterns, terms_of
from message_handler.safety.compiling import Problem, RulesRefused, compiled_language
from message_handler.safety.language import Language
from message_handler.safety.matching import TooMuchWork, Work
from message_handler.safety.rules import MOST_OWN_CHARACTERS, MOST_OWN_STEPS, matcher_of_own, shipped
from message_handler.safety.text import Text

#: The most that own rules of one language may have: rules, and phrases with groups and windows.
_MOST_RULES, _MOST_PATTERNS = 200, 500
#: The most characters of their compiled form: a process needs some twenty times as much memory.
_MOST_COMPILED: Final = 256 * 1024
#: The number of terms that make one text: those that take the most steps.
_HEAVIEST: Final = 8


def own_language(source: Mapping[str, Any], taken: Collection[str] = ()) -> dict[str, Any]:
    """The compiled form of own rules, which may use the shipped groups of words. Raises RulesRefused.

    `taken`: the ids of the tenant's other rules.
    """
    known = {language["language"]: language for language in shipped().compiled}
    ids = {rule["id"] for language in shipped().compiled for rule in language["rules"]}
    compiled = compiled_language(source, known.get(str(source.get("language"))), {*taken, *ids, DRILL_RULE})
    patterns = [each for coded in compiled["patterns"].values() for each in decoded_patterns(coded)]
    for number, most, what in (
        (len(compiled["rules"]), _MOST_RULES, "rules"),
        (len(patterns), _MOST_PATTERNS, "phrases with groups and lists of together"),
        (len(json.dumps(compiled, ensure_ascii=False)), _MOST_COMPILED, "characters in their compiled form"),
    ):
        if number > most:
            raise _refused(None, f"must not have more than {most} {what}")
    language = Language(compiled)
    for text in _slowest_texts(compiled, patterns):
        try:
            _read(language, text)
        except TooMuchWork as error:
            what = "would take too long on some texts: use fewer phrases of everyday words"
            raise _refused(error.rule, what) from None
    return compiled


def _read(language: Language, text: str) -> None:
    """Read a text as a check of a patient's message does. Raises TooMuchWork."""
    for _ in matcher_of_own(language, Text(text), Work(MOST_OWN_STEPS)).matches():
        pass


def _slowest_texts(compiled: Mapping[str, Any], patterns: Sequence[Pattern]) -> Iterator[str]:
    """Texts of the rules' own words: of all, and of those that take the most steps.

    Each starts with the cues. A match that nothing lowers ends the search for its rule.
    """
    uses: Counter[int] = Counter()
    for pattern in patterns:
        for slot in pattern.slots:
            uses[slot] += len(pattern.slots)
    written = {form or term: groups for term, forms in terms_of(compiled).items() for form, groups in forms.items()}
    cues = set(compiled["cues"].values())
    lowering = [form for form, groups in written.items() if not cues.isdisjoint(groups)]
    steps = {form: sum(uses[group] for group in groups) / len(form.split()) for form, groups in written.items()}
    asked = sorted((form for form in written if steps[form]), key=lambda form: -steps[form])
    for chosen in (asked, asked[:_HEAVIEST]):
        if chosen:
            yield _filled(lowering[:_HEAVIEST], chosen)


def _filled(first: Sequence[str], terms: Sequence[str]) -> str:
    """These terms again and again, as long as own rules read a text."""
    return " ".join([*first, *islice(cycle(terms), MOST_OWN_CHARACTERS // 2)])[:MOST_OWN_CHARACTERS]


def _refused(rule: int | None, what: str) -> RulesRefused:
    field = "rules" if rule is None else f"rules.{rule}"
    return RulesRefused([Problem(f"{field}: {what}", field, what)])
