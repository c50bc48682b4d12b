"""Execution environments are real processes with Lambda's timeouts, crashes and limits."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import Future, wait
from pathlib import Path

import psutil

from local.logs import FunctionLog
from local.runtime import Outcome

from .conftest import Pools, eventually

PID = """
import os, time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    if "exit" in event:
        os._exit(event["exit"])
    return os.getpid()
"""


def value(outcome: Future[Outcome]) -> object:
    settled = outcome.result(30)
    assert not settled.failed, settled.describe()
    return json.loads(settled.payload)


def test_a_warm_environment_answers_one_invocation_after_the_other(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=1)  # or a second one could start before the first asks for its next event
    pool.warm()
    assert pool.await_warm(30) is None
    assert len({value(pool.submit(b"{}")) for _ in range(5)}) == 1


def test_concurrent_invocations_get_environments_of_their_own_up_to_the_limit(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=2)
    outcomes = [pool.submit(b'{"sleep": 0.2}') for _ in range(6)]
    assert len({value(outcome) for outcome in outcomes}) == 2  # the other four waited


def test_an_invocation_whose_caller_has_given_up_is_not_run(pools: Pools) -> None:
    pool = pools.make("def handler(event, context):\n    print(event)\n", concurrency=1)
    running, waiting = pool.submit(b'"first"'), pool.submit(b'"second"')
    waiting.cancel()
    assert value(running) is None
    assert value(pool.submit(b'"third"')) is None
    eventually(lambda: "third" in pools.log_file.read_text())
    assert "second" not in pools.log_file.read_text()


def test_a_timeout_kills_the_environment_and_what_it_started(pools: Pools) -> None:
    code = """
import os, subprocess, sys
def handler(event, context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("children", os.getpid(), child.pid)
    child.wait()
"""
    pool = pools.make(code, timeout_seconds=1)
    outcome = pool.submit(b"{}").result(30)
    assert outcome.failed
    assert "Task timed out after 1.00 seconds" in outcome.describe()
    line = eventually(lambda: next((x for x in pools.log_file.read_text().splitlines() if "children" in x), None))
    for pid in map(int, line.split()[1:]):
        eventually(lambda pid=pid: not is_running(pid))


def test_after_a_crash_the_next_invocation_gets_a_fresh_environment(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=1)
    first = value(pool.submit(b"{}"))
    outcome = pool.submit(b'{"exit": 3}').result(30)
    assert outcome.failed
    assert outcome.describe() == "Runtime.ExitError: Runtime exited with exit status 3"
    assert value(pool.submit(b"{}")) != first


def test_an_environment_that_dies_idle_is_replaced(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=1)
    first = value(pool.submit(b"{}"))
    assert isinstance(first, int)
    os.kill(first, 9)
    eventually(lambda: not is_running(first))
    outcome = pool.submit(b"{}").result(30)  # an environment may get an event while it dies
    assert outcome.failed or json.loads(outcome.payload) != first
    assert value(pool.submit(b"{}")) != first


def test_a_busy_environment_can_be_found_by_its_event_and_stopped_for_a_while(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=2)
    outcome = pool.submit(b'{"sleep": 0.3}')
    (busy,) = eventually(lambda: [e for e in pool.environments() if e.event == b'{"sleep": 0.3}'])
    assert busy.send_signal(signal.SIGSTOP)
    assert not wait([outcome], timeout=0.6).done
    assert busy.send_signal(signal.SIGCONT)
    assert isinstance(value(outcome), int)
    assert busy.event is None
    busy.kill()
    eventually(lambda: not busy.send_signal(signal.SIGCONT))


def test_a_handler_that_raises_is_an_error_and_stays(pools: Pools) -> None:
    pool = pools.make("import os\ndef handler(event, context):\n    return event['pid'] and os.getpid()\n")
    first = value(pool.submit(b'{"pid": 1}'))
    outcome = pool.submit(b"{}").result(30)
    assert (outcome.failed, outcome.describe()) == (True, "KeyError: 'pid'")
    assert value(pool.submit(b'{"pid": 1}')) == first


def test_a_function_that_cannot_be_imported_fails_its_invocations_and_says_why(pools: Pools) -> None:
    pool = pools.make("import nowhere\n")
    pool.warm()
    failure = pool.await_warm(30)
    assert failure is not None
    assert "No module named 'nowhere'" in failure.describe()
    outcomes = [pool.submit(b"{}") for _ in range(3)]
    assert ["nowhere" in outcome.result(30).describe() for outcome in outcomes] == [True] * 3


def test_events_and_results_over_6_mb_are_refused(pools: Pools) -> None:
    pool = pools.make("def handler(event, context):\n    return 'x' * event\n")
    assert "RequestEntityTooLarge" in pool.submit(b" " * 6_300_000).result(30).describe()
    assert "Function.ResponseSizeTooLarge" in pool.submit(b"6300000").result(30).describe()
    assert len(pool.submit(b"6000000").result(30).payload) == 6_000_002


def test_output_goes_to_the_log_line_by_line(pools: Pools) -> None:
    code = """
import sys
def handler(event, context):
    print("one")
    sys.stderr.write("two")
    raise OSError("x")
"""
    pools.make(code).submit(b"{}").result(30)
    log = eventually(
        lambda: "[ERROR] OSError: x\nTraceback" in pools.log_file.read_text() and pools.log_file.read_text()
    )
    assert log.startswith("one\ntwo")


def test_only_this_user_may_read_the_log_also_a_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").touch(0o644)
    before = os.umask(0)
    try:
        for name in ("old", "folder/new"):
            FunctionLog(tmp_path / name, None).close()
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name
    finally:
        os.umask(before)


def test_stopping_ends_all_environments_and_settles_all_invocations(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=2)
    idle = value(pool.submit(b"{}"))
    outcomes = [pool.submit(b'{"sleep": 60}') for _ in range(4)]
    environments = eventually(lambda: len(found := working_in(pools.log_file.parent)) == 2 and found)
    pool.stop(grace_seconds=0.1)
    assert all(outcome.result(1).failed for outcome in [*outcomes, pool.submit(b"{}")])
    assert not any(is_running(pid) for pid in [*environments, idle])


def working_in(folder: Path) -> list[int]:
    return [child.pid for child in psutil.Process().children() if working_folder(child) == str(folder)]


def working_folder(process: psutil.Process) -> str | None:
    try:
        return process.cwd()
    except psutil.Error:  # it has just ended
        return None


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_halting_ends_everything_in_the_middle_and_refuses_what_comes(pools: Pools) -> None:
    pool = pools.make(PID, concurrency=1)
    pool.warm()
    assert pool.await_warm(30) is None
    running, waiting = pool.submit(b'{"sleep": 60}'), pool.submit(b"{}")
    (environment,) = pool.environments()
    eventually(lambda: environment.event)
    pool.halt()
    assert pool.environments() == []
    assert b"Runtime.ExitError" in running.result(0).payload
    assert b"Host.Halted" in waiting.result(0).payload
    assert b"Host.Halted" in pool.submit(b"{}").result(0).payload
    assert pool.environments() == []


def test_after_halting_it_goes_on_with_a_new_environment(pools: Pools) -> None:
    pool = pools.make(PID)
    before = value(pool.submit(b"{}"))
    pool.halt()
    pool.resume()
    assert pool.await_warm(30) is None
    assert value(pool.submit(b"{}")) != before
