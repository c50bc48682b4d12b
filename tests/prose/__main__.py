"""Check the English of docs, docstrings, comments, error texts, log messages, descriptions and the console."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.prose.rules import MOST_ON_AVERAGE, MOST_WORDS, faults
from tests.prose.texts import can_read

ROOT = Path(__file__).parent.parent.parent
#: Migrations and the schemas of released versions never change.
FROZEN = ("layers/message_handler/src/message_handler/sql/migrations/", "tests/migrations/")
#: They repeat what is checked elsewhere.
GENERATED = ("layers/message_handler/src/message_handler/sql/schema.sql", "benchmarks/results.md")

EPILOG = f"""
A sentence has at most {MOST_WORDS} words, and a file's sentences have at most {MOST_ON_AVERAGE} on average.
No sentence says "whoever" or "somebody" where it could name a component.
Code, diagrams, quotations and headings are not counted.
Exit code 1 if there is a fault, 2 for a path that is not there.

  python -m tests.prose                                  all files
  python -m tests.prose docs README.md local/parts.py    some files, or all below a folder
"""


def read_by_people(paths: list[str]) -> list[Path]:
    """The files below these paths that Git knows of or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *paths]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = sorted({Path(name).resolve() for name in listed if Path(name).exists()})
    return [
        path for path in found if can_read(path) and not str(path.relative_to(ROOT)).startswith((*FROZEN, *GENERATED))
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prose",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file or a folder; without any: the whole project")
    paths = parser.parse_args(arguments).paths or [str(ROOT)]
    for path in paths:
        if not Path(path).exists():
            parser.error(f"{path} is not there.")
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in read_by_people(paths) for fault in faults(path)]
    print("\n".join(found) if found else "No sentence is too long, and no word too vague.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
