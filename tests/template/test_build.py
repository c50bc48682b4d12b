"""What `make build` left for Lambda."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.invoke import BUILT

ROOT = Path(__file__).parents[2]


def test_the_layer_is_for_both_processors() -> None:
    """Which one a deployment chooses is not known when it is built."""
    if not (ROOT / BUILT).is_file():
        assert os.environ.get("CI") != "true", "build before the tests: make build"
        pytest.skip("not built: make build")
    modules = [file.name.split(".cpython-313-") for file in (ROOT / BUILT).parent.glob("MessageHandlerLayer/**/*.so")]
    found = {processor: {name for name, it in modules if it == processor} for _, processor in modules}
    assert found.keys() == {"x86_64-linux-gnu.so", "aarch64-linux-gnu.so"}
    assert found["x86_64-linux-gnu.so"] == found["aarch64-linux-gnu.so"]
