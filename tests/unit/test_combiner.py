"""Threads that ask a store at the same moment share a round trip, and a failure of one harms no other."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from message_handler.domain.errors import Unavailable
from message_handler.drivers import combiner
from message_handler.drivers.combiner import ALONE, Alone, Combiner


class Store:
    """Answers a number with ten times as much, a negative one with an error. Its first trip waits for `let_go`."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.reached, self.let_go = threading.Event(), threading.Event()
        #: The number of a trip that fails, and how.
        self.raises_at: tuple[int, BaseException] | None = None
        #: The number of a trip that ends only when the test does.
        self.hangs_at: int | None = None
        self.ended = threading.Event()

    def run(self, items: list[int]) -> list[int | Alone | Exception]:
        self.trips.append(items)
        number = len(self.trips)
        if number == 1:
            self.reached.set()
            assert self.let_go.wait(10)
        if self.hangs_at == number:
            assert self.ended.wait(30)
        if self.raises_at and self.raises_at[0] == number:
            raise self.raises_at[1]
        return [ValueError(item) if item < 0 else 10 * item for item in items]


class Patience:
    """In place of `COMPANY_SECONDS`: longer than a test takes. It counts the threads that have begun to wait.

    A lock's `acquire` asks for its timeout as a whole number, once, when its thread has joined those that wait.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.waits = 0

    def __index__(self) -> int:
        self.waits += 1
        return self.seconds


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def threads(store: Store) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads
        store.ended.set()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """No thread gives up waiting before the test is done."""
    patience = Patience(20)
    monkeypatch.setattr(combiner, "COMPANY_SECONDS", patience)
    return patience


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it never came")


class Burst:
    """Threads that ask while the first one, which asks for 1, is on its way."""

    def __init__(self, combined: Combiner[int, int], store: Store, threads: ThreadPoolExecutor, patience: Patience):
        self.combined = combined
        self._store, self._threads, self._patience = store, threads, patience
        self.first = threads.submit(combined.ask, 1)
        assert store.reached.wait(10)

    def ask(self, *items: int, key: str | None = None) -> list[Future[int]]:
        """Each asks in a thread of its own. All wait, in this order."""
        return [self.submit(self.combined.ask, item, key) for item in items]

    def submit(self, ask: Callable[..., int], *arguments: Any) -> Future[int]:
        """Let a thread ask, and return when it waits, or has ended."""
        waits = self._patience.waits
        asked = self._threads.submit(ask, *arguments)
        until(lambda: self._patience.waits > waits or asked.done())
        return asked

    def go(self, *asked: Future[int]) -> list[int]:
        """Let the first one's round trip end, and return the answers: that of the first one, and these."""
        self._store.let_go.set()
        return [each.result(10) for each in (self.first, *asked)]


@pytest.fixture
def burst(store: Store, threads: ThreadPoolExecutor, patience: Patience) -> Burst:
    return Burst(Combiner(store.run), store, threads, patience)


def test_a_thread_alone_goes_at_once(store: Store) -> None:
    combined = Combiner(store.run)
    store.let_go.set()
    assert [combined.ask(number) for number in (1, 2, 3)] == [10, 20, 30]
    assert store.trips == [[1], [2], [3]]


class TestTogether:
    def test_what_is_asked_meanwhile_goes_together(self, store: Store, burst: Burst) -> None:
        asked = burst.ask(*range(2, 11))
        assert burst.go(*asked) == [10 * number for number in range(1, 11)]
        assert store.trips == [[1], [*range(2, 11)]]

    def test_a_round_trip_takes_no_more_than_it_may(
        self, store: Store, threads: ThreadPoolExecutor, patience: Patience
    ) -> None:
        burst = Burst(Combiner(store.run, most=3), store, threads, patience)
        asked = burst.ask(2, 3, 4, 5, 6, 7, 8)
        assert burst.go(*asked) == [10 * number for number in range(1, 9)]
        assert store.trips == [[1], [2, 3, 4], [5, 6, 7], [8]]

    def test_two_with_one_key_never_go_together(self, store: Store, burst: Burst) -> None:
        asked = burst.ask(2, 3, 4, key="patient-1")
        assert burst.go(*asked) == [10, 20, 30, 40]
        assert store.trips == [[1], [2], [3], [4]]

    def test_an_error_is_raised_for_its_own_item_alone(self, burst: Burst) -> None:
        good, bad, other = burst.ask(2, -3, 4)
        assert burst.go(good, other) == [10, 20, 40]
        with pytest.raises(ValueError, match="-3"):
            bad.result(10)

    def test_a_round_trip_that_fails_fails_for_all_that_share_it_and_no_other(self, store: Store, burst: Burst) -> None:
        store.raises_at = (2, Unavailable("the store"))
        others = burst.ask(2, 3, 4)
        assert burst.go() == [10]
        for each in others:
            with pytest.raises(Unavailable):
                each.result(10)
        assert burst.combined.ask(5) == 50
        assert store.trips == [[1], [2, 3, 4], [5]]

    def test_an_item_without_an_answer_is_asked_again_alone_by_its_own_thread(
        self, store: Store, threads: ThreadPoolExecutor, patience: Patience
    ) -> None:
        going: dict[int, str] = {}

        def run(items: list[int]) -> list[int | Alone | Exception]:
            if len(items) > 1:
                return [ALONE if item == 3 else 10 * item for item in items]
            going[items[0]] = threading.current_thread().name
            return [*store.run(items)]

        burst = Burst(Combiner(run), store, threads, patience)
        asked = burst.ask(2, 3, 4)
        idle = threads.submit(lambda: threading.current_thread().name)
        assert burst.go(*asked) == [10, 20, 30, 40]
        assert going.keys() == {1, 3}
        assert going[3] not in (going[1], idle.result(10))


def ask_and_end(combined: Combiner[int, int], item: int, end_at: int) -> int:
    """Ask in a thread that is told to end at the n-th line it runs in the combiner, before the combiner cleans up.

    The clean-up is the last step of `ask`: all that its first step calls comes before it. Lines with `with` are left
    out: Python does not release a lock if the interrupt comes at the end of its block.
    """
    source = Path(combiner.__file__).read_text().splitlines()
    lines, first_step = 0, None

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines, first_step
        if frame.f_code.co_filename != combiner.__file__:
            return None
        if event == "call" and first_step is None and frame.f_back and frame.f_back.f_code is Combiner.ask.__code__:
            first_step = frame
        elif event == "return" and frame is first_step:
            sys.settrace(None)
        elif event == "line" and first_step and not source[frame.f_lineno - 1].lstrip().startswith("with "):
            lines += 1
            if lines == end_at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        return combined.ask(item)
    finally:
        sys.settrace(None)


class TestInterrupts:
    """A thread that is told to end, wherever that hits it, leaves the others as it found them."""

    def goes_on(self, store: Store, burst: Burst, patience: Patience, others: list[Future[int]]) -> None:
        """Each of the others got its answer, no thread is left behind, and the next one goes at once."""
        assert not wait(others, timeout=10).not_done
        assert [each.result() for each in others] == [10 * item for item in range(3, 3 + len(others))]
        waits = patience.waits
        assert burst.combined.ask(9) == 90
        assert store.trips[-1] == [9]
        assert patience.waits == waits

    def test_on_its_way_for_all(self, store: Store, burst: Burst, patience: Patience) -> None:
        store.raises_at = (2, SystemExit())
        leader, *others = burst.ask(2, 3, 4)
        assert burst.go() == [10]
        assert isinstance(leader.exception(10), SystemExit)
        self.goes_on(store, burst, patience, others)
        assert sorted(store.trips) == [[1], [2, 3, 4], [3], [4], [9]]

    @pytest.mark.parametrize(("before", "lines"), [(0, 20), (1, 5)], ids=["leader", "follower"])
    def test_at_any_line(self, threads: ThreadPoolExecutor, patience: Patience, before: int, lines: int) -> None:
        for line in itertools.count(1):
            store = Store()
            burst = Burst(Combiner(store.run), store, threads, patience)
            others = burst.ask(*range(3, 3 + before))
            ending = burst.submit(ask_and_end, burst.combined, 2, line)
            others += burst.ask(*range(3 + before, 6))
            assert burst.go() == [10]
            ended = ending.exception(10)
            self.goes_on(store, burst, patience, others)
            if ended is None:
                break
            assert isinstance(ended, KeyboardInterrupt)
        assert line > lines, "the thread was not told to end at each of its lines"

    def test_a_thread_whose_leader_never_ends_goes_alone(
        self, store: Store, burst: Burst, patience: Patience, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(combiner, "TAKEN_SECONDS", 0.2)
        patience.seconds = 1
        store.hangs_at = 2
        leader, follower = burst.ask(2, 3)
        assert burst.go() == [10]
        went, _ = wait([follower], timeout=10)
        assert went
        assert follower.result() == 30
        assert not leader.done()
        assert store.trips == [[1], [2, 3], [3]]


@pytest.mark.usefixtures("patience")
def test_where_threads_may_be_interrupted_each_goes_by_itself(store: Store, threads: ThreadPoolExecutor) -> None:
    """They don't even go one after the other: no thread waits for another."""
    combined = Combiner(store.run, most=1)
    first = threads.submit(combined.ask, 1)
    assert store.reached.wait(10)
    others = [threads.submit(combined.ask, item) for item in (2, 3)]
    went, _ = wait(others, timeout=10)
    store.let_go.set()
    assert went == set(others)
    assert [each.result(10) for each in (first, *others)] == [10, 20, 30]
    assert sorted(store.trips) == [[1], [2], [3]]


def test_a_round_trip_that_does_not_end_keeps_no_other_waiting(store: Store, threads: ThreadPoolExecutor) -> None:
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
    assert max(map(len, store.trips)) <= 3, "a round trip has one item of each key"
