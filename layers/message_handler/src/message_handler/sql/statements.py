"""The SQL statements, by name. Each stands in a file of `sql/`, below a line `-- name: …` and a comment."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from pg8000.native import to_statement

SQL = files("message_handler.sql")
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)

#: A statement with numbered parameters, and a function that picks these from values by name.
type Statement = tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]


@cache
def statement(name: str) -> Statement:
    """The statement of this name. Raises KeyError if there is none."""
    return prepared(texts()[name])


def prepared(text: str) -> Statement:
    """A statement, ready to execute. Its comments are removed: a `:word` in one would count as a parameter."""
    lines = (line.partition("-- ")[0] for line in text.splitlines())
    made: Statement = to_statement("\n".join(line for line in lines if line.strip()))
    return made


def named(text: str) -> dict[str, str]:
    """The statements in a file's text, by name, each with its comment."""
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def texts() -> dict[str, str]:
    """The text of every statement, by name."""
    themes = [file for file in SQL.iterdir() if file.name.endswith(".sql") and file.name != "schema.sql"]
    return {name: text for file in themes for name, text in named(file.read_text()).items()}
