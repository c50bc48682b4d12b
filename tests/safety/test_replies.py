"""Replies with labels: `never` may be read by no patient, `danger` by none who has told of danger, `good` by each.

The sentences in `replies/` were made up for this test, and the rules were improved with them. So they show no
rate of errors.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from message_handler.domain.notices import failure_notice
from message_handler.domain.safety import Level
from message_handler.safety.notices import notice_of
from message_handler.safety.replies import forbidden
from tests.unit.service import bot

LEVELS = {"never": Level.EMERGENCY, "danger": Level.URGENT, "good": None}
FILES = sorted(Path(__file__).with_name("replies").glob("*.tsv"))
REPLIES = [line.split("\t") for file in FILES for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("label", "reply"), REPLIES)
def test_each_reply(label: str, reply: str) -> None:
    assert forbidden(reply) is LEVELS[label]


def test_a_phrase_goes_over_no_end_of_a_sentence() -> None:
    assert forbidden("Please remember who I am. A doctor reads along.") is None


@pytest.mark.parametrize("language", ["en", "vi"])
def test_what_we_say_ourselves_is_allowed(language: str) -> None:
    config = bot("default", language=language)
    notices = [failure_notice(config), *(notice_of(config, level) for level in Level)]
    assert [text for text in notices if forbidden(text)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_language_has_as_many_good_replies_as_bad_ones(file: Path) -> None:
    labels = [line.split("\t")[0] for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(labels) >= 60
    assert 0.4 < labels.count("good") / len(labels) < 0.6
