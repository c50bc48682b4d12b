"""The command line of the long form: an interruption ends it, and it leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.chaos", "--kinds", "redis: frozen", "--seed", "7"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        yield running
        running.kill()


def test_an_interrupted_run_heals_what_it_broke_and_leaves_no_process_behind(campaign: subprocess.Popen[str]) -> None:
    assert campaign.stdout is not None
    assert campaign.stdout.readline() == "1 kinds of faults, 8 patients, seed 7\n"
    assert "broken: redis: frozen" in next(line for line in campaign.stdout if "broken: redis" in line)
    children = psutil.Process(campaign.pid).children(recursive=True)
    assert len(children) > 5
    campaign.send_signal(signal.SIGINT)
    campaign.send_signal(signal.SIGINT)  # an impatient second one changes nothing
    assert campaign.wait(30) == 130
    _, left = psutil.wait_procs(children, timeout=5)
    assert left == []


def test_a_kind_of_fault_that_does_not_exist_is_refused_with_a_list() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--kinds", "earthquake"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "redis: killed, back empty" in result.stdout
