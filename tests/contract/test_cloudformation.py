"""CloudFormation always gets its answer, over a real HTTP server and a real Postgres."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from pg8000.native import Connection, identifier
from pydantic import SecretStr

from local.stores import Server
from message_handler.aws import cloudformation
from message_handler.domain.errors import InvalidRequest, MessageHandlerError, SettingsError, TooOld, Unavailable
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.contract.conftest import MIGRATIONS, database_of

CANARY = "canary-91d0"
EVENT = json.loads((Path(__file__).parents[2] / "events" / "admin-migrate-stack.json").read_text())


@dataclass
class Receiver:
    """Stands for the bucket behind CloudFormation's address."""

    #: Its next statuses. Later ones are 200.
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/answer?X-Amz-Signature={CANARY}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield receiver
        server.shutdown()


@pytest.fixture
def empty(postgres: Server, sql: Connection) -> Iterator[str]:
    """The URL of a new database."""
    name = "stack"
    sql.run(f"create database {identifier(name)}")
    yield postgres.url.rsplit("/", 1)[0] + f"/{name}"
    sql.run(f"drop database {identifier(name)} (force)")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudformation, "PAUSE_SECONDS", 0.05)


def run(
    receiver: Receiver,
    migrate: Callable[[], list[str]],
    kind: str = "Create",
    *,
    seconds: float = 30.0,
    patience: float = math.inf,
    **changes: Any,
) -> dict[str, Any]:
    """A function works on the event and must answer within `seconds`. Returns what it sent to CloudFormation."""
    until = time.monotonic() + cloudformation.ANSWER_SECONDS + seconds
    event = EVENT | {"RequestType": kind, "ResponseURL": receiver.url} | changes
    answer = cloudformation.run(
        event,
        migrate,
        remaining=lambda: until - time.monotonic(),
        allow_loopback=lambda: True,
        patience=lambda: patience,
    )
    assert time.monotonic() < until
    assert receiver.received[-1][2] == answer
    return answer


def forbidden() -> list[str]:
    raise AssertionError("it migrated")


class TestMigrating:
    def test_creating_applies_all_and_updating_what_is_new(self, receiver: Receiver, empty: str) -> None:
        database = database_of(Settings(database_url=SecretStr(empty)))
        created = run(receiver, database.migrate)
        assert created == {
            "Status": "SUCCESS",
            "Reason": "",
            "PhysicalResourceId": "Migration",
            "StackId": EVENT["StackId"],
            "RequestId": EVENT["RequestId"],
            "LogicalResourceId": "Migration",
            "Data": {"Applied": ", ".join(MIGRATIONS)},
        }
        updated = run(receiver, database.migrate, "Update", PhysicalResourceId=created["PhysicalResourceId"])
        assert (updated["Status"], updated["Data"]) == ("SUCCESS", {"Applied": ""})
        assert updated["PhysicalResourceId"] == created["PhysicalResourceId"]
        database.ping()
        database.close()

    def test_an_answer_is_put_as_its_address_was_signed(self, receiver: Receiver) -> None:
        run(receiver, list)
        path, headers, _ = receiver.received[0]
        assert path == f"/answer?X-Amz-Signature={CANARY}"
        assert headers["Content-Type"] == ""

    def test_deleting_touches_nothing(self, receiver: Receiver) -> None:
        answer = run(receiver, forbidden, "Delete", PhysicalResourceId="of-old")
        assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "of-old")

    def test_a_database_that_is_just_coming_up_is_waited_for(self, receiver: Receiver, empty: str) -> None:
        database = database_of(Settings(database_url=SecretStr(empty)))
        refused = iter(range(3))

        def migrate() -> list[str]:
            if next(refused, None) is not None:
                raise Unavailable("Postgres")
            return database.migrate()

        assert run(receiver, migrate)["Status"] == "SUCCESS"
        database.close()


class TestFailing:
    def test_a_database_that_is_away_is_told_in_time(self, receiver: Receiver) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        settings = Settings(database_url=SecretStr(f"postgresql://me:{CANARY}@127.0.0.1:{port}/nothing"))
        answer = run(receiver, Database(connector(settings)).migrate, seconds=1)
        assert answer["Status"] == "FAILED"
        assert answer["Reason"] == "Postgres is not available, for as long as the function could wait"
        assert CANARY not in json.dumps(answer)

    def test_a_database_that_was_there_before_is_told_at_once(self, receiver: Receiver) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        settings = Settings(database_url=SecretStr(f"postgresql://me:{CANARY}@127.0.0.1:{port}/nothing"))
        began = time.monotonic()
        answer = run(receiver, Database(connector(settings)).migrate, patience=0.2)
        assert time.monotonic() - began < 5
        assert (answer["Status"], answer["Reason"]) == ("FAILED", "Postgres is not available (refused)")

    def test_a_wrong_password_is_told_at_once(self, receiver: Receiver, sql: Connection, postgres: Server) -> None:
        sql.run("create role limited login password 'right'")
        try:
            url = re.sub("//.*@", f"//limited:{CANARY}@", postgres.url)
            settings = Settings(database_url=SecretStr(url))
            began = time.monotonic()
            answer = run(receiver, Database(connector(settings)).migrate, patience=0.2)
        finally:
            sql.run("drop role limited")
        assert time.monotonic() - began < 5
        assert "it refuses the login: check DATABASE_URL" in answer["Reason"]
        assert answer["Reason"].count("refuses the login") == 1
        assert CANARY not in json.dumps(answer)

    def test_a_server_that_is_too_old_is_told_at_once(self, receiver: Receiver) -> None:
        tries = []

        def migrate() -> list[str]:
            tries.append(1)
            raise TooOld("Postgres (it is version 9; at least 15 is needed)")

        assert run(receiver, migrate)["Status"] == "FAILED"
        assert len(tries) == 1

    def test_a_wait_is_logged_with_its_reason_when_it_begins(
        self, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        def migrate() -> list[str]:
            raise Unavailable("Postgres", reason="refused")

        run(receiver, migrate, seconds=0.3)
        waits = [line for line in caplog.records if line.message == "the migration waits for the database"]
        assert [vars(line)["reason"] for line in waits] == ["refused"]

    def test_a_database_that_says_nothing_at_all_is_told_in_time(self, receiver: Receiver) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            # (pg8000 would leave its socket to the garbage collector.)
            def migrate() -> list[str]:
                with socket.create_connection(silent.getsockname()) as connection:
                    connection.recv(1)
                raise Unavailable("Postgres")

            answer = run(receiver, migrate, seconds=1)
            assert answer["Status"] == "FAILED"
            assert "more time than the function has" in answer["Reason"]

    def test_a_table_that_is_in_the_way_is_told_at_once_and_leaves_nothing(
        self, receiver: Receiver, empty: str
    ) -> None:
        settings = Settings(database_url=SecretStr(empty))
        with closing(connector(settings)()) as connection:
            connection.run("create table turns (mine text)")
            began = time.monotonic()
            answer = run(receiver, Database(connector(settings)).migrate)
            assert time.monotonic() - began < 10
            assert answer["Status"] == "FAILED"
            assert answer["Reason"] == "Postgres refused a statement (SQLSTATE 42P07)"
            assert connection.run("select count(*) from pg_tables where schemaname = 'public'") == [[1]]

    def test_settings_that_are_wrong_are_told(self, receiver: Receiver) -> None:
        def migrate() -> list[str]:
            raise SettingsError("bad settings: DATABASE_URL: must start with postgresql://")

        assert run(receiver, migrate)["Reason"] == "bad settings: DATABASE_URL: must start with postgresql://"

    def test_an_unexpected_error_is_told_by_its_type_alone(self, receiver: Receiver) -> None:
        def migrate() -> list[str]:
            raise RuntimeError(CANARY)

        answer = run(receiver, migrate)
        assert (answer["Status"], answer["Reason"]) == ("FAILED", "unexpected error: RuntimeError")

    def test_an_answer_is_as_short_as_cloudformation_takes_it(self, receiver: Receiver) -> None:
        def migrate() -> list[str]:
            raise SettingsError("x" * 10_000)

        run(receiver, migrate)
        assert len(json.dumps(receiver.received[0][2])) < 4096


class TestAnswering:
    def test_an_answer_that_is_not_taken_is_put_again(self, receiver: Receiver) -> None:
        receiver.statuses = [500, 503]
        run(receiver, lambda: ["0001"])
        assert len(receiver.received) == 3
        assert all(put == receiver.received[0] for put in receiver.received)

    @pytest.mark.parametrize("status", [403, 500, 302])
    def test_an_answer_is_not_put_for_ever_and_no_redirect_is_followed(
        self, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.statuses = [status] * 10
        with pytest.raises(Unavailable):
            run(receiver, list)
        assert len(receiver.received) == cloudformation.TRIES
        assert CANARY not in caplog.text

    def test_a_failure_that_could_not_be_told_is_in_the_error(self, receiver: Receiver) -> None:
        receiver.statuses = [403] * 10

        def migrate() -> list[str]:
            raise SettingsError("bad settings: DATABASE_URL is missing")

        with pytest.raises(
            MessageHandlerError, match="DATABASE_URL is missing; and CloudFormation's address"
        ) as raised:
            run(receiver, migrate)
        assert CANARY not in str(raised.value)

    def test_an_answer_is_put_no_longer_than_the_function_has_time(self, receiver: Receiver) -> None:
        receiver.statuses = [500] * 10
        event = EVENT | {"ResponseURL": receiver.url}
        with pytest.raises(Unavailable):
            cloudformation.run(event, list, remaining=lambda: 3.0, allow_loopback=lambda: True)
        assert len(receiver.received) == 1

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/{host}",
            "https://amazonaws.com.example.com/",
            "https://evilamazonaws.com/",
            "https://me@bucket.s3.amazonaws.com/",
            "http://bucket.s3.amazonaws.com/",
            "https://bucket.s3.amazonaws.com:8443/",
            "https://bucket.s3.amazonaws.com:x/",
            "ftp://bucket.s3.amazonaws.com/",
            "https://[::1",
            "",
            None,
        ],
    )
    def test_an_address_that_is_none_of_cloudformations_is_not_contacted(
        self, url: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urllib3, "PoolManager", lambda **_: pytest.fail("the address was contacted"))
        event = EVENT | {"ResponseURL": url}
        with pytest.raises(InvalidRequest, match="CloudFormation") as refused:
            cloudformation.run(event, forbidden, remaining=lambda: 60.0, allow_loopback=lambda: True)
        assert refused.value.field == "ResponseURL"

    def test_this_machine_is_not_contacted_unless_it_is_allowed(self, receiver: Receiver) -> None:
        with pytest.raises(InvalidRequest):
            cloudformation.run(EVENT | {"ResponseURL": receiver.url}, forbidden, remaining=lambda: 60.0)
        assert receiver.received == []

    @pytest.mark.parametrize(
        "url",
        [
            EVENT["ResponseURL"],
            "https://cloudformation-custom-resource-response-cnnorth1.s3.cn-north-1.amazonaws.com.cn/x",
        ],
    )
    def test_addresses_of_cloudformation_are_contacted(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        put: list[str] = []

        def taken(_pool: urllib3.PoolManager, _method: str, url: str, **_: Any) -> urllib3.HTTPResponse:
            put.append(url)
            return urllib3.HTTPResponse(status=200)

        monkeypatch.setattr(urllib3.PoolManager, "request", taken)
        cloudformation.run(EVENT | {"ResponseURL": url}, list, remaining=lambda: 60.0)
        assert put == [url]
