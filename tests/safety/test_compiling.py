"""Faults of rules are named, and the compiled file is that of the YAML files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from local.safety_rules import FILES, text_of_rules
from message_handler.safety.compiling import RulesRefused, compiled_language, source_of
from message_handler.safety.rules import shipped
from tests.safety.samples import ENGLISH, RULES, found, rules_of

RULE: dict[str, Any] = {"id": "r", "level": "crisis", "about": "x", "phrases": ["word"]}


def problems(**changes: Any) -> str:
    with pytest.raises(RulesRefused) as refused:
        compiled_language({"language": "en", "rules": [RULE], **changes})
    return "\n".join(refused.value.problems)


def rule(**changes: Any) -> list[dict[str, Any]]:
    return [{**RULE, **changes}]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_compiled_file_is_current(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == text_of_rules(file), "run make safety-rules"


def test_the_rules_are_loaded_once() -> None:
    assert shipped() is shipped()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"language": "English"}, "language: must be a code such as en"),
        ({"word": {}}, "the file: 'word' is no field"),
        ({"rules": []}, "rules: must be a list of rules"),
        ({"rules": ["r"]}, "rules: rule 1: has no fields"),
        ({"rules": rule(id="My Rule")}, "My Rule: id must have small letters, digits and hyphens"),
        ({"rules": [RULE, RULE]}, "r: another rule has this id"),
        ({"rules": rule(level="high")}, "r: level: must be emergency, crisis or urgent"),
        ({"rules": rule(about=" ")}, "r: about is missing"),
        ({"rules": rule(phrase=["x"])}, "r: 'phrase' is no field"),
        ({"rules": rule(phrases=[])}, "r: has neither phrases nor together"),
        ({"rules": rule(phrases="word")}, "r: phrases: must be a list"),
        ({"rules": rule(phrases=["<pain>"])}, "r: '<pain>': 'pain' is no group"),
        ({"rules": rule(phrases=["<pain word"])}, "r: '<pain word': a bracket is not closed"),
        ({"rules": rule(phrases=["!?"])}, "r: '!?': '!?' has no words"),
        ({"rules": rule(phrases=["one " * 13])}, "has more than 12 words"),
        ({"rules": rule(together=[["one"]])}, "r: together needs two or more in each list"),
        ({"rules": rule(together="one")}, "r: together must be a list of lists"),
        ({"rules": rule(gap=21)}, "r: gap: must be 0 to 20"),
        ({"rules": rule(gap=True)}, "r: gap: must be 0 to 20"),
        ({"rules": rule(typing_errors="maybe")}, "r: typing_errors must be true or false"),
        ({"rules": rule(lowered_by={"negation": "none"})}, "r: negation must not lower a crisis to none"),
        (
            {"rules": rule(lowered_by={"past": "emergency"})},
            "r: lowered_by: past: must not be more than the rule's own level",
        ),
        ({"rules": rule(lowered_by={"future": None})}, "r: lowered_by: 'future' is no field"),
        ({"words": {"pain": []}}, "words: pain: has no terms"),
        ({"words": {"pain": [None]}}, "words: pain: None is no text"),
        ({"words": ["pain"]}, "words: must have fields"),
        ({"spellings": {"two words": "x"}}, "spellings: 'two words' is not one word"),
        ({"spellings": {"x": "!"}}, "spellings: 'x' stands for no word"),
        ({"unlike": ["two words"]}, "unlike: 'two words' is not one word"),
        ({"cues": {"negation": ["no"]}}, "cues: negation: must have fields"),
        ({"cues": {"never": ["no"]}}, "cues: 'never' is no field"),
    ],
)
def test_faults_are_named(changes: dict[str, Any], problem: str) -> None:
    assert problem in problems(**changes)


def test_all_faults_are_named_at_once() -> None:
    assert len(problems(language="?", rules=rule(level="?"), words={"a": []}).splitlines()) == 3


def test_own_rules_leave_the_shipped_words_alone() -> None:
    (english,) = [language for language in RULES.compiled if language["language"] == "en"]
    before = copy.deepcopy(english)
    with pytest.raises(RulesRefused, match="the shipped rules have this group"):
        compiled_language({"language": "en", "words": {"chest": ["heart"]}, "rules": [RULE]}, english)
    with pytest.raises(RulesRefused, match="is a word of the shipped rules"):
        compiled_language({"language": "en", "spellings": {"chest": "heart"}, "rules": [RULE]}, english)
    with pytest.raises(RulesRefused, match="another rule has this id"):
        compiled_language({"language": "en", "rules": rule(id="chest")}, english)
    assert english == before


def test_plain_yes_and_no_are_words(tmp_path: Path) -> None:
    file = tmp_path / "en.yaml"
    file.write_text(
        "language: en\n"
        "cues: {negation: {before: [no, off]}}\n"
        "rules: [{id: a, level: urgent, about: x, gap: 1, typing_errors: true, reviewed_at: null,\n"
        "  phrases: [yes please, 911, on]}]\n"
    )
    source = source_of(file)
    assert source["cues"]["negation"]["before"] == ["no", "off"]
    assert source["rules"][0]["reviewed_at"] is None
    assert source["rules"][0]["typing_errors"] is True
    rules = rules_of(source)
    assert found("yes please", rules)
    assert found("call 911", rules)
    assert not found("no 911", rules)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "en.yaml is no YAML"),
        ("- a", "en.yaml has no fields"),
        ("", "en.yaml has no fields"),
        ("language: en\nwords:\n  a: [x]\n  a: [y]\n", "line 4: 'a' is there twice"),
    ],
)
def test_what_is_no_file_of_rules(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "en.yaml"
    file.write_text(text)
    with pytest.raises(RulesRefused, match=problem):
        source_of(file)


def test_the_samples_compile_alike_twice() -> None:
    assert compiled_language(ENGLISH) == compiled_language(ENGLISH)
