"""The SQL of the releases that may run beside this one: `tests/migrations/`, whose README says how it is kept.

python -m tests.releases 13        # freeze today's statements as those of release 13
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

from message_handler.sql import statements

FOLDER = Path(__file__).parent / "migrations"
_SAME = re.compile(r"-- The same in the next release(?:, as (?P<name>\w+))?: (?P<digest>\w+)\n")


@cache
def releases() -> tuple[int, ...]:
    """The releases, oldest first. A release has the number of its newest migration."""
    return tuple(sorted(int(file.stem.removeprefix("release_")) for file in FOLDER.glob("release_*.sql")))


@cache
def statements_of(release: int | None) -> Mapping[str, str]:
    """The statements of a release by their names, or of today if it is None.

    Raises ValueError if a statement has changed that the release's file refers to.
    """
    if release is None:
        return statements.texts()
    kept, following = statements.named(_file(release).read_text()), statements_of(_next(release))
    return {name: _resolved(release, name, text, following) for name, text in kept.items()}


def written(release: int, texts: Mapping[str, str]) -> str:
    """The file of a release with these statements. One that is the same in the next release is named, not repeated."""
    names = {_digest(text): name for name, text in statements_of(_next(release)).items()}
    parts = []
    for name, text in sorted(texts.items()):
        same = names.get(_digest(text))
        alias = "" if same == name else f", as {same}"
        content = f"-- The same in the next release{alias}: {_digest(text)}\n" if same else text.strip() + "\n"
        parts.append(f"-- name: {name}\n{content}")
    return "\n".join(parts)


def _resolved(release: int, name: str, text: str, following: Mapping[str, str]) -> str:
    same = _SAME.match(text)
    if not same:
        return text
    found = following.get(same["name"] or name)
    if found is None or _digest(found) != same["digest"]:
        raise ValueError(f"{_file(release).name}: put the old text of {name} there, since it has changed")
    return found


def _digest(text: str) -> str:
    """Stands for what Postgres gets of a statement: the text without comments, with numbered parameters."""
    return sha256(statements.prepared(text)[0].encode()).hexdigest()[:12]


def _next(release: int) -> int | None:
    return next((later for later in releases() if later > release), None)


def _file(release: int) -> Path:
    return FOLDER / f"release_{release:04}.sql"


if __name__ == "__main__":
    frozen = int(sys.argv[1])
    _file(frozen).write_text(written(frozen, statements_of(None)))
