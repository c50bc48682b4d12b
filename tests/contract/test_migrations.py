"""Whoever updates keeps all that there is, and both versions of the code work while traffic shifts between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pg8000.native import Connection, identifier, to_statement
from pydantic import SecretStr

from local import migrate
from local.psql import address_file
from local.stores import Server
from message_handler.errors import Unavailable
from message_handler.models import ConversationKey, Job, JobStatus, Message, Request
from message_handler.settings import Settings
from message_handler.stores import database as database_module
from message_handler.stores import postgres_archive
from message_handler.stores.database import Database, Refused, _migrations, _version, connector, execute
from message_handler.stores.postgres import PostgresTier
from message_handler.stores.postgres_archive import PostgresArchive
from message_handler.stores.postgres_outbox import PostgresOutbox
from message_handler.stores.redis import RedisTier
from tests.contract.chat import BOT, Clock, job_id_of, named
from tests.contract.conftest import age_keys, database_of
from tests.contract.test_archive import Conversation
from tests.contract.world import World

NEWEST = _version(_migrations()[-1])
#: Each version that a database may have, but for the newest.
EARLIER = [_version(migration) for migration in _migrations()[:-1]]
PREVIOUS = 7
#: The newest version that lacks something that every answer needs, and the newest that lacks what a commit needs.
LACKING, LACKING_COMMIT = 11, 9
RELEASE = Path(__file__).parents[1] / "migrations" / f"release_{PREVIOUS:04}"
#: How statements of today are found.
TODAY = database_module._statement
KEY = ConversationKey("default", "patient-1")


def job_id(number: int) -> str:
    return job_id_of(KEY, number)


#: What each version has that none before it had: statements that its own code may have made.
DATA: dict[int, list[str]] = {
    1: [
        "insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_token)"
        " values ('default', 'trial', 'Trial', 'https://ai.example/v1', 'token')",
        "insert into bots (platform_id, bot_id, name, core_ai_id) values ('default', 'nurse', 'Nurse', 'trial')",
        "insert into conversations (platform_id, conversation_id, bot_id, fence, turn_count)"
        " values ('default', 'patient-1', 'nurse', 5, 2)",
        "insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, reply, created_at,"
        f" finished_at) values ('default', '{job_id(1)}', 'patient-1', 'nurse', 'completed', 4, '{{m0}}', 'Rest.',"
        " now(), now())",
        "insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, created_at,"
        " started_at)"
        f" values ('default', '{job_id(2)}', 'patient-1', 'nurse', 'processing', 5, '{{m1}}', now(), now())",
        "insert into settled (platform_id, conversation_id, message_id, job_id, kind)"
        f" values ('default', 'patient-1', 'm0', '{job_id(1)}', 'answered')",
        "insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)"
        f" values ('default', 'patient-1', 1, 'user', 'text of m0', 'm0', '{job_id(1)}', now()),"
        f" ('default', 'patient-1', 2, 'assistant', 'Rest.', null, '{job_id(1)}', now())",
    ],
    2: [
        "insert into lines (platform_id, conversation_id, version, document, current_id, message_ids, due_at,"
        f" acquired_at) values ('default', 'patient-2', '{job_id(9)}', '{{}}', '{job_id(3)}', '{{m2}}', 0, 0)",
        "insert into ended_jobs (platform_id, job_id, document, expires_at)"
        f" values ('default', '{job_id(4)}', '{{}}', 4000000000)",
    ],
    3: [f"update jobs set input_tokens = 7, output_tokens = 9, correlation_id = 'c' where job_id = '{job_id(1)}'"],
    4: [
        "update platforms set base_url = 'https://chat.example', webhook_failures = 2",
        "insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)"
        f" values ('default', '{job_id(1)}', 'patient-1', 'msg_1', '{{m0}}', now(), now() + interval '1 day')",
    ],
    5: [
        "insert into conversations (platform_id, conversation_id, bot_id, handed_off, handoffs)"
        " values ('default', 'patient-3', 'nurse', true, 1)",
        "insert into held (platform_id, conversation_id, message_id, content, given, aliases, context, resources)"
        " values ('default', 'patient-3', 'm3', 'text of m3', true, '{}', '[]', '{}')",
    ],
    6: ["update core_ai set auth_host = 'ai.example'"],
    7: ["update platforms set webhook_suspect = 'patient-1'"],
    8: [
        "insert into audit (platform_id, actor, action, kind, record_id, after)"
        " values ('default', 'user:1', 'put', 'bots', 'nurse', '{}')",
        f"update jobs set retried_at = now() where job_id = '{job_id(1)}'",
    ],
    9: [
        "insert into erasures (platform_id, name_hash, erased_at, fence) values ('default', 'hash-1', now(), 3)",
    ],
    11: [],  # an index, no more
    10: [f"update jobs set status = 'failed', finished_at = now() where job_id = '{job_id(1)}'"],
}


@pytest.fixture
def old(postgres: Server, sql: Connection) -> Iterator[Settings]:
    """The settings of a new database."""
    name = "old"
    sql.run(f"create database {identifier(name)}")
    url = postgres.url.rsplit("/", 1)[0] + f"/{name}"
    yield Settings(database_url=SecretStr(url), database_timeout=30)
    sql.run(f"drop database {identifier(name)} (force)")


@pytest.fixture
def database(old: Settings) -> Iterator[Database]:
    database = database_of(old)
    yield database
    database.close()


@pytest.fixture
def direct(old: Settings) -> Iterator[Connection]:
    connection = connector(old)()
    yield connection
    connection.close()


def migrate_to(database: Database, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [migration for migration in _migrations() if _version(migration) <= version]
    with monkeypatch.context() as earlier:
        earlier.setattr(database_module, "_migrations", lambda: some)
        database.migrate()


def fill(connection: Connection, version: int) -> None:
    """Rows in every table that this version has."""
    for number, statements in DATA.items():
        for statement in statements if number <= version else ():
            connection.run(statement)


def rows(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All that there is, by table."""
    names = connection.run(
        "select tablename from pg_tables where schemaname = 'public' and tablename <> 'schema_migrations'"
    )
    return {
        name: [row[0] for row in connection.run(f"select to_jsonb(found) from {identifier(name)} as found") or ()]
        for (name,) in names or ()
    }


def test_every_version_has_data_of_its_own() -> None:
    assert DATA.keys() >= set(EARLIER)


class TestUpdating:
    @pytest.fixture(params=EARLIER)
    def version(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture
    def updated(
        self, database: Database, direct: Connection, version: int, monkeypatch: pytest.MonkeyPatch
    ) -> PostgresArchive:
        migrate_to(database, version, monkeypatch)
        fill(direct, version)
        database.migrate()
        return PostgresArchive(database)

    def test_nothing_that_was_there_is_changed(
        self, database: Database, direct: Connection, version: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migrate_to(database, version, monkeypatch)
        fill(direct, version)
        before = rows(direct)
        if version <= PREVIOUS:
            assert [name for name, found in before.items() if not found] == [], "each table has data"
        database.migrate()
        after = rows(direct)
        for name, found in before.items():
            assert len(after[name]) == len(found)
            for row in found:
                same = (all(now.get(column) == it for column, it in row.items()) for now in after[name])
                assert any(same), name
        database.ping()

    def test_a_conversation_goes_on(self, updated: PostgresArchive) -> None:
        talk = Conversation(updated, KEY)
        talk.answer(10, "m9", reply="Sleep.")
        assert [content for _, content in talk.turns()] == ["text of m0", "Rest.", "text of m9", "Sleep."]
        assert talk.settled("m0", "m9") == [job_id(1), job_id(10)]

    def test_a_run_that_was_under_way_commits(self, updated: PostgresArchive) -> None:
        talk = Conversation(updated, KEY)
        assert updated.commit(talk.completed(talk.job(2, "m1")), 5)
        assert not updated.commit(talk.completed(talk.job(2, "m1"), "Another."), 4)
        assert talk.archived(2).reply == "Rest."

    def test_what_waited_in_the_tier_is_answered_from_its_record(
        self, updated: PostgresArchive, database: Database
    ) -> None:
        tier, key = PostgresTier(database, Settings(), Clock(time.time())), ConversationKey("default", "patient-2")
        assert tier.jobs(key) == ()
        promised = job_id_of(key, 3)
        tier.accept_again(Request(key, (named("m2"),), (), BOT), job_id=promised, spare_id=job_id_of(key, 4))
        (job,) = tier.jobs(key)
        assert job.job_id == promised
        talk = Conversation(updated, key)
        fence = updated.fence(job, successor_id=talk.id(50), turns=0).number
        assert fence is not None
        assert updated.commit(talk.completed(job), fence)

    def test_what_is_held_is_handed_back(self, updated: PostgresArchive, version: int) -> None:
        key = ConversationKey("default", "patient-3")
        assert updated.hand_back(key) is (version >= 5)
        back = updated.held(key)
        assert [kept.message.message_id for kept in (back.held if back else ())] == (["m3"] if version >= 5 else [])

    def test_what_is_to_be_told_is_told(self, updated: PostgresArchive, database: Database, version: int) -> None:
        now, claim = time.time() + 1, job_id(99)
        claimed = PostgresOutbox(database).claim(KEY, claim, now=now, until=now + 30, most=4, busy_until=now)
        assert getattr(claimed, "webhook_id", None) == ("msg_1" if version >= 4 else None)

    def test_it_can_be_erased(self, updated: PostgresArchive, direct: Connection) -> None:
        assert updated.erase(KEY).found
        found = rows(direct)
        assert "text of m0" not in json.dumps(found)
        updated.erase(ConversationKey("default", "patient-2"))
        assert not rows(direct)["lines"]


class TestTheCommandLine:
    def test_it_says_what_it_applies(
        self, old: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert old.database_url
        monkeypatch.setenv("DATABASE_URL", old.database_url.get_secret_value())
        assert migrate.main([]) == 0
        assert capsys.readouterr().out.splitlines() == [f"applied {migration.name}" for migration in _migrations()]
        assert migrate.main([]) == 0
        assert capsys.readouterr().out == "up to date\n"

    def test_without_a_url_it_is_the_running_hosts(
        self, old: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("DATABASE_URL", raising=False)
        monkeypatch.chdir(tmp_path)
        assert migrate.main(["--port", "3999"]) == 2
        assert "make run" in capsys.readouterr().err
        (tmp_path / ".local").mkdir()
        assert old.database_url
        address_file(tmp_path / ".local", 3999).write_text(old.database_url.get_secret_value())
        assert migrate.main(["--port", "3999"]) == 0

    def test_a_database_that_is_away_is_one_line_without_its_password(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://me:canary-77@127.0.0.1:1/nothing")
        assert migrate.main([]) == 1
        assert capsys.readouterr().err == "migrate: Postgres is not available\n"


class TestTheCodeBefore:
    """What shipped with migration 0007, against the schema of today."""

    @pytest.fixture
    def statements(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        database.migrate()

        def before(name: str) -> Any:
            text = (RELEASE / f"{name}.sql").read_text()
            text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
            return to_statement(text)

        monkeypatch.setattr(database_module, "_statement", before)

    def test_each_of_its_statements_is_understood(self, database: Database, direct: Connection) -> None:
        database.migrate()
        files = sorted(RELEASE.glob("*.sql"))
        assert len(files) > 60
        for file in files:
            text = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("--"))
            numbered, _ = to_statement(text)
            # Its parameters' types are left to the server, as they are when it runs.
            direct.execute_simple(f"prepare it as {numbered}")
            direct.execute_simple("deallocate it")

    def test_its_main_path_does_what_it_did(self, statements: None, direct: Connection) -> None:
        job: dict[str, Any] = {
            "platform_id": "default", "conversation_id": "patient-1", "bot_id": "nurse", "job_id": job_id(1),
            "message_ids": ["m0"], "ids": ["m0"], "restarts": 0, "attempts": 1, "created_at": 1.0, "started_at": 1.0,
            "turns": 10, "successor_id": job_id(2),
        }  # fmt: skip
        end = job | {
            "status": "completed", "kind": "answered", "reply": "Rest.", "error_code": None, "error_message": None,
            "error_notice": None, "input_tokens": 1, "output_tokens": 1, "correlation_id": "", "finished_at": 2.0,
            "roles": ["user", "assistant"], "contents": ["text of m0", "Rest."], "turn_ids": ["m0", None],
            "given_ids": ["m0"],
        }  # fmt: skip
        direct.run("update platforms set base_url = 'https://chat.example'")
        ((number, settled, newest, handed_off),) = execute(direct, job, "lock_conversation", "take_fence")
        assert (number, settled, newest, handed_off) == (1, None, None, False)
        assert execute(direct, end | {"fence": number}, "commit_job", "end_superseded") == [[True]]
        assert execute(direct, job | {"message_id": "m0"}, "settled_by") == [[job_id(1)]]
        assert [row[1:3] for row in execute(direct, job, "conversation")] == [
            ["user", "text of m0"],
            ["assistant", "Rest."],
        ]
        moment = {"now": 4e9, "until": 4e9, "most": 4, "busy_until": 4e9, "claim_id": job_id(5)}
        assert execute(direct, job | moment, "lock_platform", "claim_delivery")[0][1] == f"msg_{job_id(1)}"
        cancelled = job | {
            "job_id": job_id(3), "message_ids": ["m1"], "ids": ["m1"], "owners": ["m1"], "contents": ["text of m1"],
            "turn_ids": ["m1"],
        }  # fmt: skip
        assert execute(direct, cancelled, "lock_conversation", "cancel_job", "end_settled", "job")[0] == [True]

    @pytest.mark.parametrize("began", ["today's", "the one before"])
    def test_one_commits_what_the_other_began(
        self, statements: None, database: Database, direct: Connection, monkeypatch: pytest.MonkeyPatch, began: str
    ) -> None:
        talk, earlier = Conversation(PostgresArchive(database), KEY), database_module._statement
        job = talk.job(1, "m0")
        if began == "today's":
            monkeypatch.setattr(database_module, "_statement", TODAY)
            fence = talk.number(job)
            monkeypatch.setattr(database_module, "_statement", earlier)
            end = postgres_archive._end_values(talk.completed(job)) | {"fence": fence}
            committed = execute(direct, end, "commit_job", "end_superseded")[0][0]
        else:
            values = postgres_archive._job_values(job) | {"turns": 10, "successor_id": job_id(2)}
            fence = execute(direct, values, "lock_conversation", "take_fence")[0][0]
            monkeypatch.setattr(database_module, "_statement", TODAY)
            committed = talk.archive.commit(talk.completed(job), fence)
        assert committed
        monkeypatch.setattr(database_module, "_statement", TODAY)
        assert talk.turns() == [("user", "text of m0"), ("assistant", "Rest.")]


class TestTheCodeAfter:
    """The code of today, against the schema of before: until somebody has migrated it."""

    @pytest.fixture
    def version(self) -> int:
        return PREVIOUS

    @pytest.fixture
    def world(
        self,
        database: Database,
        redis_client: redis.Redis,
        version: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> World:
        migrate_to(database, version, monkeypatch)
        redis_client.flushall()
        clock = Clock(time.time(), followers=[lambda seconds: age_keys(redis_client, seconds)])
        tier = RedisTier(redis_client, Settings(), clock)
        return World(tier, PostgresArchive(database), lambda _: None, clock, Settings(), KEY)

    @pytest.mark.parametrize("version", [PREVIOUS, LACKING])
    def test_what_is_accepted_is_answered_and_archived_once_it_is_migrated(
        self, world: World, database: Database
    ) -> None:
        world.posts("m0")
        world.delivers()
        assert world.ai.prompts, "it is answered at once, guarded by the tier alone"
        job_id_ = world.told["m0"][0]
        assert world.job(job_id_).status is JobStatus.COMPLETED
        world.posts("m1")
        world.delivers()
        assert database.away, "and said to be degraded"
        with pytest.raises(Unavailable, match="migrate"):
            world.archive.ping()
        database.migrate()
        world.settles()
        assert world.answered("m0", "m1")
        world.checked()

    def test_reads_go_on(self, world: World, database: Database, direct: Connection) -> None:
        fill(direct, PREVIOUS)
        found = world.archive.conversation(KEY)
        assert found is not None
        assert [turn.content for turn, _, _ in found.turns] == ["text of m0", "Rest."]
        assert world.archive.settled_by(KEY, "m0") == job_id(1)

    @pytest.mark.parametrize("version", [PREVIOUS, LACKING_COMMIT])
    def test_a_commit_of_a_run_that_began_before_goes_through_once_it_is_migrated(
        self, world: World, database: Database, direct: Connection, version: int
    ) -> None:
        fill(direct, version)
        archive: Any = world.kept.target
        talk = Conversation(archive, KEY)
        before = rows(direct)
        with pytest.raises((Unavailable, Refused), match="migrate"):
            archive.commit(talk.completed(talk.job(2, "m1")), 5)
        assert rows(direct) == before
        database.migrate()
        assert archive.commit(talk.completed(talk.job(2, "m1")), 5)

    def test_what_needs_the_new_tables_says_so_and_does_nothing(
        self, world: World, database: Database, direct: Connection
    ) -> None:
        fill(direct, PREVIOUS)
        before = rows(direct)
        uses: list[Callable[[], Any]] = [
            lambda: world.archive.erase(KEY),
            lambda: world.archive.cancel(
                Job(job_id(2), KEY, JobStatus.PROCESSING, (Message("m1", "x"),), BOT, created_at=1.0)
            ),
        ]
        for use in uses:
            with pytest.raises(Unavailable, match="migrate"):
                use()
        assert rows(direct) == before
