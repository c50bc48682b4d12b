"""No private name of a third party is imported or read: `make lint` runs this beside ruff's SLF001.

    python -m tests.private_names              # exit code 1 if there is one

Ruff treats our private names, which tests may read, like a third party's. It also ignores names that a subclass reads
on `self`. Here a name with one underscore in front is a third party's unless we define it. On `self`, the class or a
base of ours must define it; elsewhere, the same file or the tested code. So a test may read a third party's name if our
code defines the same one.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTED = ("layers/message_handler/src", "functions", "local", "openapi", "benchmarks")
OURS = {"app", "benchmarks", "local", "message_handler", "openapi", "tests"}
#: The driver's file may read private names. tests/contract/test_drivers.py checks it.
EXEMPT = "layers/message_handler/src/message_handler/drivers/postgres_driver.py"
#: These are documented in spite of their underscore.
PUBLIC = {"_asdict", "_exit", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def defined(tree: ast.AST) -> set[str]:
    """The names of all functions, classes, variables, fields and attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


class Members:
    """The names that each of our classes defines, with those of our base classes."""

    def __init__(self) -> None:
        self._bases, self._own = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)

    def add(self, tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._bases[node.name].update(*(re.findall(r"\w+", ast.unparse(base)) for base in node.bases))
                self._own[node.name] |= defined(node)

    def of(self, name: str) -> set[str]:
        seen, waiting = set[str](), [name]
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += self._bases[name]
        return set[str]().union(*(self._own[name] for name in seen))


def reads(tree: ast.AST, inside: str | None = None) -> Iterator[tuple[int, str, str | None]]:
    """Line and name of each private attribute that is read or set. For one of `self`, also the class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = ast.unparse(node.value) in ("self", "cls", "super()")
            yield node.lineno, node.attr, inside if own else None
        yield from reads(node, node.name if isinstance(node, ast.ClassDef) else inside)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and path of each private name that is imported from elsewhere."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                paths = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                paths = [f"{module}.{alias.name}" for alias in aliases]
            case _:
                continue
        for path in paths:
            package, *names = path.split(".")
            if package not in OURS and any(map(is_private, names)):
                yield node.lineno, path


def found_in(trees: Mapping[str, ast.Module]) -> list[str]:
    """The faults in these files, one a line."""
    members, here = Members(), {file: defined(tree) for file, tree in trees.items()}
    tested = set[str]().union(*(names for file, names in here.items() if not file.startswith("tests/")))
    for tree in trees.values():
        members.add(tree)
    found = []
    for file, tree in trees.items():
        found += [(file, *theirs) for theirs in imports(tree)]
        for line, name, inside in reads(tree):
            if name not in (members.of(inside) if inside else here[file] | tested):
                found.append((file, line, name))
    return [f"{file}:{line}: {name} is a third party's private name" for file, line, name in found if file != EXEMPT]


def main() -> int:
    files = [file for folder in (*TESTED, "tests") for file in sorted((ROOT / folder).rglob("*.py"))]
    found = found_in({file.relative_to(ROOT).as_posix(): ast.parse(file.read_text()) for file in files})
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
