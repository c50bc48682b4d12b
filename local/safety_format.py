"""A file of safety rules with its lists of terms on full lines: one term a line makes a file of thousands of lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from message_handler.safety.compiling import RulesRefused, content_of, parser

_WIDTH: Final = 120
_COMMENT: Final = re.compile(r"#[^\n]*")
#: What a plain value must not contain inside brackets.
_OF_BRACKETS: Final = re.compile(r"[,\[\]{}]")


def formatted(text: str) -> str:
    """The text of a file with each list of terms wrapped. All comments stay, and the content is the same.

    Raises RulesRefused if the text is no YAML.
    """
    parsed = parser()
    root = parsed(text, "the file")
    changed = text
    for start, end, new in sorted(_edits(root, text), reverse=True):
        changed = changed[:start] + new + changed[end:]
    if content_of(parsed(changed, "the formatted file")) != content_of(root):
        raise RulesRefused(["the file has a list that can not be wrapped"])
    return changed


def _edits(node: Any, text: str) -> Iterator[tuple[int, int, str]]:
    """For each list of terms: where it starts behind its name, where it ends, and its wrapped form."""
    if node.id == "sequence":
        for item in node.value:
            yield from _edits(item, text)
    elif node.id == "mapping":
        for key, value in node.value:
            if _is_of_terms(value):
                start, end = key.end_mark.index, _end(value, text)
                yield start, end, _wrapped(_pieces(value, start, text), key.start_mark.column, key.end_mark.column)
            else:
                yield from _edits(value, text)


def _is_of_terms(node: Any) -> bool:
    """Whether this is a list of terms, or of lists of terms."""
    return node.id == "sequence" and bool(node.value) and all(n.id == "scalar" or _is_of_terms(n) for n in node.value)


def _end(node: Any, text: str) -> int:
    """Where a value ends. The mark of a list without brackets is that of what follows it."""
    if node.id == "sequence" and not node.flow_style:
        return _end(node.value[-1], text)
    start, end = node.start_mark.index, node.end_mark.index
    return int(start) + len(text[start:end].rstrip())


def _pieces(node: Any, start: int, text: str) -> Iterator[str]:
    """The list's items, and the comments before each of them."""
    done = start
    for item in node.value:
        yield from _comments(item, done, text)
        yield _item(item, text)
        done = _end(item, text)
    if node.flow_style:
        yield from _COMMENT.findall(text[done : node.end_mark.index])


def _comments(node: Any, start: int, text: str) -> Iterator[str]:
    if node.id == "scalar":
        yield from _COMMENT.findall(text[start : node.start_mark.index])
        return
    for item in node.value:
        yield from _comments(item, start, text)
        start = _end(item, text)


def _item(node: Any, text: str) -> str:
    if node.id == "sequence":
        return f"[{', '.join(_item(item, text) for item in node.value)}]"
    written = re.sub(r"\s*\n\s*", " ", text[node.start_mark.index : _end(node, text)])
    return json.dumps(written, ensure_ascii=False) if not node.style and _OF_BRACKETS.search(written) else written


def _wrapped(pieces: Iterator[str], indent: int, column: int) -> str:
    listed = list(pieces)
    has_comments = any(piece.startswith("#") for piece in listed)
    line = f": [{', '.join(listed)}]"
    if not has_comments and column + len(line) <= _WIDTH:
        return line
    lines, margin = [""], " " * (indent + 4)
    for piece in listed:
        own = piece if piece.startswith("#") else f"{piece},"
        joined = f"{lines[-1]} {own}" if lines[-1] else margin + own
        if lines[-1] and (own is piece or lines[-1].lstrip().startswith("#") or len(joined) > _WIDTH):
            joined = margin + own
            lines.append("")
        lines[-1] = joined
    bracket = " " * (indent + 2)
    return "\n".join([":", f"{bracket}[", *lines, f"{bracket}]"])
