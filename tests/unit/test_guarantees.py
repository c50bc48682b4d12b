"""Promises by their numbers: each cited one exists, each promise names tests, and each of these tests exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_ids import TEST_ID, exists, nodes_of

ROOT = Path(__file__).parents[2]
PROTOCOL, GUARANTEES = ROOT / "docs" / "protocol.md", ROOT / "docs" / "guarantees.md"

#: The folders that cite numbers.
FOLDERS = ("layers", "functions", "tests", "local", "benchmarks", "docs")
SUFFIXES = (".py", ".lua", ".sql", ".yaml", ".md", ".js")

#: A kind of promise and its number.
type Promise = tuple[str, int]

#: A number without a promise.
NO_PROMISE = {("invariant", 14)}

#: `invariant 4`, `Counterexample 3`, `invariants 1 to 7, 10 and 11`.
CITED = re.compile(r"\b(invariant|counterexample)s? +(\d+(?:(?:, and|,| and| or| to) +\d+)*)", re.IGNORECASE)
SECTION = re.compile(r"^### (Invariant|Counterexample) (\d+): ", re.MULTILINE)


def cited(text: str) -> Iterator[Promise]:
    for kind, numbers in CITED.findall(text):
        for first, last in re.findall(r"(\d+)(?: to +(\d+))?", numbers):
            yield from ((kind.lower(), number) for number in range(int(first), int(last or first) + 1))


def sections(text: str) -> dict[Promise, str]:
    """The text of each promise with its own heading."""
    parts = SECTION.split(re.sub(r"^## .*", "### ", text, flags=re.MULTILINE))
    return {
        (kind.lower(), int(number)): body.split("\n### ")[0]
        for kind, number, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def promised() -> dict[Path, set[Promise]]:
    """The promises that each of the two pages lists."""
    protocol = PROTOCOL.read_text()
    table = protocol.split("\n## Invariants\n")[1].split("\n## ")[0]
    invariants = {("invariant", int(number)) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    return {PROTOCOL: invariants | set(sections(protocol)), GUARANTEES: set(sections(GUARANTEES.read_text()))}


def files() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (file for file in (ROOT / folder).rglob("*") if file.suffix in SUFFIXES and file.is_file())


def test_both_pages_list_the_same_promises() -> None:
    listed = promised()
    one_sided = sorted(listed[PROTOCOL] ^ listed[GUARANTEES])
    assert not one_sided, f"only one of the two pages has: {one_sided}"
    for kind in ("invariant", "counterexample"):
        numbers = {number for listed_kind, number in listed[PROTOCOL] if listed_kind == kind}
        missing = set(range(1, max(numbers) + 1)) - numbers
        assert {(kind, number) for number in missing} <= NO_PROMISE, f"{kind}s: a number is missing"


def test_every_number_that_is_cited_is_a_promise() -> None:
    listed, wrong, found = promised()[GUARANTEES], [], set()
    for file in files():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            for promise in cited(line):
                found.add(promise)
                if promise not in listed:
                    wrong.append(f"{file.relative_to(ROOT)}:{number}: there is no {promise[0]} {promise[1]}")
    assert not wrong, "\n".join(wrong)
    assert {kind for kind, _ in found} == {"invariant", "counterexample"}, "nothing is found any more"


def test_every_promise_has_a_test() -> None:
    missing = [promise for promise, body in sections(GUARANTEES.read_text()).items() if not TEST_ID.search(body)]
    assert not missing, f"{GUARANTEES.name} names no test for: {missing}"


@pytest.mark.parametrize("page", [PROTOCOL, GUARANTEES], ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = TEST_ID.findall(page.read_text())
    assert named
    unknown = sorted({test_id for test_id in named if not exists(test_id)})
    assert not unknown, f"{page.name} names tests that there are not:\n" + "\n".join(unknown)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("# guard: {} 4, finish", [4]),
        ("DESIGN's {}s 1 to 3, 10 and 11 over a history", [1, 2, 3, 10, 11]),
        ("({} 99)", [99]),
        ("an {} and 3 more", []),
    ],
)
def test_each_way_to_cite_is_read(text: str, numbers: list[int]) -> None:
    for kind in ("invariant", "Counterexample"):
        assert list(cited(text.format(kind))) == [(kind.lower(), number) for number in numbers]


def test_a_page_that_is_not_true_is_noticed() -> None:
    kept, not_kept = "### Invariant 1: kept\n\n* `tests/a.py::test_b`\n", "### Invariant 2: not kept\n\nNone.\n"
    found = sections(f"{kept}\n{not_kept}\n## More\n\n`tests/c.py::test_d`\n")
    assert [promise for promise, body in found.items() if not TEST_ID.search(body)] == [("invariant", 2)]
    own = "tests/unit/test_guarantees.py"
    assert f"{own}::test_every_promise_has_a_test" in nodes_of(own)
    assert f"{own}::test_that_there_is_not" not in nodes_of(own)
    assert nodes_of("tests/unit/nowhere.py") == frozenset()
