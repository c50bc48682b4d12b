"""`schema.sql` is the schema that the migrations and functions make."""

from __future__ import annotations

from pg8000.native import Connection, identifier

from local import schema
from local.stores import Server


def test_schema_sql_is_what_the_migrations_make(postgres: Server, sql: Connection) -> None:
    name = "schema_of_all"
    sql.run(f"create database {identifier(name)}")
    try:
        written = schema.schema_of(postgres.url.rsplit("/", 1)[0] + f"/{name}")
    finally:
        sql.run(f"drop database {identifier(name)} (force)")
    assert schema.FILE.read_text() == written, "run `make schema`"
