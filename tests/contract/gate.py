"""Lets the calls of several threads meet in one round trip to their store, as the workers of a batch do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from message_handler.drivers import combiner
from message_handler.drivers.combiner import MOST, Combiner
from tests.contract.threads import until


class Gate:
    """Holds a round trip up, so that all that is asked meanwhile goes together in the next one.

    All archives and tiers that are made after the gate send their round trips through it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: The largest group of each combiner that was made.
        self.group_sizes: list[int] = []
        #: Which round trips are held up while the gate is shut.
        self.holds: Callable[[list[Any]], bool] = lambda items: True
        #: Is called with the items of each round trip before it is made.
        self.meanwhile: Callable[[list[Any]], None] = lambda items: None
        self._held: Combiner[Any, Any] | None = None
        self._opened = threading.Event()
        self._opened.set()
        gate = self

        class Gated[Item, Answer](Combiner[Item, Answer]):
            def __init__(self, run: Callable[[list[Item]], list[Any]], most: int = MOST) -> None:
                super().__init__(lambda items: gate.passed(self, run, items), most)
                gate.group_sizes.append(most)

        for module in ("archive.postgres", "tiers.stepper"):
            monkeypatch.setattr(f"message_handler.{module}.Combiner", Gated)
        # No thread gives up waiting for the others before the test is done.
        monkeypatch.setattr(combiner, "COMPANY_SECONDS", 60)

    def passed(
        self, combined: Combiner[Any, Any], run: Callable[[list[Any]], list[Any]], items: list[Any]
    ) -> list[Any]:
        if not self._opened.is_set() and self.holds(items):
            self._held = combined
            assert self._opened.wait(30)
        self.meanwhile(items)
        return run(items)

    def together[T](self, threads: ThreadPoolExecutor, first: Callable[[], T], *calls: Callable[[], T]) -> list[Any]:
        """What each call returns, or raises: the first one goes alone, then all others together."""
        self._held = None
        self._opened.clear()
        try:
            asked: list[Future[T]] = [threads.submit(first)]
            until(lambda: self._held is not None)
            for number, call in enumerate(calls, 1):
                asked.append(threads.submit(call))
                until(lambda number=number: self._held is not None and self._held.waiting == number)  # type: ignore[misc]
        finally:
            self._opened.set()
        return [each.exception(30) or each.result() for each in asked]
