"""The benchmark of throughput counts jobs that Postgres has, and both sides write the same rows."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.work import Commit
from benchmarks.programs import ROOT
from benchmarks.stores import Stores
from benchmarks.throughput import OURS, Bench, Worker
from local.errors import StoreUnavailableError

#: These differ between jobs and between runs.
OF_THE_JOB = {"job_id", "conversation_id", "message_id", "message_ids"}
TIMES = {"created_at", "started_at", "finished_at", "updated_at", "settled_at", "accepted_at"}
LAZY = """
import json
from benchmarks.programs import ROOT
from benchmarks.peers.work import receive
order, report = receive("pg8000")
for job in order.jobs:
    report.ended()
report.tell()
"""


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with Stores(quick=True) as started:
        try:
            assert started.redis_url and started.database_url
        except StoreUnavailableError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield started


@pytest.fixture
def bench(stores: Stores) -> Iterator[Bench]:
    with Bench(stores) as bench:
        yield bench


def rows(bench: Bench, conversation_id: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of a conversation. In place of a name or time there is whether it is set."""
    found = {}
    for table in ("conversations", "jobs", "settled", "turns", "deliveries", "erasures", "held"):
        name = "to_jsonb(t) ->> 'conversation_id' = :name"
        found_rows = bench.execute(
            f"select to_jsonb(t) from {table} as t where {name} order by 1", name=conversation_id
        )
        found[table] = [
            {
                column: value is not None if column in TIMES or column in OF_THE_JOB else value
                for column, value in row.items()
            }
            for (row,) in found_rows
        ]
    found["turns"].sort(key=lambda turn: turn["position"])
    for job in found["jobs"]:
        # A peer knows no rules, so it writes a version of its own.
        version = job["document"]["provenance"].pop("rules_version")
        assert re.fullmatch(r"[0-9a-f]{16}", version)
    return found


def test_a_peer_writes_the_same_rows_as_the_worker(bench: Bench, stores: Stores) -> None:
    bench.run(OURS, 20)
    (ours,) = bench.execute("select conversation_id from conversations limit 1")
    with closing(Commit(stores.database_url, "pg8000")) as commit:
        commit("theirs", "361f1a3a-0dbe-8854-9d6e-3cf972894b32", "m")
    written = rows(bench, ours[0])
    assert [len(written[table]) for table in ("conversations", "jobs", "settled", "turns")] == [1, 1, 1, 2]
    assert rows(bench, "theirs") == written


def test_a_peers_commit_counts_as_done(bench: Bench, stores: Stores) -> None:
    bench.empty()
    with closing(Commit(stores.database_url, "pg8000")) as commit:
        commit("c-1", "361f1a3a-0dbe-8854-9d6e-3cf972894b32", "p-m-1")
    assert (bench.answered("p"), bench.answered("q")) == (1, 0)


def test_our_worker_answers_all_that_it_is_timed_for(bench: Bench) -> None:
    speed = bench.run(OURS, 40)
    assert speed.jobs_per_second > 0 and speed.processor_ms > 0


def test_jobs_that_postgres_does_not_have_are_not_counted(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{LAZY}")
    with pytest.raises(RuntimeError, match="lazy answered 0 of 20 jobs"):
        bench.run(Worker("lazy", "lazy", sys.prefix, folder=tmp_path), 20)
