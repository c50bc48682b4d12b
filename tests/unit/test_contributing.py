"""The pages name files that exist, and CONTRIBUTING.md names things that are in its files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from message_handler.domain.double_texting import POLICIES
from tests.pages import PAGES, ROOT, page

PACKAGE = ROOT / "layers" / "message_handler" / "src" / "message_handler"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILE = re.compile(r"(?:[\w.-]+/)+[\w-]+\.(?:py|js|lua|sql|md|yaml|toml|json|txt)")
NAMING_MANY = {"CONTRIBUTING.md", "architecture.md", "protocol.md", "decisions.md"}


def exists(name: str) -> bool:
    return (PACKAGE / name).exists() or (ROOT / name).exists()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_file_that_a_page_names_exists(path: Path) -> None:
    # What does not exist yet is called new.
    named = re.findall(r"`([^`\n*]+)`(?! \(new\))", path.read_text())
    files = [file for name in named for file in name.split() if FILE.fullmatch(file)]
    if path.name in NAMING_MANY:
        assert len(files) >= 10, "nothing is found any more"
    assert sorted(file for file in files if not exists(file)) == []


def test_each_name_is_in_the_file_of_its_row() -> None:
    rows = re.findall(r"^\| ([^|]*`[^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
    found = 0
    for files, change in rows:
        texts = "".join(
            path.read_text()
            for name in re.findall(r"`([\w./-]+)`(?! \(new\))", files)
            for path in (PACKAGE / name, ROOT / name)
            if path.is_file()
        )
        for name in re.findall(r"`([A-Za-z_]+)(?:\(\))?`", change) if texts else ():
            assert re.search(rf"\b{name}\b", texts), f"{name} is not in {files}"
            found += 1
    assert found > 8, "nothing is found any more"


def test_the_pages_say_of_each_double_texting_policy_what_it_does() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]* \| (?:joins|waits|takes|is refused)", page("double-texting"), re.MULTILINE)
    (columns,) = re.findall(r"^\| the line \| (.*) \|$", page("protocol"), re.MULTILINE)
    assert set(rows) == set(columns.replace("`", "").split(" | ")) == set(POLICIES)
