"""What `make build` left for Lambda."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.invoke import BUILT

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def built() -> None:
    if not (ROOT / BUILT).is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")


def test_the_operators_page_goes_along() -> None:
    shipped = {file.name for file in ((ROOT / BUILT).parent / "AdminFunction" / "console").iterdir()}
    assert {"index.html", "app.js"} <= shipped


def test_the_layer_is_for_both_processors() -> None:
    """Which one a deployment chooses is not known when it is built."""
    modules = [file.name.split(".cpython-313-") for file in (ROOT / BUILT).parent.glob("MessageHandlerLayer/**/*.so")]
    found = {processor: {name for name, it in modules if it == processor} for _, processor in modules}
    assert found.keys() == {"x86_64-linux-gnu.so", "aarch64-linux-gnu.so"}
    assert found["x86_64-linux-gnu.so"] == found["aarch64-linux-gnu.so"]
