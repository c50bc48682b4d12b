"""Shows answers to people: as aligned columns, or as one line for each field if the terminal is too narrow."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z")


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey: it comes from elsewhere."""
    return "".join(character if character.isprintable() else "�" for character in text)


def cell(value: Any) -> str:
    """A value as a table shows it. Times are UTC, to the second."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return printable(json.dumps(value, ensure_ascii=False))
    text = printable(str(value))
    found = _TIME.fullmatch(text)
    return f"{found[1]} {found[2]}" if found else text


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The rows under their column names. If a row is wider than the terminal, each is a block of lines instead."""
    if not rows:
        return "nothing"
    heads = [column.upper().replace("_", " ") for column in columns]
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in [heads, *cells]) for index in range(len(columns))]
    if sys.stdout.isatty() and sum(widths) + 2 * (len(widths) - 1) > shutil.get_terminal_size().columns:
        return "\n\n".join(fields({column: row.get(column) for column in columns}) for row in rows)
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *cells]
    )
    return "\n".join(lines)


def fields(record: Mapping[str, Any], indent: str = "") -> str:
    """A record with one line for each field. Records inside it are indented."""
    width = max((len(name) for name in record), default=0)
    lines = []
    for name, value in record.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", fields(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name.ljust(width)}  {cell(value)}".rstrip())
    return "\n".join(lines)
