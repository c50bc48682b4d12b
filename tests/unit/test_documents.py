"""The codec of a job's fields, for each place that they go to."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar, get_args

import pytest

from message_handler.domain import documents
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import (
    as_text,
    declared,
    from_text,
    job_document,
    job_from_json,
    job_to_json,
    shown,
)
from message_handler.domain.jobs import Job, JobError, JobStatus, MessageFinding, Place, Provenance, Usage
from message_handler.domain.messages import Message, new_message
from message_handler.domain.records import ArchiveRecord
from message_handler.protocol.line import AnsweredMessage, Line
from message_handler.protocol.line_documents import answered_of, answered_to_text, line_of, line_to_text
from message_handler.queue.codec import decode, encode

KEY = ConversationKey("clinic", "patient-1")
#: A job with a different value in each field. None is the default.
FULL = Job(
    job_id=KEY.new_job_id(),
    key=KEY,
    status=JobStatus.FAILED,
    messages=(Message("m1", "", given=True, aliases=("a1",), accepted_at=3.5),),
    bot_id="nurse",
    restarts=1,
    attempts=2,
    sealed=True,
    maybe_committed=True,
    unarchived=True,
    kind="notice",
    drill=True,
    cancelled=("m1",),
    created_at=1.25,
    ready_at=2.25,
    typing_at=1.75,
    started_at=3.25,
    finished_at=4.25,
    reply="Rest. 💊",
    error=JobError("ai_failed", "The AI gave no answer.", "Please call us."),
    usage=Usage(7, 9),
    provenance=Provenance("nurse", 3, "gpt", 5, "gpt-4o", simulated=False),
    promised=("m2",),
    findings=(MessageFinding("m1", "urgent", "en-urine-blood", "v1", ((0, 5), (9, 14))),),
    superseded_by=KEY.new_job_id(),
    correlation_id="c-1",
)
_OF_EVERY_JOB = "job_id status restarts attempts created_at started_at finished_at superseded_by"
#: The fields of a job that clients, operators and platforms see. A list shows no text.
SHOWN: dict[Place, str] = {
    "view": f"{_OF_EVERY_JOB} kind drill reply error usage provenance",
    "list": f"{_OF_EVERY_JOB} kind drill bot_id",
    "export": f"{_OF_EVERY_JOB} drill bot_id reply provenance correlation_id",
    "webhook": "job_id bot_id reply provenance correlation_id",
}


def same(one: Job, other: Job, place: Place) -> bool:
    return all(getattr(one, field.name) == getattr(other, field.name) for field in declared(place))


class TestDeclarations:
    def test_each_place_is_one_that_is_known(self) -> None:
        places = {place for field in fields(Job) for place in field.metadata.get("places", ())}
        assert places == set(get_args(Place))

    @pytest.mark.parametrize("place", SHOWN)
    def test_each_place_shows_what_its_readers_know(self, place: Place) -> None:
        assert {field.name for field in declared(place)} == set(SHOWN[place].split())

    @pytest.mark.parametrize("place", ["line", "end"])
    def test_the_full_job_has_no_default_in_what_is_kept(self, place: Place) -> None:
        assert [field.name for field in declared(place) if getattr(FULL, field.name) == field.default] == []

    @pytest.mark.parametrize("place", SHOWN)
    def test_what_is_shown_is_there_if_only_as_null(self, place: Place) -> None:
        empty = Job("j", KEY, JobStatus.PENDING, (), "nurse")
        assert shown(empty, place).keys() == shown(FULL, place).keys() == {field.name for field in declared(place)}

    def test_times_are_shown_as_people_write_them(self) -> None:
        assert shown(FULL, "view")["finished_at"] == "1970-01-01T00:00:04.250Z"
        assert shown(replace(FULL, finished_at=None), "view")["finished_at"] is None


class TestKept:
    def test_an_end_comes_back_whole(self) -> None:
        again = job_from_json(from_text(as_text(job_to_json(FULL))))
        assert same(again, FULL, "end")
        assert (again.key, again.messages) == (KEY, FULL.messages)

    def test_what_was_said_goes_with_its_archiving(self) -> None:
        job = replace(FULL, unarchived=False, messages=(new_message("It hurts.", "m1"),))
        assert "It hurts." not in as_text(job_to_json(job))
        assert [message.message_id for message in job_from_json(job_to_json(job)).messages] == ["m1"]

    def test_a_line_comes_back_whole(self) -> None:
        line = Line(KEY, "nurse", current=replace(FULL, status=JobStatus.PROCESSING))
        (again,) = line_of(KEY, {"line": line_to_text(line)}).jobs()
        assert same(again, replace(FULL, status=JobStatus.PROCESSING), "line")
        assert again.bot_id == "nurse"

    def test_what_has_a_column_is_not_in_the_document_too(self) -> None:
        assert documents.COLUMNS.isdisjoint(job_document(FULL))
        assert {*job_document(FULL), *documents.COLUMNS} == {field.name for field in declared("end")}

    def test_what_says_nothing_takes_no_room(self) -> None:
        job = Job("j", KEY, JobStatus.PENDING, (), "nurse")
        assert job_document(job) == {"bot_id": "nurse"}


class TestOtherVersions:
    """While an update shifts traffic, each version reads documents of the other."""

    #: Documents of the previous release.
    END: ClassVar[dict[str, Any]] = {
        "job_id": FULL.job_id, "platform_id": "clinic", "conversation_id": "patient-1", "status": "failed",
        "bot_id": "nurse", "messages": [{"message_id": "m1", "content": ""}], "restarts": 0, "attempts": 2,
        "created_at": 1.25, "started_at": 3.25, "finished_at": 4.25, "reply": None,
        "error": {"code": "ai_failed", "message": "The AI gave no answer.", "notice": None}, "usage": None,
        "correlation_id": "", "superseded_by": None,
    }  # fmt: skip
    LINE = (
        '{"bot_id":"nurse","due_at":5.5,"current":{"job_id":"j","status":"processing","messages":'
        '[["m1","d1",true,["a1"],3.5]],"context":["d2",4],"attempts":1,"created_at":1.25,"started_at":3.25}}'
    )

    def test_an_end_of_the_release_before(self) -> None:
        job = job_from_json(self.END)
        assert (job.status, job.attempts, job.error, job.provenance) == (
            JobStatus.FAILED, 2, JobError("ai_failed", "The AI gave no answer."), None,
        )  # fmt: skip

    def test_the_release_before_finds_all_that_it_asks_for(self) -> None:
        written = job_to_json(FULL)
        needed = ("job_id", "platform_id", "conversation_id", "status", "messages", "bot_id", "created_at")
        assert written.keys() >= set(needed)
        assert written["error"].keys() == {"code", "message", "notice"}
        assert written["usage"].keys() == {"input_tokens", "output_tokens"}

    def test_a_line_of_the_release_before(self) -> None:
        (job,) = line_of(KEY, {"line": self.LINE}).jobs()
        assert (job.attempts, job.context_turns, job.messages[0].known_digest) == (1, 4, "d1")
        assert from_text(line_to_text(line_of(KEY, {"line": self.LINE}))) == from_text(self.LINE)

    def test_what_the_release_before_remembers_of_a_message(self) -> None:
        assert answered_of('["j","m1",4.5,2]') == AnsweredMessage("j", "m1", 4.5, 2)

    def test_the_release_before_reads_four_values_of_a_message(self) -> None:
        message = AnsweredMessage("j", "m1", 4.5, 2, "digest", 3.5)
        assert len(from_text(answered_to_text(message))) == 4
        assert answered_of(answered_to_text(message)) == message

    def test_a_job_of_which_the_release_before_left_no_message(self) -> None:
        (job,) = line_of(KEY, {"line": '{"current":{"job_id":"j","status":"processing","created_at":1.0}}'}).jobs()
        assert (job.messages, job.created_at) == ((), 1.0)

    def test_what_a_newer_one_has_added_is_left_out(self) -> None:
        value = self.END | {"added": 1, "usage": {"input_tokens": 7, "output_tokens": 9, "cached_tokens": 5}}
        assert job_from_json(value).usage == Usage(7, 9)

    def test_what_is_none_of_ours_is_refused_without_a_word_of_it(self) -> None:
        with pytest.raises(ValueError, match=r"^not a job$"):
            job_from_json(self.END | {"attempts": "It hurts."})
        with pytest.raises((ValueError, KeyError, TypeError)):
            decode(as_text({"archive": {"job_id": "j"}}))

    def test_an_archive_record_carries_all_of_it(self) -> None:
        again = decode(encode(ArchiveRecord(FULL)))
        assert isinstance(again, ArchiveRecord)
        assert same(again.job, FULL, "end")
