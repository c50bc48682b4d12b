"""The pages name files, names and messages that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from message_handler.domain.double_texting import POLICIES
from tests.pages import PAGES, ROOT, page

PACKAGE = ROOT / "layers" / "message_handler" / "src" / "message_handler"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILE = re.compile(r"(?:[\w.-]+/)+[\w-]+\.(?:py|js|lua|sql|md|yaml|toml|json|txt)")
#: What Lambda logs, and the pattern of a message that has a number in it.
OF_OTHERS = {"Task timed out", "Runtime exited"}
NAMING_MANY = {"CONTRIBUTING.md", "architecture.md", "protocol.md", "decisions.md"}


def exists(name: str) -> bool:
    return (PACKAGE / name).exists() or (ROOT / name).exists()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_file_that_a_page_names_exists(path: Path) -> None:
    # A file that does not exist yet is marked as new.
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


def test_each_message_that_operators_look_for_is_one_of_the_service() -> None:
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page("operations"), flags=re.DOTALL))
    words = [span.strip("… .") for span in spans if re.fullmatch(r"[a-zA-Z'… .]+ [a-z_'… .]+", span)]
    messages = [message for message in words if message not in OF_OTHERS and not message.startswith("sam ")]
    assert len(messages) > 8, "nothing is found any more"
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "functions").rglob("*.py"), ROOT / "template.yaml"]
    said = "".join(source.read_text() for source in sources)
    assert [message for message in messages if message not in said] == []


def test_operators_learn_what_each_failure_of_a_delivery_means() -> None:
    codes = set(re.findall(r'DeliveryFailure\("(\w+)"\)', (PACKAGE / "delivery" / "posting.py").read_text()))
    assert len(codes) > 3, "nothing is found any more"
    assert [code for code in sorted(codes) if f"`{code}`" not in page("operations")] == []
