"""A commit puts its delivery into the outbox, in the same transaction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from message_handler.domain.conversations import ConversationKey
from tests.contract.chat import DAY, named
from tests.contract.conversation import ENDED, Conversation
from tests.contract.delivery.office import CANARY, CLINIC, Office


class TestOutbox:
    def test_a_committed_reply_is_to_be_delivered(self, office: Office) -> None:
        office.platform()
        job = office.talk().answer(1, "m0")
        assert office.rows() == [(f"msg_{job.job_id}", "pending", 0, None)]

    def test_a_commit_that_is_repeated_is_delivered_once(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.answer(1, "m0")
        assert office.archive.commit(job, 1)
        assert len(office.rows()) == 1

    def test_a_commit_that_is_refused_delivers_nothing(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        stale, _ = talk.number(job), talk.number(job)
        assert not office.archive.commit(talk.completed(job), stale)
        talk.answer(2, "m1")
        job = talk.job(3, "m0")
        taken = replace(talk.completed(job), messages=(named("m0"), named("m1")))
        assert not office.archive.commit(taken, talk.number(job))
        assert len(office.rows()) == 1

    def test_a_late_archived_reply_has_a_day_from_then_on(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        long_ago = replace(talk.completed(talk.job(1, "m0")), finished_at=ENDED - 100 * DAY)
        assert office.archive.archive(long_ago)
        ((left,),) = office.sql.run("select extract(epoch from give_up_at - now())::float8 from outbox") or ()
        assert left > DAY - 3600

    def test_a_cancelled_job_is_not_delivered(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        job = talk.job(1, "m0")
        talk.number(job)
        assert office.archive.cancel(job).cancelled
        assert office.rows() == []

    @pytest.mark.parametrize("base_url", [None, ""])
    def test_a_platform_without_a_webhook_has_no_deliveries(self, office: Office, base_url: str | None) -> None:
        office.configure(CLINIC, base_url)
        talk = office.talk()
        talk.answer(1, "m0")
        office.archive.archive(talk.completed(talk.job(2, "m1")))
        Conversation(office.archive, ConversationKey("nowhere", "patient-1")).answer(1, "m0")
        assert office.rows() == []

    def test_a_copy_of_a_job_is_not_delivered_again(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        talk.answer(2, "m1")
        talk.archive.supersede(talk.job(1, "m1"), talk.id(2))
        talk.archive.supersede(talk.job(2, "m0"), talk.id(1))
        assert office.sql.run("select count(*) from jobs where copy_of is not null") == [[1]]
        assert len(office.rows()) == 2

    def test_a_late_archived_reply_is_delivered_under_the_id_of_its_run(self, office: Office) -> None:
        """The reply may have been posted under this id while Postgres was away. Here one of its messages is settled."""
        office.platform()
        talk = office.talk()
        office.archive.archive(talk.completed(talk.job(1, "m0")))
        assert office.archive.cancel(talk.job(2, "m1")).cancelled
        office.archive.archive(talk.completed(talk.job(2, "m1", "m2")))
        assert [id_ for id_, *_ in office.rows()] == [f"msg_{talk.id(1)}", f"msg_{talk.id(2)}"]
        assert not office.archive.archive(talk.completed(talk.job(1, "m0")))
        assert len(office.rows()) == 2

    def test_another_end_of_a_job_that_was_delivered_has_an_id_of_its_own(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, "m0")
        office.archive.archive(talk.completed(talk.job(1, "m1"), "late"))
        successor = talk.end(1)[3]
        assert [id_ for id_, *_ in office.rows()] == [f"msg_{talk.id(1)}", f"msg_{successor}"]

    def test_a_delivery_holds_no_text_and_is_deleted_with_its_job(self, office: Office) -> None:
        office.platform()
        talk = office.talk()
        talk.answer(1, named("m0", CANARY), reply=CANARY)
        assert CANARY not in str(office.sql.run("select * from outbox"))
        office.sql.run("delete from jobs")
        assert office.rows() == []
