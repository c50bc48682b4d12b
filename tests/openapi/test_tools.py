"""openapi.json serves the tools of its users: the linters' recommended rules find nothing, and a client compiles.

The tools are npm packages, in .npm-openapi. None of them sends a request.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.published import DOCUMENT

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ROOT / ".npm-openapi" / "node_modules"
REDOCLY = HERE / "redocly.cjs"
SPECTRAL = PACKAGES / "@stoplight" / "spectral-cli" / "dist" / "index.js"
GENERATOR = PACKAGES / "openapi-typescript" / "bin" / "cli.js"
COMPILER = PACKAGES / "typescript" / "bin" / "tsc"


def run(program: Path, *arguments: str | Path) -> str:
    """What a program prints, its exit code aside. Skips the test without Node.js; under CI=true it fails."""
    node = shutil.which("node")
    if node is None or not PACKAGES.is_dir():
        missing = (
            f"no {'Node.js' if node is None else 'packages'}: install nodejs and npm, then make .npm-openapi/synced"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    environment = os.environ | {"NODE_PATH": str(PACKAGES), "NO_COLOR": "1"}
    ended = subprocess.run([node, program, *arguments], env=environment, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def redocly(file: Path) -> list[str]:
    """The findings of the rules that Redocly recommends."""
    return run(REDOCLY, file).splitlines()


def spectral(file: Path, result: Path) -> list[str]:
    """The findings of the rules that Spectral recommends."""
    printed = run(SPECTRAL, "lint", "--ruleset", HERE / "spectral.yaml", "--format=json", f"--output={result}", file)
    assert result.exists(), printed
    return [f"{found['code']} at {found['path']}: {found['message']}" for found in json.loads(result.read_text())]


def test_the_rules_that_redocly_recommends_find_nothing() -> None:
    assert redocly(ROOT / "openapi.json") == []


def test_the_rules_that_spectral_recommends_find_nothing(tmp_path: Path) -> None:
    assert spectral(ROOT / "openapi.json", tmp_path / "found.json") == []


def test_both_linters_find_what_a_description_lacks(tmp_path: Path) -> None:
    """Otherwise a linter that reads nothing would pass."""
    poor: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    del poor["info"]["license"], poor["info"]["contact"], poor["paths"]["/health"]["get"]["description"]
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(poor))
    assert [line.split()[:2] for line in redocly(file)] == [["warn", "info-license"]]
    found = {line.split()[0] for line in spectral(file, tmp_path / "found.json")}
    assert found == {"info-contact", "operation-description"}


def test_a_generated_typescript_client_compiles_in_strict_mode(tmp_path: Path) -> None:
    for name in ("client.ts", "tsconfig.json"):
        shutil.copy(HERE / name, tmp_path)
    assert json.loads((HERE / "tsconfig.json").read_text())["compilerOptions"]["strict"] is True
    types = tmp_path / "api.d.ts"
    # A field with a default may be left out of a request.
    printed = run(GENERATOR, ROOT / "openapi.json", "--default-non-nullable=false", "--output", types)
    assert types.exists(), printed
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    assert run(COMPILER, "--project", tmp_path) == ""


def test_the_lock_has_a_hash_of_each_package_and_no_address() -> None:
    _, *packages = json.loads((HERE / "package-lock.json").read_text())["packages"].values()
    assert all("resolved" not in package for package in packages)
    assert all(package["integrity"].startswith("sha512-") for package in packages)
