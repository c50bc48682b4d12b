"""`python -m local.migrate`: migrate a database's schema to the newest version. `make migrate` calls it.

The database is that of `DATABASE_URL`, else that of the running `make run`. On AWS the stack migrates by itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import SecretStr

from local.options import add_port
from local.psql import address_file
from message_handler.domain.errors import MessageHandlerError
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings

#: No function's timeout applies here: an index on a large table may take long.
_SECONDS = 3600.0


def main(arguments: list[str] | None = None) -> int:
    """Print each migration that is applied. Returns 1 if the migrations fail, 2 if there is no database.

    All of them are applied, or none. Two processes at the same time apply them once.
    """
    parser = argparse.ArgumentParser(
        prog="python -m local.migrate", description="Migrate a database's schema to the newest version."
    )
    add_port(parser, "the local host's port, if DATABASE_URL is not set")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_environment()
        if settings.database_url is None:
            address = address_file(Path(".local"), options.port)
            if not address.is_file():
                advice = (
                    f"no host runs on port {options.port} from this folder: start `make run` first, or set DATABASE_URL"
                )
                print(f"migrate: {advice}", file=sys.stderr)
                return 2
            settings = settings.model_copy(update={"database_url": SecretStr(address.read_text())})
        database = Database(connector(settings))
        applied = database.migrate(_SECONDS)
    except MessageHandlerError as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
