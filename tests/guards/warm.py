"""`python -m tests.guards.warm` runs pytest for each line of its input, and answers with its exit code and output.

A line is a list of pytest's arguments, in JSON. Each run is a child of this process. The child finds the packages of
others imported, which takes longer than most tests, and imports what is ours anew: a file may change between two runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile

import pytest

#: Packages that many tests import, directly or through our modules.
OTHERS = (
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "boto3",
    "cryptography.x509",
    "hypothesis.strategies",
    "jsonschema",
    "moto",
    "pg8000.native",
    "pydantic_settings",
    "redis.cluster",
    "xdist.scheduler",
    "yaml",
)


def main() -> None:
    for name in OTHERS:
        importlib.import_module(name)
    gc.freeze()  # so that no child looks for garbage in them
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.exit(pytest.main(json.loads(line)))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            said = output.read().decode(errors="replace")
        print(json.dumps({"code": code, "output": said}), flush=True)


if __name__ == "__main__":
    main()
