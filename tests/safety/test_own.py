"""A tenant's own rules can't keep the shipped ones from finding danger, however slow or broken they are."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from message_handler.domain.safety_report import LANGUAGES
from message_handler.safety.compiling import RulesRefused, compiled_language
from message_handler.safety.language import Language
from message_handler.safety.matching import Matcher, Work
from message_handler.safety.own import own_language
from message_handler.safety.rules import MOST_OWN_CHARACTERS, MOST_OWN_STEPS, Rules, shipped
from message_handler.safety.screening import screen

EVERYDAY = ["the", "a", "of", "to", "i", "my", "and", "in"]
EMERGENCY = "I can't breathe"
SHIPPED = {finding.rule for finding in shipped().find(EMERGENCY)}
GROUPS = {f"everyday-{word}": [word] for word in EVERYDAY}
IN_ORDER = " ".join(f"<{group}>" for group in GROUPS)


def rule(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"own-{number}", "level": "emergency", "about": "x"} | fields


def file_of(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"language": "en", "rules": list(rules)} | fields


#: Files whose check would take seconds.
BOMBS = {
    "windows": file_of(*(rule(number, together=[EVERYDAY], within=20) for number in range(40))),
    "dense windows": file_of(*(rule(number, together=[list("abcd")], within=20) for number in range(40))),
    "rows": file_of(*(rule(number, phrases=[IN_ORDER], gap=20) for number in range(40)), words=GROUPS),
    "exceptions": file_of(
        *(rule(number, phrases=["<everyday-a> <everyday-a>"], **{"except": ["a film"]}) for number in range(200)),
        words=GROUPS,
    ),
    "long spellings": file_of(
        rule(1, phrases=[" ".join("w" * length) for length in range(1, 9)]), spellings={"qq": " ".join("w" * 12)}
    ),
}
#: For each the words of which a text makes it slow. "In the film" lowers all matches, so no rule is settled.
DENSE = {
    "windows": " ".join(EVERYDAY),
    "dense windows": "a b c d",
    "rows": " ".join(EVERYDAY),
    "exceptions": "a",
    "long spellings": "qq",
}


def with_own(source: dict[str, Any]) -> Rules:
    """Rules with own ones that no write has checked."""
    known = next(language for language in shipped().compiled if language["language"] == source["language"])
    return shipped().extended([compiled_language(source, known)])


@pytest.mark.parametrize("name", BOMBS)
def test_own_rules_that_would_take_too_long_are_refused(name: str) -> None:
    with pytest.raises(RulesRefused) as refused:
        own_language(BOMBS[name])
    (problem,) = refused.value.problems
    assert problem.field.startswith("rules.")
    assert "would take too long" in problem.what


@pytest.mark.parametrize("name", BOMBS)
def test_they_end_soon_and_keep_the_shipped_finding(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are stored all the same: another release has accepted them."""
    text = f"{EMERGENCY}. In the film " + f"{DENSE[name]} " * 4_000
    found = with_own(BOMBS[name]).find(text)
    assert {finding.rule for finding in found} >= SHIPPED
    assert [record.error for record in caplog.records if record.levelno == logging.ERROR] == ["TooMuchWork"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [MemoryError, RecursionError, ZeroDivisionError])
@pytest.mark.parametrize("broken", [(Language, "read"), (Language, "hits"), (Matcher, "matches")])
def test_whatever_fails_in_them_keeps_the_shipped_finding(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], broken: tuple[type, str]
) -> None:
    rules = with_own(file_of(rule(1, phrases=["zebra"])))
    (own,) = rules._own
    owner, name = broken
    real = getattr(owner, name)

    def fails(self: Any, *arguments: Any) -> Any:
        if self is own or getattr(self, "_language", None) is own:
            raise error
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, fails)
    try:
        found = rules.find(f"zebra, {EMERGENCY}")
    except error:
        found = ()
    assert {finding.rule for finding in found} == SHIPPED


def test_all_messages_of_one_check_share_the_steps(caplog: pytest.LogCaptureFixture) -> None:
    rules = with_own(file_of(rule(1, phrases=["zebra"])))
    before = screen(rules, ["zebra"])
    assert before
    assert before.rule == "own-1"
    long = "word " * (MOST_OWN_CHARACTERS // 5)
    texts = [*[long] * 200, "zebra", EMERGENCY]
    found = screen(rules, texts)
    assert found
    assert found.findings.keys() == {201}, "own rules have no steps left for the zebra"
    assert "TooMuchWork" in {getattr(record, "error", None) for record in caplog.records}


@pytest.mark.parametrize(("before", "is_read"), [(0, True), (MOST_OWN_CHARACTERS, False)])
def test_they_read_the_first_part_of_a_text(before: int, *, is_read: bool) -> None:
    rules = with_own(file_of(rule(1, phrases=["zebra"])))
    text = "." * before + f" zebra. {EMERGENCY}"
    assert {finding.rule for finding in rules.find(text)} == SHIPPED | ({"own-1"} if is_read else set())


def test_the_report_knows_the_shipped_languages() -> None:
    assert shipped().languages == LANGUAGES


def test_the_steps_are_the_same_in_each_run() -> None:
    def left() -> int:
        work = Work(MOST_OWN_STEPS)
        with_own(file_of(rule(1, together=[EVERYDAY[:3]]))).find(DENSE["windows"] * 20, work)
        return work._left

    assert left() == left() < MOST_OWN_STEPS


@pytest.mark.parametrize(
    ("source", "field", "what"),
    [
        (file_of(rule(1, phrases=["zebra"]), spellings={"qq": "w " * 13}), "spellings", "stands for more than 12"),
        (file_of(rule(1, phrases=["zebra"], gap="1" * 5000)), "rules.0", "must be 0 to 20"),
        (file_of(rule(1, phrases=["zebra"], gap="²")), "rules.0", "must be 0 to 20"),
        (file_of(rule(1, phrases=["zebra"], gap="١")), "rules.0", "must be 0 to 20"),
        (file_of(rule(1, together=[["a", "b"]], within=21)), "rules.0", "must be 2 to 20"),
        (file_of(rule(1, together=[list("abcdefghi")])), "rules.0", "more than 8 entries"),
        (file_of(rule(1, phrases=["zebra"], id="x" * 65)), "rules.0", "at most 64 characters"),
        (file_of(rule(1, phrases=["zebra"], id="drill")), "rules.0", "another rule has this id"),
        *(
            (file_of(rule(1, phrases=["zebra"]) | {name: "x" * 201}), "rules.0", f"{name} must have at most 200")
            for name in ("about", "source", "reviewed_by", "reviewed_at")
        ),
        (file_of(*(rule(number, phrases=["zebra"]) for number in range(201))), "rules", "more than 200 rules"),
        (file_of(rule(1, together=[["a", f"b{number}"] for number in range(501)])), "rules", "more than 500 phrases"),
    ],
)
def test_what_is_too_long_or_too_much_is_refused(source: dict[str, Any], field: str, what: str) -> None:
    with pytest.raises(RulesRefused) as refused:
        own_language(source)
    assert refused.value.problems[0].field == field
    assert what in refused.value.problems[0].what


def test_rules_with_all_shipped_groups_are_too_large() -> None:
    groups = list(shipped().compiled[0]["groups"])
    slots = [groups[start : start + 8] for start in range(0, len(groups), 8)]
    phrases = [" ".join(f"<{group}>" for group in row) for row in slots]
    spellings = {f"q{number}x": f"{number}y z{number}" for number in range(4_000)}
    with pytest.raises(RulesRefused, match="compiled form"):
        own_language(file_of(rule(1, phrases=phrases), spellings=spellings))


def test_ordinary_rules_are_accepted() -> None:
    phrases = ["<pain> <chest>", "my pump stopped", "i cannot <breathe>"]
    known = shipped().compiled[0]["groups"]
    names = [name for name in ("pain", "chest", "breathe") if name not in known]
    own_language(file_of(rule(1, phrases=phrases), words={name: [name] for name in names}))
