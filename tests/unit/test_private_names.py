"""`make lint` finds a third party's names that begin with an underscore, and none of ours."""

from __future__ import annotations

import ast

import pytest

from tests import private_names

OURS = """
class Base:
    def __init__(self):
        self._kept = 1
    def _step(self): ...
def _helper(): ...
"""


def found(text: str, file: str = "local/new.py") -> list[str]:
    texts = {"local/ours.py": OURS, "tests/theirs.py": "_only_here = 1", file: text}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    return [line.split(" ")[1] for line in private_names.found_in(trees)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from redis._parsers import Reader", "redis._parsers.Reader"),
        ("from redis.connection import _Hidden", "redis.connection._Hidden"),
        ("import redis._parsers", "redis._parsers"),
        ("connection._sock.close()", "_sock"),
        ("x = connection.inner()._sock", "_sock"),
        ("connection._timeout = 3", "_timeout"),
        ("class Pool(ConnectionPool):\n    def get(self):\n        return self._lock", "_lock"),
        # Another class of ours defines this name.
        ("class Pool(ConnectionPool):\n    def get(self):\n        return self._kept", "_kept"),
        ("class Pool(ConnectionPool):\n    def get(self):\n        return super()._get()", "_get"),
    ],
)
@pytest.mark.parametrize("file", ["local/new.py", "tests/new.py"])
def test_what_is_a_third_partys_is_found(text: str, name: str, file: str) -> None:
    assert found(text, file) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "from local.ours import _helper",
        "base._kept",
        "class Own(Base):\n    def get(self):\n        return self._kept, super()._step()",
        "class Own(Base):\n    def get(self):\n        return other._step()",
        "class Own(Theirs):\n    _field: int\n    def get(self):\n        return self._field",
        "named._replace(a=1), x.__dict__",
    ],
)
def test_what_is_ours_or_public_is_not(text: str) -> None:
    assert found(text) == []


def test_what_only_another_test_defines_is_a_third_partys() -> None:
    assert found("client._only_here", "tests/new.py") == ["_only_here"]


def test_the_drivers_own_file_may() -> None:
    assert found("connection._sock", private_names.EXEMPT) == []
