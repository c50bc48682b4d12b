"""docs/architecture.md is true: its tree is the package's, its directions are import-linter's, and its files exist.

docs/glossary.md has each word once.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers" / "message_handler" / "src" / "message_handler"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
#: `worker/run.py`, `sql/functions/`
FILE = re.compile(r"`([\w./-]+(?:/|\.(?:py|sql|lua|md|yaml|json|toml)))`")
#: `ROUTES`
NAME = re.compile(r"`([A-Za-z_]+)`")


def blocks(heading: str) -> list[list[str]]:
    """The lines of each code block below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]


def tree(lines: list[str]) -> dict[str, str]:
    """The text beside each name in a tree."""
    return dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in lines)


def first_sentence(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return re.split(r"(?<=\.)\s", docstring.partition("\n\n")[0].replace("\n", " "), maxsplit=1)[0]


def names_in(folder: Path) -> set[str]:
    modules = {file.name for file in folder.glob("*.py")} - {"__init__.py"}
    return modules | {f"{file.parent.name}/" for file in folder.glob("*/__init__.py")}


def test_the_packages_tree_is_whole_and_says_what_each_folder_says_itself() -> None:
    ((_, *lines),) = blocks("The package")
    shown = tree(lines)
    assert set(shown) == names_in(PACKAGE)
    folders = [name for name in shown if name.endswith("/")]
    assert folders
    for name in folders:
        assert shown[name] == first_sentence(PACKAGE / name / "__init__.py"), name


def test_the_repositorys_folders_are_those_that_it_has() -> None:
    repository, tests = map(tree, blocks("The repository"))
    assert all((ROOT / name).exists() for name in repository)
    assert {f"{file.parent.name}/" for file in (ROOT / "tests").glob("*/*") if file.suffix == ".py"} <= set(tests)
    assert all((ROOT / "tests" / name).is_dir() for name in tests)


def test_the_direction_of_imports_is_the_one_that_is_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    (shown,) = blocks("The direction of imports")
    assert shown == [layer.replace(" : ", " · ") for layer in layers if layer != "(__main__)"]


def test_each_file_that_the_page_names_exists() -> None:
    named = set(FILE.findall(PAGE))
    assert len(named) > 50, "nothing is found any more"
    missing = sorted(name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists())
    assert not missing, f"docs/architecture.md names files that there are not: {missing}"


def test_each_name_that_an_answer_has_is_in_its_file() -> None:
    rows = re.findall(r"^\| [A-Z].*\? \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 25
    for row in rows:
        files = [path for name in FILE.findall(row) for path in (PACKAGE / name, ROOT / name) if path.is_file()]
        text = "".join(file.read_text() for file in files)
        assert all(re.search(rf"\b{name}\b", text) for name in NAME.findall(row)), row


def test_each_word_stands_once_in_the_glossary_and_is_found_by_its_first_letter() -> None:
    sections = GLOSSARY.split("\n## ")[1:]
    words = {
        section.partition("\n")[0]: re.findall(r"^\| (?!---)(.+?) \|", section, re.MULTILINE)[1:]
        for section in sections
    }
    every = [word for section in words.values() for word in section]
    assert len(every) > 60
    assert len(every) == len(set(every))
    del words["A run's steps"]  # in the order of a run
    for section in words.values():
        assert section == sorted(section, key=lambda word: word.strip("`").lower())
