"""Messages that wait together are read one by one and joined, and the strongest finding counts."""

from __future__ import annotations

from itertools import permutations

import pytest

from message_handler.domain.safety import Level
from message_handler.safety.screening import screen
from tests.safety.samples import RULES


def test_nothing_is_found_in_harmless_texts() -> None:
    assert screen(RULES, []) is None
    assert screen(RULES, ["hello", "thank you"]) is None


def test_one_text_has_its_findings() -> None:
    screened = screen(RULES, ["hello", "chest pain and suicide"])
    assert screened is not None
    assert (screened.level, screened.rule, list(screened.findings)) == (Level.EMERGENCY, "chest", [1])


@pytest.mark.parametrize("texts", list(permutations(["I can't", "really", "breathe"])))
def test_up_to_three_short_texts_are_joined_in_any_order(texts: tuple[str, ...]) -> None:
    screened = screen(RULES, texts)
    assert screened is not None
    assert screened.level is Level.EMERGENCY


def test_a_joined_finding_has_a_place_in_each_of_its_texts() -> None:
    texts = ["breathe now", "I can't"]
    screened = screen(RULES, texts)
    assert screened is not None
    places = {texts[index][start:end] for index, finding in screened.findings.items() for start, end in finding.place}
    assert places == {"breathe", "can't"}


def test_long_texts_and_more_than_three_are_joined_as_they_came() -> None:
    assert screen(RULES, ["breathe", "I can't", "hello", "hello"]) is None
    assert screen(RULES, ["hello", "hello", "I can't", "breathe"]) is not None
    assert screen(RULES, ["breathe " + "x " * 200, "I can't"]) is None


def test_joining_never_lowers() -> None:
    for texts in (["chest pain", "no"], ["no", "chest pain"], ["want to die", "in the film"]):
        alone = max(finding.level for text in texts for finding in RULES.find(text))
        screened = screen(RULES, texts)
        assert screened is not None
        assert screened.level is alone
