"""The lists of a file of rules are wrapped without a change of its meaning, and no comment is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local import safety_rules
from local.safety_format import formatted
from message_handler.safety.compiling import RulesRefused, compiled_language, source_of
from message_handler.safety.rules import FILE

FILES = sorted(FILE.with_name("rules").glob("*.yaml"))
LONG = "\n".join(f"      - term number {number}" for number in range(30))
TEXT = f"""# The file.
language: en
words:
  # A group.
  one:
    - first # beside
    # above
    - "no, sir"
    - with, comma
    - 'it''s'
  long:
{LONG}
  # Behind.
rules:
  - id: a
    level: urgent
    about: x
    phrases: [<one>, no]
    together:
      - [<one>, <long>]
      - - <long>
        - word
    reviewed_by: null
"""


def test_lists_are_wrapped() -> None:
    text = formatted(TEXT)
    assert '"with, comma"' in text
    assert "  one:\n    [\n      first,\n      # beside\n      # above\n" in text
    assert "    together: [[<one>, <long>], [<long>, word]]\n" in text
    assert "    phrases: [<one>, no]\n" in text
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.splitlines()) < len(TEXT.splitlines()) - 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_shipped_files_keep_their_meaning(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / file.name
    copy.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    assert safety_rules.main(["--format", str(copy)]) == 0
    text = copy.read_text(encoding="utf-8")
    assert compiled_language(source_of(copy)) == compiled_language(source_of(file))
    assert re.findall("#.*", text) == re.findall("#.*", file.read_text(encoding="utf-8"))
    assert formatted(text) == text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_shipped_rule_names_its_source(file: Path) -> None:
    assert [rule["id"] for rule in source_of(file)["rules"] if not rule["source"]] == []


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(RulesRefused, match="is no YAML"):
        formatted("a: [")
