"""What is asked at the same moment goes together, and is nobody else's concern."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from message_handler.domain.errors import Unavailable
from message_handler.drivers import combiner
from message_handler.drivers.combiner import ALONE, Alone, Combiner, _Asked


class Store:
    """Answers numbers with ten times as much, negative ones with an error; its first round trip waits to be let go."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.reached, self.let_go = threading.Event(), threading.Event()
        #: The number of a trip that fails, and how.
        self.raises_at: tuple[int, BaseException] | None = None

    def run(self, items: list[int]) -> list[int | Alone | Exception]:
        self.trips.append(items)
        number = len(self.trips)
        if number == 1:
            self.reached.set()
            assert self.let_go.wait(10)
        if self.raises_at and self.raises_at[0] == number:
            raise self.raises_at[1]
        return [ValueError(item) if item < 0 else 10 * item for item in items]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets tired of waiting before the test is done."""
    monkeypatch.setattr(combiner, "COMPANY_SECONDS", 20)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it never came")


def asked_behind(
    store: Store, combined: Combiner[int, int], threads: ThreadPoolExecutor, *items: int, key: str | None = None
) -> list[Future[int]]:
    """While the first, 1, is on its way, the others ask; all wait, in this order."""
    asked = [threads.submit(combined.ask, 1)]
    assert store.reached.wait(10)
    for number, item in enumerate(items, 1):
        asked.append(threads.submit(combined.ask, item, key))
        until(lambda number=number: len(combined._waiting) == number)  # type: ignore[misc]
    return asked


def test_who_is_alone_goes_at_once(store: Store) -> None:
    combined = Combiner(store.run)
    store.let_go.set()
    assert [combined.ask(number) for number in (1, 2, 3)] == [10, 20, 30]
    assert store.trips == [[1], [2], [3]]


@pytest.mark.usefixtures("patient")
class TestTogether:
    def test_what_comes_meanwhile_goes_together(self, store: Store, threads: ThreadPoolExecutor) -> None:
        asked = asked_behind(store, Combiner(store.run), threads, *range(2, 11))
        store.let_go.set()
        assert [each.result(10) for each in asked] == [10 * number for number in range(1, 11)]
        assert store.trips == [[1], [*range(2, 11)]]

    def test_no_more_than_so_many(self, store: Store, threads: ThreadPoolExecutor) -> None:
        asked = asked_behind(store, Combiner(store.run, most=3), threads, 2, 3, 4, 5, 6, 7, 8)
        store.let_go.set()
        assert [each.result(10) for each in asked] == [10 * number for number in range(1, 9)]
        assert store.trips == [[1], [2, 3, 4], [5, 6, 7], [8]]

    def test_two_with_one_key_never(self, store: Store, threads: ThreadPoolExecutor) -> None:
        asked = asked_behind(store, Combiner(store.run), threads, 2, 3, 4, key="patient-1")
        store.let_go.set()
        assert [each.result(10) for each in asked] == [10, 20, 30, 40]
        assert store.trips == [[1], [2], [3], [4]]

    def test_the_error_of_one_is_no_others(self, store: Store, threads: ThreadPoolExecutor) -> None:
        first, good, bad, other = asked_behind(store, Combiner(store.run), threads, 2, -3, 4)
        store.let_go.set()
        assert [each.result(10) for each in (first, good, other)] == [10, 20, 40]
        with pytest.raises(ValueError, match="-3"):
            bad.result(10)

    def test_who_goes_for_all_and_fails_has_learned_nothing_for_any(
        self, store: Store, threads: ThreadPoolExecutor
    ) -> None:
        store.raises_at = (2, Unavailable("the store"))
        combined = Combiner(store.run)
        first, *others = asked_behind(store, combined, threads, 2, 3, 4)
        store.let_go.set()
        assert first.result(10) == 10
        for each in others:
            with pytest.raises(Unavailable):
                each.result(10)
        assert combined.ask(5) == 50
        assert store.trips == [[1], [2, 3, 4], [5]]

    def test_who_got_no_answer_goes_alone_and_on_its_own_thread(
        self, store: Store, threads: ThreadPoolExecutor
    ) -> None:
        going: dict[int, str] = {}

        def run(items: list[int]) -> list[int | Alone | Exception]:
            if len(items) > 1:
                return [ALONE if item == 3 else 10 * item for item in items]
            going[items[0]] = threading.current_thread().name
            return [*store.run(items)]

        asked = asked_behind(store, Combiner(run), threads, 2, 3, 4)
        waits = threads.submit(lambda: threading.current_thread().name)
        store.let_go.set()
        assert [each.result(10) for each in asked] == [10, 20, 30, 40]
        assert going.keys() == {1, 3}
        assert going[3] not in (going[1], waits.result(10))


@pytest.mark.usefixtures("patient")
class TestInterrupts:
    """A thread that is told to end, wherever that hits it, leaves the others as it found them."""

    def goes_on(self, store: Store, combined: Combiner[int, int], others: list[Future[int]]) -> None:
        """Each of the others got its answer, nobody is left behind, and the next one waits for nobody."""
        assert not wait(others, timeout=10).not_done
        assert [each.result() for each in others] == [10 * item for item in range(3, 3 + len(others))]
        assert combined.ask(9) == 90
        assert store.trips[-1] == [9]
        assert not combined._leading
        assert not combined._waiting

    def test_on_its_way_for_all(self, store: Store, threads: ThreadPoolExecutor) -> None:
        store.raises_at = (2, SystemExit())
        combined = Combiner(store.run)
        first, leader, *others = asked_behind(store, combined, threads, 2, 3, 4)
        store.let_go.set()
        assert first.result(10) == 10
        assert isinstance(leader.exception(10), SystemExit)
        self.goes_on(store, combined, others)
        assert sorted(store.trips) == [[1], [2, 3, 4], [3], [4], [9]]

    @pytest.mark.parametrize("where", ["_let_others_come", "_take"])
    def test_before_it_goes(
        self, store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        combined = Combiner(store.run)
        first, leader, *others = asked_behind(store, combined, threads, 2, 3, 4)
        act, calls = getattr(combined, where), list[int]()

        def interrupted(*arguments: object) -> None:
            act(*arguments)
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(combined, where, interrupted)
        store.let_go.set()
        assert first.result(10) == 10
        assert isinstance(leader.exception(10), KeyboardInterrupt)
        self.goes_on(store, combined, others)

    @pytest.mark.parametrize("leads", [False, True])
    def test_while_it_waits(self, store: Store, threads: ThreadPoolExecutor, leads: bool) -> None:
        """It would go next, or has just been told to."""
        combined, interrupt = Combiner(store.run), threading.Event()
        first, other = asked_behind(store, combined, threads, 3)
        wait = combined._wait

        def interrupted(mine: Any) -> None:
            assert mine.sleeping.acquire(timeout=10) if leads else interrupt.wait(10)
            raise KeyboardInterrupt

        combined._wait = interrupted  # type: ignore[method-assign]
        waits = threads.submit(combined.ask, 2)
        until(lambda: len(combined._waiting) == 2)
        combined._wait = wait  # type: ignore[method-assign]
        combined._waiting.reverse()
        if not leads:
            interrupt.set()
            assert isinstance(waits.exception(10), KeyboardInterrupt)
        store.let_go.set()
        assert first.result(10) == 10
        assert isinstance(waits.exception(10), KeyboardInterrupt)
        self.goes_on(store, combined, [other])

    def test_whoever_is_never_told_goes_alone(
        self, store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(combiner, "TAKEN_SECONDS", 0.2)
        monkeypatch.setattr(combiner, "COMPANY_SECONDS", 0.2)
        combined = Combiner(store.run)
        leader = _Asked(1, None)
        combined._leading.add(leader)
        waits = threads.submit(combined.ask, 2)
        until(lambda: len(combined._waiting) == 1)
        combined._take(leader)  # and then its thread is gone
        store.let_go.set()
        went, _ = wait([waits], timeout=10)
        leader.followers[0].sleeping.release()  # so that it ends in any case
        assert went
        assert waits.result(10) == 20


@pytest.mark.usefixtures("patient")
def test_where_threads_may_be_interrupted_each_goes_by_itself(store: Store, threads: ThreadPoolExecutor) -> None:
    """Not even one after the other: nobody waits for anybody."""
    combined = Combiner(store.run, most=1)
    first = threads.submit(combined.ask, 1)
    assert store.reached.wait(10)
    others = [threads.submit(combined.ask, item) for item in (2, 3)]
    went, _ = wait(others, timeout=10)
    store.let_go.set()
    assert went == set(others)
    assert [each.result(10) for each in (first, *others)] == [10, 20, 30]
    assert sorted(store.trips) == [[1], [2], [3]]


def test_a_round_trip_that_does_not_end_holds_nobody_up(store: Store, threads: ThreadPoolExecutor) -> None:
    combined = Combiner(store.run)
    first = threads.submit(combined.ask, 1)
    assert store.reached.wait(10)
    asked = [threads.submit(combined.ask, number) for number in (2, 3, 4)]
    answered, _ = wait([first, *asked], timeout=2)
    store.let_go.set()
    assert answered == set(asked)
    assert [each.result(10) for each in (first, *asked)] == [10, 20, 30, 40]


def test_however_many_ask_each_gets_its_own_answer(store: Store, threads: ThreadPoolExecutor) -> None:
    combined, going, most = Combiner(store.run), threading.Semaphore(0), 200
    store.let_go.set()

    def asks(thread: int) -> list[int]:
        going.acquire()
        return [combined.ask(1000 * thread + number, key=number % 3) for number in range(most)]

    asked = [threads.submit(asks, thread) for thread in range(16)]
    going.release(16)
    for thread, answers in enumerate(asked):
        assert answers.result(60) == [10 * (1000 * thread + number) for number in range(most)]
    assert sum(map(len, store.trips)) == 16 * most
    assert max(map(len, store.trips)) <= 3, "one of each key"
