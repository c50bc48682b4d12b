"""The first invocation of a new environment, as built: the time that the first patient waits for it.

Each side is a fresh process of the same interpreter with the files that Lambda would give it. Ours has the built
function, its layer and the runtime's packages; the other side has the runtime's packages alone. Python writes no
bytecode here, because Lambda can't write beside the code. The clock starts when Python is up and stops with the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.figure import Figure, Round, Target
from benchmarks.functions import post, variables
from benchmarks.stores import Stores
from local.invoke import BUILT, built_function, runtime_packages
from local.variables import module_folders

_CLOCK = """
import json, sys, time
event = json.load(sys.stdin)
start = time.perf_counter()
{work}
print(time.perf_counter() - start, file=sys.stderr)
"""
_OURS = """
from app import handler
class Context:
    function_name = "IntakeFunction"
    memory_limit_in_mb = 1024
    aws_request_id = "9d2c7a1e-0000-4000-8000-000000000001"
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:IntakeFunction"
    def get_remaining_time_in_millis(self): return 30_000
assert handler(event, Context())["statusCode"] == 202
"""
_THEIRS = """
import boto3
boto3.client("sqs")
"""


def starting(stores: Stores) -> Iterator[Round]:
    function = built_function(BUILT, "IntakeFunction")
    runtime = runtime_packages(stores.folder / "runtime")
    environment = variables(stores, "intake")
    environment |= {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    paths = {_OURS: [*module_folders(function), runtime], _THEIRS: [runtime]}
    number = 0
    while True:
        number += 1
        event = json.dumps(post(f"cold-{number}"))
        sides = [(_OURS, event), (_THEIRS, "{}")]
        taken = {
            work: _seconds(work, given, environment | {"PYTHONPATH": os.pathsep.join(map(str, paths[work]))})
            for work, given in (sides if number % 2 else sides[::-1])
        }
        yield Round(taken[_OURS] * 1e3, taken[_THEIRS] * 1e3)


def _seconds(work: str, given: str, environment: Mapping[str, str]) -> float:
    command = [sys.executable, "-S", "-B", "-c", _CLOCK.format(work=work)]
    ended = subprocess.run(
        command, input=given, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"a fresh process failed: {ended.stderr.strip().splitlines()[-1]}")
    return float(ended.stderr.strip().splitlines()[-1])


FIGURES = (
    Figure(
        "cold-start",
        "cold start of intake / boto3 and an SQS client",
        "a fresh process imports the built intake function and answers its first event, every connection made anew",
        "a fresh process of the same interpreter and the runtime's packages imports boto3 and makes an SQS client",
        Target("≤", 1.9),
        starting,
        unit="ms",
        rounds=20,
        seconds=15,
    ),
)
