"""Compiles a language's rules from their YAML form, and says what is wrong with them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from message_handler.domain.safety import Level
from message_handler.safety.coding import (
    Pattern,
    decoded_spellings,
    decoded_words,
    encoded_patterns,
    encoded_spellings,
    encoded_terms,
    encoded_words,
    terms_of,
)
from message_handler.safety.grammar import GRAMMARS, Grammar
from message_handler.safety.language import ANYWHERE
from message_handler.safety.misspelt import LONGEST, SHORTEST
from message_handler.safety.reading import spelled_out
from message_handler.safety.terms import MOST_WORDS
from message_handler.safety.text import NO_MARKS, Text, marks_of, squeezed_form, squeezed_forms

KINDS: Final = ("negation", *ANYWHERE)
#: What each kind of cue lowers a match to, unless the rule says otherwise.
_LOWERED_BY: Final[Mapping[Level, Mapping[str, Level | None]]] = {
    Level.EMERGENCY: {**dict.fromkeys(KINDS), "routine": Level.EMERGENCY},
    Level.CRISIS: {
        "negation": Level.URGENT,
        "past": Level.URGENT,
        "other": Level.URGENT,
        "information": None,
        "routine": Level.CRISIS,
    },
    Level.URGENT: {**dict.fromkeys(KINDS), "routine": Level.URGENT},
}
_GAP, _WITHIN = 2, 8
#: More would make a text's check slow.
_MOST_SLOTS, _WIDEST = 8, 20
#: The most characters of an id, and of another field that is shown.
_LONGEST_ID, _LONGEST_FIELD = 64, 200

_FILE_FIELDS: Final = {"language", "spellings", "unlike", "words", "idioms", "cues", "rules"}
_RULE_FIELDS: Final = {
    *("id", "level", "about", "phrases", "together", "gap", "within", "except", "lowered_by", "typing_errors"),
    *("source", "reviewed_by", "reviewed_at"),
}
_SHOWN_FIELDS: Final = ("about", "source", "reviewed_by", "reviewed_at")
_CUES: Final = ("negation_before", "negation_after", "not_negation", *ANYWHERE, "idioms")
_GROUP: Final = re.compile(r"<([^<>]*)>")
_NUMBER: Final = re.compile("[0-9]{1,2}")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


class Problem(str):
    """A fault of a file, as a sentence with the words that are wrong.

    `field` and `what` say the same without any of the file's words.
    """

    field: str
    what: str

    def __new__(cls, sentence: str, field: str = "", what: str = "is no file of rules") -> Problem:
        problem = super().__new__(cls, sentence)
        problem.field, problem.what = field, what
        return problem


class RulesRefused(ValueError):
    """Rules that can't be compiled. `problems` has one for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems: Final = tuple(each if isinstance(each, Problem) else Problem(each) for each in problems)


def compiled_language(
    source: Mapping[str, Any], shipped: Mapping[str, Any] | None = None, taken: Collection[str] = ()
) -> dict[str, Any]:
    """The compiled form of a file's content. Raises `RulesRefused` with all problems.

    With `shipped`, a compiled language, the file has a tenant's own rules. They may use its groups of words, and are
    read with its spellings, idioms and cues. The compiled form has none of its rules. `taken`: ids of other rules.
    """
    compiler = _Compiler(source, shipped, taken)
    compiled = compiler.compile()
    if compiler.problems:
        raise RulesRefused(compiler.problems)
    return compiled


def source_of(file: Path) -> dict[str, Any]:
    """The content of a YAML file. Raises `RulesRefused`, and ModuleNotFoundError without PyYAML."""
    parsed = parser()
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RulesRefused([f"{file.name} is no YAML: {error}"]) from error
    content = content_of(parsed(text, file.name))
    if not isinstance(content, dict):
        raise RulesRefused([f"{file.name} has no fields"])
    return content


def parser() -> Callable[[str, str], Any]:
    """A function that reads a text, with its name for errors, and returns its root. Raises as `source_of`."""
    import yaml

    # The loader in C is ten times as fast, and not everywhere.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def parsed(text: str, name: str) -> Any:
        try:
            return yaml.compose(text, Loader=loader)
        except yaml.YAMLError as error:
            raise RulesRefused([f"{name} is no YAML: {error}"]) from error

    return parsed


_PLAIN_VALUES: Final = {"": None, "~": None, "null": None, "true": True, "false": False}


def content_of(node: Any) -> Any:
    """The content of a YAML node. A plain `no` or `on` is a word here: YAML would make it a truth value."""
    if node is None:
        return None
    if isinstance(node.value, str):
        is_quoted = bool(node.style)
        return node.value if is_quoted else _PLAIN_VALUES.get(node.value, node.value)
    if node.id == "sequence":
        return [content_of(item) for item in node.value]
    content: dict[Any, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in content:
            raise RulesRefused([f"line {key.start_mark.line + 1}: {name!r} is there twice"])
        content[name] = content_of(value)
    return content


class _Compiler:
    def __init__(self, source: Mapping[str, Any], shipped: Mapping[str, Any] | None, taken: Collection[str]) -> None:
        self._source = source
        self._shipped = shipped
        self.problems: list[Problem] = []
        #: The field of the file that is read.
        self._field = ""
        known = copy.deepcopy(dict(shipped)) if shipped else {}
        self._groups: dict[str, int] = known.get("groups", {})
        self._cues: dict[str, int] = known.get("cues", {})
        self._count: int = known.get("count", 0)
        self._terms = terms_of(known) if known else {}
        #: A set in the order of the file.
        self._patterns: dict[Pattern, None] = {}
        self._rules: list[dict[str, Any]] = []
        self._ids: set[str] = {*taken, *(rule["id"] for rule in known.get("rules", ()))}
        self._spellings = {word: decoded_spellings(coded) for word, coded in known.get("spellings", {}).items()}
        self._unlike: set[str] = set(known.get("unlike", "").split())
        _, corrigible, words = decoded_words(known["words"]) if known else ([], [], [])
        self._corrigible: set[str] = set(corrigible)
        self._known: Final = frozenset(words)
        self._literals: dict[str, int] = {}
        #: The words of each group.
        self._words_of: dict[int, set[str]] = {}
        for term, forms in self._terms.items():
            for group in {group for groups in forms.values() for group in groups}:
                self._words_of.setdefault(group, set()).update(term.split(" "))

    def compile(self) -> dict[str, Any]:
        language = self._source.get("language")
        if not isinstance(language, str) or not re.fullmatch(r"[a-z]{2,3}", language):
            self._field = "language"
            self._refuse("language", "must be a code such as en")
            language = "??"
        self._field = ""
        self._unknown_fields(self._source, _FILE_FIELDS, "the file")
        for field, read in (
            ("unlike", self._read_unlike),
            ("spellings", self._read_spellings),
            ("words", self._read_words),
            ("cues", self._read_cues),
            ("rules", self._read_rules),
        ):
            self._field = field
            read()
        return self._compiled(language)

    def _refuse(self, where: str, what: str, *entries: object) -> None:
        """Note a problem, of these entries. They and `where` may have words of the file."""
        sentence = f"{where}: {' '.join([*map(repr, entries), what])}"
        self.problems.append(Problem(sentence, self._field, f"has an entry that {what}" if entries else what))

    def _compiled(self, language: str) -> dict[str, Any]:
        known = {word for term in self._terms for word in term.split(" ")}
        if self._shipped:
            self._leave_out_unused_terms()
            known |= self._known
        written = [form for forms in self._terms.values() for form in forms]
        known |= self._spellings.keys() | GRAMMARS.get(language, Grammar()).words
        terms = encoded_terms(self._terms)
        words = encoded_words(known, terms, self._corrigible)
        first, _, _ = decoded_words(words)
        return {
            "language": language,
            "marked": any(marks_of(word) != NO_MARKS for form in written for word in form.split(" ")),
            "count": self._count,
            "groups": {} if self._shipped else self._groups,
            "cues": self._cues,
            "spellings": encoded_spellings(self._spellings),
            "unlike": " ".join(sorted(self._unlike)),
            "words": words,
            "repeated": " ".join(word for word, form in squeezed_forms(sorted(known)).items() if form != word),
            "terms": "/".join(terms[word] for word in first),
            "patterns": encoded_patterns(self._patterns),
            "rules": self._rules,
        }

    def _leave_out_unused_terms(self) -> None:
        """Leave out the shipped terms that no own rule asks for. With them own rules would be as large as all rules."""
        used = {slot for pattern in self._patterns for slot in pattern.slots}
        used |= {*self._cues.values(), *(rule["except"] for rule in self._rules)}
        kept: dict[str, dict[str, list[int]]] = {}
        for term, forms in self._terms.items():
            for written, groups in forms.items():
                if left := [group for group in groups if group in used]:
                    kept.setdefault(term, {})[written] = left
        self._terms = kept

    # The words of a language.

    def _read_unlike(self) -> None:
        for word in self._texts(self._source.get("unlike"), "unlike"):
            forms = Text(word).words
            if len(forms) != 1:
                self._refuse("unlike", "is not one word", word)
            else:
                self._unlike.add(forms[0])

    def _read_spellings(self) -> None:
        spellings = self._mapping(self._source.get("spellings"), "spellings")
        for word, meant in spellings.items():
            forms = Text(str(word)).words
            if len(forms) != 1:
                self._refuse("spellings", "is not one word", word)
                continue
            form = forms[0]
            if form in self._known:
                self._refuse("spellings", "is a word of the shipped rules", word)
                continue
            text = Text(_text(meant) or "")
            if not text.words:
                self._refuse("spellings", "stands for no word", word)
            elif len(text.words) > MOST_WORDS:
                self._refuse("spellings", f"stands for more than {MOST_WORDS} words", word)
            else:
                pairs = [(plain, raw.lower()) for plain, raw in zip(text.words, text.raw, strict=True)]
                self._spellings.setdefault(form, []).append((Text(str(word)).raw[0], pairs))

    def _read_words(self) -> None:
        for name, terms in self._mapping(self._source.get("words"), "words").items():
            where = f"words: {name}"
            if name in self._groups:
                self._refuse(where, "the shipped rules have this group")
                continue
            self._groups[name] = self._group()
            listed = list(self._texts(terms, where))
            if not listed:
                self._refuse(where, "has no terms")
            for term in listed:
                self._add(term, self._groups[name], where)

    def _read_cues(self) -> None:
        for cue in _CUES:
            if cue not in self._cues:
                self._cues[cue] = self._group()
        cues = self._mapping(self._source.get("cues"), "cues")
        self._unknown_fields(cues, {"not_negation", *KINDS}, "cues")
        negation = self._mapping(cues.get("negation"), "cues: negation")
        self._unknown_fields(negation, {"before", "after"}, "cues: negation")
        listed = {
            "negation_before": negation.get("before"),
            "negation_after": negation.get("after"),
            "idioms": self._source.get("idioms"),
            **{kind: cues.get(kind) for kind in ("not_negation", *ANYWHERE)},
        }
        for kind, terms in listed.items():
            where = kind if kind == "idioms" else f"cues: {kind}"
            for term in self._texts(terms, where):
                self._add(term, self._cues[kind], where)

    # The rules.

    def _read_rules(self) -> None:
        rules = self._source.get("rules")
        if not isinstance(rules, list) or not rules:
            self._refuse("rules", "must be a list of rules")
            return
        for number, rule in enumerate(rules, 1):
            self._field = f"rules.{number - 1}"
            if not isinstance(rule, Mapping):
                self._refuse(f"rules: rule {number}", "has no fields")
                continue
            identifier = rule.get("id")
            where = identifier if isinstance(identifier, str) else f"rule {number}"
            if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
                self._refuse(where, "id must have small letters, digits and hyphens")
            elif len(identifier) > _LONGEST_ID:
                self._refuse(where, f"id must have at most {_LONGEST_ID} characters")
            elif identifier in self._ids:
                self._refuse(where, "another rule has this id")
            else:
                self._read_rule(rule, identifier)

    def _read_rule(self, rule: Mapping[str, Any], where: str) -> None:
        self._unknown_fields(rule, _RULE_FIELDS, where)
        level = self._level(rule.get("level"), f"{where}: level")
        if level is None:
            return
        if not _text(rule.get("about")):
            self._refuse(where, "about is missing")
        for name in _SHOWN_FIELDS:
            if len(_text(rule.get(name)) or "") > _LONGEST_FIELD:
                self._refuse(where, f"{name} must have at most {_LONGEST_FIELD} characters")
        typing_errors = rule.get("typing_errors", True)
        if not isinstance(typing_errors, bool):
            self._refuse(where, "typing_errors must be true or false")
        patterns = [*self._phrases(rule, where), *self._windows(rule, where)]
        if not patterns:
            self._refuse(where, "has neither phrases nor together")
        if typing_errors is True:
            for _, _, slots in patterns:
                for slot in slots:
                    self._corrigible.update(filter(_is_long, self._words_of.get(slot, ())))
        for ordered, limit, slots in patterns:
            self._patterns.setdefault(Pattern(len(self._rules), ordered, limit, tuple(slots)))
        self._ids.add(where)
        self._rules.append(
            {
                "id": where,
                "level": level.value,
                "about": str(rule.get("about")),
                "except": self._exceptions(rule, where),
                "lowered_by": self._lowered_by(rule, level, where),
                "typing_errors": typing_errors,
                **{name: _text(rule.get(name)) for name in _SHOWN_FIELDS if name != "about"},
            }
        )

    def _phrases(self, rule: Mapping[str, Any], where: str) -> Iterator[list[Any]]:
        gap = self._number(rule.get("gap", _GAP), 0, f"{where}: gap")
        plain: int | None = None
        for phrase in self._texts(rule.get("phrases"), f"{where}: phrases"):
            if "<" in phrase or ">" in phrase:
                slots = self._slots(phrase, f"{where}: {phrase!r}")
                if slots:
                    yield [True, gap if len(slots) > 1 else 0, slots]
                continue
            # All phrases without a group are terms of one group, because each of them is a match alone.
            if plain is None:
                plain = self._group()
                yield [True, 0, [plain]]
            self._add(phrase, plain, f"{where}: {phrase!r}")

    def _windows(self, rule: Mapping[str, Any], where: str) -> Iterator[list[Any]]:
        within = self._number(rule.get("within", _WITHIN), 2, f"{where}: within")
        windows = rule.get("together", [])
        if not isinstance(windows, list):
            self._refuse(where, "together must be a list of lists")
            return
        for window in windows:
            texts = list(self._texts(window, f"{where}: together"))
            slots = [slot for text in texts for slot in self._slots(text, f"{where}: {text!r}")]
            if len(texts) < 2:
                self._refuse(where, "together needs two or more in each list")
            elif len(slots) != len(texts):
                self._refuse(where, "each entry of together is one group or one run of words")
            elif len(slots) > _MOST_SLOTS:
                self._refuse(where, f"together has more than {_MOST_SLOTS} entries in a list")
            else:
                yield [False, within, slots]

    def _slots(self, phrase: str, where: str) -> list[int]:
        slots = []
        # Every second piece is the name of a group.
        for number, piece in enumerate(_GROUP.split(phrase)):
            if number % 2:
                if piece in self._groups:
                    slots.append(self._groups[piece])
                else:
                    self._refuse(where, "is no group", piece)
            elif "<" in piece or ">" in piece:
                self._refuse(where, "a bracket is not closed")
            elif piece.strip():
                slots.append(self._literal(piece, where))
        if len(slots) > _MOST_SLOTS:
            self._refuse(where, f"has more than {_MOST_SLOTS} slots")
        return slots

    def _literal(self, words: str, where: str) -> int:
        """The group of one run of words. Equal runs share it."""
        name = " ".join(words.split()).lower()
        if name not in self._literals:
            self._literals[name] = self._group()
            self._add(words, self._literals[name], where)
        return self._literals[name]

    def _exceptions(self, rule: Mapping[str, Any], where: str) -> int | None:
        terms = list(self._texts(rule.get("except"), f"{where}: except"))
        if not terms:
            return None
        group = self._group()
        for term in terms:
            self._add(term, group, f"{where}: except")
        return group

    def _lowered_by(self, rule: Mapping[str, Any], level: Level, where: str) -> dict[str, str | None]:
        lowered: dict[str, Level | None] = dict(_LOWERED_BY[level])
        own = self._mapping(rule.get("lowered_by"), f"{where}: lowered_by")
        self._unknown_fields(own, set(KINDS), f"{where}: lowered_by")
        for kind, target in own.items():
            lowered[kind] = (
                self._level(target, f"{where}: lowered_by: {kind}") if target not in (None, "none") else None
            )
        for kind, to in lowered.items():
            if to is not None and to > level:
                self._refuse(f"{where}: lowered_by: {kind}", "must not be more than the rule's own level")
        if level is Level.CRISIS and lowered["negation"] is None:
            self._refuse(where, "negation must not lower a crisis to none")
        return {kind: level.value if level else None for kind, level in lowered.items()}

    # Terms and groups.

    def _group(self) -> int:
        self._count += 1
        return self._count - 1

    def _add(self, term: str, group: int, where: str) -> None:
        pairs = list(self._spelled(Text(term)))
        if not pairs:
            self._refuse(where, "has no words", term)
            return
        if len(pairs) > MOST_WORDS:
            self._refuse(where, f"has more than {MOST_WORDS} words", term)
            return
        key = " ".join(plain for plain, _ in pairs)
        is_marked = any(written for _, written in pairs)
        written = " ".join(written or plain for plain, written in pairs) if is_marked else ""
        groups = self._terms.setdefault(key, {}).setdefault(written, [])
        if group not in groups:
            groups.append(group)
        self._words_of.setdefault(group, set()).update(word for word, _ in pairs)

    def _spelled(self, text: Text) -> Iterator[tuple[str, str]]:
        """Each word of a term with its spelling written out, as in a text."""
        for place, plain in enumerate(text.words):
            meant = spelled_out(self._spellings.get(plain, ()), text.marks(place))
            if meant is None:
                yield plain, _written(text.raw[place])
            else:
                yield from ((form, _written(written)) for form, written in meant)

    # Values of fields.

    def _texts(self, values: Any, where: str) -> Iterator[str]:
        if values is None:
            return
        if not isinstance(values, list):
            self._refuse(where, "must be a list")
            return
        for value in values:
            text = _text(value)
            if text:
                yield text
            else:
                self._refuse(where, "is no text", value)

    def _mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._refuse(where, "must have fields")
            return {}
        return value

    def _number(self, value: Any, least: int, where: str) -> int:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _WIDEST:
            self._refuse(where, f"must be {least} to {_WIDEST}")
            return least
        return value

    def _level(self, value: Any, where: str) -> Level | None:
        try:
            return Level(value)
        except ValueError:
            self._refuse(where, "must be emergency, crisis or urgent")
            return None

    def _unknown_fields(self, value: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        for name in sorted(map(str, set(value) - set(known))):
            self._refuse(where, "is no field", name)


def _is_long(word: str) -> bool:
    return SHORTEST <= len(squeezed_form(word)) <= LONGEST


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _written(raw: str) -> str:
    """The word with its marks, if it has any: they are all that its written form is needed for."""
    return raw.lower() if marks_of(raw) != NO_MARKS else ""
