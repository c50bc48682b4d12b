"""The layout of the SQL: each statement is once in a file of its theme, below a sentence. Functions have versions."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from message_handler.sql import migrations, statements

PACKAGE = Path(statements.__file__).parents[1]
SQL = PACKAGE / "sql"
THEMES = [file for file in sorted(SQL.glob("*.sql")) if file.name != "schema.sql"]
STATEMENTS = {name: text for file in THEMES for name, text in statements.named(file.read_text()).items()}
SOURCE = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
#: The names of statements for a table's records (archive/postgres_configuration.py).
OF_RECORDS = re.compile(r"(put_|delete_)?(bots|core_ai|platforms)|put_safety_rules")


def test_no_two_statements_have_one_name() -> None:
    names = Counter(name for file in THEMES for name in statements.named(file.read_text()))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", STATEMENTS)
class TestEachStatement:
    def test_it_stands_under_a_sentence(self, name: str) -> None:
        assert re.match(r"-- [A-Z].*?[.:](\n| )", STATEMENTS[name], re.DOTALL)

    def test_it_is_executed(self, name: str) -> None:
        assert f'"{name}"' in SOURCE or OF_RECORDS.fullmatch(name)


@pytest.mark.parametrize("function", migrations.functions(), ids=lambda function: function.name)
class TestEachFunction:
    def test_it_is_named_by_its_file_with_its_version(self, function: migrations.SchemaFile) -> None:
        name = function.name.removesuffix(".sql")
        assert re.fullmatch(r"\w+_v[1-9]\d*", name)
        assert re.findall(r"^create or replace function (\w+)", function.text, re.MULTILINE) == [name]

    def test_it_stands_under_a_sentence(self, function: migrations.SchemaFile) -> None:
        assert re.match(r"-- [A-Z]", function.text)

    def test_it_is_called(self, function: migrations.SchemaFile) -> None:
        name = function.name.removesuffix(".sql")
        others = [text for part in migrations.functions() if part != function for text in [part.text]]
        assert any(f"{name}(" in text for text in (*STATEMENTS.values(), *others))


def test_a_file_is_read_by_the_names_in_it() -> None:
    text = "-- A theme.\n\n-- name: one\n-- First.\nselect 1 -- one\n\n-- name: two\n-- Second.\nselect :two\n"
    found = statements.named(text)
    assert list(found) == ["one", "two"]
    assert statements.prepared(found["one"])[0].strip() == "select 1"
    numbered, parameters = statements.prepared(found["two"])
    assert (numbered.strip(), parameters({"two": 2, "three": 3})) == ("select $1", (2,))
