"""The pages that people read, and the blocks and tables in them that tests run and compare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
_BESIDE_README = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")]
PAGES = [README, *_BESIDE_README, *sorted(DOCS.rglob("*.md"))]

#: A block of code, and the mark above it, if it has one, that names the test that runs it.
_BLOCK = re.compile(r"(?:^<!-- test: ([\w ]+) -->\n)?^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (DOCS / f"{name}.md").read_text()


def all_blocks(language: str) -> Iterator[str]:
    """Each block of code in this language, of all pages."""
    for path in PAGES:
        yield from (code for _, found, code in _BLOCK.findall(path.read_text()) if found == language)


def marked_blocks() -> list[tuple[str, str]]:
    """Each block of all pages that is marked for a test: the mark and the code."""
    return [(mark, code) for path in PAGES for mark, _, code in _BLOCK.findall(path.read_text()) if mark]


def blocks(mark: str) -> list[str]:
    """The code of each block with this mark, in the order of the pages."""
    found = [code for each, code in marked_blocks() if each == mark]
    assert found, f"no page has a block marked {mark!r}"
    return found


def first_cells(text: str) -> list[str]:
    """The first cell of each table row that begins with code."""
    return re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)


def without_code(text: str) -> str:
    """The text without its blocks of code."""
    return _BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")
        number = sum(1 for each in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", each))
        found.add(f"{anchor}-{number}" if anchor in found else anchor)
    return found
