"""The shipped rules find the danger in sentences that their authors do not know, and few dangers in everyday ones.

Only ids are shown, because the authors of the rules must not read the test half.
"""

from __future__ import annotations

import pytest

from local import hazards
from message_handler.safety.rules import shipped
from tests.safety import evaluate
from tests.safety.corpus_files import FOLDER, Counts, screened, sentences, wilson

#: The least share of dangers that are found, and the most of harmless messages that raise an alarm.
FOUND, ALARMS = 0.97, 0.01
LANGUAGES = sorted(file.stem for file in FOLDER.glob("*.tsv"))


def counted(language: str, category: str) -> tuple[Counts, list[str]]:
    counts, wrong = Counts(), []
    chosen = [
        sentence
        for sentence in sentences()
        if (sentence.language, sentence.half, sentence.category) == (language, "test", category)
    ]
    assert chosen, f"{language}: no {category} sentences"
    for sentence, found in screened(shipped(), chosen):
        if not counts.add(sentence, found):
            wrong.append(sentence.id)
    return counts, wrong


@pytest.mark.parametrize("language", LANGUAGES)
def test_explicit_dangers_are_found(language: str) -> None:
    counts, missed = counted(language, "explicit")
    low, high = wilson(counts.found, counts.dangers)
    rate = counts.found / counts.dangers
    assert rate >= FOUND, f"{rate:.1%} ({low:.1%} to {high:.1%}) of {counts.dangers}; missed: {missed}"


def test_everyday_messages_raise_few_alarms() -> None:
    found = [counted(language, "everyday") for language in LANGUAGES]
    raised, harmless = (sum(getattr(counts, name) for counts, _ in found) for name in ("alarms", "harmless"))
    assert harmless >= 300
    low, high = wilson(raised, harmless)
    rate, alarms = raised / harmless, [id_ for _, ids in found for id_ in ids]
    assert rate <= ALARMS, f"{rate:.1%} ({low:.1%} to {high:.1%}) of {harmless}; alarms: {alarms}"


def test_the_safety_case_has_this_control_once_the_bounds_are_those_that_it_names() -> None:
    (control,) = (control for control in hazards.read().controls if control.id == "C42")
    assert "at least 0.97" in control.text
    assert "at most 1 %" in control.text
    assert (control.status == "built") == (FOUND >= 0.97 and ALARMS <= 0.01)


def test_wilsons_interval() -> None:
    assert [round(bound, 3) for bound in wilson(97, 100)] == [0.915, 0.99]
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_report_shows_no_sentence_of_the_test_half(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--misses"], ["--half", "test", "--misses"]):
        with pytest.raises(SystemExit):
            evaluate.main(arguments)
    capsys.readouterr()
    if LANGUAGES:
        assert evaluate.main(["--half", "test"]) == 0
        shown = capsys.readouterr().out
        assert not [sentence.id for sentence in sentences() if sentence.text in shown]
