"""The pages are true: links lead somewhere, tables list what the code has, and commands exist.

`tests/integration/test_pages.py` runs the blocks that are marked for a test.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.template import TemplateSource
from message_handler import ai
from message_handler.cli import parser
from message_handler.configuration.records import KINDS
from message_handler.metrics import UNITS
from message_handler.settings import Settings
from openapi import export_answers
from tests.pages import DOCS, PAGES, README, ROOT, all_blocks, anchors, first_cells, marked_blocks, page, without_code
from tests.published import DOCUMENT

MOST_LINES_OF_README = 199


def links(text: str) -> list[str]:
    """The links to files of this repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def leads_somewhere(link: str, origin: Path) -> bool:
    name, _, anchor = link.partition("#")
    target = (origin.parent / name).resolve() if name else origin
    if not anchor:
        return target.exists()
    return target.suffix == ".md" and target.is_file() and anchor in anchors(target.read_text())


def mentions() -> Iterator[tuple[Path, str]]:
    """(file, mention) of each page of docs/ that a file outside of the pages names."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made_up = {"tests/unit/test_prose.py", "tests/unit/test_pages.py"}
    for path in (ROOT / name for name in tracked.splitlines() if name not in made_up):
        if path.suffix in {".py", ".yaml", ".toml", ".sql", ".html", ".js", ".json"} and path.is_file():
            for mention in re.findall(r"\bdocs/[\w/-]+\.md(?:#[\w-]+)?", path.read_text()):
                yield path.relative_to(ROOT), mention


class TestLinks:
    @pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
    def test_each_leads_somewhere(self, path: Path) -> None:
        broken = [link for link in links(path.read_text()) if not leads_somewhere(link, path)]
        assert not broken

    def test_each_page_that_the_code_names_exists(self) -> None:
        found = list(mentions())
        assert len(found) > 20, "nothing is found any more"
        assert not [(str(path), name) for path, name in found if not leads_somewhere(name, ROOT / "README.md")]

    def test_a_heading_that_comes_twice_has_two_anchors(self) -> None:
        assert anchors("# What `now`?\n## A b\n```\n# code\n```\n## A b\n") == {"what-now", "a-b", "a-b-1"}

    def test_a_broken_one_is_seen(self) -> None:
        assert not leads_somewhere("docs/none.md", README)
        assert not leads_somewhere("docs/api.md#none", README)
        assert not leads_somewhere("#none", README)


class TestReadme:
    def test_is_short(self) -> None:
        assert len(README.read_text().splitlines()) <= MOST_LINES_OF_README

    def test_lists_each_page(self) -> None:
        table = README.read_text().split("\n## The pages\n")[1]
        listed = re.findall(r"^\| \[[\w -]+\]\((docs/[\w/-]+\.md)\) \| .{10,} \|$", table, re.MULTILINE)
        assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))


class TestCommands:
    def test_each_marked_block_is_run_by_a_test(self) -> None:
        tests = "".join(file.read_text() for file in (ROOT / "tests" / "integration").glob("*.py"))
        assert {mark for mark, _ in marked_blocks()} == set(re.findall(r'\bblocks\("([\w ]+)"\)', tests))

    def test_each_target_of_make_exists(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for path in PAGES:
            code = "\n".join([*re.findall(r"`([^`\n]+)`", without_code(path.read_text())), *all_blocks("sh")])
            named = set(re.findall(r"(?<![\w./-])make(?: --silent)? ([a-z][a-z-]*)\b", code))
            assert named <= targets, path.name

    def test_each_call_of_the_command_line_is_understood(self) -> None:
        lines = [line.strip() for block in all_blocks("sh") for line in block.splitlines()]
        calls = [line for line in lines if line.startswith("message-handler ")]
        assert len(calls) > 10
        for call in calls:
            _, *arguments = shlex.split(re.split(r" [|>]", call)[0], comments=True)
            assert callable(parser.parse(arguments).run), call


def test_the_newest_release_is_the_version_of_the_package_and_of_the_api() -> None:
    releases = re.findall(r"^## \[([\d.]+)\] – \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    package = tomllib.loads((ROOT / "layers" / "message_handler" / "pyproject.toml").read_text())["project"]
    assert releases[0] == package["version"] == DOCUMENT["info"]["version"]


class TestTables:
    def test_every_setting_is_there_with_its_default(self) -> None:
        rows = dict(re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", page("settings"), re.MULTILINE))
        listed = {
            name: default
            for names, defaults in rows.items()
            for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=False)
        }
        listed.pop("POWERTOOLS_LOG_LEVEL")
        fields = {name.upper(): field.default for name, field in Settings.model_fields.items()}
        assert set(listed) == set(fields)
        for name, default in fields.items():
            if default in (None, ""):
                assert listed[name].startswith("none"), name
            elif isinstance(default, bool):
                assert listed[name] == str(default).lower(), name
            elif default != listed[name].strip("`"):
                assert float(listed[name]) == float(default), name

    def test_every_route_of_the_template_is_there(self) -> None:
        listed = set()
        for row in re.findall(r"^\| (`[A-Z].*?) \|", page("api"), re.MULTILINE):
            for route in row.split(" · "):
                path = re.search(r"(/[^`? ]+)", route)
                assert path, route
                listed |= {(method, path[1]) for method in re.findall(r"GET|POST|PUT|DELETE", route)}
        deployed = TemplateSource(ROOT / "template.yaml").resolve({}, "http://127.0.0.1/")
        assert listed == {(route.method, route.path) for route in deployed.routes}

    def test_every_metric_is_there(self) -> None:
        table = page("monitoring").split("\n## Metrics\n")[1].split("\n## ")[0]
        assert {name for row in first_cells(table) for name in re.findall(r"`(\w+)`", row)} == set(UNITS)

    def test_every_field_and_key_of_the_configuration_is_there(self) -> None:
        text = page("configuration")
        keys = first_cells(text.split("\n## Keys of `meta_data`\n")[1].split("\n## ")[0])
        assert {name for row in keys for name in re.findall(r"`(\w+)`", row)} == {
            name for kind in KINDS.values() for name in kind.meta_data.model_fields
        }
        records = text.split("\n## Records\n")[1].split("\n## ")[0]
        for kind in KINDS.values():
            (fields,) = re.findall(rf"^\| {kind.noun} \| (.*) \|$", records, re.MULTILINE)
            assert {name for name in re.findall(r"`(\w+)`", fields) if name != "vi"} == set(kind.record.model_fields)

    def test_every_code_of_an_ais_failure_is_there(self) -> None:
        sources = "".join(file.read_text() for file in Path(ai.__file__).parent.glob("*.py"))
        assert set(re.findall(r"^\| `(ai_\w+)` \|", page("providers"), re.MULTILINE)) == set(
            re.findall(r'"(ai_[a-z_]+)"', sources)
        )

    def test_every_parameter_and_output_that_is_named_is_one_of_the_template(self) -> None:
        sections = re.split(r"^(?=\w)", (ROOT / "template.yaml").read_text(), flags=re.MULTILINE)
        known = {
            name
            for section in sections
            if section.startswith(("Parameters:", "Outputs:"))
            for name in re.findall(r"^  (\w+):$", section, re.MULTILINE)
        }
        for name in ("settings", "deploy"):
            named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w*)(?:=\w+)?`", page(name)))
            assert named, "nothing is found any more"
            assert named <= known, name

    def test_every_record_of_an_export_is_there_with_its_fields(self) -> None:
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page("privacy"), re.MULTILINE))
        models = {
            model.model_fields["kind"].annotation.__args__[0]: set(model.model_fields) - {"kind"}
            for model in vars(export_answers).values()
            if isinstance(model, type) and "kind" in getattr(model, "model_fields", {})
        }
        assert rows.keys() == models.keys()
        for kind, fields in models.items():
            assert fields <= set(re.findall(r"`(\w+)`", rows[kind])), kind
