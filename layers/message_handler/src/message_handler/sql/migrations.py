"""Makes the schema, from migrations and functions. A file of either kind never changes once it was released.

While an update shifts traffic, two releases call functions at the same time. So a function whose parameters, work or
result change gets a new version in its name, and a new file. The database keeps the version that the previous release
calls.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from message_handler.sql.statements import SQL

if TYPE_CHECKING:
    from pg8000.native import Connection

#: An advisory lock: one process migrates at a time. It is released at the end of the transaction.
_LOCK = 7_220_441
#: After this time Postgres rolls back the transaction of a silent client, and so frees its locks.
_IDLE_IN_TRANSACTION = "10s"
#: The server ends a statement after this share of the time that its client waits. So the client learns why, and the
#: server does no work for a client that has gone.
_SHARE = 0.75
_TABLES = """
create table if not exists schema_migrations (
    version integer primary key, name text not null, applied_at timestamptz not null default now());
create table if not exists schema_functions (name text primary key, digest text not null)
"""


class SchemaFile(NamedTuple):
    """A migration or a function: the name and text of its file."""

    name: str
    text: str

    @property
    def version(self) -> int:
        """The number of a migration."""
        return int(self.name.split("_")[0])

    @property
    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[SchemaFile, ...]:
    """All migrations, oldest first."""
    return _files("migrations")


@cache
def functions() -> tuple[SchemaFile, ...]:
    """The functions that this release calls."""
    return _files("functions")


def _files(folder: str) -> tuple[SchemaFile, ...]:
    return tuple(sorted(SchemaFile(file.name, file.read_text()) for file in (SQL / folder).iterdir()))


def is_up_to_date(connection: Connection) -> bool:
    """Whether the schema has all that this release needs. Additions of a newer release don't matter.

    The statement contains an update of no row, so that a read-only server refuses it.
    """
    ((version, known),) = connection.run(
        "with written as (update schema_functions set name = name where false)"
        " select (select max(version) from schema_migrations),"
        " (select count(*) from schema_functions where digest = any(cast(:digests as text[])))",
        digests=[function.digest for function in functions()],
    )
    return bool((version or 0) >= migrations()[-1].version and known == len(functions()))


def apply(connection: Connection, seconds: float, timeout: float | None = None) -> list[str]:
    """Apply what the database lacks, in the open transaction. Returns the names of the files.

    `seconds` is the most that one statement may take here. `timeout`: how long requests and workers wait for an answer.
    """
    connection.run("set local lock_timeout = '2s'")
    # Otherwise the server would finish a statement even if its client has gone, and keep its tables locked until then.
    connection.run(f"set local statement_timeout = {int(seconds * 1000)}")
    connection.run("select pg_advisory_xact_lock(:lock)", lock=_LOCK)
    connection.execute_simple(_TABLES)
    applied = []
    versions = {row[0] for row in connection.run("select version from schema_migrations")}
    for file in migrations():
        if file.version not in versions:
            connection.execute_simple(file.text)
            connection.run(
                "insert into schema_migrations (version, name) values (:version, :name)",
                version=file.version,
                name=file.name,
            )
            applied.append(file.name)
    digests = {row[0] for row in connection.run("select digest from schema_functions")}
    for file in functions():
        if file.digest not in digests:
            connection.execute_simple(file.text)
            connection.run(
                "insert into schema_functions (name, digest) values (:name, :digest)"
                " on conflict (name) do update set digest = excluded.digest",
                name=file.name,
                digest=file.digest,
            )
            applied.append(file.name)
    if connection.run("show idle_in_transaction_session_timeout") != [[_IDLE_IN_TRANSACTION]]:
        # It applies to sessions that begin from now on.
        connection.run(f"alter role current_user set idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION}'")
    if timeout:
        _limit_statements(connection, max(1, int(timeout * _SHARE * 1000)))
    return applied


def _limit_statements(connection: Connection, milliseconds: int) -> None:
    """Have the server end each statement of this user after that time, in sessions that begin from now on."""
    ((is_set,),) = connection.run(
        "select exists (select from pg_db_role_setting join pg_database on pg_database.oid = setdatabase"
        " where datname = current_database() and setrole = cast(current_user as regrole) and :limit = any(setconfig))",
        limit=f"statement_timeout={milliseconds}ms",
    )
    if not is_set:
        limit = f"set statement_timeout = ''{milliseconds}ms''"
        alter = f"format('alter role current_user in database %I {limit}', current_database())"
        connection.execute_simple(f"do $$ begin execute {alter}; end $$")
