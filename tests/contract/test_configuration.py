"""Configuration in real stores: records that belong together change together, and a token stays with its host."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, cast

import pytest

from message_handler.archive import postgres_audit
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_audit import PostgresAudit
from message_handler.archive.postgres_configuration import PostgresConfiguration, _PostgresRecords
from message_handler.bot_config import BotConfigService
from message_handler.configuration.admin import ConfigurationAdmin, Expected
from message_handler.configuration.redaction import REDACTED
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    RequestError,
    Unavailable,
)
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.egress import Egress
from message_handler.drivers.postgres import Database
from message_handler.drivers.secrets import Secrets
from message_handler.ports.configuration import RecordKind, Records
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.redis import RedisTier
from tests.contract.threads import at_once
from tests.servers import emptied

CANARY = "canary-7f3a"
TENANT = "clinic"
CORE: dict[str, Any] = {"name": "GPT", "api_endpoint": "https://ai.example/v1", "meta_data": {"model": "gpt"}}
SECURED = CORE | {"auth_token": f"sk-{CANARY}"}
BOT: dict[str, Any] = {"name": "Nurse", "core_ai_id": "gpt"}
FALLBACK = "meta_data.fallback_core_ai_id"


def with_fallback(core_ai_id: str) -> dict[str, Any]:
    return CORE | {"meta_data": {"model": "gpt", "fallback_core_ai_id": core_ai_id}}


def secret(letter: str) -> str:
    return "whsec_" + base64.b64encode(f"{CANARY}{letter}".encode() * 3).decode()


def job_of(bot_id: str) -> Job:
    key = ConversationKey(TENANT, "patient-1")
    return Job(key.new_job_id(), key, JobStatus.PROCESSING, (Message("m", "hello"),), bot_id)


@pytest.fixture(params=["postgres", "postgres_15"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    found: Database = request.getfixturevalue(f"{request.param}_database")
    tables = ("conversations", "outbox", "jobs", "settled", "bots", "core_ai", "audit")
    found.run(lambda connection: connection.execute_simple(emptied(*tables)))
    found.run(
        lambda connection: connection.run(
            "insert into platforms (platform_id, name) values ('clinic', 'Clinic'), ('other', 'Other')"
        )
    )
    yield found
    found.run(lambda connection: connection.execute_simple(emptied("bots", "core_ai")))
    found.run(lambda connection: connection.run("delete from platforms where platform_id <> 'default'"))


@pytest.fixture
def store(database: Database) -> PostgresConfiguration:
    return PostgresConfiguration(database)


@pytest.fixture
def bots(redis_tier: RedisTier, database: Database) -> BotConfigService:
    return service(redis_tier, database)


def service(tier: RedisTier, database: Database) -> BotConfigService:
    return BotConfigService(Failover(tier), PostgresArchive(database), Settings(configuration_ttl=60))


class Operator:
    """An operator, who sees records without their secrets."""

    def __init__(self, store: PostgresConfiguration, bots: BotConfigService, *, literals: bool = True) -> None:
        secrets = Secrets(literals=literals)
        self.admin = ConfigurationAdmin(store, bots.refresh, Egress(["*.example", "*.example:8443"]), secrets)
        self.all = self.admin.all

    def get(self, kind: RecordKind, platform_id: str, id_: str) -> dict[str, Any]:
        return self.admin.get(kind, platform_id, id_).record

    def put(
        self, kind: RecordKind, platform_id: str, id_: str, body: Any, expected: Expected = None
    ) -> tuple[bool, dict[str, Any]]:
        created, shown = self.admin.put(kind, platform_id, id_, body, actor="user:1", expected=expected)
        return created, shown.record

    def delete(self, kind: RecordKind, platform_id: str, id_: str, expected: Expected = None) -> None:
        self.admin.delete(kind, platform_id, id_, actor="user:1", expected=expected)


@pytest.fixture
def admin(store: PostgresConfiguration, bots: BotConfigService) -> Operator:
    return Operator(store, bots)


@pytest.fixture(autouse=True)
def private(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may log a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    assert CANARY not in "\n".join(f"{logging.Formatter().format(record)} {vars(record)}" for record in records)


def refusal(call: Callable[[], Any], kind: type[RequestError] = InvalidRequest) -> str | None:
    """The field that the error names."""
    with pytest.raises(RequestError) as refused:
        call()
    assert isinstance(refused.value, kind)
    assert CANARY not in str(refused.value)
    return refused.value.field


class TestStore:
    RECORD: ClassVar[dict[str, Any]] = {
        "core_ai_id": "gpt",
        "name": "GPT 'x' :name",
        "api_endpoint": "https://ai.example",
        "auth_required": True,
        "auth_token": f"sk-{CANARY}",
        "auth_host": "ai.example",
        "timeout_seconds": 20,
        "meta_data": {"temperature": 0.7, "system_prompt": "Bạn là y tá", "model": "m"},
    }

    def test_what_was_put_is_there(self, store: PostgresConfiguration) -> None:
        assert store.change(TENANT, lambda records: records.put("core_ai", self.RECORD)) is True
        stored = store.read(TENANT, lambda records: records.get("core_ai", "gpt"))
        assert stored
        assert stored == self.RECORD | {"revision": stored["revision"]}
        changed = self.RECORD | {"name": "Other", "auth_token": None, "auth_host": None, "meta_data": {}}
        assert store.change(TENANT, lambda records: records.put("core_ai", changed)) is False
        revised = changed | {"revision": stored["revision"] + 1}
        assert store.read(TENANT, lambda records: records.all("core_ai")) == [revised]
        store.change(TENANT, lambda records: records.delete("core_ai", "gpt"))
        assert store.read(TENANT, lambda records: records.get("core_ai", "gpt")) is None

    def test_records_are_in_the_order_of_their_ids(self, store: PostgresConfiguration) -> None:
        names = ["b", "B", "a.1", "a", "_", "10", "9"]
        for name in names:
            store.change(TENANT, lambda records, name=name: records.put("core_ai", self.RECORD | {"core_ai_id": name}))
        found = store.read(TENANT, lambda records: records.all("core_ai"))
        assert [record["core_ai_id"] for record in found] == sorted(names)

    def test_a_change_that_is_refused_has_changed_nothing(
        self, store: PostgresConfiguration, database: Database
    ) -> None:
        def step(records: Records) -> None:
            records.put("core_ai", self.RECORD)
            raise Conflict("after all")

        def backend() -> Any:
            return database.run(lambda connection: connection.run("select pg_backend_pid()"))

        before = backend()
        assert refusal(lambda: store.change(TENANT, step), Conflict) is None
        assert store.read(TENANT, lambda records: records.all("core_ai")) == []
        assert backend() == before  # a refusal costs no connection

    def test_changes_of_one_tenant_come_one_after_another(self, store: PostgresConfiguration) -> None:
        store.change(TENANT, lambda records: records.put("core_ai", self.RECORD | {"timeout_seconds": 1}))

        def step(records: Records) -> None:
            record = records.get("core_ai", "gpt")
            assert record
            records.put("core_ai", record | {"timeout_seconds": record["timeout_seconds"] + 1})

        at_once(*[lambda: [store.change(TENANT, step) for _ in range(5)]] * 4)
        found = store.read(TENANT, lambda records: records.get("core_ai", "gpt"))
        assert found
        assert found["timeout_seconds"] == 21

    @pytest.mark.parametrize("kind", ["bots", "core_ai", "platforms"])
    def test_tenants_never_see_each_other(
        self, store: PostgresConfiguration, admin: Operator, kind: RecordKind
    ) -> None:
        admin.put("core_ai", TENANT, "gpt", CORE)
        admin.put("bots", TENANT, "gpt", BOT)
        id_ = TENANT if kind == "platforms" else "gpt"
        own = store.read("other", lambda records: records.all(kind))
        assert [record["platform_id"] for record in own] == (["other"] if kind == "platforms" else [])
        assert store.read("other", lambda records: records.get(kind, id_)) is None
        store.change("other", lambda records: records.delete(kind, id_))
        assert store.read(TENANT, lambda records: records.get(kind, id_))


def test_one_of_two_operators_who_want_a_new_platform_at_once_gets_it(
    admin: Operator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run(lambda connection: connection.run("delete from platforms where platform_id = 'clinic'"))
    both = threading.Barrier(2, timeout=5)
    put = _PostgresRecords.put

    def seen_by_both(records: _PostgresRecords, kind: RecordKind, record: dict[str, Any]) -> bool:
        both.wait()
        return put(records, kind, record)

    monkeypatch.setattr(_PostgresRecords, "put", seen_by_both)

    def create(name: str) -> str:
        try:
            admin.put("platforms", TENANT, TENANT, {"name": name}, expected="new")
        except PreconditionFailed:
            return ""
        return name

    names = at_once(partial(create, "Clinic A"), partial(create, "Clinic B"))
    assert sorted(map(bool, names)) == [False, True]
    assert admin.get("platforms", TENANT, TENANT)["name"] == "".join(names)


class TestReferences:
    def test_a_bot_answers_with_an_ai_core_that_is_there(self, admin: Operator) -> None:
        assert refusal(lambda: admin.put("bots", TENANT, "nurse", BOT)) == "core_ai_id"
        admin.put("core_ai", "other", "gpt", CORE)
        assert refusal(lambda: admin.put("bots", TENANT, "nurse", BOT)) == "core_ai_id"
        admin.put("core_ai", TENANT, "gpt", CORE)
        assert admin.put("bots", TENANT, "nurse", BOT)[0] is True
        assert admin.put("bots", TENANT, "nurse", BOT)[0] is False

    def test_a_fallback_is_another_ai_core_without_one(self, admin: Operator) -> None:
        for core_ai_id in ("gpt", "gone"):
            assert refusal(lambda id_=core_ai_id: admin.put("core_ai", TENANT, "gpt", with_fallback(id_))) == FALLBACK
        admin.put("core_ai", TENANT, "gpt", CORE)
        assert refusal(lambda: admin.put("core_ai", TENANT, "gpt", with_fallback("gpt"))) == FALLBACK
        admin.put("core_ai", TENANT, "spare", CORE)
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare"))
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare"))
        assert refusal(lambda: admin.put("core_ai", TENANT, "third", with_fallback("gpt"))) == FALLBACK
        admin.put("core_ai", TENANT, "third", CORE)
        assert refusal(lambda: admin.put("core_ai", TENANT, "spare", with_fallback("third"))) == FALLBACK

    def test_however_two_race_no_fallback_has_a_fallback(self, admin: Operator) -> None:
        for number in range(5):
            one, other = f"one-{number}", f"other-{number}"
            for core_ai_id in (one, other):
                admin.put("core_ai", TENANT, core_ai_id, CORE)

            def lean(core_ai_id: str, fallback_id: str) -> bool:
                try:
                    admin.put("core_ai", TENANT, core_ai_id, with_fallback(fallback_id))
                except InvalidRequest:
                    return False
                return True

            done = at_once(lambda: lean(one, other), lambda: lean(other, one))  # noqa: B023
            assert sorted(done) == [False, True]

    def test_records_that_others_need_stay(self, admin: Operator) -> None:
        admin.put("core_ai", TENANT, "spare", CORE)
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare"))
        admin.put("bots", TENANT, "nurse", BOT)
        assert refusal(lambda: admin.delete("core_ai", TENANT, "gpt"), Conflict) == "core_ai_id"
        assert refusal(lambda: admin.delete("core_ai", TENANT, "spare"), Conflict) == "core_ai_id"
        assert refusal(lambda: admin.delete("platforms", TENANT, TENANT), Conflict) == "platform_id"
        admin.delete("bots", TENANT, "nurse")
        assert refusal(lambda: admin.delete("platforms", TENANT, TENANT), Conflict) == "platform_id"
        for core_ai_id in ("gpt", "spare"):
            admin.delete("core_ai", TENANT, core_ai_id)
        admin.delete("platforms", TENANT, TENANT)
        assert refusal(lambda: admin.get("platforms", TENANT, TENANT), NotFound) == "platform_id"

    def test_the_default_platform_stays(self, admin: Operator) -> None:
        assert refusal(lambda: admin.delete("platforms", "default", "default"), Conflict) == "platform_id"

    def test_what_is_not_there_is_not_found(self, admin: Operator) -> None:
        for kind, field in (("bots", "bot_id"), ("core_ai", "core_ai_id"), ("platforms", "platform_id")):
            assert refusal(lambda kind=kind: admin.get(kind, TENANT, "gone"), NotFound) == field
            assert refusal(lambda kind=kind: admin.delete(kind, TENANT, "gone"), NotFound) == field
        for body in ({"name": "Mine"}, {}):
            assert refusal(lambda body=body: admin.put("platforms", TENANT, "other", body), NotFound) == "platform_id"


class TestTokens:
    def stored(self, store: PostgresConfiguration) -> tuple[Any, Any]:
        found = store.read(TENANT, lambda records: records.get("core_ai", "gpt"))
        assert found
        return found["auth_token"], found["auth_host"]

    def test_a_token_is_stored_for_its_endpoints_host(self, admin: Operator, store: PostgresConfiguration) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED | {"api_endpoint": "https://AI.example:443/v1"})
        assert self.stored(store) == (SECURED["auth_token"], "ai.example")
        admin.put("core_ai", TENANT, "gpt", SECURED | {"api_endpoint": "https://ai.example:8443/v1"})
        assert self.stored(store) == (SECURED["auth_token"], "ai.example:8443")

    def test_a_record_that_is_read_changed_and_written_back_keeps_it(
        self, admin: Operator, store: PostgresConfiguration
    ) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        shown = admin.get("core_ai", TENANT, "gpt")
        assert shown["auth_token"] == REDACTED
        _, again = admin.put("core_ai", TENANT, "gpt", shown | {"name": "New", "api_endpoint": "https://ai.example/v2"})
        assert again == shown | {"name": "New", "api_endpoint": "https://ai.example/v2"}
        assert self.stored(store) == (SECURED["auth_token"], "ai.example")

    @pytest.mark.parametrize("secret_of", [None, "other"], ids=["written out", "of another tenant"])
    def test_in_production_only_the_arn_of_the_tenants_own_secret_is_taken(
        self, bots: BotConfigService, store: PostgresConfiguration, secret_of: str | None
    ) -> None:
        strict = Operator(store, bots, literals=False)
        arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:message-handler/{}/x-AbCdEf"
        bad, mine = arn.format(secret_of) if secret_of else f"sk-{CANARY}", arn.format(TENANT)
        for kind, id_, body, field in (
            ("core_ai", "gpt", CORE | {"auth_token": bad}, "auth_token"),
            ("platforms", TENANT, self.platform(bad if secret_of else secret("a")), "meta_data.webhook_secrets"),
            ("platforms", TENANT, self.platform(mine, bad if secret_of else secret("a")), "meta_data.webhook_secrets"),
        ):
            with pytest.raises(InvalidRequest, match=f"message-handler/{TENANT}/") as refused:
                strict.put(cast(RecordKind, kind), TENANT, id_, body)
            assert (refused.value.field, CANARY in str(refused.value)) == (field, False)
        assert store.read(TENANT, lambda records: records.all("core_ai")) == []
        strict.put("core_ai", TENANT, "gpt", CORE | {"auth_token": mine})
        strict.put("platforms", TENANT, TENANT, self.platform(mine))
        assert self.stored(store)[0] == mine

    def test_in_production_a_token_that_was_written_out_before_can_not_stay(
        self, admin: Operator, bots: BotConfigService, store: PostgresConfiguration
    ) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        admin.put("platforms", TENANT, TENANT, self.platform(secret("a")))
        strict = Operator(store, bots, literals=False)
        kept = CORE | {"auth_token": REDACTED}
        assert refusal(lambda: strict.put("core_ai", TENANT, "gpt", kept)) == "auth_token"
        shown = self.platform(REDACTED)
        assert refusal(lambda: strict.put("platforms", TENANT, TENANT, shown)) == "meta_data.webhook_secrets"

    def platform(self, *secrets: str) -> dict[str, Any]:
        return {"name": "Clinic", "meta_data": {"webhook_secrets": list(secrets)}}

    @pytest.mark.parametrize(
        "endpoint", ["https://evil.example/v1", "https://ai.example:8443/v1", "https://x.ai.example/v1"]
    )
    def test_a_token_never_moves_to_another_host(
        self, admin: Operator, store: PostgresConfiguration, endpoint: str
    ) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        moved = SECURED | {"api_endpoint": endpoint, "auth_token": REDACTED}
        assert refusal(lambda: admin.put("core_ai", TENANT, "gpt", moved)) == "auth_token"
        assert self.stored(store) == (SECURED["auth_token"], "ai.example")
        # Nor in two steps: the first step removes the token, so none is left to keep.
        admin.put("core_ai", TENANT, "gpt", CORE | {"api_endpoint": endpoint})
        with pytest.raises(InvalidRequest, match="no token is stored"):
            admin.put("core_ai", TENANT, "gpt", moved)

    def test_a_token_moves_to_no_other_and_no_new_ai_core(self, admin: Operator) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        same = SECURED | {"auth_token": REDACTED}
        assert refusal(lambda: admin.put("core_ai", TENANT, "new", same)) == "auth_token"
        assert refusal(lambda: admin.put("core_ai", "other", "gpt", same)) == "auth_token"

    def test_a_token_does_not_move_with_an_address_that_was_changed_in_the_table(
        self, admin: Operator, bots: BotConfigService, database: Database
    ) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        admin.put("bots", TENANT, "nurse", BOT)
        database.run(lambda c: c.run("update core_ai set api_endpoint = 'https://evil.example/v1'"))
        core_ai = bots.config_of_job(job_of("nurse"))["core_ai"]
        assert (core_ai["api_endpoint"], core_ai["auth_token"]) == ("https://evil.example/v1", None)
        moved = SECURED | {"api_endpoint": "https://evil.example/v2", "auth_token": REDACTED}
        assert refusal(lambda: admin.put("core_ai", TENANT, "gpt", moved)) == "auth_token"

    def test_however_two_race_a_token_stays_with_the_host_that_it_was_given_for(
        self, admin: Operator, store: PostgresConfiguration
    ) -> None:
        """One operator writes another host with its token. The other keeps "the stored one" for the first host."""
        other = SECURED | {"api_endpoint": "https://other.example/v1", "auth_token": f"sk-{CANARY}-other"}

        def keep() -> None:
            try:
                admin.put("core_ai", TENANT, "gpt", SECURED | {"auth_token": REDACTED})
            except InvalidRequest:
                return

        for _ in range(10):
            admin.put("core_ai", TENANT, "gpt", SECURED)
            at_once(keep, lambda: admin.put("core_ai", TENANT, "gpt", other), keep)
            assert self.stored(store) == (other["auth_token"], "other.example")

    def test_webhook_secrets_are_kept_in_their_order_so_that_they_can_be_rotated(
        self, admin: Operator, store: PostgresConfiguration
    ) -> None:
        def put(*secrets: str) -> list[str]:
            body = {"name": "Clinic", "meta_data": {"webhook_secrets": list(secrets)}}
            _, shown = admin.put("platforms", TENANT, TENANT, body)
            assert shown["meta_data"]["webhook_secrets"] == [REDACTED] * len(secrets)
            record = store.read(TENANT, lambda records: records.get("platforms", TENANT))
            assert record
            return list(record["meta_data"]["webhook_secrets"])

        assert refusal(lambda: put(REDACTED)) == "meta_data.webhook_secrets"
        assert put(secret("a")) == [secret("a")]
        assert put(REDACTED) == [secret("a")]
        assert refusal(lambda: put(REDACTED, REDACTED)) == "meta_data.webhook_secrets"
        assert put(secret("b"), REDACTED) == [secret("b"), secret("a")]
        assert put(REDACTED, REDACTED) == [secret("b"), secret("a")]
        assert put(REDACTED) == [secret("b")]

    @pytest.mark.parametrize(
        ("changed", "tried_at_once"),
        [
            ({"name": "Clinic 2"}, False),
            ({"base_url": "https://new.example"}, True),
            ({"meta_data": {"webhook_secrets": [secret("b")]}}, True),
            ({"meta_data": {"webhook_secrets": [secret("a")], "webhook_path": "/new"}}, True),
        ],
        ids=str,
    )
    def test_a_webhook_that_failed_is_tried_at_once_when_another_is_written(
        self, admin: Operator, database: Database, changed: dict[str, Any], tried_at_once: bool
    ) -> None:
        body = {
            "name": "Clinic",
            "base_url": "https://chat.example",
            "meta_data": {"webhook_secrets": [secret("a")]},
        }
        admin.put("platforms", TENANT, TENANT, body)
        failing = "set webhook_failures = 3, webhook_retry_at = 'infinity', webhook_suspect = 'c'"
        database.run(lambda connection: connection.run(f"update platforms {failing}"))
        admin.put("platforms", TENANT, TENANT, body | changed)
        columns = "webhook_failures, webhook_retry_at = '-infinity', webhook_suspect"
        asked = f"select {columns} from platforms where platform_id = :id"
        found = database.run(lambda connection: connection.run(asked, id=TENANT))
        assert found == [[0, True, None] if tried_at_once else [3, False, "c"]]

    @pytest.mark.parametrize("meta_data", ["[]", '"text"', '{"webhook_secrets": 5}', '{"webhook_secret": "whsec_x"}'])
    def test_what_was_written_by_hand_is_shown_as_far_as_it_can_be_used(
        self, admin: Operator, database: Database, meta_data: str
    ) -> None:
        """A value that can't be used may still be a secret, so no answer shows it."""
        admin.put("platforms", TENANT, TENANT, {"name": "Clinic"})
        text = "update platforms set meta_data = cast(:meta_data as jsonb) where platform_id = :id"
        database.run(lambda connection: connection.run(text, id=TENANT, meta_data=meta_data))
        assert admin.get("platforms", TENANT, TENANT)["meta_data"] == {}
        assert [record["meta_data"] for record in admin.all("platforms", TENANT)] == [{}]


class TestTheAudit:
    def test_a_change_that_can_not_be_noted_is_not_made(self, admin: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
        admin.put("core_ai", TENANT, "gpt", CORE)

        def away(*_: Any) -> None:
            raise Unavailable("Postgres")

        monkeypatch.setattr(postgres_audit, "note", away)
        with pytest.raises(Unavailable):
            admin.put("core_ai", TENANT, "gpt", CORE | {"name": "Other"})
        with pytest.raises(Unavailable):
            admin.delete("core_ai", TENANT, "gpt")
        assert [record["name"] for record in admin.all("core_ai", TENANT)] == ["GPT"]

    def test_nothing_is_noted_of_a_change_that_was_not_made(self, admin: Operator, database: Database) -> None:
        admin.put("core_ai", TENANT, "gpt", CORE)
        refusal(lambda: admin.put("core_ai", TENANT, "gpt", CORE, expected="new"), PreconditionFailed)
        assert len(PostgresAudit(database).entries(TENANT, kind=None, before_id=None, most=9)) == 1

    def test_tenants_see_their_own(self, admin: Operator, database: Database) -> None:
        for tenant in (TENANT, "other"):
            admin.put("core_ai", tenant, "gpt", CORE | {"name": tenant})
        for tenant in (TENANT, "other"):
            entries = PostgresAudit(database).entries(tenant, kind="core_ai", before_id=None, most=9)
            seen = [(entry.actor, entry.record_id, (entry.after or {})["name"]) for entry in entries]
            assert seen == [("user:1", "gpt", tenant)]

    def test_no_secret_is_in_its_table(self, admin: Operator, database: Database) -> None:
        admin.put("core_ai", TENANT, "gpt", SECURED)
        admin.put("core_ai", TENANT, "gpt", SECURED | {"auth_token": f"sk-{CANARY}-2"})
        admin.put("platforms", TENANT, TENANT, {"name": "Clinic", "meta_data": {"webhook_secrets": [secret("a")]}})
        admin.delete("core_ai", TENANT, "gpt")
        rows = database.run(lambda connection: connection.run("select * from audit"))
        assert len(rows) == 4
        assert CANARY not in str(rows)
        assert secret("a") not in str(rows)


def test_one_of_two_operators_who_change_the_same_revision_is_told_that_it_changed(admin: Operator) -> None:
    """Each operator adds a word. Without the comparison one of the words would be lost."""
    admin.put("core_ai", TENANT, "gpt", CORE | {"name": "-"})
    seen = admin.admin.get("core_ai", TENANT, "gpt")
    refused: list[str] = []

    def add(word: str) -> None:
        found = seen
        while True:
            try:
                name = {"name": found.record["name"] + word}
                admin.put("core_ai", TENANT, "gpt", CORE | name, expected=found.revision)
            except PreconditionFailed:
                refused.append(word)
                found = admin.admin.get("core_ai", TENANT, "gpt")
            else:
                return

    at_once(*(lambda word=word: add(word) for word in "abcdef"))
    assert sorted(admin.get("core_ai", TENANT, "gpt")["name"]) == ["-", *"abcdef"]
    assert len(set(refused)) == 5


class TestReaders:
    def test_a_change_is_shared_at_once_with_every_bot_that_it_is_in(
        self, admin: Operator, redis_tier: RedisTier, database: Database
    ) -> None:
        admin.put("core_ai", TENANT, "spare", SECURED)
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare"))
        admin.put("bots", TENANT, "nurse", BOT)
        admin.put("bots", TENANT, "doctor", BOT | {"core_ai_id": None})

        def seen(bot_id: str) -> dict[str, Any]:
            """A process without a copy of its own reads it."""
            return service(redis_tier, database).get_bot_config("c", bot_id=bot_id, platform_id=TENANT)

        before = {bot_id: seen(bot_id) for bot_id in ("nurse", "doctor", "default")}
        admin.put("core_ai", TENANT, "spare", SECURED | {"name": "Spare 2"})
        assert seen("nurse")["core_ai"]["fallback"]["name"] == "Spare 2"
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare") | {"name": "GPT 2"})
        assert seen("nurse")["core_ai"]["name"] == "GPT 2"
        assert seen("doctor") == before["doctor"]
        admin.put("platforms", TENANT, TENANT, {"name": "Clinic 2", "base_url": "https://chat.example"})
        assert [seen(bot_id)["platform"]["name"] for bot_id in before] == ["Clinic 2"] * 3
        admin.put("bots", TENANT, "nurse", BOT | {"name": "Nurse 2"})
        assert seen("nurse")["name"] == "Nurse 2"
        admin.delete("bots", TENANT, "nurse")
        with pytest.raises(NotFound):
            seen("nurse")

    def test_no_secret_is_in_redis(self, admin: Operator, bots: BotConfigService, redis_tier: RedisTier) -> None:
        admin.put("core_ai", TENANT, "spare", SECURED)
        admin.put("core_ai", TENANT, "gpt", with_fallback("spare") | {"auth_token": f"sk-{CANARY}"})
        meta_data = {"webhook_secrets": [secret("a"), secret("b")]}
        admin.put("platforms", TENANT, TENANT, {"name": "Clinic", "meta_data": meta_data})
        admin.put("bots", TENANT, "nurse", BOT)
        config = bots.config_of_job(job_of("nurse"))
        assert config["core_ai"]["auth_token"] == f"sk-{CANARY}"
        assert config["core_ai"]["fallback"]["auth_token"] == f"sk-{CANARY}"
        assert config["platform"]["meta_data"]["webhook_secrets"] == [secret("a"), secret("b")]
        shared = redis_tier.cached(f"bot:{TENANT}/nurse")
        assert shared
        assert json.loads(shared)["bot"]["core_ai"]["auth_token"] == REDACTED
        for key in redis_tier.store.client.scan_iter():
            assert CANARY not in redis_tier.store.client.get(key)
            assert "whsec_" not in redis_tier.store.client.get(key)


def test_while_postgres_is_away_nothing_is_shown_or_changed(bots: BotConfigService) -> None:
    def refuse(**_: Any) -> Any:
        raise ConnectionRefusedError

    store = PostgresConfiguration(Database(refuse, CircuitBreaker("Postgres", retry_after=0)))
    admin = Operator(store, bots)
    calls: list[Callable[[], Any]] = [
        lambda: admin.all("bots", TENANT),
        lambda: admin.get("bots", TENANT, "nurse"),
        lambda: admin.put("core_ai", TENANT, "gpt", SECURED),
        lambda: admin.delete("bots", TENANT, "nurse"),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="Postgres"):
            call()
