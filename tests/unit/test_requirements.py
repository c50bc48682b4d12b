"""The lowest versions in the tests are the lower bounds that the layer declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def lower_bounds() -> dict[str, str]:
    """The version in requirements/lowest.txt of each package that the layer itself requires."""
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements" / "lowest.txt").read_text(), re.MULTILINE))
    return {requirement.name: locked[requirement.name] for requirement in declared()}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "layers" / "message_handler" / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def test_the_lowest_versions_are_the_declared_lower_bounds() -> None:
    locked = lower_bounds()
    for requirement in declared():
        (bound,) = (Version(rule.version) for rule in requirement.specifier if rule.operator == ">=")
        assert Version(locked[requirement.name]) == bound, f"{requirement.name}: make lock"
