"""The files that `make build` makes for Lambda."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from local.invoke import BUILT
from tests.template.conftest import FUNCTIONS

ROOT = Path(__file__).parents[2]
#: The first bytes of a bytecode file of Python 3.13, the functions' runtime.
MAGIC = (3571).to_bytes(2, "little") + b"\r\n"


@pytest.fixture
def build() -> Path:
    if not (ROOT / BUILT).is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    return (ROOT / BUILT).parent


def test_the_operators_page_goes_along(build: Path) -> None:
    shipped = {file.name for file in (build / "AdminFunction" / "console").iterdir()}
    assert {"index.html", "app.js"} <= shipped


def test_the_layer_is_for_both_processors(build: Path) -> None:
    """The build does not know which processor a deployment chooses."""
    modules = [file.name.split(".cpython-313-") for file in build.glob("MessageHandlerLayer/**/*.so")]
    found = {processor: {name for name, it in modules if it == processor} for _, processor in modules}
    assert found.keys() == {"x86_64-linux-gnu.so", "aarch64-linux-gnu.so"}
    assert found["x86_64-linux-gnu.so"] == found["aarch64-linux-gnu.so"]


def test_botocore_knows_the_services_that_are_called_and_no_more(build: Path) -> None:
    """All 440 services would be most of the layer, and each start would search them."""
    sources = [*(ROOT / "layers/message_handler/src").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    called = {name for file in sources for name in re.findall(r'\bclient\(\s*"([^"]+)"', file.read_text())}
    assert "sqs" in called
    data = build / "MessageHandlerLayer/python/botocore/data"
    assert {folder.name for folder in data.iterdir() if folder.is_dir()} == called | {"sts"}


@pytest.mark.parametrize("folder", ["MessageHandlerLayer/python", *sorted(FUNCTIONS)])
def test_all_of_it_is_compiled_for_lambdas_python_and_never_compared_with_its_source(build: Path, folder: str) -> None:
    """A deployment changes the files' times, and Lambda can't write beside the code: each start would compile it."""
    if not any(build.rglob("*.pyc")):
        assert os.environ.get("CI") != "true", "build with a Python 3.13: make build"
        pytest.skip("built without a Python 3.13, which was said")
    sources = list((build / folder).rglob("*.py"))
    assert sources
    for source in sources:
        head = (source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc").read_bytes()[:8]
        assert head == MAGIC + (1).to_bytes(4, "little"), source  # by hash, unchecked (PEP 552)
