"""Guards that are marked in the source, and what becomes of a line when its guard is removed.

    if line.next:  # guard: counterexample 7, accept                   if False:
    and may_restart  # guard: invariant 9                              and True
    known = found(line)  # guard: invariant 5, ended -> None           known = None

A mark is a comment behind the code of one line: `# guard: <the rule>[ -> <expression>]`. The expression replaces the
line's code. In an assignment, a `return` or a keyword argument it replaces the value. Without an expression:

- The condition of an `if` or a `while` becomes False.
- An operand of `and` becomes True, an operand of `or` False.
- A condition of a comprehension becomes True.
- A statement becomes `pass`.
- A keyword argument is removed.

A line that holds more than that can't be marked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.guards.guard import IN_MEMORY, PACKAGE, REPOSITORY, Guard, Removal

_MARK = re.compile(r"  # guard: (?P<rule>.+?)( -> (?P<expression>.+))?")
#: Nodes that have a position in the source.
_PLACED = (ast.stmt, ast.expr, ast.keyword)
#: The text that may stand on a line before and after the removed code.
_BEFORE, _AFTER = re.compile(r" *((el)?if |while |and |or )?"), re.compile(r"[:,]?")


def guards_in(file: str, source: str) -> Iterator[Guard]:
    """The marked guards of a file. Raises ValueError if one can't be removed."""
    found = _on_lines(ast.parse(source))
    for number, line in enumerate(source.splitlines(), 1):
        code, sign, _ = line.partition("  # guard:")
        mark = _MARK.fullmatch(line, len(code))
        if mark:
            without = _without(code, *found.get(number, (None, None)), mark["expression"])
            yield Guard(code.strip(), mark["rule"], IN_MEMORY, (Removal(file, line, without),))
        elif sign:
            raise ValueError(f"{file}, line {number}: no mark is written like this")


def _on_lines(tree: ast.Module) -> dict[int, tuple[ast.AST, ast.AST]]:
    """For each line the outermost node that begins and ends on it, as (parent, node)."""
    found: dict[int, tuple[ast.AST, ast.AST]] = {}
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            line = getattr(node, "lineno", 0)
            if line == getattr(node, "end_lineno", None):
                found.setdefault(line, (parent, node))
    return found


def _without(code: str, parent: ast.AST | None, node: ast.AST | None, expression: str | None) -> str:
    """The line without its guard. Raises ValueError if its code can't be removed."""
    part, new = node, expression
    match parent, node:
        case _, (ast.Assign() | ast.AnnAssign() | ast.Return() | ast.keyword()) if expression:
            part = node.value
        case _, ast.keyword():
            new = ""
        case _, ast.stmt() if not expression:
            new = "pass"
        case ((ast.If(test=test) | ast.While(test=test)), _) if test is node:
            new = expression or "False"
        case ((ast.comprehension() | ast.BoolOp(op=ast.And())), ast.expr()):
            new = expression or "True"
        case ast.BoolOp(op=ast.Or()), ast.expr():
            new = expression or "False"
    if not isinstance(node, _PLACED) or not isinstance(part, _PLACED) or new is None or not code.isascii():
        raise ValueError(f"nothing that can be removed: {code}")
    if not _BEFORE.fullmatch(code, 0, node.col_offset) or not _AFTER.fullmatch(code, node.end_col_offset or 0):
        raise ValueError(f"a part of what stands there can't be removed alone: {code}")
    return new and code[: part.col_offset] + new + code[part.end_col_offset :]


def _all() -> Iterator[Guard]:
    for path in sorted((REPOSITORY / PACKAGE).rglob("*.py")):
        yield from guards_in(str(path.relative_to(REPOSITORY / PACKAGE)), path.read_text())


GUARDS = tuple(_all())
