"""What is asked at the same moment goes together, and is nobody else's concern."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from message_handler.errors import Unavailable
from message_handler.stores import combiner
from message_handler.stores.combiner import Combiner


class Store:
    """Answers numbers with ten times as much, negative ones with an error; its first round trip waits to be let go."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.reached, self.let_go = threading.Event(), threading.Event()
        self.raises: BaseException | None = None

    def run(self, items: list[int]) -> list[int | Exception]:
        self.trips.append(items)
        if len(self.trips) == 1:
            self.reached.set()
            assert self.let_go.wait(10)
            if self.raises:
                raise self.raises
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
    monkeypatch.setattr(combiner, "PATIENCE_SECONDS", 60)


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

    @pytest.mark.parametrize("error", [Unavailable("the store"), SystemExit()])
    def test_who_goes_for_all_and_fails_has_learned_nothing_for_any(
        self, store: Store, threads: ThreadPoolExecutor, error: BaseException
    ) -> None:
        trips: list[list[int]] = []

        def run(items: list[int]) -> list[int | Exception]:
            trips.append(items)
            if len(trips) == 2:
                raise error
            return store.run(items)

        combined = Combiner(run)
        asked = asked_behind(store, combined, threads, 2, 3, 4)
        store.let_go.set()
        assert asked[0].result(10) == 10
        with pytest.raises(type(error)):
            asked[1].result(10)
        for follower in asked[2:]:
            with pytest.raises(Unavailable):
                follower.result(10)
        assert combined.ask(5) == 50
        assert trips == [[1], [2, 3, 4], [5]]


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
