"""The benchmarks' peers: programs in their own environments that read and answer JSON."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.own_worker import batch_size
from benchmarks.peers import work
from benchmarks.programs import ROOT, Program
from benchmarks.throughput import PEERS
from local.template import TemplateSource

LOCKS = sorted(ROOT.glob("requirements/peer-*.txt"))
PROGRAMS = sorted(path.stem for path in ROOT.glob("benchmarks/peers/*.py") if path.stem not in ("__init__", "work"))


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    """The file of a module `peer`, which the test writes and a program runs."""
    return tmp_path / "peer.py"


def asked(peer: Path, *orders: dict[str, object], timeout: float = 30.0) -> list[dict[str, object]]:
    with Program(sys.prefix, "peer", timeout=timeout, folder=peer.parent) as program:
        return [program.ask(order) for order in orders]


def test_a_program_answers_each_order_with_a_line(peer: Path) -> None:
    peer.write_text(
        "import sys\nfor line in sys.stdin:\n    print(line.replace('asked', 'told'), end='', flush=True)\n"
    )
    assert asked(peer, {"asked": 1}, {"asked": 2}) == [{"told": 1}, {"told": 2}]


def test_a_program_that_fails_is_reported_with_its_last_line(peer: Path) -> None:
    peer.write_text("raise SystemExit('no such broker')")
    with pytest.raises(RuntimeError, match="peer failed: no such broker"):
        asked(peer, {})


def test_a_program_that_answers_nothing_is_ended_in_time(peer: Path) -> None:
    peer.write_text("import time; time.sleep(600)")
    with pytest.raises(RuntimeError, match=r"no answer within 0\.3 s"):
        asked(peer, {}, timeout=0.3)


def test_a_program_is_ended_with_its_benchmark(peer: Path) -> None:
    peer.write_text("import os, time\ninput(); print('{\"pid\": %d}' % os.getpid(), flush=True); time.sleep(600)")
    with Program(sys.prefix, "peer", folder=peer.parent) as program:
        pid = program.ask({})["pid"]
        assert Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_ends_with_the_process_that_asked_it(peer: Path) -> None:
    """Also if that process was killed: a worker that runs for ever would run on beside the next one."""
    peer.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.peers.work import receive\n"
        "order, report = receive('pg8000')\n"
        "report.ended(), report.ended()\n"
        "report.tell()\n"
        "time.sleep(600)\n"
    )
    order = {"redis_url": "", "database_url": "", "jobs": [["c", "j", "m"]] * 2, "warm_up": 1, "settings": {}}
    with Program(sys.prefix, "peer", folder=peer.parent) as program:
        program.ask(order)
        process = program.process
        assert process.poll() is None
        assert process.stdin
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_program_sees_only_the_environment_that_it_needs(peer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    peer.write_text("import json, os\ninput(); print(json.dumps(dict(os.environ)), flush=True)")
    (seen,) = asked(peer, {})
    assert "AWS_SECRET_ACCESS_KEY" not in seen


def test_an_environment_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"make \.venv-peer-none/synced"):
        Program(".venv-peer-none", "peer")


def test_a_report_counts_from_the_end_of_the_warm_up(peer: Path) -> None:
    """Other output, such as a worker's banner, is left out."""
    peer.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.peers.work import receive\n"
        "order, report = receive('pg8000')\n"
        "print('a banner')\n"
        "time.sleep(0.5)\n"
        "last = [report.ended() for job in order.jobs]\n"
        "assert last == [False, False, True], last\n"
        "assert report.complete.is_set()\n"
        "report.tell()\n"
    )
    order = {"redis_url": "", "database_url": "", "jobs": [["c", "j", "m"]] * 3, "warm_up": 1, "settings": {}}
    (told,) = asked(peer, order)
    assert (told["jobs"], told["measured"]) == (3, 2)
    assert isinstance(told["seconds"], float) and 0 < told["seconds"] < 0.5
    assert told["versions"].keys() == {"pg8000"}  # type: ignore[attr-defined]


def test_a_commit_is_given_every_value_that_it_names() -> None:
    assert set(work.NAMES) == set(work.values("c", "j", "m"))
    assert sorted(set(re.findall(r"\$(\d+)", work.STATEMENT)), key=int) == [
        str(number + 1) for number in range(len(work.NAMES))
    ]


def test_each_peer_has_its_program_its_lock_and_its_environment() -> None:
    assert {peer.name for peer in PEERS} | {"pottery"} == set(PROGRAMS)
    assert [path.stem for path in LOCKS] == [f"peer-{name}" for name in PROGRAMS]
    assert {path.stem for path in ROOT.glob("requirements/peer-*.in")} == {path.stem for path in LOCKS}
    for peer in PEERS:
        assert (peer.module, peer.environment) == (f"benchmarks.peers.{peer.name}", f".venv-peer-{peer.name}")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_peer_is_locked_by_hashes_and_no_lock_names_a_host(lock: Path) -> None:
    text = lock.read_text()
    wanted = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==\S+", text, re.MULTILINE)
    assert lock.stem.removeprefix("peer-") in wanted
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(wanted)
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_our_worker_gets_batches_as_large_as_the_deployed_one() -> None:
    template = TemplateSource(ROOT / "template.yaml").resolve({}, queue_url_prefix="")
    (size,) = (it.batch_size for it in template.event_sources if it.function == "WorkerFunction" and "Job" in it.queue)
    assert batch_size() == size


def test_make_sets_up_every_peer_before_it_measures() -> None:
    plan = subprocess.run(["make", "--dry-run", "--always-make", "bench"], cwd=ROOT, capture_output=True, text=True)
    for name in PROGRAMS:
        assert f"requirements/sync.sh .venv-peer-{name} requirements/peer-{name}.txt" in plan.stdout
    assert plan.stdout.rindex("sync.sh") < plan.stdout.rindex("-m benchmarks")
