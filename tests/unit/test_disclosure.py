"""What a bot says about itself: in its first reply, and in each further reply of a number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from message_handler.domain.conversations import Turn
from message_handler.drivers.postgres import Database
from message_handler.worker.replies import DISCLOSURE_EVERY, with_disclosure
from tests.unit.service import CANARY, Service, bot, says
from tests.unit.test_danger import configured as with_config
from tests.unit.test_danger import read
from tests.unit.test_safety_configuration import bot as pharmacy

TEXT = "You are talking to an AI.\nCall 1900 1234 to reach a human."
NOW = 1_796_000_000.0
TEXTS = {"vi": "Bạn đang nói chuyện với AI.", "en": TEXT}


def told(replies: int, **meta_data: Any) -> list[int]:
    """The numbers of the replies that begin with the disclosure."""
    config = bot("default", meta_data={"disclosure": TEXT} | meta_data)
    known: list[Turn] = []
    for number in range(1, replies + 1):
        known.append(Turn("user", f"question {number}"))
        known.append(Turn("assistant", with_disclosure(f"answer {number}", known, config, NOW)))
    answers = [turn.content for turn in known if turn.role == "assistant"]
    assert all(answer.endswith(f"answer {number}") for number, answer in enumerate(answers, 1))
    return [number for number, answer in enumerate(answers, 1) if answer.startswith(f"{TEXT}\n\n")]


class TestWhen:
    def test_in_the_first_reply_and_again_after_that_many(self) -> None:
        assert told(7, disclosure_every=3) == [1, 4, 7]

    def test_in_each_reply(self) -> None:
        assert told(3, disclosure_every=1) == [1, 2, 3]

    def test_by_default_in_each_twentieth(self) -> None:
        assert told(DISCLOSURE_EVERY + 1) == [1, DISCLOSURE_EVERY + 1]

    @pytest.mark.parametrize(("hours", "again"), [(2.9, False), (3.0, True), (500.0, True)])
    def test_again_after_hours(self, hours: float, again: bool) -> None:
        config = bot("default", meta_data={"disclosure": TEXT, "disclosure_hours": 3})
        known = [
            Turn("assistant", f"{TEXT} Rest.", said_at=NOW - 3600 * hours),
            Turn("assistant", "Drink.", said_at=NOW),
        ]
        assert with_disclosure("Sleep.", known, config, NOW).startswith(TEXT) is again

    def test_hours_shorten_the_count_and_never_stretch_it(self) -> None:
        config = bot("default", meta_data={"disclosure": TEXT, "disclosure_hours": 3, "disclosure_every": 2})
        known = [Turn("assistant", TEXT, said_at=NOW), Turn("assistant", "Drink.", said_at=NOW)]
        assert with_disclosure("Sleep.", known, config, NOW).startswith(TEXT)

    def test_without_hours_or_without_a_time_the_count_alone_decides(self) -> None:
        old = Turn("assistant", TEXT, said_at=1.0)
        for turn, hours in ((old, None), (replace(old, said_at=0.0), 3)):
            meta_data = {"disclosure": TEXT} | ({"disclosure_hours": hours} if hours else {})
            assert with_disclosure("Sleep.", [turn], bot("default", meta_data=meta_data), NOW) == "Sleep."

    def test_never_without_a_text(self) -> None:
        assert told(2, disclosure=None) == []

    def test_again_after_a_human(self) -> None:
        known = [Turn("assistant", TEXT), Turn("sale", "Hello, this is Linh."), Turn("user", "thanks")]
        config = bot("default", meta_data={"disclosure": TEXT})
        assert with_disclosure("Rest.", known, config, NOW).startswith(TEXT)
        assert with_disclosure("Rest.", [*known, Turn("assistant", TEXT)], config, NOW) == "Rest."

    def test_what_a_patient_writes_does_not_count(self) -> None:
        config = bot("default", meta_data={"disclosure": TEXT})
        assert with_disclosure("Rest.", [Turn("user", TEXT)], config, NOW).startswith(TEXT)

    def test_other_blanks_and_breaks_are_the_same_text(self) -> None:
        config = bot("default", meta_data={"disclosure": TEXT})
        known = [Turn("assistant", f"  {' '.join(TEXT.split())}  Rest.")]
        assert with_disclosure("Drink.", known, config, NOW) == "Drink."

    def test_once_where_the_model_says_it_too(self) -> None:
        config = bot("default", meta_data={"disclosure": TEXT})
        assert with_disclosure(f"{TEXT} Rest.", [], config, NOW) == f"{TEXT} Rest."


class TestLanguages:
    @pytest.mark.parametrize(("language", "text"), [("vi", TEXTS["vi"]), ("en", TEXT), ("en-GB", TEXT)])
    def test_the_text_is_that_of_the_bots_language(self, language: str, text: str) -> None:
        config = bot("default", language=language, meta_data={"disclosure": TEXTS})
        assert with_disclosure("Rest.", [], config, NOW) == f"{text}\n\nRest."

    def test_a_bot_of_another_language_says_nothing(self) -> None:
        config = bot("default", language="fr", meta_data={"disclosure": TEXTS})
        assert with_disclosure("Rest.", [], config, NOW) == "Rest."


def test_a_conversation_begins_with_it(service: Service) -> None:
    with_config(service, disclosure=TEXTS)
    replies = []
    for number, words in enumerate(("hello", "and now?")):
        answer = service.post(says(words, f"m{number}"))
        service.deliver()
        replies.append(read(service, answer.body["ai_job_id"])["reply"]["content"])
    assert replies == [f"{TEXT}\n\n{CANARY} hello", f"{CANARY} and now?"]


@pytest.mark.parametrize(("hours", "again"), [(3, f"{TEXT}\n\n"), (5, "")], ids=["3", "5"])
def test_postgres_tells_when_it_was_said(configured: Service, database: Database, hours: int, again: str) -> None:
    assert pharmacy(configured, disclosure=TEXT, disclosure_hours=hours).status == 201
    earlier = "update turns set created_at = created_at - interval '4 hours'"
    replies = []
    for number, words in enumerate(("hello", "and now?")):
        answer = configured.post(says(words, f"m{number}", bot_id="pharmacy"))
        configured.deliver()
        replies.append(read(configured, answer.body["ai_job_id"])["reply"]["content"])
        database.run(lambda connection: connection.run(earlier))
    assert replies == [f"{TEXT}\n\n{CANARY} hello", f"{again}{CANARY} and now?"]


def test_the_platforms_own_history_counts(service: Service) -> None:
    with_config(service, disclosure=TEXTS)
    turns = [
        {"role": "user", "content": f"{CANARY} hello"},
        {"role": "assistant", "content": f"{TEXT} Good day."},
        {"role": "user", "content": f"{CANARY} thanks"},
    ]
    answer = service.post({"messages": turns})
    service.deliver()
    assert read(service, answer.body["ai_job_id"])["reply"]["content"] == f"{CANARY} thanks"
