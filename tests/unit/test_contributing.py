"""CONTRIBUTING.md names files and names that there are, and what is to be changed in each is really there."""

from __future__ import annotations

import re

from message_handler.domain.double_texting import POLICIES
from tests.pages import ROOT, page

PACKAGE = ROOT / "layers" / "message_handler" / "src" / "message_handler"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PATH = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|js|sql|md|yaml|toml|json|txt)|(?:[\w.-]+/)+")


def exists(name: str) -> bool:
    return (PACKAGE / name).exists() or (ROOT / name).exists()


def test_each_file_that_is_named_exists() -> None:
    # What does not exist yet is called new.
    named = re.findall(r"`([^`\n*]+)`(?! \(new\))", TEXT)
    paths = [path for name in named for path in name.split() if PATH.fullmatch(path)]
    assert len(paths) > 40, "nothing is found any more"
    assert sorted(path for path in paths if not exists(path)) == []


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
