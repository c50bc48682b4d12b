"""Ends that were decided while Postgres was away are archived later: in turn, within bounds, and once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from message_handler.archive.memory import MemoryArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Contended, Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.raised import Raised
from message_handler.domain.records import ArchiveRecord, NoticeRecord
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from message_handler.worker import rescue
from message_handler.worker.rescue import LATER_SECONDS, RECORD_SECONDS, Rescue
from tests.contract.chat import Chat, Clock, named
from tests.contract.conversation import raised
from tests.contract.world import FakeQueue

FAR = 1e12


class Stores(MemoryArchive):
    """Stands in for Postgres, and can fail when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.asked: list[str] = []
        self.meanwhile: Callable[[str], None] = lambda _: None

    @property
    def away(self) -> bool:
        return self.is_away

    def ping(self) -> None:
        if self.is_away:
            raise Unavailable("Postgres")

    def archive(self, job: Job) -> bool:
        self.ping()
        self.asked.append(job.key.platform_id)
        self.meanwhile(job.job_id)
        return super().archive(job)

    def note_raised(self, raised: Raised) -> bool:
        self.ping()
        return super().note_raised(raised)


class House:
    """A process with one tier. Jobs of several tenants ended in it while Postgres was away."""

    def __init__(self) -> None:
        self.clock, self.archive = Clock(), Stores()
        self.tier = MemoryTier(Settings(), self.clock)
        self.queue = FakeQueue(self.clock)
        self.meter = Meter()
        self.numbers = 0
        self.rescue = self.process(self.tier)

    def process(self, *tiers: Any) -> Rescue:
        queue, archive = cast(Queue, self.queue), cast(Archive, self.archive)
        return Rescue(Failover(*cast(list[Tier], tiers)), archive, queue, self.clock, self.meter)

    def ends(self, platform_id: str, conversation_id: str = "patient", words: str = "Rest.") -> Job:
        """Let a job end in the tier. Postgres lacks its end."""
        self.numbers += 1
        chat = Chat(self.tier, self.clock, ConversationKey(platform_id, conversation_id), accepts=self.numbers)
        chat.says(named(f"m{self.numbers}"))
        job = chat.claimed()
        chat.seal([message.message_id for message in job.messages])
        ended = chat.end(job, reply=words, unarchived=True)
        assert chat.finish("worker", ended).done
        self.clock.advance(1)
        return ended

    def lacking(self) -> list[str]:
        return [job_id for _, job_id in self.tier.unarchived()]

    def conflicts(self) -> float:
        found: dict[str, float] = {}
        self.meter.publish(lambda name, unit, value: found.update({name: found.get(name, 0) + value}))
        return found.get("RepliesInConflict", 0)


@pytest.fixture
def house() -> House:
    return House()


class TestPush:
    def test_all_that_the_tiers_have_is_archived(self, house: House) -> None:
        jobs = [house.ends("clinic"), house.ends("clinic"), house.ends("lab")]
        assert house.rescue.push(FAR) == 3
        assert house.lacking() == []
        for job in jobs:
            assert house.archive.settled_by(job.key, job.messages[0].message_id) == job.job_id

    def test_ends_of_a_conversation_are_archived_in_their_order(self, house: House) -> None:
        jobs = [house.ends("clinic").job_id for _ in range(5)]
        seen: list[str] = []
        house.archive.meanwhile = seen.append
        house.rescue.push(FAR)
        assert seen == jobs

    def test_tenants_take_turns_and_what_is_left_goes_next(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rescue, "MOST_PUSHED", 4)
        for number in range(6):
            house.ends("hog", f"patient-{number}")
        for number in range(2):
            house.ends("clinic", f"patient-{number}")
        assert house.rescue.push(FAR) == 4
        assert sorted(house.archive.asked) == ["clinic", "clinic", "hog", "hog"]
        assert house.rescue.due
        assert house.rescue.push(FAR) == 4
        assert not house.rescue.due
        assert house.lacking() == []

    def test_a_push_ends_by_its_deadline(self, house: House) -> None:
        for number in range(6):
            house.ends("clinic", f"patient-{number}")
        house.archive.meanwhile = lambda _: house.clock.advance(1)
        assert house.rescue.push(house.clock() + 2) == 2
        assert house.rescue.due
        assert len(house.lacking()) == 4

    def test_an_entry_whose_end_is_gone_is_dropped(self, house: House) -> None:
        gone = house.ends("clinic")
        del house.tier.store.jobs.kept[gone.job_id]  # type: ignore[attr-defined]
        assert house.rescue.push(FAR) == 0
        assert house.lacking() == []
        assert house.archive.asked == []

    def test_what_another_process_has_archived_is_not_asked_again(self, house: House) -> None:
        """Both processes read the index before either archives an end."""
        house.ends("clinic")

        class Late(MemoryTier):
            def unarchived(inner) -> list[tuple[ConversationKey, str]]:  # noqa: N805
                found = house.tier.unarchived()
                house.rescue.push(FAR)
                return found

        late = Late(Settings(), house.clock)
        late.store = house.tier.store
        assert house.process(late).push(FAR) == 0
        assert house.archive.asked == ["clinic"]

    def test_an_end_that_can_not_be_archived_keeps_no_other_waiting(self, house: House) -> None:
        bad, good = house.ends("clinic"), house.ends("clinic")

        def breaks(job_id: str) -> None:
            if job_id == bad.job_id:
                raise ValueError

        house.archive.meanwhile = breaks
        with suppress(ValueError):
            house.rescue.push(FAR)
        assert house.lacking() == [bad.job_id]
        assert house.archive.settled_by(good.key, good.messages[0].message_id) == good.job_id

    def test_an_end_whose_line_others_change_is_tried_again(self, house: House) -> None:
        def meets(_: str) -> None:
            house.archive.meanwhile = lambda _: None
            raise Contended

        house.ends("clinic")
        house.archive.meanwhile = meets
        house.rescue.push(FAR)
        assert house.rescue.due
        assert house.rescue.push(FAR) == 1

    def test_while_postgres_is_away_no_tier_is_asked(self, house: House) -> None:
        house.ends("clinic")

        class Asked(MemoryTier):
            def unarchived(self) -> list[tuple[ConversationKey, str]]:
                raise AssertionError

        process = house.process(Asked(Settings(), house.clock))
        house.archive.is_away = True
        with pytest.raises(Unavailable):
            process.push(FAR)
        assert process.due

    def test_where_it_goes_away_again_the_rest_waits(self, house: House) -> None:
        for number in range(3):
            house.ends("clinic", f"patient-{number}")

        def goes(_: str) -> None:
            house.archive.is_away = True

        house.archive.meanwhile = goes
        with pytest.raises(Unavailable):
            house.rescue.push(FAR)
        assert house.rescue.due
        assert len(house.lacking()) == 2

    def test_a_tier_that_is_away_is_asked_later_and_the_others_now(self, house: House) -> None:
        house.ends("clinic")

        class Away(MemoryTier):
            away = True

            def unarchived(self) -> list[tuple[ConversationKey, str]]:
                if self.away:
                    raise Unavailable("Redis")
                return []

        away = Away(Settings(), house.clock)
        process = house.process(away, house.tier)
        assert process.push(FAR) == 1
        assert process.due
        away.away = False
        process.push(FAR)
        assert not process.due

    def test_threads_do_not_do_the_same_at_the_same_time(self, house: House) -> None:
        house.ends("clinic")
        counts: list[int] = []
        house.archive.meanwhile = lambda _: counts.append(house.rescue.push(FAR))
        assert house.rescue.push(FAR) == 1
        assert counts == [0]

    def test_what_ends_meanwhile_is_looked_for_again(self, house: House) -> None:
        house.ends("clinic")

        def ends(_: str) -> None:
            house.archive.meanwhile = lambda _: None
            house.ends("clinic", "another")
            house.rescue.due = True  # as the worker notes it

        house.archive.meanwhile = ends
        house.rescue.push(FAR)
        assert house.rescue.due


class TestWhenItIsDue:
    def test_a_process_that_saw_no_outage_asks_nothing(self, house: House) -> None:
        house.ends("clinic")
        house.rescue.push_if_due(FAR)
        assert house.archive.asked == []

    def test_a_process_that_saw_postgres_away_pushes_when_it_is_back(self, house: House) -> None:
        house.ends("clinic")
        house.archive.is_away = True
        house.rescue.push_if_due(FAR)
        house.archive.is_away = False
        house.clock.advance(rescue.LOOK_SECONDS)
        house.rescue.push_if_due(FAR)
        assert house.lacking() == []
        assert not house.rescue.due

    def test_a_process_looks_no_more_often_than_it_may(self, house: House) -> None:
        house.archive.is_away = True
        house.rescue.push_if_due(FAR)
        house.archive.is_away = False
        house.ends("clinic")
        house.clock.now -= 1
        house.rescue.push_if_due(FAR)
        assert house.archive.asked == []

    def test_the_records_of_a_batch_wait_for_the_one_that_asks(self, house: House) -> None:
        """Meanwhile the breaker refuses all others: they would go on as if Postgres were still away."""
        asked, answers, passed = threading.Event(), threading.Event(), threading.Event()

        def ping() -> None:
            asked.set()
            answers.wait(30)
            house.archive.is_away = False

        def comes_second() -> None:
            house.rescue.push_if_due(FAR)
            passed.set()

        house.archive.is_away = True
        house.archive.ping = ping  # type: ignore[method-assign]
        first = threading.Thread(target=house.rescue.push_if_due, args=(FAR,))
        first.start()
        assert asked.wait(30)
        second = threading.Thread(target=comes_second)
        second.start()
        assert not passed.wait(0.2)
        answers.set()
        for thread in (first, second):
            thread.join(30)
        assert passed.is_set()
        assert not house.archive.is_away

    def test_a_record_waits_no_longer_than_a_moment_for_it(self, house: House) -> None:
        for number in range(9):
            house.ends("clinic", f"patient-{number}")
        house.archive.meanwhile = lambda _: house.clock.advance(1)
        house.rescue.due = True
        house.rescue.push_if_due(FAR)
        assert len(house.archive.asked) == rescue.PUSH_SECONDS

    def test_an_archive_record_tells_of_others_that_wait(self, house: House) -> None:
        first, _ = house.ends("clinic"), house.ends("lab")
        assert house.rescue.take(ArchiveRecord(first), FAR)
        assert house.lacking() == []


class TestTwiceIsOnce:
    def test_the_same_end_again_is_no_conflict(self, house: House) -> None:
        job = house.ends("clinic")
        house.rescue.push(FAR)
        assert house.rescue.take(ArchiveRecord(job), FAR)
        assert house.conflicts() == 0
        assert len(house.archive.conversation(job.key).turns) == 2  # type: ignore[union-attr]

    def test_another_answer_that_came_first_is_one(self, house: House) -> None:
        job = house.ends("clinic")
        other = Chat(house.tier, house.clock, job.key).end(job, reply="Sleep.")
        other_id = job.key.new_job_id()
        house.archive.archive(Job(other_id, job.key, other.status, job.messages, job.bot_id, reply="Sleep."))
        assert house.rescue.take(ArchiveRecord(job), FAR)
        assert house.conflicts() > 0


class TestArchiveRecords:
    def comes_again(self, house: House, job: Job) -> int:
        assert house.rescue.take(ArchiveRecord(job), FAR)
        return house.queue.sent[-1][1]

    def test_one_comes_back_as_a_new_one(self, house: House) -> None:
        job = house.ends("clinic")
        house.archive.is_away = True
        for _ in range(20):
            assert self.comes_again(house, job) == RECORD_SECONDS
            house.clock.advance(RECORD_SECONDS)
        house.archive.is_away = False
        assert house.rescue.take(ArchiveRecord(job), FAR)
        assert len(house.queue.sent) == 20

    def test_no_tenant_fills_the_queue_with_them(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rescue, "RECORDS_PER_MINUTE", 3)
        jobs = [house.ends("hog", f"patient-{number}") for number in range(5)]
        other = house.ends("clinic")
        house.clock.advance(60)
        house.archive.is_away = True
        waits = [self.comes_again(house, job) for job in jobs]
        assert waits == [RECORD_SECONDS] * 3 + [LATER_SECONDS] * 2
        assert self.comes_again(house, other) == RECORD_SECONDS
        assert house.tier.admit("hog", 1) == 0, "it is not the tenant's messages that are counted"

    def test_many_ends_of_a_tenant_do_not_delay_its_notices(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rescue, "RECORDS_PER_MINUTE", 1)
        jobs = [house.ends("clinic", f"patient-{number}") for number in range(2)]
        house.clock.advance(60)
        house.archive.is_away = True
        assert [self.comes_again(house, job) for job in jobs] == [RECORD_SECONDS, LATER_SECONDS]
        notice = NoticeRecord(raised(raised_at=house.clock()))
        assert house.rescue.take(notice, FAR)
        assert house.queue.sent[-1] == (notice, RECORD_SECONDS)

    def test_an_archive_record_that_can_not_be_sent_is_kept(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuses(*_: object, **__: object) -> None:
            raise Unavailable("the queue")

        job = house.ends("clinic")
        house.archive.is_away = True
        monkeypatch.setattr(house.queue, "send", refuses)
        assert not house.rescue.take(ArchiveRecord(job), FAR)


class TestNoticeRecords:
    def test_one_comes_back_within_seconds_and_less_often_later(self, house: House) -> None:
        house.archive.is_away = True
        notice, waits = NoticeRecord(raised(raised_at=house.clock())), list[int]()
        for _ in range(6):
            assert house.rescue.take(notice, FAR)
            waits.append(house.queue.sent[-1][1])
            house.clock.advance(waits[-1])
        assert waits == [5, 5, 10, 20, 30, 30]
