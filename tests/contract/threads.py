"""Calls from several threads at the same moment, and waiting for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of the calls. Each is made in its own thread, all at the same moment."""
    barrier = threading.Barrier(len(calls))

    def meet(call: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(meet, calls))


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds. Fails the test after 10 s."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("the condition was never met")
