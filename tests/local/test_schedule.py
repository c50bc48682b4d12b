"""A schedule invokes its function with its input again and again."""

from __future__ import annotations

import pytest

from local.schedule import Ticker
from local.template import Schedule

from .conftest import Pools, eventually


def test_a_schedule_invokes_its_function_every_period(pools: Pools) -> None:
    pool = pools.make("def handler(event, context):\n    print('did', event['action'])\n")
    ticker = Ticker(Schedule("Sweep", "F", 0.05, '{"action": "sweep"}'), pool)
    ticker.start()
    eventually(lambda: pools.log_file.read_text().count("did sweep") >= 3)
    ticker.stop()


def test_a_run_that_fails_is_said_and_the_next_one_comes(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.make("def handler(event, context):\n    raise OSError('no')\n")
    ticker = Ticker(Schedule("Sweep", "F", 0.05, "{}"), pool)
    ticker.start()
    eventually(lambda: caplog.messages.count("Sweep failed: OSError: no") >= 2)
    ticker.stop()
