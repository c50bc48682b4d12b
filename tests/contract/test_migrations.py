"""An update keeps all data, and both versions of the code work while traffic shifts between them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from pg8000.native import Connection, identifier
from pydantic import SecretStr

from local import migrate
from local.psql import address_file
from local.stores import Server
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_outbox import PostgresOutbox
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import Job, JobError, JobStatus, Usage
from message_handler.domain.messages import Message, Request
from message_handler.drivers.postgres import Database, transaction
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.settings import Settings
from message_handler.sql import migrations, statements
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from tests.contract.chat import BOT, Clock, job_id_of, named
from tests.contract.conftest import age_keys, database_of
from tests.contract.conversation import NOTICE, PROVENANCE, Conversation, raised
from tests.contract.world import World
from tests.releases import releases, statements_of, written

#: Each version that a database may have, but for the newest.
EARLIER = [migration.version for migration in migrations.migrations()[:-1]]
PREVIOUS = 7
#: The newest version that lacks something that every answer needs, and the newest that lacks what a commit needs.
LACKING, LACKING_COMMIT = 12, 12
KEY = ConversationKey("default", "patient-1")


@pytest.fixture(autouse=True, scope="module")
def few_shards() -> None:
    """Here are all shards: the statements below name jobs, and are written before any test begins."""


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
    12: [
        "insert into line_states (platform_id, conversation_id, fields, due_at)"
        " values ('default', 'patient-4', '{\"version\": \"v\"}', 0)",
    ],
    13: [f"update jobs set document = document || '{{\"restarts\": 1}}' where job_id = '{job_id(1)}'"],
    10: [f"update jobs set status = 'failed', finished_at = now() where job_id = '{job_id(1)}'"],
    14: [
        "update settled set words = 'digest-1', accepted_at = 1790000000.5",
        "update turns set edited_at = now(), earlier = '[\"text before\"]', unsent_at = now() where role = 'user'",
    ],
    15: [
        "insert into message_events (kind, platform_id, job_id, conversation_id, webhook_id, message_ids, bot_id,"
        " correlation_id, happened_at, created_at, give_up_at)"
        f" values ('unsent', 'default', '{job_id(1)}', 'patient-1', 'msg_unsent_1', '{{m0}}', 'nurse', 'c', now(),"
        " now(), now() + interval '1 day')",
    ],
    16: [
        "insert into raised (platform_id, conversation_id, job_id, level, rule, rules_version, message_ids, raised_at,"
        f" drill) values ('default', 'patient-1', '{job_id(1)}', 'crisis', 'en-suicide', 'v', '{{m0}}', now(), false)",
    ],
    17: ["insert into safety_rules (platform_id, document, compiled_for) values ('default', '{}', 'v')"],
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
    some = tuple(migration for migration in migrations.migrations() if migration.version <= version)
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "migrations", lambda: some)
        earlier.setattr(migrations, "functions", lambda: ())
        database.migrate()


def fill(connection: Connection, version: int) -> None:
    """Rows in every table that this version has."""
    for number, made in DATA.items():
        for statement in made if number <= version else ():
            connection.run(statement)


def rows(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All that there is, by table."""
    names = connection.run(
        "select tablename from pg_tables where schemaname = 'public' and tablename not like 'schema_%'"
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

    def test_a_job_is_read_whole(self, updated: PostgresArchive, version: int) -> None:
        job = updated.job(KEY.platform_id, job_id(1))
        assert job is not None
        usage, correlation_id = (Usage(7, 9), "c") if version >= 3 else (None, "")
        assert (job.bot_id, job.reply, job.usage, job.correlation_id) == ("nurse", "Rest.", usage, correlation_id)

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
        assert updated.resume(key) is (version >= 5)
        back = updated.parked(key)
        assert [kept.message.message_id for kept in (back.parked if back else ())] == (["m3"] if version >= 5 else [])

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
        parts = [*migrations.migrations(), *migrations.functions()]
        assert capsys.readouterr().out.splitlines() == [f"applied {part.name}" for part in parts]
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

    def test_bad_settings_name_their_variables(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("DATABASE_URL", "LOCK_TTL", "DATABASE_TIMEOUT"):
            monkeypatch.setenv(name, "canary-77")
        assert migrate.main([]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("migrate: bad settings: ")
        assert [name for name in ("DATABASE_URL", "LOCK_TTL", "DATABASE_TIMEOUT") if name not in printed] == []
        assert "canary-77" not in printed


RELEASED = Path(__file__).parents[1] / "migrations" / "released.txt"
DIGESTS = dict(line.split() for line in RELEASED.read_text().splitlines())


class TestFunctions:
    @pytest.mark.parametrize("part", [*migrations.migrations(), *migrations.functions()], ids=lambda part: part.name)
    def test_one_that_was_released_never_changes(self, part: migrations.SchemaFile) -> None:
        assert DIGESTS.get(part.name, part.digest) == part.digest, "give it another version, or add a migration"

    def test_one_that_was_changed_before_its_release_is_made_anew(
        self, database: Database, direct: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database.migrate()
        part = migrations.functions()[0]
        changed = (part._replace(text=f"{part.text}-- changed"), *migrations.functions()[1:])
        monkeypatch.setattr(migrations, "functions", lambda: changed)
        with pytest.raises(Unavailable, match="migrate"):
            database.ping()
        assert database.migrate() == [part.name]
        database.ping()

    def test_what_a_newer_release_has_added_is_no_hindrance(self, database: Database, direct: Connection) -> None:
        database.migrate()
        direct.run("insert into schema_migrations (version, name) values (999, 'a newer one')")
        direct.run("insert into schema_functions values ('end_jobs_v999.sql', 'digest')")
        database.ping()
        assert database.migrate() == []


class Before:
    """What an earlier release does, against the schema of today: its statements, with the values that it gave them."""

    def __init__(self, release: int, connection: Connection) -> None:
        self.release = release
        self.texts = statements_of(release)
        self._connection = connection

    def execute(self, values: dict[str, Any], *names: str) -> list[Any]:
        rows: list[Any] = []
        with transaction(self._connection):
            for name in names:
                sql = re.sub(r"-- .*", "", self.texts[name])  # a parameter would be looked for in a comment
                rows += self._connection.run(sql, **values) or []
        return rows

    def fence(self, job: Job) -> int:
        values = self.values(job) | {"turns": 10, "successor_id": job_id(90), "drains": False}
        if self.release == 7:
            return int(self.execute(values, "lock_conversation", "take_fence")[0][0])
        return int(self.execute(self._as_group(values), "take_fences")[0][1])

    def commit(self, job: Job, fence: int) -> bool:
        values = self.end_values(job) | {"fence": fence}
        if self.release == 7:
            return bool(self.execute(values, "commit_job", "end_superseded"))
        return bool(self.execute(self._as_group(values), "commit_jobs"))

    def archive(self, job: Job) -> None:
        place = ("lock_conversation", "move_later_turns", "place_later_turns")
        self.execute(self.end_values(job) | {"run_id": job.job_id}, *place, "archive_job", "end_superseded")

    def cancel(self, job: Job) -> None:
        more = {"accepted": [1.0 for _ in job.messages], "owners": [m.message_id for m in job.messages]}
        self.execute(self.end_values(job) | more, "lock_conversation", "cancel_job", "end_settled")

    def job(self, number: int) -> list[Any]:
        """All that it reads of a job, but for the times."""
        return list(self.execute({"platform_id": KEY.platform_id, "job_id": job_id(number)}, "job")[0][:14])

    def _as_group(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": json.dumps([values | {"number": 0}])}

    def values(self, job: Job) -> dict[str, Any]:
        return {
            "platform_id": job.key.platform_id, "conversation_id": job.key.conversation_id,
            "name_hash": job.key.name_hash, "job_id": job.job_id, "bot_id": job.bot_id, "oldest": "1",
            "message_ids": [m.message_id for m in job.messages], "ids": [id_ for m in job.messages for id_ in m.ids],
            "restarts": job.restarts, "attempts": job.attempts, "created_at": job.created_at,
            "started_at": job.started_at,
        }  # fmt: skip

    def end_values(self, job: Job) -> dict[str, Any]:
        error, usage = job.error or JobError("", ""), job.usage
        said = [("user", m.content, m.message_id) for m in job.messages]
        said += [("assistant", job.reply, None)] if job.reply else []  # type: ignore[list-item]
        return self.values(job) | {
            "status": job.status.value, "kind": "failed" if job.error else "answered", "reply": job.reply,
            "error_code": error.code or None, "error_message": error.message or None, "error_notice": error.notice,
            "input_tokens": usage.input_tokens if usage else None, "correlation_id": job.correlation_id,
            "output_tokens": usage.output_tokens if usage else None, "finished_at": job.finished_at,
            "roles": [role for role, _, _ in said], "contents": [content for _, content, _ in said],
            "turn_ids": [id_ for _, _, id_ in said], "given_ids": list(job.given_ids),
        }  # fmt: skip


@pytest.mark.parametrize("release", releases())
def test_no_statement_of_an_earlier_release_is_kept_twice(release: int) -> None:
    kept = (RELEASED.parent / f"release_{release:04}.sql").read_text()
    assert kept == written(release, statements_of(release))


class TestTheCodeBefore:
    """What shipped with an earlier migration, against the schema of today."""

    @pytest.fixture(params=releases())
    def before(self, database: Database, direct: Connection, request: pytest.FixtureRequest) -> Before:
        database.migrate()
        direct.run("update platforms set base_url = 'https://chat.example'")
        return Before(request.param, direct)

    @pytest.fixture
    def talk(self, database: Database, before: Before) -> Conversation:
        return Conversation(PostgresArchive(database), KEY)

    def test_each_of_its_statements_is_understood(self, before: Before, direct: Connection) -> None:
        assert len(before.texts) > 60
        for text in before.texts.values():
            numbered, _ = statements.prepared(text)
            # Its parameters' types are left to the server, as they are when it runs.
            direct.execute_simple(f"prepare it as {numbered}")
            direct.execute_simple("deallocate it")

    def test_its_main_path_does_what_it_did(self, before: Before, talk: Conversation) -> None:
        job = talk.job(1, "m0")
        number = before.fence(job)
        assert number == 1
        assert before.commit(talk.completed(job), number)
        values = before.values(job)
        assert before.execute(values | {"message_id": "m0"}, "settled_by") == [[job_id(1)]]
        assert [row[1:3] for row in before.execute(values, "conversation")] == [
            ["user", "text of m0"],
            ["assistant", "Rest."],
        ]
        moment = {"now": 4e9, "until": 4e9, "most": 4, "busy_until": 4e9, "claim_id": job_id(5)}
        assert before.execute(values | moment, "lock_platform", "claim_delivery")[0][1] == f"msg_{job_id(1)}"
        before.cancel(talk.job(3, "m1"))
        assert talk.end(3)[0] is JobStatus.CANCELLED

    def test_it_takes_no_event_of_a_message_for_the_end_of_a_job(
        self, before: Before, talk: Conversation, direct: Connection
    ) -> None:
        job = talk.job(1, "m0", named("m0 edit a1b2"))
        assert talk.archive.commit(talk.completed(job), talk.number(job))
        assert direct.run("select kind from deliveries order by sequence") == [["edited"], ["ended"]]
        moment = {"now": 4e9, "until": 4e9, "most": 4, "busy_until": 4e9, "claim_id": job_id(5)}
        claimed = before.execute(before.values(job) | moment, "lock_platform", "claim_delivery")
        assert [row[1] for row in claimed] == [f"msg_{job_id(1)}"]
        assert len(before.execute({"now": 4e9, "overdue": 4e9}, "expire_deliveries")) == 1
        assert len(before.execute({"platform_id": "default", "most": 9}, "dead_deliveries")) == 1
        assert len(before.execute({"platform_id": "default", "now": 4e9}, "redrive_deliveries")) == 1
        assert direct.run("select status, claim_id from message_events") == [["pending", None]]

    def test_it_is_not_disturbed_by_a_notice(self, before: Before, talk: Conversation, direct: Connection) -> None:
        found = raised(key=KEY)
        assert talk.archive.note_raised(found)
        values = {"platform_id": KEY.platform_id, "job_id": found.job_id}
        assert before.execute(values, "job")[0][:8] == [
            found.job_id, KEY.conversation_id, BOT, "completed", [], 0, 0, NOTICE,
        ]  # fmt: skip
        job = talk.job(1, "m0")
        assert before.commit(talk.completed(job), before.fence(job))
        moment = {"now": 4e9, "until": 4e9, "most": 4, "busy_until": 4e9, "claim_id": job_id(5)}
        claimed = before.execute(before.values(job) | moment, "lock_platform", "claim_delivery")
        assert [row[1] for row in claimed] == [f"msg_{job_id(1)}"]
        before.execute({"now": 4e9, "overdue": 4e9}, "expire_deliveries")
        before.execute({"platform_id": "default", "now": 4e9}, "redrive_deliveries")
        assert direct.run("select kind, status, claim_id from message_events") == [["raised", "pending", None]]

    @pytest.mark.parametrize("began", ["today's", "the one before"])
    def test_one_commits_what_the_other_began(self, before: Before, talk: Conversation, began: str) -> None:
        job = talk.job(1, "m0", restarts=1, attempts=2)
        if began == "today's":
            assert before.commit(talk.completed(job), talk.number(job))
        else:
            assert talk.archive.commit(talk.completed(job), before.fence(job))
        assert talk.turns() == [("user", "text of m0"), ("assistant", "Rest.")]
        assert talk.archived(1).attempts == 2

    @pytest.mark.parametrize("end", ["completed", "failed", "archived", "cancelled"])
    @pytest.mark.parametrize("ended", ["today's", "the one before"])
    def test_each_reads_whole_what_the_other_has_ended(
        self, before: Before, talk: Conversation, end: str, ended: str
    ) -> None:
        error = JobError("ai_failed", "The AI gave no answer.", "Please call us.") if end == "failed" else None
        job = talk.job(1, "m0", restarts=1, attempts=2, correlation_id="c-1")
        done = replace(
            talk.failed(job) if error else talk.completed(job), error=error, usage=None if error else Usage(7, 9)
        )
        by: Any = before if ended == "the one before" else talk.archive
        if end == "cancelled":
            by.cancel(job)
        elif end == "archived":
            by.archive(done)
        else:
            assert by.commit(done, talk.number(job))
        found = talk.archived(1)
        assert (found.status, found.bot_id, found.restarts, found.attempts) == (
            JobStatus.CANCELLED if end == "cancelled" else done.status, BOT, 1, 2,
        )  # fmt: skip
        if end != "cancelled":
            assert (found.reply, found.error, found.usage, found.correlation_id) == (
                done.reply, error, done.usage, "c-1",
            )  # fmt: skip
        error_, usage = found.error, found.usage
        assert before.job(1) == [
            found.job_id, KEY.conversation_id, BOT, found.status.value, ["m0"], 1, 2, found.reply,
            error_.code if error_ else None, error_.message if error_ else None, error_.notice if error_ else None,
            usage.input_tokens if usage else None, usage.output_tokens if usage else None, found.correlation_id,
        ]  # fmt: skip

    def test_a_run_of_the_release_before_leaves_nothing_of_a_run_of_this_one(
        self, before: Before, talk: Conversation
    ) -> None:
        talk.number(talk.job(1, "m0", restarts=2, attempts=3, correlation_id="c-1"))
        job = talk.job(1, "m0", attempts=1)
        assert before.commit(talk.completed(job), before.fence(job))
        found = talk.archived(1)
        assert (found.restarts, found.attempts, found.correlation_id, found.reply) == (0, 1, "", "Rest.")

    def test_a_copy_of_the_release_before_tells_what_its_original_does(
        self, before: Before, talk: Conversation
    ) -> None:
        done = replace(talk.completed(talk.job(1, "m0")), provenance=PROVENANCE)
        assert talk.archive.commit(done, talk.number(talk.job(1, "m0")))
        talk.number(talk.job(2, "m1"))
        values = {"platform_id": "default", "job_id": job_id(2), "successor_id": job_id(1), "copy_id": job_id(3)}
        before.execute(values, "copy_successor")
        assert talk.archived(3).provenance == PROVENANCE


class TestTheCodeAfter:
    """The code of today, against the schema of before, until that is migrated."""

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
        assert [turn.content for turn, *_ in found.turns] == ["text of m0", "Rest."]
        assert world.archive.settled_by(KEY, "m0") == job_id(1)

    @pytest.mark.parametrize("version", [PREVIOUS, LACKING_COMMIT])
    def test_a_commit_of_a_run_that_began_before_goes_through_once_it_is_migrated(
        self, world: World, database: Database, direct: Connection, version: int
    ) -> None:
        fill(direct, version)
        archive: Any = world.kept.target
        talk = Conversation(archive, KEY)
        before = rows(direct)
        with pytest.raises((Unavailable, StatementRefused), match="migrate"):
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
