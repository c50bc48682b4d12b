"""Shows answers to people: as aligned columns, or as one line for each field if the terminal is too narrow."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z")


#: Invisible, but a part of some scripts' and emojis' spelling: the zero-width non-joiner and joiner.
_JOINERS = "\u200c\u200d"


def _is_harmless(character: str) -> bool:
    """Whether the character may go to a terminal. It obeys control characters; marks of direction mislead a reader."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def printable(text: str) -> str:
    """The text for a terminal, in one line: it comes from elsewhere, so what is not harmless is shown as an escape."""
    return "".join(
        character if _is_harmless(character) else character.encode("unicode_escape").decode() for character in text
    )


def as_json(value: Any) -> str:
    """JSON for people and programs. What is not harmless on a terminal is escaped, as JSON allows anywhere."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(
        character if _is_harmless(character) or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


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
    named = [(printable(name), value) for name, value in record.items()]
    width = max((len(name) for name, _ in named), default=0)
    lines = []
    for name, value in named:
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", fields(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name.ljust(width)}  {cell(value)}".rstrip())
    return "\n".join(lines)
