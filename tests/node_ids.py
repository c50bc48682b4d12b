"""The ids of tests, which pages and lists name without parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST_ID = re.compile(r"\btests/[\w/]+\.py(?:::\w+)+")


@cache
def nodes_of(file: str) -> frozenset[str]:
    """The ids of the tests in a file. None if there is no such file."""
    path = ROOT / file
    return frozenset(_tests(ast.parse(path.read_text()), file)) if path.is_file() else frozenset()


def exists(test_id: str) -> bool:
    """Whether there is such a test. Its parameters are not looked at."""
    without_parameters = test_id.partition("[")[0]
    return without_parameters in nodes_of(without_parameters.partition("::")[0])


def _tests(scope: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node, f"{name}::{node.name}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield f"{name}::{node.name}"
